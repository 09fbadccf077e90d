//! `cargo xtask figures` and `bench-report`: the benches workspace, which has a lock file of its own.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command, time::SystemTime};

use serde_json::Value;

use crate::{
    curves, plot,
    step::{cargo, root},
};

pub(crate) fn figures(words: &[&str]) -> Result<(), String> {
    let status = command(words)?
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err("no figures".to_owned())
}

fn command(words: &[&str]) -> Result<Command, String> {
    let manifest = root().join("benches/Cargo.toml");
    if !manifest.is_file() {
        return Err("there is no benches/ yet: nothing to measure".to_owned());
    }
    for name in words.iter().filter(|word| !word.starts_with('-')) {
        let file = format!("benches/src/figures/{}.rs", name.replace('-', "_"));
        if !root().join(&file).is_file() {
            return Err(format!("{name} has no {file}: nothing to measure"));
        }
    }
    let mut run = cargo(&["run", "--release", "--quiet", "--manifest-path"]);
    run.arg(manifest)
        .args(["--bin", "figures", "--"])
        .args(words);
    Ok(run)
}

/// The rows as they were measured, and the machine on the first line.
const ROWS: &str = "docs/benchmarks/rows.jsonl";

/// Writes `docs/benchmarks.md` and one chart a crate: from rows measured now or, with `again`, from
/// those that the last run left.
pub(crate) fn report(again: bool) -> Result<(), String> {
    let folder = root().join("docs/benchmarks");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if !again {
        write(ROWS, &measure()?)?;
    }
    let rows = fs::read_to_string(root().join(ROWS)).map_err(|error| format!("{ROWS}: {error}"))?;
    let mut lines = rows.lines().map(|line| {
        serde_json::from_str::<Value>(line).map_err(|error| format!("{ROWS}: {line}: {error}"))
    });
    let run = lines.next().ok_or("no figure was measured")??;
    let rows: Vec<Value> = lines.collect::<Result<_, _>>()?;
    let mut crates: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in &rows {
        crates
            .entry(cell(&row["crate"]))
            .or_default()
            .push(row.clone());
    }
    let mut page = head(&run, &rows);
    for (name, rows) in &crates {
        let (metrics, others) = curves::metrics(rows);
        let others: Vec<Value> = others.into_iter().cloned().collect();
        let chart = plot::chart(name, &others);
        page.push_str(&section(name, &others, chart.is_some()));
        if let Some(chart) = chart {
            write(&format!("docs/benchmarks/{name}.svg"), &chart)?;
        }
        if let Some(chart) = curves::chart(name, &metrics) {
            page.push_str(&by_size(name, &metrics));
            write(&format!("docs/benchmarks/{name}-by-size.svg"), &chart)?;
        }
    }
    write("docs/benchmarks.md", &page)?;
    println!(
        "wrote docs/benchmarks.md: {} figures of {} crates",
        rows.len(),
        crates.len()
    );
    Ok(())
}

fn write(file: &str, text: &str) -> Result<(), String> {
    fs::write(root().join(file), text).map_err(|error| format!("{file}: {error}"))
}

/// Runs all figures. The first line is about the run, each other one is a row.
fn measure() -> Result<String, String> {
    let output = command(&["--json"])?
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let notes = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(notes.into_owned());
    }
    let machine = notes.lines().find_map(|line| line.strip_prefix("# "));
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let run = serde_json::json!({ "machine": machine, "unix_seconds": seconds });
    Ok(format!(
        "{run}\n{}",
        String::from_utf8_lossy(&output.stdout)
    ))
}

