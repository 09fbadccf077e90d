//! `stackbeam-mq <command> <directory>`: looks at a queue's files, and mends them.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use stackbeam_mq::check::{segment, segments};
use stackbeam_mq::{OpenError, Queue};

const HELP: &str = "\
stackbeam-mq <command> <directory> [options]

  inspect <dir>                   what each segment holds; takes no lock and writes nothing
  verify <dir>                    reads every segment whole; exit code 1 when something is damaged
  tail <dir> [-n N]               the newest N messages in the log (10), settled ones too
  stats <dir>                     counters of every topic and group; needs the queue to itself
  repair <dir>                    opens with salvage: skips damage, keeps its bytes in .bad files
  redrive <dir> <topic> [-n N]    sends dead letters (all) of this dead-letter topic back
  bench <dir> [-n N]              publishes N (1000) messages of 100 B, each synced, to the topic `bench`

Exit codes: 0 done, 1 damage found or the operation failed, 2 wrong arguments, 3 the queue is in use.
";

enum Failure {
    Usage(String),
    InUse,
    Failed(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::Failed(e.to_string())
    }
}

fn main() -> ExitCode {
    let (why, code) = match run() {
        Ok(sound) => return ExitCode::from(u8::from(!sound)),
        Err(Failure::Usage(why)) => (format!("{why}\n\n{HELP}"), 2),
        Err(Failure::InUse) => ("the queue is open in another process".into(), 3),
        Err(Failure::Failed(why)) => (why, 1),
    };
    // Without standard error there is nobody to tell.
    drop(writeln!(stderr(), "stackbeam-mq: {why}"));
    ExitCode::from(code)
}

struct Arguments {
    words: Vec<String>,
    count: Option<u64>,
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut words, mut count) = (Vec::new(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') => count = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => words.insert(0, "help".into()),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Arguments { words, count })
}

fn run() -> Result<bool, Failure> {
    let args = arguments().map_err(|e| Failure::Usage(e.to_string()))?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help", ..] => {
            write!(stdout(), "{HELP}")?;
            Ok(true)
        }
        ["inspect", dir] => look(dir, true),
        ["verify", dir] => look(dir, false),
        ["tail", dir] => tail(dir, args.count.unwrap_or(10)),
        ["stats", dir] => stats(dir),
        ["repair", dir] => repair(dir),
        ["redrive", dir, topic] => redrive(dir, topic, args.count),
        ["bench", dir] => bench(dir, args.count.unwrap_or(1000)),
        other => Err(Failure::Usage(format!(
            "no such command: {}",
            other.join(" ")
        ))),
    }
}

