//! ICMP errors for packets that the data plane dropped and the sender has to hear about.
//!
//! [`answer`] builds the frame from the dropped one; [`Answerer`] limits the rate and sends it out
//! of the interface by which the dropped one came in.

mod bucket;
mod sender;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use pointsman_director::Reason;
use pointsman_wire::{
    Ethernet, Frame, Icmp, Ipv4, Ipv6, Ipv6Extension, VlanTag, ethernet, icmp, ipv6, ipv6_address,
    protocol,
};
use zerocopy::FromBytes;

pub use bucket::Bucket;
pub use sender::{AnswerCounts, Answerer, Outcome};

/// Why a dropped packet gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Packets dropped for this reason are not answered.
    Reason,
    /// The frame ends early, or is not IP.
    Malformed,
    /// It was sent to or by a group: broadcast or multicast.
    Group,
    /// The source is no address of one host.
    Source,
    /// It is an ICMP error itself, or another ICMP message that must not be answered.
    IcmpError,
    /// It is a fragment other than the first.
    Fragment,
}

/// What an answer has to be told besides the dropped frame.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The dropped frame from its Ethernet header on.
    pub frame: &'a [u8],
    /// Why it was dropped.
    pub reason: Reason,
    /// The largest packet that would have fitted, bytes; for [`Reason::TooBig`].
    pub mtu: u32,
    /// Identification of the answer's IP header.
    pub id: u16,
}

/// Builds the answer to a dropped packet, as a whole frame with link-layer addresses swapped.
///
/// `own` gives the source address of the answer for the dropped packet's destination: that address
/// itself when it is a virtual one, another of this host's otherwise.
pub fn answer(
    question: &Question<'_>,
    own: impl FnOnce(IpAddr) -> IpAddr,
) -> Result<Vec<u8>, Silence> {
    let (link, mut rest) =
        Ethernet::ref_from_prefix(question.frame).map_err(|_| Silence::Malformed)?;
    if link.destination.is_group() || link.source.is_group() {
        return Err(Silence::Group);
    }
    let mut ethertype = link.ethertype.get();
    let mut tags = Vec::new();
    while matches!(ethertype, ethernet::VLAN | ethernet::QINQ) && tags.len() < 2 {
        let (tag, behind) = VlanTag::ref_from_prefix(rest).map_err(|_| Silence::Malformed)?;
        tags.push((ethertype, tag.control.get()));
        ethertype = tag.ethertype.get();
        rest = behind;
    }
    let (source, destination, packet) = match ethertype {
        ethernet::IPV4 => ipv4(rest)?,
        ethernet::IPV6 => ipv6(rest)?,
        _ => return Err(Silence::Malformed),
    };
    let (kind, code, word) = message(question.reason, question.mtu, source.is_ipv6())?;
    let mut answer = Frame::ip(own(destination), source)
        .macs(link.destination, link.source)
        .id(question.id.into());
    if source.is_ipv4() {
        // Precedence "internetwork control", as the kernel's own ICMP errors have.
        answer = answer.tos(0xc0);
    }
    for (ethertype, control) in tags {
        answer = answer.tag(ethertype, control);
    }
    Ok(answer.icmp_error(kind, code, word, packet).build())
}

/// Type, code and second word of the ICMP message for a reason.
fn message(reason: Reason, mtu: u32, ipv6: bool) -> Result<(u8, u8, u32), Silence> {
    Ok(match (reason, ipv6) {
        (Reason::NoDestination, false) => (icmp::V4_UNREACHABLE, icmp::V4_CODE_PORT, 0),
        (Reason::NoDestination, true) => (icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT, 0),
        (Reason::TtlExceeded, false) => (icmp::V4_TIME_EXCEEDED, 0, 0),
        (Reason::TtlExceeded, true) => (icmp::V6_TIME_EXCEEDED, 0, 0),
        (Reason::TooBig, false) => (
            icmp::V4_UNREACHABLE,
            icmp::V4_CODE_FRAGMENTATION_NEEDED,
            mtu.min(0xffff),
        ),
        // A smaller path than IPv6 allows is the tunnel's to hide, not the sender's to obey.
        (Reason::TooBig, true) => (icmp::V6_TOO_BIG, 0, mtu.max(1280)),
        _ => return Err(Silence::Reason),
    })
}

/// Source, destination and the packet without padding, unless it must not be answered.
fn ipv4(bytes: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), Silence> {
    let (header, _) = Ipv4::ref_from_prefix(bytes).map_err(|_| Silence::Malformed)?;
    let length = header.header_length() as usize;
    let packet = &bytes[..bytes.len().min(header.total_length.get().into())];
    let payload = packet.get(length..).ok_or(Silence::Malformed)?;
    if header.version() != 4 || length < Ipv4::LEN as usize {
        return Err(Silence::Malformed);
    }
    if header.fragment.get() & Ipv4::OFFSET != 0 {
        return Err(Silence::Fragment);
    }
    let (source, destination) = (header.source_address(), header.destination_address());
    if !is_host(source) {
        return Err(Silence::Source);
    }
    if destination.is_multicast() || destination.is_broadcast() {
        return Err(Silence::Group);
    }
    if header.protocol == protocol::ICMP {
        let (icmp, _) = Icmp::ref_from_prefix(payload).map_err(|_| Silence::Malformed)?;
        // As the kernel decides it (RFC 1812, 4.3.2.7): only queries may be answered.
        let query = matches!(icmp.kind, 0 | 8 | 9 | 10 | 13..=18);
        if !query {
            return Err(Silence::IcmpError);
        }
    }
    Ok((source.into(), destination.into(), packet))
}

fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_multicast()
        || address.is_broadcast()
        || address.is_unspecified()
        || address.is_loopback()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

/// As [`ipv4`], looking behind extension headers for ICMPv6.
fn ipv6(bytes: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), Silence> {
    let (header, rest) = Ipv6::ref_from_prefix(bytes).map_err(|_| Silence::Malformed)?;
    if header.version() != 6 {
        return Err(Silence::Malformed);
    }
    let length = Ipv6::LEN as usize + usize::from(header.payload_length.get());
    let packet = &bytes[..bytes.len().min(length)];
    let source = ipv6_address(&header.source);
    let destination = ipv6_address(&header.destination);
    if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
        return Err(Silence::Source);
    }
    if destination.is_multicast() {
        return Err(Silence::Group);
    }
    let (mut next, mut rest) = (header.next_header, rest);
    loop {
        let length = match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                8 + 8 * usize::from(extension(rest)?.length)
            }
            ipv6::AUTHENTICATION => 8 + 4 * usize::from(extension(rest)?.length),
            ipv6::FRAGMENT => {
                let offset = rest.get(2..4).ok_or(Silence::Malformed)?;
                if u16::from_be_bytes([offset[0], offset[1]]) & 0xfff8 != 0 {
                    return Err(Silence::Fragment);
                }
                8
            }
            ipv6::ICMPV6 => {
                // The upper half of the types are informational (RFC 4443, 2.1); redirects, which
                // must not be answered either (2.4), are among them.
                let kind = *rest.first().ok_or(Silence::Malformed)?;
                if kind < 128 || kind == 137 {
                    return Err(Silence::IcmpError);
                }
                break;
            }
            _ => break,
        };
        next = extension(rest)?.next_header;
        rest = rest.get(length..).ok_or(Silence::Malformed)?;
    }
    Ok((source.into(), destination.into(), packet))
}

fn extension(bytes: &[u8]) -> Result<&Ipv6Extension, Silence> {
    match Ipv6Extension::ref_from_prefix(bytes) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(Silence::Malformed),
    }
}
