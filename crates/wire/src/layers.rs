//! A frame taken apart as far as its bytes go: what text, summary and verification share.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::bytes::{Mac, Wire};
use crate::ethernet::{Ethernet, VlanTag};
use crate::gre::{Gre, GreChecksum};
use crate::gue::{self, Gue};
use crate::icmp::{self, Icmp};
use crate::ipv4::Ipv4;
use crate::ipv6::{self, Ipv6, Ipv6Extension, Ipv6Fragment};
use crate::sctp::Sctp;
use crate::tcp::Tcp;
use crate::udp::Udp;
use crate::{ethernet, protocol};

/// How many packets within packets are read; deeper ones are left alone.
pub(crate) const DEPTH: usize = 8;
/// How many VLAN tags are read.
const TAGS: usize = 4;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The bytes end within the named header.
    Cut(&'static str),
    /// The named header contradicts itself.
    Bad(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(name) => write!(f, "[|{name}]"),
            Self::Bad(name) => write!(f, "[bad {name}]"),
        }
    }
}

/// A view over the start of `bytes` and what is behind it.
pub(crate) fn view<'a, T: Wire>(
    bytes: &'a [u8],
    name: &'static str,
) -> Result<(&'a T, &'a [u8]), Flaw> {
    T::ref_from_prefix(bytes).map_err(|_| Flaw::Cut(name))
}

/// The link layer of a frame.
pub(crate) struct Link<'a> {
    pub(crate) source: Mac,
    pub(crate) destination: Mac,
    /// Outermost first: the EtherType that announced the tag, and the tag.
    pub(crate) tags: Vec<(u16, VlanTag)>,
    /// Of the payload.
    pub(crate) ethertype: u16,
    pub(crate) payload: &'a [u8],
    pub(crate) flaw: Option<Flaw>,
}

impl<'a> Link<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let (header, payload) = view::<Ethernet>(bytes, "ether")?;
        let mut link = Self {
            source: header.source,
            destination: header.destination,
            tags: Vec::new(),
            ethertype: header.ethertype.get(),
            payload,
            flaw: None,
        };
        while matches!(link.ethertype, ethernet::VLAN | ethernet::QINQ) && link.tags.len() < TAGS {
            match view::<VlanTag>(link.payload, "vlan") {
                Ok((tag, payload)) => {
                    link.tags.push((link.ethertype, *tag));
                    link.ethertype = tag.ethertype.get();
                    link.payload = payload;
                }
                Err(flaw) => {
                    link.flaw = Some(flaw);
                    break;
                }
            }
        }
        Ok(link)
    }

    /// True when the payload is an IP packet.
    pub(crate) fn carries_ip(&self) -> bool {
        self.flaw.is_none() && matches!(self.ethertype, ethernet::IPV4 | ethernet::IPV6)
    }
}

/// Which part of a datagram a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Bytes of the datagram's payload before this fragment's.
    pub offset: u32,
    /// True for all but the last fragment.
    pub more: bool,
}

/// An IP packet, extension headers walked.
pub(crate) struct Packet<'a> {
    pub(crate) version: u8,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Where a routing header takes the packet in the end; what checksums cover.
    pub(crate) final_destination: IpAddr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: Option<u32>,
    pub(crate) dont_fragment: bool,
    pub(crate) fragment: Option<Fragment>,
    /// Of the payload.
    pub(crate) protocol: u8,
    /// The IPv4 header with its options; all headers of IPv6.
    pub(crate) header: &'a [u8],
    /// What there is of the payload, link padding not included.
    pub(crate) payload: &'a [u8],
    /// Bytes of the payload by the header's word.
    pub(crate) length: usize,
    pub(crate) flaw: Option<Flaw>,
}

