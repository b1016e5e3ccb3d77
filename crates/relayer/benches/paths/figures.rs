//! The results of the paths, as a table.

/// A figure with a target.
pub struct Figure {
    pub name: String,
    /// The measured value, with its unit.
    pub measured: String,
    /// The baseline from the same run, with its unit; empty if the target is absolute.
    pub limit: String,
    /// The value that is compared with the target: a ratio, or the measured value itself.
    pub value: f64,
    pub target: Target,
}

#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// A ratio of the CPU time to that of the baseline, both in microseconds.
    pub fn ratio(name: impl Into<String>, measured: f64, limit: f64, at_most: f64) -> Self {
        Self {
            name: name.into(),
            measured: format!("{measured:.2} us"),
            limit: format!("{limit:.2} us"),
            value: measured / limit,
            target: Target::AtMost(at_most),
        }
    }

    /// A ratio of a count to its minimum.
    pub fn count(name: impl Into<String>, measured: f64, limit: f64, at_most: f64) -> Self {
        let (measured_text, limit_text) = (format!("{measured:.0}"), format!("{limit:.0}"));
        Self { measured: measured_text, limit: limit_text, ..Self::ratio(name, measured, limit, at_most) }
    }

    /// A figure with an absolute target.
    pub fn plain(name: impl Into<String>, value: f64, unit: &str, target: Target) -> Self {
        Self {
            name: name.into(),
            measured: format!("{value:.2} {unit}"),
            limit: String::new(),
            value,
            target,
        }
    }

    fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.value <= most,
            Target::AtLeast(least) => self.value >= least,
        }
    }
}

pub fn print(figures: &[Figure]) {
    println!("\n{:<52}{:>14}{:>12}{:>9}{:>10}", "", "measured", "limit", "value", "target");
    for figure in figures {
        let target = match figure.target {
            Target::AtMost(most) => format!("<= {most}"),
            Target::AtLeast(least) => format!(">= {least}"),
        };
        let Figure { name, measured, limit, value, .. } = figure;
        let verdict = if figure.is_met() { "met" } else { "MISSED" };
        println!("{name:<52}{measured:>14}{limit:>12}{value:>9.2}{target:>10}  {verdict}");
    }
}
