//! A site is the plan of a fault lab: hosts with bridges, guests behind their ports, all of it data.
//!
//! ```text
//! client -- gateway -- switch --+-- host1 (br0: eth0, vnet0) -- director
//!                               +-- host2 (br0: eth0, vnet0) -- rs1
//! ```
//!
//! As planned a site works: requests to the VIP are answered. Faults break it afterwards.

use std::net::{Ipv4Addr, SocketAddrV4};

use pointsman_path::topology::Role;
use pointsman_wire::Mac;

use crate::address::leg_mac;

use super::action::{Action, run, start};

/// The client outside.
pub(crate) const CLIENT: &str = "192.0.2.10";
/// The client when it is on the servers' network.
pub(crate) const LOCAL_CLIENT: &str = "198.51.100.10";
/// The gateway on the servers' network.
pub(crate) const GATEWAY: &str = "198.51.100.1";
/// The director's own address.
pub(crate) const DIRECTOR: &str = "198.51.100.200";
/// The virtual address.
pub(crate) const VIP: &str = "198.51.100.208";
/// The virtual service.
pub(crate) const SERVICE: &str = "198.51.100.208:80";
/// The first real server.
pub(crate) const RS1: &str = "198.51.100.226";
/// The second real server.
pub(crate) const RS2: &str = "198.51.100.227";
/// The first real server on a private network.
pub(crate) const PRIVATE_RS1: &str = "10.0.0.11";
/// The director there.
pub(crate) const PRIVATE_DIRECTOR: &str = "10.0.0.1";
/// A real server beyond the gateway.
pub(crate) const REMOTE_RS1: &str = "203.0.113.11";

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Bridges made in it.
    pub bridges: Vec<&'static str>,
    /// Lines for `ip -batch`, when the cables are there.
    pub lines: Vec<String>,
    /// Settings of the kernel, when the cables are there: key with slashes, value.
    pub sysctls: Vec<(String, String)>,
}

impl Node {
    /// Adds an address.
    pub(crate) fn address(&mut self, device: &str, address: &str) -> &mut Self {
        self.line(&format!("address add {address} dev {device}"))
    }

    /// Adds a default route.
    pub(crate) fn default_via(&mut self, gateway: &str) -> &mut Self {
        self.line(&format!("route add default via {gateway}"))
    }

    /// Adds a line for `ip -batch`.
    pub(crate) fn line(&mut self, line: &str) -> &mut Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Has a setting of the kernel.
    pub(crate) fn sysctl(&mut self, key: &str, value: &str) -> &mut Self {
        self.sysctls.push((key.replace('.', "/"), value.to_owned()));
        self
    }

    /// The VIP on `lo`, and silence about it, as a real server of direct routing has it.
    pub(crate) fn has_vip(&mut self) -> &mut Self {
        self.address("lo", &format!("{VIP}/32"))
            .sysctl("net.ipv4.conf.all.arp_ignore", "1")
            .sysctl("net.ipv4.conf.all.arp_announce", "2")
    }
}

/// What not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Bridges that filter VLANs, and VLAN interfaces.
    Vlans,
    /// The kernel's own IPVS, and `ipvsadm`.
    KernelIpvs,
    /// keepalived.
    Keepalived,
}

/// One end of a cable.
#[derive(Debug, Clone)]
pub struct End {
    /// The node.
    pub node: &'static str,
    /// The interface.
    pub port: String,
    /// The bridge that it is a port of.
    pub bridge: Option<&'static str>,
    /// Hardware address.
    pub mac: Mac,
}

/// A site.
#[derive(Debug, Clone)]
pub struct Site {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Pairs of virtual interfaces.
    pub cables: Vec<[End; 2]>,
    /// The virtual service.
    pub vip: SocketAddrV4,
    /// What must be there.
    pub needs: Vec<Need>,
    /// Who asks.
    pub asker: &'static str,
    /// Its address.
    pub client: Ipv4Addr,
    /// Arguments of `pointsman run`, if there is a director.
    pub director: Option<Vec<String>>,
    /// Virtual services and real servers: arguments of `ipvsadm`.
    pub services: Vec<String>,
    /// Servers and other processes, started before the director.
    pub processes: Vec<Action>,
    /// Done last, when everything works.
    pub last: Vec<Action>,
}

