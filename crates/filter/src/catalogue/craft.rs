//! Builds frames and collects kinds.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use pointsman_wire::build::{RawPart, ethernet_frame};
use pointsman_wire::{Frame, Mac, icmp, tcp};

use super::scene::{Cast, Scene, Vip};
use super::{Kind, Need, Part, Protocol};
use crate::route::Direction;

/// Port of the client.
pub(super) const CLIENT_PORT: u16 = 51643;
/// Bytes of a path that is too narrow.
pub(super) const NARROW: u32 = 1400;

/// What a packet of a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The first: a SYN, or a request.
    Open,
    /// The answer to it.
    Answer,
    /// What the client sends then.
    Data,
}

/// Link-layer addresses: source and destination.
pub(super) type Link = (Mac, Mac);
/// Address and port.
pub(super) type End = (IpAddr, u16);

/// Collects kinds.
pub(super) struct Craft<'s> {
    pub(super) scene: &'s Scene,
    part: Part,
    kinds: Vec<Kind>,
    seen: HashSet<(Direction, Vec<u8>, Vec<Vec<u8>>)>,
}

impl<'s> Craft<'s> {
    pub(super) fn new(scene: &'s Scene) -> Self {
        Self {
            scene,
            part: Part::Work,
            kinds: Vec::new(),
            seen: HashSet::new(),
        }
    }

    pub(super) fn part(&mut self, part: Part) {
        self.part = part;
    }

    /// Adds a kind unless the same frame is there.
    pub(super) fn add(
        &mut self,
        (id, direction, need): (&'static str, Direction, Need),
        words: impl Into<String>,
        frame: Vec<u8>,
    ) {
        self.add_after((id, direction, need), words, &[], frame);
    }

    /// Adds a kind that follows other frames of its conversation.
    pub(super) fn add_after(
        &mut self,
        (id, direction, need): (&'static str, Direction, Need),
        words: impl Into<String>,
        before: &[Vec<u8>],
        frame: Vec<u8>,
    ) {
        if self
            .seen
            .insert((direction, frame.clone(), before.to_vec()))
        {
            self.kinds.push(Kind {
                id,
                direction,
                need,
                part: self.part,
                words: words.into(),
                before: before.to_vec(),
                frame,
            });
        }
    }

    pub(super) fn finish(self) -> Vec<Kind> {
        self.kinds
    }

    /// The link-layer address that goes with virtual addresses.
    pub(super) fn vip_mac(&self, v4: bool) -> Mac {
        if self.scene.vmac {
            pointsman_wire::vrrp::virtual_mac(self.scene.vrid, !v4)
        } else {
            self.scene.mac
        }
    }
}

/// An IP packet in a frame, nothing behind IP yet.
pub(super) fn packet(link: Link, source: IpAddr, destination: IpAddr) -> Frame<RawPart> {
    Frame::ip(source, destination).macs(link.0, link.1)
}

/// A packet of a conversation, without its frame if it is to be wrapped.
pub(super) fn segment(protocol: Protocol, step: Step, link: Link, from: End, to: End) -> Bytes {
    let packet = packet(link, from.0, to.0);
    match protocol {
        Protocol::Tcp => {
            let segment = packet.tcp(from.1, to.1);
            let segment = match step {
                Step::Open => segment.flags(tcp::SYN).sequence(1000),
                Step::Answer => segment
                    .flags(tcp::SYN | tcp::ACK)
                    .sequence(5000)
                    .acknowledgement(1001),
                Step::Data => segment
                    .flags(tcp::PSH | tcp::ACK)
                    .sequence(1001)
                    .acknowledgement(5001)
                    .payload(b"GET / HTTP/1.0\r\n\r\n"),
            };
            Bytes {
                frame: segment.build(),
                packet: segment.build_packet(),
            }
        }
        Protocol::Udp => {
            let text: &[u8] = if step == Step::Answer {
                b"answer"
            } else {
                b"request"
            };
            let segment = packet.udp(from.1, to.1).payload(text);
            Bytes {
                frame: segment.build(),
                packet: segment.build_packet(),
            }
        }
    }
}

/// A frame, and its packet alone.
pub(super) struct Bytes {
    pub(super) frame: Vec<u8>,
    pub(super) packet: Vec<u8>,
}

/// A packet in another IP header.
pub(super) fn tunnelled(link: Link, from: IpAddr, to: IpAddr, inner: &[u8]) -> Vec<u8> {
    packet(link, from, to).ip_in_ip(inner).build()
}

/// The message that a path is too narrow for the packet quoted.
pub(super) fn too_big(link: Link, from: IpAddr, to: IpAddr, quoted: &[u8]) -> Bytes {
    let (kind, code) = if from.is_ipv4() {
        (icmp::V4_UNREACHABLE, icmp::V4_CODE_FRAGMENTATION_NEEDED)
    } else {
        (icmp::V6_TOO_BIG, 0)
    };
    let error = packet(link, from, to).icmp_error(kind, code, NARROW, quoted);
    Bytes {
        frame: error.build(),
        packet: error.build_packet(),
    }
}

/// A later fragment of a packet.
pub(super) fn fragment(protocol: Protocol, link: Link, from: IpAddr, to: IpAddr) -> Bytes {
    let number = match protocol {
        Protocol::Tcp => pointsman_wire::protocol::TCP,
        Protocol::Udp => pointsman_wire::protocol::UDP,
    };
    let piece = packet(link, from, to)
        .protocol(number)
        .fragment(1480, false)
        .payload(b"the rest of a packet");
    Bytes {
        frame: piece.build(),
        packet: piece.build_packet(),
    }
}

/// The client's end of a conversation.
pub(super) fn client(cast: &Cast) -> End {
    (cast.client, CLIENT_PORT)
}

/// The virtual service's end of a conversation.
pub(super) fn service(vip: &Vip) -> End {
    (vip.address, vip.port)
}

/// A frame that is not IP.
pub(super) fn plain(link: Link, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet_frame(link.0, link.1, &[], ethertype, payload)
}

/// A frame with a VLAN tag around its packet.
pub(super) fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

/// The link-local address that goes with a link-layer address (EUI-64).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ 2, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    )
}

/// The link-layer address of an IPv6 group.
pub(super) fn group_mac(group: Ipv6Addr) -> Mac {
    let octets = group.octets();
    Mac([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
}
