//! A frame as packet filters see it.

use pointsman_wire::ethernet::{self, Ethernet, VlanTag};
use pointsman_wire::ipv4::Ipv4;
use pointsman_wire::ipv6::{self, Ipv6, Ipv6Extension, Ipv6Fragment};
use pointsman_wire::tcp::Tcp;
use pointsman_wire::{Mac, protocol};
use zerocopy::FromBytes;

use crate::field::{Field, Start};

/// EtherType of RARP.
pub const RARP: u16 = 0x8035;
/// Longest chain of IPv6 extension headers that is followed.
const EXTENSIONS: usize = 16;

/// A frame, taken apart.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    source: Mac,
    destination: Mac,
    /// As the Ethernet header has it.
    ethertype: u16,
    /// The outermost tag: its 16 bits, and the EtherType behind it.
    tag: Option<(u16, u16)>,
    /// Behind Ethernet header and tag.
    network: &'a [u8],
    packet: Option<Packet<'a>>,
}

/// The IP packet in a frame.
#[derive(Debug, Clone)]
pub(crate) struct Packet<'a> {
    pub(crate) version: u8,
    pub(crate) source: u128,
    pub(crate) destination: u128,
    /// Behind extension headers.
    pub(crate) protocol: u8,
    /// True for all but the first fragment.
    pub(crate) later_fragment: bool,
    /// Payload, link padding not included.
    pub(crate) payload: &'a [u8],
    /// The IP header at least.
    header: &'a [u8],
    /// Bytes by the header's word.
    length: usize,
}

/// How far a test sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sight {
    /// Behind a VLAN tag.
    pub behind_tag: bool,
    /// In all fragments, though only the first one has a transport header: what nftables takes for one.
    pub any_fragment: bool,
}

/// A frame that no filter sees, because it has no Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are too few for an Ethernet header, which has 14")]
pub struct FrameError(pub usize);

