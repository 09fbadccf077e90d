//! One chart of curves a crate: how figures that are measured at several sizes grow with the size.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;

use crate::plot::{escape, number};

/// What was measured of several contestants at several sizes, in the order of the rows.
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) how: String,
    pub(crate) curves: Vec<Curve>,
}

/// Sizes, ascending, and values.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A row named `metric: contestant, N nodes`.
fn parts(row: &Value) -> Option<(&str, &str, f64)> {
    let (metric, rest) = row["figure"].as_str()?.split_once(": ")?;
    let (contestant, size) = rest.rsplit_once(", ")?;
    let size = size.strip_suffix(" nodes")?.parse().ok()?;
    Some((metric, contestant, size))
}

/// Takes the metrics that were measured at several sizes out of the rows.
pub(crate) fn metrics(rows: &[Value]) -> (Vec<Metric>, Vec<&Value>) {
    let (mut metrics, mut others) = (Vec::<Metric>::new(), Vec::new());
    for row in rows {
        let (Some((metric, contestant, size)), Some(value)) = (parts(row), row["value"].as_f64())
        else {
            others.push(row);
            continue;
        };
        let at = metrics.iter().position(|known| known.name == metric);
        let at = at.unwrap_or_else(|| {
            metrics.push(Metric {
                name: metric.to_owned(),
                unit: row["unit"].as_str().unwrap_or_default().to_owned(),
                how: row["how"].as_str().unwrap_or_default().to_owned(),
                curves: Vec::new(),
            });
            metrics.len() - 1
        });
        let Some(metric) = metrics.get_mut(at) else {
            continue;
        };
        match metric
            .curves
            .iter_mut()
            .find(|curve| curve.name == contestant)
        {
            Some(curve) => curve.points.push((size, value)),
            None => metric.curves.push(Curve {
                name: contestant.to_owned(),
                points: vec![(size, value)],
            }),
        }
    }
    (metrics, others)
}

impl Metric {
    /// The sizes of all curves.
    pub(crate) fn sizes(&self) -> Vec<f64> {
        let sizes = self.curves.iter().flat_map(|curve| &curve.points);
        let sizes: BTreeSet<u64> = sizes.map(|point| point.0.to_bits()).collect();
        sizes.into_iter().map(f64::from_bits).collect()
    }

    /// A table with a row a contestant and a column a size.
    pub(crate) fn table(&self) -> String {
        let sizes = self.sizes();
        let mut text = format!("| {} ({}) |", self.name, self.unit);
        for size in &sizes {
            let _ = write!(text, " {} |", number(*size));
        }
        let _ = write!(text, "\n| --- |{}\n", " ---: |".repeat(sizes.len()));
        for curve in &self.curves {
            let _ = write!(text, "| {} |", curve.name);
            for size in &sizes {
                let point = curve.points.iter().find(|point| point.0 == *size);
                let value = point.map_or_else(|| "–".to_owned(), |point| number(point.1));
                let _ = write!(text, " {value} |");
            }
            text.push('\n');
        }
        text
    }
}

const WIDTH: f64 = 960.0;
const PANEL: (f64, f64) = (WIDTH / 2.0, 270.0);
const HEAD: f64 = 40.0;
/// What a panel keeps free around its plot: left, right, top, bottom.
const FREE: (f64, f64, f64, f64) = (58.0, 30.0, 34.0, 38.0);

/// Colours that are told apart with any kind of sight (Okabe and Ito, 2008), then the same with dashes.
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// How the n-th contestant is drawn.
fn stroke(n: usize) -> String {
    let colour = COLOURS[n % COLOURS.len()];
    let dashes = if n < COLOURS.len() {
        ""
    } else {
        " stroke-dasharray=\"5 3\""
    };
    format!("stroke=\"{colour}\" fill=\"none\" stroke-width=\"1.8\"{dashes}")
}

/// A logarithmic axis; zero, where something is zero, is one decade below the rest.
struct Axis {
    low: f64,
    high: f64,
    zero: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let zero = values.clone().any(|value| value <= 0.0);
        let logs = values.filter(|value| *value > 0.0).map(f64::log10);
        let low = logs.clone().fold(f64::INFINITY, f64::min);
        let high = logs.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // Whole decades, unless all is within one: then a little more than there is.
        let (low, high) = if high - low > 1.0 {
            (low.floor(), high.ceil())
        } else {
            (low - 0.03, (high + 0.03).max(low + 0.1))
        };
        Self {
            low: if zero { low - 1.0 } else { low },
            high,
            zero,
        }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let log = if value > 0.0 { value.log10() } else { self.low };
        (log - self.low) / (self.high - self.low)
    }

    /// Values with a line: decades, or within one the steps of it.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = match self.high - self.low {
            ..0.5 => &[
                1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0,
            ],
            ..1.5 => &[1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0],
            _ => &[1.0],
        };
        let above_zero = self.low + if self.zero { 0.5 } else { 0.0 };
        let mut ticks = Vec::new();
        let mut decade = self.low.floor();
        while decade <= self.high {
            ticks.extend(steps.iter().map(|step| step * 10_f64.powf(decade)));
            decade += 1.0;
        }
        ticks.retain(|tick| (above_zero - 1e-9..=self.high + 1e-9).contains(&tick.log10()));
        // So many that they can be read.
        while ticks.len() > 8 {
            let mut keep = false;
            ticks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        if self.zero {
            ticks.insert(0, 0.0);
        }
        ticks
    }
}

