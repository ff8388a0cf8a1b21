//! libvirt's network filters: reading them, and compiling them as libvirt does.

mod binding;
mod document;
mod ebiptables;
mod element;
mod enforce;
mod instance;
mod learner;
mod nftables;
mod reach;
mod value;
mod variable;

pub use binding::{Binding, read_bindings};
pub use document::{Act, Entry, Filter, Library, Match, Reference, Sense, XmlRule};
pub use element::Kind;
pub use enforce::{
    Enforced, Installed, InstalledRule, Learned, TABLE, Tracking, enforce, port_of,
    script_of_removal, table_name,
};
pub use instance::{Backend, Compiled, Learning, compile};
pub use learner::{Learner, News};
pub use reach::{Reached, reach};
pub use variable::{Access, Parameters};

use crate::diagnostic::{Diagnostic, Place};

/// A parsed XML text that knows places.
pub(crate) struct Xml<'t> {
    file: &'t str,
    pub(crate) document: roxmltree::Document<'t>,
    places: Places,
}

/// Bytes between two counts of characters.
const STRIDE: usize = 256;

/// Finds lines and columns without walking through the text each time: a document may have a hundred
/// thousand elements, all on one line.
struct Places {
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// Characters before every [`STRIDE`]th byte.
    characters: Vec<usize>,
}

impl Places {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let breaks = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let mut characters = vec![0];
        for piece in bytes.chunks(STRIDE) {
            let before = characters.last().copied().unwrap_or_default();
            characters.push(before + Self::count(piece));
        }
        Self {
            lines: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
            characters,
        }
    }

    /// Characters that begin in these bytes.
    fn count(bytes: &[u8]) -> usize {
        bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
    }

    /// Line and column, from 1, of an offset in the text.
    fn find(&self, text: &str, offset: usize) -> (u32, u32) {
        let offset = offset.min(text.len());
        let line = self.lines.partition_point(|&start| start <= offset);
        let start = self.lines[line - 1];
        let before = |offset: usize| {
            let full = offset / STRIDE;
            self.characters[full] + Self::count(&text.as_bytes()[full * STRIDE..offset])
        };
        let column = before(offset) - before(start) + 1;
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (short(line), short(column))
    }
}

impl<'t> Xml<'t> {
    pub(crate) fn parse(file: &'t str, text: &'t str) -> Result<Self, Diagnostic> {
        crate::diagnostic::within_limit(file, text)?;
        let options = roxmltree::ParsingOptions {
            allow_dtd: false,
            nodes_limit: 4_000_000,
            ..roxmltree::ParsingOptions::default()
        };
        let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| {
            let at = error.pos();
            let text = error.to_string();
            let text = text.split(" at ").next().unwrap_or_default();
            Place::new(file, at.row, at.col).error(format!("not well-formed XML: {text}"))
        })?;
        Ok(Self {
            file,
            document,
            places: Places::new(text),
        })
    }

    fn place(&self, node: roxmltree::Node<'_, '_>) -> Place {
        self.at(node.range().start)
    }

    fn at(&self, offset: usize) -> Place {
        let (line, column) = self.places.find(self.document.input_text(), offset);
        Place::new(self.file, line, column)
    }

    fn attribute_place(&self, attribute: &roxmltree::Attribute<'_, '_>) -> Place {
        self.at(attribute.range().start)
    }

    /// The attribute, or an error at the element.
    fn required<'n>(
        &self,
        node: roxmltree::Node<'n, '_>,
        name: &str,
    ) -> Result<&'n str, Diagnostic> {
        node.attribute(name).ok_or_else(|| {
            let element = node.tag_name().name();
            self.place(node)
                .error(format!("<{element}> needs the attribute `{name}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_walking_through_the_text_finds() {
        let text = format!(
            "<a>\n{}\n\r\n<b é='ü'/>{}<c/></a>",
            "<x/>é".repeat(300),
            "äö".repeat(200)
        );
        let xml = Xml::parse("f", &text).unwrap();
        for (offset, _) in text.char_indices() {
            let at = xml.document.text_pos_at(offset);
            let found = xml.places.find(&text, offset);
            assert_eq!(found, (at.row, at.col), "{offset}");
        }
    }
}
