//! Builds whole frames, lengths and checksums filled in, for tests and generators.
//!
//! ```
//! use pointsman_wire::{Frame, Line, tcp};
//!
//! let (client, vip) = ([192, 168, 7, 2], [192, 168, 7, 33]);
//! let syn = Frame::ipv4(client, vip).tcp(40000, 80).flags(tcp::SYN).sequence(1).build();
//! assert_eq!(
//!     Line(&syn).to_string(),
//!     "02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4 192.168.7.2.40000 > 192.168.7.33.80: \
//!      Flags [S], seq 1, win 64240, length 0",
//! );
//! let tunnelled = Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]).ip_in_ip(&syn[14..]).build();
//! assert!(pointsman_wire::verify_checksums(&tunnelled).is_ok());
//! ```
//!
//! Heads up: it panics when asked for what no header can say, such as 70000 bytes of payload or
//! hop-by-hop options in IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::bytes::{Be16, Mac};
use crate::ethernet;
use crate::gre::Gre;
use crate::gue::Gue;
use crate::icmp;
use crate::ip_part::IpPart;
use crate::ipv6;
pub use crate::link_frame::{
    arp_announcement, arp_reply, arp_request, ethernet_frame, neighbor_announcement,
};
use crate::protocol;
use crate::segment::fill;
pub use crate::segment::{Addresses, IcmpPart, RawPart, SctpPart, Segment, TcpPart, UdpPart};
use crate::tcp;

/// The source address of a frame that was given none.
pub const SOURCE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The destination address of a frame that was given none.
pub const DESTINATION_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

#[derive(Debug, Clone)]
struct LinkPart {
    source: Mac,
    destination: Mac,
    /// EtherType and control word, outermost first.
    tags: Vec<(u16, u16)>,
    least: usize,
}

/// A frame to be built: Ethernet, IP, and `S` behind it.
#[derive(Debug, Clone)]
#[must_use]
pub struct Frame<S = RawPart> {
    link: LinkPart,
    ip: IpPart,
    segment: S,
    payload: Vec<u8>,
}

impl Frame {
    /// An IPv4 packet; nothing behind IP yet.
    pub fn ipv4(source: impl Into<Ipv4Addr>, destination: impl Into<Ipv4Addr>) -> Self {
        Self::ip(source.into(), destination.into())
    }

    /// An IPv6 packet; nothing behind IP yet.
    pub fn ipv6(source: impl Into<Ipv6Addr>, destination: impl Into<Ipv6Addr>) -> Self {
        Self::ip(source.into(), destination.into())
    }

    /// A packet of the addresses' version; nothing behind IP yet.
    pub fn ip(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        let (source, destination) = (source.into(), destination.into());
        assert_eq!(
            source.is_ipv4(),
            destination.is_ipv4(),
            "{source} and {destination} in one"
        );
        let link = LinkPart {
            source: SOURCE_MAC,
            destination: DESTINATION_MAC,
            tags: Vec::new(),
            least: 0,
        };
        let ip = IpPart::new(source, destination);
        let protocol = if source.is_ipv4() {
            0xff
        } else {
            ipv6::NO_NEXT
        };
        Self {
            link,
            ip,
            segment: RawPart { protocol },
            payload: Vec::new(),
        }
    }

    pub(crate) fn carry<S>(self, segment: S) -> Frame<S> {
        Frame {
            link: self.link,
            ip: self.ip,
            segment,
            payload: self.payload,
        }
    }

    /// Puts a TCP header behind IP.
    pub fn tcp(self, source: u16, destination: u16) -> Frame<TcpPart> {
        self.carry(TcpPart {
            ports: (source, destination),
            sequence: 0,
            acknowledgement: 0,
            flags: 0,
            window: 64240,
            urgent: 0,
            options: Vec::new(),
        })
    }

    /// Puts a UDP header behind IP.
    pub fn udp(self, source: u16, destination: u16) -> Frame<UdpPart> {
        self.carry(UdpPart {
            ports: (source, destination),
            checksummed: true,
        })
    }

    /// Puts an SCTP common header behind IP; the payload is its chunks.
    pub fn sctp(self, source: u16, destination: u16, tag: u32) -> Frame<SctpPart> {
        self.carry(SctpPart {
            ports: (source, destination),
            tag,
        })
    }

    /// Puts an ICMP header, with IPv6 an ICMPv6 header, behind IP; `rest` is its second word.
    pub fn icmp(self, kind: u8, code: u8, rest: u32) -> Frame<IcmpPart> {
        self.carry(IcmpPart { kind, code, rest })
    }

    /// Makes it an echo request of ICMP or ICMPv6.
    pub fn echo_request(self, id: u16, sequence: u16) -> Frame<IcmpPart> {
        let v4 = self.ip.source.is_ipv4();
        let kind = if v4 {
            icmp::V4_ECHO_REQUEST
        } else {
            icmp::V6_ECHO_REQUEST
        };
        self.icmp(kind, 0, u32::from(id) << 16 | u32::from(sequence))
    }

