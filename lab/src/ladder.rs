//! Frames seen at many places, joined into the ladder of each connection.
//!
//! A frame belongs to a packet by what it is, not by when it was seen: connection, direction, TCP
//! sequence and acknowledgement numbers, flags, length and hash of the payload. The connection is
//! looked for in the innermost packet, and addresses of real servers count as the VIP when the same
//! client end also talks to the VIP, so that masquerade does not tear a connection apart.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use pointsman_linux::packet::Direction;
use pointsman_wire::{ChecksumError, Flow, Summary, verify_checksums, verify_packet_checksums};

use crate::gap::{Gap, find_gaps};
use crate::recorder::{Point, Recording};
use crate::topology::{Role, Topology};

const TCP: u8 = 6;
/// FIN, SYN, RST, PSH, ACK, URG: the bits that no hop changes.
const LASTING_FLAGS: u8 = 0x3f;

/// State of a frame's checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// All right.
    Right,
    /// The transport checksum is left to a device; right so far.
    Pending,
    /// Neither complete nor marked as left to a device: the receiver will drop it.
    Wrong,
}

/// One sighting of a packet.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Index in [`Ladder::points`].
    pub point: usize,
    /// Which way the frame went there.
    pub direction: Direction,
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Its headers.
    pub summary: Summary,
    /// Its checksums.
    pub checksum: Checksum,
    /// True for one frame that stands for several on the wire.
    pub gso: bool,
    /// What is different from the hop before, for people.
    pub changes: Vec<String>,
}

/// One packet on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// True from client to server.
    pub forward: bool,
    /// Sightings in order of time.
    pub hops: Vec<Hop>,
    /// Places between the hops where it was not seen: after which hop, and what is known.
    pub gaps: Vec<(usize, Gap)>,
    /// Whether the last sighting is at a node that has the destination address.
    pub delivered: bool,
    /// Index of the packet whose bytes these are, when segments were cut or merged on the way.
    pub resegmented: Option<usize>,
}

/// All packets of one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// The client's end.
    pub client: SocketAddr,
    /// The end that the client talks to.
    pub service: SocketAddr,
    /// The real server that got the packets.
    pub real_server: Option<Role>,
    /// Packets in order of time.
    pub packets: Vec<Packet>,
}

/// All connections of a recording.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    /// Places.
    pub points: Vec<Point>,
    /// Connections in order of their first packet.
    pub connections: Vec<Connection>,
}

struct Seen {
    hop: Hop,
    forward: bool,
    identity: u64,
}

impl Ladder {
    /// Joins a recording.
    pub fn new(topology: &Topology, recording: &Recording) -> Self {
        let read = read(recording);
        let talked_to = virtual_flows(topology, &read);
        let mut order: Vec<Ends> = Vec::new();
        let mut groups: HashMap<Ends, Vec<Seen>> = HashMap::new();
        for (hop, payload) in read {
            let Some((flow, icmp_error)) = flow_of(&hop.summary) else {
                continue;
            };
            let Some((ends, forward)) = ends_of(topology, flow, &talked_to, &order) else {
                continue;
            };
            let identity = identity_of(&hop.summary, payload);
            groups
                .entry(ends)
                .or_insert_with(|| {
                    order.push(ends);
                    Vec::new()
                })
                .push(Seen {
                    hop,
                    forward: forward != icmp_error,
                    identity,
                });
        }
        let connections = order
            .iter()
            .filter_map(|ends| Some((ends, groups.remove(ends)?)))
            .map(|(ends, seen)| connection(topology, &recording.points, *ends, seen))
            .collect();
        Self {
            points: recording.points.clone(),
            connections,
        }
    }

    /// The first connection to this end.
    pub fn to(&self, service: SocketAddr) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.service == service)
    }
}

/// Protocol, client's end, server's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    protocol: u8,
    client: SocketAddr,
    service: SocketAddr,
}

/// All readable frames with the hash of their innermost payload.
fn read(recording: &Recording) -> Vec<(Hop, u64)> {
    let hop = |seen: &crate::recorder::Sighting| {
        let point = &recording.points[seen.point];
        let frame = &seen.frame;
        let (summary, verified) = if point.ethernet {
            (
                Summary::parse(&frame.bytes)?,
                verify_checksums(&frame.bytes),
            )
        } else {
            (
                Summary::parse_packet(&frame.bytes)?,
                verify_packet_checksums(&frame.bytes),
            )
        };
        let checksum = match verified {
            _ if frame.checksum_pending => Checksum::Pending,
            Err(ChecksumError::Wrong { .. } | ChecksumError::Offloaded { .. }) => Checksum::Wrong,
            _ => Checksum::Right,
        };
        let payload = hash_of(payload(&frame.bytes, point.ethernet, &summary));
        let hop = Hop {
            point: seen.point,
            direction: frame.direction,
            at_ns: frame.timestamp_ns,
            summary,
            checksum,
            gso: frame.gso,
            changes: Vec::new(),
        };
        Some((hop, payload))
    };
    recording.sightings.iter().filter_map(hop).collect()
}

