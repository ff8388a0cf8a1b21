//! SCTP, [RFC 9260](https://www.rfc-editor.org/rfc/rfc9260): the common header and chunk heads.
//!
//! Heads up: the checksum is a CRC32c over the whole packet, without pseudo header, and lies in
//! the packet least significant byte first. Changing an address leaves it right, changing a port
//! does not, and it can't be updated by one's complement arithmetic.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32};

/// Chunk type: payload data.
pub const DATA: u8 = 0;
/// Chunk type: initiation.
pub const INIT: u8 = 1;
/// Chunk type: initiation acknowledgement.
pub const INIT_ACK: u8 = 2;
/// Chunk type: selective acknowledgement.
pub const SACK: u8 = 3;
/// Chunk type: heartbeat request.
pub const HEARTBEAT: u8 = 4;
/// Chunk type: heartbeat acknowledgement.
pub const HEARTBEAT_ACK: u8 = 5;
/// Chunk type: abort.
pub const ABORT: u8 = 6;
/// Chunk type: shutdown.
pub const SHUTDOWN: u8 = 7;
/// Chunk type: shutdown acknowledgement.
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk type: operation error.
pub const ERROR: u8 = 9;
/// Chunk type: state cookie.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type: cookie acknowledgement.
pub const COOKIE_ACK: u8 = 11;
/// Chunk type: shutdown complete.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// The common header, 12 bytes; chunks follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Sctp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Verification tag of the receiver; 0 with an INIT chunk.
    pub tag: Be32,
    /// CRC32c of the packet with this field zero, little-endian.
    pub checksum: [u8; 4],
}

impl Sctp {
    /// Bytes of the header.
    pub const LEN: u32 = 12;
    /// Where the checksum lies in the header, bytes.
    pub const CHECKSUM: u32 = 8;
}

/// The head of a chunk, 4 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SctpChunk {
    /// Type: [`DATA`], [`INIT`], ...
    pub kind: u8,
    /// Flags, by type.
    pub flags: u8,
    /// Bytes of the chunk, this head included, padding to 4 bytes not.
    pub length: Be16,
}

impl SctpChunk {
    /// Bytes of the head.
    pub const LEN: u32 = 4;
}

/// The CRC32c (Castagnoli) of the concatenation of `parts`; store it little-endian.
#[cfg(feature = "std")]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let reduce = if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
            crc = (crc >> 1) ^ reduce;
        }
    }
    !crc
}
