//! A topology is the plan of a lab: its nodes, legs, bridges, addresses, routes and sysctls as data.
//!
//! Nothing here touches the kernel; [`crate::lab::Lab`] carries a plan out. Every node is a network
//! namespace. The bridges live in a namespace of their own, `switch`, so that the host's is never
//! touched; each leg of a node has its other end there, named after node and leg (`client0`,
//! `director1`, `rs2-0`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use pointsman_wire::Mac;

use crate::address::{Cidr, Family, MAX_CLIENT_ADDRESSES, MAX_REAL_SERVERS, Net};
use crate::error::{LabError, Result};
use crate::plan;

/// Shape of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Direct routing; the director reaches the real servers over a network of their own and they
    /// answer the client over the clients' network.
    TwoBridge,
    /// Direct routing with everybody on one network.
    OneLeg,
    /// Tunnel: the real servers are behind a router, so that only encapsulated packets reach them.
    Tunnel,
    /// Masquerade: the real servers are on a private network and the director is their gateway.
    Nat,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::TwoBridge, Self::OneLeg, Self::Tunnel, Self::Nat];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoBridge => "two-bridge",
            Self::OneLeg => "one-leg",
            Self::Tunnel => "tunnel",
            Self::Nat => "nat",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                LabError::Usage(format!("no topology is called {text:?}; there are {names}"))
            })
    }
}

/// How the switch ports that face the directors treat frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WirePort {
    /// Whether the port finishes checksums and segments, as a physical wire forces a sender to.
    ///
    /// Frames between network namespaces never meet a wire: a sender leaves the checksum to a
    /// device that does not exist (`CHECKSUM_PARTIAL`) and hands over segments of up to 64 KiB. A
    /// native XDP program on a veth sees such frames, and when it transmits or redirects one, the
    /// mark is lost and the real server finds a bad checksum. On real hardware this cannot happen:
    /// what an XDP program receives came over a wire. With this option the switch's ports towards
    /// the directors have `tx`, `tso` and `gso` off, so that the kernel completes each frame where
    /// it would meet the wire. The offloads of clients and real servers stay as they were: they
    /// must not be switched off to make a test pass.
    ///
    /// The same ports run an XDP program that passes everything. A frame that XDP sends into a veth
    /// is lost unless the other end receives by NAPI. GRO there would do for `XDP_REDIRECT`, but
    /// after `XDP_TX` the veth driver wakes only an end that has a program.
    pub complete_checksums: bool,
}

/// What may differ between labs of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Part of all namespace names (`pm<tag>-client`), lower-case letters and digits; one that no
    /// other lab has when not given.
    pub tag: Option<String>,
    /// Number of real servers, 1 to 50.
    pub real_servers: u8,
    /// MTU of the client's leg.
    pub mtu: u16,
    /// MTU of all other legs; 20 to 40 more make room for an outer header.
    pub fabric_mtu: u16,
    /// Ports towards the directors.
    pub wire_port: WirePort,
    /// Whether there is a second director, `backup`, on the same networks as the first. It never
    /// has the VIP by plan.
    pub backup: bool,
    /// Whether the director has the VIP; without, VRRP brings it.
    pub vip_on_director: bool,
    /// Number of addresses of the client, 1 to 100: .2, then .101, .102, ...
    pub client_addresses: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tag: None,
            real_servers: 3,
            mtu: 1500,
            fabric_mtu: 1500,
            wire_port: WirePort::default(),
            backup: false,
            vip_on_director: true,
            client_addresses: 1,
        }
    }
}

/// Part that a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Holds the bridges.
    Switch,
    /// Asks.
    Client,
    /// Balances.
    Director,
    /// Balances when the director does not.
    Backup,
    /// Joins the clients' network and the real servers' in the tunnel lab.
    Router,
    /// Serves; counted from 1.
    RealServer(u8),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.pad("switch"),
            Self::Client => f.pad("client"),
            Self::Director => f.pad("director"),
            Self::Backup => f.pad("backup"),
            Self::Router => f.pad("router"),
            Self::RealServer(number) => f.pad(&format!("rs{number}")),
        }
    }
}

/// An interface of a node and the switch port at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Interface name in the node: `eth0`, `eth1`.
    pub name: String,
    /// Interface name in the switch.
    pub port: String,
    /// Network, and by it the bridge.
    pub net: Net,
    /// Hardware address.
    pub mac: Mac,
    /// Addresses in order; addresses of host length are virtual.
    pub addresses: Vec<Cidr>,
    /// Maximum transmission unit of both ends, bytes.
    pub mtu: u16,
}

/// A static route of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination, or none for the default route.
    pub to: Option<Cidr>,
    /// Next hop; it tells the family too.
    pub via: IpAddr,
    /// MTU towards there when it is less than the leg's.
    pub mtu: Option<u16>,
}

