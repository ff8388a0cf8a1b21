//! Reading of capture files as their bytes come.

use std::net::IpAddr;

use pointsman_wire::Mac;

use super::pcap::Pcap;
use super::pcapng_blocks::Section;
use super::way_of;
use crate::observation::Way;

/// More than this in one block or frame is damage, not data.
pub(super) const LENGTH_MAX: usize = 16 << 20;

const ETHERNET: u32 = 1;
const LINUX_COOKED: u32 = 113;
const LINUX_COOKED_V2: u32 = 276;
/// Packets that start with their IP header: RAW as files have it and as BSDs have it, IPV4, IPV6.
const BARE: [u32; 5] = [101, 12, 14, 228, 229];

/// Why a capture file could not be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Neither format begins like this.
    #[error(
        "not a capture file: it begins with {0:02x?}, and neither pcap nor pcapng does; \
         give what tcpdump -w, dumpcap or `pointsman capture --out` wrote"
    )]
    NotCapture(Vec<u8>),
    /// It ends in the middle of something.
    #[error("the capture file ends at byte {at} in the middle of {what}")]
    Truncated {
        /// Bytes that could be read.
        at: u64,
        /// What is not whole.
        what: &'static str,
    },
    /// It contradicts itself.
    #[error("the capture file is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// Frames of a kind that is not understood.
    #[error(
        "the capture file has frames of link type {0}; Ethernet (1), IP without link layer (101) and \
         Linux cooked (113, 276) can be read"
    )]
    LinkType(u32),
}

/// A place that a file tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointItem {
    /// Number of the interface in the file.
    pub interface: u32,
    /// Number of the device, in captures of several at once; 0 otherwise.
    pub device_index: u32,
    /// Its name.
    pub name: Option<String>,
    /// What else is said of it.
    pub description: Option<String>,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// False for frames that start with their IP header.
    pub ethernet: bool,
}

/// A frame that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketItem {
    /// Number of the interface in the file.
    pub interface: u32,
    /// Number of the device, in captures of several at once; 0 otherwise.
    pub device_index: u32,
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// What was kept of it.
    pub bytes: Vec<u8>,
    /// Its length before it was cut.
    pub length: usize,
    /// Which way it went.
    pub way: Way,
    /// A remark.
    pub comment: Option<String>,
    /// False when it starts with its IP header.
    pub ethernet: bool,
}

/// What a file tells, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A place; it comes before its frames.
    Point(PointItem),
    /// A frame.
    Packet(PacketItem),
    /// How many frames an interface's capture lost so far.
    Lost {
        /// Number of the interface in the file.
        interface: u32,
        /// Frames.
        lost: u64,
    },
}

/// Reads one file or stream, however its bytes are cut.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    used: usize,
    /// Bytes before the buffer.
    before: u64,
    format: Format,
    /// Made of one thing in the file.
    ready: std::collections::VecDeque<Item>,
    /// Devices of cooked captures that were told of.
    devices: Vec<(u32, u32)>,
    interfaces: u32,
    failed: Option<CaptureError>,
}

#[derive(Debug, Default)]
enum Format {
    #[default]
    Unknown,
    Pcap(Pcap),
    Pcapng(Section),
}

/// What one step of a format found.
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// Something of so many bytes that matters to nobody.
    Skip(usize),
    /// An interface and its link type.
    Interface(usize, PointItem, u32),
    /// A frame and its link type.
    Frame(usize, PacketItem, u32),
    /// How many frames were lost.
    Lost(usize, u32, u64),
    /// What is wrong.
    Bad(String),
}

