//! A change as XML documents: filters that are new or changed, and the port that refers to them.

use super::edit::{Editor, is_domain, port_text, uuid};
use super::exemption::Exemption;
use super::list::{Extension, Scope, is_guests_own};
use crate::diagnostic::Diagnostic;
use crate::nwfilter::{Binding, Library, read_bindings};

/// The document that says which filter a port has.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name, for errors.
    pub file: &'a str,
    /// A `<domain>` or a `<filterbinding>`.
    pub text: &'a str,
    /// Which of the ports with a filter, in the order of [`read_bindings`].
    pub number: usize,
}

impl Source<'_> {
    /// Whether it is a domain, not a binding.
    pub(super) fn is_domain(&self) -> bool {
        is_domain(self.text)
    }
}

/// What a document is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A filter that was not there.
    NewFilter(String),
    /// A filter that was there.
    Filter {
        /// Its name.
        name: String,
        /// Whether the document says the uuid, without which libvirt refuses to define it again.
        has_uuid: bool,
    },
    /// An interface of a domain.
    Interface,
    /// A binding.
    Binding,
}

/// A document before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is about.
    pub subject: Subject,
    /// A name for the file.
    pub file: String,
    /// Nothing if there was none.
    pub before: Option<String>,
    /// As it is to be.
    pub after: String,
}

impl Document {
    /// A name for the file with what was before.
    pub fn before_file(&self) -> String {
        let stem = self.file.strip_suffix(".xml").unwrap_or(&self.file);
        format!("{stem}.before.xml")
    }
}

/// Everything that a change is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Edits {
    pub(super) lists: Vec<Extension>,
    pub(super) rules: Vec<Exemption>,
}

impl Edits {
    pub(super) fn len(&self) -> usize {
        self.lists.len() + self.rules.len()
    }

    /// The lists that are written in a place.
    fn lists_in(&self, scope: &Scope) -> Vec<(&str, &[String])> {
        let its = self.lists.iter().filter(|list| list.scope == *scope);
        its.map(|list| (list.name.as_str(), list.values.as_slice()))
            .collect()
    }

    /// The same without the edit with this number.
    pub(super) fn without(&self, number: usize) -> Self {
        let mut less = self.clone();
        if number < less.lists.len() {
            less.lists.remove(number);
        } else {
            less.rules.remove(number - self.lists.len());
        }
        less
    }
}

/// A change written out, and read again: what is judged is what is written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) documents: Vec<Document>,
    pub(super) library: Library,
    pub(super) binding: Binding,
}

