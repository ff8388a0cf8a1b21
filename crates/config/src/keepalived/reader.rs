//! Goes through a block by the table of keywords and says what is unknown, unsupported or wrong.

use super::diagnostic::{Diagnostic, Severity};
use super::document::{Document, Place, Statement};
use super::keywords::{self, Arguments, Block, Keyword, Status};
use super::values::{self, Fault, Value};

/// A statement that the table knows, and what stands behind its keyword.
pub(super) struct Entry<'a> {
    pub(super) keyword: &'static Keyword,
    pub(super) value: Value<'a>,
    pub(super) place: Place,
}

/// Reads blocks, and keeps what there is to say about them.
pub(super) struct Reader<'a> {
    document: &'a Document,
    diagnostics: Vec<Diagnostic>,
    /// More than 0 within a block that is unsupported as a whole, which was said once.
    within_unsupported: u32,
}

/// Diagnostics kept: who needs more has seen enough.
const DIAGNOSTICS: usize = 10_000;

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self {
            document,
            diagnostics: Vec::new(),
            within_unsupported: 0,
        }
    }

    /// What there is to say, in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by(|a, b| {
            let file = |d: &Diagnostic| self.document.files.iter().position(|f| *f == d.file);
            (file(a), a.line, a.column).cmp(&(file(b), b.line, b.column))
        });
        self.diagnostics.dedup();
        self.diagnostics
    }

    /// The statements of a block that the table knows; the others are reported.
    pub(super) fn entries<'s>(
        &mut self,
        block: Block,
        statements: &'s [Statement],
    ) -> Vec<Entry<'s>> {
        let mut entries = Vec::new();
        for statement in statements {
            let Some(word) = statement.words.first() else {
                continue;
            };
            let place = word.place;
            let Some(keyword) = keywords::find(block, &word.text) else {
                self.error(place, unknown(block, &word.text));
                continue;
            };
            let value = match values::read(keyword.arguments, statement) {
                Ok((value, rest)) => {
                    if let Some(word) = rest.first() {
                        let text = format!("`{}` behind `{}` is ignored", word.text, keyword.name);
                        self.warning(word.place, text);
                    }
                    value
                }
                Err(fault) => {
                    self.fault(fault);
                    continue;
                }
            };
            self.status(keyword, value, place);
            if let (Status::Unsupported(_), Arguments::Block(inner) | Arguments::Named(inner)) =
                (keyword.status, keyword.arguments)
                && let Value::Block(_, statements) = value
            {
                // It is checked all the same: keepalived would.
                self.within_unsupported += 1;
                self.entries(inner, statements);
                self.within_unsupported -= 1;
            }
            entries.push(Entry {
                keyword,
                value,
                place,
            });
        }
        entries
    }

    fn status(&mut self, keyword: &Keyword, value: Value<'_>, place: Place) {
        let name = keyword.name;
        match keyword.status {
            // What is switched off is as it would be anyway.
            Status::Unsupported(_) if value == Value::Switch(false) => {}
            Status::Unsupported(_) if self.within_unsupported > 0 => {}
            Status::Unsupported(loss) => {
                self.report(Severity::Unsupported, place, format!("`{name}`: {loss}"));
            }
            Status::NoEffect(why) => {
                self.report(
                    Severity::Note,
                    place,
                    format!("`{name}` has no effect: {why}"),
                );
            }
            Status::Own => {
                let text = format!(
                    "`{name}` is not keepalived's, which would name this line and leave it out"
                );
                self.report(Severity::Note, place, text);
            }
            Status::Supported => {}
        }
    }

    pub(super) fn fault(&mut self, (place, text): Fault) {
        self.error(place, text);
    }

    pub(super) fn error(&mut self, place: Place, text: String) {
        self.report(Severity::Error, place, text);
    }

    pub(super) fn unsupported(&mut self, place: Place, text: String) {
        self.report(Severity::Unsupported, place, text);
    }

    pub(super) fn warning(&mut self, place: Place, text: String) {
        self.report(Severity::Warning, place, text);
    }

    fn report(&mut self, severity: Severity, place: Place, text: String) {
        if self.diagnostics.len() < DIAGNOSTICS {
            let diagnostic = self.document.diagnostic(severity, place, text);
            self.diagnostics.push(diagnostic);
        }
    }
}

/// What to say about a word that the block does not know.
fn unknown(block: Block, word: &str) -> String {
    let place = match block {
        Block::Top => "outside of all blocks".to_owned(),
        block => format!("in {}", block.name()),
    };
    let mut text = format!("unknown keyword `{word}` {place}; the line has no effect");
    let mut blocks: Vec<&str> = keywords::all()
        .filter(|keyword| keyword.name == word)
        .map(|keyword| keyword.block.name())
        .collect();
    blocks.dedup();
    if let Some((first, rest)) = blocks.split_first() {
        text += &format!(", it belongs into {first}");
        if !rest.is_empty() && rest.len() < 4 {
            text += &format!(" or {}", rest.join(" or "));
        }
    } else if let Some(near) = keywords::all()
        .filter(|keyword| keyword.block == block)
        .map(|keyword| keyword.name)
        .find(|name| is_near(name, word))
    {
        text += &format!("; is it `{near}`?");
    }
    text
}

/// True when two words differ in one letter, or in the order of two.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    match one.len().abs_diff(other.len()) {
        0 if one.len() > 1 && one[0] == other[1] && one[1] == other[0] => one[2..] == other[2..],
        0 => one.get(1..) == other.get(1..),
        1 if one.len() > other.len() => one[1..] == *other,
        1 => *one == other[1..],
        _ => false,
    }
}
