//! Packets of checks on their way through a passage: whose they are, and what is put around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::checksum;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;
const IPIP: u8 = 4;
const IPV6: u8 = 41;
/// Bytes of the fixed header of IPv6.
const V6_LEN: usize = 40;
/// Hop limit of a tunnel's outer header, as the director has it for its own.
const OUTER_HOPS: u8 = 64;

/// What one check is known by: its protocol, and its port or the number of its echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) protocol: u8,
    pub(super) number: u16,
}

/// A packet that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming {
    /// The check that it is about.
    pub(super) key: Key,
    /// The check's own address.
    pub(super) own: IpAddr,
    /// The address that is checked.
    pub(super) other: IpAddr,
    /// True when somebody says that the hop limit ran out.
    pub(super) expired: bool,
}

/// An IP header's fields that count here, and what is behind it.
struct Ip<'a> {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload: &'a [u8],
}

impl<'a> Ip<'a> {
    /// Reads a packet without extension headers that is no fragment.
    fn read(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header = packet.get(..20)?;
                if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
                    return None;
                }
                let length = usize::from(header[0] & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
                Some(Self {
                    protocol: header[9],
                    source: v4(&header[12..16])?,
                    destination: v4(&header[16..20])?,
                    // Behind it there may be padding, and of a quoted packet much is missing.
                    payload: packet.get(length..total.min(packet.len()))?,
                })
            }
            6 => {
                let header = packet.get(..V6_LEN)?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let end = (V6_LEN + length).min(packet.len());
                Some(Self {
                    protocol: header[6],
                    source: v6(&header[8..24])?,
                    destination: v6(&header[24..40])?,
                    payload: packet.get(V6_LEN..end)?,
                })
            }
            _ => None,
        }
    }

    /// The check that sent this packet.
    fn sender(&self) -> Option<Key> {
        let at = match (self.protocol, self.payload.first()?) {
            (TCP | UDP, _) => 0,
            (ICMP, 8) | (ICMP6, 128) => 4,
            _ => return None,
        };
        self.key(at)
    }

    fn key(&self, at: usize) -> Option<Key> {
        let number = self.payload.get(at..at + 2)?;
        Some(Key {
            protocol: self.protocol,
            number: u16::from_be_bytes([number[0], number[1]]),
        })
    }
}

/// The check that sent a packet.
pub(super) fn sender(packet: &[u8]) -> Option<Key> {
    Ip::read(packet)?.sender()
}

/// What a packet that comes in is about: an answer, or an error about what a check sent.
pub(super) fn incoming(packet: &[u8]) -> Option<Incoming> {
    let ip = Ip::read(packet)?;
    let kind = *ip.payload.first()?;
    let answer = |at| {
        Some(Incoming {
            key: ip.key(at)?,
            own: ip.destination,
            other: ip.source,
            expired: false,
        })
    };
    match (ip.protocol, kind) {
        (TCP | UDP, _) => answer(2),
        (ICMP, 0) | (ICMP6, 129) => answer(4),
        (ICMP, 3 | 11 | 12) | (ICMP6, 1..=4) => {
            let quoted = Ip::read(ip.payload.get(8..)?)?;
            Some(Incoming {
                key: quoted.sender()?,
                own: quoted.source,
                other: quoted.destination,
                expired: matches!((ip.protocol, kind), (ICMP, 11) | (ICMP6, 3)),
            })
        }
        _ => None,
    }
}

/// Turns an ICMP error into "port unreachable", at which sockets give up.
pub(super) fn refuse(packet: &mut [u8]) -> Option<()> {
    let ip = Ip::read(packet)?;
    let (protocol, length) = (ip.protocol, ip.payload.len());
    let start = header_length(packet);
    let message = packet.get_mut(start..start + length)?;
    let (kind, code) = match protocol {
        ICMP => (3, 3),
        _ => (1, 4),
    };
    message.get_mut(..2)?.copy_from_slice(&[kind, code]);
    complete(packet)
}

/// Computes the checksum behind the IP header anew, where it was left to a device.
pub(super) fn complete(packet: &mut [u8]) -> Option<()> {
    let ip = Ip::read(packet)?;
    let at = match ip.protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMP6 => 2,
        _ => return None,
    };
    let (protocol, length) = (ip.protocol, ip.payload.len());
    let (source, destination) = (octets(ip.source), octets(ip.destination));
    let start = header_length(packet);
    let payload = packet.get_mut(start..start + length)?;
    payload.get_mut(at..at + 2)?.fill(0);
    let pseudo = match protocol {
        ICMP => 0,
        _ => checksum::pseudo_header(&source, &destination, protocol, u32::try_from(length).ok()?),
    };
    let sum = !checksum::fold(checksum::add(pseudo, payload));
    // UDP has a word for "none".
    let sum = if protocol == UDP && sum == 0 { !0 } else { sum };
    payload[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    Some(())
}

