//! Frames as they were seen: where, when, which way.

use std::fmt;
use std::net::IpAddr;

use pointsman_wire::Mac;

/// Which way a frame went at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Sent by this node.
    Out,
    /// Received for this node, or as broadcast or multicast.
    In,
    /// Received though it is addressed to another node.
    OtherHost,
    /// The capture does not say.
    Unknown,
}

impl Way {
    /// One word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In | Self::OtherHost => "in",
            Self::Unknown => "seen",
        }
    }

    /// True for what was received, for whomever.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::OtherHost)
    }
}

/// An XDP program on an interface, which hides what it handles from captures there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xdp {
    /// Program id.
    pub id: u64,
    /// True when it runs in the driver, false for the generic hook.
    pub native: bool,
}

/// What tells of the frames of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// A capture at a device.
    #[default]
    Capture,
    /// The director's own records of what it received and of what it sent.
    Director,
}

/// How a note begins that tells what the director does with a frame.
pub const DIRECTOR: &str = "director: ";
/// How it goes on where the frame ends.
pub const DROPPED: &str = "dropped, ";
/// How it goes on where the kernel gets the frame.
pub const PASSED: &str = "passed, ";

/// One place where frames are seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Point {
    /// Where it is: the network namespace, or the host.
    pub node: String,
    /// The host; its points share a clock.
    pub host: String,
    /// The network namespace, if it is a named one.
    pub netns: Option<String>,
    /// Interface name.
    pub device: String,
    /// Who tells.
    pub source: Source,
    /// True when frames have no link layer and start with their IP header, as those of TUN devices.
    pub bare: bool,
    /// Link-layer address of the device, where known.
    pub mac: Option<Mac>,
    /// Addresses of the whole node, where known.
    pub addresses: Vec<IpAddr>,
    /// The other end of the cable, where known: node and device.
    pub peer: Option<(String, String)>,
    /// The bridge that the device is a port of; ports take in frames for others.
    pub bridge: Option<String>,
    /// The XDP program there.
    pub xdp: Option<Xdp>,
    /// True when the capture made the device receive frames for others too.
    pub promiscuous: bool,
    /// Frames that the capture lost because its buffer was full.
    pub lost: u64,
}

impl Point {
    /// A point of a node that is its own host.
    pub fn new(node: impl Into<String>, device: impl Into<String>) -> Self {
        let node = node.into();
        Self {
            host: node.clone(),
            node,
            device: device.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.node.is_empty() {
            write!(f, "{}/", self.node)?;
        }
        f.write_str(&self.device)?;
        match self.source {
            Source::Capture => Ok(()),
            Source::Director => f.write_str(" (director)"),
        }
    }
}

/// A frame seen at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Index in [`Recording::points`].
    pub point: usize,
    /// Which way it went there.
    pub way: Way,
    /// When by the clock of the host, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The frame, with its VLAN tags; it may be cut.
    pub bytes: Vec<u8>,
    /// Its length before it was cut.
    pub length: usize,
    /// The checksum field holds only a part: the device was to complete it.
    pub checksum_pending: bool,
    /// One frame that stands for several on the wire.
    pub gso: bool,
    /// What else is known of it there, as a verdict of the director.
    pub note: Option<String>,
}

/// Everything that was seen at a number of points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// All places.
    pub points: Vec<Point>,
    /// All frames, in any order.
    pub observations: Vec<Observation>,
}

impl Recording {
    /// Adds what another recording saw.
    pub fn append(&mut self, other: Self) {
        let first = self.points.len();
        self.points.extend(other.points);
        let moved = other.observations.into_iter().map(|mut seen| {
            seen.point += first;
            seen
        });
        self.observations.extend(moved);
    }
}
