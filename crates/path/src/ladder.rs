//! Frames seen at many places, joined into the ladder of each conversation.
//!
//! A frame belongs to a packet by what it is, not by when it was seen: TCP sequence and
//! acknowledgement numbers, flags, timestamps, length and beginning of the innermost payload, ICMP's
//! sequence number, what an ARP message asks. Addresses, ports, hop limit and tunnels may change on the
//! way. Flows that carry the same packets are one conversation, so that translation does not
//! tear it apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use pointsman_wire::Mac;
use pointsman_wire::summary::Change;

use crate::observation::{DIRECTOR, DROPPED, PASSED, Point, Recording, Way};
use clocks::{Clocks, Evidence};
pub use course::{Course, CourseChange, CourseEnd, CourseGap, CourseHop, Courses};
use flows::Flows;
pub use gap::Gap;
use gap::find_gaps;
pub use headers::{ArpHeaders, Checksum, Headers, Protocol};
use headers::{Directed, Facts, Identity};
pub use json::SCHEMA;
pub use text::Style;

mod clocks;
mod course;
mod flows;
mod gap;
mod headers;
mod json;
mod order;
mod table;
mod text;

/// How far back a packet is compared with others of its conversation.
const LOOK_BACK: usize = 64;

/// What the asker knows.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Addresses of virtual services.
    pub virtual_addresses: Vec<IpAddr>,
    /// Addresses of real servers.
    pub servers: Vec<IpAddr>,
    /// Names of the owners of link-layer addresses, which say more than their digits.
    pub owners: HashMap<Mac, String>,
}

/// One sighting of a packet.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Index in [`Ladder::points`].
    pub point: usize,
    /// Which way the frame went there.
    pub way: Way,
    /// When by its host's clock, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Index of the frame in [`Recording::observations`].
    pub observation: usize,
    /// Its headers.
    pub headers: Headers,
    /// Its checksums.
    pub checksum: Checksum,
    /// True for one frame that stands for several on the wire.
    pub gso: bool,
    /// What is different from the hop before.
    pub changed: Vec<Change>,
    /// The same for people, and what became of checksums.
    pub changes: Vec<String>,
    /// What else is known of it there.
    pub note: Option<String>,
}

impl Hop {
    /// What the director says that it does with the frame.
    pub fn verdict(&self) -> Option<&str> {
        self.note.as_deref()?.strip_prefix(DIRECTOR)
    }
}

/// How a packet is like an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The sender sent the same again.
    Retransmission(usize),
    /// The very same frame was seen twice at one place: something doubled it.
    Duplicate(usize),
    /// Bytes of that packet, cut or merged anew on the way.
    Resegmented(usize),
}

/// One packet on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// True from client to server.
    pub forward: bool,
    /// Sightings in the order of its way.
    pub hops: Vec<Hop>,
    /// Places between the hops where it was not seen: after how many hops, and what is known.
    pub gaps: Vec<(usize, Gap)>,
    /// Whether the last sighting is at a node that has the destination address.
    pub delivered: bool,
    /// The packet in the same conversation that this one repeats.
    pub repeat: Option<Repeat>,
}

impl Packet {
    /// The first hop; a packet has at least one.
    pub fn first(&self) -> Option<&Hop> {
        self.hops.first()
    }

    /// Why the director dropped it where it was seen last, if that is what happened.
    pub fn dropped(&self) -> Option<&str> {
        self.hops.last()?.verdict()?.strip_prefix(DROPPED)
    }

    /// The index of the packet whose bytes these are, when segments were cut or merged on the way.
    pub fn resegmented(&self) -> Option<usize> {
        match self.repeat {
            Some(Repeat::Resegmented(other)) => Some(other),
            _ => None,
        }
    }
}

/// All packets of one conversation.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// What it is made of.
    pub protocol: Protocol,
    /// The client's end; port 0 where there are no ports.
    pub client: SocketAddr,
    /// The end that the client talks to.
    pub service: SocketAddr,
    /// The node that got the client's packets, or that answered.
    pub server: Option<String>,
    /// Packets in order of time.
    pub packets: Vec<Packet>,
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: SocketAddr| {
            if end.port() == 0 {
                end.ip().to_string()
            } else {
                end.to_string()
            }
        };
        let name = match self.protocol {
            Protocol::Arp => "ARP",
            Protocol::Ndp => "NDP",
            Protocol::Ip(number) => headers::protocol_name(number),
        };
        write!(f, "{name} {} > {}", end(self.client), end(self.service))
    }
}