impl<'a> Frame<'a> {
    /// Takes a frame apart, as far as its bytes go.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (header, rest) =
            Ethernet::ref_from_prefix(bytes).map_err(|_| FrameError(bytes.len()))?;
        let ethertype = header.ethertype.get();
        let mut tag = None;
        let mut network = rest;
        if matches!(ethertype, ethernet::VLAN | ethernet::QINQ)
            && let (Some(word), Ok((vlan, behind))) =
                (rest.first_chunk::<2>(), VlanTag::ref_from_prefix(rest))
        {
            tag = Some((u16::from_be_bytes(*word), vlan.ethertype.get()));
            network = behind;
        }
        let mut frame = Self {
            bytes,
            source: header.source,
            destination: header.destination,
            ethertype,
            tag,
            network,
            packet: None,
        };
        frame.packet = match frame.carried() {
            ethernet::IPV4 => Packet::v4(network),
            ethernet::IPV6 => Packet::v6(network),
            _ => None,
        };
        Ok(frame)
    }

    /// The outermost EtherType.
    pub fn ethertype(&self) -> u16 {
        self.ethertype
    }

    /// EtherType behind the tag, if there is one.
    pub fn carried(&self) -> u16 {
        self.tag.map_or(self.ethertype, |(_, carried)| carried)
    }

    /// Whether the frame has a VLAN tag.
    pub fn is_tagged(&self) -> bool {
        self.tag.is_some()
    }

    pub(crate) fn packet(&self) -> Option<&Packet<'a>> {
        self.packet.as_ref()
    }

    /// The value of a field; nothing where the frame does not have it.
    pub fn get(&self, field: Field, sight: Sight) -> Option<u128> {
        let hidden = self.is_tagged() && !sight.behind_tag;
        match field {
            Field::EtherSource => Some(mac(self.source)),
            Field::EtherDestination => Some(mac(self.destination)),
            Field::EtherType => Some(self.ethertype.into()),
            Field::Carried => Some(self.carried().into()),
            Field::VlanId => self.tag.map(|(word, _)| (word & 0x0fff).into()),
            Field::VlanPriority => self.tag.map(|(word, _)| (word >> 13).into()),
            Field::VlanCarried => self.tag.map(|(_, carried)| carried.into()),
            Field::Length => Some(
                self.packet
                    .as_ref()
                    .map_or(self.network.len(), |packet| packet.length) as u128,
            ),
            Field::PacketType => Some(if self.destination == Mac::BROADCAST {
                1
            } else if self.destination.is_group() {
                2
            } else {
                3
            }),
            Field::NetworkFamily => match self.carried() {
                ethernet::IPV4 => Some(2),
                ethernet::IPV6 => Some(10),
                _ => None,
            },
            Field::Raw(Start::Link, offset, bits) => raw(self.bytes, offset, bits),
            Field::Raw(Start::Network, offset, bits) => raw(self.network, offset, bits),
            Field::Raw(Start::Transport, offset, bits) => {
                let packet = self.packet.as_ref().filter(|_| !hidden)?;
                // The kernel's short way is for one, two and four bytes.
                let short = sight.any_fragment && offset % 8 == 0 && matches!(bits, 8 | 16 | 32);
                (!packet.later_fragment || short).then(|| raw(packet.payload, offset, bits))?
            }
            Field::Mark | Field::ConnectionState | Field::ConnectionDirection => None,
            _ if hidden => None,
            Field::ArpHardware
            | Field::ArpProtocol
            | Field::ArpHardwareLength
            | Field::ArpProtocolLength
            | Field::ArpOperation
            | Field::ArpSenderMac
            | Field::ArpSenderIp
            | Field::ArpTargetMac
            | Field::ArpTargetIp
            | Field::ArpGratuitous => self.arp(field),
            _ => self.packet.as_ref()?.get(field, sight.any_fragment),
        }
    }

    fn arp(&self, field: Field) -> Option<u128> {
        if !matches!(self.carried(), ethernet::ARP | RARP) {
            return None;
        }
        // Types and lengths are there even when the addresses are of another kind.
        match field {
            Field::ArpHardware => return raw(self.network, 0, 16),
            Field::ArpProtocol => return raw(self.network, 16, 16),
            Field::ArpHardwareLength => return raw(self.network, 32, 8),
            Field::ArpProtocolLength => return raw(self.network, 40, 8),
            Field::ArpOperation => return raw(self.network, 48, 16),
            _ => {}
        }
        // As `ebt_arp` of the kernel: addresses stand where the lengths say.
        let byte = |at| raw(self.network, at, 8).map(|byte| byte as u32);
        let (mac_length, ip_length) = (byte(32)?, byte(40)?);
        let is_ip = ip_length == 4 && raw(self.network, 16, 16) == Some(0x0800);
        let is_ethernet = mac_length == 6 && raw(self.network, 0, 16) == Some(1);
        let first = 8 * Self::ARP_ADDRESSES;
        let mac = |at| is_ethernet.then(|| raw(self.network, at, 48))?;
        let ip = |at| is_ip.then(|| raw(self.network, at, 32))?;
        let sender = first + 8 * mac_length;
        let target = sender + 32 + 8 * mac_length;
        match field {
            Field::ArpSenderMac => mac(first),
            Field::ArpSenderIp => ip(sender),
            Field::ArpTargetMac => mac(sender + 8 * ip_length),
            Field::ArpTargetIp => ip(target),
            _ => Some(u128::from(ip(sender)? == ip(target)?)),
        }
    }

    /// Bytes of an ARP message before its addresses.
    const ARP_ADDRESSES: u32 = 8;
}

impl<'a> Packet<'a> {
    fn v4(bytes: &'a [u8]) -> Option<Self> {
        let (ip, _) = Ipv4::ref_from_prefix(bytes).ok()?;
        let header_length = ip.header_length() as usize;
        let length = usize::from(raw(bytes, 16, 16)? as u16);
        if ip.version() != 4 || header_length < Ipv4::LEN as usize || length < header_length {
            return None;
        }
        let end = length.min(bytes.len());
        Some(Self {
            version: 4,
            source: raw(bytes, 96, 32)?,
            destination: raw(bytes, 128, 32)?,
            protocol: raw(bytes, 72, 8)? as u8,
            later_fragment: raw(bytes, 48, 16)? as u16 & Ipv4::OFFSET != 0,
            payload: bytes.get(header_length..end)?,
            header: bytes,
            length,
        })
    }

