//! Who takes part: the guest, its virtual addresses, clients, real servers, neighbours.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::Mac;

use super::{Method, Protocol, Role};

/// A virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vip {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::SocketAddr::new(self.address, self.port);
        write!(f, "{} {address}", self.protocol.name())
    }
}

/// A host of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Station {
    /// Link-layer address.
    pub mac: Mac,
    /// Address.
    pub address: IpAddr,
}

/// A real server; without a link-layer address one is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RealServer {
    /// Address.
    pub address: IpAddr,
    /// Its link-layer address, or its next hop's.
    pub mac: Option<Mac>,
    /// Port, if it is not that of the virtual service.
    pub port: Option<u16>,
}

/// What is known of a scene; the rest is assumed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the guest is.
    pub roles: Vec<Role>,
    /// How it forwards, or how it is forwarded to. Direct routing if nobody says.
    pub method: Option<Method>,
    /// Virtual services.
    pub vips: Vec<Vip>,
    /// The guest's link-layer address.
    pub mac: Mac,
    /// The guest's own addresses, of each family the first counts.
    pub addresses: Vec<IpAddr>,
    /// Clients, of each family the first counts.
    pub clients: Vec<IpAddr>,
    /// Routers, of each family the first counts.
    pub gateways: Vec<IpAddr>,
    /// The router's link-layer address.
    pub gateway_mac: Option<Mac>,
    /// Real servers.
    pub real_servers: Vec<RealServer>,
    /// Number of the virtual router.
    pub vrid: Option<u8>,
    /// Virtual addresses have the virtual router's link-layer address.
    pub vmac: bool,
}

/// Who takes part.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What the guest is.
    pub roles: Vec<Role>,
    /// How packets get to real servers.
    pub method: Method,
    /// The guest's link-layer address.
    pub mac: Mac,
    /// Number of the virtual router.
    pub vrid: u8,
    /// Virtual addresses have the virtual router's link-layer address.
    pub vmac: bool,
    /// Of each family that has a virtual service, who takes part.
    pub casts: Vec<Cast>,
    /// What was not told and is assumed, in words.
    pub assumed: Vec<String>,
}

/// Who takes part, of one address family.
#[derive(Debug, Clone)]
pub struct Cast {
    /// Virtual services of this family.
    pub vips: Vec<Vip>,
    /// The guest's own address.
    pub own: IpAddr,
    /// The router.
    pub gateway: Station,
    /// Another host of the segment: for a real server the director, for a VRRP router its peer.
    pub neighbour: Station,
    /// A client beyond the router.
    pub client: IpAddr,
    /// Real servers.
    pub servers: Vec<(Station, Option<u16>)>,
}

/// Link-layer addresses of those whose own are not told.
const GATEWAY: Mac = Mac([0x02, 0x70, 0x6d, 0, 0, 0x01]);
const NEIGHBOUR: Mac = Mac([0x02, 0x70, 0x6d, 0, 0, 0x02]);
const SERVER: [u8; 5] = [0x02, 0x70, 0x6d, 0, 0x10];
/// Clients, from the networks for documentation.
const CLIENTS_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 77),
    Ipv4Addr::new(198, 51, 100, 77),
];
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x77);

impl Scene {
    /// Fills in what is not known with addresses of the virtual address's own network that nobody
    /// has.
    pub fn new(known: &Known) -> Self {
        let mut assumed = Vec::new();
        let casts = [true, false]
            .into_iter()
            .filter(|&v4| known.vips.iter().any(|vip| vip.address.is_ipv4() == v4))
            .map(|v4| Cast::new(known, v4, &mut assumed))
            .collect();
        Self {
            roles: known.roles.clone(),
            method: known.method.unwrap_or(Method::Direct),
            mac: known.mac,
            vrid: known.vrid.unwrap_or(51),
            vmac: known.vmac,
            casts,
            assumed,
        }
    }
}

