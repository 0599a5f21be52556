//! What is printed: one row per value, beside the mark to reach and what Kubernetes' own servers were measured at.

use std::time::Duration;

/// One value.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub measure: String,
    /// What came out.
    pub value: String,
    /// The mark to reach, and whether it was.
    pub mark: String,
    /// The same of something known; see docs/benchmarks.md for where it was measured.
    pub reference: &'static str,
}

impl Row {
    /// A value without a mark.
    pub fn new(measure: impl Into<String>, value: impl Into<String>) -> Self {
        Self { measure: measure.into(), value: value.into(), mark: String::new(), reference: "" }
    }

    /// With something to compare it to.
    #[must_use]
    pub fn reference(mut self, reference: &'static str) -> Self {
        self.reference = reference;
        self
    }

    /// With a mark that is reached when `reached`.
    #[must_use]
    pub fn mark(mut self, mark: &str, reached: bool) -> Self {
        self.mark = format!("{mark}: {}", if reached { "reached" } else { "MISSED" });
        self
    }

    /// With the longest time that is good.
    #[must_use]
    pub fn within(self, time: Duration, limit: Duration) -> Self {
        self.mark(&format!("≤ {} s", limit.as_secs_f64()), time <= limit)
    }
}

/// How rows look.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Aligned columns.
    Text,
    /// A Markdown table.
    Markdown,
}

impl Form {
    /// Prints the heads of the columns.
    pub fn head(self) {
        match self {
            Self::Text => self.cells("measure", "value", "mark", "reference"),
            Self::Markdown => println!("| measure | value | mark | reference |\n|---|---|---|---|"),
        }
    }

    /// Prints a row.
    pub fn row(self, row: &Row) {
        self.cells(&row.measure, &row.value, &row.mark, row.reference);
    }

    fn cells(self, measure: &str, value: &str, mark: &str, reference: &str) {
        match self {
            Self::Text => {
                println!("{}", format!("{measure:<52} | {value:<48} | {mark:<20} | {reference}").trim_end())
            }
            Self::Markdown => println!("| {measure} | {value} | {mark} | {reference} |"),
        }
    }
}
