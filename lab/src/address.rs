//! The addressing plan: every lab uses the same addresses, so that a capture reads the same anywhere.
//!
//! | who | leg on `br_e` | leg on `br_lvs` | leg on `br_rs` |
//! |---|---|---|---|
//! | client | 192.168.7.2, fd00:7::2 | | |
//! | director | 192.168.7.32, fd00:7::32 | 192.168.88.10, fd00:88::10 | |
//! | backup director | 192.168.7.34, fd00:7::34 | 192.168.88.70, fd00:88::70 | |
//! | VIP | 192.168.7.33, fd00:7::33 | | |
//! | router | 192.168.7.1, fd00:7::1 | | 192.168.99.1, fd00:99::1 |
//! | real server *i* | 192.168.7.(40+i), fd00:7::4i | 192.168.88.(10+i), fd00:88::1i | 192.168.99.(10+i), fd00:99::1i |
//!
//! Host parts are written alike in both families: 192.168.88.12 is fd00:88::12 (decimal digits read
//! as hexadecimal). Hardware addresses say who sends: `02:00:00:00:NN:LL` with NN 01 for the
//! client, 02 director, 03 router, 04 backup director, 10+i (hexadecimal) for real server i, and LL the leg's number.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::Mac;

/// Most real servers a lab can have; the host parts of the plan stay apart up to here.
pub const MAX_REAL_SERVERS: u8 = 50;

/// Most addresses the client can have.
pub const MAX_CLIENT_ADDRESSES: u8 = 100;

/// An address family; every lab has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A network of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// The clients' side: 192.168.7.0/24, fd00:7::/64.
    External,
    /// Between director and real servers: 192.168.88.0/24, fd00:88::/64.
    Lvs,
    /// Real servers behind a router: 192.168.99.0/24, fd00:99::/64.
    Remote,
}

impl Net {
    const fn number(self) -> (u8, u16) {
        match self {
            Self::External => (7, 0x7),
            Self::Lvs => (88, 0x88),
            Self::Remote => (99, 0x99),
        }
    }

    /// The bridge that carries this network.
    pub const fn bridge(self) -> &'static str {
        match self {
            Self::External => "br_e",
            Self::Lvs => "br_lvs",
            Self::Remote => "br_rs",
        }
    }

    /// The address of a host of this network.
    pub fn host(self, host: u8, family: Family) -> IpAddr {
        let (v4, v6) = self.number();
        match family {
            Family::V4 => Ipv4Addr::new(192, 168, v4, host).into(),
            Family::V6 => {
                let host = u16::from(host);
                let digits = ((host / 100) << 8) | ((host / 10 % 10) << 4) | (host % 10);
                Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, digits).into()
            }
        }
    }

    /// The address of a host with the network's prefix length.
    pub fn interface(self, host: u8, family: Family) -> Cidr {
        let length = match family {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        Cidr {
            address: self.host(host, family),
            length,
        }
    }

    /// The network itself.
    pub fn prefix(self, family: Family) -> Cidr {
        self.interface(0, family)
    }
}

/// Host part of the client's first address.
pub const CLIENT_HOST: u8 = 2;
/// Host part of the director on `br_e`.
pub const DIRECTOR_HOST: u8 = 32;
/// Host part of the VIP on `br_e`.
pub const VIP_HOST: u8 = 33;
/// Host part of the director on `br_lvs`.
pub const DIRECTOR_LVS_HOST: u8 = 10;
/// Host part of the backup director on `br_e`.
pub const BACKUP_HOST: u8 = 34;
/// Host part of the backup director on `br_lvs`.
pub const BACKUP_LVS_HOST: u8 = 70;
/// Host part of the router on both of its networks.
pub const ROUTER_HOST: u8 = 1;

/// The virtual address.
pub fn vip(family: Family) -> IpAddr {
    Net::External.host(VIP_HOST, family)
}

/// The client's first address.
pub fn client(family: Family) -> IpAddr {
    Net::External.host(CLIENT_HOST, family)
}

/// An address and a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Address, host part included.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
}

impl Cidr {
    /// The address alone: /32 or /128.
    pub const fn host(address: IpAddr) -> Self {
        let length = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { address, length }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The hardware address of a node's leg.
pub const fn leg_mac(node: u8, leg: u8) -> Mac {
    Mac([2, 0, 0, 0, node, leg])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_parts_read_alike_in_both_families() {
        assert_eq!(vip(Family::V4).to_string(), "192.168.7.33");
        assert_eq!(vip(Family::V6).to_string(), "fd00:7::33");
        assert_eq!(Net::Lvs.host(12, Family::V6).to_string(), "fd00:88::12");
        assert_eq!(
            Net::External.host(142, Family::V6).to_string(),
            "fd00:7::142"
        );
        assert_eq!(Net::Lvs.prefix(Family::V4).to_string(), "192.168.88.0/24");
        assert_eq!(Net::Lvs.prefix(Family::V6).to_string(), "fd00:88::/64");
    }
}
