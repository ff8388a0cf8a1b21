//! Taking the outer headers (IP in IP, GRE, GUE) off a frame that came with a virtio-net header, which says what the
//! sender left to be done: a checksum to complete, a super-frame to cut.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol number of IPv4 in IP.
pub const IPV4_IN_IP: u8 = 4;
/// IP protocol number of IPv6 in IP.
pub const IPV6_IN_IP: u8 = 41;

/// IP protocol number of UDP, which GUE is in.
const UDP: u8 = 17;
/// IP protocol number of GRE.
pub const GRE: u8 = 47;
/// UDP port of GUE.
pub const GUE_PORT: u16 = 6080;

const ETHERNET: usize = 14;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the L4 checksum is not complete.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_UDP_L4` without the ECN bit.
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr`, the 10-byte form; numbers in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// `NEEDS_CSUM` and others.
    pub flags: u8,
    /// Kind of super-frame, 0 for none.
    pub gso_type: u8,
    /// Bytes of headers that each segment repeats.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Offset in the frame where checksumming begins.
    pub csum_start: u16,
    /// Offset from there where the checksum belongs.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Bytes of the header.
    pub const LEN: usize = 10;

    /// Reads it from the front of a buffer.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: number(2),
            gso_size: number(4),
            csum_start: number(6),
            csum_offset: number(8),
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; Self::LEN] {
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }
}

/// An inner packet, ready for a TUN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner<'a> {
    /// Address that the outer header was sent to.
    pub outer_destination: IpAddr,
    /// What is left to do, counted from the inner packet's first byte.
    pub header: VnetHeader,
    /// The packet, without Ethernet padding.
    pub packet: &'a [u8],
}

/// Why a frame is not decapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Not a tunnel packet at all.
    Other,
    /// A fragment of the outer packet.
    Fragment,
    /// Shorter than its headers claim, with an inner version that does not fit the protocol, or of a
    /// tunnel variant that is not known.
    Malformed,
}

/// Takes Ethernet and outer IP header off, and moves the virtio-net header's offsets with them.
pub fn decapsulate(header: VnetHeader, frame: &[u8]) -> Result<Inner<'_>, Skip> {
    let ethertype = frame.get(12..14).ok_or(Skip::Malformed)?;
    let packet = &frame[ETHERNET..];
    let (protocol, removed, outer_destination) = match ethertype {
        [0x08, 0x00] => outer_v4(packet)?,
        [0x86, 0xdd] => outer_v6(packet)?,
        _ => return Err(Skip::Other),
    };
    let payload = packet.get(removed..).ok_or(Skip::Malformed)?;
    let (protocol, shim) = match protocol {
        GRE => gre(payload)?,
        UDP => gue(payload)?,
        protocol => (protocol, 0),
    };
    let removed = removed + shim;
    let inner = payload.get(shim..).ok_or(Skip::Malformed)?;
    let length = match (protocol, inner.first().map(|byte| byte >> 4)) {
        (IPV4_IN_IP, Some(4)) => be16(inner, 2)?,
        (IPV6_IN_IP, Some(6)) => 40 + be16(inner, 4)?,
        _ => return Err(Skip::Malformed),
    };
    let inner = inner.get(..length).ok_or(Skip::Malformed)?;
    let header = moved(header, (ETHERNET + removed) as u16, inner).ok_or(Skip::Malformed)?;
    Ok(Inner {
        outer_destination,
        header,
        packet: inner,
    })
}

fn moved(header: VnetHeader, removed: u16, inner: &[u8]) -> Option<VnetHeader> {
    let inside = header
        .csum_start
        .checked_sub(removed)
        .filter(|start| header.flags & NEEDS_CSUM != 0 && *start >= 20);
    let Some(csum_start) = inside else {
        // Nothing is left to be done, or only to the checksum of what is taken off. A super-frame
        // has partial checksums by definition, so one without cannot be passed on.
        return (header.gso_type == 0).then(VnetHeader::default);
    };
    let mut header = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start,
        hdr_len: 0,
        ..header
    };
    if header.gso_type != 0 {
        let l4 = usize::from(csum_start);
        let l4_length = match header.gso_type & !GSO_ECN {
            GSO_UDP_L4 => 8,
            _ => u16::from(inner.get(l4 + 12)? >> 4) * 4,
        };
        header.hdr_len = csum_start.checked_add(l4_length)?;
    }
    Some(header)
}