impl<'a> Packet<'a> {
    /// Reads an IP packet of either version.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        match bytes.first().map(|byte| byte >> 4) {
            None => Err(Flaw::Cut("ip")),
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(_) => Err(Flaw::Bad("ip version")),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let (ip, _) = view::<Ipv4>(bytes, "ip")?;
        let header_length = ip.header_length() as usize;
        if header_length < Ipv4::LEN as usize {
            return Err(Flaw::Bad("ip header length"));
        }
        let (header, rest) = bytes
            .split_at_checked(header_length)
            .ok_or(Flaw::Cut("ip"))?;
        let length = match usize::from(ip.total_length.get()) {
            // A segmentation offload's packet beyond 64 KiB can't say its length.
            0 => rest.len(),
            total => total
                .checked_sub(header_length)
                .ok_or(Flaw::Bad("ip length"))?,
        };
        let fragment = ip.is_fragment().then(|| Fragment {
            offset: u32::from(ip.fragment.get() & Ipv4::OFFSET) * 8,
            more: ip.fragment.get() & Ipv4::MORE_FRAGMENTS != 0,
        });
        Ok(Self {
            version: 4,
            source: ip.source_address().into(),
            destination: ip.destination_address().into(),
            final_destination: ip.destination_address().into(),
            tos: ip.tos,
            ttl: ip.ttl,
            id: Some(u32::from(ip.id.get())),
            dont_fragment: ip.dont_fragment(),
            fragment,
            protocol: ip.protocol,
            header,
            payload: &rest[..length.min(rest.len())],
            length,
            flaw: None,
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let (ip, rest) = view::<Ipv6>(bytes, "ip6")?;
        let length = match usize::from(ip.payload_length.get()) {
            // As for IPv4: a jumbo packet.
            0 if ip.next_header != ipv6::NO_NEXT => rest.len(),
            length => length,
        };
        let mut packet = Self {
            version: 6,
            source: ip.source_address().into(),
            destination: ip.destination_address().into(),
            final_destination: ip.destination_address().into(),
            tos: ip.traffic_class(),
            ttl: ip.hop_limit,
            id: None,
            dont_fragment: false,
            fragment: None,
            protocol: ip.next_header,
            header: &bytes[..Ipv6::LEN as usize],
            payload: &rest[..length.min(rest.len())],
            length,
            flaw: None,
        };
        packet.flaw = packet.walk_extensions().err();
        let headers = Ipv6::LEN as usize + length - packet.length;
        packet.header = &bytes[..headers.min(bytes.len())];
        Ok(packet)
    }

    fn walk_extensions(&mut self) -> Result<(), Flaw> {
        loop {
            let length = match self.protocol {
                ipv6::FRAGMENT => {
                    let (header, _) = view::<Ipv6Fragment>(self.payload, "frag")?;
                    let word = header.offset.get();
                    self.id = Some(header.id.get());
                    // Offset 0 without more is an atomic fragment: whole, but its header is there.
                    self.fragment = Some(Fragment {
                        offset: u32::from(word & 0xfff8),
                        more: word & 1 != 0,
                    });
                    size_of::<Ipv6Fragment>()
                }
                ipv6::HOP_BY_HOP | ipv6::DESTINATION_OPTIONS | ipv6::ROUTING => {
                    let (header, _) = view::<Ipv6Extension>(self.payload, "ip6-ext")?;
                    (usize::from(header.length) + 1) * 8
                }
                ipv6::AUTHENTICATION => {
                    let (header, _) = view::<Ipv6Extension>(self.payload, "ah")?;
                    (usize::from(header.length) + 2) * 4
                }
                _ => return Ok(()),
            };
            let left = self
                .length
                .checked_sub(length)
                .ok_or(Flaw::Bad("ip6 length"))?;
            let (extension, payload) = self
                .payload
                .split_at_checked(length)
                .ok_or(Flaw::Cut("ip6-ext"))?;
            if self.protocol == ipv6::ROUTING
                && let Some(last) = last_stop(extension)
            {
                self.final_destination = last.into();
            }
            // Every extension header starts with the number of what follows it.
            self.protocol = extension[0];
            self.payload = payload;
            self.length = left;
            if self.fragment.is_some_and(|fragment| fragment.offset != 0) {
                return Ok(());
            }
        }
    }

    /// True when there are other fragments of this datagram.
    pub(crate) fn is_partial(&self) -> bool {
        self.fragment
            .is_some_and(|fragment| fragment.more || fragment.offset != 0)
    }

    /// Reads the header behind the IP headers.
    pub(crate) fn transport(&self) -> Transport<'a> {
        if let Some(flaw) = self.flaw {
            return Transport::Flawed(flaw);
        }
        if self.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Transport::LaterFragment;
        }
        self.transport_header().unwrap_or_else(Transport::Flawed)
    }

    fn transport_header(&self) -> Result<Transport<'a>, Flaw> {
        let icmp_version = if self.version == 4 {
            protocol::ICMP
        } else {
            protocol::ICMPV6
        };
        Ok(match self.protocol {
            protocol::TCP => {
                let (header, _) = view::<Tcp>(self.payload, "tcp")?;
                let header_length = header.header_length() as usize;
                let length = self
                    .length
                    .checked_sub(header_length)
                    .ok_or(Flaw::Bad("tcp length"))?;
                if header_length < Tcp::LEN as usize {
                    return Err(Flaw::Bad("tcp header length"));
                }
                let end = header_length.min(self.payload.len());
                Transport::Tcp {
                    header,
                    options: &self.payload[Tcp::LEN as usize..end],
                    length,
                }
            }
            protocol::UDP => {
                let (header, rest) = view::<Udp>(self.payload, "udp")?;
                let length = match usize::from(header.length.get()) {
                    0 => self.length,
                    length => length,
                };
                let bounds = Udp::LEN as usize..=self.length;
                if !bounds.contains(&length) && !self.is_partial() {
                    return Err(Flaw::Bad("udp length"));
                }
                let length = length.saturating_sub(Udp::LEN as usize);
                Transport::Udp {
                    header,
                    payload: &rest[..length.min(rest.len())],
                    length,
                }
            }
            protocol::SCTP => {
                let (header, chunks) = view::<Sctp>(self.payload, "sctp")?;
                Transport::Sctp { header, chunks }
            }
            protocol if protocol == icmp_version => {
                let name = if self.version == 4 { "icmp" } else { "icmp6" };
                let (header, body) = view::<Icmp>(self.payload, name)?;
                Transport::Icmp { header, body }
            }
            protocol::GRE => {
                let (header, _) = view::<Gre>(self.payload, "gre")?;
                let length = header.header_length() as usize;
                let body = self.payload.get(length..).ok_or(Flaw::Cut("gre"))?;
                Transport::Gre { header, body }
            }
            protocol::IPV4 | protocol::IPV6 => Transport::IpIp,
            _ => Transport::Other,
        })
    }

    /// The ports of a transport header cut behind them, as ICMP errors may quote it.
    pub(crate) fn cut_ports(&self, flaw: Flaw) -> Option<(u16, u16)> {
        match (flaw, self.payload) {
            (Flaw::Cut("tcp" | "udp" | "sctp"), [a, b, c, d, ..]) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        }
    }

    /// The packet within this one, when it is a tunnel's.
    pub(crate) fn tunnelled(&self, transport: &Transport<'a>) -> Option<Inner<'a>> {
        let (tunnel, bytes, partial) = match transport {
            Transport::IpIp => (Tunnel::IpIp, self.payload, false),
            Transport::Gre { header, body } => {
                let plain = header.flags.get() & (Gre::ROUTING | Gre::VERSION) == 0;
                let ip = matches!(header.protocol.get(), ethernet::IPV4 | ethernet::IPV6);
                (plain && ip).then_some((Tunnel::Gre, *body, false))?
            }
            Transport::Udp {
                header, payload, ..
            } if header.destination.get() == gue::PORT => {
                let (bytes, partial) = behind_gue(payload)?;
                (Tunnel::Gue, bytes, partial)
            }
            _ => return None,
        };
        Some(Inner {
            tunnel,
            bytes,
            partial,
        })
    }
}