impl Reader {
    /// A reader of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.before += self.used as u64;
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing that is whole; none until more bytes come.
    #[expect(
        clippy::should_implement_trait,
        reason = "more bytes may come after none"
    )]
    pub fn next(&mut self) -> Result<Option<Item>, CaptureError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// Says whether the file could end here.
    pub fn finish(&self) -> Result<(), CaptureError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let rest = &self.buffer[self.used..];
        let at = self.before + self.used as u64;
        let what = match &self.format {
            Format::Unknown if at == 0 && rest.is_empty() => "its header; it is empty",
            Format::Unknown => "its header",
            _ if rest.is_empty() => return Ok(()),
            Format::Pcap(_) => "a frame",
            Format::Pcapng(_) => "a block",
        };
        Err(CaptureError::Truncated {
            at: at + rest.len() as u64,
            what,
        })
    }

    fn step(&mut self) -> Result<bool, CaptureError> {
        let rest = &self.buffer[self.used..];
        let at = self.before + self.used as u64;
        let damaged = |what: String| CaptureError::Damaged { at, what };
        let step = match &mut self.format {
            Format::Unknown => {
                let Some(magic) = rest.first_chunk::<4>() else {
                    return Ok(false);
                };
                if let Some(section) = Section::begin(*magic) {
                    self.format = Format::Pcapng(section);
                    return Ok(true);
                }
                match Pcap::begin(rest) {
                    Ok(Some((pcap, used, link_type))) => {
                        self.format = Format::Pcap(pcap);
                        let point = PointItem {
                            interface: 0,
                            device_index: 0,
                            name: None,
                            description: None,
                            mac: None,
                            addresses: Vec::new(),
                            ethernet: true,
                        };
                        Step::Interface(used, point, link_type)
                    }
                    Ok(None) => return Ok(false),
                    Err(()) => return Err(CaptureError::NotCapture(magic.to_vec())),
                }
            }
            Format::Pcap(pcap) => pcap.step(rest),
            Format::Pcapng(section) => section.step(rest, self.interfaces),
        };
        let used = match step {
            Step::More => return Ok(false),
            Step::Skip(used) => used,
            Step::Bad(what) => return Err(damaged(what)),
            Step::Interface(used, mut point, link_type) => {
                self.interfaces = self.interfaces.max(point.interface + 1);
                match link_type {
                    ETHERNET | LINUX_COOKED => self.ready.push_back(Item::Point(point)),
                    kind if BARE.contains(&kind) => {
                        point.ethernet = false;
                        self.ready.push_back(Item::Point(point));
                    }
                    // Its devices are told of when frames name them.
                    LINUX_COOKED_V2 => {}
                    kind => return Err(CaptureError::LinkType(kind)),
                }
                used
            }
            Step::Frame(used, packet, link_type) => {
                self.frame(packet, link_type);
                used
            }
            Step::Lost(used, interface, lost) => {
                self.ready.push_back(Item::Lost { interface, lost });
                used
            }
        };
        self.used += used;
        Ok(true)
    }

    fn frame(&mut self, mut packet: PacketItem, link_type: u32) {
        packet.ethernet = !BARE.contains(&link_type);
        let (header, protocol_at, kind, source_at) = match link_type {
            LINUX_COOKED => (16, 14, 0, 6),
            LINUX_COOKED_V2 => (20, 0, 10, 12),
            _ => {
                self.ready.push_back(Item::Packet(packet));
                return;
            }
        };
        let Some((cooked, payload)) = packet.bytes.split_at_checked(header) else {
            return;
        };
        let word = |at: usize| u16::from_be_bytes([cooked[at], cooked[at + 1]]);
        if link_type == LINUX_COOKED_V2 {
            let index = u32::from_be_bytes([cooked[4], cooked[5], cooked[6], cooked[7]]);
            packet.device_index = index;
            packet.way = way_of(u16::from(cooked[kind]));
            let device = (packet.interface, index);
            // A damaged file must not make a point of every frame.
            if !self.devices.contains(&device) && self.devices.len() < 4096 {
                self.devices.push(device);
                self.ready.push_back(Item::Point(PointItem {
                    interface: packet.interface,
                    device_index: index,
                    name: None,
                    description: None,
                    mac: None,
                    addresses: Vec::new(),
                    ethernet: true,
                }));
            }
        } else {
            packet.way = way_of(word(kind));
        }
        // The header in such captures tells the source and not the destination.
        let mut bytes = vec![0; 6];
        bytes.extend_from_slice(&cooked[source_at..source_at + 6]);
        bytes.extend_from_slice(&cooked[protocol_at..protocol_at + 2]);
        bytes.extend_from_slice(payload);
        packet.length = (packet.length + 14).saturating_sub(header).max(bytes.len());
        packet.bytes = bytes;
        self.ready.push_back(Item::Packet(packet));
    }
}
