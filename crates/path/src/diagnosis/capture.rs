//! Where frames end, turn, or come from somebody else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pointsman_wire::Mac;

use super::{Observed, Witness, counted, elsewhere, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};
use crate::ladder::{ArpHeaders, Checksum, Conversation, Gap, Headers, Packet, Protocol};
use crate::observation::Way;

/// What captures say of a finding.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    match finding.code {
        Code::ArpFlux | Code::DuplicateVip | Code::StrictArp => answers(observed),
        Code::ArpAnnounce => announcement(finding, observed),
        // What was found by captures has their evidence.
        Code::UdpSource => None,
        Code::NatGateway | Code::NatSameSubnet => untranslated(finding, observed),
        Code::VipMissingForwarding => {
            forwarded(finding, observed).or_else(|| end(finding, observed))
        }
        Code::PartialChecksum => wrong_checksums(observed),
        Code::StaleNeighbour => elsewhere::misaddressed(finding, observed),
        Code::MacFlapping => elsewhere::misdelivered(finding, observed),
        Code::StickyDead => elsewhere::handed_on(observed),
        Code::TtlExpired => exhausted(finding, observed),
        Code::IgmpSnooping => kept(finding, observed),
        _ => end(finding, observed).or_else(|| turned(finding, observed)),
    }
}

/// A packet that did not get any further.
pub(crate) struct End<'a> {
    /// What it belongs to.
    pub(crate) conversation: &'a Conversation,
    /// The packet.
    pub(crate) packet: &'a Packet,
    /// The place where it was missed first, if that is known.
    pub(crate) missed: Option<usize>,
}

/// Packets of the service that ended too soon, and that nobody answered.
pub(crate) fn ends<'a>(observed: &'a Observed<'_>) -> Vec<End<'a>> {
    let vip = observed.service.ip();
    let mut found = Vec::new();
    for conversation in &observed.ladder.conversations {
        let both = conversation.packets.iter().any(|packet| packet.forward)
            && conversation.packets.iter().any(|packet| !packet.forward);
        for packet in &conversation.packets {
            let Some(last) = packet.hops.last() else {
                continue;
            };
            let is_about = match &last.headers {
                Headers::Ip(_) => true,
                Headers::Arp(arp) => IpAddr::V4(arp.sender) == vip || IpAddr::V4(arp.target) == vip,
            };
            let gap = packet
                .gaps
                .iter()
                .find(|(at, _)| *at == packet.hops.len())
                .map(|(_, gap)| *gap);
            // A socket or the stack took it, and said nothing.
            let swallowed = packet.delivered && !both;
            if is_about && (gap.is_some() || !packet.delivered || swallowed) {
                let missed = gap.map(|(Gap::Missing(next) | Gap::Hidden(next))| next);
                found.push(End {
                    conversation,
                    packet,
                    missed,
                });
            }
        }
    }
    found
}

/// Whether a fault can stop what is ARP, or what is not.
fn stops(finding: &Finding, is_arp: bool) -> bool {
    match finding.code {
        Code::HostArpSpoof => is_arp,
        Code::HostMacSpoof | Code::CniEbtables => true,
        _ => finding.rule.is_none() || !is_arp,
    }
}

/// Packets of the service are last seen at the finding's node.
fn end(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let points = &observed.ladder.points;
    let mut lost = 0;
    let mut last_seen = None;
    let mut missed = None;
    for end in ends(observed) {
        let is_arp = matches!(end.conversation.protocol, Protocol::Arp | Protocol::Ndp);
        if !stops(finding, is_arp) {
            continue;
        }
        let Some(last) = end.packet.hops.last() else {
            continue;
        };
        let point = &points[last.point];
        let is_sent = || {
            last.way == Way::Out
                && elsewhere::is_sent_to(finding, &point.node, &point.device, observed)
        };
        if point.node != finding.node && !is_sent() {
            continue;
        }
        // A port's finding is about what comes in there, or should have gone out there.
        let at_link = finding.link.as_ref().is_none_or(|link| {
            *link == point.device || end.missed.is_none_or(|next| points[next].device == *link)
        });
        if !at_link {
            continue;
        }
        lost += 1;
        last_seen.get_or_insert_with(|| format!("{point} ({})", last.way.word()));
        if let Some(next) = end.missed {
            missed.get_or_insert_with(|| points[next].to_string());
        }
    }
    let last_seen = last_seen?;
    let beyond = missed.map_or_else(String::new, |next| format!(", and not at {next}"));
    let fact = format!(
        "{} last seen at {last_seen}{beyond}",
        counted(lost, "packet")
    );
    Some(witnessed(Witness::Capture, fact, command(observed)))
}

