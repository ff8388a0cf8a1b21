//! TCP, RFC 9293.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32};

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;

/// The fixed part of the header, 20 bytes; options follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Sequence number.
    pub sequence: Be32,
    /// Acknowledgement number.
    pub acknowledgement: Be32,
    /// Header length in 32-bit words (high nibble).
    pub offset: u8,
    /// Flags: [`FIN`], [`SYN`], ...
    pub flags: u8,
    /// Receive window.
    pub window: Be16,
    /// Checksum over pseudo header, header and payload.
    pub checksum: Be16,
    /// Urgent pointer.
    pub urgent: Be16,
}

impl Tcp {
    /// Bytes of a header without options.
    pub const LEN: u32 = 20;
    /// Where the checksum lies in the header, bytes.
    pub const CHECKSUM: u32 = 16;

    /// Header length in bytes, options included, as the field claims: 0..=60.
    #[inline(always)]
    pub const fn header_length(&self) -> u32 {
        ((self.offset >> 4) as u32) << 2
    }
}
