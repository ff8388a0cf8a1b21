//! Captures on every interface of every namespace of a lab at once.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pointsman_linux::packet::{self, Capture, Direction, Frame};
use pointsman_linux::pcapng;
use serde_json::Value;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace;
use crate::topology::Role;

/// How long the recorder may take to notice that it shall stop.
const STOP_CHECK: u16 = 20;

/// An XDP program on an interface, which hides what it handles from captures there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xdp {
    /// Program id.
    pub id: u64,
    /// True when it runs in the driver, false for the generic hook.
    pub native: bool,
}

/// One place where frames are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Node.
    pub role: Role,
    /// Interface name.
    pub interface: String,
    /// True when frames have an Ethernet header; a TUN device's start with the IP header.
    pub ethernet: bool,
    /// The XDP program there, if one was seen at the beginning or at the end.
    pub xdp: Option<Xdp>,
    /// Frames that the capture lost because its buffer was full.
    pub lost: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.interface)
    }
}

/// A frame seen at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Index in [`Recording::points`].
    pub point: usize,
    /// What was seen and when.
    pub frame: Frame,
}

/// Everything that was seen, in order of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// All places.
    pub points: Vec<Point>,
    /// All frames.
    pub sightings: Vec<Sighting>,
}

impl Recording {
    /// Writes all frames as one pcapng file, each with its place as interface.
    pub fn write_pcapng(&self, path: &Path) -> Result<()> {
        let what = format!("cannot write {}", path.display());
        let file = File::create(path).map_err(LabError::io(what.clone()))?;
        let failed = |error: pcapng::Error| LabError::kernel(what.clone())(error);
        let mut writer =
            pcapng::Writer::new(BufWriter::new(file), "pointsman-lab").map_err(failed)?;
        let mut interfaces = Vec::new();
        for point in &self.points {
            let note = (!point.ethernet).then_some("no link layer; the Ethernet header is made up");
            let id = writer
                .add_interface(&point.to_string(), note, None)
                .map_err(failed)?;
            interfaces.push(id);
        }
        for Sighting { point, frame } in &self.sightings {
            let made_up;
            let (bytes, extra) = if self.points[*point].ethernet {
                (&frame.bytes, 0)
            } else {
                made_up = with_ethernet(&frame.bytes);
                (&made_up, 14)
            };
            let record = pcapng::Record {
                timestamp_ns: frame.timestamp_ns,
                bytes,
                length: frame.length + extra,
                direction: Some(frame.direction),
                comment: frame
                    .checksum_pending
                    .then_some("checksum left to the device"),
            };
            writer.write(interfaces[*point], &record).map_err(failed)?;
        }
        writer.flush().map_err(failed)
    }
}

/// A packet with an Ethernet header of zeros and the right EtherType.
fn with_ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    [&[0; 12][..], &ethertype, packet].concat()
}

/// A running recording; dropping it ends it.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<AtomicBool>,
    places: Vec<(Role, String)>,
    thread: Option<JoinHandle<Result<Recording>>>,
}

impl Recorder {
    /// Starts to capture; everything sent after this returns is seen.
    pub fn start(lab: &Lab) -> Result<Self> {
        let mut points = Vec::new();
        let mut captures = Vec::new();
        for role in lab.roles() {
            let namespace = lab.namespace(role);
            let found = find_points(role, &namespace)?;
            let opened = namespace::run_in(&namespace, || {
                found
                    .iter()
                    .map(|point| Capture::open(&point.interface))
                    .collect::<std::result::Result<Vec<_>, packet::Error>>()
            })?;
            captures.extend(opened.map_err(LabError::kernel(format!("capture in {role}")))?);
            points.extend(found);
        }
        let places = lab
            .roles()
            .into_iter()
            .map(|role| (role, lab.namespace(role)))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || record(points, captures, &flag))
            .map_err(LabError::io("cannot start the recorder"))?;
        Ok(Self {
            stop,
            places,
            thread: Some(thread),
        })
    }

    /// Stops and returns what was seen.
    pub fn stop(mut self) -> Result<Recording> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(Recording::default());
        };
        let mut recording = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        // A program may have come since the start.
        for (role, namespace) in &self.places {
            let now = find_points(*role, namespace)?;
            for point in recording
                .points
                .iter_mut()
                .filter(|point| point.role == *role)
            {
                let found = now.iter().find(|found| found.interface == point.interface);
                point.xdp = found
                    .and_then(|found| found.xdp.clone())
                    .or(point.xdp.take());
            }
        }
        Ok(recording)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Interfaces of a namespace that are up.
fn find_points(role: Role, namespace: &str) -> Result<Vec<Point>> {
    let text = namespace::ip(&["-n", namespace, "-j", "-d", "link", "show", "up"], None)?;
    let links: Value = serde_json::from_str(&text)
        .map_err(|error| LabError::Answer(format!("`ip -j` answered no JSON: {error}")))?;
    let point = |link: &Value| {
        Some(Point {
            role,
            interface: link["ifname"].as_str()?.to_owned(),
            ethernet: link["link_type"] != "none",
            xdp: xdp_of(link),
            lost: 0,
        })
    };
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(point)
        .collect())
}

/// Reads the `xdp` object of `ip -j link`: mode 1 is native, 2 generic, 3 offloaded, 4 several.
fn xdp_of(link: &Value) -> Option<Xdp> {
    let xdp = link.get("xdp")?;
    let one = xdp["attached"].get(0).unwrap_or(xdp);
    Some(Xdp {
        id: one["prog"]["id"].as_u64().unwrap_or(0),
        native: one["mode"] != 2,
    })
}

fn record(points: Vec<Point>, mut captures: Vec<Capture>, stop: &AtomicBool) -> Result<Recording> {
    let mut recording = Recording {
        points,
        sightings: Vec::new(),
    };
    loop {
        // Asked before reading, so that a last round follows the request.
        let last = stop.load(Ordering::Relaxed);
        let mut waiting: Vec<PollFd<'_>> = captures
            .iter()
            .map(|capture| PollFd::new(capture.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(
            &mut waiting,
            PollTimeout::from(if last { 0 } else { STOP_CHECK }),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(LabError::Io {
                    what: "recorder".to_owned(),
                    source: errno.into(),
                });
            }
        }
        let ready: Vec<bool> = waiting
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        drop(waiting);
        for (point, capture) in captures.iter_mut().enumerate().filter(|(at, _)| ready[*at]) {
            loop {
                match capture.next(Duration::ZERO) {
                    Ok(Some(frame)) => recording.sightings.push(Sighting { point, frame }),
                    // An interface that goes down while the lab changes is no reason to stop.
                    Ok(None) | Err(packet::Error::Down { .. }) => break,
                    Err(error) => {
                        let at = &recording.points[point];
                        return Err(LabError::kernel(format!("capture at {at}"))(error));
                    }
                }
            }
        }
        if last {
            break;
        }
    }
    for (point, capture) in recording.points.iter_mut().zip(&mut captures) {
        point.lost = capture.statistics().map_or(0, |counts| counts.dropped);
    }
    let turn = |direction| match direction {
        Direction::Out => 0,
        Direction::In | Direction::OtherHost => 1,
    };
    recording
        .sightings
        .sort_by_key(|seen| (seen.frame.timestamp_ns, turn(seen.frame.direction)));
    Ok(recording)
}
