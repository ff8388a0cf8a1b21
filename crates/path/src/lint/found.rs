//! The topology as it was found: nodes with what they are for, their ports, and the cables between.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_director::model::ForwardingMethod;

use super::Case;
use super::site::{Site, Target, is_link_local};
use crate::bundle::Bundle;
use crate::ladder::{Course, CourseEnd, Courses};
use crate::report::Ahead;
use crate::snapshot::{Link, Snapshot};
use crate::topology::{self, Node, Peer, Port, Role, SCHEMA, Stop, Topology};

/// What the nodes of a bundle are for and how they are connected, as far as snapshots tell.
pub fn topology(bundle: &Bundle, case: &Case) -> Topology {
    found(&Site::new(bundle, case))
}

/// The ways that packets were to take on from where they were seen last; nothing for ways that were seen to
/// their end by way of the director. The cause is the node that the verdict is about.
pub fn ahead(
    bundle: &Bundle,
    case: &Case,
    courses: Option<&Courses>,
    cause: Option<&str>,
) -> Vec<Ahead> {
    let site = Site::new(bundle, case);
    let topology = found(&site);
    let Some(target) = site.targets.first() else {
        return Vec::new();
    };
    let director = target.director.map(|node| &*node.node);
    let Some(server) = server(target, &topology, courses) else {
        return Vec::new();
    };
    let client = topology.asker().map(|node| &*node.name);
    let method = target.members.first().map(|member| member.server.method);
    let back = director.filter(|_| method == Some(ForwardingMethod::Masquerade));
    let ways = courses.map_or(&[][..], |courses| &courses.ways);
    let along = |forward: bool, from: Option<&str>, by: Option<&str>, to: Option<&str>| {
        let (Some(from), Some(to)) = (from, to) else {
            return None;
        };
        let course = main(ways, forward, cause);
        let seen = |node: &str| course.is_some_and(|own| own.hops.iter().any(|h| h.node == node));
        let arrived = course.is_some_and(|course| course.end == CourseEnd::Delivered);
        let is_astray = by.is_some_and(|by| !seen(by));
        if arrived && !is_astray {
            return None;
        }
        // What got to its end past the director was to take another way from the start.
        let last = course.filter(|_| !arrived);
        let last = last.and_then(|course| course.hops.last());
        let start = last.map_or(from, |last| &*last.node);
        let by = by.filter(|by| !seen(by) && start != *by && to != *by);
        let mut stops = Vec::new();
        match by {
            Some(by) => {
                stops.extend(topology.way(start, by)?);
                stops.extend(topology.way(by, to)?);
            }
            None => stops.extend(topology.way(start, to)?),
        }
        let places = places(&stops);
        (!places.is_empty()).then_some(Ahead { forward, places })
    };
    let there = along(true, client, director, Some(server));
    // An answer is ahead only of a request that gets there, or would.
    let back = along(false, Some(server), back, client);
    there.into_iter().chain(back).collect()
}

/// The course that tells most of a direction: one that ends too soon, at the cause if that is known, else
/// the longest.
pub(crate) fn main<'a>(
    ways: &'a [Course],
    forward: bool,
    cause: Option<&str>,
) -> Option<&'a Course> {
    let of = || ways.iter().filter(move |course| course.forward == forward);
    let at_cause = |course: &&Course| match cause {
        None => true,
        Some(cause) => {
            let last = course.hops.last().is_some_and(|hop| hop.node == cause);
            last || course.first_missing().is_some_and(|gap| gap.node == cause)
        }
    };
    let lost = of().find(|course| course.end == CourseEnd::Lost && at_cause(course));
    // Of equal ones the first.
    lost.or_else(|| of().rev().max_by_key(|course| course.hops.len()))
}

/// The real server that packets were sent to, else the first.
fn server<'a>(
    target: &'a Target<'_>,
    topology: &'a Topology,
    courses: Option<&'a Courses>,
) -> Option<&'a str> {
    if let Some(server) = courses.and_then(|courses| courses.server.as_deref()) {
        return Some(server);
    }
    let macs = courses.into_iter().flat_map(|courses| &courses.ways);
    let macs = macs
        .filter(|course| course.forward)
        .filter_map(|course| course.hops.last()?.macs.as_ref());
    let sent_to = macs.filter_map(|[_, to]| {
        let mut servers = topology.of_role(Role::RealServer);
        let has = |node: &&Node| {
            let mut macs = node.ports.iter().map(|port| port.mac.as_ref());
            macs.any(|mac| mac == Some(to))
        };
        servers.find(has).map(|node| &*node.name)
    });
    let first = || target.members.iter().find_map(|member| member.node);
    let sent_to: Option<&str> = sent_to.into_iter().next();
    sent_to.or_else(|| first().map(|node| &*node.node))
}

