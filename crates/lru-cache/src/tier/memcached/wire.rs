//! What a memcached answers, in its text and its meta protocol (memcached's `doc/protocol.txt`).

/// Longest line: a key of 250 bytes and some numbers are far less.
const LINE_MAX: usize = 2048;

/// Longest key, as it is sent.
pub(super) const KEY_MAX: usize = 250;

/// One answer; the text and the meta protocol say the same in different words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// `VALUE` with its data, or `VA`.
    Value(Item<'a>),
    /// `END` or `EN`.
    End,
    /// `STORED`, `DELETED`, `OK` or `HD`.
    Done,
    /// `NOT_STORED` or `NS`.
    NotStored,
    /// `EXISTS` or `EX`: the number was not that of the item.
    Changed,
    /// `NOT_FOUND` or `NF`.
    NotFound,
    /// `ERROR` and its like.
    Refused(&'a [u8]),
}

/// An item.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) flags: u32,
    /// The number that changes with the item.
    pub(super) unique: u64,
    /// Seconds; nothing if not told or for ever.
    pub(super) left: Option<u64>,
    pub(super) data: &'a [u8],
}

/// Not an answer, whatever may follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) &'static str);

/// The first answer in `buffer` and how many bytes it takes; nothing if it is not complete yet.
pub(super) fn parse(
    buffer: &[u8],
    value_max: usize,
) -> Result<Option<(Reply<'_>, usize)>, Nonsense> {
    let window = &buffer[..buffer.len().min(LINE_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if window.len() == LINE_MAX {
            return Err(Nonsense("a line without an end"));
        }
        return Ok(None);
    };
    let (line, after) = (&buffer[..end], end + 2);
    let mut words = line.split(|byte| *byte == b' ');
    let reply = match words.next().unwrap_or_default() {
        b"VALUE" => return with_data(text_item(words)?, buffer, after, value_max),
        b"VA" => return with_data(meta_item(words)?, buffer, after, value_max),
        b"END" | b"EN" => Reply::End,
        b"STORED" | b"DELETED" | b"OK" | b"HD" => Reply::Done,
        b"NOT_STORED" | b"NS" => Reply::NotStored,
        b"EXISTS" | b"EX" => Reply::Changed,
        b"NOT_FOUND" | b"NF" => Reply::NotFound,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Reply::Refused(line),
        _ => return Err(Nonsense("not an answer")),
    };
    Ok(Some((reply, after)))
}

/// `<key> <flags> <bytes> <unique>`
fn text_item<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<(Item<'a>, usize), Nonsense> {
    let item = Item {
        key: words.next().unwrap_or_default(),
        flags: number(words.next())?,
        ..Item::default()
    };
    let len = number(words.next())?;
    let unique = number(words.next())?;
    Ok((Item { unique, ..item }, len))
}

/// `<bytes>`, then flags: a letter and its value each.
fn meta_item<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<(Item<'a>, usize), Nonsense> {
    let len = number(words.next())?;
    let mut item = Item::default();
    for word in words {
        match word.split_first() {
            Some((b'k', key)) => item.key = key,
            Some((b'f', flags)) => item.flags = number(Some(flags))?,
            Some((b'c', unique)) => item.unique = number(Some(unique))?,
            Some((b't', left)) if left != b"-1" => item.left = Some(number(Some(left))?),
            _ => {}
        }
    }
    Ok((item, len))
}

fn with_data<'a>(
    (item, len): (Item<'a>, usize),
    buffer: &'a [u8],
    at: usize,
    value_max: usize,
) -> Result<Option<(Reply<'a>, usize)>, Nonsense> {
    if len > value_max {
        return Err(Nonsense("a value that is too large"));
    }
    let Some(rest) = buffer.get(at..at + len + 2) else {
        return Ok(None);
    };
    let (data, end) = rest.split_at(len);
    if end != b"\r\n" {
        return Err(Nonsense("a value without an end"));
    }
    Ok(Some((Reply::Value(Item { data, ..item }), at + len + 2)))
}

/// A number of digits alone.
fn number<T: std::str::FromStr>(word: Option<&[u8]>) -> Result<T, Nonsense> {
    word.filter(|word| word.iter().all(u8::is_ascii_digit))
        .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok())
        .ok_or(Nonsense("not a number"))
}

/// A key as it is sent: what is not visible ASCII, and `%`, as `%` and two hexadecimal digits.
pub(super) fn name(prefix: &str, key: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut name = Vec::with_capacity(prefix.len() + key.len());
    for &byte in prefix.as_bytes().iter().chain(key) {
        if byte.is_ascii_graphic() && byte != b'%' {
            name.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
            name.extend([b'%', digit(byte >> 4), digit(byte)]);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every answer that the tests of real servers see, and its reading.
    fn answers() -> Vec<(&'static [u8], Reply<'static>)> {
        let text = Item {
            key: b"k",
            flags: 91,
            unique: 7,
            left: None,
            data: b"a\r\nb",
        };
        let meta = Item {
            left: Some(30),
            ..Item {
                key: b"k",
                flags: 91,
                unique: 7,
                data: b"a\r\nb",
                left: None,
            }
        };
        vec![
            (b"VALUE k 91 4 7\r\na\r\nb\r\n", Reply::Value(text)),
            (b"VA 4 f91 c7 t30 kk W\r\na\r\nb\r\n", Reply::Value(meta)),
            (b"END\r\n", Reply::End),
            (b"EN\r\n", Reply::End),
            (b"HD c7\r\n", Reply::Done),
            (b"STORED\r\n", Reply::Done),
            (b"NS\r\n", Reply::NotStored),
            (b"EX\r\n", Reply::Changed),
            (b"NOT_FOUND\r\n", Reply::NotFound),
            (
                b"SERVER_ERROR out of memory\r\n",
                Reply::Refused(b"SERVER_ERROR out of memory"),
            ),
        ]
    }

    #[test]
    fn an_answer_is_read_when_it_is_complete_and_not_before() {
        for (bytes, reply) in answers() {
            for part in 0..bytes.len() {
                assert_eq!(parse(&bytes[..part], 4), Ok(None), "{:?}", &bytes[..part]);
            }
            let mut more = bytes.to_vec();
            more.extend(b"HD\r\n");
            assert_eq!(parse(&more, 4), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn nonsense_is_told_at_once_and_makes_nobody_wait_or_allocate() {
        for nonsense in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"VALUE k 91 5 7\r\n",
            b"VALUE k 91 -1 7\r\n",
            b"VALUE k 91 4\r\n",
            b"VALUE k +1 4 7\r\n",
            b"VA 18446744073709551615 f91 c7\r\n",
            b"VA 99999999999999999999 f91 c7\r\n",
            b"VA 4 c\r\n",
            b"VA\r\n",
            b"VA 1 f91 c7\r\nabc",
            b"\r\n",
            &[0xFF; LINE_MAX],
        ] {
            assert!(parse(nonsense, 4).is_err(), "{nonsense:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_read_past_the_end(bytes: Vec<u8>, value_max in 0..64_usize) {
            if let Ok(Some((_, len))) = parse(&bytes, value_max) {
                prop_assert!(len <= bytes.len());
            }
        }

        #[test]
        fn two_keys_never_have_one_name(one: Vec<u8>, two: Vec<u8>) {
            let names = [name("p:", &one), name("p:", &two)];
            prop_assert!(names[0].iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(one == two, names[0] == names[1]);
        }
    }
}
