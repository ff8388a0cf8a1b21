//! Protocol elements of rules and their attributes, in libvirt's order.

use super::value::Type;

/// A protocol element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the elements'")]
pub enum Kind {
    Mac,
    Vlan,
    Stp,
    Arp,
    Rarp,
    Ip,
    Ipv6,
    Tcp,
    Udp,
    Sctp,
    Udplite,
    Esp,
    Ah,
    Icmp,
    Igmp,
    All,
    TcpIpv6,
    UdpIpv6,
    SctpIpv6,
    UdpliteIpv6,
    EspIpv6,
    AhIpv6,
    Icmpv6,
    AllIpv6,
}

const KINDS: &[(&str, Kind)] = &[
    ("mac", Kind::Mac),
    ("vlan", Kind::Vlan),
    ("stp", Kind::Stp),
    ("arp", Kind::Arp),
    ("rarp", Kind::Rarp),
    ("ip", Kind::Ip),
    ("ipv6", Kind::Ipv6),
    ("tcp", Kind::Tcp),
    ("udp", Kind::Udp),
    ("sctp", Kind::Sctp),
    ("udplite", Kind::Udplite),
    ("esp", Kind::Esp),
    ("ah", Kind::Ah),
    ("icmp", Kind::Icmp),
    ("igmp", Kind::Igmp),
    ("all", Kind::All),
    ("tcp-ipv6", Kind::TcpIpv6),
    ("udp-ipv6", Kind::UdpIpv6),
    ("sctp-ipv6", Kind::SctpIpv6),
    ("udplite-ipv6", Kind::UdpliteIpv6),
    ("esp-ipv6", Kind::EspIpv6),
    ("ah-ipv6", Kind::AhIpv6),
    ("icmpv6", Kind::Icmpv6),
    ("all-ipv6", Kind::AllIpv6),
];

