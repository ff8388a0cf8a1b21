//! IPv6 and its extension headers, RFC 8200.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32};

/// Next-header number of hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next-header number of a routing header.
pub const ROUTING: u8 = 43;
/// Next-header number of a fragment header.
pub const FRAGMENT: u8 = 44;
/// Next-header number of an authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next-header number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next-header number of "nothing follows".
pub const NO_NEXT: u8 = 59;
/// Next-header number of destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// The fixed header, 40 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version (4 bits, 6), traffic class (8), flow label (20).
    pub version_class_flow: Be32,
    /// Bytes behind this header.
    pub payload_length: Be16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [Be32; 4],
    /// Destination address.
    pub destination: [Be32; 4],
}

impl Ipv6 {
    /// Bytes of the fixed header.
    pub const LEN: u32 = 40;

    /// IP version field.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// Traffic class.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }
}

/// The common start of hop-by-hop, routing, destination-options and authentication headers.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Extension {
    /// What follows.
    pub next_header: u8,
    /// Length: 8-byte units beyond the first (authentication: 4-byte units beyond two).
    pub length: u8,
}

/// The fragment header, 8 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Fragment {
    /// What follows.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in 8-byte units (13 bits), reserved (2), more fragments (1).
    pub offset: Be16,
    /// Identification of the packet's fragments.
    pub id: Be32,
}