/// All conversations of a recording.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    /// Places.
    pub points: Vec<Point>,
    /// Conversations in order of their first packet.
    pub conversations: Vec<Conversation>,
    /// How far each host's clock seems to be ahead of the first host's, nanoseconds.
    pub clocks: Vec<(String, i64)>,
    /// Frames that are neither IP nor ARP.
    pub unread: usize,
}

/// A frame that was read.
struct Seen {
    facts: Facts,
    hop: Hop,
}

/// The frames of a conversation, by direction and identity.
#[derive(Default)]
struct Group {
    same: BTreeMap<(usize, Identity), Vec<Seen>>,
}

impl Ladder {
    /// Joins what was seen.
    pub fn new(recording: &Recording, hints: &Hints) -> Self {
        let points = &recording.points;
        let (seen, unread) = read(recording);
        let groups = group(seen);
        let hosts = hosts(points);
        let mut evidence = Evidence::default();
        for (group, oriented) in groups.iter().map(|group| (group, orient(group, hints))) {
            for ((direction, _), same) in &group.same {
                let forward = *direction == oriented;
                let hops: Vec<Hop> = same.iter().map(|seen| seen.hop.clone()).collect();
                // What was sent several times, or doubled, would be compared with the wrong one.
                let once = |hop: &Hop| {
                    let same = |other: &&Hop| {
                        (other.point, other.way) == (hop.point, hop.way)
                            && other.headers.changes(&hop.headers).is_empty()
                    };
                    hops.iter().filter(same).count() == 1
                };
                if hosts.len() > 1 && hops.len() <= LOOK_BACK && hops.iter().all(once) {
                    order::compare_clocks(points, &hops, forward, &mut evidence);
                }
            }
        }
        let clocks = Clocks::new(&hosts, &evidence);
        let mut conversations: Vec<Conversation> = groups
            .into_iter()
            .filter_map(|group| conversation(points, &clocks, hints, group))
            .collect();
        find_gaps(points, &mut conversations);
        conversations.sort_by_key(|one| first_seen(points, &clocks, &one.packets));
        Self {
            points: points.clone(),
            conversations,
            clocks: hosts
                .iter()
                .map(|host| (host.clone(), clocks.ahead(host)))
                .collect(),
            unread,
        }
    }

    /// The first conversation with this end.
    pub fn to(&self, service: SocketAddr) -> Option<&Conversation> {
        self.conversations
            .iter()
            .find(|conversation| conversation.service == service)
    }
}

/// Hosts, that of the most points first.
fn hosts(points: &[Point]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for point in points {
        if !hosts.contains(&point.host) {
            hosts.push(point.host.clone());
        }
    }
    hosts
}

fn first_seen(points: &[Point], clocks: &Clocks, packets: &[Packet]) -> Option<u64> {
    let hops = packets.iter().flat_map(|packet| &packet.hops);
    hops.map(|hop| clocks.set(&points[hop.point].host, hop.at_ns))
        .min()
}

/// All readable frames, and how many are not.
fn read(recording: &Recording) -> (Vec<Seen>, usize) {
    let mut unread = 0;
    let seen = recording.observations.iter().enumerate();
    let seen = seen.filter_map(|(at, observation)| {
        let point = recording.points.get(observation.point)?;
        let Some(facts) = Facts::read(point, observation) else {
            unread += 1;
            return None;
        };
        let hop = Hop {
            point: observation.point,
            way: observation.way,
            at_ns: observation.at_ns,
            observation: at,
            headers: facts.headers.clone(),
            checksum: facts.checksum,
            gso: observation.gso,
            changed: Vec::new(),
            changes: Vec::new(),
            note: observation.note.clone(),
        };
        Some(Seen { facts, hop })
    });
    let seen = seen.collect();
    (seen, unread)
}

