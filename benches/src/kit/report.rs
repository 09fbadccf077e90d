//! What was measured, and where it goes.

use std::io::Write as _;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use serde::Serialize;

/// What must come out for a figure to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Goal {
    /// At least so many times better than the rival (`ratio`).
    Times(f64),
    /// At most so many times the rival's value: a floor or a baseline that nobody beats.
    AtMostTimes(f64),
    /// A value of at most this.
    AtMost(f64),
    /// A value of at least this.
    AtLeast(f64),
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Self::Times(times) => format!("at least {times}x the rival"),
            Self::AtMostTimes(times) => format!("at most {times}x the rival's value"),
            Self::AtMost(most) => format!("at most {most} {unit}"),
            Self::AtLeast(least) => format!("at least {least} {unit}"),
        }
    }

    /// Without a rival, a goal that needs one does not hold.
    fn holds(self, value: f64, rival_value: Option<f64>, ratio: Option<f64>) -> bool {
        match self {
            Self::Times(times) => ratio.is_some_and(|ratio| ratio >= times),
            Self::AtMostTimes(times) => rival_value.is_some_and(|rival| value <= rival * times),
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// A measured value, perhaps beside a rival's.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    value: f64,
    unit: String,
    rival: Option<(String, f64)>,
    more_is_better: bool,
    goal: Option<Goal>,
    how: String,
}

impl Figure {
    /// A value of which less is better.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
            rival: None,
            more_is_better: false,
            goal: None,
            how: String::new(),
        }
    }

    /// Of this figure, more is better.
    #[must_use]
    pub fn more_is_better(mut self) -> Self {
        self.more_is_better = true;
        self
    }

    /// The best rival's value of the same thing, measured in the same run.
    #[must_use]
    pub fn against(mut self, rival: impl Into<String>, value: f64) -> Self {
        self.rival = Some((rival.into(), value));
        self
    }

    /// What must come out for the figure to hold.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// How it was measured.
    #[must_use]
    pub fn how(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }

    fn into_row(self, krate: &str) -> Row {
        let rival_value = self.rival.as_ref().map(|(_, value)| *value);
        let ratio = rival_value.map(|rival| {
            if self.more_is_better {
                self.value / rival
            } else {
                rival / self.value
            }
        });
        // Of nothing to something there is no ratio.
        let ratio = ratio.filter(|ratio: &f64| ratio.is_finite());
        Row {
            krate: krate.to_owned(),
            figure: self.name,
            holds: self
                .goal
                .map(|goal| goal.holds(self.value, rival_value, ratio)),
            goal: self.goal.map(|goal| goal.text(&self.unit)),
            value: rounded(self.value),
            unit: self.unit,
            rival: self.rival.map(|(name, _)| name),
            rival_value: rival_value.map(rounded),
            ratio: ratio.map(rounded),
            how: format!("cargo xtask figures {krate}: {}", self.how),
        }
    }
}

/// One figure as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The crate's folder.
    #[serde(rename = "crate")]
    pub krate: String,
    /// What was measured.
    pub figure: String,
    /// Ours.
    pub value: f64,
    /// Of both values.
    pub unit: String,
    /// The best rival in the same run.
    pub rival: Option<String>,
    /// The rival's.
    pub rival_value: Option<f64>,
    /// How many times better ours is than the rival's: above 1 it is better.
    pub ratio: Option<f64>,
    /// What must come out.
    pub goal: Option<String>,
    /// Whether it came out; nothing without a goal.
    pub holds: Option<bool>,
    /// The command and the method.
    pub how: String,
}

impl Row {
    /// The row for a person to read.
    fn line(&self) -> String {
        let mut line = format!(
            "{}: {}: {} {}",
            self.krate, self.figure, self.value, self.unit
        );
        if let (Some(rival), Some(value), Some(ratio)) = (&self.rival, self.rival_value, self.ratio)
        {
            line += &format!(" | {rival}: {value} {} | {ratio}x", self.unit);
        }
        match (&self.goal, self.holds) {
            (Some(goal), Some(true)) => line += &format!(" | goal {goal}: holds"),
            (Some(goal), _) => line += &format!(" | goal {goal}: FALLS SHORT"),
            (None, _) => {}
        }
        line
    }
}

/// Four significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