/// A packet in a tunnel.
pub(crate) struct Inner<'a> {
    pub(crate) tunnel: Tunnel,
    pub(crate) bytes: &'a [u8],
    /// True when remote checksum offload leaves the inner checksum to the receiver.
    pub(crate) partial: bool,
}

/// How a packet is wrapped in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP, any versions (RFC 2003, 2473, 4213).
    IpIp,
    /// GRE (RFC 2784).
    Gre,
    /// Generic UDP encapsulation.
    Gue,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IpIp => "IPIP",
            Self::Gre => "GRE",
            Self::Gue => "GUE",
        })
    }
}

/// The header behind IP.
pub(crate) enum Transport<'a> {
    Tcp {
        header: &'a Tcp,
        /// What there is of the options.
        options: &'a [u8],
        /// Bytes of the payload by the IP header's word.
        length: usize,
    },
    Udp {
        header: &'a Udp,
        /// What there is of the payload.
        payload: &'a [u8],
        /// Bytes of the payload by the UDP header's word.
        length: usize,
    },
    Sctp {
        header: &'a Sctp,
        chunks: &'a [u8],
    },
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp {
        header: &'a Icmp,
        body: &'a [u8],
    },
    Gre {
        header: &'a Gre,
        body: &'a [u8],
    },
    IpIp,
    /// Its header went with the first fragment.
    LaterFragment,
    Other,
    Flawed(Flaw),
}

