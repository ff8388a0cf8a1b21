//! BFD's control packet ([RFC 5880](https://www.rfc-editor.org/rfc/rfc5880), section 4.1).
//!
//! Heads up: all intervals are microseconds, in network byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::Be32;

/// UDP port of control packets over one hop (RFC 5881).
pub const PORT: u16 = 3784;
/// First of the ports that control packets come from (RFC 5881); the last is 65535.
pub const SOURCE_PORT: u16 = 49152;
/// Time to live and hop limit of control packets over one hop (RFC 5881).
pub const HOP_LIMIT: u8 = 255;
/// The version there is.
pub const VERSION: u8 = 1;

/// Poll: the sender wants a packet with [`FINAL`].
pub const POLL: u8 = 0x20;
/// Final: the answer to [`POLL`].
pub const FINAL: u8 = 0x10;
/// The sender's BFD does not share its control plane's fate.
pub const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
/// An authentication section follows.
pub const AUTHENTICATION: u8 = 0x04;
/// The sender asks the other side not to send periodically.
pub const DEMAND: u8 = 0x02;
/// For extensions that nobody has; a packet with it is discarded.
pub const MULTIPOINT: u8 = 0x01;

/// A control packet, 24 bytes; an authentication section may follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bfd {
    /// Version (3 bits), diagnostic (5 bits).
    pub version_diagnostic: u8,
    /// State (2 bits), flags (6 bits).
    pub state_flags: u8,
    /// How many packets in a row may be lost.
    pub multiplier: u8,
    /// Bytes of the packet, an authentication section included.
    pub length: u8,
    /// The sender's number of the session, not 0.
    pub my_discriminator: Be32,
    /// The receiver's number of the session, 0 while the sender does not know it.
    pub your_discriminator: Be32,
    /// The sender would like to send no more often, microseconds.
    pub desired_min_tx: Be32,
    /// The sender can receive no more often, microseconds; 0 wants nothing periodic.
    pub required_min_rx: Be32,
    /// The sender can send echoes back no more often, microseconds; 0 wants none.
    pub required_min_echo_rx: Be32,
}

impl Bfd {
    /// Bytes of the packet without an authentication section.
    pub const LEN: u32 = 24;

    /// The version, 1 in what is understood.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_diagnostic >> 5
    }

    /// Why the sender's session went down the last time.
    #[inline(always)]
    pub const fn diagnostic(&self) -> u8 {
        self.version_diagnostic & 0x1f
    }

    /// The sender's state.
    #[inline(always)]
    pub const fn state(&self) -> u8 {
        self.state_flags >> 6
    }

    /// True when any of these flags is set.
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.state_flags & flags != 0
    }
}
