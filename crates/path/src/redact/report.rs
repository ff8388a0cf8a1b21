//! Reports without names and addresses, field by field: words of the format itself stay.

use std::net::SocketAddr;

use super::{Cover, table};
use crate::diagnosis::Outcome;
use crate::finding::Finding;
use crate::ladder::Courses;
use crate::report::Report;
use crate::snapshot::Origin;
use crate::topology::{Peer, Topology};

/// Covers everything in a report that names or addresses somebody.
pub(super) fn redact(report: &mut Report, cover: &Cover) {
    let text = |text: &mut String| *text = cover.text(text);
    let socket = |own: &mut SocketAddr| own.set_ip(cover.ip(own.ip()));
    report.redacted = true;
    socket(&mut report.question.service);
    if let Some(client) = &mut report.question.client {
        *client = cover.ip(*client);
    }
    report.question.asker.iter_mut().for_each(text);
    text(&mut report.verdict.summary);
    text(&mut report.sent);
    for outcome in &mut report.outcomes {
        if let Outcome::Failed(why) = outcome {
            text(why);
        }
    }
    report.ladder = table::rewrite(&report.ladder, |cell| cover.text(cell));
    if let Some(own) = &mut report.courses {
        courses(own, cover);
    }
    if let Some(own) = &mut report.topology {
        topology(own, cover);
    }
    for ahead in &mut report.ahead {
        ahead.places.iter_mut().for_each(|place| peer(place, cover));
    }
    for own in report.cause.iter_mut().chain(&mut report.also) {
        finding(own, cover);
    }
    for gap in &mut report.not_observed {
        text(&mut gap.what);
        text(&mut gap.because);
    }
    report.changes.iter_mut().for_each(text);
}

fn courses(courses: &mut Courses, cover: &Cover) {
    let text = |text: &mut String| *text = cover.text(text);
    text(&mut courses.of);
    courses.server.iter_mut().for_each(text);
    for course in &mut courses.ways {
        text(&mut course.what);
        for hop in &mut course.hops {
            text(&mut hop.node);
            text(&mut hop.device);
            text(&mut hop.addresses);
            hop.macs.iter_mut().flatten().for_each(text);
            for change in &mut hop.changed {
                text(&mut change.before);
                text(&mut change.after);
            }
            hop.notes.iter_mut().for_each(text);
        }
        for gap in &mut course.gaps {
            text(&mut gap.node);
            text(&mut gap.device);
        }
    }
}

fn topology(topology: &mut Topology, cover: &Cover) {
    let text = |text: &mut String| *text = cover.text(text);
    if let Some(vip) = &mut topology.vip {
        vip.set_ip(cover.ip(vip.ip()));
    }
    if let Some(client) = &mut topology.client {
        *client = cover.ip(*client);
    }
    topology.asker.iter_mut().for_each(text);
    for node in &mut topology.nodes {
        text(&mut node.name);
        if let Origin::Host(host) = &mut node.at {
            text(host);
        }
        for address in &mut node.addresses {
            *address = cover.ip(*address);
        }
        for port in &mut node.ports {
            text(&mut port.name);
            port.mac.iter_mut().for_each(text);
            port.bridge.iter_mut().for_each(text);
            port.peer.iter_mut().for_each(|own| peer(own, cover));
        }
    }
}

fn peer(peer: &mut Peer, cover: &Cover) {
    peer.node = cover.text(&peer.node);
    peer.port = cover.text(&peer.port);
}

fn finding(finding: &mut Finding, cover: &Cover) {
    let text = |text: &mut String| *text = cover.text(text);
    text(&mut finding.node);
    finding.link.iter_mut().for_each(text);
    if let Some(rule) = &mut finding.rule {
        text(&mut rule.table);
        text(&mut rule.chain);
        text(&mut rule.text);
        text(&mut rule.listing);
    }
    text(&mut finding.words);
    for evidence in &mut finding.evidence {
        text(&mut evidence.fact);
        text(&mut evidence.command);
        evidence.node.iter_mut().for_each(text);
    }
    finding.owner.iter_mut().for_each(text);
    for fix in &mut finding.fixes {
        text(&mut fix.words);
        fix.commands.iter_mut().chain(&mut fix.undo).for_each(text);
        fix.node.iter_mut().for_each(text);
        for step in &mut fix.afterwards {
            text(&mut step.node);
            text(&mut step.command);
        }
    }
    // A frame holds addresses.
    finding.trial = None;
}