/// The GRE checksum, when the header announces one.
pub(crate) fn gre_checksum(bytes: &[u8]) -> Option<&GreChecksum> {
    let (header, rest) = view::<Gre>(bytes, "gre").ok()?;
    let announced = header.flags.get() & Gre::CHECKSUM != 0;
    if announced {
        view(rest, "gre").ok().map(|(checksum, _)| checksum)
    } else {
        None
    }
}

/// True for ICMP messages that quote a packet.
pub(crate) fn quotes(version: u8, kind: u8) -> bool {
    if version == 4 {
        matches!(
            kind,
            icmp::V4_UNREACHABLE
                | icmp::V4_SOURCE_QUENCH
                | icmp::V4_REDIRECT
                | icmp::V4_TIME_EXCEEDED
                | icmp::V4_PARAMETER_PROBLEM
        )
    } else {
        // RFC 4443 section 2.1: errors have the high bit clear.
        (1..=4).contains(&kind)
    }
}

fn behind_gue(payload: &[u8]) -> Option<(&[u8], bool)> {
    let (header, rest) = view::<Gue>(payload, "gue").ok()?;
    match header.variant() {
        0 if !header.is_control() && matches!(header.protocol, protocol::IPV4 | protocol::IPV6) => {
            let private = header.flags.get() & Gue::PRIVATE != 0;
            let partial = private
                && rest.first_chunk().is_some_and(|word| {
                    u32::from_be_bytes(*word) & Gue::PRIVATE_REMOTE_CHECKSUM != 0
                });
            Some((payload.get(header.header_length() as usize..)?, partial))
        }
        1 => Some((payload, false)),
        _ => None,
    }
}

/// The last address of a routing header that still has stops to make.
fn last_stop(routing: &[u8]) -> Option<Ipv6Addr> {
    let (kind, left) = (*routing.get(2)?, *routing.get(3)?);
    let addresses = routing.get(8..)?;
    let last = match kind {
        _ if left == 0 => None,
        // Source route (deprecated) and mobility: in travelling order.
        0 | 2 => addresses.last_chunk::<16>(),
        // Segment routing: in reverse, option records behind them.
        4 => addresses.first_chunk::<16>(),
        _ => None,
    };
    last.map(|bytes| Ipv6Addr::from(*bytes))
}
