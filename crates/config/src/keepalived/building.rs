//! From statements to what they mean.

mod address_line;
mod bfd;
mod checker;
mod elsewhere;
mod files;
mod global;
mod host;
mod host_words;
mod instance;
mod mail;
mod method;
mod route_line;
mod rule_line;
mod service;
mod service_group;
mod settling;
mod strictness;
mod sync_group;
mod synchronisation;
mod tls;
mod tracking;
mod verification;
mod virtual_mac;

use super::diagnostic::Diagnostic;
use super::document::{Document, Place, Statement, Word};
use super::expansion::{Environment, read};
use super::keywords::Block;
use super::model::{Configuration, Places};
use super::reader::Reader;
use super::suspicion;
use super::values::Value;

/// Says what a configuration means. What is wrong or not done is left out, and said.
///
/// Diagnostics come in the order of the text.
pub fn build(document: &Document) -> (Configuration, Vec<Diagnostic>) {
    let mut reader = Reader::new(document);
    let mut configuration = Configuration::default();
    let entries = reader.entries(Block::Top, &document.statements);
    // Keepalived reads in order, too, but settles what depends on `global_defs` at the end.
    for entry in &entries {
        if let ("global_defs", Value::Block(_, block)) = (entry.keyword.name, entry.value) {
            global::read(&mut reader, &mut configuration.global, block);
        }
    }
    let mut preferences = rule_line::Preferences::default();
    for entry in &entries {
        let Value::Block(words, block) = entry.value else {
            continue;
        };
        let at = Opened {
            words,
            block,
            place: entry.place,
        };
        match entry.keyword.name {
            keyword @ ("static_ipaddress" | "static_routes" | "static_rules") => {
                host::read(
                    &mut reader,
                    &mut configuration,
                    &mut preferences,
                    keyword,
                    block,
                );
            }
            "track_group" => host::group(&mut reader, &mut configuration, at),
            "vrrp_instance" => {
                instance::read(&mut reader, &mut configuration, &mut preferences, at);
            }
            "vrrp_sync_group" => sync_group::read(&mut reader, &mut configuration, at),
            "vrrp_script" => tracking::script(&mut reader, &mut configuration, at),
            "track_file" | "vrrp_track_file" => {
                tracking::file(&mut reader, &mut configuration, at);
            }
            "vrrp_track_process" => tracking::process(&mut reader, &mut configuration, at),
            "bfd_instance" => bfd::read(&mut reader, &mut configuration, at),
            "garp_group" => tracking::garp_group(&mut reader, &mut configuration, at),
            "virtual_server_group" => service_group::read(&mut reader, &mut configuration, at),
            "virtual_server" => service::read(&mut reader, &mut configuration, at),
            "SSL" => tls::read(&mut reader, &mut configuration, at),
            _ => {}
        }
    }
    synchronisation::settle(&mut reader, &mut configuration);
    suspicion::check(&mut reader, &mut configuration);
    mail::check(&mut reader, &configuration);
    (configuration, reader.finish())
}

/// Reads a text and says what it means: [`read`], then [`build`].
pub fn configure(
    name: &str,
    text: &str,
    id: &str,
    environment: &mut dyn Environment,
) -> (Configuration, Document, Vec<Diagnostic>) {
    let (document, mut diagnostics) = read(name, text, id, environment);
    let (configuration, more) = build(&document);
    diagnostics.extend(more);
    diagnostics.sort_by(|a, b| {
        let file = |d: &Diagnostic| document.files.iter().position(|f| *f == d.file);
        (file(a), a.line, a.column).cmp(&(file(b), b.line, b.column))
    });
    (configuration, document, diagnostics)
}

/// A block with what stands before it.
#[derive(Clone, Copy)]
struct Opened<'a> {
    words: &'a [Word],
    block: &'a [Statement],
    place: Place,
}

impl Opened<'_> {
    /// Its name: the first word.
    fn name(&self) -> String {
        self.words
            .first()
            .map_or_else(String::new, |w| w.text.clone())
    }

    fn places(&self) -> Places {
        Places::new(self.place)
    }
}

/// Says when a name is taken; keepalived ignores the second one, or mixes them.
fn is_new<'a>(
    reader: &mut Reader<'_>,
    kind: &str,
    at: Opened<'_>,
    mut names: impl Iterator<Item = &'a str>,
) -> bool {
    let name = at.name();
    let taken = names.any(|other| other == name);
    if taken {
        reader.error(
            at.place,
            format!("{kind} `{name}` is there already; this one is left out"),
        );
    }
    !taken
}

/// The first words of a block's lines, for blocks that list names.
fn names(block: &[Statement]) -> impl Iterator<Item = &Word> {
    block.iter().flat_map(|statement| &statement.words)
}

/// A number of the table's range, which fits.
fn small<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}
