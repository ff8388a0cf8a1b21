//! What the director reads of a packet: Ethernet, VLAN tags, IP with options or extension headers,
//! and the start of the transport header.

use pointsman_wire::{
    Ethernet, Icmp, Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment, Sctp, SctpChunk, Tcp, Udp, VlanTag,
    ethernet, icmp, ipv6, sctp as wire,
};

use crate::{
    reason::Reason,
    record::{Address, FlowKey},
    sctp,
    tables::Frame,
};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;

/// Extension headers walked before a packet is left to the kernel.
const MAX_EXTENSIONS: u32 = 6;

/// Transport headers that begin behind this offset are left to the kernel: programs look for headers
/// below offset 1024, and what is translated has to lie there with its checksum.
const MAX_TRANSPORT: u32 = 1000;

/// A parsed packet. Offsets are bytes from the start of the frame.
#[derive(Clone, Copy, Default)]
#[cfg_attr(feature = "std", derive(Debug, PartialEq, Eq))]
#[repr(C)]
pub struct Headers {
    /// Addresses, ports, protocol. Ports are 0 for ICMP.
    pub flow: FlowKey,
    /// Bytes of the IP packet, header included.
    pub length: u32,
    /// Offset of the IP header.
    pub ip: u16,
    /// Offset of the transport header.
    pub transport: u16,
    /// Bytes of the transport header.
    pub transport_length: u16,
    /// TCP flags, the type of an ICMP message, or the [`sctp::event`] of an SCTP packet.
    pub kind: u8,
    /// VLAN tags, those kept apart from the frame included.
    pub tags: u8,
}

impl Headers {
    /// True for IPv6.
    #[inline(always)]
    pub fn ipv6(&self) -> bool {
        self.flow.ipv6 != 0
    }

    /// True for ICMP or ICMPv6.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        if self.ipv6() {
            self.flow.protocol == ipv6::ICMPV6
        } else {
            self.flow.protocol == ICMP
        }
    }

    /// True for an ICMP error that quotes a packet, as IPVS considers them (`ip_vs_core.c`,
    /// `ip_vs_in_icmp` and `ip_vs_in_icmp_v6`).
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        if self.ipv6() {
            self.kind < 128
        } else {
            self.kind == icmp::V4_UNREACHABLE
                || self.kind == icmp::V4_SOURCE_QUENCH
                || self.kind == icmp::V4_TIME_EXCEEDED
        }
    }

    /// Offset of the IP header.
    #[inline(always)]
    pub fn ip(&self) -> u32 {
        self.ip as u32
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub fn transport(&self) -> u32 {
        self.transport as u32
    }
}

/// Reads the headers of `frame` into `h`; the error is why the packet is not the director's.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, h: &mut Headers) -> Result<(), Reason> {
    let mut ethertype = frame
        .view::<Ethernet>(0)
        .ok_or(Reason::Malformed)?
        .ethertype
        .raw();
    let mut offset = size_of::<Ethernet>() as u32;
    let mut tags = 0;
    if is_tag(ethertype) {
        ethertype = frame
            .view::<VlanTag>(offset)
            .ok_or(Reason::Malformed)?
            .ethertype
            .raw();
        offset += 4;
        tags = 1;
        if is_tag(ethertype) {
            ethertype = frame
                .view::<VlanTag>(offset)
                .ok_or(Reason::Malformed)?
                .ethertype
                .raw();
            offset += 4;
            tags = 2;
        }
    }
    h.tags = tags + frame.tags_outside();
    if ethertype == ethernet::IPV4.to_be() {
        parse_ipv4(frame, offset, 0, false, h)
    } else if ethertype == ethernet::IPV6.to_be() {
        parse_ipv6(frame, offset, 0, false, h)
    } else {
        Err(Reason::NotIp)
    }
}

/// Reads the packet that the ICMP error `h` quotes into `quoted`. The quote may be cut short.
#[inline(always)]
pub fn parse_quoted<F: Frame>(frame: &F, h: &Headers, quoted: &mut Headers) -> Result<(), Reason> {
    let offset = h.transport() + Icmp::LEN;
    let end = h.ip() + h.length;
    let available = end.saturating_sub(offset);
    quoted.tags = 0;
    if h.ipv6() {
        parse_ipv6(frame, offset, available, true, quoted)
    } else {
        parse_ipv4(frame, offset, available, true, quoted)
    }
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == ethernet::VLAN.to_be() || ethertype == ethernet::QINQ.to_be()
}

/// Of a quoted packet, `available` bytes lie from `offset` to the end of the quote; other packets
/// have to lie in the frame as a whole.
#[inline(always)]
fn parse_ipv4<F: Frame>(
    frame: &F,
    offset: u32,
    available: u32,
    quoted: bool,
    h: &mut Headers,
) -> Result<(), Reason> {
    let ip = frame.view::<Ipv4>(offset).ok_or(Reason::Malformed)?;
    let header = ip.header_length();
    let total = ip.total_length.get() as u32;
    if ip.version() != 4 || header < Ipv4::LEN || total < header {
        return Err(Reason::Malformed);
    }
    if !quoted && !frame.holds(offset + total) {
        return Err(Reason::Malformed);
    }
    if ip.is_fragment() && (!quoted || ip.fragment.get() & Ipv4::OFFSET != 0) {
        return Err(Reason::Fragment);
    }
    h.flow.source = [ip.source.raw(), 0, 0, 0];
    h.flow.destination = [ip.destination.raw(), 0, 0, 0];
    h.flow.protocol = ip.protocol;
    h.flow.ipv6 = 0;
    h.flow.pad = 0;
    h.length = total;
    h.ip = offset as u16;
    let rest = if quoted { available } else { total };
    parse_transport(
        frame,
        offset + header,
        rest.saturating_sub(header),
        quoted,
        h,
    )
}

