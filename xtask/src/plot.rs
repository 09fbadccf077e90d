//! One chart a crate: how many times better or worse than its best rival each figure is.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 16.0;
/// Where the bars begin and end.
const LEFT: f64 = 430.0;
const RIGHT: f64 = WIDTH - 70.0;
const HEAD: f64 = 58.0;
const ROW: f64 = 40.0;
const BAR: f64 = 16.0;

/// The chart of those rows that have a rival; nothing if none has. The axis is logarithmic, so that twice
/// as good and half as good are bars of the same length.
pub(crate) fn chart(title: &str, rows: &[Value]) -> Option<String> {
    let ratio = |row: &Value| row["ratio"].as_f64().filter(|ratio| *ratio > 0.0);
    let rows: Vec<(&Value, f64)> = rows
        .iter()
        .filter_map(|row| ratio(row).map(|ratio| (row, ratio)))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let decades =
        |pick: fn(f64, f64) -> f64| rows.iter().map(|(_, ratio)| ratio.log10()).fold(0.0, pick);
    // Whole decades, at least one on either side.
    let (low, high) = (
        decades(f64::min).floor().min(-1.0),
        decades(f64::max).ceil().max(1.0),
    );
    let x = |ratio: f64| LEFT + (RIGHT - LEFT) * (ratio.log10() - low) / (high - low);
    let height = HEAD + ROW * count(rows.len()) + MARGIN;
    let bottom = height - MARGIN;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <style>.better{{fill:#2b6cb0}}.worse{{fill:#c05621}}.name{{fill:#1a202c}}.note{{fill:#718096;\
         font-size:11px}}.tick{{stroke:#e2e8f0}}.even{{stroke:#718096}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"24\" class=\"name\" font-weight=\"600\">{}: times better than the \
         best rival of each figure</text>",
        escape(title)
    );
    let mut decade = low;
    while decade <= high {
        let at = x(10_f64.powf(decade));
        let class = if decade.abs() < 0.5 { "even" } else { "tick" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\"/>\
             <text class=\"note\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}x</text>",
            HEAD - 8.0,
            number(10_f64.powf(decade)),
        );
        decade += 1.0;
    }
    for (index, (row, ratio)) in rows.into_iter().enumerate() {
        let top = HEAD + ROW * count(index);
        let (one, end) = (x(1.0), x(ratio));
        let class = if ratio >= 1.0 { "better" } else { "worse" };
        let unit = text(&row["unit"]);
        let values = format!(
            "{} {unit}; {}: {} {unit}",
            value(&row["value"]),
            text(&row["rival"]),
            value(&row["rival_value"]),
        );
        let (label, anchor) = if ratio >= 1.0 {
            (end + 5.0, "start")
        } else {
            (end - 5.0, "end")
        };
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{MARGIN}\" y=\"{:.1}\">{}</text>\
             <text class=\"note\" x=\"{MARGIN}\" y=\"{:.1}\">{}</text>\
             <rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <text class=\"name\" x=\"{label:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}x</text>",
            top + 16.0,
            escape(&text(&row["figure"])),
            top + 31.0,
            escape(&values),
            one.min(end),
            top + 10.0,
            (end - one).abs().max(1.0),
            top + 23.0,
            number(ratio),
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

#[expect(clippy::cast_precision_loss, reason = "rows are few")]
fn count(rows: usize) -> f64 {
    rows as f64
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

/// A number of a row, for a person.
pub(crate) fn value(value: &Value) -> String {
    value.as_f64().map_or_else(|| "?".to_owned(), number)
}

/// Three digits or more, and no more than are known.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 | 100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ => 4,
    };
    let fixed = format!("{value:.decimals$}");
    if fixed.contains('.') {
        fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        fixed
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: Option<f64>) -> Value {
        serde_json::json!({
            "figure": "a < b", "value": 2.0, "unit": "ns", "rival": "r", "rival_value": 20.0,
            "ratio": ratio
        })
    }

    #[test]
    fn twice_as_good_and_half_as_good_are_bars_of_the_same_length() {
        let svg = chart("x", &[row(Some(2.0)), row(Some(0.5))]).unwrap_or_default();
        let widths: Vec<&str> = svg
            .split("<rect class=")
            .skip(1)
            .filter_map(|bar| bar.split("width=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(widths.len(), 2, "{svg}");
        assert_eq!(widths.first(), widths.last(), "{svg}");
        assert!(svg.contains("class=\"better\"") && svg.contains("class=\"worse\""));
        assert!(svg.contains("a &lt; b"));
    }

    #[test]
    fn without_a_rival_there_is_nothing_to_draw() {
        assert_eq!(chart("x", &[row(None)]), None);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let cases = [
            (10_890.0, "10890"),
            (61.39, "61.4"),
            (2.0, "2"),
            (0.2761, "0.276"),
            (0.01, "0.01"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
