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
/// Congestion was experienced (RFC 3168).
pub const ECE: u8 = 0x40;
/// The congestion window was reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// Option kind: end of the options.
pub const OPTION_END: u8 = 0;
/// Option kind: padding of one byte.
pub const OPTION_NOP: u8 = 1;
/// Option kind: maximum segment size.
pub const OPTION_MSS: u8 = 2;
/// Option kind: window scale.
pub const OPTION_WINDOW_SCALE: u8 = 3;
/// Option kind: selective acknowledgement permitted.
pub const OPTION_SACK_PERMITTED: u8 = 4;
/// Option kind: selective acknowledgement.
pub const OPTION_SACK: u8 = 5;
/// Option kind: timestamps.
pub const OPTION_TIMESTAMPS: u8 = 8;

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

/// Flags as tcpdump prints them: `S`, `S.`, `P.`, `none`.
#[cfg(feature = "std")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u8);

#[cfg(feature = "std")]
impl std::fmt::Display for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let letters = [
            (FIN, "F"),
            (SYN, "S"),
            (RST, "R"),
            (PSH, "P"),
            (ACK, "."),
            (URG, "U"),
            (ECE, "E"),
            (CWR, "W"),
        ];
        letters
            .iter()
            .filter(|(flag, _)| self.0 & flag != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}
