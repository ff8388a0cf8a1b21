//! Dependencies point down only, and pure crates touch nothing.

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The layers, lowest first: a crate depends on lower ones only.
const LAYERS: &[&[&str]] = &[
    &["pointsman-wire"],
    &["pointsman-director", "pointsman-filter", "pointsman-ha"],
    &[
        "pointsman-config",
        "pointsman-linux",
        "pointsman-datapath-ebpf",
        "xtask",
    ],
    &["pointsman-datapath", "pointsman-path"],
    &["pointsman-daemon"],
    &["pointsman-lab"],
    &["pointsman"],
];

/// Crates without clock, socket, thread or kernel.
const PURE: &[&str] = &[
    "pointsman-wire",
    "pointsman-director",
    "pointsman-filter",
    "pointsman-ha",
    "pointsman-config",
    "pointsman-path",
];

/// What a pure crate does not depend on, by any way.
const IMPURE: &[&str] = &[
    "aya",
    "hyper",
    "libc",
    "mio",
    "netlink-sys",
    "nix",
    "rustix",
    "socket2",
    "tokio",
    "tracing",
];

/// Checks every crate of the workspace.
pub(crate) fn check() -> Result<()> {
    let output = workspace::cargo()
        .args(["tree", "--workspace", "--edges", "normal", "--all-features"])
        .args(["--target", "all", "--prefix", "depth", "--no-dedupe"])
        .args(["--format", " {p}"])
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    let faults = faults(&String::from_utf8_lossy(&output.stdout));
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "dependencies that the layers forbid:\n  {}",
        faults.join("\n  ")
    )
}

/// What is wrong in the output of cargo tree: lines of depth, name, version.
fn faults(tree: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut member = "";
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        if depth == "0" {
            member = name;
            if layer(member).is_none() {
                faults.push(format!("{member} has no layer: see xtask/src/layers.rs"));
            }
            continue;
        }
        if depth == "1"
            && let (Some(own), Some(other)) = (layer(member), layer(name))
            && own <= other
        {
            faults.push(format!("{member} depends on {name}, which is not below it"));
        }
        if PURE.contains(&member) && IMPURE.contains(&name) {
            let fault = format!("{member} is pure and depends on {name}");
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    faults
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_downwards_are_in_order() {
        let tree = "0 pointsman v0.1.0 (/p)\n1 pointsman-daemon v0.1.0 (/d)\n2 tokio v1.0.0\n\n\
                    0 pointsman-wire v0.1.0 (/w)\n1 zerocopy v0.8.0\n";
        assert_eq!(faults(tree), [""; 0]);
    }

    #[test]
    fn a_dependency_upwards_or_sideways_is_a_fault() {
        for (own, other) in [
            ("pointsman-wire", "pointsman-director"),
            ("pointsman-config", "pointsman-linux"),
            ("pointsman-datapath", "pointsman-daemon"),
        ] {
            let tree = format!("0 {own} v0.1.0 (/a)\n1 {other} v0.1.0 (/b)\n");
            let found = faults(&tree);
            assert!(
                found.iter().any(|f| f.contains("not below")),
                "{own} {other}: {found:?}"
            );
        }
    }

    #[test]
    fn a_pure_crate_stays_pure_at_any_depth() {
        let tree = "0 pointsman-config v0.1.0 (/c)\n1 serde v1\n2 libc v0.2\n2 libc v0.2\n";
        assert_eq!(
            faults(tree),
            ["pointsman-config is pure and depends on libc"]
        );
    }

    #[test]
    fn a_new_crate_needs_a_layer() {
        assert_eq!(faults("0 pointsman-new v0.1.0 (/n)\n").len(), 1);
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        check().unwrap();
    }
}
