//! `cargo xtask figures` and `bench-report`: the benches workspace, which has a lock file of its own.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use serde_json::Value;

use crate::step::{cargo, root};

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

/// Writes `docs/benchmarks.md` and one plot a crate from rows measured now.
pub(crate) fn report() -> Result<(), String> {
    let output = command(&["--json"])?
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut crates: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let row: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        crates.entry(cell(&row["crate"])).or_default().push(row);
    }
    if crates.is_empty() {
        return Err("no figure was measured".to_owned());
    }
    let mut page = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench-report` from one run on one machine. \
         `cargo xtask figures` measures again.\n",
    );
    let folder = root().join("docs/benchmarks");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, rows) in &crates {
        let plot = folder.join(format!("{name}.svg"));
        fs::write(&plot, svg(rows)).map_err(|error| format!("{}: {error}", plot.display()))?;
        page.push_str(&section(name, rows));
    }
    let file = root().join("docs/benchmarks.md");
    fs::write(&file, page).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("wrote docs/benchmarks.md and {} plots", crates.len());
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.replace('|', "\\|"),
        other => other.to_string(),
    }
}

fn section(name: &str, rows: &[Value]) -> String {
    const COLUMNS: [&str; 9] = [
        "figure",
        "value",
        "unit",
        "rival",
        "rival_value",
        "ratio",
        "goal",
        "holds",
        "how",
    ];
    let mut text = format!("\n## {name}\n\n![{name}](benchmarks/{name}.svg)\n\n");
    for line in [COLUMNS.join(" | "), COLUMNS.map(|_| "---").join(" | ")] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {line} |");
    }
    for row in rows {
        let cells: Vec<String> = COLUMNS.iter().map(|column| cell(&row[column])).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Two bars a figure, ours and the rival's, each pair to its own scale.
fn svg(rows: &[Value]) -> String {
    const ROW: f64 = 48.0;
    const BARS: f64 = 360.0;
    let mut bars = String::new();
    let mut y = 8.0;
    for row in rows {
        let ours = row["value"].as_f64().unwrap_or(0.0);
        let theirs = row["rival_value"].as_f64().unwrap_or(0.0);
        let most = ours.max(theirs).max(f64::MIN_POSITIVE);
        let label = escape(&format!(
            "{} ({})",
            cell(&row["figure"]),
            cell(&row["unit"])
        ));
        let _ = writeln!(bars, "<text x=\"0\" y=\"{}\">{label}</text>", y + 11.0);
        for (offset, value, class, who) in [
            (16.0, ours, "ours", "stackbeam".to_owned()),
            (29.0, theirs, "rival", cell(&row["rival"])),
        ] {
            let width = BARS * value / most;
            let _ = writeln!(
                bars,
                "<rect class=\"{class}\" x=\"0\" y=\"{}\" width=\"{width:.1}\" height=\"11\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value} {}</text>",
                y + offset,
                width + 4.0,
                y + offset + 9.5,
                escape(&who)
            );
        }
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {y}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <style>.ours{{fill:#2b6cb0}}.rival{{fill:#a0aec0}}text{{fill:#4a5568}}</style>\n\
         {bars}</svg>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_a_line_of_the_table_and_two_bars() {
        let row = serde_json::json!({
            "crate": "x", "figure": "a < b", "value": 2.0, "unit": "ns", "rival": "r|s",
            "rival_value": 4.0, "ratio": 0.5, "goal": null, "holds": true, "how": "h"
        });
        let text = section("x", std::slice::from_ref(&row));
        assert!(
            text.contains("| a < b | 2.0 | ns | r\\|s | 4.0 | 0.5 | – | true | h |"),
            "{text}"
        );
        let plot = svg(&[row]);
        assert!(plot.contains("a &lt; b"), "{plot}");
        assert!(plot.contains("width=\"180.0\""), "{plot}");
        assert!(plot.contains("width=\"360.0\""), "{plot}");
    }
}
