//! UDP, RFC 768.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::Be16;

/// The header, 8 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Bytes of header and payload.
    pub length: Be16,
    /// Checksum over pseudo header, header and payload; 0 for none (IPv4 only).
    pub checksum: Be16,
}

impl Udp {
    /// Bytes of the header.
    pub const LEN: u32 = 8;
    /// Where the checksum lies in the header, bytes.
    pub const CHECKSUM: u32 = 6;
}