enum Sink<'c> {
    Lines,
    Json,
    Collect,
    Criterion(&'c mut Criterion),
}

/// Takes the figures of one crate after another.
pub struct Report<'c> {
    krate: String,
    sink: Sink<'c>,
    rows: Vec<Row>,
}

impl<'c> Report<'c> {
    /// One line a figure, for a person.
    #[must_use]
    pub fn lines() -> Self {
        Self::with(Sink::Lines)
    }

    /// One JSON object a line.
    #[must_use]
    pub fn json() -> Self {
        Self::with(Sink::Json)
    }

    /// Keeps the rows and prints nothing.
    #[must_use]
    pub fn collecting(krate: &str) -> Self {
        let mut report = Self::with(Sink::Collect);
        report.start(krate);
        report
    }

    /// Gives every duel to criterion; figures that are no duel are left out.
    pub fn to_criterion(criterion: &'c mut Criterion) -> Self {
        Self::with(Sink::Criterion(criterion))
    }

    fn with(sink: Sink<'c>) -> Self {
        Self {
            krate: String::new(),
            sink,
            rows: Vec::new(),
        }
    }

    /// From here on the figures are of this crate.
    pub fn start(&mut self, krate: &str) {
        krate.clone_into(&mut self.krate);
    }

    /// What was measured so far.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether only duels are wanted, so that a long measurement of something else can be left out.
    #[must_use]
    pub fn only_duels(&self) -> bool {
        matches!(self.sink, Sink::Criterion(_))
    }

    /// Takes a figure, and prints it at once.
    pub fn figure(&mut self, figure: Figure) {
        let row = figure.into_row(&self.krate);
        let line = match self.sink {
            Sink::Lines => row.line(),
            Sink::Json => serde_json::to_string(&row).unwrap_or_else(|error| error.to_string()),
            Sink::Collect | Sink::Criterion(_) => String::new(),
        };
        if !line.is_empty() {
            // A reader that went away ends the run at the next row's print; nothing is lost by it.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        self.rows.push(row);
    }

    /// The group in which criterion measures a duel, if it is criterion that does.
    pub(super) fn criterion(
        &mut self,
        figure: &str,
        operations: u64,
    ) -> Option<BenchmarkGroup<'_, WallTime>> {
        let Sink::Criterion(criterion) = &mut self.sink else {
            return None;
        };
        let mut group = criterion.benchmark_group(format!("{}/{figure}", self.krate));
        group.throughput(Throughput::Elements(operations));
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(figure: Figure) -> Row {
        figure.into_row("x")
    }

    #[test]
    fn a_ratio_above_one_is_better_whichever_way_the_figure_counts() {
        let less = row(Figure::new("time", 2.0, "ns").against("r", 6.0));
        let more = row(Figure::new("rate", 6.0, "1/s")
            .more_is_better()
            .against("r", 2.0));
        assert_eq!((less.ratio, more.ratio), (Some(3.0), Some(3.0)));
    }

    #[test]
    fn a_goal_that_is_missed_is_said_to_be_missed() {
        let figure = Figure::new("time", 2.0, "ns").against("r", 6.0);
        for (goal, holds) in [
            (Goal::Times(3.0), true),
            (Goal::Times(3.1), false),
            (Goal::AtMostTimes(0.5), true),
            (Goal::AtMostTimes(0.3), false),
            (Goal::AtMost(2.0), true),
            (Goal::AtMost(1.9), false),
            (Goal::AtLeast(2.0), true),
            (Goal::AtLeast(2.1), false),
        ] {
            let row = row(figure.clone().goal(goal));
            assert_eq!(row.holds, Some(holds), "{goal:?}");
            assert_eq!(row.line().contains("FALLS SHORT"), !holds);
        }
        assert_eq!(
            row(Figure::new("t", 1.0, "s").goal(Goal::Times(1.0))).holds,
            Some(false)
        );
    }

    #[test]
    fn a_row_in_json_has_every_key_and_says_null_for_what_there_is_not() {
        let text = serde_json::to_string(&row(Figure::new("t", 1.23456, "s"))).unwrap();
        assert_eq!(
            text,
            r#"{"crate":"x","figure":"t","value":1.235,"unit":"s","rival":null,"rival_value":null,"ratio":null,"goal":null,"holds":null,"how":"cargo xtask figures x: "}"#
        );
    }
}