    fn v6(bytes: &'a [u8]) -> Option<Self> {
        let (ip, _) = Ipv6::ref_from_prefix(bytes).ok()?;
        if ip.version() != 6 {
            return None;
        }
        let length = Ipv6::LEN as usize + raw(bytes, 32, 16)? as usize;
        let end = length.min(bytes.len());
        let mut payload = bytes.get(Ipv6::LEN as usize..end)?;
        let mut protocol = raw(bytes, 48, 8)? as u8;
        let mut later_fragment = false;
        for _ in 0..EXTENSIONS {
            let skip = match protocol {
                ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                    let Ok((_, _)) = Ipv6Extension::ref_from_prefix(payload) else {
                        break;
                    };
                    (usize::from(payload[1]) + 1) * 8
                }
                ipv6::FRAGMENT if !later_fragment => {
                    let Ok((_, _)) = Ipv6Fragment::ref_from_prefix(payload) else {
                        break;
                    };
                    later_fragment = raw(payload, 16, 13)? != 0;
                    8
                }
                _ => break,
            };
            let Some(behind) = payload.get(skip..) else {
                break;
            };
            protocol = payload[0];
            payload = behind;
            if later_fragment {
                break;
            }
        }
        Some(Self {
            version: 6,
            source: raw(bytes, 64, 128)?,
            destination: raw(bytes, 192, 128)?,
            protocol,
            later_fragment,
            payload,
            header: bytes,
            length,
        })
    }

    /// The value of a field; of later fragments what stands where a transport header would, if wanted.
    pub(crate) fn get(&self, field: Field, any_fragment: bool) -> Option<u128> {
        let transport = |of| {
            (self.protocol == of)
                .then(|| self.start(any_fragment))
                .flatten()
        };
        let ports = |of: Option<u8>| match of {
            Some(of) => transport(of),
            None => self.start(any_fragment),
        };
        let v4 = |offset, bits| (self.version == 4).then(|| raw(self.header, offset, bits))?;
        let v6 = |offset, bits| (self.version == 6).then(|| raw(self.header, offset, bits))?;
        match field {
            Field::Ip4Tos => v4(8, 8),
            Field::Ip4Dscp => v4(8, 6),
            Field::Ip4Ecn => v4(14, 2),
            Field::Ip4Length => v4(16, 16),
            Field::Ip4Id => v4(32, 16),
            Field::Ip4Fragment => v4(48, 16),
            Field::Ip4Ttl => v4(64, 8),
            Field::Ip4Protocol => v4(72, 8),
            Field::Ip4Checksum => v4(80, 16),
            Field::Ip4Source => v4(96, 32),
            Field::Ip4Destination => v4(128, 32),
            Field::Ip6TrafficClass => v6(4, 8),
            Field::Ip6Dscp => v6(4, 6),
            Field::Ip6FlowLabel => v6(12, 20),
            Field::Ip6Length => v6(32, 16),
            Field::Ip6NextHeader => v6(48, 8),
            Field::Ip6HopLimit => v6(56, 8),
            Field::Ip6Source => v6(64, 128),
            Field::Ip6Destination => v6(192, 128),
            Field::Transport => Some(self.protocol.into()),
            Field::SourcePort(of) => ports(of).and_then(|bytes| raw(bytes, 0, 16)),
            Field::DestinationPort(of) => ports(of).and_then(|bytes| raw(bytes, 16, 16)),
            Field::TcpFlags => raw(transport(protocol::TCP)?, 104, 8),
            Field::TcpOption(kind) => self.tcp_option(kind),
            Field::IcmpType => raw(transport(protocol::ICMP)?, 0, 8),
            Field::IcmpCode => raw(transport(protocol::ICMP)?, 8, 8),
            Field::Icmp6Type => raw(transport(protocol::ICMPV6)?, 0, 8),
            Field::Icmp6Code => raw(transport(protocol::ICMPV6)?, 8, 8),
            Field::IgmpType => raw(transport(2)?, 0, 8),
            _ => None,
        }
    }

    /// Where a transport header would be; it is only in the first fragment.
    fn start(&self, any_fragment: bool) -> Option<&'a [u8]> {
        (!self.later_fragment || any_fragment).then_some(self.payload)
    }

    fn tcp_option(&self, kind: u8) -> Option<u128> {
        if self.protocol != protocol::TCP {
            return None;
        }
        let bytes = self.start(false)?;
        let (tcp, _) = Tcp::ref_from_prefix(bytes).ok()?;
        let mut options = bytes.get(Tcp::LEN as usize..tcp.header_length() as usize)?;
        while let Some(&found) = options.first() {
            if found == kind {
                return Some(1);
            }
            let skip = match found {
                0 => break,
                1 => 1,
                _ => usize::from(*options.get(1)?).max(2),
            };
            options = options.get(skip..).unwrap_or_default();
        }
        Some(0)
    }
}

/// The number of a link-layer address.
pub(crate) fn mac(mac: Mac) -> u128 {
    mac.0
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u128::from(byte))
}

