//! ARP for Ethernet and IPv4, [RFC 826](https://www.rfc-editor.org/rfc/rfc826).
//!
//! Heads up: the fields name sender and target, not source and destination; in a reply the sender
//! is the host that was asked for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32, Mac};

/// Operation: who has the target's address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has its address.
pub const REPLY: u16 = 2;
/// Hardware type of Ethernet.
pub const ETHERNET: u16 = 1;

/// An ARP message for Ethernet and IPv4, 28 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Arp {
    /// Hardware type, [`ETHERNET`].
    pub hardware: Be16,
    /// EtherType of the addresses, 0x0800 for IPv4.
    pub protocol: Be16,
    /// Bytes of a hardware address, 6.
    pub hardware_length: u8,
    /// Bytes of a protocol address, 4.
    pub protocol_length: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: Be16,
    /// Link-layer address of the sender.
    pub sender_mac: Mac,
    /// IPv4 address of the sender.
    pub sender: Be32,
    /// Link-layer address of the target; zero in most requests.
    pub target_mac: Mac,
    /// IPv4 address of the target.
    pub target: Be32,
}

impl Arp {
    /// Bytes of the message.
    pub const LEN: u32 = 28;

    /// True when types and lengths are those of Ethernet and IPv4, so the addresses mean something.
    #[inline(always)]
    pub fn is_ethernet_ipv4(&self) -> bool {
        self.hardware.get() == ETHERNET
            && self.protocol.get() == crate::ethernet::IPV4
            && self.hardware_length == 6
            && self.protocol_length == 4
    }
}
