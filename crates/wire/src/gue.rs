//! GUE, generic UDP encapsulation,
//! [draft-ietf-intarea-gue-09](https://datatracker.ietf.org/doc/html/draft-ietf-intarea-gue-09).
//!
//! Heads up: the header lies behind a UDP header, on a port both ends agreed on. Variant 1 has no
//! header at all: the IP version nibble of the inner packet reads as variant 1.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::Be16;

/// The UDP port IANA assigned; peers may agree on another.
pub const PORT: u16 = 6080;

/// The fixed part of the variant 0 header, 4 bytes; optional fields follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Gue {
    /// Variant (2 bits), control bit, length of the optional fields in 4-byte units (5 bits).
    pub variant_length: u8,
    /// IP protocol number of the payload; of a control message its type.
    pub protocol: u8,
    /// Which optional fields follow.
    pub flags: Be16,
}

impl Gue {
    /// Bytes of a header without optional fields.
    pub const LEN: u32 = 4;
    /// Bit of [`Self::flags`]: Linux's private flags, 4 bytes, follow.
    pub const PRIVATE: u16 = 0x0001;
    /// Bit of the private flags: remote checksum offload, 2 bytes start and 2 bytes offset, follow.
    pub const PRIVATE_REMOTE_CHECKSUM: u32 = 0x8000_0000;

    /// Variant: 0 when this header is there, 1 when an IP packet starts here instead.
    #[inline(always)]
    pub const fn variant(&self) -> u8 {
        self.variant_length >> 6
    }

    /// True for a control message, which carries no packet.
    #[inline(always)]
    pub const fn is_control(&self) -> bool {
        self.variant_length & 0x20 != 0
    }

    /// Header length in bytes, optional fields included, as the field claims: 4..=128.
    #[inline(always)]
    pub const fn header_length(&self) -> u32 {
        Self::LEN + (((self.variant_length & 0x1f) as u32) << 2)
    }
}
