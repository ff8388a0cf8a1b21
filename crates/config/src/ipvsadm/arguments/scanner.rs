//! Splits an argument vector into options and words, by the rules of popt.

use super::option::{Argument, Meaning, Spelling};

/// An option as it was met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Met<'a> {
    pub(crate) meaning: Meaning,
    pub(crate) value: Option<&'a str>,
}

/// Why the vector cannot be split further; the texts are popt's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("unknown option")]
    Unknown,
    #[error("missing argument")]
    MissingArgument,
    #[error("option does not take an argument")]
    UnwantedArgument,
}

/// Walks over an argument vector (without the program's name).
///
/// Words may stand anywhere between options and are kept aside. Long options must be written out,
/// letters may be bundled, and a letter's value may follow it directly or after one `=`.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    arguments: &'a [String],
    next: usize,
    letters: &'a str,
    words: Vec<&'a str>,
    only_words: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(arguments: &'a [String]) -> Self {
        Self {
            arguments,
            next: 0,
            letters: "",
            words: Vec::new(),
            only_words: false,
        }
    }

    /// The argument read last: what messages name.
    pub(crate) fn current(&self) -> &'a str {
        self.next
            .checked_sub(1)
            .and_then(|i| self.arguments.get(i))
            .map_or("", String::as_str)
    }

    /// The words met so far; all of them once [`Self::next_option`] has returned `None`.
    pub(crate) fn into_words(self) -> std::vec::IntoIter<&'a str> {
        self.words.into_iter()
    }

    /// The next option, `None` at the end.
    pub(crate) fn next_option(&mut self) -> Option<Result<Met<'a>, ScanError>> {
        loop {
            if !self.letters.is_empty() {
                return Some(self.letter());
            }
            let argument = self.arguments.get(self.next)?.as_str();
            self.next += 1;
            match argument.strip_prefix('-') {
                Some("-") if !self.only_words => self.only_words = true,
                Some(rest) if !self.only_words && !rest.is_empty() => {
                    if let Some(long) = rest.strip_prefix('-') {
                        return Some(self.long(long));
                    }
                    self.letters = rest;
                }
                _ => self.words.push(argument),
            }
        }
    }

    fn long(&mut self, text: &'a str) -> Result<Met<'a>, ScanError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let spelling = Spelling::of_long(name).ok_or(ScanError::Unknown)?;
        if value.is_some() && spelling.argument == Argument::None {
            return Err(ScanError::UnwantedArgument);
        }
        self.with_value(spelling, value)
    }

    fn letter(&mut self) -> Result<Met<'a>, ScanError> {
        let mut letters = self.letters.chars();
        let spelling = letters
            .next()
            .and_then(Spelling::of_short)
            .ok_or(ScanError::Unknown)?;
        self.letters = letters.as_str();
        if spelling.argument == Argument::None || self.letters.is_empty() {
            return self.with_value(spelling, None);
        }
        let joined = std::mem::take(&mut self.letters);
        self.with_value(spelling, Some(joined.strip_prefix('=').unwrap_or(joined)))
    }

    fn with_value(
        &mut self,
        spelling: &Spelling,
        joined: Option<&'a str>,
    ) -> Result<Met<'a>, ScanError> {
        let following = self.arguments.get(self.next).map(String::as_str);
        let value = match (joined, spelling.argument) {
            (Some(_), _) | (None, Argument::None) => joined,
            (None, Argument::Required) => {
                let value = following.ok_or(ScanError::MissingArgument)?;
                self.next += 1;
                Some(value)
            }
            (None, Argument::Optional) => {
                let value = following.filter(|value| !value.starts_with('-'));
                self.next += usize::from(value.is_some());
                value
            }
        };
        Ok(Met {
            meaning: spelling.meaning,
            value,
        })
    }
}