/// Frames by conversation.
fn group(mut seen: Vec<Seen>) -> Vec<Group> {
    // A capture that kept too little to tell payloads apart counts with those that kept enough.
    let mut lasting: HashMap<(Protocol, u64), Vec<usize>> = HashMap::new();
    for (at, one) in seen.iter().enumerate() {
        let key = (one.facts.directed.protocol, one.facts.identity.lasting);
        lasting.entry(key).or_default().push(at);
    }
    for same in lasting.values() {
        let payload = |at: &usize| seen[*at].facts.identity.payload;
        if same.iter().any(|at| payload(at).is_none()) {
            for at in same {
                seen[*at].facts.identity.payload = None;
            }
        }
    }
    type Place = (usize, Way);
    let mut alike: HashMap<(Protocol, Identity), Vec<(&Facts, Place)>> = HashMap::new();
    for one in &seen {
        let key = (one.facts.directed.protocol, one.facts.identity);
        let place = (one.hop.point, one.hop.way);
        alike.entry(key).or_default().push((&one.facts, place));
    }
    let mut flows = Flows::new(alike.into_values());
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for one in seen {
        let (conversation, direction) = flows.find(one.facts.directed);
        let group = groups.entry(conversation).or_default();
        let key = (direction, one.facts.identity);
        group.same.entry(key).or_default().push(one);
    }
    groups.into_values().collect()
}

/// The direction from client to server.
fn orient(group: &Group, hints: &Hints) -> usize {
    let serves = |address: IpAddr| {
        hints.virtual_addresses.contains(&address) || hints.servers.contains(&address)
    };
    let all = || {
        let directions = group.same.iter();
        directions.flat_map(|((direction, _), same)| same.iter().map(move |one| (*direction, one)))
    };
    let mut back = None;
    for (direction, one) in all() {
        let Directed { from, to, .. } = one.facts.directed;
        match (serves(from.ip()), serves(to.ip())) {
            (false, true) => return direction,
            (true, false) => back = Some((direction, one.facts.directed)),
            _ => {}
        }
    }
    let other = |direction: usize| {
        all()
            .map(|(found, _)| found)
            .find(|found| *found != direction)
    };
    if let Some((direction, _)) = back {
        // Only answers were seen: nothing is forward.
        return other(direction).unwrap_or(usize::MAX);
    }
    let opening = all().find(|(_, one)| one.facts.opens);
    let earliest = || all().min_by_key(|(_, one)| one.hop.at_ns);
    opening
        .or_else(earliest)
        .map_or(usize::MAX, |(direction, _)| direction)
}

fn conversation(
    points: &[Point],
    clocks: &Clocks,
    hints: &Hints,
    group: Group,
) -> Option<Conversation> {
    let forward_direction = orient(&group, hints);
    let mut ends: Vec<(u64, bool, Directed)> = Vec::new();
    let mut packets: Vec<Packet> = Vec::new();
    for ((direction, _), same) in group.same {
        let forward = direction == forward_direction;
        for one in &same {
            let at = clocks.set(&points[one.hop.point].host, one.hop.at_ns);
            let directed = one.facts.directed;
            ends.push((
                at,
                forward,
                if forward {
                    directed
                } else {
                    directed.reversed()
                },
            ));
        }
        packets.extend(split(points, clocks, same).into_iter().map(|hops| Packet {
            forward,
            hops,
            gaps: Vec::new(),
            delivered: false,
            repeat: None,
        }));
    }
    for packet in &mut packets {
        drop_flooded(points, packet);
        packet.hops = order::order(points, clocks, std::mem::take(&mut packet.hops));
    }
    packets.retain(|packet| !packet.hops.is_empty());
    packets.sort_by_key(|packet| {
        let first = packet.first();
        first.map(|hop| {
            (
                clocks.set(&points[hop.point].host, hop.at_ns),
                hop.observation,
            )
        })
    });
    for at in 0..packets.len() {
        packets[at].repeat = repeated(&packets, at);
        let packet = &mut packets[at];
        note_changes(hints, packet);
        packet.delivered = is_delivered(points, packet);
    }
    // The end that the client speaks to is the virtual one, or that of its own packets.
    let virtual_end =
        |end: &&(u64, bool, Directed)| hints.virtual_addresses.contains(&end.2.to.ip());
    let ends_of = ends
        .iter()
        .filter(virtual_end)
        .min_by_key(|(at, ..)| *at)
        .or_else(|| ends.iter().min_by_key(|(at, forward, _)| (!forward, *at)))?
        .2;
    let server = server_of(points, &packets);
    Some(Conversation {
        protocol: ends_of.protocol,
        client: ends_of.from,
        service: ends_of.to,
        server,
        packets,
    })
}

