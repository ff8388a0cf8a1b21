//! Packets seen by kernels' tracepoints instead of captures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_datapath::drops::Passed;
use pointsman_path::bundle::Bundle;
use pointsman_path::observation::{Observation, Point, Recording, Way};
use pointsman_path::snapshot::{Link, Origin, Snapshot};

/// Bytes of an Ethernet header.
const LINK: usize = 14;

/// What passed, as captures would tell it; `owners` are nodes by the number of their namespace.
pub(super) fn recording(
    bundle: &Bundle,
    owners: &HashMap<u32, String>,
    passed: Vec<Passed>,
) -> Recording {
    let here = bundle.nodes.iter().find(|node| node.origin == Origin::Here);
    let host = here.map_or("here", |node| &*node.node);
    let mut recording = Recording::default();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for node in &bundle.nodes {
        for link in node.links.iter().filter(|link| link.is_up()) {
            if !matches!(node.origin, Origin::Host(_)) {
                let place = (node.node.clone(), link.name.clone());
                places.insert(place, recording.points.len());
                recording.points.push(point(node, link, host));
            }
        }
    }
    // The last was seen just now, and what counts is who came after whom.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
    let last = passed.iter().map(|one| one.time).max().unwrap_or_default();
    for one in passed {
        let node = owners.get(&one.netns).cloned().unwrap_or_default();
        let Some(&point) = places.get(&(node, one.device.clone())) else {
            continue;
        };
        let bare = recording.points[point].bare;
        let bytes = one
            .frame
            .get(if bare { LINK } else { 0 }..)
            .unwrap_or_default();
        recording.observations.push(Observation {
            point,
            way: if one.received { Way::In } else { Way::Out },
            at_ns: now.saturating_sub(last - one.time),
            bytes: bytes.to_vec(),
            length: one.length + if bare { 0 } else { LINK },
            // Whether a checksum is complete is not told, and nothing is to be made of it.
            checksum_pending: true,
            gso: false,
            note: None,
        });
    }
    recording
}

fn point(node: &Snapshot, link: &Link, host: &str) -> Point {
    let is_loopback = link.flags.iter().any(|flag| flag == "LOOPBACK");
    let addresses = node.links.iter().flat_map(|link| &link.addresses);
    let addresses: Vec<IpAddr> = addresses.map(|own| own.prefix.address).collect();
    Point {
        node: node.node.clone(),
        host: host.to_owned(),
        netns: match &node.origin {
            Origin::Netns(name) => Some(name.clone()),
            _ => None,
        },
        device: link.name.clone(),
        bare: link.mac.is_none() && !is_loopback,
        mac: link.mac,
        addresses,
        bridge: link.master.clone().filter(|_| link.port.is_some()),
        ..Point::default()
    }
}