/// The inner protocol and the length of a GRE header; its checksum is not looked at.
fn gre(payload: &[u8]) -> Result<(u8, usize), Skip> {
    let flags = be16(payload, 0)?;
    // Checksum, key and sequence number take four bytes each; version 0 alone is known.
    let words = [0x8000, 0x2000, 0x1000]
        .into_iter()
        .filter(|flag| flags & flag != 0)
        .count();
    match (flags & 0x4fff, be16(payload, 2)?) {
        (0, 0x0800) => Ok((IPV4_IN_IP, 4 + 4 * words)),
        (0, 0x86dd) => Ok((IPV6_IN_IP, 4 + 4 * words)),
        _ => Err(Skip::Malformed),
    }
}

/// The inner protocol and the length of the UDP and GUE headers, variant 0 without control
/// messages; remote checksum offload is not undone.
fn gue(payload: &[u8]) -> Result<(u8, usize), Skip> {
    if be16(payload, 2)? != usize::from(GUE_PORT) {
        return Err(Skip::Other);
    }
    let header: &[u8; 4] = payload
        .get(8..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Skip::Malformed)?;
    if header[0] & 0xe0 != 0 {
        return Err(Skip::Malformed);
    }
    Ok((header[1], 8 + 4 + usize::from(header[0] & 0x1f) * 4))
}

fn outer_v4(packet: &[u8]) -> Result<(u8, usize, IpAddr), Skip> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(Skip::Malformed)?;
    let protocol = header[9];
    if !matches!(protocol, IPV4_IN_IP | IPV6_IN_IP | GRE | UDP) {
        return Err(Skip::Other);
    }
    // More fragments, or an offset.
    if be16(header, 6)? & 0x3fff != 0 {
        return Err(Skip::Fragment);
    }
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return Err(Skip::Malformed);
    }
    let destination = Ipv4Addr::from([header[16], header[17], header[18], header[19]]);
    Ok((protocol, length, destination.into()))
}

