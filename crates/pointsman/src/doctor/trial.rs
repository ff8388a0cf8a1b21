//! Findings tried in the kernel twin of their node: does it drop the frame, and does the fix help?

use std::net::IpAddr;

use anyhow::{Context, Result};
use pointsman_path::bundle::Bundle;
use pointsman_path::diagnosis::{self, Observed};
use pointsman_path::finding::{Evidence, Finding, Shows, Tested, Witness};
use pointsman_path::observation::Recording;
use pointsman_path::report::Unobserved;
use pointsman_path::snapshot::Snapshot;
use pointsman_wire::build::Frame;
use pointsman_wire::{Mac, Summary, checksum, protocol, tcp};

use super::arp;
use super::twin::Twin;

/// Frames of each trial.
const PROBES: usize = 7;
/// Most findings tried.
const TRIALS: usize = 4;

/// Tries all findings that a twin can show, several at once; why one can't be tried is told.
pub(super) fn all(
    findings: &mut [Finding],
    bundle: &Bundle,
    seen: Option<(&Observed<'_>, &Recording)>,
    unobserved: &mut Vec<Unobserved>,
) {
    let triable = findings
        .iter_mut()
        .filter(|finding| finding.trial.is_some())
        .take(TRIALS);
    let missing: Vec<Unobserved> = std::thread::scope(|scope| {
        let threads: Vec<_> = triable
            .map(|finding| {
                let start = || {
                    let node = bundle.node(&finding.node)?;
                    let real = seen.and_then(|(observed, recording)| {
                        let (at, device) = diagnosis::last_frame(finding, observed)?;
                        let seen = recording.observations.get(at)?;
                        let mut frame = seen.bytes.clone();
                        if seen.checksum_pending {
                            complete(&mut frame);
                        }
                        // A packet tells nothing about what ARP may say.
                        let kind = |frame: &[u8]| frame.get(12..14).map(<[u8]>::to_vec);
                        let shows = kind(&frame) == kind(&finding.trial.as_ref()?.frame);
                        shows.then_some((device, frame))
                    });
                    Some((node, real))
                };
                let input = start();
                let name = format!("{} in a twin of {}", finding.code, finding.node);
                let thread = scope.spawn(move || {
                    let (node, real) = input.context("it was not read")?;
                    one(finding, node, real)
                });
                (name, thread)
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|(what, thread)| {
                let because = match thread.join() {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(_) => "the trial broke off".to_owned(),
                };
                Some(Unobserved { what, because })
            })
            .collect()
    });
    unobserved.extend(missing);
    for finding in findings.iter_mut() {
        diagnosis::settle(finding);
    }
    diagnosis::sort(findings);
}

fn one(finding: &mut Finding, node: &Snapshot, real: Option<(String, Vec<u8>)>) -> Result<()> {
    let mut trial = finding.trial.clone().context("no frame shows it")?;
    let named = trial.port.clone().or_else(|| finding.link.clone());
    let link = named.context("no port is known")?;
    // A question by ARP is made for the port; of packets the one that was lost shows more.
    let asks = matches!(trial.shows, Shows::Unanswered | Shows::AsksAsItself);
    let real = real.filter(|(port, frame)| {
        let fits = trial.port.as_ref().is_none_or(|own| own == port);
        !asks && fits && (trial.port.is_none() || Summary::parse(frame).is_some())
    });
    let source = if real.is_some() {
        "the frame seen last"
    } else {
        complete(&mut trial.frame);
        "a frame made for it"
    };
    let (port, frame) = match real {
        Some(real) => real,
        None if trial.enters => (link.clone(), trial.frame.clone()),
        None => {
            let bridge = node.link(&link).and_then(|link| link.master.as_deref());
            let bridge = bridge.with_context(|| format!("{link} is no port of a bridge"))?;
            let other = node.ports_of(bridge).find(|other| other.name != link);
            let other = other.with_context(|| format!("{bridge} has no other port"))?;
            (other.name.clone(), trial.frame.clone())
        }
    };
    let input = Input {
        enters: port == link,
        link,
        port,
        frame,
        shows: trial.shows,
    };
    let mut twin = Twin::build(node)?;
    let before = input.put(&mut twin)?;
    if before == PROBES {
        anyhow::bail!(
            "there {source} {}: what stops it is not in the twin",
            input.words()
        );
    }
    finding.fixes.extend(trial.tempting);
    let mut proved = None;
    // The wrong one first: behind one that helps it would seem to help too.
    for fix in finding.fixes.iter_mut().rev() {
        let commands = fix.commands.iter().filter(|command| !command.is_empty());
        // One that begins to fail leaves a twin that shows nothing any more.
        if fix.commands.is_empty() || fix.node.is_some() {
            continue;
        }
        let ran: Result<Vec<()>> = commands.map(|command| twin.run(command)).collect();
        if ran.is_err() {
            break;
        }
        let after = input.put(&mut twin)?;
        fix.tested = Some(Tested {
            before,
            after,
            of: PROBES,
            by: Witness::Twin,
        });
        if after == PROBES {
            proved = Some(after);
        }
        let undone: Result<Vec<()>> = fix.undo.iter().map(|command| twin.run(command)).collect();
        if undone.is_err() {
            break;
        }
    }
    let helped = proved.map_or_else(String::new, |after| {
        format!(", and {after} of {PROBES} with the fix")
    });
    finding.evidence.push(Evidence {
        fact: format!(
            "in a twin of {} {source} {} {before} of {PROBES} times{helped}",
            finding.node,
            input.words()
        ),
        command: String::new(),
        node: None,
        witness: Some(Witness::Twin),
    });
    Ok(())
}

/// A frame for a twin, and what shows that all is well.
struct Input {
    link: String,
    port: String,
    enters: bool,
    frame: Vec<u8>,
    shows: Shows,
}

impl Input {
    /// What the frame does where all is well.
    const fn words(&self) -> &'static str {
        match self.shows {
            Shows::Passes => "comes through",
            Shows::Answered => "is answered",
            Shows::Unanswered => "is left unanswered",
            Shows::AsksAsItself => "makes it ask in its own name",
            Shows::Untouched(_) => "comes through as it was",
        }
    }

    /// Puts the frame in, and counts how often all was well.
    fn put(&self, twin: &mut Twin) -> Result<usize> {
        let Self { port, frame, .. } = self;
        match self.shows {
            Shows::Passes => twin.put_in(port, frame, PROBES, |place, seen| {
                place != port && (self.enters || place == self.link) && is_same(frame, seen)
            }),
            Shows::Answered => twin.put_in(port, frame, PROBES, |_, seen| answers(frame, seen)),
            Shows::Unanswered => {
                let target = asked_for(frame);
                let answered = twin.put_in(port, frame, PROBES, |_, seen| {
                    arp::operation(seen) == Some(arp::ANSWER) && arp::sender(seen) == target
                })?;
                Ok(PROBES - answered)
            }
            Shows::Untouched(service) => {
                let mut well = 0;
                let mut sockets = Vec::new();
                for _ in 0..PROBES {
                    let (socket, request) = twin.ask(service)?;
                    sockets.push(socket);
                    let answer = accepting(frame, &request).context("an answer can't be made")?;
                    well += twin.put_in(port, &answer, 1, |place, seen| {
                        place != port && is_same(&answer, seen)
                    })?;
                }
                Ok(well)
            }
            Shows::AsksAsItself => {
                let vip = Summary::parse(frame).map(|packet| packet.destination);
                twin.answers_arp(false);
                let mut well = 0;
                for _ in 0..PROBES {
                    for forget in ["nud permanent ", ""] {
                        // Nothing to forget is no harm.
                        let _ = twin.run(&format!("ip neighbour flush {forget}dev {port}"));
                    }
                    well += twin.put_in(port, frame, 1, |_, seen| {
                        let asks = arp::operation(seen) == Some(arp::QUESTION);
                        asks && arp::sender(seen) != vip
                    })?;
                }
                twin.answers_arp(true);
                Ok(well)
            }
        }
    }
}

/// The answer to a request for a connection, on the way that another answer took.
fn accepting(other: &[u8], request: &[u8]) -> Option<Vec<u8>> {
    let asked = Summary::parse(request)?;
    let (from, to) = asked.ports?;
    let (destination, source) = (other.first_chunk()?, other.get(6..12)?.first_chunk()?);
    let frame = Frame::ip(asked.destination, asked.source)
        .macs(Mac(*source), Mac(*destination))
        .tcp(to, from)
        .flags(tcp::SYN | tcp::ACK)
        .acknowledgement(asked.tcp?.sequence.wrapping_add(1));
    Some(frame.build())
}

/// Whom a question by ARP asks for.
fn asked_for(frame: &[u8]) -> Option<IpAddr> {
    arp::target(frame)
}

/// Whether a packet goes back from where another was sent to.
fn answers(asked: &[u8], seen: &[u8]) -> bool {
    let (Some(asked), Some(seen)) = (Summary::parse(asked), Summary::parse(seen)) else {
        return false;
    };
    let ports = asked
        .ports
        .map(|(source, destination)| (destination, source));
    seen.source == asked.destination && seen.destination == asked.source && seen.ports == ports
}

/// Whether two frames carry the same packet.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (Summary::parse(one), Summary::parse(other)) {
        (Some(one), Some(other)) => {
            let key = |packet: &Summary| {
                let inner = packet.innermost();
                let sequence = inner.tcp.as_ref().map(|tcp| tcp.sequence);
                (inner.source, inner.destination, inner.ports, sequence)
            };
            key(&one) == key(&other)
        }
        (None, None) => one.get(12..42) == other.get(12..42) && one.len() >= 42,
        _ => false,
    }
}

