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
        Ok(Self { file, document })
    }

    fn place(&self, node: roxmltree::Node<'_, '_>) -> Place {
        let at = self.document.text_pos_at(node.range().start);
        Place::new(self.file, at.row, at.col)
    }

    fn attribute_place(&self, attribute: &roxmltree::Attribute<'_, '_>) -> Place {
        let at = self.document.text_pos_at(attribute.range().start);
        Place::new(self.file, at.row, at.col)
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
