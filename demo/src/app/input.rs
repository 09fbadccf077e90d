//! What clients may send: JSON taken apart field by field, so that each fault is named.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::store::Change;

/// Faults by field, as the API reports them.
pub(crate) type Faults = BTreeMap<String, Vec<String>>;

const BLANK: &str = "can't be blank";

/// The fields of the one object that a request body wraps.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    faults: Faults,
}

/// Whether a text may have line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    One,
    Many,
}

/// Tags that one article may have, and the characters of one.
pub(crate) const TAGS_MAX: usize = 32;
const TAG_CHARS_MAX: usize = 64;
/// NIST 800-63B, section 5.1.1.2: at least eight characters, and no rule about which.
const PASSWORD_CHARS_MIN: usize = 8;
const PASSWORD_CHARS_MAX: usize = 256;

impl Fields {
    /// Reads `{"<wrapper>": {..}}`.
    pub(crate) fn parse(body: &[u8], wrapper: &str) -> Result<Self, Faults> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| fault("body", &format!("is not valid JSON: {error}")))?;
        let Value::Object(mut outer) = value else {
            return Err(fault("body", "must be a JSON object"));
        };
        match outer.remove(wrapper) {
            Some(Value::Object(map)) => Ok(Self {
                map,
                faults: Faults::new(),
            }),
            Some(_) => Err(fault(wrapper, "must be a JSON object")),
            None => Err(fault(wrapper, BLANK)),
        }
    }

    fn fault(&mut self, field: &str, what: impl Into<String>) {
        self.faults
            .entry(field.to_owned())
            .or_default()
            .push(what.into());
    }

    /// A text that has to be there.
    pub(crate) fn required(&mut self, field: &str, chars_max: usize, lines: Lines) -> String {
        if !self.map.contains_key(field) {
            self.fault(field, BLANK);
            return String::new();
        }
        match self.optional(field, chars_max, lines) {
            Change::Set(text) => text,
            Change::Keep => String::new(),
        }
    }

    /// A text that stays as it is when it is not there; blank and null are faults.
    pub(crate) fn optional(
        &mut self,
        field: &str,
        chars_max: usize,
        lines: Lines,
    ) -> Change<String> {
        match self.map.remove(field) {
            None => Change::Keep,
            Some(Value::Null) => {
                self.fault(field, BLANK);
                Change::Keep
            }
            Some(Value::String(text)) if text.trim().is_empty() => {
                self.fault(field, BLANK);
                Change::Keep
            }
            Some(Value::String(text)) => {
                for problem in text_problems(&text, chars_max, lines) {
                    self.fault(field, problem);
                }
                Change::Set(text)
            }
            Some(_) => {
                self.fault(field, "must be a string");
                Change::Keep
            }
        }
    }

    /// A text that null or blank removes.
    pub(crate) fn nullable(
        &mut self,
        field: &str,
        chars_max: usize,
        lines: Lines,
    ) -> Change<Option<String>> {
        match self.map.get(field) {
            Some(Value::Null) => Change::Set(None),
            Some(Value::String(text)) if text.trim().is_empty() => Change::Set(None),
            _ => match self.optional(field, chars_max, lines) {
                Change::Set(text) => Change::Set(Some(text)),
                Change::Keep => Change::Keep,
            },
        }
    }

    /// A name that appears in addresses.
    pub(crate) fn username(&mut self, field: &str) -> Change<String> {
        let name = self.optional(field, 64, Lines::One);
        if let Change::Set(text) = &name
            && text.trim() != text
        {
            self.fault(field, "must not begin or end with a space");
        }
        name
    }

    /// An e-mail address, in lower case.
    pub(crate) fn email(&mut self, field: &str) -> Change<String> {
        let email = self.optional(field, 254, Lines::One);
        let Change::Set(text) = email else {
            return Change::Keep;
        };
        let valid = text
            .rsplit_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
            && !text.chars().any(char::is_whitespace);
        if !valid {
            self.fault(field, "is not an e-mail address");
        }
        Change::Set(text.to_lowercase())
    }

    /// A new password.
    pub(crate) fn password(&mut self, field: &str) -> Change<String> {
        let password = match self.map.remove(field) {
            None => return Change::Keep,
            Some(Value::String(text)) => text,
            Some(Value::Null) => String::new(),
            Some(_) => {
                self.fault(field, "must be a string");
                return Change::Keep;
            }
        };
        let chars = password.chars().count();
        if chars == 0 {
            self.fault(field, BLANK);
        } else if chars < PASSWORD_CHARS_MIN {
            self.fault(
                field,
                format!("is too short (minimum is {PASSWORD_CHARS_MIN} characters)"),
            );
        } else if chars > PASSWORD_CHARS_MAX {
            self.fault(
                field,
                format!("is too long (maximum is {PASSWORD_CHARS_MAX} characters)"),
            );
        }
        Change::Set(password)
    }

    /// The list of tags, each once, in their order.
    pub(crate) fn tags(&mut self, field: &str) -> Change<Vec<String>> {
        let items = match self.map.remove(field) {
            None => return Change::Keep,
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.fault(field, "must be a list of strings");
                return Change::Keep;
            }
        };
        let mut tags: Vec<String> = Vec::new();
        for item in items {
            let Value::String(tag) = item else {
                self.fault(field, "must be a list of strings");
                return Change::Keep;
            };
            let tag = tag.trim();
            if tag.is_empty() {
                self.fault(field, "must not hold a blank tag");
                return Change::Keep;
            }
            if let Some(problem) = text_problems(tag, TAG_CHARS_MAX, Lines::One).pop() {
                self.fault(field, problem);
                return Change::Keep;
            }
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        if tags.len() > TAGS_MAX {
            self.fault(field, format!("has too many tags (maximum is {TAGS_MAX})"));
        }
        Change::Set(tags)
    }

    /// Says that a field has to be there, if it was kept out.
    pub(crate) fn demand<T: Default>(&mut self, field: &str, value: Change<T>) -> T {
        match value {
            Change::Set(value) => value,
            Change::Keep => {
                if !self.faults.contains_key(field) {
                    self.fault(field, BLANK);
                }
                T::default()
            }
        }
    }

    /// The faults that were found, if any.
    pub(crate) fn finish(self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults)
        }
    }
}

/// One fault.
pub(crate) fn fault(field: &str, what: &str) -> Faults {
    Faults::from([(field.to_owned(), vec![what.to_owned()])])
}

fn text_problems(text: &str, chars_max: usize, lines: Lines) -> Vec<String> {
    let mut problems = Vec::new();
    if text.chars().count() > chars_max {
        problems.push(format!("is too long (maximum is {chars_max} characters)"));
    }
    let allowed = |char: char| lines == Lines::Many && matches!(char, '\n' | '\r' | '\t');
    if text.chars().any(|char| char.is_control() && !allowed(char)) {
        problems.push("must not hold control characters".to_owned());
    }
    problems
}
