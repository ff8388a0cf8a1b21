//! How an address is held.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_linux::netlink::NewAddress;

/// `IFA_F_NODAD`: the election says whose address it is, and asking others first would take seconds.
const NODAD: u32 = 0x02;

/// How a virtual address is held while master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The address.
    pub address: IpAddr,
    /// Length of its network, bits.
    pub prefix: u8,
    /// The interface that has it, if not the virtual router's.
    pub device: Option<String>,
    /// The broadcast address, if one was asked for.
    pub broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// Its label, with IPv4.
    pub label: Option<String>,
}

impl Holding {
    /// An address alone, without a network, as keepalived takes one without a prefix.
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: match address {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 128,
            },
            device: None,
            broadcast: None,
            scope: 0,
            label: None,
        }
    }

    /// What the kernel is asked for.
    pub(super) fn on(&self, index: u32) -> NewAddress {
        let v6 = self.address.is_ipv6();
        NewAddress {
            index,
            address: self.address,
            prefix: self.prefix,
            broadcast: self.broadcast,
            scope: self.scope,
            label: self.label.clone(),
            flags: if v6 { NODAD } else { 0 },
            // A host address is for those who ask for it; what this host begins comes from its own.
            preferred: !(v6 && self.prefix == 128),
        }
    }
}
