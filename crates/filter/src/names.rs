//! Names of numbers that filter tools print and read.

/// EtherTypes of `/etc/ethertypes` as Debian's iptables package has it.
const ETHERTYPES: &[(&str, u16)] = &[
    ("IPv4", 0x0800),
    ("X25", 0x0805),
    ("ARP", 0x0806),
    ("FR_ARP", 0x0808),
    ("BPQ", 0x08ff),
    ("TRILL", 0x22f3),
    ("L2-IS-IS", 0x22f4),
    ("DEC", 0x6000),
    ("DNA_DL", 0x6001),
    ("DNA_RC", 0x6002),
    ("DNA_RT", 0x6003),
    ("LAT", 0x6004),
    ("DIAG", 0x6005),
    ("CUST", 0x6006),
    ("SCA", 0x6007),
    ("TEB", 0x6558),
    ("RAW_FR", 0x6559),
    ("RARP", 0x8035),
    ("AARP", 0x80f3),
    ("ATALK", 0x809b),
    ("802_1Q", 0x8100),
    ("IPX", 0x8137),
    ("NetBEUI", 0x8191),
    ("IPv6", 0x86dd),
    ("PPP", 0x880b),
    ("MPLS", 0x8847),
    ("MPLS_MULTI", 0x8848),
    ("ATMMPOA", 0x884c),
    ("PPP_DISC", 0x8863),
    ("PPP_SES", 0x8864),
    ("ATMFATE", 0x8884),
    ("EAPOL", 0x888e),
    ("S-TAG", 0x88a8),
    ("EAP_PREAUTH", 0x88c7),
    ("LLDP", 0x88cc),
    ("MACSEC", 0x88e5),
    ("PBB", 0x88e7),
    ("MVRP", 0x88f5),
    ("PTP", 0x88f7),
    ("FCOE", 0x8906),
    ("FIP", 0x8914),
    ("ROCE", 0x8915),
];