/// The finding's node answers with a reset.
fn turned(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let resets = packets.filter(|packet| {
        let Some(first) = packet.first() else {
            return false;
        };
        let Some(ip) = first.headers.ip().filter(|_| !packet.forward) else {
            return false;
        };
        let tcp = ip.innermost().tcp.as_ref();
        let reset = tcp.is_some_and(|tcp| tcp.flags & pointsman_wire::tcp::RST != 0);
        observed.ladder.points[first.point].node == finding.node && reset
    });
    let count = resets.count();
    (count > 0).then(|| {
        let fact = format!("{} resets {}", finding.node, counted(count, "connection"));
        witnessed(Witness::Capture, fact, command(observed))
    })
}

/// Frames to groups come in at the finding's node, and do not leave by its port.
fn kept(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let seen = &observed.recording.observations;
    let points = &observed.recording.points;
    let is_group = |frame: &[u8]| frame.first().is_some_and(|first| first & 1 == 1);
    let came = seen.iter().filter(|one| {
        let point = &points[one.point];
        point.node == finding.node
            && Some(&point.device) != finding.link.as_ref()
            && one.way.is_in()
            && is_group(&one.bytes)
    });
    let left = |frame: &[u8]| {
        seen.iter().any(|one| {
            let point = &points[one.point];
            let at_port =
                point.node == finding.node && Some(&point.device) == finding.link.as_ref();
            at_port && one.bytes == frame
        })
    };
    // Nobody captured at the port.
    let link = finding.link.as_deref()?;
    points
        .iter()
        .find(|point| point.node == finding.node && point.device == link)?;
    let kept = came.filter(|one| !left(&one.bytes)).count();
    (kept > 0).then(|| {
        let fact = format!(
            "{} to groups came in at {}, and did not leave by {link}",
            counted(kept, "frame"),
            finding.node
        );
        witnessed(Witness::Capture, fact, command(observed))
    })
}

/// Packets come to the finding's node with a hop limit that lets nobody send them on.
fn exhausted(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let points = &observed.ladder.points;
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let mut arrived = packets
        .filter(|packet| packet.forward)
        .filter_map(|packet| {
            let arrives = |hop: &&crate::ladder::Hop| {
                points[hop.point].node == finding.node
                    && hop.way.is_in()
                    && hop.headers.ttl().is_some_and(|limit| limit <= 1)
            };
            packet.hops.iter().find(arrives)
        });
    let first = arrived.next()?;
    let fact = format!(
        "{} came to {} with a hop limit of {}",
        counted(1 + arrived.count(), "packet"),
        points[first.point],
        first.headers.ttl().unwrap_or_default()
    );
    Some(witnessed(Witness::Capture, fact, command(observed)))
}

