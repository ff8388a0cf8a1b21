//! One line of text for a frame, much as tcpdump prints it.
//!
//! ```text
//! 02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4 192.168.7.2.40000 > 192.168.7.33.80: Flags [S], seq 1, win 64240, length 0
//! ```
//!
//! Unlike tcpdump's: link addresses are always shown, sequence numbers are absolute and shown even
//! without payload, an ICMP error shows the quoted packet as a packet. `[|tcp]` says that the bytes
//! end within a header, `[bad ...]` that a header contradicts itself.

use std::fmt::{self, Display as _, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::advert::{Advert, AdvertError, Form};
use crate::arp::{self, Arp};
use crate::icmp::{self, Icmp};
use crate::layers::{DEPTH, Flaw, Link, Packet, Transport, quotes, view};
use crate::sctp::{self, SctpChunk};
use crate::summary::tcp_options;
use crate::tcp::{self, Tcp};
use crate::{ethernet, protocol, vrrp};

/// A frame that prints as one line; `{:#}` adds TOS, TTL, id and DF. Any bytes print.
#[derive(Clone, Copy)]
pub struct Line<'a>(pub &'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Link::parse(self.0) {
            Ok(link) => write_link(f, &link),
            Err(flaw) => flaw.fmt(f),
        }
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A packet from its IP header on that prints as [`Line`] does, without the link layer.
#[derive(Clone, Copy)]
pub struct PacketLine<'a>(pub &'a [u8]);

impl fmt::Display for PacketLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_packet(f, self.0, DEPTH)
    }
}

impl fmt::Debug for PacketLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_link(f: &mut Formatter<'_>, link: &Link<'_>) -> fmt::Result {
    write!(f, "{} > {}, ", link.source, link.destination)?;
    for (announced, tag) in &link.tags {
        f.write_str(if *announced == ethernet::QINQ {
            "svlan "
        } else {
            "vlan "
        })?;
        write!(f, "{}", tag.id())?;
        if tag.priority() != 0 {
            write!(f, " p {}", tag.priority())?;
        }
        f.write_str(", ")?;
    }
    if let Some(flaw) = link.flaw {
        return flaw.fmt(f);
    }
    match link.ethertype {
        ethernet::IPV4 | ethernet::IPV6 => write_packet(f, link.payload, DEPTH),
        ethernet::ARP => write_arp(f, link),
        ethertype => write!(
            f,
            "ethertype {ethertype:#06x}, length {}",
            link.payload.len()
        ),
    }
}

fn write_arp(f: &mut Formatter<'_>, link: &Link<'_>) -> fmt::Result {
    f.write_str("ARP ")?;
    let message = match view::<Arp>(link.payload, "arp") {
        Ok((message, _)) => message,
        Err(flaw) => return flaw.fmt(f),
    };
    if !message.is_ethernet_ipv4() {
        return write!(f, "hardware {}, [bad arp]", message.hardware.get());
    }
    let (sender, target) = (
        Ipv4Addr::from(message.sender),
        Ipv4Addr::from(message.target),
    );
    match message.operation.get() {
        arp::REQUEST => write!(f, "who-has {target} tell {sender}")?,
        arp::REPLY => return write!(f, "{sender} is-at {}", message.sender_mac),
        operation => write!(f, "operation {operation}, {sender} to {target}")?,
    }
    if message.sender_mac != link.source {
        write!(f, " at {}", message.sender_mac)?;
    }
    Ok(())
}

fn write_packet(f: &mut Formatter<'_>, bytes: &[u8], depth: usize) -> fmt::Result {
    let Some(depth) = depth.checked_sub(1) else {
        return f.write_str("...");
    };
    match Packet::parse(bytes) {
        Ok(packet) => write_ip(f, &packet, depth),
        Err(flaw) => {
            let name = bytes.first().map(|byte| byte >> 4);
            f.write_str(if name == Some(6) { "IPv6 " } else { "IPv4 " })?;
            flaw.fmt(f)
        }
    }
}

