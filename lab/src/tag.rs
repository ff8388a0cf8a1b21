//! Names of labs: tags, the namespaces of each, and which labs are up.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_linux::netns::NetNs;

use crate::error::{LabError, Result};
use crate::namespace;
use crate::topology::{Role, check_tag};

/// Name of the namespace of a part of a lab.
pub fn namespace_name(tag: &str, role: Role) -> String {
    format!("pm{tag}-{role}")
}

/// Tags of all labs that are up, sorted.
pub fn tags() -> Result<Vec<String>> {
    let mut tags: Vec<String> = NetNs::list()?
        .iter()
        .filter_map(|name| split_name(name).map(|(tag, _)| tag.to_owned()))
        .collect();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Namespaces of a lab, also of one that was only half built.
pub fn namespaces_of(tag: &str) -> Result<Vec<String>> {
    let belongs = |name: &String| split_name(name).is_some_and(|(found, _)| found == tag);
    Ok(NetNs::list()?.into_iter().filter(belongs).collect())
}

/// Tags of labs whose process ended without taking them down (killed, or aborted).
pub fn stale_tags() -> Result<Vec<String>> {
    let stale = |tag: &String| {
        tag.strip_prefix('t')
            .and_then(|rest| rest.split_once('x'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    Ok(tags()?.into_iter().filter(stale).collect())
}

/// Takes a lab down, whoever built it.
pub fn take_down(tag: &str) -> Result<()> {
    check_tag(tag)?;
    let names = namespaces_of(tag)?;
    if names.is_empty() {
        return Err(LabError::Usage(format!(
            "no lab {tag} is up; see `lab list`"
        )));
    }
    namespace::delete(&names)?;
    remove_directories(tag);
    // What a director that was killed left pinned; its links went with the interfaces.
    match std::fs::remove_dir_all(pin_dir(tag)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LabError::io(format!(
            "cannot remove {}",
            pin_dir(tag).display()
        ))(error)),
        _ => Ok(()),
    }
}

/// Directory of the pins of a lab's director.
pub fn pin_dir(tag: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/pm-{tag}"))
}

/// What the names of a lab's directories of sockets and logs begin with.
pub(crate) fn directory_prefix(tag: &str) -> String {
    format!("pm-{tag}-")
}

/// Removes a lab's directories of sockets, logs and files, also those that a killed director left.
pub(crate) fn remove_directories(tag: &str) {
    let prefix = directory_prefix(tag);
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // Only files of ours; what can't be removed is in nobody's way.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Parts of fault labs that other labs do not have.
const FAULT_PARTS: [&str; 7] = [
    "gateway", "host", "host1", "host2", "firewall", "stray", "nested",
];

fn split_name(name: &str) -> Option<(&str, &str)> {
    let (tag, role) = name.strip_prefix("pm")?.split_once('-')?;
    let server = |role: &str| {
        role.strip_prefix("rs")
            .is_some_and(|n| n.parse::<u8>().is_ok())
    };
    let known = ["switch", "client", "director", "backup", "router"].contains(&role)
        || FAULT_PARTS.contains(&role)
        || server(role);
    (check_tag(tag).is_ok() && known).then_some((tag, role))
}

/// A tag that names this process, so that leftovers of a killed one are known for what they are.
pub(crate) fn fresh_tag() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "t{}x{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_are_taken_for_labs() {
        assert_eq!(split_name("pma1-client"), Some(("a1", "client")));
        assert_eq!(split_name("pma1-rs12"), Some(("a1", "rs12")));
        for other in [
            "pma1",
            "pm-client",
            "pma1-web",
            "xpma1-client",
            "pmA-client",
            "pma-rs",
        ] {
            assert_eq!(split_name(other), None, "{other}");
        }
    }
}
