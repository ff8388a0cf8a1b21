//! Reports without names and addresses, field by field: words of the format itself stay.

use super::{Cover, table};
use crate::diagnosis::Outcome;
use crate::finding::{Evidence, Finding, Fix, RuleName, Step};
use crate::ladder::Courses;
use crate::report::{Method, Report};
use crate::snapshot::Origin;
use crate::topology::{Peer, Topology};

/// Covers everything in a report that names or addresses somebody.
pub(super) fn redact(report: &mut Report, cover: &Cover) {
    let text = |text: &mut String| *text = cover.text(text);
    // Each field by name, so that none is added without a thought of what it tells.
    let Report {
        schema: _,
        tool: _,
        taken: _,
        redacted,
        question,
        verdict,
        sent,
        outcomes,
        ladder,
        courses,
        topology,
        ahead,
        cause,
        also,
        not_observed,
        methods,
        changes,
    } = report;
    *redacted = true;
    question.service.set_ip(cover.ip(question.service.ip()));
    if let Some(client) = &mut question.client {
        *client = cover.ip(*client);
    }
    question.asker.iter_mut().for_each(text);
    [&mut verdict.summary, sent].into_iter().for_each(text);
    for outcome in outcomes {
        if let Outcome::Failed(why) = outcome {
            text(why);
        }
    }
    *ladder = table::rewrite(ladder, |cell| cover.text(cell));
    if let Some(own) = courses {
        self::courses(own, cover);
    }
    if let Some(own) = topology {
        self::topology(own, cover);
    }
    for ahead in ahead {
        ahead.places.iter_mut().for_each(|place| peer(place, cover));
    }
    for own in cause.iter_mut().chain(also) {
        finding(own, cover);
    }
    for gap in not_observed {
        text(&mut gap.what);
        text(&mut gap.because);
    }
    for method in methods {
        let Method {
            name: _,
            ran: _,
            note,
        } = method;
        text(note);
    }
    changes.iter_mut().for_each(text);
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
    // Each field by name, so that none is added without a thought of what it tells.
    let Finding {
        code: _,
        node,
        link,
        rule,
        confidence: _,
        words,
        evidence,
        owner,
        fixes,
        trial,
    } = finding;
    [node, words].into_iter().for_each(text);
    link.iter_mut().chain(owner).for_each(text);
    if let Some(RuleName {
        table,
        chain,
        text: rule,
        listing,
    }) = rule
    {
        [table, chain, rule, listing].into_iter().for_each(text);
    }
    for evidence in evidence {
        let Evidence {
            fact,
            command,
            node,
            witness: _,
        } = evidence;
        [fact, command].into_iter().chain(node).for_each(text);
    }
    for fix in fixes {
        let Fix {
            words,
            node,
            commands,
            undo,
            afterwards,
            tested: _,
        } = fix;
        let steps = afterwards
            .iter_mut()
            .flat_map(|Step { node, command }| [node, command]);
        let commands = commands.iter_mut().chain(undo);
        [words]
            .into_iter()
            .chain(node)
            .chain(commands)
            .chain(steps)
            .for_each(text);
    }
    // A frame holds addresses.
    *trial = None;
}