impl Site {
    fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            cables: Vec::new(),
            vip: SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 208), 80),
            needs: Vec::new(),
            asker: "client",
            client: Ipv4Addr::new(192, 0, 2, 10),
            director: None,
            services: Vec::new(),
            processes: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Direct routing from a client outside.
    pub(crate) fn direct() -> Self {
        let mut site = Self::balanced(true);
        site.real_server("rs1", "host2", "vnet0", RS1, GATEWAY)
            .has_vip();
        site.balances(&[RS1], "-g");
        site
    }

    /// Direct routing with the client on the servers' network.
    pub(crate) fn direct_local() -> Self {
        let mut site = Self::balanced(false);
        site.real_server("rs1", "host2", "vnet0", RS1, GATEWAY)
            .has_vip();
        site.balances(&[RS1], "-g");
        site
    }

    /// Direct routing to a real server that gets requests by one network and answers by another.
    pub(crate) fn two_networks() -> Self {
        let mut site = Self::balanced(true);
        site.real_server("rs1", "host2", "vnet0", RS1, GATEWAY)
            .has_vip();
        site.at("switch").bridges.push("br1");
        site.cable(("director", "eth1", None), ("switch", "lvs0", Some("br1")));
        site.cable(("rs1", "eth1", None), ("switch", "lvs1", Some("br1")));
        let inside = format!("{PRIVATE_DIRECTOR}/24");
        site.at("director").address("eth1", &inside);
        let inside = format!("{PRIVATE_RS1}/24");
        site.at("rs1").address("eth1", &inside);
        site.balances(&[PRIVATE_RS1], "-g");
        site
    }

    /// A tunnel to a real server beyond the gateway.
    pub(crate) fn tunnel() -> Self {
        let mut site = Self::balanced(true);
        site.node("host2", Role::Host).bridges.push("br0");
        site.cable(("gateway", "lan2", None), ("host2", "eth0", Some("br0")));
        site.at("gateway").address("lan2", "203.0.113.1/24");
        site.guest("rs1", Role::RealServer, "host2", "vnet0");
        let address = format!("{REMOTE_RS1}/24");
        site.at("rs1")
            .address("eth0", &address)
            .default_via("203.0.113.1")
            .has_vip();
        site.processes.push(tunnel_end());
        site.processes.push(server("rs1"));
        site.balances(&[REMOTE_RS1], "-i");
        site
    }

    /// Masquerade to a real server on a private network of the director's host.
    pub(crate) fn masquerade() -> Self {
        let mut site = Self::balanced(true);
        site.at("host1").bridges.push("br1");
        site.cable(("director", "eth1", None), ("host1", "vnet1", Some("br1")));
        site.node("rs1", Role::RealServer);
        site.cable(("rs1", "eth0", None), ("host1", "vnet2", Some("br1")));
        let inside = format!("{PRIVATE_DIRECTOR}/24");
        site.at("director").address("eth1", &inside);
        let inside = format!("{PRIVATE_RS1}/24");
        site.at("rs1")
            .address("eth0", &inside)
            .default_via(PRIVATE_DIRECTOR);
        site.processes.push(server("rs1"));
        site.balances(&[PRIVATE_RS1], "-m");
        site
    }

    /// Masquerade to a real server on the director's own network, with the director as its gateway.
    pub(crate) fn one_armed(outside: bool) -> Self {
        let mut site = Self::balanced(outside);
        site.real_server("rs1", "host2", "vnet0", RS1, DIRECTOR);
        site.balances(&[RS1], "-m");
        site
    }

    /// Client, gateway, switch, the director on its host.
    fn balanced(outside: bool) -> Self {
        let mut site = Self::empty();
        site.node("client", Role::Client);
        site.node("gateway", Role::Gateway)
            .sysctl("net.ipv4.ip_forward", "1");
        site.node("switch", Role::Switch).bridges.push("br0");
        if outside {
            site.cable(("client", "eth0", None), ("gateway", "lan0", None));
            let address = format!("{CLIENT}/24");
            site.at("client")
                .address("eth0", &address)
                .default_via("192.0.2.1");
            site.at("gateway").address("lan0", "192.0.2.1/24");
        } else {
            site.cable(("client", "eth0", None), ("switch", "cl", Some("br0")));
            let address = format!("{LOCAL_CLIENT}/24");
            site.at("client")
                .address("eth0", &address)
                .default_via(GATEWAY);
            site.client = Ipv4Addr::new(198, 51, 100, 10);
        }
        site.cable(("gateway", "lan1", None), ("switch", "gw", Some("br0")));
        site.at("gateway").address("lan1", &format!("{GATEWAY}/24"));
        site.host("host1", "h1");
        site.guest("director", Role::Director, "host1", "vnet0");
        let own = format!("{DIRECTOR}/24");
        let vip = format!("{VIP}/32");
        site.at("director")
            .address("eth0", &own)
            .address("eth0", &vip)
            .default_via(GATEWAY);
        site.director = Some(Vec::new());
        site
    }

    /// Adds a node.
    pub(crate) fn node(&mut self, name: &'static str, role: Role) -> &mut Node {
        let mut node = Node {
            name,
            role,
            bridges: Vec::new(),
            lines: Vec::new(),
            sysctls: Vec::new(),
        };
        // New namespaces start with it; only hosts that a fault says so of filter bridged packets.
        for table in ["arptables", "iptables", "ip6tables"] {
            let key = format!("net.bridge.bridge-nf-call-{table}");
            if matches!(role, Role::Host | Role::Switch) {
                node.sysctl(&key, "0");
            }
        }
        self.nodes.push(node);
        self.at(name)
    }

    /// A node of the plan.
    pub(crate) fn at(&mut self, name: &str) -> &mut Node {
        let place = self.nodes.iter().position(|node| node.name == name);
        // Plans are written in this crate, and a test builds each.
        &mut self.nodes[place.expect("a site has the nodes that its plan names")]
    }

    /// Connects two nodes: node, interface, bridge.
    pub(crate) fn cable(
        &mut self,
        one: (&'static str, &str, Option<&'static str>),
        other: (&'static str, &str, Option<&'static str>),
    ) {
        let [one, other] = [one, other].map(|(node, port, bridge)| End {
            node,
            port: port.to_owned(),
            bridge,
            mac: self.next_mac(node),
        });
        self.cables.push([one, other]);
    }

    fn next_mac(&self, node: &str) -> Mac {
        let number = self.nodes.iter().position(|other| other.name == node);
        let ends = self.cables.iter().flatten();
        let leg = ends.filter(|end| end.node == node).count();
        leg_mac(number.unwrap_or_default() as u8 + 1, leg as u8)
    }

    /// Hardware address of a node's interface.
    pub(crate) fn mac(&self, node: &str, port: &str) -> Mac {
        let mut ends = self.cables.iter().flatten();
        ends.find(|end| end.node == node && end.port == port)
            .map_or(Mac([0; 6]), |end| end.mac)
    }

    /// Gives a host's port another name, such as those of OpenStack.
    pub(crate) fn rename(mut self, node: &str, port: &str, name: &str) -> Self {
        for end in self.cables.iter_mut().flatten() {
            if end.node == node && end.port == port {
                name.clone_into(&mut end.port);
            }
        }
        self
    }

    /// Adds a host on a port of the switch.
    pub(crate) fn host(&mut self, name: &'static str, port: &str) -> &mut Node {
        self.node(name, Role::Host).bridges.push("br0");
        self.cable((name, "eth0", Some("br0")), ("switch", port, Some("br0")));
        self.at(name)
    }

    /// Adds a guest on a port of a host.
    pub(crate) fn guest(
        &mut self,
        name: &'static str,
        role: Role,
        host: &'static str,
        port: &str,
    ) -> &mut Node {
        self.node(name, role);
        self.cable((name, "eth0", None), (host, port, Some("br0")));
        self.at(name)
    }

    /// Adds a machine on a port of the switch.
    pub(crate) fn machine(&mut self, name: &'static str, role: Role, port: &str) -> &mut Node {
        self.guest(name, role, "switch", port)
    }

    /// Adds a host with a guest that serves.
    pub(crate) fn real_server(
        &mut self,
        name: &'static str,
        host: &'static str,
        port: &str,
        address: &str,
        gateway: &str,
    ) -> &mut Node {
        if !self.nodes.iter().any(|node| node.name == host) {
            self.host(host, "h2");
        }
        self.guest(name, Role::RealServer, host, port);
        self.processes.push(server(name));
        self.at(name)
            .address("eth0", &format!("{address}/24"))
            .default_via(gateway)
    }

    /// Has the director balance the VIP to these real servers.
    pub(crate) fn balances(&mut self, servers: &[&str], method: &str) {
        self.services = vec![format!("-A -t {SERVICE} -s rr")];
        for server in servers {
            self.services
                .push(format!("-a -t {SERVICE} -r {server} {method}"));
        }
    }

    /// With the kernel's IPVS as the director.
    pub(crate) fn by_kernel(mut self) -> Self {
        self.needs.push(Need::KernelIpvs);
        self.director = None;
        self.at("director").sysctl("net.ipv4.ip_forward", "1");
        for service in std::mem::take(&mut self.services) {
            let command = format!("ipvsadm {service}");
            self.last.push(run("director", &command));
        }
        self
    }

    /// With a change of the plan.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The server of a node, on port 80.
pub(crate) fn server(name: &'static str) -> Action {
    start(name, name, &format!("serve --name {name} --port 80"))
}

/// The end of the tunnel on the first real server.
pub(crate) fn tunnel_end() -> Action {
    start("rs1", "tunnel", "decapsulate --interface eth0 --tun decap0")
}