/// What was measured, on what, and what fell short.
fn head(run: &Value, rows: &[Value]) -> String {
    let short: Vec<&Value> = rows.iter().filter(|row| row["holds"] == false).collect();
    let goals = rows.iter().filter(|row| row["holds"].is_boolean()).count();
    let mut text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench-report` from one run on one machine; \
         `cargo xtask figures [crate]` measures again. {} figures, {goals} of them with a goal, \
         {} of these fall short.\n\n\
         * Machine: {}\n* Day: {}\n\
         * Method: each figure says how under the table. In a duel both sides do the same work in \
         one process, in turn, and the median of the rounds counts; by CPU time of the thread unless \
         it says otherwise, so that what else runs on the machine hardly shows. Builds are optimised \
         for no particular processor.\n\
         * A ratio above 1 means that ours is better, by that factor, than the best rival measured in \
         the same run.\n",
        rows.len(),
        short.len(),
        cell(&run["machine"]),
        day(run["unix_seconds"].as_u64().unwrap_or(0)),
    );
    if !short.is_empty() {
        text.push_str("\nWhat falls short:\n\n");
        for row in short {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "* {}: {}: {} {}; the goal is {}",
                cell(&row["crate"]),
                cell(&row["figure"]),
                plot::value(&row["value"]),
                cell(&row["unit"]),
                cell(&row["goal"]),
            );
        }
    }
    text
}

/// The date of a number of seconds since 1970, by the civil-from-days rule (Howard Hinnant).
fn day(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{}-{month:02}-{day:02}", year + era * 400 + later)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        // What a reader of Markdown would take for the end of a cell, or for a tag.
        Value::String(text) => text.replace('|', "\\|").replace('<', "&lt;"),
        Value::Bool(true) => "holds".to_owned(),
        Value::Bool(false) => "**falls short**".to_owned(),
        number => plot::value(number),
    }
}

/// A crate's chart, its rows as a table, and how each was measured.
fn section(name: &str, rows: &[Value], has_chart: bool) -> String {
    let mut text = format!("\n## {name}\n\n");
    if has_chart {
        let _ = writeln!(text, "![{name} beside its rivals](benchmarks/{name}.svg)\n");
    }
    text.push_str("| | figure | ours | rival | ratio | goal | |\n| ---: | --- | ---: | --- | ---: | --- | --- |\n");
    let mut methods = String::new();
    let command = format!("cargo xtask figures {name}: ");
    for (number, row) in (1..).zip(rows) {
        let unit = cell(&row["unit"]);
        let rival = if row["rival"].is_null() {
            "–".to_owned()
        } else {
            let value = plot::value(&row["rival_value"]);
            format!("{}: {value} {unit}", cell(&row["rival"]))
        };
        let _ = writeln!(
            text,
            "| {number} | {} | {} {unit} | {rival} | {} | {} | {} |",
            cell(&row["figure"]),
            plot::value(&row["value"]),
            cell(&row["ratio"]),
            cell(&row["goal"]),
            cell(&row["holds"]),
        );
        let how = row["how"].as_str().unwrap_or_default();
        let how = how.strip_prefix(&command).unwrap_or(how);
        let _ = writeln!(methods, "{number}. {how}");
    }
    format!("{text}\nHow (`cargo xtask figures {name}`):\n\n{methods}")
}

/// What was measured at several sizes: the curves, then the numbers.
fn by_size(name: &str, metrics: &[curves::Metric]) -> String {
    let mut text =
        format!("\n### {name} by size\n\n![{name} by size](benchmarks/{name}-by-size.svg)\n");
    let command = format!("cargo xtask figures {name}: ");
    for metric in metrics {
        let how = metric.how.strip_prefix(&command).unwrap_or(&metric.how);
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}\n{}: {how}.\n", metric.table(), metric.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Value; 2] {
        [
            serde_json::json!({
                "crate": "x", "figure": "a < b", "value": 2.0, "unit": "ns", "rival": "r|s",
                "rival_value": 4.0, "ratio": 2.0, "goal": "at least 3x the rival", "holds": false,
                "how": "cargo xtask figures x: by hand"
            }),
            serde_json::json!({
                "crate": "x", "figure": "size", "value": 1234.5, "unit": "B", "rival": null,
                "rival_value": null, "ratio": null, "goal": null, "holds": null, "how": "h"
            }),
        ]
    }

    #[test]
    fn a_row_becomes_a_line_of_the_table_and_its_method_a_line_below() {
        let text = section("x", &rows(), true);
        let row =
            "| 1 | a &lt; b | 2 ns | r\\|s: 4 ns | 2 | at least 3x the rival | **falls short** |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("| 2 | size | 1234 B | – | – | – | – |"),
            "{text}"
        );
        assert!(text.contains("1. by hand\n2. h\n"), "{text}");
        assert!(text.contains("(benchmarks/x.svg)"), "{text}");
    }

    #[test]
    fn what_falls_short_is_said_first() {
        let run = serde_json::json!({ "machine": "m", "unix_seconds": 1_795_564_800_u64 });
        let text = head(&run, &rows());
        assert!(
            text.contains("2 figures, 1 of them with a goal, 1 of these fall short"),
            "{text}"
        );
        assert!(
            text.contains("* x: a &lt; b: 2 ns; the goal is at least 3x the rival"),
            "{text}"
        );
        assert!(text.contains("Day: 2026-11-25"), "{text}");
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (seconds, date) in cases {
            assert_eq!(day(seconds), date);
        }
    }
}
