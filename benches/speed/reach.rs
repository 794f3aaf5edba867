//! What was to be reached, and what was.

use serde::{Deserialize, Serialize};

/// A row of the table of what was to be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// What is done.
    pub(crate) work: String,
    /// What it is compared with.
    pub(crate) against: String,
    /// What was to be reached.
    pub(crate) wanted: Wanted,
    /// What was measured.
    pub(crate) got: f64,
    /// The unit of both.
    pub(crate) unit: String,
}

/// A bound.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Wanted {
    /// The more the better.
    AtLeast(f64),
    /// The less the better.
    AtMost(f64),
}

impl Reach {
    /// Whether the bound is kept.
    pub(crate) fn is_reached(&self) -> bool {
        match self.wanted {
            Wanted::AtLeast(bound) => self.got >= bound,
            Wanted::AtMost(bound) => self.got <= bound,
        }
    }

    /// How much better than the bound it is, as a factor; below 1, how far from it.
    pub(crate) fn margin(&self) -> f64 {
        match self.wanted {
            Wanted::AtLeast(bound) => self.got / bound,
            Wanted::AtMost(bound) => bound / self.got,
        }
    }

    /// What was measured, with its unit.
    pub(crate) fn measured(&self) -> String {
        let digits = if self.got < 20.0 { 2 } else { 0 };
        format!("{:.digits$} {}", self.got, self.unit)
    }

    fn row(&self) -> String {
        let (sign, bound) = match self.wanted {
            Wanted::AtLeast(bound) => ("≥", bound),
            Wanted::AtMost(bound) => ("≤", bound),
        };
        format!(
            "| {} | {} | {sign} {bound} {} | {} | {} |",
            self.work,
            self.against,
            self.unit,
            self.measured(),
            if self.is_reached() { "yes" } else { "no" },
        )
    }
}

/// The table in Markdown.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a Reach>) -> String {
    let head = "| work | against | to be reached | measured | reached |\n| --- | --- | --- | --- | --- |";
    let rows = rows.into_iter().map(Reach::row);
    std::iter::once(head.to_owned()).chain(rows).collect::<Vec<_>>().join("\n")
}