    /// Makes it an echo reply of ICMP or ICMPv6.
    pub fn echo_reply(self, id: u16, sequence: u16) -> Frame<IcmpPart> {
        let v4 = self.ip.source.is_ipv4();
        let kind = if v4 {
            icmp::V4_ECHO_REPLY
        } else {
            icmp::V6_ECHO_REPLY
        };
        self.icmp(kind, 0, u32::from(id) << 16 | u32::from(sequence))
    }

    /// Makes it an ICMP or ICMPv6 error that quotes `packet`, which starts with its IP header; cut
    /// to the 576 or 1280 bytes that RFC 1812 and RFC 4443 allow the error.
    pub fn icmp_error(self, kind: u8, code: u8, rest: u32, packet: &[u8]) -> Frame<IcmpPart> {
        let most = if self.ip.source.is_ipv4() {
            576 - 20 - 8
        } else {
            1280 - 40 - 8
        };
        let quote = &packet[..packet.len().min(most)];
        self.icmp(kind, code, rest).payload(quote)
    }

    /// Wraps `packet`, which starts with its IP header, without a header between.
    pub fn ip_in_ip(mut self, packet: &[u8]) -> Self {
        self.segment.protocol = inner_protocol(packet);
        self.payload(packet)
    }

    /// Wraps `packet`, which starts with its IP header, in GRE.
    pub fn gre(mut self, packet: &[u8], checksummed: bool) -> Self {
        let flags = if checksummed { Gre::CHECKSUM } else { 0 };
        let ethertype = match inner_protocol(packet) {
            protocol::IPV4 => ethernet::IPV4,
            _ => ethernet::IPV6,
        };
        let header = Gre {
            flags: Be16::new(flags),
            protocol: Be16::new(ethertype),
        };
        let mut bytes = header.as_bytes().to_vec();
        if checksummed {
            bytes.extend([0; 4]);
        }
        bytes.extend(packet);
        if checksummed {
            fill(&mut bytes, 0, Gre::LEN);
        }
        self.segment.protocol = protocol::GRE;
        self.payload(&bytes)
    }

    /// Makes the payload follow IP as protocol `number`; of IPv6 also an extension header's number.
    pub fn protocol(mut self, number: u8) -> Self {
        self.segment.protocol = number;
        self
    }
}

impl<S: Segment> Frame<S> {
    /// Sets the link-layer addresses.
    pub fn macs(mut self, source: Mac, destination: Mac) -> Self {
        self.link.source = source;
        self.link.destination = destination;
        self
    }