/// The innermost payload, which ends where the outermost packet does; padding may follow.
fn payload<'a>(bytes: &'a [u8], ethernet: bool, summary: &Summary) -> &'a [u8] {
    let vlans = summary.link.as_ref().map_or(0, |link| link.vlans.len());
    let start = if ethernet { 14 + 4 * vlans } else { 0 };
    let field = |at: usize| {
        let field = bytes.get(start + at..start + at + 2)?;
        Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
    };
    let length = match summary.version {
        4 => field(2),
        _ => field(4).map(|length| length + 40),
    };
    let end = length.map_or(bytes.len(), |length| (start + length).min(bytes.len()));
    let length = summary.innermost().payload_length.min(end);
    &bytes[end - length..end]
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The flow that a packet is of, or that the ICMP error in it is about.
fn flow_of(summary: &Summary) -> Option<(Flow, bool)> {
    let inner = summary.innermost();
    match &inner.quoted {
        Some(quoted) => Some((quoted.innermost().flow()?, true)),
        None => Some((inner.flow()?, false)),
    }
}

fn is_virtual(address: IpAddr) -> bool {
    address == crate::address::vip(crate::address::Family::of(address))
}

/// For every client end that talks to the VIP, the virtual end.
fn virtual_flows(
    topology: &Topology,
    read: &[(Hop, u64)],
) -> HashMap<(u8, SocketAddr), SocketAddr> {
    let mut flows = HashMap::new();
    for (flow, _) in read.iter().filter_map(|(hop, _)| flow_of(&hop.summary)) {
        for flow in [flow, flow.reversed()] {
            if is_virtual(flow.destination.ip())
                && topology.real_server_named(flow.source.ip()).is_none()
            {
                flows
                    .entry((flow.protocol, flow.source))
                    .or_insert(flow.destination);
            }
        }
    }
    flows
}

/// Client and server of a flow, and whether it goes from the one to the other.
fn ends_of(
    topology: &Topology,
    flow: Flow,
    talked_to: &HashMap<(u8, SocketAddr), SocketAddr>,
    known: &[Ends],
) -> Option<(Ends, bool)> {
    let serves =
        |address: IpAddr| is_virtual(address) || topology.real_server_named(address).is_some();
    let ends = |flow: Flow, service| Ends {
        protocol: flow.protocol,
        client: flow.source,
        service,
    };
    for (flow, forward) in [(flow, true), (flow.reversed(), false)] {
        if serves(flow.destination.ip()) && !serves(flow.source.ip()) {
            let service = talked_to.get(&(flow.protocol, flow.source)).copied();
            return Some((ends(flow, service.unwrap_or(flow.destination)), forward));
        }
    }
    // Neither end serves, or both do: whoever spoke first is the client.
    let back = ends(flow.reversed(), flow.source);
    if known.contains(&back) {
        return Some((back, false));
    }
    Some((ends(flow, flow.destination), true))
}

fn identity_of(summary: &Summary, payload: u64) -> u64 {
    let inner = summary.innermost();
    let tcp = inner
        .tcp
        .as_ref()
        .map(|tcp| (tcp.sequence, tcp.acknowledgement, tcp.flags & LASTING_FLAGS));
    let icmp = inner
        .icmp
        .as_ref()
        .map(|icmp| (icmp.kind, icmp.code, icmp.rest));
    // An ICMP error quotes what a translation changes.
    let payload = if inner.quoted.is_some() { 0 } else { payload };
    let fragment = inner.fragment.as_ref().map(hash_of);
    hash_of((
        inner.protocol,
        tcp,
        icmp,
        inner.payload_length,
        payload,
        fragment,
    ))
}

fn connection(topology: &Topology, points: &[Point], ends: Ends, seen: Vec<Seen>) -> Connection {
    let mut packets: Vec<(u64, Packet)> = Vec::new();
    for Seen {
        hop,
        forward,
        identity,
    } in seen
    {
        let place = |other: &Hop| (other.point, other.direction) == (hop.point, hop.direction);
        // A second sighting at the same place is a repetition, and later sightings are the
        // repetition's.
        let packet = packets
            .iter_mut()
            .rev()
            .find(|(other, packet)| *other == identity && packet.forward == forward)
            .filter(|(_, packet)| !packet.hops.iter().any(place));
        match packet {
            Some((_, packet)) => packet.hops.push(hop),
            None => {
                let packet = Packet {
                    forward,
                    hops: vec![hop],
                    gaps: Vec::new(),
                    delivered: false,
                    resegmented: None,
                };
                packets.push((identity, packet));
            }
        }
    }
    let mut packets: Vec<Packet> = packets.into_iter().map(|(_, packet)| packet).collect();
    for packet in &mut packets {
        drop_flooded(topology, points, packet);
    }
    packets.retain(|packet| !packet.hops.is_empty());
    packets.sort_by_key(|packet| packet.hops[0].at_ns);
    for at in 0..packets.len() {
        packets[at].resegmented = covering(&packets, at);
        let packet = &mut packets[at];
        note_changes(topology, packet);
        packet.delivered = is_delivered(topology, points, packet);
        find_gaps(topology, points, packet);
    }
    let real_server = packets.iter().find_map(|packet| server_of(points, packet));
    let Ends {
        protocol,
        client,
        service,
    } = ends;
    Connection {
        protocol,
        client,
        service,
        real_server,
        packets,
    }
}