/// One network namespace with a part to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its part.
    pub role: Role,
    /// Its interfaces.
    pub legs: Vec<Leg>,
    /// Addresses on `lo`.
    pub loopback: Vec<Cidr>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Sysctls set before the legs exist: key, value.
    pub sysctls: Vec<(String, String)>,
    /// Sysctls of the legs, set when they exist.
    pub leg_sysctls: Vec<(String, String)>,
}

impl Node {
    /// The first address of a leg in a family.
    pub fn leg_address(&self, leg: usize, family: Family) -> Option<IpAddr> {
        let addresses = &self.legs.get(leg)?.addresses;
        addresses
            .iter()
            .map(|cidr| cidr.address)
            .find(|address| Family::of(*address) == family)
    }
}

/// The plan of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Its shape.
    pub kind: Kind,
    /// What it was made with.
    pub options: Options,
    /// All nodes but the switch.
    pub nodes: Vec<Node>,
}

impl Topology {
    /// Plans a lab.
    pub fn new(kind: Kind, options: &Options) -> Result<Self> {
        check(options)?;
        Ok(Self {
            kind,
            options: options.clone(),
            nodes: plan::nodes(kind, options),
        })
    }

    /// Networks in use, each a bridge of the switch.
    pub fn nets(&self) -> Vec<Net> {
        let mut nets = Vec::new();
        for leg in self.nodes.iter().flat_map(|node| &node.legs) {
            if !nets.contains(&leg.net) {
                nets.push(leg.net);
            }
        }
        nets
    }

    /// The node with this part.
    pub fn node(&self, role: Role) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role == role)
    }

    /// The address by which the director knows real server `number` (from 1).
    pub fn real_server(&self, number: u8, family: Family) -> IpAddr {
        plan::real_server(self.kind, number).host(family)
    }

    /// All real servers' addresses, first to last.
    pub fn real_servers(&self, family: Family) -> Vec<IpAddr> {
        (1..=self.options.real_servers)
            .map(|number| self.real_server(number, family))
            .collect()
    }

    /// The real server that has this address.
    pub fn real_server_named(&self, address: IpAddr) -> Option<Role> {
        (1..=self.options.real_servers)
            .find(|number| self.real_server(*number, Family::of(address)) == address)
            .map(Role::RealServer)
    }

    /// The addresses that the client can use as source, first to last.
    pub fn client_addresses(&self, family: Family) -> Vec<IpAddr> {
        plan::client_hosts(&self.options)
            .map(|host| Net::External.host(host, family))
            .collect()
    }

    /// Who has this hardware address: node and interface name.
    pub fn owner_of(&self, mac: Mac) -> Option<(Role, &str)> {
        self.nodes
            .iter()
            .flat_map(|node| node.legs.iter().map(move |leg| (node.role, leg)))
            .find(|(_, leg)| leg.mac == mac)
            .map(|(role, leg)| (role, leg.name.as_str()))
    }

    /// The hosts of the plan as a table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            for leg in &node.legs {
                let addresses: Vec<_> = leg.addresses.iter().map(Cidr::to_string).collect();
                text += &format!(
                    "{:9} {:5} {:6} {}  {}\n",
                    node.role,
                    leg.name,
                    leg.net.bridge(),
                    leg.mac,
                    addresses.join(" ")
                );
            }
            if !node.loopback.is_empty() {
                let addresses: Vec<_> = node.loopback.iter().map(Cidr::to_string).collect();
                text += &format!(
                    "{:9} lo                              {}\n",
                    node.role,
                    addresses.join(" ")
                );
            }
        }
        text
    }
}

fn check(options: &Options) -> Result<()> {
    let wrong = |text: String| Err(LabError::Usage(text));
    if !(1..=MAX_REAL_SERVERS).contains(&options.real_servers) {
        return wrong(format!(
            "a lab has 1 to {MAX_REAL_SERVERS} real servers, not {}",
            options.real_servers
        ));
    }
    if !(1..=MAX_CLIENT_ADDRESSES).contains(&options.client_addresses) {
        return wrong(format!(
            "the client has 1 to {MAX_CLIENT_ADDRESSES} addresses, not {}",
            options.client_addresses
        ));
    }
    if options.mtu < 1280 || options.fabric_mtu < options.mtu {
        return wrong(format!(
            "MTUs {} and {}: IPv6 needs 1280, and the fabric's must not be less than the client's",
            options.mtu, options.fabric_mtu
        ));
    }
    if let Some(tag) = &options.tag {
        check_tag(tag)?;
    }
    Ok(())
}

/// Refuses a tag that would not make good namespace names.
pub fn check_tag(tag: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if tag.is_empty() || tag.len() > 32 || !tag.bytes().all(good) {
        return Err(LabError::Usage(format!(
            "the tag {tag:?} must be 1 to 32 lower-case letters and digits"
        )));
    }
    Ok(())
}