/// Bits out of bytes, most significant first.
fn raw(bytes: &[u8], offset: u32, bits: u32) -> Option<u128> {
    if bits == 0 || bits > 128 {
        return None;
    }
    let first = (offset / 8) as usize;
    let last = (offset.checked_add(bits)?.checked_sub(1)? / 8) as usize;
    let part = bytes.get(first..=last)?;
    if offset.is_multiple_of(8) && bits.is_multiple_of(8) {
        return Some(
            part.iter()
                .fold(0, |sum, &byte| sum << 8 | u128::from(byte)),
        );
    }
    let mut sum = 0;
    for bit in offset..offset + bits {
        let byte = bytes[(bit / 8) as usize];
        sum = sum << 1 | u128::from(byte >> (7 - bit % 8) & 1);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        hex.chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn fields_of_a_packet_are_read_without_padding() {
        let frame = bytes(
            "8478ac276c41 020073b653c8 0800 4528002412340000401153bb0a0900c80a090001
             03e807d0001022bd6e77662d74657374 00000000000000000000",
        );
        let frame = Frame::parse(&frame).unwrap();
        for (field, value) in [
            (Field::EtherSource, 0x0200_73b6_53c8),
            (Field::EtherType, 0x0800),
            (Field::Ip4Source, 0x0a09_00c8),
            (Field::Ip4Dscp, 10),
            (Field::Ip4Tos, 0x28),
            (Field::SourcePort(None), 1000),
            (Field::DestinationPort(Some(17)), 2000),
            (Field::Length, 36),
        ] {
            assert_eq!(frame.get(field, Sight::default()), Some(value), "{field:?}");
        }
        assert_eq!(
            frame.get(Field::DestinationPort(Some(6)), Sight::default()),
            None
        );
        assert_eq!(frame.get(Field::Ip6Source, Sight::default()), None);
    }

    const BEHIND: Sight = Sight {
        behind_tag: true,
        any_fragment: false,
    };

    #[test]
    fn addresses_of_arp_stand_where_the_lengths_say() {
        let mut arp = bytes(
            "ffffffffffff 020073b653c8 0806 0001 0800 06 04 0001
             020073b653c8 0a0900c8 000000000000 0a0900c8",
        );
        let get = |bytes: &[u8], field| Frame::parse(bytes).unwrap().get(field, Sight::default());
        assert_eq!(get(&arp, Field::ArpSenderIp), Some(0x0a09_00c8));
        assert_eq!(get(&arp, Field::ArpGratuitous), Some(1));
        // Of another hardware type only the link-layer addresses mean nothing.
        arp[15] = 6;
        assert_eq!(get(&arp, Field::ArpSenderIp), Some(0x0a09_00c8));
        assert_eq!(get(&arp, Field::ArpSenderMac), None);
        arp[17] = 6;
        assert_eq!(get(&arp, Field::ArpSenderIp), None);
    }

    #[test]
    fn only_the_first_fragment_has_ports_unless_one_looks_anyway() {
        let later = bytes(
            "8478ac276c41 020073b653c8 0800 45000028000000b94006 0000 01020304 05060708
             03e80050000000010000000050020064 00000000",
        );
        let frame = Frame::parse(&later).unwrap();
        let port = Field::DestinationPort(Some(6));
        assert_eq!(frame.get(port, Sight::default()), None);
        let any = Sight {
            any_fragment: true,
            ..Sight::default()
        };
        assert_eq!(frame.get(port, any), Some(80));
    }

    #[test]
    fn a_tag_hides_what_it_carries() {
        let frame = bytes(
            "8478ac276c41 020073b653c8 8100 0064 0800 45000014000000004011000001020304 05060708",
        );
        let frame = Frame::parse(&frame).unwrap();
        assert_eq!(frame.get(Field::VlanId, Sight::default()), Some(100));
        assert_eq!(frame.get(Field::Ip4Source, Sight::default()), None);
        assert_eq!(frame.get(Field::Ip4Source, BEHIND), Some(0x0102_0304));
    }

    #[test]
    fn bytes_that_end_early_have_no_fields_there() {
        assert!(Frame::parse(&[0; 13]).is_err());
        let frame = bytes("ffffffffffff 020073b653c8 0806 0001 0800");
        let frame = Frame::parse(&frame).unwrap();
        assert_eq!(frame.get(Field::ArpHardware, Sight::default()), Some(1));
        assert_eq!(frame.get(Field::ArpOperation, Sight::default()), None);
        assert_eq!(frame.get(Field::ArpSenderIp, Sight::default()), None);
    }
}
