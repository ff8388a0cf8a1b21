//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the part both share.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{Be16, Be32};

/// ICMP echo reply.
pub const V4_ECHO_REPLY: u8 = 0;
/// ICMP echo request.
pub const V4_ECHO_REQUEST: u8 = 8;
/// ICMP destination unreachable.
pub const V4_UNREACHABLE: u8 = 3;
/// ICMP source quench (deprecated, still recognised by IPVS).
pub const V4_SOURCE_QUENCH: u8 = 4;
/// ICMP redirect.
pub const V4_REDIRECT: u8 = 5;
/// ICMP time exceeded.
pub const V4_TIME_EXCEEDED: u8 = 11;
/// ICMP parameter problem.
pub const V4_PARAMETER_PROBLEM: u8 = 12;
/// Code of [`V4_UNREACHABLE`]: port unreachable.
pub const V4_CODE_PORT: u8 = 3;
/// Code of [`V4_UNREACHABLE`]: fragmentation needed, MTU in the low half of `rest`.
pub const V4_CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// ICMPv6 destination unreachable.
pub const V6_UNREACHABLE: u8 = 1;
/// Code of [`V6_UNREACHABLE`]: port unreachable.
pub const V6_CODE_PORT: u8 = 4;
/// ICMPv6 packet too big, MTU in `rest`.
pub const V6_TOO_BIG: u8 = 2;
/// ICMPv6 time exceeded.
pub const V6_TIME_EXCEEDED: u8 = 3;
/// ICMPv6 parameter problem.
pub const V6_PARAMETER_PROBLEM: u8 = 4;
/// ICMPv6 echo request.
pub const V6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 echo reply.
pub const V6_ECHO_REPLY: u8 = 129;
/// ICMPv6 neighbor solicitation (RFC 4861).
pub const V6_NEIGHBOR_SOLICITATION: u8 = 135;
/// ICMPv6 neighbor advertisement (RFC 4861).
pub const V6_NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Flag in `rest` of a neighbor advertisement: the sender is a router.
pub const NEIGHBOR_ROUTER: u32 = 1 << 31;
/// Flag in `rest` of a neighbor advertisement: forget another link-layer address.
pub const NEIGHBOR_OVERRIDE: u32 = 1 << 29;

/// The header of an ICMP or ICMPv6 message, 8 bytes; an error quotes the packet behind it.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum (ICMPv6: with pseudo header).
    pub checksum: Be16,
    /// Depends on the type.
    pub rest: Be32,
}

impl Icmp {
    /// Bytes of the header.
    pub const LEN: u32 = 8;
    /// Where the checksum lies in the header, bytes.
    pub const CHECKSUM: u32 = 2;
}