/// An attribute: name and type.
pub(super) type Attribute = (&'static str, Type);

const BYTE: Type = Type::Number(0, 0xff);
const SHORT: Type = Type::Number(0, 0xffff);
const LONG: Type = Type::Number(0, 0xffff_ffff);
const DSCP: Type = Type::Number(0, 63);

const ETHER: &[Attribute] = &[
    ("srcmacaddr", Type::Mac),
    ("srcmacmask", Type::MacMask),
    ("dstmacaddr", Type::Mac),
    ("dstmacmask", Type::MacMask),
];

const PORTS: &[Attribute] = &[
    ("srcportstart", SHORT),
    ("srcportend", SHORT),
    ("dstportstart", SHORT),
    ("dstportend", SHORT),
];

const STP: &[Attribute] = &[
    ("srcmacaddr", Type::Mac),
    ("srcmacmask", Type::MacMask),
    ("type", BYTE),
    ("flags", BYTE),
    ("root-priority", SHORT),
    ("root-priority-hi", SHORT),
    ("root-address", Type::Mac),
    ("root-address-mask", Type::MacMask),
    ("root-cost", LONG),
    ("root-cost-hi", LONG),
    ("sender-priority", SHORT),
    ("sender-priority-hi", SHORT),
    ("sender-address", Type::Mac),
    ("sender-address-mask", Type::MacMask),
    ("port", SHORT),
    ("port-hi", SHORT),
    ("age", SHORT),
    ("age-hi", SHORT),
    ("max-age", SHORT),
    ("max-age-hi", SHORT),
    ("hello-time", SHORT),
    ("hello-time-hi", SHORT),
    ("forward-delay", SHORT),
    ("forward-delay-hi", SHORT),
];

/// Fields of a spanning tree's frame behind its Ethernet header: offset and length in bits, the
/// attributes of the lowest value and of the highest, or of an address and its mask.
pub(super) const STP_RANGES: [(u32, u32, &str, &str); 10] = [
    (64, 16, "root-priority", "root-priority-hi"),
    (80, 48, "root-address", "root-address-mask"),
    (128, 32, "root-cost", "root-cost-hi"),
    (160, 16, "sender-priority", "sender-priority-hi"),
    (176, 48, "sender-address", "sender-address-mask"),
    (224, 16, "port", "port-hi"),
    (240, 16, "age", "age-hi"),
    (256, 16, "max-age", "max-age-hi"),
    (272, 16, "hello-time", "hello-time-hi"),
    (288, 16, "forward-delay", "forward-delay-hi"),
];

const ARP: &[Attribute] = &[
    ("hwtype", SHORT),
    ("protocoltype", SHORT),
    ("opcode", Type::ArpOperation),
    ("arpsrcmacaddr", Type::Mac),
    ("arpdstmacaddr", Type::Mac),
    ("arpsrcipaddr", Type::Ip4),
    ("arpsrcipmask", Type::Ip4Mask),
    ("arpdstipaddr", Type::Ip4),
    ("arpdstipmask", Type::Ip4Mask),
    ("gratuitous", Type::Boolean),
];

const ICMP: &[Attribute] = &[("type", BYTE), ("code", BYTE)];

impl Kind {
    /// The kind of an element's name.
    pub fn of(name: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, kind)| kind)
    }

    /// The element's name.
    pub fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|&&(_, kind)| kind == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether rules of this kind filter frames, not packets.
    pub fn is_ethernet(self) -> bool {
        matches!(
            self,
            Self::Mac | Self::Vlan | Self::Stp | Self::Arp | Self::Rarp | Self::Ip | Self::Ipv6
        )
    }

    /// Whether rules of this kind filter IPv6 packets.
    pub fn is_v6(self) -> bool {
        self as u8 >= Self::TcpIpv6 as u8
    }

    /// The protocol as iptables and nft name it; `all` stands for any.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::Icmpv6 => "ipv6-icmp",
            other => other.name().trim_end_matches("-ipv6"),
        }
    }

    /// Attributes in libvirt's order.
    pub(super) fn attributes(self) -> Vec<Attribute> {
        let mut all: Vec<Attribute> = Vec::new();
        match self {
            Self::Mac => {
                all.extend(ETHER);
                all.push(("protocolid", Type::Ethernet(0x600)));
            }
            Self::Vlan => {
                all.extend(ETHER);
                all.push(("vlanid", Type::Number(0, 4095)));
                all.push(("encap-protocol", Type::Ethernet(0x3c)));
            }
            Self::Stp => all.extend(STP),
            Self::Arp | Self::Rarp => {
                all.extend(ETHER);
                all.extend(ARP);
            }
            Self::Ip => {
                all.extend(ETHER);
                all.extend(addresses(Type::Ip4, Type::Ip4Mask));
                all.push(("protocol", Type::Protocol));
                all.extend(PORTS);
                all.push(("dscp", DSCP));
            }
            Self::Ipv6 => {
                all.extend(ETHER);
                all.extend(addresses(Type::Ip6, Type::Ip6Mask));
                all.push(("protocol", Type::Protocol));
                all.extend(PORTS);
                all.extend([
                    ("type", BYTE),
                    ("typeend", BYTE),
                    ("code", BYTE),
                    ("codeend", BYTE),
                ]);
            }
            packet => {
                let (address, mask) = if packet.is_v6() {
                    (Type::Ip6, Type::Ip6Mask)
                } else {
                    (Type::Ip4, Type::Ip4Mask)
                };
                all.push(("srcmacaddr", Type::Mac));
                all.extend(addresses(address, mask));
                // libvirt takes an IPv4 address for `dstipto` everywhere.
                all.extend([
                    ("srcipfrom", address),
                    ("srcipto", address),
                    ("dstipfrom", address),
                    ("dstipto", Type::Ip4),
                    ("dscp", DSCP),
                    ("connlimit-above", Type::Decimal(0xffff)),
                    ("state", Type::States),
                    ("ipset", Type::SetName),
                    ("ipsetflags", Type::SetFlags),
                ]);
                match packet {
                    Self::Tcp | Self::TcpIpv6 => {
                        all.extend(PORTS);
                        all.push(("option", BYTE));
                        if packet == Self::Tcp {
                            all.push(("flags", Type::TcpFlags));
                        }
                    }
                    Self::Udp | Self::Sctp | Self::UdpIpv6 | Self::SctpIpv6 => all.extend(PORTS),
                    Self::Icmp | Self::Icmpv6 => all.extend(ICMP),
                    _ => {}
                }
            }
        }
        all.push(("comment", Type::Comment));
        all
    }
}

fn addresses(address: Type, mask: Type) -> [Attribute; 4] {
    [
        ("srcipaddr", address),
        ("dstipaddr", address),
        ("srcipmask", mask),
        ("dstipmask", mask),
    ]
}
