//! Who is there and how they are connected, as far as somebody told: the file that the doctor is
//! given by `--topology`.
//!
//! It is JSON of the schema [`SCHEMA`]. Nodes name how to reach them; what is in them the doctor
//! reads there. Cables are told by naming, at a port, the node and port at its other end.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::snapshot::Origin;

/// The name of the format, without its number.
const FORMAT: &str = "pointsman.topology/";
/// What a topology says it is.
pub const SCHEMA: &str = "pointsman.topology/1";
/// Bytes of the largest topology that is read.
pub const LIMIT: usize = 4 << 20;
/// How many nodes a topology may have.
pub const NODES: usize = 1024;
/// How many ports a node may have.
pub const PORTS: usize = 4096;

/// Why something is no [`Topology`].
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Too large.
    #[error("{size} bytes are more than the {LIMIT} that a topology may have")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// No JSON, or not of the form.
    #[error("damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else.
    #[error("no topology: its member \"schema\" is {found:?}, not {SCHEMA:?}")]
    NotOurs {
        /// What it says it is.
        found: String,
    },
    /// More nodes or ports than make sense.
    #[error("more {what} than a topology may have ({limit})")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may be.
        limit: usize,
    },
    /// Two things of one name.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A cable that leads nowhere, or whose ends contradict each other.
    #[error("port {port:?} of {node:?} is said to lead to {peer}, which {what}")]
    Cable {
        /// The node.
        node: String,
        /// Its port.
        port: String,
        /// The other end.
        peer: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name that cannot be one.
    #[error("{name:?} is no name of {what}")]
    Name {
        /// Of what it was to be the name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Asks.
    Client,
    /// Routes between networks.
    Gateway,
    /// Has bridges, and no guests.
    Switch,
    /// A hypervisor: has bridges that guests' ports are on.
    Host,
    /// Balances.
    Director,
    /// Serves.
    RealServer,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// The other end of a cable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// The node.
    pub node: String,
    /// Its port.
    pub port: String,
}

/// A cable: node and port at each end.
pub type Cable = [(String, String); 2];

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the node.
    pub name: String,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The bridge of the node that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Where the cable leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

/// A host, guest or switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, also in bundles.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How it is reached.
    #[serde(default)]
    pub at: Origin,
    /// Its addresses, where somebody read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Its interfaces.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// A transport protocol of virtual services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Who is there, and what is asked of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// [`SCHEMA`].
    pub schema: String,
    /// The virtual service that is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<SocketAddr>,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The node that asks; the first client otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<String>,
    /// All nodes.
    pub nodes: Vec<Node>,
}

/// One node of a way, with the ports by which a frame comes in and goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop<'a> {
    /// The node.
    pub node: &'a Node,
    /// Where the frame comes in; none at the way's beginning.
    pub enters: Option<&'a Port>,
    /// Where it goes out; none at its end.
    pub leaves: Option<&'a Port>,
}

