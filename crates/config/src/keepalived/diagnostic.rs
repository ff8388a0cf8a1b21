//! What is wrong with a configuration, and where.

use std::fmt;

/// Something that a reader of keepalived.conf should know; prints as `FILE:LINE:COLUMN: TEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What, and what to do.
    pub text: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It is accepted and changes nothing.
    Note,
    /// It can be meant so, and is seldom meant so.
    Warning,
    /// Pointsman does not do it.
    Unsupported,
    /// It is wrong: keepalived's own test of the configuration (`keepalived -t`) says so too.
    Error,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            file,
            line,
            column,
            text,
        } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {text}")
    }
}

impl Severity {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unsupported => "unsupported",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
