//! How an address is held.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_linux::netlink::NewAddress;
use serde::{Deserialize, Serialize};

/// How an address is held: a virtual one while master, a static one always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The address.
    pub address: IpAddr,
    /// Length of its network, bits.
    pub prefix: u8,
    /// The other end's address, if it has one.
    pub peer: Option<IpAddr>,
    /// The interface that has it, if not the virtual router's.
    pub device: Option<String>,
    /// The broadcast address, if one was asked for.
    pub broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// Its label, with IPv4.
    pub label: Option<String>,
    /// `IFA_F_*`.
    pub flags: u32,
    /// For how many seconds what is new may be sent from it unasked; none has no end.
    pub preferred_seconds: Option<u32>,
    /// False when it is left away if somebody removes it.
    pub tracked: bool,
}

impl Holding {
    /// `IFA_F_NODAD`: the election says whose address it is, and asking others first would take seconds.
    pub const NODAD: u32 = 0x02;
    /// `IFA_F_HOMEADDRESS`.
    pub const HOME: u32 = 0x10;
    /// `IFA_F_MANAGETEMPADDR`.
    pub const MANAGES_TEMPORARY: u32 = 0x100;
    /// `IFA_F_NOPREFIXROUTE`.
    pub const NO_PREFIX_ROUTE: u32 = 0x200;
    /// `IFA_F_MCAUTOJOIN`.
    pub const AUTOJOIN: u32 = 0x400;

    /// An address alone, without a network, as keepalived takes one without a prefix.
    pub fn host(address: IpAddr) -> Self {
        let v6 = address.is_ipv6();
        Self {
            address,
            prefix: if v6 { 128 } else { 32 },
            peer: None,
            device: None,
            broadcast: None,
            scope: 0,
            label: None,
            flags: if v6 { Self::NODAD } else { 0 },
            // A host address is for those who ask for it; what this host begins comes from its own.
            preferred_seconds: v6.then_some(0),
            tracked: true,
        }
    }

    /// What the kernel is asked for.
    pub(super) fn on(&self, index: u32) -> NewAddress {
        NewAddress {
            index,
            address: self.address,
            peer: self.peer,
            prefix: self.prefix,
            broadcast: self.broadcast,
            scope: self.scope,
            label: self.label.clone(),
            flags: self.flags,
            preferred_seconds: self.preferred_seconds,
        }
    }
}
