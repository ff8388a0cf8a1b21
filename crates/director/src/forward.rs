//! How a packet gets to its real server: direct routing, tunnel, masquerade.
//!
//! As in IPVS (`ip_vs_xmit.c`) the hop limit falls by one with every method, and what is too big
//! for the path or out of hops is answered, not forwarded.

use pointsman_wire::{
    Be16, Be32, Ethernet, Ipv4, Ipv6, Sctp, Tcp, Udp, checksum::Difference, ethernet,
};

use crate::{
    headers::{Headers, SCTP, TCP, UDP},
    reason::{Reason, Verdict},
    record::{Address, NextHop, ServerRecord, hop_flag, method, server_flag, settings_flag},
    tables::{Env, Frame},
};

/// IP protocol number of IPv4 in IP.
const IPIP: u8 = 4;
/// IP protocol number of IPv6 in IP.
const IPV6: u8 = 41;
const ETHERNET: u32 = size_of::<Ethernet>() as u32;

/// Where an outgoing packet goes and with what MTU it has to live.
pub struct Target<'a> {
    /// The real server.
    pub server: &'a ServerRecord,
    /// Its index.
    pub index: u32,
    /// Largest TCP segment size that a SYN may announce, 0 for no limit.
    pub segment: u32,
    /// Its port for this connection, network order.
    pub port: u16,
    /// Forwarding method of the connection.
    pub method: u8,
    /// [`crate::record::Settings::flags`].
    pub settings: u32,
}

/// Sends the packet to its real server. `mtu` is set when the verdict is [`Reason::TooBig`];
/// `identification` counts the outer headers that carry one.
#[inline(always)]
pub fn forward<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    h: &Headers,
    target: &Target<'_>,
    mtu: &mut u32,
    identification: &mut u32,
) -> Verdict {
    let server = target.server;
    let hop = &server.hop;
    if hop.flags & hop_flag::LOCAL != 0 {
        return Verdict::of(if target.method == method::MASQUERADE {
            Reason::LocalMasquerade
        } else {
            Reason::LocalServer
        });
    }
    let resolved = hop.flags & hop_flag::RESOLVED != 0;
    if !resolved && (!F::RESOLVES || hop.ifindex == 0) {
        return Verdict::of(Reason::NoNextHop);
    }
    let outer_ipv6 = server.flags & server_flag::IPV6 != 0;
    let overhead = match target.method {
        method::TUNNEL if outer_ipv6 => Ipv6::LEN,
        method::TUNNEL => Ipv4::LEN,
        _ => 0,
    };
    let room = hop.mtu.saturating_sub(overhead);
    if let Err(reason) = fits(frame, h, room, overhead != 0, target.settings) {
        *mtu = room;
        return Verdict::of(reason);
    }
    let mut verdict = match target.method {
        method::TUNNEL => tunnel(
            frame,
            env,
            h,
            server,
            outer_ipv6,
            target.settings,
            identification,
        ),
        method::MASQUERADE => masquerade(frame, env, h, server, target.port),
        _ => direct(frame, h, hop),
    };
    verdict.unresolved = u8::from(!resolved);
    verdict
}

/// Only the frame's addresses change, and the hop limit.
#[inline(always)]
fn direct<F: Frame>(frame: &mut F, h: &Headers, hop: &NextHop) -> Verdict {
    match age(frame, h) {
        Ok(()) => leave(frame, h.tags, hop, Reason::Direct),
        Err(reason) => Verdict::of(reason),
    }
}

/// Destination becomes the real server, checksums follow.
#[inline(always)]
fn masquerade<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    h: &Headers,
    server: &ServerRecord,
    port: u16,
) -> Verdict {
    if let Err(reason) = age(frame, h) {
        return Verdict::of(reason);
    }
    match translate(frame, env, h, End::Destination, &server.address, port) {
        Ok(()) => leave(frame, h.tags, &server.hop, Reason::Masquerade),
        Err(reason) => Verdict::of(reason),
    }
}

