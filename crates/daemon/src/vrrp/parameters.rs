//! Kernel parameters that virtual routers want otherwise, and that are put back.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_linux::sysctl;

/// What was changed, as it was.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    changed: BTreeMap<String, String>,
}

impl Parameters {
    /// Has addresses of these interfaces stay though the first one of their network goes, and puts those of
    /// others back as they were.
    pub(super) fn promote_secondaries(&mut self, interfaces: &BTreeSet<&str>) {
        let wanted: BTreeSet<String> = interfaces.iter().map(|name| promotion(name)).collect();
        let gone = self.changed.keys().filter(|key| !wanted.contains(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            if let Some(before) = self.changed.remove(&key) {
                // The interface may be gone.
                let _ = sysctl::write(&key, &before);
            }
        }
        for key in wanted {
            match sysctl::read(&key) {
                Ok(before) if before != "1" => match sysctl::write(&key, "1") {
                    Ok(()) => {
                        self.changed.entry(key).or_insert(before);
                    }
                    Err(error) => tracing::error!(%error, "promote_secondaries"),
                },
                // Without the interface it is done when that comes.
                _ => {}
            }
        }
    }

    /// Takes over what an earlier daemon changed: true when it is one of these.
    pub(super) fn inherit(&mut self, key: &str, before: &str) -> bool {
        let ours = key.ends_with("/promote_secondaries");
        if ours {
            self.changed.insert(key.to_owned(), before.to_owned());
        }
        ours
    }

    /// What was changed, as it was.
    pub(super) fn changed(&self) -> &BTreeMap<String, String> {
        &self.changed
    }
}

fn promotion(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/promote_secondaries")
}
