//! The four plans: who stands where in each kind of lab, and which sysctls it needs and why.

use std::net::IpAddr;

use crate::address::{
    BACKUP_HOST, BACKUP_LVS_HOST, CLIENT_HOST, Cidr, DIRECTOR_HOST, DIRECTOR_LVS_HOST, Family, Net,
    ROUTER_HOST, leg_mac, vip,
};
use crate::topology::{Kind, Leg, Node, Options, Role, Route};

/// A real server's place in a network.
pub(crate) struct Place {
    net: Net,
    host: u8,
}

impl Place {
    pub(crate) fn host(&self, family: Family) -> IpAddr {
        self.net.host(self.host, family)
    }
}

/// Where the director finds a real server.
pub(crate) fn real_server(kind: Kind, number: u8) -> Place {
    match kind {
        Kind::TwoBridge | Kind::Nat => Place {
            net: Net::Lvs,
            host: 10 + number,
        },
        Kind::OneLeg => Place {
            net: Net::External,
            host: 40 + number,
        },
        Kind::Tunnel => Place {
            net: Net::Remote,
            host: 10 + number,
        },
    }
}

/// Host parts of the client.
pub(crate) fn client_hosts(options: &Options) -> impl Iterator<Item = u8> {
    std::iter::once(CLIENT_HOST).chain((1..options.client_addresses).map(|extra| 100 + extra))
}

/// All nodes of a lab but the switch.
pub(crate) fn nodes(kind: Kind, options: &Options) -> Vec<Node> {
    let mut nodes = vec![
        client(kind, options),
        director(kind, Role::Director, options),
    ];
    if options.backup {
        nodes.push(director(kind, Role::Backup, options));
    }
    if kind == Kind::Tunnel {
        nodes.push(router(options));
    }
    nodes.extend((1..=options.real_servers).map(|number| server(kind, number, options)));
    nodes
}

fn client(kind: Kind, options: &Options) -> Node {
    let mut node = Node::empty(Role::Client);
    let hosts: Vec<u8> = client_hosts(options).collect();
    node.add_leg(Net::External, &hosts, options.mtu);
    if kind == Kind::Tunnel {
        node.add_routes(Some(Net::Remote), Net::External, ROUTER_HOST, None);
    }
    node
}

fn director(kind: Kind, role: Role, options: &Options) -> Node {
    let mut node = Node::empty(role);
    let (host, lvs_host) = match role {
        Role::Backup => (BACKUP_HOST, BACKUP_LVS_HOST),
        _ => (DIRECTOR_HOST, DIRECTOR_LVS_HOST),
    };
    node.add_leg(Net::External, &[host], options.fabric_mtu);
    if options.vip_on_director && role == Role::Director {
        node.legs[0]
            .addresses
            .extend(Family::BOTH.map(|family| Cidr::host(vip(family))));
    }
    match kind {
        Kind::TwoBridge => node.add_leg(Net::Lvs, &[lvs_host], options.fabric_mtu),
        Kind::OneLeg => {}
        Kind::Tunnel => node.add_routes(Some(Net::Remote), Net::External, ROUTER_HOST, None),
        Kind::Nat => {
            node.add_leg(Net::Lvs, &[lvs_host], options.fabric_mtu);
            // The real servers' answers pass through the director's forwarding.
            node.forward();
        }
    }
    // A director that sends a packet back out of the leg it came by must not advise the client to
    // go to the real server itself.
    node.sysctl("net/ipv4/conf/all/send_redirects", "0");
    node.sysctl("net/ipv4/conf/default/send_redirects", "0");
    node
}

fn router(options: &Options) -> Node {
    let mut node = Node::empty(Role::Router);
    node.add_leg(Net::External, &[ROUTER_HOST], options.fabric_mtu);
    node.add_leg(Net::Remote, &[ROUTER_HOST], options.fabric_mtu);
    node.forward();
    // Answers come from the real servers' side with the VIP as source, an address that the router
    // knows on the other side: strict reverse-path filtering would drop them.
    node.leg_sysctl(1, "rp_filter", "2");
    node
}

fn server(kind: Kind, number: u8, options: &Options) -> Node {
    let mut node = Node::empty(Role::RealServer(number));
    let mtu = options.fabric_mtu;
    match kind {
        Kind::TwoBridge => {
            node.add_leg(Net::Lvs, &[10 + number], mtu);
            node.add_leg(Net::External, &[40 + number], mtu);
            // The director's frames come in by eth0 with a source that is routed by eth1, where
            // the answer goes out. Strict reverse-path filtering drops that; loose does not.
            node.leg_sysctl(0, "rp_filter", "2");
        }
        Kind::OneLeg => node.add_leg(Net::External, &[40 + number], mtu),
        Kind::Tunnel => {
            node.add_leg(Net::Remote, &[10 + number], mtu);
            // An answer of the fabric's size would not fit the client's leg.
            let limit = (options.fabric_mtu > options.mtu).then_some(options.mtu);
            node.add_routes(None, Net::Remote, ROUTER_HOST, limit);
        }
        Kind::Nat => {
            node.add_leg(Net::Lvs, &[10 + number], mtu);
            node.add_routes(None, Net::Lvs, DIRECTOR_LVS_HOST, None);
        }
    }
    if kind != Kind::Nat {
        node.hold_vip();
    }
    node
}

