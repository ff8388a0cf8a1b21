//! The facts of a frame by which captures of several hops are joined and compared.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::bytes::Mac;
use crate::layers::{DEPTH, Link, Packet, Transport, quotes};
pub use crate::layers::{Fragment, Tunnel};
use crate::tcp;

/// The link layer of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkSummary {
    /// Source address.
    pub source: Mac,
    /// Destination address.
    pub destination: Mac,
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
}

/// The TCP header of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpSummary {
    /// Flags: [`crate::tcp::SYN`], ...
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number, whether the flag says it counts or not.
    pub acknowledgement: u32,
    /// Receive window, not scaled.
    pub window: u16,
    /// Maximum segment size option, bytes.
    pub mss: Option<u16>,
    /// Timestamps option: the sender's clock, and the echo of the receiver's.
    pub timestamps: Option<(u32, u32)>,
}

/// The ICMP or ICMPv6 header of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IcmpSummary {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum: id and sequence number, MTU, ...
    pub rest: u32,
}

/// The facts of an IP packet and the frame it came in; numbers in host order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Summary {
    /// The link layer; none for a packet within another.
    pub link: Option<LinkSummary>,
    /// IP version, 4 or 6.
    pub version: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Identification; with IPv6 only where a fragment header gives one.
    pub id: Option<u32>,
    /// The don't-fragment bit; false with IPv6.
    pub dont_fragment: bool,
    /// Which fragment this is, if it is one.
    pub fragment: Option<Fragment>,
    /// IP protocol number behind all extension headers.
    pub protocol: u8,
    /// Source and destination port of TCP, UDP and SCTP.
    pub ports: Option<(u16, u16)>,
    /// The TCP header.
    pub tcp: Option<TcpSummary>,
    /// The ICMP or ICMPv6 header.
    pub icmp: Option<IcmpSummary>,
    /// Bytes behind the transport header (behind the IP headers when none was read), by the
    /// headers' word, so a short capture does not change it.
    pub payload_length: usize,
    /// How this packet wraps [`Self::inner`].
    pub tunnel: Option<Tunnel>,
    /// The packet in this tunnel packet.
    pub inner: Option<Box<Summary>>,
    /// The packet an ICMP error is about, often cut short.
    pub quoted: Option<Box<Summary>>,
}