fn write_ip(f: &mut Formatter<'_>, packet: &Packet<'_>, depth: usize) -> fmt::Result {
    write!(f, "IPv{} ", packet.version)?;
    if f.alternate() {
        write_details(f, packet)?;
    }
    let transport = packet.transport();
    let ports = match &transport {
        Transport::Tcp { header, .. } => Some((header.source.get(), header.destination.get())),
        Transport::Udp { header, .. } => Some((header.source.get(), header.destination.get())),
        Transport::Sctp { header, .. } => Some((header.source.get(), header.destination.get())),
        Transport::Flawed(flaw) => packet.cut_ports(*flaw),
        _ => None,
    };
    write!(f, "{}", packet.source)?;
    if let Some((source, _)) = ports {
        write!(f, ".{source}")?;
    }
    write!(f, " > {}", packet.destination)?;
    if let Some((_, destination)) = ports {
        write!(f, ".{destination}")?;
    }
    f.write_str(": ")?;
    if let Some(fragment) = packet.fragment {
        write!(
            f,
            "frag id {} offset {}",
            packet.id.unwrap_or_default(),
            fragment.offset
        )?;
        f.write_str(if fragment.more { "+, " } else { ", " })?;
    }
    match &transport {
        Transport::Tcp {
            header,
            options,
            length,
        } => write_tcp(f, header, options, *length)?,
        Transport::Udp { length, .. } => write!(f, "UDP, length {length}")?,
        Transport::Sctp { chunks, .. } => write_sctp(f, chunks)?,
        Transport::Icmp { header, body } => return write_icmp(f, packet, header, body, depth),
        Transport::Gre { .. } => f.write_str("GRE")?,
        Transport::IpIp => f.write_str("IPIP")?,
        Transport::Other if packet.protocol == protocol::VRRP => write_vrrp(f, packet)?,
        Transport::LaterFragment | Transport::Other => {
            write_protocol(f, packet.protocol)?;
            write!(f, ", length {}", packet.length)?;
        }
        Transport::Flawed(flaw) => {
            write_protocol(f, packet.protocol)?;
            write!(f, " {flaw}")?;
        }
    }
    if let Some(inner) = packet.tunnelled(&transport) {
        if matches!(transport, Transport::Udp { .. }) {
            write!(f, ", {}", inner.tunnel)?;
        }
        f.write_str(", ")?;
        write_packet(f, inner.bytes, depth)?;
    }
    Ok(())
}

fn write_details(f: &mut Formatter<'_>, packet: &Packet<'_>) -> fmt::Result {
    f.write_str("(")?;
    if packet.tos != 0 {
        write!(f, "tos {:#04x}, ", packet.tos)?;
    }
    write!(f, "ttl {}", packet.ttl)?;
    if let Some(id) = packet.id {
        write!(f, ", id {id}")?;
    }
    f.write_str(if packet.dont_fragment { ", DF) " } else { ") " })
}

fn write_tcp(f: &mut Formatter<'_>, header: &Tcp, options: &[u8], length: usize) -> fmt::Result {
    let sequence = header.sequence.get();
    write!(f, "Flags [{}], seq {sequence}", tcp::Flags(header.flags))?;
    if length > 0 {
        write!(f, ":{}", sequence.wrapping_add(length as u32))?;
    }
    if header.flags & tcp::ACK != 0 {
        write!(f, ", ack {}", header.acknowledgement.get())?;
    }
    write!(f, ", win {}", header.window.get())?;
    let mut open = false;
    for (kind, value) in tcp_options(options) {
        f.write_str(if open { "," } else { ", options [" })?;
        open = true;
        write_tcp_option(f, kind, value)?;
    }
    if open {
        f.write_str("]")?;
    }
    write!(f, ", length {length}")
}

fn write_tcp_option(f: &mut Formatter<'_>, kind: u8, value: &[u8]) -> fmt::Result {
    match (kind, value) {
        (tcp::OPTION_MSS, [a, b]) => write!(f, "mss {}", u16::from_be_bytes([*a, *b])),
        (tcp::OPTION_WINDOW_SCALE, [shift]) => write!(f, "wscale {shift}"),
        (tcp::OPTION_SACK_PERMITTED, []) => f.write_str("sackOK"),
        (tcp::OPTION_SACK, blocks) => write!(f, "sack {}", blocks.len() / 8),
        (tcp::OPTION_TIMESTAMPS, [a, b, c, d, e, g, h, i]) => {
            let value = u32::from_be_bytes([*a, *b, *c, *d]);
            let echo = u32::from_be_bytes([*e, *g, *h, *i]);
            write!(f, "TS val {value} ecr {echo}")
        }
        (kind, _) => write!(f, "option {kind}"),
    }
}