fn outer_v6(packet: &[u8]) -> Result<(u8, usize, IpAddr), Skip> {
    let header: &[u8; 40] = packet.first_chunk().ok_or(Skip::Malformed)?;
    let destination: [u8; 16] = header[24..].try_into().map_err(|_| Skip::Malformed)?;
    let (mut next, mut length) = (header[6], 40);
    loop {
        match next {
            IPV4_IN_IP | IPV6_IN_IP | GRE | UDP => {
                return Ok((next, length, Ipv6Addr::from(destination).into()));
            }
            // Hop-by-hop and destination options; ip6_tunnel puts its encapsulation limit there.
            0 | 60 => {
                let option = packet.get(length..length + 2).ok_or(Skip::Malformed)?;
                next = option[0];
                length += (usize::from(option[1]) + 1) * 8;
            }
            44 => return Err(Skip::Fragment),
            _ => return Err(Skip::Other),
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Result<usize, Skip> {
    let bytes = bytes.get(at..at + 2).ok_or(Skip::Malformed)?;
    Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(payload);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend([0; 31]);
        packet.push(2);
        packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        let ethertype: [u8; 2] = if packet[0] >> 4 == 4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        [&[0; 12][..], &ethertype, packet].concat()
    }

    #[test]
    fn all_four_pairs_come_out_whole() {
        let tcp = [7; 32];
        for inner in [v4(6, &tcp), v6(6, &tcp)] {
            let protocol = if inner[0] >> 4 == 4 {
                IPV4_IN_IP
            } else {
                IPV6_IN_IP
            };
            for outer in [v4(protocol, &inner), v6(protocol, &inner)] {
                let frame = frame(&outer);
                let found = decapsulate(VnetHeader::default(), &frame).unwrap();
                assert_eq!(found.packet, inner);
                assert_eq!(found.header, VnetHeader::default());
            }
        }
    }

    #[test]
    fn padding_is_cut_and_destination_options_are_skipped() {
        let inner = v4(17, &[0; 8]);
        let mut padded = frame(&v4(IPV4_IN_IP, &inner));
        padded.extend([0xaa; 18]);
        assert_eq!(
            decapsulate(VnetHeader::default(), &padded).unwrap().packet,
            inner
        );
        let limit = [&[IPV4_IN_IP, 0, 4, 1, 4, 1, 1, 0][..], &inner].concat();
        let outer = frame(&v6(60, &limit));
        assert_eq!(
            decapsulate(VnetHeader::default(), &outer).unwrap().packet,
            inner
        );
    }

    #[test]
    fn offsets_move_with_the_outer_header() {
        let mut tcp = vec![0; 20 + 4000];
        tcp[12] = 0x80;
        let frame = frame(&v4(IPV4_IN_IP, &v4(6, &tcp)));
        let header = VnetHeader {
            flags: 1,
            gso_type: 1,
            hdr_len: 999,
            gso_size: 1440,
            csum_start: 14 + 20 + 20,
            csum_offset: 16,
        };
        let found = decapsulate(header, &frame).unwrap().header;
        let wanted = VnetHeader {
            hdr_len: 20 + 32,
            csum_start: 20,
            ..header
        };
        assert_eq!(found, wanted);
        assert_eq!(VnetHeader::read(&found.bytes()), Some(wanted));
        // The checksum of something in the removed header: gone with it, unless it is a super-frame.
        let outer = VnetHeader {
            csum_start: 34,
            ..header
        };
        assert_eq!(decapsulate(outer, &frame), Err(Skip::Malformed));
        let outer = VnetHeader {
            gso_type: 0,
            ..outer
        };
        let found = decapsulate(outer, &frame).unwrap().header;
        assert_eq!(found, VnetHeader::default());
    }

    #[test]
    fn gre_and_gue_are_taken_off_with_their_options() {
        let inner = v4(17, &[0; 8]);
        let plain = [&[0, 0, 8, 0][..], &inner].concat();
        let keyed = [&[0xa0, 0, 8, 0][..], &[9; 8], &inner].concat();
        for gre in [plain, keyed] {
            let frame = frame(&v6(GRE, &gre));
            let found = decapsulate(VnetHeader::default(), &frame).unwrap();
            assert_eq!(found.packet, inner);
        }
        let routed = frame(&v4(GRE, &[&[0x40, 0, 8, 0][..], &inner].concat()));
        assert_eq!(
            decapsulate(VnetHeader::default(), &routed),
            Err(Skip::Malformed)
        );
        let udp = |port: u16| [&[1, 1][..], &port.to_be_bytes(), &[0; 4]].concat();
        let private = [udp(GUE_PORT), vec![1, 4, 0, 1, 0, 0, 0, 0], inner.clone()].concat();
        let wrapped = frame(&v4(UDP, &private));
        let found = decapsulate(VnetHeader::default(), &wrapped).unwrap();
        assert_eq!(found.packet, inner);
        let other = frame(&v4(UDP, &[udp(53), inner].concat()));
        assert_eq!(decapsulate(VnetHeader::default(), &other), Err(Skip::Other));
    }

    #[test]
    fn what_is_no_tunnel_packet_is_left_alone() {
        let header = VnetHeader::default();
        assert_eq!(
            decapsulate(header, &frame(&v4(6, &[0; 20]))),
            Err(Skip::Other)
        );
        let mut fragment = frame(&v4(IPV4_IN_IP, &v4(6, &[0; 20])));
        fragment[14 + 6] = 0x20;
        assert_eq!(decapsulate(header, &fragment), Err(Skip::Fragment));
        let whole = frame(&v4(IPV4_IN_IP, &v4(6, &[0; 20])));
        for length in 0..whole.len() {
            assert_eq!(
                decapsulate(header, &whole[..length]),
                Err(Skip::Malformed),
                "{length}"
            );
        }
        let wrong = frame(&v4(IPV6_IN_IP, &v4(6, &[0; 20])));
        assert_eq!(decapsulate(header, &wrong), Err(Skip::Malformed));
    }
}