#[inline(always)]
fn parse_ipv6<F: Frame>(
    frame: &F,
    offset: u32,
    available: u32,
    quoted: bool,
    h: &mut Headers,
) -> Result<(), Reason> {
    let ip = frame.view::<Ipv6>(offset).ok_or(Reason::Malformed)?;
    let total = ip.payload_length.get() as u32 + Ipv6::LEN;
    if ip.version() != 6 || (!quoted && !frame.holds(offset + total)) {
        return Err(Reason::Malformed);
    }
    set_address(&mut h.flow.source, &ip.source);
    set_address(&mut h.flow.destination, &ip.destination);
    h.flow.ipv6 = 1;
    h.flow.pad = 0;
    h.length = total;
    h.ip = offset as u16;
    let mut protocol = ip.next_header;
    let mut at = offset + Ipv6::LEN;
    let end = offset + if quoted { available } else { total };
    let mut walked = 0;
    while walked < MAX_EXTENSIONS {
        let length = match protocol {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                let extension = frame.view::<Ipv6Extension>(at).ok_or(Reason::Malformed)?;
                protocol = extension.next_header;
                (extension.length as u32 + 1) << 3
            }
            ipv6::AUTHENTICATION => {
                let extension = frame.view::<Ipv6Extension>(at).ok_or(Reason::Malformed)?;
                protocol = extension.next_header;
                (extension.length as u32 + 2) << 2
            }
            ipv6::FRAGMENT => {
                let fragment = frame.view::<Ipv6Fragment>(at).ok_or(Reason::Malformed)?;
                protocol = fragment.next_header;
                // Offset and more-fragments bit both 0: an atomic fragment is a whole packet.
                let parts = fragment.offset.get() & 0xfff9;
                if parts != 0 && (!quoted || parts & 0xfff8 != 0) {
                    return Err(Reason::Fragment);
                }
                8
            }
            _ => break,
        };
        at += length;
        if at > end {
            return Err(Reason::Malformed);
        }
        walked += 1;
    }
    h.flow.protocol = protocol;
    parse_transport(frame, at, end.saturating_sub(at), quoted, h)
}

#[inline(always)]
fn set_address(to: &mut Address, from: &[pointsman_wire::Be32; 4]) {
    *to = [from[0].raw(), from[1].raw(), from[2].raw(), from[3].raw()];
}

/// The first eight bytes of TCP, UDP and SCTP: all that a quote has to hold.
type Ports = Udp;

#[inline(always)]
fn parse_transport<F: Frame>(
    frame: &F,
    offset: u32,
    available: u32,
    quoted: bool,
    h: &mut Headers,
) -> Result<(), Reason> {
    if offset > MAX_TRANSPORT {
        return Err(Reason::Malformed);
    }
    h.transport = offset as u16;
    if h.is_icmp() {
        if available < Icmp::LEN {
            return Err(Reason::Malformed);
        }
        let icmp = frame.view::<Icmp>(offset).ok_or(Reason::Malformed)?;
        h.kind = icmp.kind;
        h.flow.source_port = 0;
        h.flow.destination_port = 0;
        h.transport_length = Icmp::LEN as u16;
        return Ok(());
    }
    match h.flow.protocol {
        TCP if !quoted => {
            let tcp = frame.view::<Tcp>(offset).ok_or(Reason::Malformed)?;
            let length = tcp.header_length();
            if length < Tcp::LEN || length > available {
                return Err(Reason::Malformed);
            }
            h.flow.source_port = tcp.source.raw();
            h.flow.destination_port = tcp.destination.raw();
            h.kind = tcp.flags;
            h.transport_length = length as u16;
        }
        SCTP if !quoted => {
            if available < Sctp::LEN + SctpChunk::LEN {
                return Err(Reason::Malformed);
            }
            let sctp = frame.view::<Sctp>(offset).ok_or(Reason::Malformed)?;
            h.flow.source_port = sctp.source.raw();
            h.flow.destination_port = sctp.destination.raw();
            h.kind = first_event(frame, offset + Sctp::LEN, available - Sctp::LEN)
                .ok_or(Reason::Malformed)?;
            h.transport_length = Sctp::LEN as u16;
        }
        TCP | UDP | SCTP => {
            let udp = frame.view::<Ports>(offset).ok_or(Reason::Malformed)?;
            let length = udp.length.get() as u32;
            if available < Udp::LEN || (!quoted && (length < Udp::LEN || length > available)) {
                return Err(Reason::Malformed);
            }
            h.flow.source_port = udp.source.raw();
            h.flow.destination_port = udp.destination.raw();
            h.kind = 0;
            h.transport_length = Udp::LEN as u16;
        }
        _ => return Err(Reason::NotBalanced),
    }
    Ok(())
}

/// The event of the chunks at `offset`: the first one's, but behind a cookie an ABORT counts
/// (`sctp_state_transition`).
#[inline(always)]
fn first_event<F: Frame>(frame: &F, offset: u32, available: u32) -> Option<u8> {
    let chunk = frame.view::<SctpChunk>(offset)?;
    let cookie = chunk.kind == wire::COOKIE_ECHO || chunk.kind == wire::COOKIE_ACK;
    let first = sctp::event_of(chunk.kind);
    let length = (chunk.length.get() as u32 + 3) & !3;
    if !cookie || length < SctpChunk::LEN || length + SctpChunk::LEN > available {
        return Some(first);
    }
    match frame.view::<SctpChunk>(offset + length) {
        Some(next) if next.kind == wire::ABORT => Some(sctp::event::ABORT),
        _ => Some(first),
    }
}
