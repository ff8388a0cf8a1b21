//! Capture files: a recording as one pcapng file with an interface for each point, and recordings
//! read from pcapng and pcap files of whichever program.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use crate::ladder::{Checksum, Gap, Hop, Ladder, Repeat};
use crate::observation::{DIRECTOR, Observation, Point, Recording, Source, Way};
use crate::pcapng::{Error, Interface, InterfaceId, Record, Writer};
pub use reader::{CaptureError, Item, PacketItem, PointItem, Reader};

mod pcap;
mod pcapng_blocks;
mod reader;

/// How a file says that a frame's checksum is not complete.
const PENDING: &str = "checksum left to the device";
/// How a file says that a frame stands for several.
const SUPER_FRAME: &str = "super-frame";
/// How a file says that a point has no link layer.
const BARE: &str = "no link layer; the Ethernet header is made up";
/// How a file says that frames are the director's records.
const RECORDS: &str = "the director's own records";

/// Writes a recording point by point: what a live stream is made of.
#[derive(Debug)]
pub struct RecordingWriter<W: Write> {
    writer: Writer<W>,
    interfaces: Vec<(InterfaceId, bool)>,
}

impl<W: Write> RecordingWriter<W> {
    /// Starts a file and describes its points.
    pub fn new(out: W, application: &str, points: &[Point]) -> Result<Self, Error> {
        Self::over(Writer::new(out, application)?, points)
    }

    fn over(mut writer: Writer<W>, points: &[Point]) -> Result<Self, Error> {
        let mut interfaces = Vec::new();
        for point in points {
            let description = description(point);
            let addresses: Vec<IpAddr> = point.addresses.clone();
            let interface = Interface {
                name: &point.to_string(),
                description: Some(&description),
                snaplen: None,
                mac: point.mac,
                addresses: &addresses,
            };
            interfaces.push((writer.add_interface(&interface)?, point.bare));
        }
        Ok(Self { writer, interfaces })
    }

    /// Writes one frame.
    pub fn write(&mut self, seen: &Observation, comment: Option<&str>) -> Result<(), Error> {
        let Some((interface, bare)) = self.interfaces.get(seen.point).copied() else {
            return Err(Error::UnknownInterface {
                index: u32::try_from(seen.point).unwrap_or(u32::MAX),
            });
        };
        let mut remarks: Vec<&str> = comment.into_iter().collect();
        if seen.checksum_pending {
            remarks.push(PENDING);
        }
        if seen.gso {
            remarks.push(SUPER_FRAME);
        }
        remarks.extend(seen.note.as_deref());
        let remarks = remarks.join("; ");
        let made_up;
        let mut record = Record {
            comment: (!remarks.is_empty()).then_some(remarks.as_str()),
            ..Record::from(seen)
        };
        if bare {
            made_up = with_ethernet(&seen.bytes);
            record.bytes = &made_up;
            record.length += 14;
        }
        self.writer.write(interface, &record)
    }

    /// Says how many frames a point lost until a time, nanoseconds since 1970.
    pub fn lost(&mut self, point: usize, at_ns: u64, lost: u64) -> Result<(), Error> {
        match self.interfaces.get(point) {
            Some((interface, _)) => self.writer.statistics(*interface, at_ns, lost),
            None => Ok(()),
        }
    }

    /// Hands everything written so far on to the system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush()
    }
}

/// Writes all frames as one pcapng file in order of time, each with its point as interface and, if a
/// ladder was made of them, with what it says of the frame as comment.
pub fn write(
    out: impl Write,
    application: &str,
    recording: &Recording,
    ladder: Option<&Ladder>,
) -> Result<(), Error> {
    write_remarked(out, application, recording, ladder, &Remarks::default())
}

/// What is said in a file beside what the ladder says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remarks {
    /// Of the whole file.
    pub whole: Option<String>,
    /// Of frames, by their index in [`Recording::observations`].
    pub frames: BTreeMap<usize, String>,
}

