//! A configuration as statements within statements.

use super::diagnostic::{Diagnostic, Severity};

/// What a configuration says, all files together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Names of the files, the main one first.
    pub files: Vec<String>,
    /// The statements outside of all blocks.
    pub statements: Vec<Statement>,
}

/// A keyword, what follows it on the line, and its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The words, at least one.
    pub words: Vec<Word>,
    /// What stands between its braces, if it has any.
    pub block: Option<Vec<Statement>>,
}

/// A word, quotes and escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub text: String,
    /// True when some of it stood in quotes.
    pub quoted: bool,
    /// Where it stands.
    pub place: Place,
}

/// A place in a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Position in [`Document::files`].
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Statement {
    /// The keyword.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }
}

impl Document {
    /// A diagnostic about a place.
    pub fn diagnostic(&self, severity: Severity, place: Place, text: String) -> Diagnostic {
        let file = self.files.get(place.file as usize);
        Diagnostic {
            severity,
            file: file.cloned().unwrap_or_default(),
            line: place.line,
            column: place.column,
            text,
        }
    }
}

/// Puts words into statements, statements into blocks.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The statements of each open block, the outermost first, and where it was opened.
    open: Vec<(Vec<Statement>, Place)>,
    outermost: Vec<Statement>,
}

impl Builder {
    /// Takes a line's words; the errors say which brace is wrong.
    pub(super) fn line(&mut self, words: Vec<Word>) -> Vec<(Place, &'static str)> {
        let mut errors = Vec::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let place = word.place;
            match word.text.as_str() {
                "{" if !word.quoted => match self.statements().last() {
                    Some(statement) if statement.block.is_none() => {
                        self.open.push((Vec::new(), place));
                    }
                    _ => {
                        errors.push((place, "`{` without a keyword before it"));
                        // What it holds belongs to nothing, but ends somewhere.
                        self.statements().push(Statement {
                            words: vec![word],
                            block: None,
                        });
                        self.open.push((Vec::new(), place));
                    }
                },
                "}" if !word.quoted => match self.open.pop() {
                    Some((block, _)) => self.close(block),
                    None => errors.push((place, "`}` without a `{` before it")),
                },
                _ => {
                    let is_brace = |word: &Word| !word.quoted && matches!(&*word.text, "{" | "}");
                    let mut all = vec![word];
                    while let Some(word) = words.next_if(|word| !is_brace(word)) {
                        all.push(word);
                    }
                    self.statements().push(Statement {
                        words: all,
                        block: None,
                    });
                }
            }
        }
        errors
    }

    /// The statements, and where blocks begin that don't end.
    pub(super) fn finish(mut self) -> (Vec<Statement>, Vec<Place>) {
        let mut unclosed = Vec::new();
        while let Some((block, place)) = self.open.pop() {
            unclosed.push(place);
            self.close(block);
        }
        unclosed.reverse();
        (self.outermost, unclosed)
    }

    fn close(&mut self, block: Vec<Statement>) {
        if let Some(statement) = self.statements().last_mut() {
            statement.block = Some(block);
        }
    }

    fn statements(&mut self) -> &mut Vec<Statement> {
        match self.open.last_mut() {
            Some((statements, _)) => statements,
            None => &mut self.outermost,
        }
    }
}
