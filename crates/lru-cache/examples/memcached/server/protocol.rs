//! Requests and answers: bytes in, bytes out, no socket.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use stackbeam_lru_cache::Life;

use super::store::{Changed, Mode, Store, VALUE_MAX};

/// Longest line: a `get` of two hundred long keys.
const LINE_MAX: usize = 64 << 10;
const KEY_MAX: usize = 250;
/// Answers that are collected before they are sent.
pub(super) const OUT_MAX: usize = 64 << 10;
/// Longer times are dates.
const LENGTH_MAX: i64 = 30 * 86_400;

/// What came of the bytes that there are.
pub(super) enum Step {
    /// So many were read; what is left is not complete, or the answers have to be sent first.
    Read(usize),
    /// So many were read, and so many that come next are to be dropped.
    Skip(usize, usize),
    /// The connection ends when the answers are sent.
    Quit,
}

/// One request.
enum Request<'a> {
    Line(&'a [u8]),
    /// A line with so many bytes of data after it.
    Data(&'a [u8], &'a [u8]),
}

type Answer<'a> = &'a mut Vec<u8>;

/// Serves all requests that are complete.
pub(super) fn serve(store: &Store, input: &[u8], out: Answer<'_>) -> Step {
    let mut read = 0;
    while out.len() < OUT_MAX {
        let rest = &input[read..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            if rest.len() > LINE_MAX {
                out.extend(b"CLIENT_ERROR line too long\r\n");
                return Step::Quit;
            }
            break;
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let after = end + 1;
        let Some(len) = data_len(line) else {
            if line == b"quit" {
                return Step::Quit;
            }
            answer(store, &Request::Line(line), out);
            read += after;
            continue;
        };
        if len > VALUE_MAX {
            out.extend(b"SERVER_ERROR object too large for cache\r\n");
            return Step::Skip(read + after, len.saturating_add(2));
        }
        let Some(data) = rest.get(after..after + len + 2) else {
            break;
        };
        if data.ends_with(b"\r\n") {
            answer(store, &Request::Data(line, &data[..len]), out);
            read += after + len + 2;
        } else {
            out.extend(b"CLIENT_ERROR bad data chunk\r\n");
            return Step::Quit;
        }
    }
    Step::Read(read)
}

/// How many bytes of data follow a line, if it is of a kind that has any.
fn data_len(line: &[u8]) -> Option<usize> {
    // Most lines are this one.
    if line.starts_with(b"get") {
        return None;
    }
    let mut words = words(line);
    let at = match words.next()? {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => 3,
        b"ms" => 1,
        _ => return None,
    };
    number(words.nth(at)?)
}

/// The words of a line.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|byte| *byte != b' ')?;
        let rest = &self.0[start..];
        let len = rest.iter().position(|byte| *byte == b' ');
        let (word, rest) = rest.split_at(len.unwrap_or(rest.len()));
        self.0 = rest;
        Some(word)
    }
}

const fn words(line: &[u8]) -> Words<'_> {
    Words(line)
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_MAX
}

#[expect(clippy::disallowed_methods, reason = "the protocol has dates")]
fn life(seconds: i64) -> Life {
    match seconds {
        0 => Life::new(),
        1..=LENGTH_MAX => Life::new().ttl(Duration::from_secs(seconds.unsigned_abs())),
        _ => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let date = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            Life::new().ttl(date.saturating_sub(now.unwrap_or_default()))
        }
    }
}

