//! GRE, [RFC 2784](https://www.rfc-editor.org/rfc/rfc2784), with the key and sequence number of
//! [RFC 2890](https://www.rfc-editor.org/rfc/rfc2890).
//!
//! Heads up: the checksum is optional and covers the GRE header and the whole inner packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::Be16;

/// The fixed part of the header, 4 bytes; what the flags announce follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Gre {
    /// Flags: [`Gre::CHECKSUM`], ...; version in the low 3 bits.
    pub flags: Be16,
    /// EtherType of the payload.
    pub protocol: Be16,
}

impl Gre {
    /// Bytes of a header without optional fields.
    pub const LEN: u32 = 4;
    /// Bit of [`Self::flags`]: a [`GreChecksum`] follows.
    pub const CHECKSUM: u16 = 0x8000;
    /// Bit of [`Self::flags`]: source routes follow (RFC 1701, deprecated).
    pub const ROUTING: u16 = 0x4000;
    /// Bit of [`Self::flags`]: a 4-byte key follows.
    pub const KEY: u16 = 0x2000;
    /// Bit of [`Self::flags`]: a 4-byte sequence number follows.
    pub const SEQUENCE: u16 = 0x1000;
    /// The version bits of [`Self::flags`]; 0 is GRE, 1 is PPTP's.
    pub const VERSION: u16 = 0x0007;

    /// Header length in bytes with all optional fields announced: 4..=16, source routes not counted.
    #[inline(always)]
    pub fn header_length(&self) -> u32 {
        let flags = self.flags.get();
        let mut length = Self::LEN;
        if flags & (Self::CHECKSUM | Self::ROUTING) != 0 {
            length += 4;
        }
        if flags & Self::KEY != 0 {
            length += 4;
        }
        if flags & Self::SEQUENCE != 0 {
            length += 4;
        }
        length
    }
}

/// The optional first word behind [`Gre`], 4 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GreChecksum {
    /// Internet checksum over GRE header and payload.
    pub checksum: Be16,
    /// Zero.
    pub reserved: Be16,
}