/// Completes the checksum that was left to a device, of TCP and UDP without VLAN tags and tunnels.
pub(super) fn complete(frame: &mut [u8]) {
    let Some(summary) = Summary::parse(frame) else {
        return;
    };
    let (start, addresses) = match (summary.version, frame.get(12..14)) {
        (4, Some([0x08, 0x00])) => {
            let Some(first) = frame.get(14) else { return };
            (14 + 4 * usize::from(first & 0x0f), 26..34)
        }
        (6, Some([0x86, 0xdd])) => (54, 22..54),
        _ => return,
    };
    let at = match summary.protocol {
        protocol::TCP => start + 16,
        protocol::UDP => start + 6,
        _ => return,
    };
    let end = match summary.version {
        4 => 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
        _ => 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])),
    };
    if at + 2 > end || end > frame.len() {
        return;
    }
    frame[at..at + 2].fill(0);
    let both = &frame[addresses];
    let (source, destination) = both.split_at(both.len() / 2);
    let length = u32::try_from(end - start).unwrap_or_default();
    let sum = checksum::pseudo_header(source, destination, summary.protocol, length);
    // 0 would say that there is none.
    let sum = match !checksum::fold(checksum::add(sum, &frame[start..end])) {
        0 => 0xffff,
        sum => sum,
    };
    frame[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
}