/// Writes a change.
pub(super) fn write(
    library: &Library,
    binding: &Binding,
    source: &Source<'_>,
    role: &str,
    edits: &Edits,
) -> Result<Written, Diagnostic> {
    let mut new_library = library.clone();
    let mut documents = Vec::new();
    let top = binding.filter.filter.as_str();
    // Filters that hold values for the port, hence are the guest's own.
    let mut changed: Vec<&str> = Vec::new();
    for extension in &edits.lists {
        if let Scope::Reference(filter, _) = &extension.scope
            && !changed.contains(&filter.as_str())
        {
            changed.push(filter);
        }
    }
    let is_own = is_guests_own(top);
    if is_own && !edits.rules.is_empty() && !changed.contains(&top) {
        changed.push(top);
    }
    let mut rules: Vec<String> = Vec::new();
    for (at, rule) in edits.rules.iter().enumerate() {
        // What several rules are for is said once.
        let before = at.checked_sub(1).map(|before| &edits.rules[before].purpose);
        if before != Some(&rule.purpose) {
            rules.push(rule.comment());
        }
        rules.push(rule.xml());
    }
    for name in changed {
        let Some(filter) = library.get(name) else {
            continue;
        };
        let mut editor = Editor::new(&filter.place.file, &filter.text)?;
        let mut numbers: Vec<usize> = Vec::new();
        for extension in &edits.lists {
            if let Scope::Reference(of, number) = &extension.scope
                && of == name
                && !numbers.contains(number)
            {
                numbers.push(*number);
            }
        }
        for number in numbers {
            let scope = Scope::Reference(name.to_owned(), number);
            editor.add_to_reference(number, &edits.lists_in(&scope));
        }
        if is_own && name == top && !rules.is_empty() {
            editor.add_to_filter(&rules);
        }
        let after = editor.finish();
        new_library.add(name, &after)?;
        documents.push(Document {
            subject: Subject::Filter {
                name: name.to_owned(),
                has_uuid: uuid(&filter.text).is_some(),
            },
            file: format!("{}.xml", file_name(name)),
            before: Some(with_end(&filter.text)),
            after: with_end(&after),
        });
    }
    let mut port = Editor::new(source.file, source.text)?;
    let mut port_changed = false;
    let lists = edits.lists_in(&Scope::Port);
    if !lists.is_empty() {
        port.add_to_port(source.number, &lists);
        port_changed = true;
    }
    if !is_own && !rules.is_empty() {
        let name = new_name(library, source, binding, role);
        let text = wrapper(&name, top, &rules);
        new_library.add(&name, &text)?;
        port.refer(source.number, &name);
        port_changed = true;
        documents.push(Document {
            subject: Subject::NewFilter(name.clone()),
            file: format!("{name}.xml"),
            before: None,
            after: text,
        });
    }
    let mut new_binding = binding.clone();
    if port_changed {
        let after = port.finish();
        let mut bindings = read_bindings(source.file, &after)?;
        if source.number < bindings.len() {
            new_binding = bindings.swap_remove(source.number);
        }
        let own = owner(binding);
        let (subject, file) = if source.is_domain() {
            (Subject::Interface, format!("{own}-interface.xml"))
        } else {
            let port = binding.port.as_deref().unwrap_or(&own);
            (Subject::Binding, format!("{}-binding.xml", file_name(port)))
        };
        documents.push(Document {
            subject,
            file,
            before: Some(port_text(source.file, source.text, source.number)?),
            after: port_text(source.file, &after, source.number)?,
        });
    }
    Ok(Written {
        documents,
        library: new_library,
        binding: new_binding,
    })
}

/// A filter in front of another one. Its rules stand in the root chain, where a frame that none of them
/// accepts goes on; a chain of its own would end with everything accepted on `ebtables`.
fn wrapper(name: &str, inner: &str, rules: &[String]) -> String {
    let mut text = format!(
        "<filter name='{name}' chain='root'>\n  <uuid>{}</uuid>\n",
        made_uuid(name)
    );
    for rule in rules {
        for line in rule.lines() {
            text += &format!("  {line}\n");
        }
    }
    text + &format!("  <filterref filter='{}'/>\n</filter>\n", escape(inner))
}

/// A name that no filter has.
fn new_name(library: &Library, source: &Source<'_>, binding: &Binding, role: &str) -> String {
    let mut name = format!("pointsman-{role}-{}", owner(binding));
    let ports = read_bindings(source.file, source.text).map_or(1, |bindings| bindings.len());
    if ports > 1 {
        let mac = binding.mac.replace(':', "");
        name += &format!("-{}", &mac[mac.len().saturating_sub(6)..]);
    }
    let mut free = name.clone();
    let mut number = 2;
    while library.get(&free).is_some() {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// The guest's name as part of others.
fn owner(binding: &Binding) -> String {
    let name = binding.owner.as_deref().or(binding.port.as_deref());
    file_name(name.unwrap_or("guest"))
}

/// Letters, digits, `_`, `.` and `-`; others become `-`.
fn file_name(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    text.chars()
        .map(|c| if good(c) { c } else { '-' })
        .collect()
}

/// A uuid (version 8) made of a name, so that a document can be defined again: libvirt wants the same.
fn made_uuid(name: &str) -> String {
    // FNV-1a with 128 bits.
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in name.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{hash:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&apos;")
}

fn with_end(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_uuid() {
        let uuid = made_uuid("pointsman-dr-director");
        assert_eq!(uuid, made_uuid("pointsman-dr-director"));
        assert_ne!(uuid, made_uuid("pointsman-dr-directos"));
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "8");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }

    #[test]
    fn names_of_guests_become_names_of_files() {
        assert_eq!(file_name("web 1/ä"), "web-1--");
    }
}
