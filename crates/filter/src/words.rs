//! Words of a line, with their places.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place};

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// Written in quotes, so that `!` or `-x` in it is only text.
    pub(crate) quoted: bool,
}

impl Word {
    pub(crate) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    /// Whether this begins an option.
    pub(crate) fn is_option(&self) -> bool {
        !self.quoted && self.text.len() > 1 && self.text.starts_with('-')
    }

    /// As a shell would take it.
    pub(crate) fn shown(&self) -> String {
        if self.quoted && (self.text.is_empty() || self.text.contains([' ', '"', '\'', '!'])) {
            format!("\"{}\"", self.text.replace('"', "\\\""))
        } else {
            self.text.clone()
        }
    }
}

/// The words joined by blanks.
pub(crate) fn join(words: &[Word]) -> String {
    let texts: Vec<String> = words.iter().map(Word::shown).collect();
    texts.join(" ")
}

/// Splits a line; double and single quotes hold blanks, a backslash the next character.
pub(crate) fn split(file: &Arc<str>, line: u32, text: &str) -> Result<Vec<Word>, Diagnostic> {
    let mut words = Vec::new();
    let mut characters = text.chars().enumerate().peekable();
    while let Some(&(at, character)) = characters.peek() {
        if character.is_whitespace() {
            characters.next();
            continue;
        }
        let place = Place::new(Arc::clone(file), line, at as u32 + 1);
        let mut word = Word {
            text: String::new(),
            place,
            quoted: false,
        };
        let mut quote = None;
        while let Some(&(_, character)) = characters.peek() {
            match (quote, character) {
                (None, character) if character.is_whitespace() => break,
                (None, '"' | '\'') => {
                    quote = Some(character);
                    word.quoted = true;
                }
                (Some(open), character) if open == character => quote = None,
                (None | Some('"'), '\\') => {
                    characters.next();
                    if let Some(&(_, escaped)) = characters.peek() {
                        word.text.push(escaped);
                    }
                }
                (_, character) => word.text.push(character),
            }
            characters.next();
        }
        if quote.is_some() {
            return Err(word.place.error("the quote is never closed"));
        }
        words.push(word);
    }
    Ok(words)
}

/// Walks over the words of a rule.
pub(crate) struct Cursor<'w> {
    words: &'w [Word],
    at: usize,
}

impl<'w> Cursor<'w> {
    pub(crate) fn new(words: &'w [Word]) -> Self {
        Self { words, at: 0 }
    }

    pub(crate) fn peek(&self) -> Option<&'w Word> {
        self.words.get(self.at)
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn since(&self, at: usize) -> &'w [Word] {
        &self.words[at..self.at]
    }

    pub(crate) fn next(&mut self) -> Option<&'w Word> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// Takes this word if it comes next.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.is(text));
        self.at += usize::from(found);
        found
    }

    /// The value of an option, and whether a `!` stands before it.
    pub(crate) fn value(&mut self, option: &Word) -> Result<(bool, &'w Word), Diagnostic> {
        let negated = self.take("!");
        match self.next() {
            Some(word) => Ok((negated, word)),
            None => Err(option
                .place
                .error(format!("`{}` needs a value", option.text))),
        }
    }

    /// Takes words up to the next option or `!`.
    pub(crate) fn skip_values(&mut self) {
        while self
            .peek()
            .is_some_and(|word| !word.is_option() && !word.is("!"))
        {
            self.at += 1;
        }
    }
}

/// The value, or an error at its word.
pub(crate) fn parsed<T>(word: &Word, what: &str, value: Option<T>) -> Result<T, Diagnostic> {
    value.ok_or_else(|| word.place.error(format!("`{}` is not {what}", word.text)))
}

/// A number or a range `low:high`, with the ends' limits where one is left out.
pub(crate) fn range<T: Copy + PartialOrd>(
    text: &str,
    separator: char,
    limits: (T, T),
    parse: impl Fn(&str) -> Option<T>,
) -> Option<(T, T)> {
    match text.split_once(separator) {
        None => parse(text).map(|value| (value, value)),
        Some((low, high)) => {
            let end = |text: &str, limit| match text {
                "" => Some(limit),
                text => parse(text),
            };
            let (low, high) = (end(low, limits.0)?, end(high, limits.1)?);
            (low <= high).then_some((low, high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_blanks_and_columns_count_characters() {
        let words = split(&"f".into(), 3, r#"  -j LOG --log-prefix "no \"x\" y" 'z '"#).unwrap();
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(texts, ["-j", "LOG", "--log-prefix", "no \"x\" y", "z "]);
        assert_eq!(words[0].place, Place::new("f", 3, 3));
        assert_eq!(words[3].shown(), r#""no \"x\" y""#);
    }

    #[test]
    fn an_open_quote_is_an_error_at_its_place() {
        let error = split(&"f".into(), 1, "-j \"x").unwrap_err();
        assert_eq!(error.to_string(), "f:1:4: the quote is never closed");
    }

    #[test]
    fn ranges_may_lack_an_end() {
        let parse = |text: &str| text.parse::<u16>().ok();
        let limits = (0, u16::MAX);
        assert_eq!(range("5:", ':', limits, parse), Some((5, 65535)));
        assert_eq!(range(":5", ':', limits, parse), Some((0, 5)));
        assert_eq!(range("6:5", ':', limits, parse), None);
        assert_eq!(range("5", ':', limits, parse), Some((5, 5)));
    }
}