/// Sightings of the same identity, each packet's for itself.
fn split(points: &[Point], clocks: &Clocks, mut same: Vec<Seen>) -> Vec<Vec<Hop>> {
    same.sort_by_key(|one| {
        let at = clocks.set(&points[one.hop.point].host, one.hop.at_ns);
        (at, one.hop.way.is_in(), one.hop.observation)
    });
    // IP identifications tell repetitions apart, unless somebody on the way writes them anew.
    let mut ids: HashMap<(usize, Way), Vec<Option<u32>>> = HashMap::new();
    for one in &same {
        let here = ids.entry((one.hop.point, one.hop.way)).or_default();
        if !here.contains(&one.facts.id) {
            here.push(one.facts.id);
        }
    }
    let by_id = ids.values().any(|here| here.len() > 1);
    let mut packets: Vec<(Option<u32>, Vec<Hop>)> = Vec::new();
    for Seen { facts, hop } in same {
        let id = facts.id.filter(|_| by_id);
        // A second sighting at the same place is a repetition, and later sightings are the
        // repetition's; unless the hop limit fell, for then the packet goes in a circle, or it may
        // have come in and gone out with another link-layer header.
        let is_free = |hops: &[Hop]| {
            let mut here = hops
                .iter()
                .filter(|other| (other.point, other.way) == (hop.point, hop.way));
            here.all(|other| {
                let turned = hop.way == Way::Unknown && other.headers.link() != hop.headers.link();
                turned || other.headers.ttl() > hop.headers.ttl()
            })
        };
        let latest = packets
            .iter_mut()
            .rev()
            .find(|(other, _)| *other == id)
            .filter(|(_, hops)| is_free(hops));
        match latest {
            Some((_, hops)) => hops.push(hop),
            None => packets.push((id, vec![hop])),
        }
    }
    packets.into_iter().map(|(_, hops)| hops).collect()
}

/// Takes out copies that a bridge flooded to nodes that they are not for.
fn drop_flooded(points: &[Point], packet: &mut Packet) {
    let strayed: Vec<&Point> = packet
        .hops
        .iter()
        .filter(|hop| hop.way == Way::OtherHost)
        .map(|hop| &points[hop.point])
        .filter(|point| point.bridge.is_none())
        .collect();
    if strayed.is_empty() {
        return;
    }
    packet.hops.retain(|hop| {
        let point = &points[hop.point];
        let is_stray = strayed.iter().any(|stray| {
            let beyond = stray.peer.as_ref();
            let at_node = point.node == stray.node && point.device == stray.device;
            let at_port = hop.way == Way::Out
                && beyond
                    .is_some_and(|(node, device)| point.node == *node && point.device == *device);
            at_node || at_port
        });
        !is_stray
    });
}

/// How a packet is like an earlier one of the same direction.
fn repeated(packets: &[Packet], at: usize) -> Option<Repeat> {
    let packet = &packets[at];
    let own = packet.first()?;
    let earlier = packets[..at].iter().enumerate().rev().take(LOOK_BACK);
    let mut resegmented = None;
    for (other_at, other) in earlier.filter(|(_, other)| other.forward == packet.forward) {
        let Some(first) = other.first() else { continue };
        if repeats(&first.headers, &own.headers) {
            return Some(if is_double(&first.headers, &own.headers) {
                Repeat::Duplicate(other_at)
            } else {
                Repeat::Retransmission(other_at)
            });
        }
        if covers(&first.headers, &own.headers) {
            resegmented = Some(Repeat::Resegmented(other_at));
        }
    }
    resegmented
}