impl Node {
    fn empty(role: Role) -> Self {
        let mut node = Self {
            role,
            legs: Vec::new(),
            loopback: Vec::new(),
            routes: Vec::new(),
            sysctls: Vec::new(),
            leg_sysctls: Vec::new(),
        };
        // Namespaces take some of these from the host; a lab must not depend on where it runs.
        // The effective rp_filter is the greater of `all` and the interface's, so strict is set by
        // `default` (as distributions do) and the exceptions by interface.
        node.sysctl("net/ipv4/conf/all/rp_filter", "0");
        node.sysctl("net/ipv4/conf/default/rp_filter", "1");
        node.sysctl("net/ipv4/ip_forward", "0");
        // Addresses are unique by plan: duplicate detection would only make the start slow.
        node.sysctl("net/ipv6/conf/all/accept_dad", "0");
        node.sysctl("net/ipv6/conf/default/accept_dad", "0");
        node.sysctl("net/ipv6/conf/default/accept_ra", "0");
        node.sysctl("net/ipv6/conf/default/router_solicitations", "0");
        node.sysctl("net/ipv6/conf/all/disable_ipv6", "0");
        node.sysctl("net/ipv6/conf/default/disable_ipv6", "0");
        node
    }

    fn sysctl(&mut self, path: &str, value: &str) {
        self.sysctls.push((path.to_owned(), value.to_owned()));
    }

    fn leg_sysctl(&mut self, leg: usize, name: &str, value: &str) {
        let path = format!("net/ipv4/conf/{}/{name}", self.legs[leg].name);
        self.leg_sysctls.push((path, value.to_owned()));
    }

    /// Routers of both families.
    fn forward(&mut self) {
        self.sysctl("net/ipv4/ip_forward", "1");
        self.sysctl("net/ipv6/conf/all/forwarding", "1");
        self.sysctl("net/ipv6/conf/default/forwarding", "1");
    }

    /// Has the VIP as a real server must: accepted, but nobody is told.
    ///
    /// IPv4 answers ARP for any address of the host on any interface; `arp_ignore=1` keeps to the
    /// addresses of the asked interface, which the VIP on `lo` is not, and `arp_announce=2` asks
    /// with an address of the asking interface instead of the VIP. IPv6 neighbour discovery
    /// answers only for addresses of the asked interface anyway. The length must be that of one
    /// host: a network on `lo` would make the whole network local.
    fn hold_vip(&mut self) {
        self.loopback
            .extend(Family::BOTH.map(|family| Cidr::host(vip(family))));
        self.sysctl("net/ipv4/conf/all/arp_ignore", "1");
        self.sysctl("net/ipv4/conf/all/arp_announce", "2");
    }

    fn add_leg(&mut self, net: Net, hosts: &[u8], mtu: u16) {
        let number = self.legs.len() as u8;
        let (node, port) = match self.role {
            Role::Switch => (0, "switch".to_owned()),
            Role::Client => (1, format!("client{number}")),
            Role::Director => (2, format!("director{number}")),
            Role::Router => (3, format!("router{number}")),
            Role::Backup => (4, format!("backup{number}")),
            Role::RealServer(server) => (0x10 + server, format!("rs{server}-{number}")),
        };
        let addresses = Family::BOTH
            .into_iter()
            .flat_map(|family| hosts.iter().map(move |host| net.interface(*host, family)))
            .collect();
        let name = format!("eth{number}");
        self.legs.push(Leg {
            name,
            port,
            net,
            mac: leg_mac(node, number),
            addresses,
            mtu,
        });
    }

    fn add_routes(&mut self, to: Option<Net>, by: Net, via: u8, mtu: Option<u16>) {
        self.routes.extend(Family::BOTH.map(|family| Route {
            to: to.map(|net| net.prefix(family)),
            via: by.host(via, family),
            mtu,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::topology::Topology;

    #[test]
    fn nobody_shares_an_address_or_a_port_even_in_the_largest_lab() {
        let options = Options {
            backup: true,
            real_servers: 50,
            client_addresses: 100,
            ..Options::default()
        };
        for kind in Kind::ALL {
            let topology = Topology::new(kind, &options).unwrap();
            let mut seen = HashSet::new();
            for leg in topology.nodes.iter().flat_map(|node| &node.legs) {
                assert!(
                    seen.insert(leg.port.clone()),
                    "{kind}: port {} twice",
                    leg.port
                );
                assert!(
                    leg.port.len() <= 15,
                    "{} is too long for an interface",
                    leg.port
                );
                assert!(
                    seen.insert(leg.mac.to_string()),
                    "{kind}: {} twice",
                    leg.mac
                );
                for address in &leg.addresses {
                    assert!(seen.insert(address.to_string()), "{kind}: {address} twice");
                }
            }
        }
    }

    #[test]
    fn real_servers_have_the_address_that_the_director_is_told() {
        for kind in Kind::ALL {
            let topology = Topology::new(kind, &Options::default()).unwrap();
            for number in 1..=3 {
                for family in Family::BOTH {
                    let node = topology.node(Role::RealServer(number)).unwrap();
                    let told = topology.real_server(number, family);
                    assert_eq!(node.leg_address(0, family), Some(told), "{kind} rs{number}");
                }
            }
        }
    }

    #[test]
    fn only_forwarding_methods_that_keep_the_destination_put_the_vip_on_servers() {
        for kind in Kind::ALL {
            let topology = Topology::new(kind, &Options::default()).unwrap();
            let node = topology.node(Role::RealServer(1)).unwrap();
            assert_eq!(node.loopback.is_empty(), kind == Kind::Nat, "{kind}");
        }
    }
}
