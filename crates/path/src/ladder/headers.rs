//! The headers of a frame, and that by which it is known again elsewhere.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pointsman_wire::summary::{Change, LinkSummary};
use pointsman_wire::{
    Arp, ChecksumError, Ethernet, Summary, VlanTag, arp, ethernet, icmp, protocol,
    verify_checksums, verify_packet_checksums,
};

use zerocopy::FromBytes as _;

use crate::observation::{Observation, Point};

/// FIN, SYN, RST, PSH, ACK, URG: the bits that no hop changes.
const LASTING_FLAGS: u8 = 0x3f;
/// Bytes of payload that are compared; a capture that keeps less does not tell payloads apart.
const COMPARED: usize = 32;

/// What a conversation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// ARP.
    Arp,
    /// ICMPv6 neighbour discovery.
    Ndp,
    /// IP of this protocol number.
    Ip(u8),
}

/// An ARP message and the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArpHeaders {
    /// The link layer.
    pub link: LinkSummary,
    /// Request or reply.
    pub operation: u16,
    /// Hardware address it says the sender has.
    pub sender_mac: pointsman_wire::Mac,
    /// The sender.
    pub sender: Ipv4Addr,
    /// Hardware address of the target; zero in most requests.
    pub target_mac: pointsman_wire::Mac,
    /// The target.
    pub target: Ipv4Addr,
}

/// What is read of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Headers {
    /// An IP packet.
    Ip(Box<Summary>),
    /// An ARP message.
    Arp(ArpHeaders),
}

impl Headers {
    /// The link layer, if the point has one.
    pub fn link(&self) -> Option<&LinkSummary> {
        match self {
            Self::Ip(summary) => summary.link.as_ref(),
            Self::Arp(message) => Some(&message.link),
        }
    }

    /// The IP packet, if it is one.
    pub fn ip(&self) -> Option<&Summary> {
        match self {
            Self::Ip(summary) => Some(summary),
            Self::Arp(_) => None,
        }
    }

    /// Time to live of the innermost packet.
    pub(crate) fn ttl(&self) -> Option<u8> {
        self.ip().map(|summary| summary.innermost().ttl)
    }

    /// What `later`, the same packet seen elsewhere, has different; in header order.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        match (self, later) {
            (Self::Ip(old), Self::Ip(new)) => {
                let mut changes = old.changes(new);
                if old.inner.is_some() && new.inner.is_some() && old.ttl != new.ttl {
                    changes.push(Change {
                        what: "outer TTL",
                        before: old.ttl.to_string(),
                        after: new.ttl.to_string(),
                    });
                }
                changes
            }
            (Self::Arp(old), Self::Arp(new)) => {
                let facts = [
                    ("source MAC", old.link.source, new.link.source),
                    (
                        "destination MAC",
                        old.link.destination,
                        new.link.destination,
                    ),
                    ("sender's MAC", old.sender_mac, new.sender_mac),
                    ("target's MAC", old.target_mac, new.target_mac),
                ];
                let mut changes: Vec<Change> = facts
                    .into_iter()
                    .filter(|(_, old, new)| old != new)
                    .map(|(what, old, new)| Change {
                        what,
                        before: old.to_string(),
                        after: new.to_string(),
                    })
                    .collect();
                if old.link.vlans != new.link.vlans {
                    changes.push(Change {
                        what: "VLAN",
                        before: format!("{:?}", old.link.vlans),
                        after: format!("{:?}", new.link.vlans),
                    });
                }
                changes
            }
            _ => Vec::new(),
        }
    }
}

/// State of a frame's checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// All right.
    Right,
    /// The transport checksum is left to a device; right so far.
    Pending,
    /// Neither complete nor marked as left to a device: the receiver will drop it.
    Wrong,
    /// Too little of the frame was kept to say.
    Unknown,
}

/// One direction of a conversation; port 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Directed {
    pub(crate) protocol: Protocol,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Directed {
    pub(crate) fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            ..self
        }
    }
}

/// That by which a packet is known again, whatever was rewritten on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// Hash of what no hop changes: protocol, sequence numbers, flags, length.
    pub(crate) lasting: u64,
    /// Hash of the payload's beginning, where enough was kept.
    pub(crate) payload: Option<u64>,
    /// The sender's TCP clock: another one is another packet.
    pub(crate) stamp: Option<u32>,
}

