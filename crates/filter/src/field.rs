//! What rules look at: fields of a frame, and of what the host knows about it.

/// Where a raw field begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// The Ethernet header, with the VLAN tag in its place.
    Link,
    /// What follows the Ethernet header and the VLAN tag.
    Network,
    /// What follows the IP header and its extensions.
    Transport,
}

/// A number in a frame, or about it. Addresses are numbers, too, in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Ethernet source.
    EtherSource,
    /// Ethernet destination.
    EtherDestination,
    /// The outermost EtherType; a number below 0x600 is the length of an 802.3 frame.
    EtherType,
    /// EtherType of what the frame carries, behind its tag if it has one (`meta protocol`).
    Carried,
    /// VLAN number.
    VlanId,
    /// VLAN priority, 0 to 7.
    VlanPriority,
    /// EtherType behind the tag.
    VlanCarried,
    /// ARP or RARP: hardware type.
    ArpHardware,
    /// ARP or RARP: EtherType of the addresses.
    ArpProtocol,
    /// ARP or RARP: bytes of a hardware address.
    ArpHardwareLength,
    /// ARP or RARP: bytes of a protocol address.
    ArpProtocolLength,
    /// ARP or RARP: operation.
    ArpOperation,
    /// ARP or RARP: the sender's link-layer address.
    ArpSenderMac,
    /// ARP or RARP: the sender's IPv4 address.
    ArpSenderIp,
    /// ARP or RARP: the target's link-layer address.
    ArpTargetMac,
    /// ARP or RARP: the target's IPv4 address.
    ArpTargetIp,
    /// ARP or RARP: 1 if sender and target have the same IPv4 address.
    ArpGratuitous,
    /// IPv4 source.
    Ip4Source,
    /// IPv4 destination.
    Ip4Destination,
    /// IPv4 protocol.
    Ip4Protocol,
    /// IPv4 type of service, the whole byte.
    Ip4Tos,
    /// IPv4 differentiated services code point.
    Ip4Dscp,
    /// IPv4 congestion bits.
    Ip4Ecn,
    /// IPv4 total length.
    Ip4Length,
    /// IPv4 identification.
    Ip4Id,
    /// IPv4 flags and fragment offset, 16 bits.
    Ip4Fragment,
    /// IPv4 time to live.
    Ip4Ttl,
    /// IPv4 header checksum.
    Ip4Checksum,
    /// IPv6 source.
    Ip6Source,
    /// IPv6 destination.
    Ip6Destination,
    /// The next header that the IPv6 header itself names.
    Ip6NextHeader,
    /// IPv6 traffic class.
    Ip6TrafficClass,
    /// IPv6 differentiated services code point.
    Ip6Dscp,
    /// IPv6 flow label.
    Ip6FlowLabel,
    /// IPv6 payload length.
    Ip6Length,
    /// IPv6 hop limit.
    Ip6HopLimit,
    /// Transport protocol of either IP version, behind extension headers.
    Transport,
    /// Source port, of the named protocol if one is named.
    SourcePort(Option<u8>),
    /// Destination port, of the named protocol if one is named.
    DestinationPort(Option<u8>),
    /// TCP flags.
    TcpFlags,
    /// 1 if the TCP header has this option.
    TcpOption(u8),
    /// ICMP type.
    IcmpType,
    /// ICMP code.
    IcmpCode,
    /// ICMPv6 type.
    Icmp6Type,
    /// ICMPv6 code.
    Icmp6Code,
    /// IGMP type.
    IgmpType,
    /// Bits at a place: start, offset and length in bits.
    Raw(Start, u32, u32),
    /// Bytes of the packet without its Ethernet header.
    Length,
    /// How the frame is addressed: 1 to all, 2 to a group, 3 to one station.
    PacketType,
    /// The packet's mark.
    Mark,
    /// Where the connection stands: see [`crate::connection::State`].
    ConnectionState,
    /// 0 in the direction of the first packet, 1 for replies.
    ConnectionDirection,
    /// 2 for IPv4, 10 for IPv6, as the kernel's address families.
    NetworkFamily,
}

impl Field {
    /// Bits of the field.
    pub fn width(self) -> u32 {
        match self {
            Self::EtherSource
            | Self::EtherDestination
            | Self::ArpSenderMac
            | Self::ArpTargetMac => 48,
            Self::Ip6Source | Self::Ip6Destination => 128,
            Self::ArpSenderIp
            | Self::ArpTargetIp
            | Self::Ip4Source
            | Self::Ip4Destination
            | Self::Mark
            | Self::Length
            | Self::ConnectionState => 32,
            Self::VlanId => 12,
            Self::VlanPriority => 3,
            Self::Ip6FlowLabel => 20,
            Self::Ip4Dscp | Self::Ip6Dscp => 6,
            Self::Ip4Ecn => 2,
            Self::EtherType
            | Self::Carried
            | Self::VlanCarried
            | Self::ArpHardware
            | Self::ArpProtocol
            | Self::ArpOperation
            | Self::Ip4Length
            | Self::Ip4Id
            | Self::Ip4Fragment
            | Self::Ip4Checksum
            | Self::Ip6Length
            | Self::SourcePort(_)
            | Self::DestinationPort(_) => 16,
            Self::Raw(_, _, bits) => bits,
            _ => 8,
        }
    }

    /// Whether it is in the header of IPv4 or IPv6.
    pub fn is_of_ip(self) -> bool {
        matches!(
            self,
            Self::Ip4Source
                | Self::Ip4Destination
                | Self::Ip4Protocol
                | Self::Ip4Tos
                | Self::Ip4Dscp
                | Self::Ip4Ecn
                | Self::Ip4Length
                | Self::Ip4Id
                | Self::Ip4Fragment
                | Self::Ip4Ttl
                | Self::Ip4Checksum
                | Self::Ip6Source
                | Self::Ip6Destination
                | Self::Ip6NextHeader
                | Self::Ip6TrafficClass
                | Self::Ip6Dscp
                | Self::Ip6FlowLabel
                | Self::Ip6Length
                | Self::Ip6HopLimit
        )
    }

    /// A number with all bits of the field set.
    pub fn all_ones(self) -> u128 {
        ones(self.width())
    }
}

/// A number with the lowest bits set.
pub(crate) fn ones(bits: u32) -> u128 {
    if bits >= 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    }
}
