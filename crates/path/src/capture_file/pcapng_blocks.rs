//! The pcapng format: sections of blocks, each with its length at both ends.
//! [draft-ietf-opsawg-pcapng](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/).

use std::net::IpAddr;

use pointsman_wire::Mac;

use super::reader::{LENGTH_MAX, PacketItem, PointItem, Step};
use crate::observation::Way;

const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// More interfaces than this are damage.
const INTERFACES_MAX: usize = 4096;

/// An interface as its block described it.
#[derive(Debug, Clone)]
struct Interface {
    /// Its number in the whole file; sections count anew.
    number: u32,
    link_type: u32,
    /// Units of time in a second.
    units: u64,
    /// Seconds to add.
    offset: i64,
    snaplen: u32,
}

/// The section that is being read.
#[derive(Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

impl Section {
    /// A reader, if the file begins as pcapng does.
    pub(super) fn begin(magic: [u8; 4]) -> Option<Self> {
        (magic == SECTION).then(Self::default)
    }

    /// Reads one block; `known` interfaces were in the file so far.
    pub(super) fn step(&mut self, bytes: &[u8], known: u32) -> Step {
        let Some(head) = bytes.first_chunk::<12>() else {
            return Step::More;
        };
        if head[..4] == SECTION {
            let magic = [head[8], head[9], head[10], head[11]];
            self.big_endian = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
                (BYTE_ORDER_MAGIC, _) => true,
                (_, BYTE_ORDER_MAGIC) => false,
                _ => return Step::Bad(format!("a byte-order mark of {magic:02x?}")),
            };
        }
        let (Some(kind), Some(length)) = (self.word(bytes, 0), self.word(bytes, 4)) else {
            return Step::More;
        };
        let length = length as usize;
        if length < 12 || !length.is_multiple_of(4) || length > LENGTH_MAX {
            return Step::Bad(format!("a block of {length} bytes"));
        }
        let Some(block) = bytes.get(..length) else {
            return Step::More;
        };
        if self.word(block, length - 4) != Some(length as u32) {
            return Step::Bad("a block whose two lengths differ".to_owned());
        }
        let body = &block[8..length - 4];
        let step = match kind {
            SECTION_HEADER => {
                self.interfaces.clear();
                Some(Step::Skip(length))
            }
            INTERFACE => self.interface(length, body, known),
            ENHANCED_PACKET => self.packet(length, body),
            OLD_PACKET => self.old_packet(length, body),
            SIMPLE_PACKET => self.simple_packet(length, body),
            STATISTICS => self.statistics(length, body),
            _ => Some(Step::Skip(length)),
        };
        step.unwrap_or_else(|| Step::Bad(format!("a block of type {kind} that is too short")))
    }

    fn interface(&mut self, length: usize, body: &[u8], known: u32) -> Option<Step> {
        let mut interface = Interface {
            number: known,
            link_type: u32::from(self.half(body, 0)?),
            units: 1_000_000,
            offset: 0,
            snaplen: self.word(body, 4)?,
        };
        let mut point = PointItem {
            interface: known,
            device_index: 0,
            name: None,
            description: None,
            mac: None,
            addresses: Vec::new(),
            ethernet: true,
        };
        let text = |value: &[u8]| Some(String::from_utf8_lossy(value).into_owned());
        for (code, value) in self.options(body, 8) {
            match code {
                2 => point.name = text(value),
                3 => point.description = text(value),
                4 => {
                    let address = value.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
                    point.addresses.extend(address);
                }
                5 => {
                    let address = value
                        .first_chunk::<16>()
                        .map(|octets| IpAddr::from(*octets));
                    point.addresses.extend(address);
                }
                6 => point.mac = value.first_chunk::<6>().map(|bytes| Mac(*bytes)),
                9 => {
                    let Some(units) = value.first().and_then(|value| units(*value)) else {
                        return Some(Step::Bad(
                            "a resolution of time that is too fine".to_owned(),
                        ));
                    };
                    interface.units = units;
                }
                14 => {
                    let offset = value.first_chunk::<8>()?;
                    interface.offset = if self.big_endian {
                        i64::from_be_bytes(*offset)
                    } else {
                        i64::from_le_bytes(*offset)
                    };
                }
                _ => {}
            }
        }
        if self.interfaces.len() >= INTERFACES_MAX || known as usize >= INTERFACES_MAX {
            return Some(Step::Bad(format!("more than {INTERFACES_MAX} interfaces")));
        }
        let link_type = interface.link_type;
        self.interfaces.push(interface);
        Some(Step::Interface(length, point, link_type))
    }

    fn packet(&self, length: usize, body: &[u8]) -> Option<Step> {
        let number = self.word(body, 0)?;
        let time = [self.word(body, 4)?, self.word(body, 8)?];
        let sizes = [self.word(body, 12)?, self.word(body, 16)?];
        Some(self.frame(length, number, time, sizes, body.get(20..)?))
    }

    fn old_packet(&self, length: usize, body: &[u8]) -> Option<Step> {
        let number = u32::from(self.half(body, 0)?);
        let time = [self.word(body, 4)?, self.word(body, 8)?];
        let sizes = [self.word(body, 12)?, self.word(body, 16)?];
        Some(self.frame(length, number, time, sizes, body.get(20..)?))
    }

    /// A frame of the first interface without a time.
    fn simple_packet(&self, length: usize, body: &[u8]) -> Option<Step> {
        let whole = self.word(body, 0)?;
        let room = body.len() - 4;
        let mut captured = whole.min(room as u32);
        if let Some(snaplen) = self.interfaces.first().map(|first| first.snaplen)
            && snaplen > 0
        {
            captured = captured.min(snaplen);
        }
        Some(self.frame(length, 0, [0, 0], [captured, whole], &body[4..]))
    }

    fn frame(
        &self,
        length: usize,
        number: u32,
        [high, low]: [u32; 2],
        [captured, whole]: [u32; 2],
        data: &[u8],
    ) -> Step {
        let Some(interface) = self.interfaces.get(number as usize) else {
            return Step::Bad(format!(
                "a frame of interface {number}, which is not described"
            ));
        };
        let Some(bytes) = data.get(..captured as usize) else {
            return Step::Bad(format!(
                "a frame of {captured} bytes in a block of {length}"
            ));
        };
        let time = u64::from(high) << 32 | u64::from(low);
        let at_ns = u128::from(time) * 1_000_000_000 / u128::from(interface.units);
        let seconds = interface.offset.saturating_mul(1_000_000_000);
        let at_ns = u64::try_from(at_ns)
            .unwrap_or(u64::MAX)
            .saturating_add_signed(seconds);
        let mut packet = PacketItem {
            interface: interface.number,
            device_index: 0,
            at_ns,
            bytes: bytes.to_vec(),
            length: (whole as usize).max(bytes.len()),
            way: Way::Unknown,
            comment: None,
            ethernet: true,
        };
        for (code, value) in self.options(data, (captured as usize).next_multiple_of(4)) {
            match code {
                1 => packet.comment = Some(String::from_utf8_lossy(value).into_owned()),
                2 => {
                    let flags = self.word(value, 0).unwrap_or(0);
                    packet.way = match (flags & 3, flags >> 2 & 7) {
                        (1, 4) => Way::OtherHost,
                        (1, _) => Way::In,
                        (2, _) => Way::Out,
                        _ => Way::Unknown,
                    };
                }
                _ => {}
            }
        }
        Step::Frame(length, packet, interface.link_type)
    }

    fn statistics(&self, length: usize, body: &[u8]) -> Option<Step> {
        let number = self.word(body, 0)?;
        let dropped = self.options(body, 12).find(|(code, _)| *code == 5);
        let lost = dropped
            .and_then(|(_, value)| value.first_chunk::<8>())
            .map(|lost| {
                if self.big_endian {
                    u64::from_be_bytes(*lost)
                } else {
                    u64::from_le_bytes(*lost)
                }
            });
        let interface = self.interfaces.get(number as usize);
        Some(match (interface, lost) {
            (Some(interface), Some(lost)) => Step::Lost(length, interface.number, lost),
            _ => Step::Skip(length),
        })
    }

    /// The options from an offset on; stops at their end or at nonsense.
    fn options<'a>(
        &'a self,
        body: &'a [u8],
        at: usize,
    ) -> impl Iterator<Item = (u16, &'a [u8])> + 'a {
        let mut rest = body.get(at..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (code, length) = (self.half(rest, 0)?, usize::from(self.half(rest, 2)?));
            if code == 0 {
                return None;
            }
            let value = rest.get(4..4 + length)?;
            rest = rest
                .get(4 + length.next_multiple_of(4)..)
                .unwrap_or_default();
            Some((code, value))
        })
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        })
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let half = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.big_endian {
            u16::from_be_bytes(half)
        } else {
            u16::from_le_bytes(half)
        })
    }
}

/// Units in a second: a power of ten, or of two when the highest bit is set.
fn units(resolution: u8) -> Option<u64> {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 == 0 {
        10_u64.checked_pow(exponent)
    } else {
        2_u64.checked_pow(exponent)
    }
}
