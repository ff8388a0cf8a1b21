//! Messages by which IPVS directors tell each other of connections.
//!
//! Version 1 is read and written, version 0 read. All numbers are big-endian, but for the sequence
//! data of version 0, which are as the sender's processor has them. What a message says is bounded
//! by its length and nothing else; whether it makes sense is for the reader to decide.

mod decode;
mod encode;

use std::net::IpAddr;

pub use decode::{Decoded, SyncFault, decode};
pub use encode::Batch;

/// IPv4 group of messages, 224.0.0.81, unless told otherwise.
pub const GROUP_V4: [u8; 4] = [224, 0, 0, 81];
/// UDP port of messages, unless told otherwise.
pub const PORT: u16 = 8848;

/// Flags of a connection (`IP_VS_CONN_F_*`).
pub mod sync_flag {
    /// The forwarding method: 0 masquerade, 1 local, 2 tunnel, 3 direct routing, 4 bypass.
    pub const METHOD: u32 = 0x0007;
    /// Another director told of it.
    pub const SYNC: u32 = 0x0020;
    /// No packet of the real server passes the director.
    pub const NO_OUTPUT: u32 = 0x0080;
    /// Not counted as active.
    pub const INACTIVE: u32 = 0x0100;
    /// Sequence numbers of replies are changed.
    pub const OUT_SEQUENCE: u32 = 0x0200;
    /// Sequence numbers of the client are changed.
    pub const IN_SEQUENCE: u32 = 0x0400;
    /// Either.
    pub const SEQUENCES: u32 = OUT_SEQUENCE | IN_SEQUENCE;
    /// The client's port is not known.
    pub const NO_CLIENT_PORT: u32 = 0x0800;
    /// A persistence template.
    pub const TEMPLATE: u32 = 0x1000;
    /// What a backup takes from a message.
    pub const TAKEN: u32 = METHOD | NO_OUTPUT | INACTIVE | SEQUENCES | NO_CLIENT_PORT | TEMPLATE;
}

/// How sequence numbers of one direction are changed, `struct ip_vs_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequence {
    /// From this number on by `delta`.
    pub initial: u32,
    /// How much.
    pub delta: u32,
    /// How much before.
    pub previous_delta: u32,
}

/// A connection, or a template, as a message tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncConnection {
    /// IP protocol number; 0 in a template of a firewall mark.
    pub protocol: u8,
    /// Of [`sync_flag`].
    pub flags: u32,
    /// State, by the protocol's own numbers; of a template 1 when a real client is behind it.
    pub state: u16,
    /// Client, or the net of a template.
    pub client: IpAddr,
    /// Client's port, host order; 0 in a template.
    pub client_port: u16,
    /// Virtual address; in a template of a firewall mark the mark.
    pub address: IpAddr,
    /// Virtual port, host order.
    pub port: u16,
    /// Real server.
    pub server: IpAddr,
    /// Its port, host order.
    pub server_port: u16,
    /// Firewall mark by which it was scheduled, 0 for none.
    pub mark: u32,
    /// Timeout of its state, seconds; 0 when the message does not tell.
    pub timeout: u32,
    /// Changes of sequence numbers: the client's, then replies'.
    pub sequences: Option<[Sequence; 2]>,
    /// Name of the persistence engine; empty without one.
    pub engine: Vec<u8>,
    /// What the engine knows the client by.
    pub engine_data: Vec<u8>,
}

impl SyncConnection {
    /// True for a persistence template.
    pub fn is_template(&self) -> bool {
        self.flags & sync_flag::TEMPLATE != 0
    }
}

/// Bytes of the header of version 1.
const HEADER: usize = 8;
/// Bytes of the header of version 0.
const OLD_HEADER: usize = 4;
/// Bytes of an entry before its addresses.
const FIXED: usize = 24;
/// Version of the messages written.
const VERSION: u8 = 1;
/// Type of an entry with IPv6 addresses.
const INET6: u8 = 1;
/// Bits of an entry's size; above them is its version.
const SIZE_MASK: u16 = 0x0fff;
/// Bytes of sequence data.
const SEQUENCE_DATA: usize = 24;
/// Longest name of a persistence engine, bytes.
const ENGINE_NAME: usize = 16;

/// Types of options.
mod option {
    pub const SEQUENCES: u8 = 1;
    pub const ENGINE_DATA: u8 = 2;
    pub const ENGINE: u8 = 3;
    /// Who does not know the type may do without.
    pub const OPTIONAL: u8 = 0x40;
}