fn print(out: Answer<'_>, number: u64) {
    // By hand: this is on the way of every hit.
    let mut digits = [0; 20];
    let (mut at, mut rest) = (20, number);
    while at == 20 || rest != 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn answer(store: &Store, request: &Request<'_>, out: Answer<'_>) {
    let before = out.len();
    let (line, data) = match *request {
        Request::Line(line) => (line, &b""[..]),
        Request::Data(line, data) => (line, data),
    };
    let mut all = words(line);
    let command = all.next().unwrap_or_default();
    let may_be_quiet = matches!(
        command,
        b"set"
            | b"add"
            | b"replace"
            | b"append"
            | b"prepend"
            | b"cas"
            | b"delete"
            | b"incr"
            | b"decr"
            | b"touch"
            | b"flush_all"
            | b"verbosity"
    );
    if may_be_quiet && let Some(line) = line.strip_suffix(b" noreply") {
        let mut words = words(line);
        words.next();
        // What is not in order is answered all the same.
        let done = text(store, command, words, data, out).is_some();
        if done || command == b"verbosity" {
            out.truncate(before);
            return;
        }
    }
    let answered = match command {
        b"mg" | b"ms" | b"md" => meta(store, command, all, data, out),
        b"mn" => {
            out.extend(b"MN\r\n");
            Some(())
        }
        _ => text(store, command, all, data, out),
    };
    if answered.is_none() {
        out.truncate(before);
        out.extend(b"ERROR\r\n");
    }
}

/// The text protocol. Nothing if the line is not in order.
fn text(
    store: &Store,
    command: &[u8],
    mut words: Words<'_>,
    data: &[u8],
    out: Answer<'_>,
) -> Option<()> {
    let said: &[u8] = match command {
        b"get" | b"gets" => return look(store, words, command == b"gets", None, out),
        b"gat" | b"gats" => {
            let life = life(number(words.next()?)?);
            return look(store, words, command == b"gats", Some(&life), out);
        }
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => {
            let mode = match command {
                b"add" => Mode::Add,
                b"replace" => Mode::Replace,
                b"append" => Mode::Append,
                b"prepend" => Mode::Prepend,
                _ => Mode::Set,
            };
            let key = words.next().filter(|key| is_key(key))?;
            let (flags, time) = (number(words.next()?)?, number(words.next()?)?);
            let _len = words.next()?;
            let unique = if command == b"cas" {
                Some(number(words.next()?)?)
            } else {
                None
            };
            match store.store(key, mode, unique, (flags, data, life(time))) {
                Changed::Done => b"STORED",
                Changed::Otherwise => b"EXISTS",
                Changed::NotFound => b"NOT_FOUND",
                Changed::TooLarge => b"SERVER_ERROR object too large for cache",
                Changed::Not | Changed::NoNumber => b"NOT_STORED",
            }
        }
        b"delete" => {
            let key = words.next().filter(|key| is_key(key))?;
            // An old form has a time here, of which only 0 is allowed.
            if words.any(|word| word != b"0") {
                return None;
            }
            match store.delete(key, None) {
                Changed::Done => b"DELETED",
                _ => b"NOT_FOUND",
            }
        }
        b"incr" | b"decr" => {
            let (key, by) = (words.next()?, number(words.next()?)?);
            match store.count(key, command == b"incr", by, |digits| out.extend(digits)) {
                Changed::Done => b"",
                Changed::NoNumber => {
                    b"CLIENT_ERROR cannot increment or decrement non-numeric value"
                }
                _ => b"NOT_FOUND",
            }
        }
        b"touch" => match store.touch(words.next()?, life(number(words.next()?)?)) {
            true => b"TOUCHED",
            false => b"NOT_FOUND",
        },
        b"flush_all" => {
            // A delay would need a task; no client that we know of uses one.
            if words.next().is_some_and(|word| number(word) != Some(0_u64)) {
                b"SERVER_ERROR no delay"
            } else {
                store.clear();
                b"OK"
            }
        }
        b"version" => b"VERSION 1.6.0-stackbeam",
        b"verbosity" => {
            let _level = words.next()?;
            match words.next() {
                None => b"OK",
                Some(_) => return None,
            }
        }
        b"stats" if words.next().is_none() => {
            stats(store, out);
            b"END"
        }
        _ => b"ERROR",
    };
    out.extend(said);
    out.extend(b"\r\n");
    Some(())
}

fn look(
    store: &Store,
    keys: Words<'_>,
    with_unique: bool,
    touch: Option<&Life>,
    out: Answer<'_>,
) -> Option<()> {
    let mut asked = false;
    for key in keys {
        asked = true;
        if !is_key(key) {
            return None;
        }
        if let Some(life) = touch {
            store.touch(key, life.clone());
        }
        store.look(key, |item| {
            out.extend(b"VALUE ");
            out.extend(key);
            out.push(b' ');
            print(out, item.flags().into());
            out.push(b' ');
            print(out, item.value().len() as u64);
            if with_unique {
                out.push(b' ');
                print(out, item.unique());
            }
            out.extend(b"\r\n");
            out.extend(item.value());
            out.extend(b"\r\n");
        });
    }
    out.extend(b"END\r\n");
    asked.then_some(())
}

fn stats(store: &Store, out: Answer<'_>) {
    let stats = store.stats();
    for (name, value) in [
        ("pid", u64::from(std::process::id())),
        ("curr_items", stats.entries),
        ("total_items", stats.inserted),
        ("bytes", stats.weight),
        ("limit_maxbytes", store.bytes_max()),
        ("cmd_get", stats.hits + stats.misses),
        ("get_hits", stats.hits),
        ("get_misses", stats.misses),
        ("evictions", stats.evicted),
    ] {
        // Writing to a vector does not fail.
        let _written = write!(out, "STAT {name} {value}\r\n");
    }
}

/// The meta protocol: what a second level needs of it. Nothing if the line is not in order.
fn meta(
    store: &Store,
    command: &[u8],
    mut words: Words<'_>,
    data: &[u8],
    out: Answer<'_>,
) -> Option<()> {
    let key = words.next().filter(|key| is_key(key))?;
    if command == b"ms" {
        let _len = words.next()?;
    }
    let flags: Vec<_> = words.filter_map(<[u8]>::split_first).collect();
    let has = |letter| flags.iter().any(|(flag, _)| **flag == letter);
    let value = |letter| {
        let mut found = flags.iter().filter(|(flag, _)| **flag == letter);
        found.next().map(|(_, value)| *value)
    };
    let numbered = |letter| value(letter).map(number::<u64>);
    // What the client wants to see again.
    let echo = |out: &mut Vec<u8>| {
        for (flag, value) in &flags {
            match flag {
                b'O' => out.extend([b" O", *value].concat()),
                b'k' => out.extend([b" k", key].concat()),
                _ => {}
            }
        }
        out.extend(b"\r\n");
    };
    let unique = match numbered(b'C') {
        Some(unique) => Some(unique?),
        None => None,
    };
    let time = |letter| value(letter).map_or(Some(0), number::<i64>).map(life);
    let changed = match command {
        b"mg" => {
            let mut won = false;
            if has(b'T') {
                store.touch(key, time(b'T')?);
            }
            if has(b'N') {
                // An empty item stands for the right to fill it.
                let life = time(b'N')?;
                won = store.store(key, Mode::Add, None, (0, b"", life)) == Changed::Done;
            }
            let left = store.left(key).filter(|left| *left != Duration::MAX);
            let found = store.look(key, |item| {
                out.extend(if has(b'v') { &b"VA "[..] } else { b"HD" });
                if has(b'v') {
                    print(out, item.value().len() as u64);
                }
                for (flag, _) in &flags {
                    let said = match flag {
                        b'f' => item.flags().to_string(),
                        b'c' => item.unique().to_string(),
                        b's' => item.value().len().to_string(),
                        b't' => {
                            left.map_or_else(|| "-1".to_owned(), |left| left.as_secs().to_string())
                        }
                        _ => continue,
                    };
                    out.extend([b' ', **flag]);
                    out.extend(said.as_bytes());
                }
                if won {
                    out.extend(b" W");
                }
                echo(out);
                if has(b'v') {
                    out.extend(item.value());
                    out.extend(b"\r\n");
                }
            });
            if !found && !has(b'q') {
                out.extend(b"EN\r\n");
            }
            return Some(());
        }
        b"ms" => {
            let mode = match value(b'M') {
                None | Some(b"S" | b"s" | b"set") => Mode::Set,
                Some(b"E" | b"e" | b"add") => Mode::Add,
                Some(b"A" | b"a" | b"append") => Mode::Append,
                Some(b"P" | b"p" | b"prepend") => Mode::Prepend,
                Some(b"R" | b"r" | b"replace") => Mode::Replace,
                Some(_) => return None,
            };
            let client = u32::try_from(numbered(b'F').unwrap_or(Some(0))?).ok()?;
            store.store(key, mode, unique, (client, data, time(b'T')?))
        }
        _ => store.delete(key, unique),
    };
    let said: &[u8] = match changed {
        Changed::Done if has(b'q') => return Some(()),
        Changed::Done => b"HD",
        Changed::NotFound => b"NF",
        Changed::Otherwise => b"EX",
        Changed::Not => b"NS",
        Changed::TooLarge | Changed::NoNumber => b"SERVER_ERROR object too large for cache",
    };
    out.extend(said);
    echo(out);
    Some(())
}