/// What is known of one frame.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) headers: Headers,
    pub(crate) checksum: Checksum,
    pub(crate) directed: Directed,
    pub(crate) identity: Identity,
    /// IP identification, unless 0.
    pub(crate) id: Option<u32>,
    /// True when the identity alone makes a chance meeting of two packets unlikely.
    pub(crate) sure: bool,
    /// True for what begins a conversation.
    pub(crate) opens: bool,
}

impl Facts {
    /// Reads a frame; none when it is neither IP nor ARP.
    pub(crate) fn read(point: &Point, seen: &Observation) -> Option<Self> {
        if !point.bare
            && let Some(message) = read_arp(&seen.bytes)
        {
            return Some(Self::of_arp(message));
        }
        let (summary, verified) = if point.bare {
            (
                Summary::parse_packet(&seen.bytes)?,
                verify_packet_checksums(&seen.bytes),
            )
        } else {
            (Summary::parse(&seen.bytes)?, verify_checksums(&seen.bytes))
        };
        let checksum = match verified {
            _ if seen.checksum_pending => Checksum::Pending,
            _ if seen.bytes.len() < seen.length => Checksum::Unknown,
            Err(ChecksumError::Wrong { .. } | ChecksumError::Offloaded { .. }) => Checksum::Wrong,
            _ => Checksum::Right,
        };
        let payload = payload(&seen.bytes, point.bare, &summary);
        Self::of_ip(summary, checksum, payload)
    }

    fn of_arp(message: ArpHeaders) -> Self {
        let end = |address: Ipv4Addr| SocketAddr::new(address.into(), 0);
        let directed = Directed {
            protocol: Protocol::Arp,
            from: end(message.sender),
            to: end(message.target),
        };
        let lasting = hash_of((message.operation, message.sender, message.target));
        Self {
            checksum: Checksum::Right,
            directed,
            identity: Identity {
                lasting,
                payload: None,
                stamp: None,
            },
            id: None,
            sure: false,
            opens: message.operation == arp::REQUEST,
            headers: Headers::Arp(message),
        }
    }

    fn of_ip(summary: Summary, checksum: Checksum, payload: &[u8]) -> Option<Self> {
        let inner = summary.innermost();
        let directed = directed_of(inner, payload);
        let compared = inner.payload_length.min(COMPARED);
        let digest = payload.get(..compared).map(hash_of);
        let mut sure = false;
        let mut opens = false;
        let mut stamp = None;
        let (lasting, digest) = if let Some(tcp) = &inner.tcp {
            let flags = tcp.flags & LASTING_FLAGS;
            const SYN_ACK: u8 = 0x12;
            opens = flags & SYN_ACK == 0x02;
            stamp = tcp.timestamps.map(|(own, _)| own);
            sure = stamp.is_some() || inner.id.is_some_and(|id| id != 0);
            (hash_of((tcp.sequence, tcp.acknowledgement, flags)), digest)
        } else if let Some(icmp) = &inner.icmp {
            match (&inner.quoted, is_echo(inner)) {
                // An error quotes what a translation changes.
                (Some(_), _) => (hash_of((icmp.kind, icmp.code)), None),
                // The id of an echo is what a translation changes.
                (_, true) => {
                    opens = matches!(icmp.kind, icmp::V4_ECHO_REQUEST | icmp::V6_ECHO_REQUEST);
                    (hash_of((icmp.kind, icmp.rest & 0xffff)), digest)
                }
                _ => {
                    opens = inner.version == 6 && icmp.kind == icmp::V6_NEIGHBOR_SOLICITATION;
                    (hash_of((icmp.kind, icmp.code, icmp.rest)), digest)
                }
            }
        } else {
            (0, digest)
        };
        let length = if inner.quoted.is_some() {
            0
        } else {
            inner.payload_length
        };
        let fragment = inner.fragment.as_ref().map(hash_of);
        let lasting = hash_of((inner.protocol, lasting, length, fragment));
        let id = inner.id.filter(|id| *id != 0);
        Some(Self {
            checksum,
            directed,
            identity: Identity {
                lasting,
                payload: digest,
                stamp,
            },
            id,
            sure,
            opens,
            headers: Headers::Ip(Box::new(summary)),
        })
    }
}

