//! The parts a [`Frame`](crate::build::Frame) can carry: what follows its IP header.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::bytes::{Be16, Be32};
use crate::checksum;
use crate::icmp::Icmp;
use crate::protocol;
use crate::sctp::{self, Sctp};
use crate::tcp::{self, Tcp};
use crate::udp::Udp;

/// Source and destination that the pseudo header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6; the destination behind a routing header's last stop.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// The sum of the pseudo header, for [`checksum::add`]; `length` in bytes.
    pub fn pseudo_header(&self, protocol: u8, length: usize) -> u32 {
        let length = length as u32;
        match self {
            Self::V4(source, destination) => {
                checksum::pseudo_header(&source.octets(), &destination.octets(), protocol, length)
            }
            Self::V6(source, destination) => {
                checksum::pseudo_header(&source.octets(), &destination.octets(), protocol, length)
            }
        }
    }
}

/// A header that can stand between IP and the payload.
pub trait Segment {
    /// Its IP protocol number.
    fn protocol(&self, addresses: &Addresses) -> u8;
    /// Header and payload, lengths and checksum filled in.
    fn bytes(&self, addresses: &Addresses, payload: &[u8]) -> Vec<u8>;
}

/// No header: the payload follows IP.
#[derive(Debug, Clone)]
pub struct RawPart {
    pub(crate) protocol: u8,
}

impl Segment for RawPart {
    fn protocol(&self, _: &Addresses) -> u8 {
        self.protocol
    }

    fn bytes(&self, _: &Addresses, payload: &[u8]) -> Vec<u8> {
        payload.to_vec()
    }
}

/// A TCP header.
#[derive(Debug, Clone)]
pub struct TcpPart {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
}

impl Segment for TcpPart {
    fn protocol(&self, _: &Addresses) -> u8 {
        protocol::TCP
    }

    fn bytes(&self, addresses: &Addresses, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), tcp::OPTION_END);
        assert!(
            options.len() <= 40,
            "TCP options take {} bytes, 40 is the most",
            options.len()
        );
        let header = Tcp {
            source: Be16::new(self.ports.0),
            destination: Be16::new(self.ports.1),
            sequence: Be32::new(self.sequence),
            acknowledgement: Be32::new(self.acknowledgement),
            offset: (((Tcp::LEN as usize + options.len()) / 4) << 4) as u8,
            flags: self.flags,
            window: Be16::new(self.window),
            checksum: Be16::new(0),
            urgent: Be16::new(self.urgent),
        };
        let mut bytes = [header.as_bytes(), &options, payload].concat();
        let sum = addresses.pseudo_header(protocol::TCP, bytes.len());
        fill(&mut bytes, sum, Tcp::CHECKSUM);
        bytes
    }
}

/// A UDP header.
#[derive(Debug, Clone)]
pub struct UdpPart {
    pub(crate) ports: (u16, u16),
    pub(crate) checksummed: bool,
}

impl Segment for UdpPart {
    fn protocol(&self, _: &Addresses) -> u8 {
        protocol::UDP
    }

    fn bytes(&self, addresses: &Addresses, payload: &[u8]) -> Vec<u8> {
        let length = Udp::LEN as usize + payload.len();
        let header = Udp {
            source: Be16::new(self.ports.0),
            destination: Be16::new(self.ports.1),
            length: Be16::new(field(length, "a UDP packet")),
            checksum: Be16::new(0),
        };
        let mut bytes = [header.as_bytes(), payload].concat();
        if self.checksummed {
            let sum = addresses.pseudo_header(protocol::UDP, length);
            fill(&mut bytes, sum, Udp::CHECKSUM);
            let checksum = &mut bytes[Udp::CHECKSUM as usize..][..2];
            if checksum == [0, 0] {
                checksum.copy_from_slice(&[0xff, 0xff]);
            }
        }
        bytes
    }
}

/// An ICMP header in IPv4, an ICMPv6 header in IPv6.
#[derive(Debug, Clone)]
pub struct IcmpPart {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) rest: u32,
}

impl Segment for IcmpPart {
    fn protocol(&self, addresses: &Addresses) -> u8 {
        match addresses {
            Addresses::V4(..) => protocol::ICMP,
            Addresses::V6(..) => protocol::ICMPV6,
        }
    }

    fn bytes(&self, addresses: &Addresses, payload: &[u8]) -> Vec<u8> {
        let header = Icmp {
            kind: self.kind,
            code: self.code,
            checksum: Be16::new(0),
            rest: Be32::new(self.rest),
        };
        let mut bytes = [header.as_bytes(), payload].concat();
        let sum = match addresses {
            Addresses::V4(..) => 0,
            Addresses::V6(..) => addresses.pseudo_header(protocol::ICMPV6, bytes.len()),
        };
        fill(&mut bytes, sum, Icmp::CHECKSUM);
        bytes
    }
}

/// An SCTP common header; the payload is its chunks.
#[derive(Debug, Clone)]
pub struct SctpPart {
    pub(crate) ports: (u16, u16),
    pub(crate) tag: u32,
}

impl Segment for SctpPart {
    fn protocol(&self, _: &Addresses) -> u8 {
        protocol::SCTP
    }

    fn bytes(&self, _: &Addresses, payload: &[u8]) -> Vec<u8> {
        let mut header = Sctp {
            source: Be16::new(self.ports.0),
            destination: Be16::new(self.ports.1),
            tag: Be32::new(self.tag),
            checksum: [0; 4],
        };
        header.checksum = sctp::crc32c(&[header.as_bytes(), payload]).to_le_bytes();
        [header.as_bytes(), payload].concat()
    }
}

/// Stores the checksum of `bytes` and what is in `sum` at byte `at`, where zeros lie.
pub(crate) fn fill(bytes: &mut [u8], sum: u32, at: u32) {
    let checksum = !checksum::fold(checksum::add(sum, bytes));
    bytes[at as usize..][..2].copy_from_slice(&checksum.to_ne_bytes());
}

/// A length that has to fit its 16-bit field.
pub(crate) fn field(length: usize, what: &str) -> u16 {
    match u16::try_from(length) {
        Ok(length) => length,
        Err(_) => panic!("{what} of {length} bytes does not fit its length field"),
    }
}
