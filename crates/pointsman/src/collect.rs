//! `pointsman collect`: what is set up on hosts, guests and namespaces, as a bundle of snapshots.

mod node;
mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use pointsman_config::ipvsadm::{Numeric, endpoint};
use pointsman_path::bundle::{self, Bundle};
use pointsman_path::question::Wish;
use pointsman_path::redact;

pub(crate) use node::{Node, NodeFlags};

pub(crate) const LONG_ABOUT: &str = "\
Write down how hosts, guests and namespaces are set up, as one bundle of JSON

Links, bridges, addresses, routes, neighbours, kernel parameters, packet-filter rules with counters, \
sockets, libvirt's filters, virtual services: read by programs that change nothing (`ip`, `bridge`, \
`nft`, `iptables-save`, ...). What can't be read is in the bundle with the reason. Of libvirt's domains \
only the interfaces are kept, of command lines only what is known to be harmless.

Without --netns and --host it is this host that is described. Exit code 1 if a node could not be reached.

    pointsman collect --netns 'pmdemo-*' --out demo.json
    pointsman collect --here --host root@rs1 --vip 192.0.2.208:80 --redact --out bundle.json";

#[derive(Debug, Args)]
pub(crate) struct CollectFlags {
    #[command(flatten)]
    nodes: NodeFlags,
    /// The virtual service, for its tracked connections
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address)]
    vip: Option<IpAddr>,
    /// Where to write: a file, or a folder (with / at its end) for one file for each node [default:
    /// standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace names of hosts and guests, MAC addresses and public addresses by pseudonyms: the same
    /// for the same, so that it can still be reasoned about. Comments of rules stay
    #[arg(long)]
    redact: bool,
}

pub(crate) fn run(flags: &CollectFlags) -> Result<ExitCode> {
    let wish = Wish {
        address: flags.vip,
        ..Wish::default()
    };
    let nodes = flags.nodes.nodes()?.into_iter().map(|node| (node, None));
    let (mut bundle, unreached) = collect(&flags.nodes, nodes.collect(), &wish);
    for failure in &unreached {
        eprintln!("pointsman: {failure}");
    }
    for snapshot in &bundle.nodes {
        eprintln!("{}: {} parts", snapshot.node, snapshot.parts.len());
        for gap in &snapshot.gaps {
            eprintln!(
                "  not {}: {} ({})",
                gap.part.name(),
                gap.because,
                gap.command
            );
        }
    }
    if flags.redact {
        bundle = redact::redact(&bundle, key().context("cannot read /dev/urandom")?)?;
    }
    match &flags.out {
        None => std::io::stdout().write_all(bundle.write().as_bytes())?,
        Some(path) if path.is_dir() || path.to_string_lossy().ends_with('/') => {
            write_folder(path, &bundle)?;
        }
        Some(path) => write(path, bundle.write().as_bytes())?,
    }
    Ok(ExitCode::from(u8::from(!unreached.is_empty())))
}

/// Asks all nodes at once, each with the name that it shall have if it is not its own: their snapshots,
/// and why some are missing.
pub(crate) fn collect(
    flags: &NodeFlags,
    nodes: Vec<(Node, Option<String>)>,
    wish: &Wish,
) -> (Bundle, Vec<String>) {
    let collected: Vec<_> = thread::scope(|scope| {
        let begin = |(node, name): &(Node, Option<String>)| {
            let (node, name) = (node.clone(), name.clone());
            scope.spawn(move || {
                let mut collected = flags.collect(&node, wish);
                if let (Ok(snapshot), Some(name)) = (&mut collected, name) {
                    snapshot.node = name;
                }
                (node, collected)
            })
        };
        let threads: Vec<_> = nodes.iter().map(begin).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let mut bundle = Bundle::default();
    let mut unreached = Vec::new();
    for (node, collected) in collected {
        match collected {
            Ok(mut snapshot) => {
                // Hosts may be called alike.
                let mut number = 1;
                while bundle.node(&snapshot.node).is_some() {
                    number += 1;
                    let name = snapshot
                        .node
                        .rsplit_once('#')
                        .map_or(&*snapshot.node, |(name, _)| name);
                    snapshot.node = format!("{name}#{number}");
                }
                bundle.nodes.push(snapshot);
            }
            Err(error) => unreached.push(match node {
                node::Node::Netns(name) => format!("namespace {name}: {error:#}"),
                _ => format!("{error:#}"),
            }),
        }
    }
    (bundle, unreached)
}

/// Reads bundles: files, or folders of them.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Bundle> {
    let mut bundle = Bundle::default();
    for path in paths {
        let mut files = vec![path.clone()];
        if path.is_dir() {
            let listed = || -> std::io::Result<Vec<PathBuf>> {
                fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
            };
            files = listed().with_context(|| path.display().to_string())?;
            files.retain(|file| {
                file.extension()
                    .is_some_and(|end| end == "json" || end == "tar")
            });
            files.sort();
            if files.is_empty() {
                anyhow::bail!("{}: no file *.json or *.tar in it", path.display());
            }
        }
        for file in files {
            let name = || file.display().to_string();
            let mut bytes = Vec::new();
            let open = fs::File::open(&file).with_context(name)?;
            open.take(bundle::LIMIT as u64 + 1)
                .read_to_end(&mut bytes)
                .with_context(name)?;
            bundle
                .nodes
                .extend(Bundle::read(&bytes).with_context(name)?.nodes);
        }
    }
    Ok(bundle)
}

fn write_folder(folder: &Path, bundle: &Bundle) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for snapshot in &bundle.nodes {
        // Names come from elsewhere and must not lead elsewhere.
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '_'
            }
        };
        let name: String = snapshot.node.chars().map(plain).collect();
        let text = serde_json::to_string_pretty(snapshot)? + "\n";
        write(&folder.join(name + ".json"), text.as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What decides which pseudonyms.
pub(crate) fn key() -> std::io::Result<u128> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// The address of `ADDR[:PORT]`.
fn address(text: &str) -> Result<IpAddr, String> {
    endpoint::parse(text, None, &Numeric)
        .map(|endpoint| endpoint.address)
        .ok_or_else(|| {
            "write an address, or address and port, as in 192.0.2.1:80 or [2001:db8::1]:80"
                .to_owned()
        })
}
