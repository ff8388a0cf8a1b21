//! The IP headers a frame is built with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::address::ipv6_words;
use crate::bytes::{Be16, Be32};
use crate::ipv4::Ipv4;
use crate::ipv6::{self, Ipv6, Ipv6Fragment};
use crate::segment::{field, fill};

/// The IP header of a [`Frame`](crate::build::Frame), to be written in front of its payload.
#[derive(Debug, Clone)]
pub(crate) struct IpPart {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u32,
    /// Of IPv6.
    pub(crate) flow_label: u32,
    pub(crate) dont_fragment: bool,
    /// Offset in bytes, and whether more follow.
    pub(crate) fragment: Option<(u32, bool)>,
    /// Of IPv4.
    pub(crate) options: Vec<u8>,
    /// Of IPv6: number and all bytes, the first of them open.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// Where a routing header's journey ends.
    pub(crate) last_stop: Option<Ipv6Addr>,
}

impl IpPart {
    pub(crate) fn new(source: IpAddr, destination: IpAddr) -> Self {
        Self {
            source,
            destination,
            tos: 0,
            ttl: 64,
            id: 1,
            flow_label: 0,
            dont_fragment: false,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            last_stop: None,
        }
    }

    /// Header and payload; `number` is the payload's protocol.
    pub(crate) fn packet(
        &self,
        number: u8,
        payload: &[u8],
        fragment: Option<(u32, bool)>,
    ) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.packet_v4(source, destination, number, payload, fragment)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.packet_v6(source, destination, number, payload, fragment)
            }
            _ => unreachable!("`Frame::ip` saw to it"),
        }
    }

    fn packet_v4(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        number: u8,
        payload: &[u8],
        fragment: Option<(u32, bool)>,
    ) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        assert!(
            options.len() <= 40,
            "IPv4 options take {} bytes, 40 is the most",
            options.len()
        );
        let header_length = Ipv4::LEN as usize + options.len();
        let (offset, more) = fragment.unwrap_or_default();
        let mut word = field((offset / 8) as usize, "a fragment offset") & Ipv4::OFFSET;
        assert_eq!(
            u32::from(word) * 8,
            offset,
            "a fragment can't start at byte {offset}"
        );
        if more {
            word |= Ipv4::MORE_FRAGMENTS;
        }
        if self.dont_fragment {
            word |= Ipv4::DONT_FRAGMENT;
        }
        let header = Ipv4 {
            version_length: 0x40 | (header_length / 4) as u8,
            tos: self.tos,
            total_length: Be16::new(field(header_length + payload.len(), "an IPv4 packet")),
            id: Be16::new(self.id as u16),
            fragment: Be16::new(word),
            ttl: self.ttl,
            protocol: number,
            checksum: Be16::new(0),
            source: source.into(),
            destination: destination.into(),
        };
        let mut bytes = [header.as_bytes(), &options].concat();
        fill(&mut bytes, 0, 10);
        bytes.extend(payload);
        bytes
    }

    fn packet_v6(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        number: u8,
        payload: &[u8],
        fragment: Option<(u32, bool)>,
    ) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some((offset, more)) = fragment {
            let offset = field(offset as usize, "a fragment offset") | u16::from(more);
            let header = Ipv6Fragment {
                next_header: 0,
                reserved: 0,
                offset: Be16::new(offset),
                id: Be32::new(self.id),
            };
            extensions.push((ipv6::FRAGMENT, header.as_bytes().to_vec()));
        }
        let mut next = number;
        for (number, bytes) in extensions.iter_mut().rev() {
            bytes[0] = next;
            next = *number;
        }
        let mut behind: Vec<u8> = extensions
            .into_iter()
            .flat_map(|(_, bytes)| bytes)
            .collect();
        behind.extend(payload);
        let header = Ipv6 {
            version_class_flow: Be32::new(6 << 28 | u32::from(self.tos) << 20 | self.flow_label),
            payload_length: Be16::new(field(behind.len(), "an IPv6 payload")),
            next_header: next,
            hop_limit: self.ttl,
            source: ipv6_words(source),
            destination: ipv6_words(destination),
        };
        [header.as_bytes(), &behind].concat()
    }
}
