//! What was read of one node: a host, a guest, or a network namespace.
//!
//! A snapshot is JSON of the schema [`SCHEMA`]. Members that are missing have their default, members
//! that are not known are passed over, so that versions can read each other as long as the number
//! stays; a larger number is refused.

mod bridging;
mod link;
mod mac_text;
mod multicast;
mod part;
mod prefix;
mod route;
mod rules;
mod service;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use bridging::{ForwardingEntry, PortVlan, PortVlans};
pub use link::{
    Bridge, BridgePort, Link, LinkAddress, LinkCounters, OtherLink, Tunnel, VirtualFunction, Xdp,
};
pub use multicast::{Member, Multicast};
pub use part::{Gap, Part};
pub use prefix::{Prefix, PrefixError};
pub use route::{MAIN, Neighbour, Route, RouteHop, RoutingRule};
pub use rules::{RuleDumps, SavedRules};
pub use service::{Balancer, Service};
pub use socket::Socket;

/// The name of the format, without its number.
const FORMAT: &str = "pointsman.snapshot/";
/// The number of the format that is written; the largest that is read.
const VERSION: u32 = 1;
/// What a snapshot says it is.
pub const SCHEMA: &str = "pointsman.snapshot/1";
/// Bytes of the largest snapshot that is read.
pub const LIMIT: usize = 64 << 20;

/// Why something is no [`Snapshot`].
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Too large.
    #[error("{size} bytes are more than the {LIMIT} that a snapshot may have")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// No JSON, or not of the form.
    #[error("damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else.
    #[error(
        "no snapshot: it has no member \"schema\" that begins with \"{FORMAT}\"; `pointsman collect` writes one"
    )]
    NotOurs,
    /// Of a later version.
    #[error("of schema {found}, and this program reads up to {SCHEMA}: use a newer program")]
    TooNew {
        /// What it says it is.
        found: String,
    },
}

/// How a node was reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The program ran there.
    #[default]
    Here,
    /// A network namespace beside the program's.
    Netns(String),
    /// By ssh.
    Host(String),
}

/// Everything that was read of one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name and version of the program that wrote it.
    pub tool: String,
    /// What the node is called: the name of its namespace, or of the host.
    pub node: String,
    /// How it was reached.
    pub origin: Origin,
    /// When, milliseconds since 1970.
    pub taken: u64,
    /// Whether names and addresses were replaced.
    pub redacted: bool,
    /// The kernel's name and version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The parts that were read.
    pub parts: BTreeSet<Part>,
    /// The parts that were not, and why.
    pub gaps: Vec<Gap>,
    /// Links by their order in the kernel.
    pub links: Vec<Link>,
    /// Routes of both families.
    pub routes: Vec<Route>,
    /// Rules that choose a table of routes.
    pub routing_rules: Vec<RoutingRule>,
    /// Neighbours of both families.
    pub neighbours: Vec<Neighbour>,
    /// What bridges know.
    pub forwarding: Vec<ForwardingEntry>,
    /// VLANs of bridge ports.
    pub vlans: Vec<PortVlans>,
    /// Groups that bridges pass on to some ports only.
    #[serde(skip_serializing_if = "Multicast::is_empty")]
    pub multicast: Multicast,
    /// Names of the other namespaces that links lead to, by their number here.
    pub namespaces: BTreeMap<i64, String>,
    /// Kernel parameters by their path below `/proc/sys`, without leading slash.
    pub sysctls: BTreeMap<String, String>,
    /// Offloads by link, under the names of `ethtool`.
    pub offloads: BTreeMap<String, BTreeMap<String, bool>>,
    /// Packet-filter rules.
    pub rules: RuleDumps,
    /// Tracked connections, as `conntrack` prints them.
    pub connections: Vec<String>,
    /// Sockets that wait for clients.
    pub sockets: Vec<Socket>,
    /// Counters of the network stack under the names of `nstat`: `TcpExtListenOverflows`.
    pub counters: BTreeMap<String, u64>,
    /// Settings of Pointsman that are numbers, under their names.
    pub settings: BTreeMap<String, i64>,
    /// Virtual services.
    pub services: Vec<Service>,
    /// Definitions of libvirt domains, XML.
    pub domains: Vec<String>,
    /// Definitions of libvirt network filters, XML.
    pub network_filters: Vec<String>,
    /// Bindings of libvirt network filters to ports, XML.
    pub filter_bindings: Vec<String>,
    /// Command lines of kube-proxy, and of what has it within.
    pub kube_proxy: Vec<String>,
}

impl Snapshot {
    /// Reads a snapshot.
    pub fn read(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if bytes.len() > LIMIT {
            return Err(SnapshotError::TooLarge { size: bytes.len() });
        }
        Self::from_value(serde_json::from_slice(bytes)?)
    }

    /// Reads a snapshot from JSON that was read.
    pub fn from_value(value: Value) -> Result<Self, SnapshotError> {
        check_schema(&value)?;
        Ok(serde_json::from_value(value)?)
    }

    /// Whether a part was read.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The link that has an address, and the address there.
    pub fn owner_of(&self, address: IpAddr) -> Option<(&Link, &LinkAddress)> {
        self.links
            .iter()
            .find_map(|link| Some((link, link.address(address)?)))
    }

    /// The ports of a bridge.
    pub fn ports_of<'a>(&'a self, bridge: &'a str) -> impl Iterator<Item = &'a Link> {
        self.links
            .iter()
            .filter(move |link| link.port.is_some() && link.master.as_deref() == Some(bridge))
    }