/// A panel for each metric, and one that names the curves. Nothing if there is no metric.
pub(crate) fn chart(title: &str, metrics: &[Metric]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for curve in metrics.iter().flat_map(|metric| &metric.curves) {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let rows = (metrics.len() + 1).div_ceil(2);
    let height = HEAD + PANEL.1 * count(rows);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <style>.name{{fill:#1a202c}}.note{{fill:#4a5568;font-size:11px}}.tick{{stroke:#e2e8f0}}\
         </style>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" class=\"name\" font-size=\"14\" font-weight=\"600\">{}: by the number of \
         nodes</text>\n",
        escape(title)
    );
    for (n, metric) in metrics.iter().enumerate() {
        panel(&mut svg, corner(n), metric, &names);
    }
    let (x, y) = corner(metrics.len());
    for (n, name) in names.iter().enumerate() {
        let y = y + FREE.2 + 20.0 * count(n);
        let _ = writeln!(
            svg,
            "<line x1=\"{}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" {}/>\
             <text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
            x + FREE.0,
            x + FREE.0 + 34.0,
            stroke(n),
            x + FREE.0 + 44.0,
            y + 4.0,
            escape(name),
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Where the n-th panel begins.
fn corner(n: usize) -> (f64, f64) {
    (PANEL.0 * count(n % 2), HEAD + PANEL.1 * count(n / 2))
}

fn panel(svg: &mut String, (left, top): (f64, f64), metric: &Metric, names: &[&str]) {
    let points = || metric.curves.iter().flat_map(|curve| curve.points.iter());
    let (sizes, values) = (
        Axis::over(points().map(|point| point.0)),
        Axis::over(points().map(|point| point.1)),
    );
    let (x0, x1) = (left + FREE.0, left + PANEL.0 - FREE.1);
    let (y0, y1) = (top + PANEL.1 - FREE.3, top + FREE.2);
    let x = |size: f64| x0 + (x1 - x0) * sizes.place(size);
    let y = |value: f64| y0 + (y1 - y0) * values.place(value);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"{x0}\" y=\"{}\" font-weight=\"600\">{} ({})</text>",
        top + 20.0,
        escape(&metric.name),
        escape(&metric.unit),
    );
    for tick in values.ticks() {
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<line class=\"tick\" x1=\"{x0}\" x2=\"{x1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"note\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            x0 - 6.0,
            at + 4.0,
            number(tick),
        );
    }
    for tick in sizes.ticks() {
        let at = x(tick);
        let _ = writeln!(
            svg,
            "<line class=\"tick\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{y0}\" y2=\"{y1}\"/>\
             <text class=\"note\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y0 + 16.0,
            number(tick),
        );
    }
    for curve in &metric.curves {
        let n = names.iter().position(|name| *name == curve.name);
        let stroke = stroke(n.unwrap_or_default());
        let line: Vec<String> = curve
            .points
            .iter()
            .map(|(size, value)| format!("{:.1},{:.1}", x(*size), y(*value)))
            .collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" {stroke}/>", line.join(" "));
        for (size, value) in &curve.points {
            let colour = COLOURS[n.unwrap_or_default() % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"{colour}\"><title>{}, {} nodes: {} {}\
                 </title></circle>",
                x(*size),
                y(*value),
                escape(&curve.name),
                number(*size),
                number(*value),
                escape(&metric.unit),
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "panels are few")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Value> {
        let row = |figure: &str, value: f64| serde_json::json!({ "figure": figure, "value": value, "unit": "ns", "how": "h" });
        vec![
            row("a duel, 10 nodes", 1.0),
            row("look-up: Ring, 10 nodes", 2.0),
            row("look-up: Ring, 1000 nodes", 200.0),
            row("look-up: Jump, 10 nodes", 0.0),
        ]
    }

    #[test]
    fn rows_of_several_sizes_become_curves_and_a_table() {
        let rows = rows();
        let (metrics, others) = metrics(&rows);
        assert_eq!(others.len(), 1);
        let tables: Vec<String> = metrics.iter().map(Metric::table).collect();
        assert_eq!(
            tables,
            [
                "| look-up (ns) | 10 | 1000 |\n| --- | ---: | ---: |\n| Ring | 2 | 200 |\n| Jump | 0 | – |\n"
            ]
        );
    }

    #[test]
    fn a_decade_is_as_high_everywhere_and_zero_is_below_all() {
        let axis = Axis::over([0.0, 2.0, 200.0].into_iter());
        let (a, b, c) = (axis.place(1.0), axis.place(10.0), axis.place(100.0));
        assert!((b - a - (c - b)).abs() < 1e-9, "{a} {b} {c}");
        assert!(axis.place(0.0) < axis.place(2.0));
        assert_eq!(axis.ticks().first(), Some(&0.0));
    }

    #[test]
    fn each_metric_has_a_panel_and_each_contestant_a_curve() {
        let rows = rows();
        let svg = chart("x", &metrics(&rows).0).unwrap_or_default();
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        assert!(svg.contains("look-up (ns)"), "{svg}");
        assert_eq!(chart("x", &[]), None);
    }
}