fn write_sctp(f: &mut Formatter<'_>, mut chunks: &[u8]) -> fmt::Result {
    f.write_str("SCTP")?;
    while !chunks.is_empty() {
        let chunk = match view::<SctpChunk>(chunks, "sctp") {
            Ok((chunk, _)) => chunk,
            Err(flaw) => return write!(f, " {flaw}"),
        };
        let name = match chunk.kind {
            sctp::DATA => "DATA",
            sctp::INIT => "INIT",
            sctp::INIT_ACK => "INIT ACK",
            sctp::SACK => "SACK",
            sctp::HEARTBEAT => "HB REQ",
            sctp::HEARTBEAT_ACK => "HB ACK",
            sctp::ABORT => "ABORT",
            sctp::SHUTDOWN => "SHUTDOWN",
            sctp::SHUTDOWN_ACK => "SHUTDOWN ACK",
            sctp::ERROR => "ERROR",
            sctp::COOKIE_ECHO => "COOKIE ECHO",
            sctp::COOKIE_ACK => "COOKIE ACK",
            sctp::SHUTDOWN_COMPLETE => "SHUTDOWN COMPLETE",
            _ => "chunk",
        };
        write!(f, " [{name}]")?;
        let length = usize::from(chunk.length.get());
        if length < size_of::<SctpChunk>() {
            return write!(f, " {}", Flaw::Bad("sctp chunk length"));
        }
        chunks = chunks.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn write_icmp(
    f: &mut Formatter<'_>,
    packet: &Packet<'_>,
    header: &Icmp,
    body: &[u8],
    depth: usize,
) -> fmt::Result {
    let rest = header.rest.get();
    if packet.version == 4 {
        f.write_str("ICMP ")?;
        write_icmp_v4(f, header, rest)?;
    } else {
        f.write_str("ICMPv6 ")?;
        write_icmp_v6(f, header, rest, body)?;
    }
    if quotes(packet.version, header.kind) {
        f.write_str(", quoting ")?;
        return write_packet(f, body, depth);
    }
    write!(f, ", length {}", packet.length)
}

fn write_echo(f: &mut Formatter<'_>, name: &str, rest: u32) -> fmt::Result {
    write!(f, "echo {name}, id {}, seq {}", rest >> 16, rest & 0xffff)
}

fn write_icmp_v4(f: &mut Formatter<'_>, header: &Icmp, rest: u32) -> fmt::Result {
    match (header.kind, header.code) {
        (icmp::V4_ECHO_REQUEST, _) => write_echo(f, "request", rest),
        (icmp::V4_ECHO_REPLY, _) => write_echo(f, "reply", rest),
        (icmp::V4_UNREACHABLE, 0) => f.write_str("net unreachable"),
        (icmp::V4_UNREACHABLE, 1) => f.write_str("host unreachable"),
        (icmp::V4_UNREACHABLE, 2) => f.write_str("protocol unreachable"),
        (icmp::V4_UNREACHABLE, icmp::V4_CODE_PORT) => f.write_str("port unreachable"),
        (icmp::V4_UNREACHABLE, icmp::V4_CODE_FRAGMENTATION_NEEDED) => {
            write!(f, "fragmentation needed (mtu {})", rest & 0xffff)
        }
        (icmp::V4_UNREACHABLE, 13) => f.write_str("admin prohibited"),
        (icmp::V4_UNREACHABLE, code) => write!(f, "unreachable (code {code})"),
        (icmp::V4_SOURCE_QUENCH, _) => f.write_str("source quench"),
        (icmp::V4_REDIRECT, _) => write!(f, "redirect to {}", Ipv4Addr::from_bits(rest)),
        (icmp::V4_TIME_EXCEEDED, 0) => f.write_str("time exceeded in transit"),
        (icmp::V4_TIME_EXCEEDED, _) => f.write_str("time exceeded in reassembly"),
        (icmp::V4_PARAMETER_PROBLEM, _) => {
            write!(f, "parameter problem at octet {}", rest >> 24)
        }
        (kind, code) => write!(f, "type {kind} code {code}"),
    }
}

fn write_icmp_v6(f: &mut Formatter<'_>, header: &Icmp, rest: u32, body: &[u8]) -> fmt::Result {
    let target = body.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes));
    match (header.kind, header.code) {
        (icmp::V6_ECHO_REQUEST, _) => write_echo(f, "request", rest),
        (icmp::V6_ECHO_REPLY, _) => write_echo(f, "reply", rest),
        (icmp::V6_UNREACHABLE, 0) => f.write_str("no route"),
        (icmp::V6_UNREACHABLE, 1) => f.write_str("admin prohibited"),
        (icmp::V6_UNREACHABLE, 3) => f.write_str("address unreachable"),
        (icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT) => f.write_str("port unreachable"),
        (icmp::V6_UNREACHABLE, code) => write!(f, "unreachable (code {code})"),
        (icmp::V6_TOO_BIG, _) => write!(f, "packet too big (mtu {rest})"),
        (icmp::V6_TIME_EXCEEDED, 0) => f.write_str("time exceeded in transit"),
        (icmp::V6_TIME_EXCEEDED, _) => f.write_str("time exceeded in reassembly"),
        (icmp::V6_PARAMETER_PROBLEM, _) => write!(f, "parameter problem at octet {rest}"),
        (icmp::V6_NEIGHBOR_SOLICITATION, _) => match target {
            Some(target) => write!(f, "neighbor solicitation, who has {target}"),
            None => write!(f, "neighbor solicitation {}", Flaw::Cut("icmp6")),
        },
        (icmp::V6_NEIGHBOR_ADVERTISEMENT, _) => match target {
            Some(target) => write!(f, "neighbor advertisement, tgt is {target}"),
            None => write!(f, "neighbor advertisement {}", Flaw::Cut("icmp6")),
        },
        (kind, code) => write!(f, "type {kind} code {code}"),
    }
}

