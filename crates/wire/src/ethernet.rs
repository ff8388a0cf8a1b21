//! Ethernet II and IEEE 802.1Q/802.1ad tags.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Mac};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an IEEE 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an IEEE 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;

/// The header of a frame, 14 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// EtherType of what follows.
    pub ethertype: Be16,
}

/// A VLAN tag and the EtherType behind it, 4 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligibility (1), VLAN id (12).
    pub control: Be16,
    /// EtherType of what follows.
    pub ethertype: Be16,
}

impl VlanTag {
    /// The VLAN id, 0..=4095.
    pub fn id(&self) -> u16 {
        self.control.get() & 0x0fff
    }

    /// The priority, 0..=7.
    pub fn priority(&self) -> u8 {
        (self.control.get() >> 13) as u8
    }
}
