//! IPv4, RFC 791.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32};

/// The fixed part of the header, 20 bytes; options follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version (high nibble, 4) and header length in 32-bit words (low nibble).
    pub version_length: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Bytes from this header to the end of the payload.
    pub total_length: Be16,
    /// Identification of the datagram's fragments.
    pub id: Be16,
    /// Flags (3 bits) and fragment offset in 8-byte units (13 bits).
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
}

impl Ipv4 {
    /// Bytes of a header without options.
    pub const LEN: u32 = 20;
    /// The don't-fragment bit of [`Self::fragment`].
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// The more-fragments bit of [`Self::fragment`].
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The offset bits of [`Self::fragment`].
    pub const OFFSET: u16 = 0x1fff;

    /// IP version field.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_length >> 4
    }

    /// Header length in bytes, options included, as the field claims: 0..=60.
    #[inline(always)]
    pub const fn header_length(&self) -> u32 {
        ((self.version_length & 0x0f) as u32) << 2
    }

    /// True when the don't-fragment bit is set.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.fragment.get() & Self::DONT_FRAGMENT != 0
    }

    /// True when this is one of several fragments, first or not.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (Self::MORE_FRAGMENTS | Self::OFFSET) != 0
    }
}