/// IP protocols that the tools know by name, of `/etc/protocols`.
const PROTOCOLS: &[(&str, u8)] = &[
    ("ip", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ipv6-crypt", 50),
    ("ah", 51),
    ("ipv6-auth", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipcomp", 108),
    ("comp", 108),
    ("pim", 103),
    ("vrrp", 112),
    ("carp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mh", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
];

/// Services that `nft` and `iptables` may print instead of a port.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("ntp", 123),
    ("snmp", 161),
    ("https", 443),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
];

/// ICMP types by the names of iptables and nft: type, and code if the name has one.
const ICMP: &[(&str, u8, Option<u8>)] = &[
    ("echo-reply", 0, None),
    ("pong", 0, None),
    ("destination-unreachable", 3, None),
    ("network-unreachable", 3, Some(0)),
    ("host-unreachable", 3, Some(1)),
    ("protocol-unreachable", 3, Some(2)),
    ("port-unreachable", 3, Some(3)),
    ("fragmentation-needed", 3, Some(4)),
    ("source-route-failed", 3, Some(5)),
    ("network-unknown", 3, Some(6)),
    ("host-unknown", 3, Some(7)),
    ("network-prohibited", 3, Some(9)),
    ("host-prohibited", 3, Some(10)),
    ("TOS-network-unreachable", 3, Some(11)),
    ("TOS-host-unreachable", 3, Some(12)),
    ("communication-prohibited", 3, Some(13)),
    ("host-precedence-violation", 3, Some(14)),
    ("precedence-cutoff", 3, Some(15)),
    ("source-quench", 4, None),
    ("redirect", 5, None),
    ("network-redirect", 5, Some(0)),
    ("host-redirect", 5, Some(1)),
    ("TOS-network-redirect", 5, Some(2)),
    ("TOS-host-redirect", 5, Some(3)),
    ("echo-request", 8, None),
    ("ping", 8, None),
    ("router-advertisement", 9, None),
    ("router-solicitation", 10, None),
    ("time-exceeded", 11, None),
    ("ttl-exceeded", 11, None),
    ("ttl-zero-during-transit", 11, Some(0)),
    ("ttl-zero-during-reassembly", 11, Some(1)),
    ("parameter-problem", 12, None),
    ("ip-header-bad", 12, Some(0)),
    ("required-option-missing", 12, Some(1)),
    ("timestamp-request", 13, None),
    ("timestamp-reply", 14, None),
    ("info-request", 15, None),
    ("info-reply", 16, None),
    ("address-mask-request", 17, None),
    ("address-mask-reply", 18, None),
];

/// ICMPv6 types by the names of ip6tables and nft.
const ICMPV6: &[(&str, u8, Option<u8>)] = &[
    ("destination-unreachable", 1, None),
    ("no-route", 1, Some(0)),
    ("communication-prohibited", 1, Some(1)),
    ("beyond-scope", 1, Some(2)),
    ("address-unreachable", 1, Some(3)),
    ("port-unreachable", 1, Some(4)),
    ("failed-policy", 1, Some(5)),
    ("reject-route", 1, Some(6)),
    ("packet-too-big", 2, None),
    ("time-exceeded", 3, None),
    ("ttl-exceeded", 3, None),
    ("ttl-zero-during-transit", 3, Some(0)),
    ("ttl-zero-during-reassembly", 3, Some(1)),
    ("parameter-problem", 4, None),
    ("bad-header", 4, Some(0)),
    ("unknown-header-type", 4, Some(1)),
    ("unknown-option", 4, Some(2)),
    ("echo-request", 128, None),
    ("ping", 128, None),
    ("echo-reply", 129, None),
    ("pong", 129, None),
    ("mld-listener-query", 130, None),
    ("mld-listener-report", 131, None),
    ("mld-listener-done", 132, None),
    ("mld-listener-reduction", 132, None),
    ("nd-router-solicit", 133, None),
    ("router-solicitation", 133, None),
    ("nd-router-advert", 134, None),
    ("router-advertisement", 134, None),
    ("nd-neighbor-solicit", 135, None),
    ("neighbour-solicitation", 135, None),
    ("neighbor-solicitation", 135, None),
    ("nd-neighbor-advert", 136, None),
    ("neighbour-advertisement", 136, None),
    ("neighbor-advertisement", 136, None),
    ("nd-redirect", 137, None),
    ("redirect", 137, None),
    ("mld2-listener-report", 143, None),
];

/// ARP operations by the names of ebtables, in their order from 1.
const ARP_OPERATIONS: &[&str] = &[
    "Request",
    "Reply",
    "Request_Reverse",
    "Reply_Reverse",
    "DRARP_Request",
    "DRARP_Reply",
    "DRARP_Error",
    "InARP_Request",
    "ARP_NAK",
];

/// Code points by name, RFC 2474, 2597, 3246.
const DSCP: &[(&str, u8)] = &[
    ("cs0", 0),
    ("be", 0),
    ("lephb", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("voice-admit", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

/// The EtherType of a name, in any case.
pub(crate) fn ethertype(name: &str) -> Option<u16> {
    ETHERTYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|&(_, number)| number)
}

/// How ebtables prints an EtherType.
pub(crate) fn ethertype_name(number: u16) -> String {
    ETHERTYPES
        .iter()
        .find(|&&(_, known)| known == number)
        .map_or_else(|| format!("{number:#x}"), |(name, _)| (*name).to_owned())
}

/// The IP protocol of a name or number.
pub(crate) fn protocol(name: &str) -> Option<u8> {
    PROTOCOLS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|&(_, number)| number)
        .or_else(|| number(name).and_then(|number| u8::try_from(number).ok()))
}

/// The name that nft and ebtables print for an IP protocol.
pub(crate) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        2 => "igmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        50 => "esp".into(),
        51 => "ah".into(),
        58 => "ipv6-icmp".into(),
        108 => "comp".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}

/// A port, by number or name.
pub(crate) fn port(name: &str) -> Option<u16> {
    SERVICES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, number)| number)
        .or_else(|| number(name).and_then(|number| u16::try_from(number).ok()))
}

/// ICMP type and code of a name.
pub(crate) fn icmp(name: &str, v6: bool) -> Option<(u8, Option<u8>)> {
    let table = if v6 { ICMPV6 } else { ICMP };
    table
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|&(_, kind, code)| (kind, code))
}

/// The name that nft prints for an ICMP type.
pub(crate) fn icmp_name(kind: u8, v6: bool) -> Option<&'static str> {
    let table = if v6 { ICMPV6 } else { ICMP };
    table
        .iter()
        .find(|(name, known, code)| *known == kind && code.is_none() && *name != "pong")
        .map(|(name, ..)| *name)
}

/// An ARP operation, by number or name.
pub(crate) fn arp_operation(name: &str) -> Option<u16> {
    ARP_OPERATIONS
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
        .map(|at| at as u16 + 1)
        .or_else(|| number(name).and_then(|number| u16::try_from(number).ok()))
}

/// How ebtables prints an ARP operation.
pub(crate) fn arp_operation_name(number: u16) -> String {
    number
        .checked_sub(1)
        .and_then(|at| ARP_OPERATIONS.get(usize::from(at)))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// A code point, by number or name.
pub(crate) fn dscp(name: &str) -> Option<u8> {
    DSCP.iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|&(_, number)| number)
        .or_else(|| number(name).and_then(|number| u8::try_from(number).ok()))
        .filter(|&number| number < 64)
}

/// How nft prints a code point.
pub(crate) fn dscp_name(number: u8) -> String {
    DSCP.iter()
        .find(|&&(name, known)| known == number && name != "be")
        .map_or_else(|| format!("{number:#04x}"), |(name, _)| (*name).to_owned())
}

/// A number, decimal or with `0x`.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}