/// Writes a recording as [`write()`] does, with remarks.
pub fn write_remarked(
    out: impl Write,
    application: &str,
    recording: &Recording,
    ladder: Option<&Ladder>,
    remarks: &Remarks,
) -> Result<(), Error> {
    let writer = Writer::commented(out, application, remarks.whole.as_deref())?;
    let mut writer = RecordingWriter::over(writer, &recording.points)?;
    let mut comments: Vec<Option<String>> = vec![None; recording.observations.len()];
    if let Some(ladder) = ladder {
        comment_all(ladder, &mut comments);
    }
    for (at, remark) in &remarks.frames {
        if let Some(comment) = comments.get_mut(*at) {
            let said = comment.take().map_or_else(String::new, |said| said + "; ");
            *comment = Some(said + remark);
        }
    }
    let mut order: Vec<usize> = (0..recording.observations.len()).collect();
    order.sort_by_key(|at| {
        let seen = &recording.observations[*at];
        (seen.at_ns, seen.way.is_in())
    });
    let end = order
        .last()
        .map_or(0, |at| recording.observations[*at].at_ns);
    for at in order {
        writer.write(&recording.observations[at], comments[at].as_deref())?;
    }
    for (at, point) in recording.points.iter().enumerate() {
        writer.lost(at, end, point.lost)?;
    }
    writer.flush()
}

/// A packet with an Ethernet header of zeros and the right EtherType.
fn with_ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    [&[0; 12][..], &ethertype, packet].concat()
}

/// What a file says about a point; [`Reader`] understands it.
fn description(point: &Point) -> String {
    let plain = |text: &str| text.replace([';', ':', '\n'], "_");
    let mut facts = vec![format!("host: {}", plain(&point.host))];
    if let Some(netns) = &point.netns {
        facts.push(format!("namespace: {}", plain(netns)));
    }
    facts.push(format!("device: {}", plain(&point.device)));
    if let Some(bridge) = &point.bridge {
        facts.push(format!("bridge: {}", plain(bridge)));
    }
    if let Some((node, device)) = &point.peer {
        facts.push(format!("peer: {}/{}", plain(node), plain(device)));
    }
    if let Some(xdp) = point.xdp {
        let kind = if xdp.native { "native" } else { "generic" };
        facts.push(format!("xdp: {} {kind}", xdp.id));
    }
    if point.promiscuous {
        facts.push("promiscuous".to_owned());
    }
    if point.source == Source::Director {
        facts.push(RECORDS.to_owned());
    }
    if point.bare {
        facts.push(BARE.to_owned());
    }
    facts.join("; ")
}

/// Writes what a ladder says about each frame.
fn comment_all(ladder: &Ladder, comments: &mut [Option<String>]) {
    for conversation in &ladder.conversations {
        for (number, packet) in conversation.packets.iter().enumerate() {
            for (at, hop) in packet.hops.iter().enumerate() {
                let Some(comment) = comments.get_mut(hop.observation) else {
                    continue;
                };
                let mut text = format!(
                    "packet {} of {conversation}, hop {} of {}",
                    number + 1,
                    at + 1,
                    packet.hops.len()
                );
                match packet.repeat {
                    Some(Repeat::Retransmission(other)) => {
                        text += &format!("; retransmission of packet {}", other + 1);
                    }
                    Some(Repeat::Duplicate(other)) => {
                        text += &format!("; duplicate of packet {}", other + 1);
                    }
                    Some(Repeat::Resegmented(other)) => {
                        text += &format!("; bytes of packet {}, cut or merged anew", other + 1);
                    }
                    None => {}
                }
                text += &of_hop(hop);
                if at + 1 == packet.hops.len() {
                    text += &verdict(ladder, packet);
                }
                *comment = Some(text);
            }
        }
    }
}

fn of_hop(hop: &Hop) -> String {
    let mut text = String::new();
    if !hop.changes.is_empty() {
        text += &format!("; changed: {}", hop.changes.join(", "));
    }
    if hop.checksum == Checksum::Wrong {
        text += "; wrong checksum";
    }
    text
}

/// What became of a packet.
fn verdict(ladder: &Ladder, packet: &crate::ladder::Packet) -> String {
    if packet.delivered {
        return "; verdict: delivered".to_owned();
    }
    if packet.dropped().is_some() {
        return "; verdict: dropped".to_owned();
    }
    let missing = packet.gaps.iter().find_map(|(after, gap)| match gap {
        Gap::Missing(at) if *after == packet.hops.len() => Some(&ladder.points[*at]),
        _ => None,
    });
    match missing {
        Some(point) => format!("; verdict: last seen here, first missing at {point}"),
        None => "; last seen here".to_owned(),
    }
}

/// Reads a whole file: what could be read, and why not more, if something stopped it.
///
/// `name` stands for the host where a file names none.
pub fn read(bytes: &[u8], name: &str) -> (Recording, Option<CaptureError>) {
    let mut reader = Reader::new();
    let mut into = RecordingReader::new(name);
    reader.push(bytes);
    loop {
        match reader.next() {
            Ok(Some(item)) => into.take(item),
            Ok(None) => return (into.recording, reader.finish().err()),
            Err(error) => return (into.recording, Some(error)),
        }
    }
}