    /// A kernel parameter by its path below `/proc/sys`: `net/ipv4/ip_forward`.
    pub fn sysctl(&self, path: &str) -> Option<&str> {
        self.sysctls.get(path).map(String::as_str)
    }

    /// A kernel parameter that is a number.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.sysctl(path)?.parse().ok()
    }

    /// The value in force of an IPv4 parameter of an interface, where the kernel takes the greater
    /// of `all` and the interface's: `rp_filter`, `arp_ignore`, `arp_announce`, `accept_local`.
    pub fn greater(&self, link: &str, name: &str) -> Option<i64> {
        let of = |link: &str| self.number(&format!("net/ipv4/conf/{link}/{name}"));
        Some(of("all")?.max(of(link)?))
    }

    /// The route to an address in the main table: the longest prefix, then the lowest metric.
    pub fn route_to(&self, address: IpAddr) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| {
                [MAIN, "local"].contains(&route.table.as_str())
                    && !["broadcast", "multicast", "anycast"].contains(&route.kind.as_str())
                    && route.to.contains(address)
            })
            .min_by_key(|route| {
                let local = route.table != "local";
                (local, std::cmp::Reverse(route.to.length), route.metric)
            })
    }
}

/// Refuses what is no snapshot, or a later one.
fn check_schema(value: &Value) -> Result<(), SnapshotError> {
    let schema = value.get("schema").and_then(Value::as_str);
    let schema = schema.ok_or(SnapshotError::NotOurs)?;
    let number = schema.strip_prefix(FORMAT).ok_or(SnapshotError::NotOurs)?;
    match number.parse::<u32>() {
        Ok(1..=VERSION) => Ok(()),
        Ok(0) => Err(SnapshotError::NotOurs),
        // Numbers too large to be read, too.
        Ok(_) => Err(SnapshotError::TooNew {
            found: schema.to_owned(),
        }),
        Err(_) => Err(SnapshotError::NotOurs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let snapshot = Snapshot {
            schema: SCHEMA.to_owned(),
            node: "rs1".to_owned(),
            origin: Origin::Netns("rs1".to_owned()),
            parts: [Part::Links, Part::Sysctls].into(),
            links: vec![Link {
                index: 1,
                name: "lo".to_owned(),
                addresses: vec![LinkAddress {
                    prefix: "192.0.2.1/32".parse().unwrap(),
                    scope: "global".to_owned(),
                    flags: Vec::new(),
                }],
                ..Link::default()
            }],
            ..Snapshot::default()
        };
        let text = serde_json::to_vec(&snapshot).unwrap();
        assert_eq!(Snapshot::read(&text).unwrap(), snapshot);
    }

    #[test]
    fn what_is_missing_or_unknown_does_no_harm() {
        let text = br#"{"schema": "pointsman.snapshot/1", "node": "n", "new": [1], "parts": ["links", "auras"],
            "links": [{"name": "eth0", "speed": 3}]}"#;
        let snapshot = Snapshot::read(text).unwrap();
        assert!(snapshot.has(Part::Links) && snapshot.has(Part::Other));
        assert_eq!(snapshot.link("eth0").unwrap().mac, None);
    }

    #[test]
    fn what_is_no_snapshot_is_refused_with_a_reason() {
        for (text, said) in [
            ("", "damaged"),
            ("{\"schema\":", "damaged"),
            ("{}", "no snapshot"),
            ("[]", "no snapshot"),
            ("{\"schema\": \"pointsman.snapshot/0\"}", "no snapshot"),
            ("{\"schema\": \"pointsman.snapshot/\"}", "no snapshot"),
            ("{\"schema\": \"pointsman.bundle/1\"}", "no snapshot"),
            (
                "{\"schema\": \"pointsman.snapshot/2\"}",
                "use a newer program",
            ),
            (
                "{\"schema\": \"pointsman.snapshot/1\", \"links\": 3}",
                "damaged",
            ),
        ] {
            let error = Snapshot::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn the_route_is_the_longest_then_the_lowest() {
        let route = |to: &str, table: &str, kind: &str, metric| Route {
            to: to.parse().unwrap(),
            kind: kind.to_owned(),
            table: table.to_owned(),
            via: None,
            device: None,
            source: None,
            metric,
            mtu: None,
            advertised_segment: None,
            hops: Vec::new(),
            flags: Vec::new(),
        };
        let snapshot = Snapshot {
            routes: vec![
                route("0.0.0.0/0", "main", "unicast", 0),
                route("192.0.2.0/24", "main", "unicast", 100),
                route("192.0.2.0/24", "main", "unicast", 10),
                route("192.0.2.9/32", "local", "local", 0),
                route("192.0.2.0/32", "local", "broadcast", 0),
                route("192.0.2.0/25", "200", "unicast", 0),
            ],
            ..Snapshot::default()
        };
        let to = |address: &str| {
            let route = snapshot.route_to(address.parse().unwrap()).unwrap();
            (route.to.to_string(), route.metric)
        };
        assert_eq!(to("192.0.2.1"), ("192.0.2.0/24".to_owned(), 10));
        assert_eq!(to("192.0.2.9"), ("192.0.2.9/32".to_owned(), 0));
        assert_eq!(to("198.51.100.1"), ("0.0.0.0/0".to_owned(), 0));
        assert!(snapshot.route_to("::1".parse().unwrap()).is_none());
    }
}