/// The conversation that a packet belongs to, or that the ICMP error in it is about.
fn directed_of(inner: &Summary, payload: &[u8]) -> Directed {
    let plain = |summary: &Summary| match summary.flow() {
        Some(flow) => Directed {
            protocol: Protocol::Ip(flow.protocol),
            from: flow.source,
            to: flow.destination,
        },
        None => Directed {
            protocol: Protocol::Ip(summary.protocol),
            from: SocketAddr::new(summary.source, 0),
            to: SocketAddr::new(summary.destination, 0),
        },
    };
    if let Some(quoted) = &inner.quoted {
        return plain(quoted.innermost()).reversed();
    }
    let kind = inner.icmp.as_ref().map(|icmp| icmp.kind);
    if inner.version == 6
        && let Some(kind @ icmp::V6_NEIGHBOR_SOLICITATION..=icmp::V6_NEIGHBOR_ADVERTISEMENT) = kind
        && let Some(target) = payload.first_chunk::<16>()
    {
        let target = SocketAddr::new(Ipv6Addr::from(*target).into(), 0);
        let other = |address: IpAddr| SocketAddr::new(address, 0);
        let (from, to) = if kind == icmp::V6_NEIGHBOR_SOLICITATION {
            (other(inner.source), target)
        } else {
            (target, other(inner.destination))
        };
        return Directed {
            protocol: Protocol::Ndp,
            from,
            to,
        };
    }
    plain(inner)
}

fn is_echo(inner: &Summary) -> bool {
    let kind = inner.icmp.as_ref().map(|icmp| icmp.kind);
    match inner.version {
        4 => matches!(kind, Some(icmp::V4_ECHO_REQUEST | icmp::V4_ECHO_REPLY)),
        _ => matches!(kind, Some(icmp::V6_ECHO_REQUEST | icmp::V6_ECHO_REPLY)),
    }
}

/// The innermost payload as far as it was kept; it ends where the outermost packet does, for padding
/// may follow.
fn payload<'a>(bytes: &'a [u8], bare: bool, summary: &Summary) -> &'a [u8] {
    let vlans = summary.link.as_ref().map_or(0, |link| link.vlans.len());
    let start = if bare { 0 } else { 14 + 4 * vlans };
    let field = |at: usize| {
        let field = bytes.get(start + at..start + at + 2)?;
        Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
    };
    // A super-frame of more than 64 KiB says 0.
    let end = match (
        summary.version,
        field(if summary.version == 4 { 2 } else { 4 }),
    ) {
        (_, None | Some(0)) => bytes.len(),
        (4, Some(length)) => start + length,
        (_, Some(length)) => start + 40 + length,
    };
    let begin = end.saturating_sub(summary.innermost().payload_length);
    bytes.get(begin..end.min(bytes.len())).unwrap_or_default()
}

fn read_arp(bytes: &[u8]) -> Option<ArpHeaders> {
    let (header, mut rest) = Ethernet::ref_from_prefix(bytes).ok()?;
    let mut ethertype = header.ethertype.get();
    let mut vlans = Vec::new();
    while matches!(ethertype, ethernet::VLAN | ethernet::QINQ) && vlans.len() < 4 {
        let (tag, behind) = VlanTag::ref_from_prefix(rest).ok()?;
        vlans.push(tag.id());
        ethertype = tag.ethertype.get();
        rest = behind;
    }
    if ethertype != ethernet::ARP {
        return None;
    }
    let (message, _) = Arp::ref_from_prefix(rest).ok()?;
    message.is_ethernet_ipv4().then(|| ArpHeaders {
        link: LinkSummary {
            source: header.source,
            destination: header.destination,
            vlans,
        },
        operation: message.operation.get(),
        sender_mac: message.sender_mac,
        sender: Ipv4Addr::from(message.sender.get()),
        target_mac: message.target_mac,
        target: Ipv4Addr::from(message.target.get()),
    })
}

pub(crate) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Name of an IP protocol.
pub(crate) fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::ICMP | protocol::ICMPV6 => "ICMP",
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::SCTP => "SCTP",
        protocol::VRRP => "VRRP",
        _ => "IP",
    }
}
