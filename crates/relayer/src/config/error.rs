//! The problems of a configuration, each with its place. All problems are reported at once.

use std::fmt;
use std::path::Path;

use super::choices::LogFormat;

/// The place of a value or of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The default of the program.
    Default,
    /// The configuration file. Lines and columns count from 1, columns in characters. Line 0 means
    /// the whole file.
    File {
        /// The path as it was given.
        path: Box<Path>,
        line: usize,
        column: usize,
    },
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// One problem, shown as `<place>: <key>: <what was found; what is allowed>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The dotted key that the problem is about, if any.
    pub key: Option<String>,
    /// What was found and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// All problems of a configuration, one per line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct ConfigErrors {
    problems: Vec<Problem>,
    /// How the problems are to be logged, as far as the configuration could be read.
    pub log_format: LogFormat,
}

impl ConfigErrors {
    /// Fails with the problems, sorted by place, if there are any.
    pub(super) fn unless_empty(mut problems: Vec<Problem>, log_format: LogFormat) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        // The sort is stable: problems without a line keep their order.
        problems.sort_by_key(|problem| match &problem.place {
            Place::File { line, column, .. } => (0, *line, *column),
            Place::Environment(_) | Place::Default => (1, 0, 0),
        });
        Err(Self { problems, log_format })
    }

    pub(super) fn one(problem: Problem, log_format: LogFormat) -> Self {
        Self { problems: vec![problem], log_format }
    }

    /// The problems; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn lines(&self) -> String {
        self.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// Makes text from outside fit into a message: on one line, without control characters, and short.
pub(super) fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The name in `known` that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison is quadratic, and a name this long resembles no known name.
    if wrong.len() > 80 {
        return None;
    }
    known
        .map(|name| (strsim::jaro_winkler(&wrong.to_ascii_lowercase(), &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
