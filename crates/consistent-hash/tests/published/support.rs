//! Reading the files of vectors.

use serde_json::Value;

/// The cases of one group of a file of vectors, at least one.
pub(crate) fn cases(file: &str, group: &str) -> Vec<Value> {
    let group = whole_group(file, group);
    let cases = group["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

/// A group with what is said of it.
pub(crate) fn whole_group(file: &str, group: &str) -> Value {
    let file: Value = serde_json::from_str(file).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let found = groups.iter().find(|found| found["group"] == group);
    found.unwrap_or_else(|| panic!("no group {group}")).clone()
}

/// A number, or the text of one.
pub(crate) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A signed number, or the text of one.
pub(crate) fn signed(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A small number.
pub(crate) fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap()
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
