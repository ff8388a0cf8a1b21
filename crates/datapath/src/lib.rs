//! Loads, pins and attaches the eBPF programs; mirrors changes into maps; reads back.
//!
//! Maps and links are pinned: forwarding goes on when the daemon dies, and the next one takes over.
//! Everything needs root, or CAP_BPF and CAP_NET_ADMIN. Kernel 6.1 for XDP, 6.6 for tcx; before
//! 6.6 the clsact qdisc serves in its place.

mod adopt;
mod attach;
pub mod bench;
mod bpf;
mod btf;
mod datapath;
pub mod drops;
mod error;
mod events;
mod hook;
mod map;
mod mirror;
mod object;
pub mod records;
pub mod trial;

use std::path::PathBuf;

pub use attach::{Attachment, DetachReport};
pub use datapath::{Connections, ConnectionsPosition, Datapath};
pub use error::Error;
pub use events::Event;
pub use hook::{Hook, HookChoice, Traits, advise, choose};
pub use mirror::MapMirror;
pub use object::Origin;
use pointsman_director::control::Capacity;

/// Sizes, and where to pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Directory on a bpffs for maps and links.
    pub pin_dir: PathBuf,
    /// Room for connections, of each family.
    pub connections: u32,
    /// Room for services, servers, slots and tables.
    pub capacity: Capacity,
}

impl Default for Options {
    /// 131 072 connections, 4 096 services, 16 384 real servers: about 110 MB with both families.
    fn default() -> Self {
        Self {
            pin_dir: PathBuf::from("/sys/fs/bpf/pointsman"),
            connections: 1 << 17,
            capacity: Capacity {
                services: 4096,
                servers: 1 << 14,
                slot_lines: 1 << 15,
                table_lines: 1 << 16,
            },
        }
    }
}
