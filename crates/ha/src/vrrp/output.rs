//! What goes between a virtual router and the world.

use std::net::IpAddr;

use pointsman_wire::Mac;

use super::notice::Notice;

/// A VRRP message and the IP header's facts about it, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// The bytes behind the IP header, checksum included.
    pub message: Vec<u8>,
}

/// What a virtual router has to know of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address it sends from; with IPv6 and multicast the link-local one.
    pub source: IpAddr,
    /// Link-layer address that is announced: the interface's own, or the virtual one.
    pub mac: Mac,
    /// True when the interface forwards IPv6, which announcements say.
    pub router: bool,
}

/// What a virtual router wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send an advertisement, with TOS or class 0xc0.
    Send(Datagram),
    /// Send an Ethernet frame on the interface: an announcement.
    Frame(Vec<u8>),
    /// Add a virtual address to the interface.
    AddAddress(IpAddr),
    /// Take a virtual address from the interface.
    RemoveAddress(IpAddr),
    /// Tell scripts and FIFOs.
    Notify(Notice),
}
