//! Several snapshots in one: JSON, or a tar archive of snapshots.

use serde::Serialize;
use serde_json::Value;

use crate::snapshot::{Snapshot, SnapshotError};

/// What a bundle says it is.
pub const SCHEMA: &str = "pointsman.bundle/1";
/// The name of the format, without its number.
const FORMAT: &str = "pointsman.bundle/";
/// Bytes of the largest bundle that is read.
pub const LIMIT: usize = 256 << 20;
/// How many nodes a bundle may have.
pub const NODES: usize = 1024;

/// Why something is no [`Bundle`].
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Too large.
    #[error("{size} bytes are more than the {LIMIT} that a bundle may have")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// Too many nodes.
    #[error("more than the {NODES} nodes that a bundle may have")]
    TooMany,
    /// No JSON.
    #[error("damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// Neither a bundle nor a snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A part is no snapshot.
    #[error("{name}: {source}")]
    Part {
        /// Its place or name.
        name: String,
        /// What is wrong.
        source: SnapshotError,
    },
    /// Of a later version.
    #[error("of schema {found}, and this program reads up to {SCHEMA}: use a newer program")]
    TooNew {
        /// What it says it is.
        found: String,
    },
    /// The archive breaks off or is damaged.
    #[error("damaged archive at byte {offset}: {what}")]
    Archive {
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Nothing in it.
    #[error("no snapshot in it")]
    Empty,
}

/// Snapshots of several nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bundle {
    /// One for each node.
    pub nodes: Vec<Snapshot>,
}

/// How a bundle is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    nodes: &'a [Snapshot],
}

impl Bundle {
    /// Reads a bundle, an archive of snapshots, or one snapshot.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > LIMIT {
            return Err(BundleError::TooLarge { size: bytes.len() });
        }
        let nodes = if is_archive(bytes) {
            read_archive(bytes)?
        } else {
            read_json(bytes)?
        };
        if nodes.is_empty() {
            return Err(BundleError::Empty);
        }
        if nodes.len() > NODES {
            return Err(BundleError::TooMany);
        }
        Ok(Self { nodes })
    }

    /// The bundle as JSON.
    pub fn write(&self) -> String {
        let written = Written {
            schema: SCHEMA,
            nodes: &self.nodes,
        };
        // Keys are texts and numbers, and no value refuses.
        serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"
    }

    /// The snapshot of a node.
    pub fn node(&self, name: &str) -> Option<&Snapshot> {
        self.nodes.iter().find(|node| node.node == name)
    }
}

fn read_json(bytes: &[u8]) -> Result<Vec<Snapshot>, BundleError> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    let schema = value
        .get("schema")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(number) = schema.strip_prefix(FORMAT) else {
        return Ok(vec![Snapshot::from_value(value)?]);
    };
    if number != "1" {
        return Err(BundleError::TooNew {
            found: schema.to_owned(),
        });
    }
    let nodes = match value.get_mut("nodes").map(Value::take) {
        Some(Value::Array(nodes)) => nodes,
        _ => return Err(BundleError::Empty),
    };
    if nodes.len() > NODES {
        return Err(BundleError::TooMany);
    }
    let read = |(index, node)| {
        Snapshot::from_value(node).map_err(|source| BundleError::Part {
            name: format!("node {}", index + 1),
            source,
        })
    };
    nodes.into_iter().enumerate().map(read).collect()
}

/// Bytes of a block of a tar archive.
const BLOCK: usize = 512;

fn is_archive(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// Reads the files `*.json` of a tar archive (POSIX.1-1988 `ustar` and what GNU makes of it).
fn read_archive(bytes: &[u8]) -> Result<Vec<Snapshot>, BundleError> {
    let mut nodes = Vec::new();
    let mut offset = 0;
    while let Some(header) = bytes.get(offset..offset + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(nodes);
        }
        let wrong = |what| BundleError::Archive { offset, what };
        if header.get(257..262) != Some(b"ustar") {
            return Err(wrong("no header where one must be"));
        }
        let sum: u32 = header
            .iter()
            .enumerate()
            // The sum is taken with blanks in its own place.
            .map(|(at, byte)| {
                u32::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        if octal(&header[148..156]) != Some(sum as usize) {
            return Err(wrong("the header's sum is wrong"));
        }
        let size = octal(&header[124..136]).ok_or_else(|| wrong("the size is no number"))?;
        let start = offset + BLOCK;
        let end = start
            .checked_add(size)
            .ok_or_else(|| wrong("the size is too large"))?;
        let body = bytes
            .get(start..end)
            .ok_or_else(|| wrong("it breaks off"))?;
        let name = String::from_utf8_lossy(&header[..100]);
        let name = name.trim_end_matches('\0');
        let is_file = matches!(header[156], b'0' | 0);
        if is_file && name.ends_with(".json") {
            if nodes.len() >= NODES {
                return Err(BundleError::TooMany);
            }
            nodes.push(Snapshot::read(body).map_err(|source| BundleError::Part {
                name: name.to_owned(),
                source,
            })?);
        }
        offset = start + size.div_ceil(BLOCK) * BLOCK;
    }
    Err(BundleError::Archive {
        offset: bytes.len(),
        what: "it breaks off",
    })
}

/// Digits of base 8, ended by a blank or a zero byte.
fn octal(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;

    fn snapshot(node: &str) -> Snapshot {
        Snapshot {
            schema: snapshot::SCHEMA.to_owned(),
            node: node.to_owned(),
            ..Snapshot::default()
        }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, body) in files {
            let mut header = [0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
            header[156] = b'0';
            header[257..265].copy_from_slice(b"ustar  \0");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend(header);
            bytes.extend(*body);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bundle = Bundle {
            nodes: vec![snapshot("a"), snapshot("b")],
        };
        assert_eq!(Bundle::read(bundle.write().as_bytes()).unwrap(), bundle);
    }

    #[test]
    fn one_snapshot_is_a_bundle_of_one() {
        let text = serde_json::to_vec(&snapshot("a")).unwrap();
        assert!(Bundle::read(&text).unwrap().node("a").is_some());
    }

    #[test]
    fn archives_are_read() {
        let [a, b] = ["a", "b"].map(|node| serde_json::to_vec(&snapshot(node)).unwrap());
        let bytes = archive(&[("s/a.json", &a), ("s/README", b"hello"), ("s/b.json", &b)]);
        let names: Vec<_> = Bundle::read(&bytes).unwrap().nodes;
        assert_eq!(
            names.iter().map(|node| &*node.node).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn damage_is_said_and_never_panics() {
        let whole = archive(&[("a.json", &serde_json::to_vec(&snapshot("a")).unwrap())]);
        for length in 0..whole.len() - BLOCK {
            assert!(
                Bundle::read(&whole[..length]).is_err() || length >= 2 * BLOCK,
                "{length}"
            );
        }
        for at in 0..BLOCK {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            assert!(Bundle::read(&damaged).is_err(), "byte {at}");
        }
        for (text, said) in [
            ("", "damaged"),
            ("{\"schema\": \"pointsman.bundle/1\"}", "no snapshot"),
            (
                "{\"schema\": \"pointsman.bundle/1\", \"nodes\": []}",
                "no snapshot",
            ),
            ("{\"schema\": \"pointsman.bundle/9\"}", "newer program"),
            (
                "{\"schema\": \"pointsman.bundle/1\", \"nodes\": [{}]}",
                "node 1: no snapshot",
            ),
            ("{\"schema\": \"other\"}", "no snapshot"),
        ] {
            let error = Bundle::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
