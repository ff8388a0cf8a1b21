//! The pcap format: a header of 24 bytes, then frames, each behind a header of 16.
//! [draft-ietf-opsawg-pcap](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/).

use super::reader::{LENGTH_MAX, PacketItem, Step};
use crate::observation::Way;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// A pcap file whose header was read.
#[derive(Debug)]
pub(super) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of time.
    unit: u64,
    link_type: u32,
}

impl Pcap {
    /// Reads the file's header: it, its bytes, the link type. None until it is whole.
    pub(super) fn begin(bytes: &[u8]) -> Result<Option<(Self, usize, u32)>, ()> {
        let Some(magic) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let (big_endian, unit) = match (u32::from_be_bytes(*magic), u32::from_le_bytes(*magic)) {
            (MICROSECONDS, _) => (true, 1000),
            (NANOSECONDS, _) => (true, 1),
            (_, MICROSECONDS) => (false, 1000),
            (_, NANOSECONDS) => (false, 1),
            _ => return Err(()),
        };
        let mut pcap = Self {
            big_endian,
            unit,
            link_type: 0,
        };
        let Some(link_type) = pcap.word(bytes, 20) else {
            return Ok(None);
        };
        // The upper bits say how long the frame check sequence is.
        pcap.link_type = link_type & 0xffff;
        let link_type = pcap.link_type;
        Ok(Some((pcap, 24, link_type)))
    }

    pub(super) fn step(&self, bytes: &[u8]) -> Step {
        let words = [0, 4, 8, 12].map(|at| self.word(bytes, at));
        let [Some(seconds), Some(rest), Some(captured), Some(length)] = words else {
            return Step::More;
        };
        let captured = captured as usize;
        if captured > LENGTH_MAX {
            return Step::Bad(format!("a frame of {captured} bytes"));
        }
        let Some(frame) = bytes.get(16..16 + captured) else {
            return Step::More;
        };
        let packet = PacketItem {
            interface: 0,
            device_index: 0,
            at_ns: (u64::from(seconds) * 1_000_000_000).saturating_add(u64::from(rest) * self.unit),
            bytes: frame.to_vec(),
            length: (length as usize).max(captured),
            way: Way::Unknown,
            comment: None,
            ethernet: true,
        };
        Step::Frame(16 + captured, packet, self.link_type)
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        })
    }
}