/// Puts a packet into a tunnel (RFC 2003, RFC 2473, RFC 4213).
pub(super) fn encapsulate(packet: &[u8], source: IpAddr, destination: IpAddr) -> Option<Vec<u8>> {
    let protocol = match packet.first()? >> 4 {
        4 => IPIP,
        _ => IPV6,
    };
    let mut outer = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(packet.len() + 20).ok()?.to_be_bytes();
            let mut header = vec![
                0x45, 0, total[0], total[1], 0, 0, 0x40, 0, OUTER_HOPS, protocol, 0, 0,
            ];
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum::of(&header);
            header[10..12].copy_from_slice(&sum.to_ne_bytes());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(packet.len()).ok()?.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, OUTER_HOPS];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => return None,
    };
    outer.extend_from_slice(packet);
    Some(outer)
}

/// Where the payload of a packet begins that [`Ip::read`] can read.
fn header_length(packet: &[u8]) -> usize {
    match packet[0] >> 4 {
        4 => usize::from(packet[0] & 0x0f) * 4,
        _ => V6_LEN,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into())
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_wire::build::Frame;
    use pointsman_wire::verify_checksums;

    const OWN: [u8; 4] = [10, 9, 0, 1];
    const VIP: [u8; 4] = [10, 9, 0, 100];

    fn own6() -> Ipv6Addr {
        "fd09::1".parse().expect("an address")
    }

    fn vip6() -> Ipv6Addr {
        "fd09::100".parse().expect("an address")
    }

    fn key(protocol: u8) -> Key {
        let number = 61_234;
        Key { protocol, number }
    }

    #[test]
    fn packets_are_known_by_their_ports() {
        let sent = Frame::ipv4(OWN, VIP).tcp(61_234, 80).build();
        assert_eq!(sender(&sent[14..]), Some(key(TCP)));
        let sent = Frame::ipv6(own6(), vip6()).udp(61_234, 53).build();
        assert_eq!(sender(&sent[14..]), Some(key(UDP)));
        let answer = Frame::ipv4(VIP, OWN).tcp(80, 61_234).build();
        let mut wanted = Incoming {
            key: key(TCP),
            own: OWN.into(),
            other: VIP.into(),
            expired: false,
        };
        assert_eq!(incoming(&answer[14..]), Some(wanted));
        let answer = Frame::ipv6(vip6(), own6()).udp(53, 61_234).build();
        wanted.key = key(UDP);
        (wanted.own, wanted.other) = (own6().into(), vip6().into());
        assert_eq!(incoming(&answer[14..]), Some(wanted));
        for length in 0..40 {
            assert_eq!(sender(&answer[14..14 + length]), None, "{length}");
            assert_eq!(incoming(&answer[14..14 + length]), None, "{length}");
        }
    }

    /// An ICMP error of this type about a packet to the virtual address.
    fn error(kind: u8) -> Vec<u8> {
        let sent = Frame::ipv4(OWN, VIP).tcp(61_234, 80).build();
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(&sent[14..14 + 28]);
        let frame = Frame::ipv4([10, 9, 0, 2], OWN).payload(&message).build();
        let mut packet = frame[14..].to_vec();
        packet[9] = ICMP;
        packet
    }

    #[test]
    fn errors_are_about_the_check_that_they_quote() {
        for (kind, expired) in [(3, false), (11, true), (12, false)] {
            let wanted = Incoming {
                key: key(TCP),
                own: OWN.into(),
                other: VIP.into(),
                expired,
            };
            assert_eq!(incoming(&error(kind)), Some(wanted));
        }
        assert_eq!(incoming(&error(5)), None);
        let mut packet = error(11);
        refuse(&mut packet).expect("an error");
        assert_eq!(packet[20..22], [3, 3]);
        assert_eq!(checksum::of(&packet[20..]), 0);
    }

    #[test]
    fn checksums_that_were_left_open_are_computed() {
        for mut frame in [
            Frame::ipv4(VIP, OWN)
                .tcp(80, 61_234)
                .payload(b"odd")
                .build(),
            Frame::ipv6(vip6(), own6())
                .udp(53, 61_234)
                .payload(b"odd")
                .build(),
        ] {
            let at = if frame[14] >> 4 == 4 {
                14 + 20 + 16
            } else {
                14 + 40 + 6
            };
            frame[at] ^= 0x55;
            verify_checksums(&frame).expect_err("broken");
            complete(&mut frame[14..]).expect("a packet");
            verify_checksums(&frame).expect("right");
        }
    }

    #[test]
    fn tunnels_are_put_around_packets() {
        let inner = Frame::ipv4(OWN, VIP).tcp(61_234, 80).build();
        let (from, to) = ([10, 9, 0, 1].into(), [10, 9, 0, 2].into());
        let outer = encapsulate(&inner[14..], from, to).expect("a packet");
        assert_eq!(outer[20..], inner[14..]);
        assert_eq!((outer[9], checksum::of(&outer[..20])), (IPIP, 0));
        let outer = encapsulate(&inner[14..], own6().into(), vip6().into()).expect("a packet");
        assert_eq!((outer[6], &outer[40..]), (IPIP, &inner[14..]));
        assert_eq!(encapsulate(&inner[14..], own6().into(), to), None);
        assert_eq!(encapsulate(&[], from, to), None);
    }
}