impl Topology {
    /// Reads a topology and checks that it makes sense.
    pub fn read(bytes: &[u8]) -> Result<Self, TopologyError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            schema: String,
        }
        if bytes.len() > LIMIT {
            return Err(TopologyError::TooLarge { size: bytes.len() });
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.schema.strip_prefix(FORMAT) != Some("1") {
            return Err(TopologyError::NotOurs { found: head.schema });
        }
        let topology: Self = serde_json::from_slice(bytes)?;
        topology.check()?;
        Ok(topology)
    }

    /// The topology as JSON.
    pub fn write(&self) -> String {
        // Keys are texts, and no value refuses.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// All cables: node and port at both ends.
    pub fn cables(&self) -> impl Iterator<Item = Cable> {
        self.nodes.iter().flat_map(|node| {
            let ports = node.ports.iter();
            ports.filter_map(|port| {
                let peer = port.peer.as_ref()?;
                Some([
                    (node.name.clone(), port.name.clone()),
                    (peer.node.clone(), peer.port.clone()),
                ])
            })
        })
    }

    /// All nodes of a role.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The node that asks.
    pub fn asker(&self) -> Option<&Node> {
        match &self.asker {
            Some(name) => self.node(name),
            None => self.of_role(Role::Client).next(),
        }
    }

    /// The shortest way of frames between two nodes: across bridges from port to port of the same
    /// one, and through gateways. None if there is none.
    pub fn way(&self, from: &str, to: &str) -> Option<Vec<Stop<'_>>> {
        let start = self.node(from)?;
        // A place is a node and the port by which it was reached.
        let mut reached: BTreeSet<(&str, Option<&str>)> = BTreeSet::new();
        let mut next = VecDeque::from([vec![Stop {
            node: start,
            enters: None,
            leaves: None,
        }]]);
        while let Some(way) = next.pop_front() {
            let last = way.last()?;
            if last.node.name == to {
                return Some(way);
            }
            for port in last.node.ports.iter().filter(|port| passes(last, port)) {
                let Some(peer) = &port.peer else { continue };
                let Some(node) = self.node(&peer.node) else {
                    continue;
                };
                let enters = node.ports.iter().find(|other| other.name == peer.port);
                if !reached.insert((&node.name, enters.map(|port| port.name.as_str()))) {
                    continue;
                }
                let mut longer = way.clone();
                if let Some(last) = longer.last_mut() {
                    last.leaves = Some(port);
                }
                longer.push(Stop {
                    node,
                    enters,
                    leaves: None,
                });
                next.push_back(longer);
            }
        }
        None
    }

    fn check(&self) -> Result<(), TopologyError> {
        if self.nodes.len() > NODES {
            return Err(TopologyError::TooMany {
                what: "nodes",
                limit: NODES,
            });
        }
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            check_name("a node", &node.name, 255)?;
            if !names.insert(&node.name) {
                return Err(twice("node", &node.name));
            }
            if node.ports.len() > PORTS {
                return Err(TopologyError::TooMany {
                    what: "ports of a node",
                    limit: PORTS,
                });
            }
            let mut ports = BTreeSet::new();
            for port in &node.ports {
                // `IFNAMSIZ` of the kernel's `if.h`, without the zero byte.
                check_name("an interface", &port.name, 15)?;
                if let Some(bridge) = &port.bridge {
                    check_name("a bridge", bridge, 15)?;
                }
                if !ports.insert(&port.name) {
                    return Err(twice("port", &format!("{} {}", node.name, port.name)));
                }
                self.check_cable(node, port)?;
            }
        }
        match &self.asker {
            Some(name) if self.node(name).is_none() => Err(TopologyError::Name {
                what: "a node that is there",
                name: name.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn check_cable(&self, node: &Node, port: &Port) -> Result<(), TopologyError> {
        let Some(peer) = &port.peer else {
            return Ok(());
        };
        let wrong = |what| TopologyError::Cable {
            node: node.name.clone(),
            port: port.name.clone(),
            peer: format!("{:?} of {:?}", peer.port, peer.node),
            what,
        };
        let other = self
            .node(&peer.node)
            .and_then(|node| node.ports.iter().find(|other| other.name == peer.port))
            .ok_or_else(|| wrong("is not there"))?;
        match &other.peer {
            Some(back) if (&back.node, &back.port) == (&node.name, &port.name) => Ok(()),
            Some(_) => Err(wrong("leads elsewhere")),
            None => Err(wrong("leads nowhere")),
        }
    }
}

/// Whether a frame that came to a node may leave it by this port.
fn passes(stop: &Stop<'_>, port: &Port) -> bool {
    let Some(enters) = stop.enters else {
        return true;
    };
    let bridged = port.bridge.is_some() && enters.bridge == port.bridge;
    enters.name != port.name && (bridged || stop.node.role == Role::Gateway)
}

fn twice(what: &'static str, name: &str) -> TopologyError {
    TopologyError::Twice {
        what,
        name: name.to_owned(),
    }
}

/// Names end up in command lines and on terminals.
fn check_name(what: &'static str, name: &str, longest: usize) -> Result<(), TopologyError> {
    let good = |character: char| character.is_ascii_graphic() && !"/\\'\"`$".contains(character);
    if name.is_empty() || name.len() > longest || name.starts_with('-') || !name.chars().all(good) {
        return Err(TopologyError::Name {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "schema": "pointsman.topology/1",
        "vip": "198.51.100.208:80",
        "client": "192.0.2.10",
        "nodes": [
            {"name": "client", "role": "client", "at": {"netns": "pmx-client"}, "ports": [
                {"name": "eth0", "peer": {"node": "gateway", "port": "lan0"}}]},
            {"name": "gateway", "role": "gateway", "ports": [
                {"name": "lan0", "peer": {"node": "client", "port": "eth0"}},
                {"name": "lan1", "peer": {"node": "host1", "port": "eth0"}}]},
            {"name": "host1", "role": "host", "at": {"host": "root@h1"}, "ports": [
                {"name": "eth0", "bridge": "br0", "peer": {"node": "gateway", "port": "lan1"}},
                {"name": "eth1", "bridge": "br1"},
                {"name": "vnet0", "bridge": "br0", "mac": "02:00:00:00:00:01",
                 "peer": {"node": "director", "port": "eth0"}},
                {"name": "vnet1", "bridge": "br1", "peer": {"node": "rs1", "port": "eth0"}}]},
            {"name": "director", "role": "director", "ports": [
                {"name": "eth0", "peer": {"node": "host1", "port": "vnet0"}}]},
            {"name": "rs1", "role": "real-server", "ports": [
                {"name": "eth0", "peer": {"node": "host1", "port": "vnet1"}}]},
            {"name": "printer", "role": "copier"}
        ]
    }"#;

    #[test]
    fn what_is_written_is_read_again() {
        let topology = Topology::read(TEXT.as_bytes()).unwrap();
        let again = Topology::read(topology.write().as_bytes()).unwrap();
        assert_eq!(again, topology);
        assert_eq!(topology.protocol, Protocol::Tcp);
        assert_eq!(topology.asker().unwrap().name, "client");
        assert_eq!(topology.node("printer").unwrap().role, Role::Other);
        let host = topology.node("host1").unwrap();
        assert_eq!(host.at, Origin::Host("root@h1".to_owned()));
    }

    #[test]
    fn ways_cross_bridges_and_gateways_and_nobody_else() {
        let topology = Topology::read(TEXT.as_bytes()).unwrap();
        let words = |from, to| {
            let way = topology.way(from, to)?;
            let name = |port: Option<&Port>| port.map_or(String::new(), |port| port.name.clone());
            let stops = way.iter().map(|stop| {
                let (enters, leaves) = (name(stop.enters), name(stop.leaves));
                format!("{enters}>{}>{leaves}", stop.node.name)
            });
            Some(stops.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            words("client", "director").unwrap(),
            ">client>eth0 lan0>gateway>lan1 eth0>host1>vnet0 eth0>director>"
        );
        assert_eq!(words("client", "client").unwrap(), ">client>");
        // Another bridge of the same host.
        assert_eq!(words("client", "rs1"), None);
        assert_eq!(words("client", "printer"), None);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (old, new, said) in [
            ("topology/1", "topology/2", "no topology"),
            (r#""name": "printer""#, r#""name": "rs1""#, "twice"),
            (r#""name": "printer""#, r#""name": "a b""#, "no name"),
            (r#""name": "printer""#, r#""name": "$(id)""#, "no name"),
            (r#""name": "printer""#, r#""name": "-x""#, "no name"),
            (
                r#""name": "eth1""#,
                r#""name": "interface-too-long""#,
                "no name",
            ),
            (
                r#""rs1", "port": "eth0""#,
                r#""rs1", "port": "eth7""#,
                "is not there",
            ),
            (
                r#""port": "vnet1""#,
                r#""port": "vnet0""#,
                "leads elsewhere",
            ),
            (
                r#""host1", "port": "eth0""#,
                r#""host1", "port": "eth1""#,
                "leads nowhere",
            ),
            (
                r#""client": "192"#,
                r#""asker": "me", "client": "192"#,
                "\"me\"",
            ),
            (r#""nodes": ["#, r#""nodes": "#, "damaged"),
        ] {
            let text = TEXT.replacen(old, new, 1);
            assert_ne!(text, TEXT);
            let error = Topology::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{new}: {error}");
        }
        for length in 0..TEXT.len() {
            assert!(Topology::read(&TEXT.as_bytes()[..length]).is_err());
        }
    }
}