/// As tcpdump does, but without the password.
fn write_vrrp(f: &mut Formatter<'_>, packet: &Packet<'_>) -> fmt::Result {
    let advert = match Advert::parse(packet.payload, packet.version == 6) {
        Ok(advert) => advert,
        Err(AdvertError::Cut { .. } | AdvertError::Length { .. })
            if packet.payload.len() < packet.length =>
        {
            return write!(f, "VRRP {}", Flaw::Cut("vrrp"));
        }
        Err(AdvertError::Cut { .. }) => return write!(f, "VRRP {}", Flaw::Bad("vrrp length")),
        Err(AdvertError::Length { .. }) => return write!(f, "VRRP {}", Flaw::Bad("vrrp length")),
        Err(AdvertError::Version(version)) => return write!(f, "VRRPv{version}"),
        Err(AdvertError::Kind(kind)) => return write!(f, "VRRP, type {kind}"),
    };
    let version = advert.form.version();
    write!(f, "VRRPv{version}, Advertisement, vrid {}, ", advert.vrid)?;
    write!(f, "prio {}, ", advert.priority)?;
    match advert.form {
        Form::V2 {
            authentication,
            seconds,
        } => {
            match authentication.kind() {
                vrrp::AUTH_NONE => f.write_str("authtype none, ")?,
                vrrp::AUTH_PASS => f.write_str("authtype simple, ")?,
                kind => write!(f, "authtype {kind}, ")?,
            }
            write!(f, "intvl {seconds}s")?;
        }
        Form::V3 { centiseconds } => write!(f, "intvl {centiseconds}cs")?,
    }
    write!(f, ", length {}, addrs", packet.length)?;
    if advert.addresses.len() != 1 {
        write!(f, "({})", advert.addresses.len())?;
    }
    let mut separator = ": ";
    for address in &advert.addresses {
        write!(f, "{separator}{address}")?;
        separator = ",";
    }
    Ok(())
}

/// Writes the name of an IP protocol.
pub(crate) fn write_protocol(f: &mut Formatter<'_>, number: u8) -> fmt::Result {
    f.write_str(match number {
        protocol::ICMP => "ICMP",
        protocol::IPV4 | protocol::IPV6 => "IPIP",
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::GRE => "GRE",
        protocol::ICMPV6 => "ICMPv6",
        protocol::VRRP => "VRRP",
        protocol::SCTP => "SCTP",
        number => return write!(f, "protocol {number}"),
    })
}