/// Ports by which a way leaves and enters nodes.
fn places(stops: &[Stop<'_>]) -> Vec<Peer> {
    let mut places = Vec::new();
    for stop in stops {
        for port in [stop.enters, stop.leaves].into_iter().flatten() {
            places.push(Peer {
                node: stop.node.name.clone(),
                port: port.name.clone(),
            });
        }
    }
    places
}

fn found(site: &Site<'_>) -> Topology {
    let cables = cables(site);
    let nodes = site.nodes.iter().map(|node| Node {
        name: node.node.clone(),
        role: role(site, node),
        at: node.origin.clone(),
        addresses: addresses(node),
        ports: ports(node, &cables),
    });
    let mut topology = Topology {
        schema: SCHEMA.to_owned(),
        vip: site
            .case
            .vip
            .zip(site.case.port)
            .map(|(vip, port)| (vip, port).into()),
        protocol: topology::Protocol::default(),
        client: site.case.client,
        asker: None,
        nodes: nodes.collect(),
    };
    if let Some(target) = site.targets.first() {
        topology.protocol = match target.transport() {
            "udp" => topology::Protocol::Udp,
            "sctp" => topology::Protocol::Sctp,
            _ => topology::Protocol::Tcp,
        };
    }
    tell_hosts(&mut topology);
    topology
}

fn addresses(node: &Snapshot) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for own in node.links.iter().flat_map(|link| &link.addresses) {
        let address = own.prefix.address;
        if !address.is_loopback() && !is_link_local(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Both ends of cables, each by node and device.
type Cables = BTreeMap<(String, String), Peer>;

fn cables(site: &Site<'_>) -> Cables {
    let mut cables = Cables::new();
    let end = |node: &Snapshot, link: &Link| (node.node.clone(), link.name.clone());
    let mut join = |one: (String, String), other: (String, String)| {
        if one != other && !cables.contains_key(&one) && !cables.contains_key(&other) {
            let peer = |(node, port): &(String, String)| Peer {
                node: node.clone(),
                port: port.clone(),
            };
            cables.insert(one.clone(), peer(&other));
            cables.insert(other, peer(&one));
        }
    };
    for [one, other] in &site.case.cables {
        join(one.clone(), other.clone());
    }
    for node in site.nodes {
        for link in &node.links {
            if let Some((there, other)) = site.peer(node, link) {
                join(end(node, link), end(there, other));
            }
        }
    }
    // Taps, and what lies over a device with a cable.
    for own in &site.attachments {
        join(end(own.guest, own.link), end(own.host, own.port));
    }
    cables
}

fn ports(node: &Snapshot, cables: &Cables) -> Vec<Port> {
    let is_bridge = |name: &&String| node.link(name).is_some_and(|link| link.kind == "bridge");
    let links = node.links.iter().filter(|link| !link.is_loopback());
    let ports = links.map(|link| Port {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()),
        bridge: link.master.as_ref().filter(is_bridge).cloned(),
        peer: cables.get(&(node.node.clone(), link.name.clone())).cloned(),
    });
    ports.collect()
}

/// What a node is for, by what was told, by what it has, and by what it does.
fn role(site: &Site<'_>, node: &Snapshot) -> Role {
    if let Some(role) = site.role(node) {
        return role;
    }
    let vip = site.case.vip;
    let has_bridges = node.links.iter().any(|link| link.kind == "bridge");
    let forwards = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let is_client = |client: IpAddr| node.owner_of(client).is_some();
    let plugged = node.links.iter().filter(|link| !link.addresses.is_empty());
    if vip.is_some_and(|vip| site.is_director_of(node, vip)) {
        Role::Director
    } else if vip.is_some_and(|vip| site.is_server_of(node, vip)) {
        Role::RealServer
    } else if site.case.client.is_some_and(is_client) {
        Role::Client
    } else if has_bridges {
        // Which of both is said when all nodes are known.
        Role::Switch
    } else if forwards.iter().any(|name| node.number(name) == Some(1)) && plugged.count() > 2 {
        Role::Gateway
    } else {
        Role::Other
    }
}

/// Calls what has bridges a host where guests are behind its ports.
fn tell_hosts(topology: &mut Topology) {
    let guest = |node: &Node| [Role::Director, Role::RealServer].contains(&node.role);
    let guests: Vec<String> = topology
        .nodes
        .iter()
        .filter(|node| guest(node))
        .map(|node| node.name.clone())
        .collect();
    for node in topology
        .nodes
        .iter_mut()
        .filter(|node| node.role == Role::Switch)
    {
        let mut peers = node.ports.iter().filter_map(|port| port.peer.as_ref());
        if peers.any(|peer| guests.contains(&peer.node)) {
            node.role = Role::Host;
        }
    }
}
