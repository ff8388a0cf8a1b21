//! IP protocol numbers of what the project reads; the IPv6 header numbers are in [`crate::ipv6`].

/// ICMP, RFC 792.
pub const ICMP: u8 = 1;
/// IPv4 in IP, RFC 2003.
pub const IPV4: u8 = 4;
/// TCP, RFC 9293.
pub const TCP: u8 = 6;
/// UDP, RFC 768.
pub const UDP: u8 = 17;
/// IPv6 in IP, RFC 2473.
pub const IPV6: u8 = 41;
/// GRE, RFC 2784.
pub const GRE: u8 = 47;
/// ICMPv6, RFC 4443.
pub const ICMPV6: u8 = 58;
/// VRRP, RFC 9568.
pub const VRRP: u8 = 112;
/// SCTP, RFC 9260.
pub const SCTP: u8 = 132;