    /// Adds an 802.1Q tag within the tags already there.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(ethernet::VLAN, id)
    }

    /// Adds an 802.1ad service tag within the tags already there.
    pub fn service_vlan(self, id: u16) -> Self {
        self.tag(ethernet::QINQ, id)
    }

    /// Adds a tag of this EtherType; `control` is priority, drop eligibility and VLAN id.
    pub fn tag(mut self, ethertype: u16, control: u16) -> Self {
        self.link.tags.push((ethertype, control));
        self
    }

    /// Pads the frame with zeros to at least so many bytes, as Ethernet does to 60.
    pub fn padded(mut self, least: usize) -> Self {
        self.link.least = least;
        self
    }

    /// Sets time to live or hop limit, 64 unless told.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.ttl = ttl;
        self
    }

    /// Sets type of service or traffic class, 0 unless told.
    pub fn tos(mut self, tos: u8) -> Self {
        self.ip.tos = tos;
        self
    }

    /// Sets the identification, 1 unless told; 16 bits of it with IPv4.
    pub fn id(mut self, id: u32) -> Self {
        self.ip.id = id;
        self
    }

    /// Sets IPv6's flow label, 0 unless told; 20 bits of it.
    pub fn flow_label(mut self, label: u32) -> Self {
        self.ip.flow_label = label & 0xf_ffff;
        self
    }

    /// Sets IPv4's don't-fragment bit.
    pub fn dont_fragment(mut self) -> Self {
        self.ip.dont_fragment = true;
        self
    }

    /// Makes it look like a fragment, offset in bytes; what follows IP is taken as this fragment's
    /// part. [`Self::fragments`] cuts up a whole packet.
    pub fn fragment(mut self, offset: u32, more: bool) -> Self {
        assert!(
            offset.is_multiple_of(8),
            "a fragment can't start at byte {offset}"
        );
        self.ip.fragment = Some((offset, more));
        self
    }

    /// Adds IPv4 options, padded to whole words.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        assert!(
            self.ip.source.is_ipv4(),
            "IPv6 has extension headers, not options"
        );
        self.ip.options.extend(options);
        self
    }

    /// Adds an IPv6 extension header: `body` is all behind its number and length byte, padded with
    /// zeros (which options read as Pad1) to whole 8-byte units.
    pub fn extension(mut self, number: u8, body: &[u8]) -> Self {
        assert!(
            self.ip.source.is_ipv6(),
            "IPv4 has options, not extension headers"
        );
        let mut bytes = [&[0, 0], body].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        match u8::try_from(bytes.len() / 8 - 1) {
            Ok(units) => bytes[1] = units,
            Err(_) => panic!("an extension header of {} bytes", bytes.len()),
        }
        self.ip.extensions.push((number, bytes));
        self
    }

    /// Adds hop-by-hop options: six bytes of padding.
    pub fn hop_by_hop(self) -> Self {
        self.extension(ipv6::HOP_BY_HOP, &[1, 4])
    }

    /// Adds destination options: six bytes of padding.
    pub fn destination_options(self) -> Self {
        self.extension(ipv6::DESTINATION_OPTIONS, &[1, 4])
    }

    /// Adds a routing header of type 2 by way of the packet's destination to `home`; before it is
    /// there (`left` 1), `home` counts for checksums.
    pub fn routing(mut self, left: u8, home: Ipv6Addr) -> Self {
        self.ip.last_stop = (left > 0).then_some(home);
        let body = [&[2, left, 0, 0, 0, 0], home.octets().as_slice()].concat();
        self.extension(ipv6::ROUTING, &body)
    }

    /// Sets the payload.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        self.frame_around(&self.build_packet())
    }

    /// The packet from its IP header on, to be quoted or wrapped.
    pub fn build_packet(&self) -> Vec<u8> {
        let (number, segment) = self.behind_ip();
        self.ip.packet(number, &segment, self.ip.fragment)
    }

    /// The frames of all fragments of the packet, none of whose packets is longer than `mtu` bytes.
    pub fn fragments(&self, mtu: usize) -> Vec<Vec<u8>> {
        let (number, segment) = self.behind_ip();
        let empty = self.ip.packet(number, &[], Some((0, true))).len();
        let room = mtu.saturating_sub(empty) & !7;
        assert!(
            room > 0,
            "no payload fits behind {empty} bytes of headers in {mtu}"
        );
        let starts = (0..segment.len()).step_by(room);
        starts
            .map(|start| {
                let end = segment.len().min(start + room);
                let position = Some((start as u32, end < segment.len()));
                self.frame_around(&self.ip.packet(number, &segment[start..end], position))
            })
            .collect()
    }

    fn behind_ip(&self) -> (u8, Vec<u8>) {
        let addresses = match (self.ip.source, self.ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Addresses::V6(source, self.ip.last_stop.unwrap_or(destination))
            }
            _ => unreachable!("`Frame::ip` saw to it"),
        };
        let segment = self.segment.bytes(&addresses, &self.payload);
        (self.segment.protocol(&addresses), segment)
    }

    fn frame_around(&self, packet: &[u8]) -> Vec<u8> {
        let ethertype = if self.ip.source.is_ipv4() {
            ethernet::IPV4
        } else {
            ethernet::IPV6
        };
        let LinkPart {
            source,
            destination,
            tags,
            least,
        } = &self.link;
        let mut frame = ethernet_frame(*source, *destination, tags, ethertype, packet);
        if frame.len() < *least {
            frame.resize(*least, 0);
        }
        frame
    }
}

impl Frame<TcpPart> {
    /// Sets the flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.segment.flags = flags;
        self
    }

    /// Sets the sequence number.
    pub fn sequence(mut self, number: u32) -> Self {
        self.segment.sequence = number;
        self
    }

    /// Sets the acknowledgement number; the flag is not touched.
    pub fn acknowledgement(mut self, number: u32) -> Self {
        self.segment.acknowledgement = number;
        self
    }

    /// Sets the receive window, 64240 unless told.
    pub fn window(mut self, window: u16) -> Self {
        self.segment.window = window;
        self
    }

    /// Adds bytes to the options, which are padded to whole words in the end.
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        self.segment.options.extend(bytes);
        self
    }

    /// Adds the maximum segment size option, bytes.
    pub fn mss(self, mss: u16) -> Self {
        let [high, low] = mss.to_be_bytes();
        self.tcp_options(&[tcp::OPTION_MSS, 4, high, low])
    }

    /// Adds the timestamps option behind two bytes of padding.
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        let head = [tcp::OPTION_NOP, tcp::OPTION_NOP, tcp::OPTION_TIMESTAMPS, 10];
        self.tcp_options(&head)
            .tcp_options(&value.to_be_bytes())
            .tcp_options(&echo.to_be_bytes())
    }
}

impl Frame<UdpPart> {
    /// Leaves the checksum 0.
    pub fn without_checksum(mut self) -> Self {
        self.segment.checksummed = false;
        self
    }

    /// Wraps `packet`, which starts with its IP header, in GUE behind the UDP header.
    pub fn gue(self, packet: &[u8]) -> Self {
        let protocol = inner_protocol(packet);
        let header = Gue {
            variant_length: 0,
            protocol,
            flags: Be16::new(0),
        };
        let bytes = [header.as_bytes(), packet].concat();
        self.payload(&bytes)
    }
}

fn inner_protocol(packet: &[u8]) -> u8 {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => protocol::IPV4,
        Some(6) => protocol::IPV6,
        _ => panic!("what should be wrapped does not start with an IP header"),
    }
}
