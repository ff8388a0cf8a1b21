//! The commands that make a change, and those that take it back.

use super::documents::{Document, Subject};
use crate::nwfilter::Binding;

/// Commands and what people should know before they give them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// In order; they read the files of the documents.
    pub apply: Vec<String>,
    /// In order.
    pub undo: Vec<String>,
    /// Sentences.
    pub notes: Vec<String>,
}

/// For libvirt.
pub(super) fn virsh(documents: &[Document], binding: &Binding) -> Commands {
    let mut commands = Commands::default();
    let mut undo = Vec::new();
    for document in documents {
        let file = word(&document.file);
        let before = word(&document.before_file());
        match &document.subject {
            Subject::NewFilter(name) => {
                commands.apply.push(format!("virsh nwfilter-define {file}"));
                undo.push(format!("virsh nwfilter-undefine {}", word(name)));
            }
            Subject::Filter { name, has_uuid } => {
                if !has_uuid {
                    let name = word(name);
                    commands
                        .apply
                        .push(format!("virsh nwfilter-dumpxml {name} > {before}"));
                    commands.apply.push(format!(
                        "sed -i \"0,/<filter [^>]*>/s||&\\n  $(grep -o '<uuid>.*</uuid>' {before})|\" {file}"
                    ));
                    commands.notes.push(format!(
                        "The document of {name} has no uuid, and libvirt defines a filter again \
                         only with the uuid that it has: the first two commands fetch it."
                    ));
                }
                commands.apply.push(format!("virsh nwfilter-define {file}"));
                undo.push(format!("virsh nwfilter-define {before}"));
                commands.notes.push(format!(
                    "`nwfilter-define` of {name}, which is in use, renews the rules of every \
                     running port that uses it, at once."
                ));
                if name.starts_with("nova-instance-") {
                    commands.notes.push(
                        "nova writes this filter anew at spawn, hard reboot and migration: \
                         have nova know the address (allowed address pairs), or repeat this."
                            .into(),
                    );
                }
            }
            Subject::Interface => {
                let domain = word(binding.owner.as_deref().unwrap_or("DOMAIN"));
                let update = |file| format!("virsh update-device {domain} {file} --live --config");
                commands.apply.push(update(file));
                undo.push(update(before));
                commands.notes.push(
                    "`update-device` exchanges the rules while the guest runs; for one that is \
                     shut off leave out --live."
                        .into(),
                );
            }
            Subject::Binding => {
                let port = word(binding.port.as_deref().unwrap_or("PORT"));
                let renew = |file| {
                    [
                        format!("virsh nwfilter-binding-delete {port}"),
                        format!("virsh nwfilter-binding-create {file}"),
                    ]
                };
                commands.apply.extend(renew(file));
                undo.extend(renew(before).into_iter().rev());
                commands.notes.push(
                    "Between deleting and creating a binding the port has no rules: everything \
                     passes. For a guest with a domain prefer `virsh update-device`."
                        .into(),
                );
            }
        }
    }
    undo.reverse();
    commands.undo = undo;
    commands
}

/// A word for the shell.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;
    use crate::nwfilter::{Parameters, Reference};

    fn binding() -> Binding {
        Binding {
            port: Some("vnet0".into()),
            mac: "02:00:00:00:00:01".into(),
            filter: Reference {
                filter: "clean-traffic".into(),
                parameters: Parameters::new(),
                place: Place::default(),
            },
            owner: Some("web 1".into()),
            warnings: Vec::new(),
        }
    }

    fn document(subject: Subject, file: &str) -> Document {
        Document {
            subject,
            file: file.into(),
            before: Some(String::new()),
            after: String::new(),
        }
    }

    #[test]
    fn what_is_undone_is_undone_backwards() {
        let documents = [
            document(Subject::NewFilter("new".into()), "new.xml"),
            document(Subject::Interface, "web-1-interface.xml"),
        ];
        let commands = virsh(&documents, &binding());
        assert_eq!(
            commands.apply,
            [
                "virsh nwfilter-define new.xml",
                "virsh update-device 'web 1' web-1-interface.xml --live --config"
            ]
        );
        assert_eq!(
            commands.undo,
            [
                "virsh update-device 'web 1' web-1-interface.before.xml --live --config",
                "virsh nwfilter-undefine new"
            ]
        );
    }

    #[test]
    fn a_binding_is_made_again() {
        let documents = [document(Subject::Binding, "vnet0-binding.xml")];
        let commands = virsh(&documents, &binding());
        assert_eq!(
            commands.undo,
            [
                "virsh nwfilter-binding-delete vnet0",
                "virsh nwfilter-binding-create vnet0-binding.before.xml"
            ]
        );
    }
}