/// The whole packet becomes the payload of one to the real server.
#[inline(always)]
fn tunnel<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    h: &Headers,
    server: &ServerRecord,
    outer_ipv6: bool,
    settings: u32,
    identification: &mut u32,
) -> Verdict {
    if let Err(reason) = age(frame, h) {
        return Verdict::of(reason);
    }
    let inner_ipv6 = h.ipv6();
    let (class, ttl, dont_fragment);
    if inner_ipv6 {
        let Some(ip) = frame.view::<Ipv6>(h.ip()) else {
            return Verdict::of(Reason::Malformed);
        };
        (class, ttl, dont_fragment) = (ip.traffic_class(), ip.hop_limit, false);
    } else {
        let Some(ip) = frame.view::<Ipv4>(h.ip()) else {
            return Verdict::of(Reason::Malformed);
        };
        let df = ip.dont_fragment() && settings & settings_flag::PMTU_DISC != 0;
        (class, ttl, dont_fragment) = (ip.tos, ip.ttl, df);
    }
    let hop = &server.hop;
    let tagged = h.tags != 0 || hop.vlan != 0;
    if tagged && !frame.set_vlan(h.tags, hop.vlan) {
        return Verdict::of(Reason::VlanTags);
    }
    let bytes = if outer_ipv6 { Ipv6::LEN } else { Ipv4::LEN };
    if !frame.encapsulate(bytes, outer_ipv6, inner_ipv6) {
        return Verdict::of(Reason::NoHeadroom);
    }
    // Congestion marks: the outer header never claims "experienced" (RFC 3168, 9.1).
    let class = if class & 3 == 3 { class & !1 } else { class };
    let protocol = if inner_ipv6 { IPV6 } else { IPIP };
    let at = ETHERNET
        + if F::TAGS_IN_FRAME && hop.vlan != 0 {
            4
        } else {
            0
        };
    if outer_ipv6 {
        let Some(outer) = frame.view_mut::<Ipv6>(at) else {
            return Verdict::of(Reason::NoHeadroom);
        };
        outer
            .version_class_flow
            .set((6 << 28) | ((class as u32) << 20));
        outer.payload_length.set(h.length as u16);
        outer.next_header = protocol;
        outer.hop_limit = ttl;
        set_words(&mut outer.source, &server.tunnel_source);
        set_words(&mut outer.destination, &server.address);
    } else {
        let id = if dont_fragment {
            0
        } else {
            identify(env, identification)
        };
        let Some(outer) = frame.view_mut::<Ipv4>(at) else {
            return Verdict::of(Reason::NoHeadroom);
        };
        let length = ((h.length + Ipv4::LEN) as u16).to_be();
        let fragment = if dont_fragment {
            Ipv4::DONT_FRAGMENT.to_be()
        } else {
            0
        };
        outer.version_length = 0x45;
        outer.tos = class;
        outer.total_length.set_raw(length);
        outer.id.set_raw(id);
        outer.fragment.set_raw(fragment);
        outer.ttl = ttl;
        outer.protocol = protocol;
        outer.source.set_raw(server.tunnel_source[0]);
        outer.destination.set_raw(server.address[0]);
        let sum = Difference::NONE
            .word(u16::MAX, pair(0x45, class))
            .word(u16::MAX, length)
            .word(u16::MAX, id)
            .word(u16::MAX, fragment)
            .word(u16::MAX, pair(ttl, protocol))
            .long(u32::MAX, server.tunnel_source[0])
            .long(u32::MAX, server.address[0]);
        outer.checksum.set_raw(sum.apply(u16::MAX));
    }
    let ethertype = if outer_ipv6 {
        ethernet::IPV6
    } else {
        ethernet::IPV4
    };
    if outer_ipv6 != inner_ipv6 {
        let Some(field) = frame.view_mut::<Be16>(at - 2) else {
            return Verdict::of(Reason::NoHeadroom);
        };
        field.set(ethertype);
    }
    address_frame(frame, hop, Reason::Tunnel)
}

/// The identification of an outer header that may be fragmented: each processor counts on from a
/// start of its own.
#[inline(always)]
fn identify<E: Env>(env: &E, identification: &mut u32) -> u16 {
    if *identification == 0 {
        *identification = env.random();
    }
    let id = *identification;
    *identification = id.wrapping_add(1);
    id as u16
}

/// Two bytes as the word they make in memory.
#[inline(always)]
const fn pair(first: u8, second: u8) -> u16 {
    u16::from_ne_bytes([first, second])
}

#[inline(always)]
fn set_words(to: &mut [Be32; 4], from: &Address) {
    to[0].set_raw(from[0]);
    to[1].set_raw(from[1]);
    to[2].set_raw(from[2]);
    to[3].set_raw(from[3]);
}

/// Whether the packet fits into `room` bytes; a super-frame is judged by its segments.
#[inline(always)]
pub fn fits<F: Frame>(
    frame: &F,
    h: &Headers,
    room: u32,
    tunnel: bool,
    settings: u32,
) -> Result<(), Reason> {
    let segment = frame.segment_size();
    let length = if segment == 0 {
        h.length
    } else {
        h.transport() + h.transport_length as u32 - h.ip() + segment
    };
    if length <= room {
        return Ok(());
    }
    if h.ipv6() {
        return Err(Reason::TooBig);
    }
    let ip = frame.view::<Ipv4>(h.ip()).ok_or(Reason::Malformed)?;
    let told = ip.dont_fragment() && (!tunnel || settings & settings_flag::PMTU_DISC != 0);
    Err(if told {
        Reason::TooBig
    } else {
        Reason::NeedsFragmenting
    })
}

