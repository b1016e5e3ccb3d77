//! Reads OpenMetrics text.

use std::collections::BTreeMap;

/// Samples by name and labels, as written: `relays{state="live"}`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Lines that are not samples are skipped.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// Returns a sample as a whole number; 0 if there is none.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |value| *value as u64)
    }

    /// Returns the samples of a name with one label, by the label's value.
    pub fn by_label<'a>(&'a self, name: &str, label: &str) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let prefix = format!("{name}{{{label}=\"");
        self.0.iter().filter_map(move |(sample, value)| {
            let label = sample.strip_prefix(&prefix)?.strip_suffix("\"}")?;
            Some((label, *value as u64))
        })
    }

    /// Returns the sum of the samples of a name with one label.
    pub fn sum(&self, name: &str, label: &str) -> u64 {
        self.by_label(name, label).fold(0, |sum, (_, value)| sum.saturating_add(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_anything_else_is_skipped() {
        let text = "# HELP relays x\n# TYPE relays gauge\nrelays{state=\"live\"} 3\nrelays{state=\"refused\"} 1\n\
                    events_processed_total 7\nlate 1.5e3\nbroken\nbroken x\nnegative -1\nhuge 1e300\n# EOF\n";
        let figures = Figures::parse(text);
        assert_eq!(Vec::from_iter(figures.by_label("relays", "state")), [("live", 3), ("refused", 1)]);
        assert_eq!((figures.sum("relays", "state"), figures.get("events_processed_total")), (4, 7));
        assert_eq!((figures.get("late"), figures.get("broken"), figures.get("negative")), (1_500, 0, 0));
        assert_eq!(figures.get("huge"), u64::MAX);
    }
}
