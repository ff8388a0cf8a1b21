//! Captures on every interface of every namespace of a lab at once.

use std::fs::File;
use std::io::BufWriter;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pointsman_linux::packet::{self, Capture, Captures, Direction, Frame};
use pointsman_path::capture_file;
use pointsman_path::observation::{Observation, Point, Recording, Way, Xdp};
use serde_json::Value;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace;
use crate::topology::{Role, Topology};

/// How long the recorder may take to notice that it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// Writes all frames of a recording as one pcapng file, each with its place as interface.
pub fn write_pcapng(recording: &Recording, path: &Path) -> Result<()> {
    let what = format!("cannot write {}", path.display());
    let file = File::create(path).map_err(LabError::io(what.clone()))?;
    capture_file::write(BufWriter::new(file), "pointsman-lab", recording, None)
        .map_err(LabError::kernel(what))
}

/// A running recording; dropping it ends it.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<AtomicBool>,
    topology: Topology,
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
            let found = find_points(lab.topology(), role, &namespace)?;
            let opened = namespace::run_in(&namespace, || {
                found
                    .iter()
                    .map(|point| Capture::open(&point.device))
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
            topology: lab.topology().clone(),
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
            let now = find_points(&self.topology, *role, namespace)?;
            let name = role.to_string();
            for point in recording
                .points
                .iter_mut()
                .filter(|point| point.node == name)
            {
                let found = now.iter().find(|found| found.device == point.device);
                point.xdp = found.and_then(|found| found.xdp).or(point.xdp.take());
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
fn find_points(topology: &Topology, role: Role, namespace: &str) -> Result<Vec<Point>> {
    let text = namespace::ip(&["-n", namespace, "-j", "-d", "link", "show", "up"], None)?;
    let links: Value = serde_json::from_str(&text)
        .map_err(|error| LabError::Answer(format!("`ip -j` answered no JSON: {error}")))?;
    let addresses: Vec<IpAddr> = topology.node(role).map_or_else(Vec::new, |node| {
        let legs = node.legs.iter().flat_map(|leg| &leg.addresses);
        let all = legs.chain(&node.loopback);
        all.map(|cidr| cidr.address).collect()
    });
    let point = |link: &Value| {
        let device = link["ifname"].as_str()?.to_owned();
        Some(Point {
            node: role.to_string(),
            // All namespaces have the clock of one kernel.
            host: "lab".to_owned(),
            netns: Some(namespace.to_owned()),
            bare: link["link_type"] == "none",
            mac: link["address"].as_str().and_then(|mac| mac.parse().ok()),
            addresses: addresses.clone(),
            peer: other_end(topology, role, &device),
            bridge: link["master"].as_str().map(str::to_owned),
            xdp: xdp_of(link),
            device,
            ..Point::default()
        })
    };
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(point)
        .collect())
}

/// The interface at the other end of the cable: node and device.
fn other_end(topology: &Topology, role: Role, device: &str) -> Option<(String, String)> {
    topology.nodes.iter().find_map(|node| {
        node.legs.iter().find_map(|leg| {
            if role == Role::Switch && leg.port == device {
                Some((node.role.to_string(), leg.name.clone()))
            } else if role == node.role && leg.name == device {
                Some((Role::Switch.to_string(), leg.port.clone()))
            } else {
                None
            }
        })
    })
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

fn record(points: Vec<Point>, captures: Vec<Capture>, stop: &AtomicBool) -> Result<Recording> {
    let mut captures = Captures::new(captures);
    let mut observations = Vec::new();
    loop {
        // Asked before reading, so that a last round follows the request.
        let last = stop.load(Ordering::Relaxed);
        let timeout = if last { Duration::ZERO } else { STOP_CHECK };
        let more = captures
            .read(timeout, None, |point, frame| {
                observations.push(observation(point, frame));
            })
            .map_err(LabError::kernel("recorder"))?;
        if last && !more {
            break;
        }
    }
    let mut recording = Recording {
        points,
        observations,
    };
    for (point, lost) in recording.points.iter_mut().zip(captures.dropped()) {
        point.lost = lost;
    }
    recording
        .observations
        .sort_by_key(|seen| (seen.at_ns, seen.way.is_in()));
    Ok(recording)
}

/// A captured frame as an observation.
pub fn observation(point: usize, frame: Frame) -> Observation {
    Observation {
        point,
        way: match frame.direction {
            Direction::In => Way::In,
            Direction::Out => Way::Out,
            Direction::OtherHost => Way::OtherHost,
        },
        at_ns: frame.timestamp_ns,
        bytes: frame.bytes,
        length: frame.length,
        checksum_pending: frame.checksum_pending,
        gso: frame.gso,
        note: None,
    }
}