/// Makes a recording of what a [`Reader`] reads.
#[derive(Debug)]
pub struct RecordingReader {
    name: String,
    device: Option<String>,
    recording: Recording,
    /// Points by interface of the file and, for captures of several devices, by device.
    points: Vec<((u32, u32), usize)>,
}

impl RecordingReader {
    /// A reader of what was captured at a host of this name, unless the file names another.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device: None,
            recording: Recording::default(),
            points: Vec::new(),
        }
    }

    /// The same for a capture of one device, whose name the file does not tell.
    #[must_use]
    pub fn of_device(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// Takes what a file says.
    pub fn take(&mut self, item: Item) {
        match item {
            Item::Point(point) => {
                let known = self.point_of(&point);
                self.points.push((
                    (point.interface, point.device_index),
                    self.recording.points.len(),
                ));
                self.recording.points.push(known);
            }
            Item::Packet(packet) => {
                let key = (packet.interface, packet.device_index);
                let Some((_, point)) = self.points.iter().rev().find(|(other, _)| *other == key)
                else {
                    return;
                };
                let (point, mut bytes, mut length) = (*point, packet.bytes, packet.length);
                if self.recording.points[point].bare && packet.ethernet {
                    bytes = bytes.split_off(bytes.len().min(14));
                    length = length.saturating_sub(14);
                }
                let comment = packet.comment.unwrap_or_default();
                self.recording.observations.push(Observation {
                    point,
                    way: packet.way,
                    at_ns: packet.at_ns,
                    length: length.max(bytes.len()),
                    bytes,
                    checksum_pending: comment.contains(PENDING),
                    gso: comment.contains(SUPER_FRAME),
                    note: comment
                        .split("; ")
                        .find(|part| part.starts_with(DIRECTOR))
                        .map(str::to_owned),
                });
            }
            Item::Lost { interface, lost } => {
                let point = self
                    .points
                    .iter()
                    .rev()
                    .find(|((own, _), _)| *own == interface);
                if let Some((_, point)) = point {
                    self.recording.points[*point].lost = lost;
                }
            }
        }
    }

    /// What was read so far.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What was read.
    pub fn into_recording(self) -> Recording {
        self.recording
    }

    fn point_of(&self, item: &PointItem) -> Point {
        let description = item.description.as_deref().unwrap_or_default();
        let fact = |key: &str| {
            let parts = description.split("; ");
            parts
                .filter_map(|part| part.split_once(": "))
                .find_map(|(found, value)| {
                    (found == key && !value.is_empty()).then(|| value.to_owned())
                })
        };
        let netns = fact("namespace");
        let host = fact("host").unwrap_or_else(|| self.name.clone());
        let device = fact("device")
            .or_else(|| item.name.clone())
            .or_else(|| self.device.clone());
        let named = item.name.as_deref().and_then(|name| name.split_once('/'));
        // What a file of ours calls the node; the name of the file otherwise.
        let node = match (fact("device"), named) {
            (Some(_), Some((node, _))) => node.to_owned(),
            _ => host.clone(),
        };
        Point {
            node,
            host,
            netns,
            device: device.unwrap_or_else(|| match item.device_index {
                0 => format!("interface{}", item.interface),
                index => format!("if{index}"),
            }),
            source: if description.contains(RECORDS) {
                Source::Director
            } else {
                Source::Capture
            },
            bare: !item.ethernet || description.contains(BARE),
            mac: item.mac,
            addresses: item.addresses.clone(),
            peer: fact("peer").and_then(|peer| {
                let (node, device) = peer.rsplit_once('/')?;
                Some((node.to_owned(), device.to_owned()))
            }),
            bridge: fact("bridge"),
            xdp: fact("xdp").and_then(|xdp| {
                let (id, kind) = xdp.split_once(' ')?;
                Some(crate::observation::Xdp {
                    id: id.parse().ok()?,
                    native: kind == "native",
                })
            }),
            promiscuous: description.split("; ").any(|part| part == "promiscuous"),
            lost: 0,
        }
    }
}

/// The way that a Linux packet type means.
fn way_of(kind: u16) -> Way {
    match kind {
        0..=2 => Way::In,
        3 => Way::OtherHost,
        4 => Way::Out,
        _ => Way::Unknown,
    }
}
