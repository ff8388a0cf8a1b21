//! Faults that show at another node than the one to mend.

use pointsman_wire::Mac;

use super::{Observed, Witness, counted, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};
use crate::observation::{Observation, Point, Way};
use crate::snapshot::{Origin, Snapshot};

/// The nodes where a fault of this kind shows, if not at its own.
fn nodes<'a>(code: Code, observed: &Observed<'a>) -> Vec<&'a Snapshot> {
    let all = || observed.after.nodes.iter();
    match code {
        Code::PartialChecksum => all().collect(),
        Code::NatGateway | Code::NatSameSubnet | Code::UdpSource => {
            let client = observed.client;
            all()
                .filter(|node| client.is_some_and(|own| node.owner_of(own).is_some()))
                .collect()
        }
        Code::StickyDead => all().filter(|node| is_idle(node, observed)).collect(),
        _ => Vec::new(),
    }
}

/// Whether a node is a real server of weight 0.
fn is_idle(node: &Snapshot, observed: &Observed<'_>) -> bool {
    let services = observed.after.nodes.iter().flat_map(|node| &node.services);
    let mut servers = services
        .filter(|own| {
            let service = observed.service;
            own.address()
                .is_some_and(|(_, vip, port)| vip == service.ip() && port == service.port())
        })
        .flat_map(|own| &own.servers);
    servers.any(|server| server.weight == 0 && node.owner_of(server.address).is_some())
}

/// Counters that rise there, under the names of `nstat`.
fn names(code: Code) -> &'static [&'static str] {
    match code {
        Code::PartialChecksum => &["TcpInCsumErrors", "UdpInCsumErrors"],
        Code::NatGateway | Code::NatSameSubnet | Code::StickyDead => &["TcpOutRsts"],
        Code::UdpSource => &["UdpNoPorts"],
        _ => &[],
    }
}

/// A counter of another node that rose with the probes.
pub(super) fn counter(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    nodes(finding.code, observed).into_iter().find_map(|after| {
        let before = observed.before.node(&after.node)?;
        names(finding.code).iter().find_map(|name| {
            let (old, new) = (before.counters.get(*name)?, after.counters.get(*name)?);
            let fact = format!("{name} of {} rose from {old} to {new}", after.node);
            let command = format!("nstat --zeros --noupdate --ignore {name}");
            (new > old).then(|| Evidence {
                node: Some(after.node.clone()),
                ..witnessed(Witness::Counter, fact, command)
            })
        })
    })
}

/// Whether what a node's kernel drops can speak for a fault of this kind elsewhere.
pub(super) fn is_shown_at(code: Code, node: &str, observed: &Observed<'_>) -> bool {
    nodes(code, observed).iter().any(|own| own.node == node)
}

/// Frames of the service as they were seen, with their points.
fn frames<'a>(
    observed: &Observed<'a>,
    node: &str,
) -> impl Iterator<Item = (&'a Point, &'a Observation)> {
    let recording = observed.recording;
    let seen = recording.observations.iter();
    let of_node = seen.map(|one| (&recording.points[one.point], one));
    of_node.filter(move |(point, _)| point.node == node)
}

fn destination(seen: &Observation) -> Option<Mac> {
    Some(Mac(*seen.bytes.first_chunk()?))
}

fn command(observed: &Observed<'_>) -> String {
    format!("pointsman capture --vip {}", observed.service)
}

/// Requests leave a node for the address that a neighbour had before.
pub(super) fn misaddressed(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let vip = observed.service.ip();
    let node = observed.before.node(&finding.node)?;
    let entry = node.neighbours.iter().find(|entry| entry.address == vip)?;
    let mac = entry.mac?;
    let sent = frames(observed, &finding.node).filter(|(point, seen)| {
        point.device == entry.device && seen.way == Way::Out && destination(seen) == Some(mac)
    });
    let count = sent.count();
    let device = &entry.device;
    let fact = format!(
        "{} left {} by {device} for {mac}",
        counted(count, "packet"),
        node.node
    );
    (count > 0).then(|| witnessed(Witness::Capture, fact, command(observed)))
}

