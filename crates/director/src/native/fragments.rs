//! Forwarding in fragments, for packets that the programs hand to the daemon.
//!
//! As in IPVS it is the packet behind the director that is cut: with a tunnel the outer one
//! (`ip_vs_tunnel_xmit`), else the client's, which keeps its identification (`ip_fragment`).

use pointsman_wire::{Be16, Be32, Ethernet, Ipv4, Ipv6, Ipv6Fragment, checksum, ipv6};
use zerocopy::{FromBytes, IntoBytes};

use super::{NativeEnv, NativeFrame};
use crate::{
    forward::{self, Target},
    headers::{self, Headers},
    reason::{Action, Reason},
    record::{ServerRecord, Settings},
};

/// Bytes of the largest packet there is; more than any path takes.
const ANY: u32 = 1 << 20;

/// The frames that carry `frame` to `server`, in pieces of at most its path's MTU. `port` is the
/// server's for the packet's connection, network order; `identification` that of an outer header.
///
/// # Errors
///
/// Why the packet can't be forwarded at all; [`Reason::TooBig`] when not even pieces fit.
pub fn forward_in_fragments(
    frame: &[u8],
    server: &ServerRecord,
    port: u16,
    settings: &Settings,
    identification: u16,
) -> Result<Vec<Vec<u8>>, Reason> {
    let mut roomy = *server;
    roomy.hop.mtu = ANY;
    let mut frame = NativeFrame::new(frame.to_vec(), 0);
    let mut h = Headers::default();
    headers::parse(&frame, &mut h)?;
    complete_checksum(&mut frame.bytes, &h);
    let target = Target {
        server: &roomy,
        index: 0,
        segment: 0,
        port,
        method: server.method,
        settings: settings.flags,
    };
    let mut id = u32::from(identification) | 1 << 16;
    let verdict = forward::forward(
        &mut frame,
        &NativeEnv::default(),
        &h,
        &target,
        &mut 0,
        &mut id,
    );
    if verdict.action() != Action::Forward {
        return Err(verdict.reason);
    }
    let link = if server.hop.vlan != 0 {
        18
    } else {
        size_of::<Ethernet>()
    };
    let (link, packet) = frame.bytes.split_at(link);
    let pieces = match packet.first().map(|byte| byte >> 4) {
        Some(4) => cut_ipv4(packet, server.hop.mtu)?,
        Some(6) => cut_ipv6(packet, server.hop.mtu, u32::from(identification))?,
        _ => return Err(Reason::Malformed),
    };
    Ok(pieces
        .into_iter()
        .map(|piece| [link, &piece].concat())
        .collect())
}

/// Computes a transport checksum that a sender left to its device, as those on the same machine do.
///
/// The field then holds the sum of the pseudo header, and what was copied out of the frame does not
/// say so otherwise. A complete checksum that happens to look like this is computed to the same.
fn complete_checksum(bytes: &mut [u8], h: &Headers) -> Option<()> {
    let field = match h.flow.protocol {
        headers::TCP => 16,
        headers::UDP => 6,
        _ => return None,
    };
    let (ip, transport) = (usize::from(h.ip), usize::from(h.transport));
    let end = ip + h.length as usize;
    let (source, destination) = match h.ipv6() {
        true => bytes.get(ip + 8..ip + 40)?.split_at(16),
        false => bytes.get(ip + 12..ip + 20)?.split_at(4),
    };
    let length = u32::try_from(end.checked_sub(transport)?).ok()?;
    let pseudo = checksum::pseudo_header(source, destination, h.flow.protocol, length);
    let segment = bytes.get_mut(transport..end)?;
    let pending = checksum::fold(pseudo).to_ne_bytes();
    if segment.get(field..field + 2)? != pending {
        return None;
    }
    let sum = match checksum::of(segment) {
        // No checksum, says 0 in UDP.
        0 if h.flow.protocol == headers::UDP => u16::MAX,
        sum => sum,
    };
    segment[field..field + 2].copy_from_slice(&sum.to_ne_bytes());
    Some(())
}

/// Bytes of payload in every piece but the last: a multiple of eight.
fn share(mtu: u32, header: usize) -> Result<usize, Reason> {
    let share = (mtu as usize).saturating_sub(header) & !7;
    if share == 0 {
        Err(Reason::TooBig)
    } else {
        Ok(share)
    }
}

/// An IPv4 packet in pieces of at most `mtu` bytes.
fn cut_ipv4(packet: &[u8], mtu: u32) -> Result<Vec<Vec<u8>>, Reason> {
    let (ip, _) = Ipv4::ref_from_prefix(packet).map_err(|_| Reason::Malformed)?;
    let header = ip.header_length() as usize;
    let total = usize::from(ip.total_length.get());
    let payload = packet.get(header..total).ok_or(Reason::Malformed)?;
    if ip.dont_fragment() {
        return Err(Reason::TooBig);
    }
    let share = share(mtu, header)?;
    let first = usize::from(ip.fragment.get() & Ipv4::OFFSET);
    let more = ip.fragment.get() & Ipv4::MORE_FRAGMENTS;
    let mut options = packet[size_of::<Ipv4>()..header].to_vec();
    let mut pieces = Vec::new();
    for (number, part) in payload.chunks(share).enumerate() {
        let at = number * share;
        let last = at + part.len() == payload.len();
        let offset = (first + at / 8) as u16;
        let flags = if last { more } else { Ipv4::MORE_FRAGMENTS };
        let mut head = *ip;
        head.total_length = Be16::new((header + part.len()) as u16);
        head.fragment = Be16::new(offset | flags);
        head.checksum = Be16::new(0);
        if number == 1 {
            keep_copied(&mut options);
        }
        let sum = checksum::fold(checksum::add(checksum::add(0, head.as_bytes()), &options));
        head.checksum = Be16::from_raw(!sum);
        pieces.push([head.as_bytes(), &options, part].concat());
    }
    Ok(pieces)
}

/// Makes "no operation" of the options that belong into the first piece only (RFC 791, 3.1).
fn keep_copied(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            0 => return,
            1 => 1,
            _ => match options.get(at + 1) {
                Some(&length) if length >= 2 => usize::from(length),
                _ => return,
            },
        };
        if kind & 0x80 == 0 {
            let end = (at + length).min(options.len());
            options[at..end].fill(1);
        }
        at += length;
    }
}

/// An IPv6 packet without extension headers in pieces of at most `mtu` bytes.
fn cut_ipv6(packet: &[u8], mtu: u32, identification: u32) -> Result<Vec<Vec<u8>>, Reason> {
    let (ip, payload) = Ipv6::ref_from_prefix(packet).map_err(|_| Reason::Malformed)?;
    let payload = payload
        .get(..usize::from(ip.payload_length.get()))
        .ok_or(Reason::Malformed)?;
    let extension = size_of::<Ipv6Fragment>();
    let share = share(mtu, size_of::<Ipv6>() + extension)?;
    let mut pieces = Vec::new();
    for (number, part) in payload.chunks(share).enumerate() {
        let at = number * share;
        let last = at + part.len() == payload.len();
        let mut head = *ip;
        head.payload_length = Be16::new((extension + part.len()) as u16);
        head.next_header = ipv6::FRAGMENT;
        let fragment = Ipv6Fragment {
            next_header: ip.next_header,
            reserved: 0,
            offset: Be16::new(at as u16 | u16::from(!last)),
            id: Be32::new(identification),
        };
        pieces.push([head.as_bytes(), fragment.as_bytes(), part].concat());
    }
    Ok(pieces)
}
