//! What can go wrong with the data plane.

use std::{io, path::PathBuf};

/// Why the data plane could not be loaded, attached, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pin directory can't be used.
    #[error("pin directory {path}: {source}")]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pin directory is not on a bpffs.
    #[error(
        "{path} is not on a bpffs: `mount -t bpf bpf /sys/fs/bpf`, or choose another --pin-dir"
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// Pinned state of another layout is there.
    #[error(
        "{path} holds state of layout {found}, this program has layout {expected}: \
         forwarding goes on without a daemon; `pointsman detach` makes way (connections are lost), or run the \
         program of before"
    )]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What this program writes.
        expected: u32,
    },
    /// Programs are attached that don't work with all the maps that this one needs.
    #[error(
        "{path} is in use without the map {map}, so by another program than this one: \
         forwarding goes on without a daemon; `pointsman detach` makes way (connections are lost), or run the \
         program of before"
    )]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// What is not there.
        map: &'static str,
    },
    /// The object could not be loaded.
    #[error("loading the eBPF object: {0}")]
    Load(String),
    /// The verifier refused a program.
    #[error("loading program {name}: {reason}")]
    Program {
        /// Program name.
        name: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("map {map}: {call}: {source}")]
    Map {
        /// Map name.
        map: &'static str,
        /// What was tried.
        call: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be attached.
    #[error("attaching to {interface} by {hook}: {reason}")]
    Attach {
        /// Interface name.
        interface: String,
        /// Hook name.
        hook: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
    /// There is no such interface.
    #[error("interface {0}: {1}")]
    Interface(String, String),
    /// A program could not be run from user space.
    #[error("running program {name}: {source}")]
    Run {
        /// Program name.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Events can't be read.
    #[error("event ring: {0}")]
    Events(String),
}