/// Takes out copies that a bridge flooded to nodes that they are not for.
fn drop_flooded(topology: &Topology, points: &[Point], packet: &mut Packet) {
    let strayed: Vec<(Role, String)> = packet
        .hops
        .iter()
        .filter(|hop| hop.direction == Direction::OtherHost)
        .map(|hop| &points[hop.point])
        .filter(|point| point.role != Role::Switch)
        .map(|point| (point.role, point.interface.clone()))
        .collect();
    for (role, leg) in strayed {
        let port = topology
            .node(role)
            .and_then(|node| node.legs.iter().find(|other| other.name == leg))
            .map(|leg| leg.port.as_str());
        packet.hops.retain(|hop| {
            let point = &points[hop.point];
            let at_node = point.role == role && point.interface == leg;
            let at_port = point.role == Role::Switch
                && Some(point.interface.as_str()) == port
                && hop.direction == Direction::Out;
            !at_node && !at_port
        });
    }
}

/// The earlier packet of the same direction whose bytes include, or are included in, this one's.
fn covering(packets: &[Packet], at: usize) -> Option<usize> {
    let (start, length) = bytes_of(&packets[at])?;
    packets[..at].iter().position(|other| {
        let Some((other_start, other_length)) = bytes_of(other) else {
            return false;
        };
        let after = start.wrapping_sub(other_start);
        let before = other_start.wrapping_sub(start);
        other.forward == packets[at].forward
            && (other_start, other_length) != (start, length)
            && (u64::from(after) + u64::from(length) <= u64::from(other_length)
                || u64::from(before) + u64::from(other_length) <= u64::from(length))
    })
}

/// First sequence number and number of payload bytes, if it is TCP with payload.
fn bytes_of(packet: &Packet) -> Option<(u32, u32)> {
    let inner = packet.hops.first()?.summary.innermost();
    let tcp = inner.tcp.as_ref()?;
    let length = u32::try_from(inner.payload_length).ok()?;
    (length > 0).then_some((tcp.sequence, length))
}

fn note_changes(topology: &Topology, packet: &mut Packet) {
    for at in 1..packet.hops.len() {
        let (before, rest) = packet.hops.split_at_mut(at);
        let (before, hop) = (&before[at - 1], &mut rest[0]);
        hop.changes = before
            .summary
            .changes(&hop.summary)
            .iter()
            .map(|change| {
                // Whose hardware address it is says more than its digits.
                let owner = change
                    .after
                    .parse()
                    .ok()
                    .and_then(|mac| topology.owner_of(mac));
                match owner {
                    Some((role, leg)) => format!("{} -> {role} {leg}", change.what),
                    None => change.to_string(),
                }
            })
            .collect();
        let (old, new) = (&before.summary, &hop.summary);
        if old.inner.is_some() && new.inner.is_some() && old.ttl != new.ttl {
            hop.changes
                .push(format!("outer TTL {} -> {}", old.ttl, new.ttl));
        }
        match (before.checksum, hop.checksum) {
            (Checksum::Pending, Checksum::Right) => {
                hop.changes.push("checksum completed".to_owned());
            }
            (Checksum::Pending | Checksum::Right, Checksum::Wrong) => {
                hop.changes.push("CHECKSUM WRONG from here on".to_owned());
            }
            (Checksum::Wrong, Checksum::Right) => hop.changes.push("checksum mended".to_owned()),
            _ => {}
        }
    }
}

fn is_delivered(topology: &Topology, points: &[Point], packet: &Packet) -> bool {
    let Some(last) = packet.hops.last() else {
        return false;
    };
    let destination = last.summary.destination;
    last.direction == Direction::In
        && topology.node(points[last.point].role).is_some_and(|node| {
            let legs = node.legs.iter().flat_map(|leg| &leg.addresses);
            legs.chain(&node.loopback)
                .any(|own| own.address == destination)
        })
}

/// The real server at the server's end of a packet's way.
fn server_of(points: &[Point], packet: &Packet) -> Option<Role> {
    let hop = if packet.forward {
        packet.hops.last()
    } else {
        packet.hops.first()
    }?;
    let role = points[hop.point].role;
    matches!(role, Role::RealServer(_)).then_some(role)
}

/// True for TCP, which has sequence numbers and flags to show.
pub(crate) fn is_tcp(connection: &Connection) -> bool {
    connection.protocol == TCP
}