/// Whether two packets say the same, and it is something that a sender repeats.
fn repeats(old: &Headers, new: &Headers) -> bool {
    match (old, new) {
        (Headers::Arp(old), Headers::Arp(new)) => {
            (old.operation, old.sender, old.target) == (new.operation, new.sender, new.target)
        }
        (Headers::Ip(old), Headers::Ip(new)) => {
            let (old, new) = (old.innermost(), new.innermost());
            let (Some(before), Some(after)) = (&old.tcp, &new.tcp) else {
                return false;
            };
            // SYN, FIN and RST count like bytes.
            const COUNTED: u8 = 0x07;
            old.payload_length == new.payload_length
                && before.sequence == after.sequence
                && before.flags & COUNTED == after.flags & COUNTED
                && (new.payload_length > 0 || after.flags & COUNTED != 0)
        }
        _ => false,
    }
}

/// Whether nothing tells two packets apart that every sender tells apart.
fn is_double(old: &Headers, new: &Headers) -> bool {
    let (Some(old), Some(new)) = (old.ip(), new.ip()) else {
        return false;
    };
    let (old, new) = (old.innermost(), new.innermost());
    let stamp = |summary: &pointsman_wire::Summary| {
        summary
            .tcp
            .as_ref()
            .and_then(|tcp| tcp.timestamps.map(|(own, _)| own))
    };
    let known = new.id.is_some_and(|id| id != 0);
    known && old.id == new.id && stamp(old) == stamp(new)
}

/// Whether the bytes of one include those of the other.
fn covers(old: &Headers, new: &Headers) -> bool {
    let (Some((start, length)), Some((other_start, other_length))) = (bytes_of(new), bytes_of(old))
    else {
        return false;
    };
    let after = start.wrapping_sub(other_start);
    let before = other_start.wrapping_sub(start);
    (other_start, other_length) != (start, length)
        && (u64::from(after) + u64::from(length) <= u64::from(other_length)
            || u64::from(before) + u64::from(other_length) <= u64::from(length))
}

/// First sequence number and number of payload bytes, if it is TCP with payload.
fn bytes_of(headers: &Headers) -> Option<(u32, u32)> {
    let inner = headers.ip()?.innermost();
    let tcp = inner.tcp.as_ref()?;
    let length = u32::try_from(inner.payload_length).ok()?;
    (length > 0).then_some((tcp.sequence, length))
}

fn note_changes(hints: &Hints, packet: &mut Packet) {
    for at in 1..packet.hops.len() {
        let (before, rest) = packet.hops.split_at_mut(at);
        let (before, hop) = (&before[at - 1], &mut rest[0]);
        hop.changed = before.headers.changes(&hop.headers);
        let told = hop.changed.iter().map(|change| {
            let mac = change.after.parse::<Mac>().ok();
            match mac.and_then(|mac| hints.owners.get(&mac)) {
                Some(owner) => format!("{} -> {owner}", change.what),
                None => change.to_string(),
            }
        });
        hop.changes = told.collect();
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

fn is_delivered(points: &[Point], packet: &Packet) -> bool {
    let Some(last) = packet.hops.last() else {
        return false;
    };
    let point = &points[last.point];
    // What the director sends on or drops is not for its host.
    let passed = last
        .verdict()
        .is_none_or(|verdict| verdict.starts_with(PASSED));
    if last.way != Way::In || !passed {
        return false;
    }
    match &last.headers {
        Headers::Ip(summary) => point.addresses.contains(&summary.destination),
        Headers::Arp(message) => point.addresses.contains(&IpAddr::V4(message.target)),
    }
}

/// The node at the server's end of the packets' way.
fn server_of(points: &[Point], packets: &[Packet]) -> Option<String> {
    let reached = packets
        .iter()
        .find(|packet| packet.forward && packet.delivered)
        .and_then(|packet| packet.hops.last());
    let answered = || {
        let answers = packets.iter().filter(|packet| !packet.forward);
        answers.filter_map(Packet::first).find(|hop| {
            // An ICMP error may come from anybody on the way.
            let ip = hop.headers.ip();
            let is_error = ip.is_some_and(|ip| ip.innermost().quoted.is_some());
            hop.way == Way::Out && !is_error && points[hop.point].bridge.is_none()
        })
    };
    let hop = reached.or_else(answered)?;
    Some(points[hop.point].node.clone())
}