impl Summary {
    /// Reads an Ethernet frame; none when it carries no readable IP header.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let link = Link::parse(frame).ok().filter(Link::carries_ip)?;
        let mut summary = Self::parse_packet(link.payload)?;
        summary.link = Some(LinkSummary {
            source: link.source,
            destination: link.destination,
            vlans: link.tags.iter().map(|(_, tag)| tag.id()).collect(),
        });
        Some(summary)
    }

    /// Reads a packet that starts with its IP header.
    pub fn parse_packet(packet: &[u8]) -> Option<Self> {
        Self::parse_nested(packet, DEPTH)
    }

    fn parse_nested(bytes: &[u8], depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let packet = Packet::parse(bytes).ok()?;
        let transport = packet.transport();
        let mut summary = Self {
            link: None,
            version: packet.version,
            source: packet.source,
            destination: packet.destination,
            tos: packet.tos,
            ttl: packet.ttl,
            id: packet.id,
            dont_fragment: packet.dont_fragment,
            fragment: packet.fragment,
            protocol: packet.protocol,
            ports: None,
            tcp: None,
            icmp: None,
            payload_length: packet.length,
            tunnel: None,
            inner: None,
            quoted: None,
        };
        match &transport {
            Transport::Tcp {
                header,
                options,
                length,
            } => {
                summary.ports = Some((header.source.get(), header.destination.get()));
                summary.payload_length = *length;
                summary.tcp = Some(TcpSummary {
                    flags: header.flags,
                    sequence: header.sequence.get(),
                    acknowledgement: header.acknowledgement.get(),
                    window: header.window.get(),
                    mss: tcp_options(options).find_map(|(kind, value)| {
                        let value = value.try_into().ok().filter(|_| kind == tcp::OPTION_MSS)?;
                        Some(u16::from_be_bytes(value))
                    }),
                    timestamps: tcp_options(options).find_map(|(kind, value)| {
                        let value: [u8; 8] = value.try_into().ok()?;
                        let both = u64::from_be_bytes(value);
                        (kind == tcp::OPTION_TIMESTAMPS)
                            .then_some(((both >> 32) as u32, both as u32))
                    }),
                });
            }
            Transport::Udp { header, length, .. } => {
                summary.ports = Some((header.source.get(), header.destination.get()));
                summary.payload_length = *length;
            }
            Transport::Sctp { header, .. } => {
                summary.ports = Some((header.source.get(), header.destination.get()));
                summary.payload_length = packet.length.saturating_sub(size_of_val(*header));
            }
            Transport::Icmp { header, body } => {
                summary.payload_length = packet.length.saturating_sub(size_of_val(*header));
                summary.icmp = Some(IcmpSummary {
                    kind: header.kind,
                    code: header.code,
                    rest: header.rest.get(),
                });
                if quotes(packet.version, header.kind) {
                    summary.quoted = Self::parse_nested(body, depth).map(Box::new);
                }
            }
            Transport::Flawed(flaw) => summary.ports = packet.cut_ports(*flaw),
            Transport::Gre { .. } | Transport::IpIp => {}
            Transport::LaterFragment | Transport::Other => {}
        }
        if let Some(inner) = packet.tunnelled(&transport) {
            summary.inner = Self::parse_nested(inner.bytes, depth).map(Box::new);
            summary.tunnel = summary.inner.is_some().then_some(inner.tunnel);
        }
        Some(summary)
    }

    /// The packet in the innermost tunnel; itself when it is in none.
    pub fn innermost(&self) -> &Self {
        self.inner.as_ref().map_or(self, |inner| inner.innermost())
    }

    /// Protocol, addresses and ports; none without ports.
    pub fn flow(&self) -> Option<Flow> {
        let (source, destination) = self.ports?;
        Some(Flow {
            protocol: self.protocol,
            source: SocketAddr::new(self.source, source),
            destination: SocketAddr::new(self.destination, destination),
        })
    }

    /// What `later`, the same packet seen at a later hop, has different; in header order.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let mut changes = Changes(Vec::new());
        if let (Some(old), Some(new)) = (&self.link, &later.link) {
            changes.note("source MAC", &old.source, &new.source);
            changes.note("destination MAC", &old.destination, &new.destination);
            changes.note("VLAN", &list(&old.vlans), &list(&new.vlans));
        }
        let wrapping = |summary: &Self| match (summary.tunnel, &summary.inner) {
            (Some(tunnel), Some(_)) => {
                format!("{tunnel} {} > {}", summary.source, summary.destination)
            }
            _ => "none".to_owned(),
        };
        changes.note("tunnel", &wrapping(self), &wrapping(later));
        let (old, new) = (self.innermost(), later.innermost());
        changes.note("source", &old.source, &new.source);
        changes.note("destination", &old.destination, &new.destination);
        changes.note("TOS", &old.tos, &new.tos);
        changes.note("TTL", &old.ttl, &new.ttl);
        changes.note("id", &optional(old.id), &optional(new.id));
        changes.note("don't fragment", &old.dont_fragment, &new.dont_fragment);
        changes.note("protocol", &old.protocol, &new.protocol);
        let port = |summary: &Self, pick: fn((u16, u16)) -> u16| optional(summary.ports.map(pick));
        changes.note(
            "source port",
            &port(old, |ports| ports.0),
            &port(new, |ports| ports.0),
        );
        changes.note(
            "destination port",
            &port(old, |ports| ports.1),
            &port(new, |ports| ports.1),
        );
        if let (Some(old), Some(new)) = (&old.tcp, &new.tcp) {
            let flags = |tcp: &TcpSummary| tcp::Flags(tcp.flags);
            changes.note("flags", &flags(old), &flags(new));
            changes.note("seq", &old.sequence, &new.sequence);
            changes.note("ack", &old.acknowledgement, &new.acknowledgement);
            changes.note("window", &old.window, &new.window);
            changes.note("MSS", &optional(old.mss), &optional(new.mss));
        }
        changes.note("payload length", &old.payload_length, &new.payload_length);
        changes.0
    }
}

/// Protocol, addresses and ports of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
}

impl Flow {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::write_protocol(f, self.protocol)?;
        write!(f, " {} > {}", self.source, self.destination)
    }
}

/// One fact in which two sightings of a packet differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Name of the fact.
    pub what: &'static str,
    /// Its value at the earlier hop.
    pub before: String,
    /// Its value at the later hop.
    pub after: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.what, self.before, self.after)
    }
}

struct Changes(Vec<Change>);

impl Changes {
    fn note<T: fmt::Display + PartialEq>(&mut self, what: &'static str, old: &T, new: &T) {
        if old != new {
            self.0.push(Change {
                what,
                before: old.to_string(),
                after: new.to_string(),
            });
        }
    }
}

fn optional<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn list(vlans: &[u16]) -> String {
    if vlans.is_empty() {
        return "none".to_owned();
    }
    vlans
        .iter()
        .map(u16::to_string)
        .collect::<Vec<_>>()
        .join(".")
}

/// The options in `bytes`, kind and value; stops at their end or at nonsense.
pub(crate) fn tcp_options(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            match bytes {
                [tcp::OPTION_NOP, rest @ ..] => bytes = rest,
                [kind, length, ..] if *kind != tcp::OPTION_END => {
                    let option = bytes.get(..usize::from(*length)).filter(|o| o.len() >= 2)?;
                    bytes = &bytes[option.len()..];
                    return Some((*kind, &option[2..]));
                }
                _ => return None,
            }
        }
    })
}