/// Takes one from the hop limit.
#[inline(always)]
pub fn age<F: Frame>(frame: &mut F, h: &Headers) -> Result<(), Reason> {
    if h.ipv6() {
        let ip = frame.view_mut::<Ipv6>(h.ip()).ok_or(Reason::Malformed)?;
        if ip.hop_limit <= 1 {
            return Err(Reason::TtlExceeded);
        }
        ip.hop_limit -= 1;
    } else {
        let ip = frame.view_mut::<Ipv4>(h.ip()).ok_or(Reason::Malformed)?;
        if ip.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        // As the kernel does (`ip_decrease_ttl`): the sum loses what the first byte of its word lost.
        let sum = ip.checksum.raw() as u32 + pair(1, 0) as u32;
        ip.ttl -= 1;
        ip.checksum.set_raw((sum + u32::from(sum >= 0xffff)) as u16);
    }
    Ok(())
}

/// Which end of the packet a translation changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// Gives one end of the packet another address and port (network order); checksums follow.
#[inline(always)]
pub fn translate<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    h: &Headers,
    end: End,
    address: &Address,
    port: u16,
) -> Result<(), Reason> {
    let at = h.transport();
    let (checksum, udp) = match h.flow.protocol {
        TCP => (at + Tcp::CHECKSUM, false),
        UDP => (at + Udp::CHECKSUM, true),
        SCTP => return translate_sctp(frame, env, h, end, address, port),
        _ => return Err(Reason::Malformed),
    };
    // Source and destination port lie alike in TCP and UDP.
    let field = match end {
        End::Source => at,
        End::Destination => at + 2,
    };
    let port_field = frame.view_mut::<Be16>(field).ok_or(Reason::Malformed)?;
    let ports = Difference::NONE.word(port_field.raw(), port);
    port_field.set_raw(port);
    let addresses = translate_address(frame, h, end, address)?;
    if frame.fix_checksum(checksum, addresses, ports, udp) {
        Ok(())
    } else {
        Err(Reason::Malformed)
    }
}

/// [`translate`] for SCTP, whose checksum does not cover addresses.
#[inline(always)]
fn translate_sctp<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    h: &Headers,
    end: End,
    address: &Address,
    port: u16,
) -> Result<(), Reason> {
    let (old, shift) = match end {
        End::Source => (h.flow.source_port, 0),
        End::Destination => (h.flow.destination_port, 16),
    };
    let change = (u16::from_le(old ^ port) as u32) << shift;
    if change != 0 {
        let length = h.ip() + h.length - h.transport();
        let by = env.checksum_change(change, length);
        let header = frame.view_mut::<Sctp>(h.transport());
        let header = header.ok_or(Reason::Malformed)?;
        match end {
            End::Source => header.source.set_raw(port),
            End::Destination => header.destination.set_raw(port),
        }
        let checksum = u32::from_le_bytes(header.checksum) ^ by;
        header.checksum = checksum.to_le_bytes();
    }
    translate_address(frame, h, end, address).map(drop)
}

/// Gives one end of the IP header another address; the IPv4 header checksum follows.
#[inline(always)]
pub fn translate_address<F: Frame>(
    frame: &mut F,
    h: &Headers,
    end: End,
    address: &Address,
) -> Result<Difference, Reason> {
    let old = match end {
        End::Source => &h.flow.source,
        End::Destination => &h.flow.destination,
    };
    if h.ipv6() {
        let ip = frame.view_mut::<Ipv6>(h.ip()).ok_or(Reason::Malformed)?;
        set_words(
            match end {
                End::Source => &mut ip.source,
                End::Destination => &mut ip.destination,
            },
            address,
        );
        Ok(Difference::NONE.address(old, address))
    } else {
        let change = Difference::NONE.long(old[0], address[0]);
        let ip = frame.view_mut::<Ipv4>(h.ip()).ok_or(Reason::Malformed)?;
        match end {
            End::Source => ip.source.set_raw(address[0]),
            End::Destination => ip.destination.set_raw(address[0]),
        }
        ip.checksum.set_raw(change.apply(ip.checksum.raw()));
        Ok(change)
    }
}

/// Addresses the frame to `hop` and lets it go.
#[inline(always)]
pub fn leave<F: Frame>(frame: &mut F, tags: u8, hop: &NextHop, reason: Reason) -> Verdict {
    if (tags != 0 || hop.vlan != 0) && !frame.set_vlan(tags, hop.vlan) {
        return Verdict::of(Reason::VlanTags);
    }
    address_frame(frame, hop, reason)
}

#[inline(always)]
fn address_frame<F: Frame>(frame: &mut F, hop: &NextHop, reason: Reason) -> Verdict {
    let Some(ethernet) = frame.view_mut::<Ethernet>(0) else {
        return Verdict::of(Reason::Malformed);
    };
    ethernet.destination.set(&hop.destination);
    ethernet.source.set(&hop.source);
    Verdict::forward(reason, hop.ifindex)
}
