//! What is wrong in a text, and where.

use std::fmt;
use std::sync::Arc;

/// An error in a text, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct Diagnostic {
    /// Where it is.
    pub place: Place,
    /// What is wrong and what to do.
    pub text: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Place {
    /// The file's name as the caller gave it; texts with many places share it.
    pub file: Arc<str>,
    /// From 1; 0 where there are no lines.
    pub line: u32,
    /// From 1, in characters; 0 where there are no lines.
    pub column: u32,
}

impl Place {
    /// A place in a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self {
            file: file.into(),
            line,
            column,
        }
    }

    /// An error at this place.
    pub fn error(&self, text: impl Into<String>) -> Diagnostic {
        Diagnostic {
            place: self.clone(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.file)
        } else {
            write!(f, "{}:{}:{}", self.file, self.line, self.column)
        }
    }
}

/// The longest text that a reader takes, in bytes.
pub const TEXT_LIMIT: usize = 64 << 20;

/// Refuses a text that is too long to be a ruleset.
pub(crate) fn within_limit(file: &str, text: &str) -> Result<(), Diagnostic> {
    if text.len() > TEXT_LIMIT {
        return Err(Place::new(file, 0, 0).error(format!(
            "{} MiB are more than any ruleset has; the limit is {} MiB",
            text.len() >> 20,
            TEXT_LIMIT >> 20
        )));
    }
    Ok(())
}
