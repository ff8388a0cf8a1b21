//! VRRP: version 2 ([RFC 3768](https://www.rfc-editor.org/rfc/rfc3768)) and version 3
//! ([RFC 9568](https://www.rfc-editor.org/rfc/rfc9568)).
//!
//! Heads up: the word between counts and checksum means authentication type and seconds in
//! version 2, four reserved bits and centiseconds in version 3.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Mac};

/// Type of an advertisement, the only one there is.
pub const ADVERTISEMENT: u8 = 1;
/// IPv4 group of advertisements, 224.0.0.18.
pub const GROUP_V4: [u8; 4] = [224, 0, 0, 18];
/// IPv6 group of advertisements, ff02::12.
pub const GROUP_V6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];
/// Time to live and hop limit of advertisements to the group.
pub const HOP_LIMIT: u8 = 255;
/// Type of service and traffic class of advertisements: internetwork control.
pub const TOS: u8 = 0xc0;
/// Priority of the router that owns the addresses.
pub const OWNER: u8 = 255;
/// Priority by which a master says that it stops.
pub const STOP: u8 = 0;
/// Authentication type of version 2: none.
pub const AUTH_NONE: u8 = 0;
/// Authentication type of version 2: password in clear text (RFC 2338).
pub const AUTH_PASS: u8 = 1;
/// Authentication type of version 2: IP authentication header (RFC 2338).
pub const AUTH_HEADER: u8 = 2;
/// Bytes of authentication data behind the addresses of a version 2 message over IPv4.
pub const AUTH_DATA: usize = 8;

/// The header of a VRRP message, 8 bytes; addresses follow, then version 2's authentication data.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Vrrp {
    /// Version (4 bits), type (4 bits).
    pub version_kind: u8,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority of the sender, [`STOP`] and [`OWNER`] among them.
    pub priority: u8,
    /// How many addresses follow.
    pub count: u8,
    /// Version 2: authentication type, interval in seconds. Version 3: reserved (4 bits), interval
    /// in centiseconds (12 bits).
    pub word: Be16,
    /// Checksum; over what depends on version, family and vendor.
    pub checksum: Be16,
}

impl Vrrp {
    /// Bytes of the header.
    pub const LEN: u32 = 8;
    /// Where the checksum lies in the header, bytes.
    pub const CHECKSUM: u32 = 6;
    /// The bits of [`Self::word`] that are version 3's interval.
    pub const CENTISECONDS: u16 = 0x0fff;

    /// The version, 2 or 3 in what is understood.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_kind >> 4
    }

    /// The type, [`ADVERTISEMENT`] in what is understood.
    #[inline(always)]
    pub const fn kind(&self) -> u8 {
        self.version_kind & 0xf
    }

    /// Authentication type of version 2.
    #[inline(always)]
    pub fn authentication(&self) -> u8 {
        (self.word.get() >> 8) as u8
    }

    /// Interval of version 2, seconds.
    #[inline(always)]
    pub fn seconds(&self) -> u8 {
        self.word.get() as u8
    }

    /// Interval of version 3, centiseconds.
    #[inline(always)]
    pub fn centiseconds(&self) -> u16 {
        self.word.get() & Self::CENTISECONDS
    }
}

/// The virtual MAC address of a virtual router: 00:00:5e:00:01:VRID, with IPv6 00:00:5e:00:02:VRID.
pub const fn virtual_mac(vrid: u8, v6: bool) -> Mac {
    Mac([0, 0, 0x5e, 0, if v6 { 2 } else { 1 }, vrid])
}