/// The finding's node answers, and nobody translates the answers: they are seen last with its own
/// address.
fn untranslated(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let points = &observed.ladder.points;
    let vip = observed.service.ip();
    let conversations = observed.ladder.conversations.iter();
    let mut answers = conversations
        .flat_map(|one| &one.packets)
        .filter_map(|packet| {
            let (first, last) = (packet.hops.first()?, packet.hops.last()?);
            let (sent, seen) = (first.headers.ip()?.flow()?, last.headers.ip()?.flow()?);
            let begins = points[first.point].node == finding.node
                && !first.way.is_in()
                && points[first.point].addresses.contains(&sent.source.ip());
            let is_to_client = Some(sent.destination.ip()) == observed.client;
            (begins && is_to_client && sent.source.ip() != vip && sent.source == seen.source)
                .then(|| (sent.source, points[last.point].to_string()))
        });
    let (source, place) = answers.next()?;
    let fact = format!(
        "{} from {source} seen last at {place}, never translated to {vip}",
        counted(1 + answers.count(), "answer")
    );
    Some(witnessed(Witness::Capture, fact, command(observed)))
}

/// The finding's node sends on what it should take.
fn forwarded(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let points = &observed.ladder.points;
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let passed = packets.filter(|packet| {
        let at_node = |hop: &&crate::ladder::Hop| points[hop.point].node == finding.node;
        let is_asked = |hop: &crate::ladder::Hop| {
            let ip = hop.headers.ip();
            ip.is_some_and(|ip| ip.innermost().destination == observed.service.ip())
        };
        let mut hops = packet.hops.iter().filter(at_node);
        hops.any(|hop| hop.way.is_in()) && hops.any(|hop| !hop.way.is_in() && is_asked(hop))
    });
    let count = passed.count();
    (count > 0).then(|| {
        let fact = format!(
            "{} sends {} to {} on instead of taking it",
            finding.node,
            counted(count, "packet"),
            observed.service.ip()
        );
        witnessed(Witness::Capture, fact, command(observed))
    })
}

/// Frames whose checksum nobody completed.
fn wrong_checksums(observed: &Observed<'_>) -> Option<Evidence> {
    let conversations = observed.ladder.conversations.iter();
    let hops = conversations
        .flat_map(|one| &one.packets)
        .flat_map(|packet| &packet.hops);
    let mut wrong = hops.filter(|hop| hop.checksum == Checksum::Wrong);
    let first = wrong.next()?;
    let place = &observed.ladder.points[first.point];
    let fact = format!(
        "{} with a wrong checksum, first at {place}",
        counted(1 + wrong.count(), "frame")
    );
    Some(witnessed(Witness::Capture, fact, command(observed)))
}

/// Several hardware addresses say that the virtual address is theirs.
fn answers(observed: &Observed<'_>) -> Option<Evidence> {
    let vip = observed.service.ip();
    let told: BTreeSet<Mac> = arp(observed)
        .filter(|message| message.operation == 2 && IpAddr::V4(message.sender) == vip)
        .map(|message| message.sender_mac)
        .collect();
    let names: Vec<String> = told.iter().map(ToString::to_string).collect();
    (told.len() > 1).then(|| {
        let fact = format!("{} answer for {vip}: {}", told.len(), names.join(", "));
        witnessed(Witness::Capture, fact, format!("arping -c 3 {vip}"))
    })
}

/// The finding's node asks others with the virtual address as its own.
fn announcement(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let vip = observed.service.ip();
    let node = observed.before.node(&finding.node)?;
    let own: Vec<Mac> = node.links.iter().filter_map(|link| link.mac).collect();
    let asked = arp(observed)
        .filter(|message| message.operation == 1 && IpAddr::V4(message.sender) == vip)
        .filter(|message| own.contains(&message.sender_mac) && message.sender != message.target);
    let count = asked.count();
    (count > 0).then(|| {
        let fact = format!(
            "{} asks {} with {vip} as its own",
            finding.node,
            counted(count, "time")
        );
        witnessed(Witness::Capture, fact, command(observed))
    })
}

fn arp<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a ArpHeaders> {
    let conversations = observed.ladder.conversations.iter();
    conversations
        .flat_map(|one| &one.packets)
        .filter_map(Packet::first)
        .filter_map(|hop| match &hop.headers {
            Headers::Arp(message) => Some(message),
            Headers::Ip(_) => None,
        })
}

fn command(observed: &Observed<'_>) -> String {
    format!("pointsman capture --vip {}", observed.service)
}
