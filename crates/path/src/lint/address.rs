//! Words and commands about addresses and kernel parameters that several checks use.

use crate::finding::Finding;
use crate::remote::quoted;
use crate::snapshot::Snapshot;

/// `net.ipv4.conf.eth0/7.rp_filter` of a path below `/proc/sys`.
fn key(path: &str) -> String {
    let mut key = String::with_capacity(path.len());
    for character in path.chars() {
        key.push(match character {
            '/' => '.',
            '.' => '/',
            other => other,
        });
    }
    key
}

/// The command that shows a kernel parameter.
pub(super) fn show(path: &str) -> String {
    format!("sysctl {}", quoted(&key(path)))
}

/// Adds a fix that sets a kernel parameter, with the old value as its undo.
pub(super) fn set(
    finding: Finding,
    node: &Snapshot,
    path: &str,
    value: i64,
    words: &str,
) -> Finding {
    let old = node.number(path).unwrap_or_default();
    let name = key(path);
    finding.mended_by(
        words,
        [format!("sysctl -w {}", quoted(&format!("{name}={value}")))],
        [format!("sysctl -w {}", quoted(&format!("{name}={old}")))],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_names_become_slashes() {
        assert_eq!(
            show("net/ipv4/conf/eth0.7/rp_filter"),
            "sysctl net.ipv4.conf.eth0/7.rp_filter"
        );
    }
}