/// Addresses that several nodes have: each, when a bridge had learned it, and at which port.
fn doubles(finding: &Finding, observed: &Observed<'_>) -> Vec<(Mac, &'static str, String)> {
    let mut found = Vec::new();
    for (when, bundle) in [("before", observed.before), ("after", observed.after)] {
        let Some(host) = bundle.node(&finding.node) else {
            continue;
        };
        for entry in host.forwarding.iter().filter(|entry| entry.is_learned()) {
            let Some(mac) = entry.mac else { continue };
            let has = |node: &&Snapshot| node.links.iter().any(|link| link.mac == Some(mac));
            if bundle.nodes.iter().filter(has).count() > 1 {
                found.push((mac, when, entry.port.clone()));
            }
        }
    }
    found
}

/// A bridge takes an address to be behind the wrong port, or behind one after the other.
pub(super) fn learned(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let found = doubles(finding, observed);
    let port = finding.link.as_deref()?;
    let (mac, ..) = found.iter().find(|(_, _, learned)| learned == port)?;
    let times: Vec<String> = found
        .iter()
        .filter(|(own, ..)| own == mac)
        .map(|(_, when, learned)| format!("behind {learned} {when} the probes"))
        .collect();
    let fact = format!("{} has learned {mac} {}", finding.node, times.join(", "));
    let shown = format!("bridge fdb show | grep {mac}");
    Some(witnessed(Witness::Trace, fact, shown))
}

/// Frames for a double address leave by the wrong port alone, or come from it by several.
pub(super) fn misdelivered(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let port = finding.link.as_deref()?;
    let (mac, ..) = doubles(finding, observed).into_iter().next()?;
    let count = |way: Way, at: bool, of: fn(&Observation) -> Option<Mac>| {
        let all = frames(observed, &finding.node);
        let own = all.filter(|(point, seen)| {
            point.bridge.is_some()
                && (point.device == port) == at
                && (seen.way == way || seen.way.is_in() && way.is_in())
                && of(seen) == Some(mac)
        });
        own.count()
    };
    let source = |seen: &Observation| Some(Mac(*seen.bytes.get(6..12)?.first_chunk()?));
    // What a bridge does not know it sends by all ports: no more by one than by the others.
    let (wrong, right) = (
        count(Way::Out, true, destination),
        count(Way::Out, false, destination),
    );
    let fact = if wrong > right {
        format!("{} for {mac} left by {port}", counted(wrong, "frame"))
    } else {
        let both = [count(Way::In, true, source), count(Way::In, false, source)];
        if both.contains(&0) {
            return None;
        }
        format!("frames from {mac} came by {port} and by another port")
    };
    Some(witnessed(Witness::Capture, fact, command(observed)))
}

/// Requests go to a real server that is to get none.
pub(super) fn handed_on(observed: &Observed<'_>) -> Option<Evidence> {
    let mut idle = observed.after.nodes.iter();
    let idle = idle.find(|node| is_idle(node, observed))?;
    let received = frames(observed, &idle.node).filter(|(_, seen)| seen.way == Way::In);
    let count = received.count();
    let fact = format!(
        "{} came to {}, of weight 0",
        counted(count, "packet"),
        idle.node
    );
    (count > 0).then(|| Evidence {
        node: Some(idle.node.clone()),
        ..witnessed(Witness::Capture, fact, command(observed))
    })
}

/// Whether what XDP sends by a device goes into a cable whose other end is the finding's node.
pub(super) fn is_sent_to(
    finding: &Finding,
    node: &str,
    device: &str,
    observed: &Observed<'_>,
) -> bool {
    if finding.code != Code::XdpVethSilent {
        return false;
    }
    let other_end = || {
        let node = observed.before.node(node)?;
        let number = node.link(device)?.other.as_ref()?.namespace?;
        node.namespaces.get(&number)
    };
    let guilty = observed.before.node(&finding.node);
    let origin = guilty.map(|guilty| &guilty.origin);
    other_end().is_some_and(|name| matches!(origin, Some(Origin::Netns(own)) if own == name))
}