fn open(dir: &str, salvage: bool) -> Result<Queue, Failure> {
    // A queue that is not there is not made.
    if segments(dir)?.is_empty() {
        return Err(Failure::Failed(format!("{dir} holds no queue")));
    }
    match Queue::options().salvage(salvage).open(dir) {
        Err(OpenError::Locked) => Err(Failure::InUse),
        opened => Ok(opened?),
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(what: &str, done: usize, of: usize) {
    let mut out = stderr();
    if out.is_terminal() {
        let bar = "#".repeat(done * 30 / of.max(1));
        let end = if done == of { "\n" } else { "" };
        drop(write!(out, "\r{what} [{bar:<30}] {done}/{of}{end}"));
    }
}

fn look(dir: &str, tell_all: bool) -> Result<bool, Failure> {
    let names = segments(dir)?;
    let (mut sound, mut frames, mut messages) = (true, 0, 0);
    let mut out = stdout();
    for (n, name) in names.iter().enumerate() {
        let s = segment(dir, name, |_| ())?;
        progress("reading", n + 1, names.len());
        sound &= s.is_sound();
        frames += s.frames;
        messages += s.messages;
        if tell_all || !s.is_sound() {
            writeln!(
                out,
                "{name}: {} frames, {} records, {} messages, used to byte {} of {}{}",
                s.frames,
                s.records,
                s.messages,
                s.end,
                s.bytes,
                if s.torn_tail { ", then a torn end" } else { "" }
            )?;
        }
        if let Some(what) = &s.header {
            writeln!(out, "{name}: DAMAGED header: {what}")?;
        }
        for (offset, bytes) in &s.damage {
            writeln!(out, "{name}: DAMAGED at byte {offset}: {bytes} bytes")?;
        }
    }
    let verdict = if sound { "sound" } else { "damaged" };
    writeln!(
        out,
        "{} segments, {frames} frames, {messages} messages: {verdict}",
        names.len()
    )?;
    Ok(sound)
}

fn tail(dir: &str, count: u64) -> Result<bool, Failure> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut newest = Vec::new();
    for name in segments(dir)?.iter().rev() {
        let mut here = Vec::new();
        segment(dir, name, |seen| here.push(seen))?;
        here.append(&mut newest);
        newest = here;
        if newest.len() >= count {
            break;
        }
    }
    let mut out = stdout();
    for seen in newest.iter().skip(newest.len().saturating_sub(count)) {
        let body = seen.message.body();
        let text = String::from_utf8_lossy(&body[..body.len().min(60)]);
        let at = seen.stored_at.duration_since(std::time::UNIX_EPOCH)?;
        let (topic, len) = (seen.topic, body.len());
        writeln!(
            out,
            "{} topic {topic} at {:.3}: {len} bytes: {}",
            seen.id,
            at.as_secs_f64(),
            text.escape_debug()
        )?;
    }
    Ok(true)
}

fn stats(dir: &str) -> Result<bool, Failure> {
    let queue = open(dir, false)?;
    let mut out = stdout();
    for t in queue.stats().topics {
        let (held, bytes) = (t.held, t.held_bytes);
        writeln!(
            out,
            "{}: {} published, {held} held in {bytes} bytes",
            t.name, t.published
        )?;
        for g in t.groups {
            writeln!(
                out,
                "  {}: {} published = {} acked + {} ready + {} leased + {} delayed + {} dead + {} discarded",
                g.name, g.published, g.acked, g.ready, g.leased, g.delayed, g.dead, g.discarded
            )?;
        }
    }
    Ok(true)
}

fn repair(dir: &str) -> Result<bool, Failure> {
    let queue = open(dir, true)?;
    let found = queue.recovery();
    let mut out = stdout();
    for d in &found.damage {
        writeln!(
            out,
            "{} at byte {}: {} bytes skipped, {} records recovered",
            d.file, d.offset, d.bytes, d.recovered
        )?;
    }
    let torn = if found.torn_tail {
        ", torn end cut"
    } else {
        ""
    };
    writeln!(
        out,
        "{} frames replayed, {} places skipped{torn}",
        found.frames,
        found.damage.len()
    )?;
    Ok(true)
}

fn redrive(dir: &str, topic: &str, count: Option<u64>) -> Result<bool, Failure> {
    let queue = open(dir, false)?;
    if !queue.topics().iter().any(|t| t == topic) {
        return Err(Failure::Failed(format!("there is no topic {topic}")));
    }
    let max = count.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let moved = queue.topic(topic)?.redrive(max)?;
    writeln!(stdout(), "{moved} messages sent back")?;
    Ok(true)
}

fn bench(dir: &str, count: u64) -> Result<bool, Failure> {
    let queue = match Queue::open(dir) {
        Err(OpenError::Locked) => return Err(Failure::InUse),
        opened => opened?,
    };
    let topic = queue.topic("bench")?;
    let group = topic.group("bench")?;
    let mut took = Vec::new();
    for n in 0..count {
        #[expect(clippy::disallowed_methods, reason = "a measurement by the real clock")]
        let start = Instant::now();
        topic.publish_blocking(vec![b'x'; 100])?;
        took.push(start.elapsed());
        if n % 64 == 0 || n + 1 == count {
            let done = usize::try_from(n + 1).unwrap_or(0);
            progress("publishing", done, usize::try_from(count).unwrap_or(0));
        }
    }
    let mut left = count;
    while left > 0 {
        let leases = group.take_blocking(1000, Some(Duration::from_secs(5)))?;
        if leases.is_empty() {
            break;
        }
        left = left.saturating_sub(leases.len() as u64);
        group.ack_all_blocking(leases)?;
    }
    let all: Duration = took.iter().sum();
    took.sort();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / all.as_secs_f64().max(1e-9);
    writeln!(
        stdout(),
        "{count} messages, each synced: {rate:.0} a second, p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    )?;
    Ok(true)
}
