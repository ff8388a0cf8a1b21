//! Virtual routers as they were seen: who advertises what, who is master, and who believes it.
//!
//! [`Speaker`]s come from frames; [`examine`] compares them with each other, with what was read of the
//! nodes, and with how neighbors answered when they were [`Asked`].

mod belief;
mod frame;
mod gate;
mod mending;
mod mismatch;
pub(crate) mod multicast;
mod silence;
mod speaker;
mod split;
mod way;

use std::net::IpAddr;

use pointsman_wire::Mac;
use serde::Serialize;

use crate::bundle::Bundle;
use crate::finding::{Evidence, Finding, Witness};
use crate::observation::Recording;

pub use frame::{AdvertFrame, is_about_routers};
pub use speaker::{Speaker, speakers};

/// How to see advertisements.
const WATCH: &str = "tcpdump -nevvi any 'ip proto 112 or ip6 proto 112'";

/// Who answered when a node asked its segment for an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The node that asked.
    pub node: String,
    /// The address asked for.
    pub address: IpAddr,
    /// The link-layer addresses that answered.
    #[serde(serialize_with = "texts")]
    pub answers: Vec<Mac>,
}

fn texts<S: serde::Serializer>(macs: &[Mac], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(macs.iter().map(ToString::to_string))
}

/// Everything that is known.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What was read of the nodes; perhaps of none.
    pub bundle: &'a Bundle,
    /// What was captured; perhaps nothing.
    pub recording: &'a Recording,
    /// Who advertises there.
    pub speakers: &'a [Speaker],
    /// How neighbors answered.
    pub asked: &'a [Asked],
}

/// Everything that looks wrong, the surest first.
pub fn examine(scene: Scene<'_>) -> Vec<Finding> {
    let mut findings = split::find(scene);
    findings.extend(belief::find(scene));
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.confidence), finding.code));
    let mut told: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |other: &Finding| {
            other.code == finding.code && other.node == finding.node && other.words == finding.words
        };
        if !told.iter().any(same) {
            told.push(finding);
        }
    }
    told
}

impl Scene<'_> {
    /// Who is master at the end: by what was heard, or because its node has the addresses still.
    fn masters(&self) -> Vec<&Speaker> {
        let seen = self.recording.observations.iter();
        let end = seen.map(|seen| seen.at_ns).max().unwrap_or(0);
        let masters = self.speakers.iter().filter(|speaker| {
            speaker.is_master_at(end) || !speaker.stopped && self.has_addresses(speaker)
        });
        masters.collect()
    }

    /// Whether a speaker's node was read and has one of its addresses.
    fn has_addresses(&self, speaker: &Speaker) -> bool {
        let node = self.node_with(speaker.source);
        let node = node.and_then(|name| self.bundle.node(name));
        node.is_some_and(|node| {
            let mut addresses = speaker.addresses().iter();
            addresses.any(|address| node.owner_of(*address).is_some())
        })
    }

    /// The node that has an address, by what was read or by where frames were captured.
    fn node_with(&self, address: IpAddr) -> Option<&str> {
        let mut nodes = self.bundle.nodes.iter();
        let read = nodes.find(|node| node.owner_of(address).is_some());
        let read = read.map(|node| node.node.as_str());
        read.or_else(|| {
            let mut points = self.recording.points.iter();
            let point = points.find(|point| point.addresses.contains(&address));
            point.map(|point| point.node.as_str())
        })
    }

    /// What people call a speaker: its node, or its address.
    fn name_of(&self, speaker: &Speaker) -> String {
        let node = self.node_with(speaker.source);
        node.map_or_else(|| speaker.source.to_string(), str::to_owned)
    }
}

/// Adds a fact that captures show, and the command that shows it again.
fn captured(mut finding: Finding, fact: String, command: &str) -> Finding {
    finding.evidence.push(Evidence {
        fact,
        command: command.to_owned(),
        node: None,
        witness: Some(Witness::Capture),
    });
    finding
}