impl Cast {
    fn new(known: &Known, v4: bool, assumed: &mut Vec<String>) -> Self {
        let of_family = |list: &[IpAddr]| -> Vec<IpAddr> {
            let mut list = list.to_vec();
            list.retain(|address| address.is_ipv4() == v4);
            list
        };
        let vips: Vec<Vip> = known
            .vips
            .iter()
            .filter(|vip| vip.address.is_ipv4() == v4)
            .copied()
            .collect();
        let mut free = Free {
            near: vips[0].address,
            taken: vips.iter().map(|vip| vip.address).collect(),
            next: 0,
        };
        free.taken.extend(&known.addresses);
        free.taken.extend(&known.clients);
        free.taken.extend(&known.gateways);
        free.taken
            .extend(known.real_servers.iter().map(|server| server.address));
        let is_vip = |address: &IpAddr| vips.iter().any(|vip| vip.address == *address);
        let own = of_family(&known.addresses)
            .into_iter()
            .find(|address| !is_vip(address))
            .unwrap_or_else(|| {
                let own = free.take(20);
                assumed.push(format!("the guest's own address is {own}"));
                own
            });
        let gateway = Station {
            mac: known.gateway_mac.unwrap_or(GATEWAY),
            address: of_family(&known.gateways)
                .first()
                .copied()
                .unwrap_or_else(|| {
                    let gateway = free.take(1);
                    assumed.push(format!("the router is {gateway}"));
                    gateway
                }),
        };
        let neighbour = Station {
            mac: NEIGHBOUR,
            address: free.take(30),
        };
        let client = of_family(&known.clients)
            .first()
            .copied()
            .unwrap_or_else(|| {
                let client = free.client(v4);
                assumed.push(format!("a client is {client}"));
                client
            });
        let mut servers: Vec<_> = known
            .real_servers
            .iter()
            .filter(|server| server.address.is_ipv4() == v4)
            .zip(1..)
            .map(|(server, number)| {
                let [a, b, c, d, e] = SERVER;
                let mac = server.mac.unwrap_or(Mac([a, b, c, d, e, number]));
                let address = server.address;
                (Station { mac, address }, server.port)
            })
            .collect();
        if servers.is_empty() {
            let [a, b, c, d, e] = SERVER;
            let station = Station {
                mac: Mac([a, b, c, d, e, 1]),
                address: free.take(40),
            };
            if known.roles.contains(&Role::Director) {
                assumed.push(format!(
                    "a real server is {} at {}",
                    station.address, station.mac
                ));
            }
            servers.push((station, None));
        }
        Self {
            vips,
            own,
            gateway,
            neighbour,
            client,
            servers,
        }
    }
}

/// Addresses near another one that nobody has.
struct Free {
    near: IpAddr,
    taken: Vec<IpAddr>,
    next: u8,
}

impl Free {
    fn take(&mut self, wanted: u8) -> IpAddr {
        self.next = wanted;
        loop {
            let address = self.at(self.next);
            if !self.taken.contains(&address) {
                self.taken.push(address);
                return address;
            }
            self.next = self.next.wrapping_add(1);
        }
    }

    fn at(&self, last: u8) -> IpAddr {
        match self.near {
            IpAddr::V4(near) => {
                let [a, b, c, _] = near.octets();
                Ipv4Addr::new(a, b, c, last).into()
            }
            IpAddr::V6(near) => {
                let mut octets = near.octets();
                octets[8..15].fill(0);
                octets[15] = last;
                Ipv6Addr::from(octets).into()
            }
        }
    }

    /// A client that is not in the virtual address's own network.
    fn client(&self, v4: bool) -> IpAddr {
        if !v4 {
            return CLIENT_V6.into();
        }
        let near = |client: &Ipv4Addr| match self.near {
            IpAddr::V4(near) => near.octets()[..3] == client.octets()[..3],
            IpAddr::V6(_) => false,
        };
        let [first, second] = CLIENTS_V4;
        if near(&first) { second } else { first }.into()
    }
}
