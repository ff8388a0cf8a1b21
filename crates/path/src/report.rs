//! The doctor's answer: does it work, and if not, where, why, and what mends it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::capture_file::Remarks;
use crate::catalogue::Code;
use crate::diagnosis::{self, Observed, Outcome};
use crate::finding::{Confidence, Finding};
use crate::ladder::{Conversation, Courses, Gap, Ladder, Protocol, Style};
use crate::topology::{Peer, Topology};

/// What a report says it is.
pub const SCHEMA: &str = "pointsman.report/1";

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The virtual service.
    pub service: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// The node that asked.
    pub asker: Option<String>,
}

/// Whether it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does.
    Healthy,
    /// It does not, or configuration says that it can't.
    Fault,
    /// Nobody could tell.
    Unknown,
}

/// The answer in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it works.
    pub status: Status,
    /// The fault, if it has a name.
    pub code: Option<Code>,
    /// How sure that is.
    pub confidence: Option<Confidence>,
    /// The sentence.
    pub summary: String,
}

/// A way to find out that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unobserved {
    /// What is not known.
    pub what: String,
    /// Why.
    pub because: String,
}

/// The way that packets were to go on, of which nothing was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// True from client to server.
    pub forward: bool,
    /// Ports by which it leaves and enters nodes.
    pub places: Vec<Peer>,
}

/// A way to find out, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// Its name: `captures`, `nft trace`.
    pub name: String,
    /// Whether it was taken.
    pub ran: bool,
    /// What it did and saw, or why it was not taken.
    pub note: String,
}

impl Method {
    /// One that was taken.
    pub fn ran(name: &str, note: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ran: true,
            note: note.into(),
        }
    }

    /// One that was not, because.
    pub fn not_run(name: &str, because: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ran: false,
            note: because.into(),
        }
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program.
    pub tool: String,
    /// When, milliseconds since 1970; 0 if nobody knows.
    #[serde(default)]
    pub taken: u64,
    /// Whether names and addresses were replaced.
    #[serde(default)]
    pub redacted: bool,
    /// What was asked.
    pub question: Question,
    /// Whether it works.
    pub verdict: Verdict,
    /// What was sent, in words; empty if nothing was.
    pub sent: String,
    /// How each probe ended.
    pub outcomes: Vec<Outcome>,
    /// Packets of the broken direction, hop by hop; empty if nothing was seen.
    pub ladder: String,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub courses: Option<Courses>,
    /// Who is there and how they are connected, as found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// The ways that were not seen to their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<Ahead>,
    /// What the verdict is about.
    pub cause: Option<Finding>,
    /// Everything else that stands in the way or may.
    pub also: Vec<Finding>,
    /// What could not be observed.
    pub not_observed: Vec<Unobserved>,
    /// Ways to find out: those taken, and those not.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// What the doctor changed and did not take back; always nothing.
    pub changes: Vec<String>,
}

impl Report {
    /// Decides by what was found and seen.
    ///
    /// `lost` says that packets of the service were seen to end too soon.
    pub fn verdict(
        question: &Question,
        findings: &[Finding],
        outcomes: &[Outcome],
        lost: bool,
    ) -> Verdict {
        let answered = outcomes.iter().filter(|one| **one == Outcome::Answered);
        let answered = answered.count();
        let probed = !outcomes.is_empty();
        let sentence = |rest: String| Verdict {
            status: Status::Unknown,
            code: None,
            confidence: None,
            summary: rest,
        };
        let service = question.service;
        // What breaks it for others though these probes were answered, if that was seen.
        let top = findings
            .iter()
            .find(|one| !(probed && answered == outcomes.len()) || outlives_answers(one));
        let count = format!("{answered} of {} answered", outcomes.len());
        match top {
            Some(finding) => Verdict {
                status: Status::Fault,
                code: Some(finding.code),
                confidence: Some(finding.confidence),
                summary: finding.words.clone(),
            },
            None if probed && answered == outcomes.len() => Verdict {
                status: Status::Healthy,
                ..sentence(format!("{service} answers: {count}"))
            },
            None if !lost && probed && outcomes.iter().all(|one| *one == Outcome::Hung) => {
                sentence(format!(
                    "{service} takes connections and says nothing to HTTP: it may be another protocol's"
                ))
            }
            None if probed => Verdict {
                status: Status::Fault,
                ..sentence(format!(
                    "{service} does not answer ({count}), for a reason that is not in the catalogue"
                ))
            },
            None => sentence(format!(
                "nothing wrong with {service} that configuration could tell, and nothing was sent"
            )),
        }
    }

    /// Takes findings apart into the cause and the rest.
    pub fn settle(&mut self, findings: Vec<Finding>) {
        let healthy = self.verdict.status == Status::Healthy;
        let code = self.verdict.code;
        let mut rest = findings;
        let at = rest
            .iter()
            .position(|one| code == Some(one.code) && one.words == self.verdict.summary);
        self.cause = at.map(|at| rest.remove(at));
        // Who was answered need not hear what might be wrong.
        rest.retain(|one| !healthy || one.confidence == Confidence::Proved);
        self.also = rest;
    }

    /// The exit code: 0 healthy, 1 fault, 2 nobody knows.
    pub const fn exit_code(&self) -> u8 {
        match self.verdict.status {
            Status::Healthy => 0,
            Status::Fault => 1,
            Status::Unknown => 2,
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let status = match self.verdict.status {
            Status::Healthy => "HEALTHY",
            Status::Fault => "FAULT",
            Status::Unknown => "UNKNOWN",
        };
        let code = self.verdict.code.map(|code| format!("  {code}"));
        let sure = self.verdict.confidence.map(|sure| format!(" ({sure})"));
        let _ = writeln!(
            text,
            "{status}{}{}  {}",
            code.unwrap_or_default(),
            sure.unwrap_or_default(),
            self.verdict.summary
        );
        let indent = "         ";
        if !self.sent.is_empty() {
            let _ = writeln!(text, "{indent}{}: {}", self.sent, endings(&self.outcomes));
        }
        if !self.ladder.is_empty() {
            let _ = write!(text, "\n{}", self.ladder);
        }
        if let Some(cause) = &self.cause {
            finding(&mut text, cause);
        }
        if !self.also.is_empty() {
            text += "\nAlso\n";
            for other in &self.also {
                let _ = writeln!(
                    text,
                    "  {}  {} ({})",
                    other.code, other.words, other.confidence
                );
                for fix in other.fixes.iter().take(1) {
                    let node = fix.node.as_ref().unwrap_or(&other.node);
                    for command in &fix.commands {
                        let _ = writeln!(text, "           {node}# {command}");
                    }
                }
            }
        }
        if !self.not_observed.is_empty() {
            text += "\nNot seen\n";
            for (because, what) in by_reason(&self.not_observed) {
                let _ = writeln!(text, "  {}, because {because}", what.join(", "));
            }
        }
        if !self.methods.is_empty() {
            text += "\nMethods\n";
            for method in &self.methods {
                let (name, note) = (&method.name, &method.note);
                let _ = match method.ran {
                    true => writeln!(text, "  ran      {name:14}  {note}"),
                    false => writeln!(text, "  not run  {name:14}  because {note}"),
                };
            }
        }
        text += "\nChanges made by doctor: none left\n";
        text
    }
}

/// What could not be seen, under each reason, in order.
pub(crate) fn by_reason(gaps: &[Unobserved]) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for gap in gaps {
        match reasons.iter_mut().find(|(known, _)| *known == gap.because) {
            Some((_, what)) => what.push(&gap.what),
            None => reasons.push((&gap.because, vec![&gap.what])),
        }
    }
    reasons
}

/// Whether a fault harms clients though probes were answered: it was seen twice, and does not stop every
/// packet.
fn outlives_answers(finding: &Finding) -> bool {
    let partial = [
        Code::ArpFlux,
        Code::ArpAnnounce,
        Code::DuplicateVip,
        Code::StrictArp,
        Code::VrrpSplit,
    ];
    // Of two with one address, both are always there; who is heard last gets the frames.
    let comes_and_goes = finding.code == Code::MacFlapping;
    finding.confidence == Confidence::Proved && partial.contains(&finding.code)
        || finding.confidence >= Confidence::Likely && comes_and_goes
}

fn finding(text: &mut String, cause: &Finding) {
    text.push_str("\nProof\n");
    for (number, evidence) in cause.evidence.iter().enumerate() {
        let kind = evidence
            .witness
            .map_or("config".to_owned(), |witness| witness.to_string());
        let _ = writeln!(text, "  {} {kind:8} {}", number + 1, evidence.fact);
        if !evidence.command.is_empty() {
            let node = evidence.node.as_ref().unwrap_or(&cause.node);
            let _ = writeln!(text, "             {node}# {}", evidence.command);
        }
    }
    if let Some(owner) = &cause.owner {
        let _ = writeln!(text, "Owner  {owner}");
    }
    if !cause.fixes.is_empty() {
        let _ = writeln!(text, "\nFix");
    }
    for fix in &cause.fixes {
        let by_hand = fix.commands.iter().all(String::is_empty);
        let untested = if by_hand { "by hand" } else { "untested" };
        let tried = fix.tested.map_or(untested.to_owned(), |tested| {
            let does = if tested.after == 0 {
                ", does NOT help"
            } else {
                ""
            };
            format!(
                "{}/{} pass in a {} of {} ({}/{} before{does})",
                tested.after, tested.of, tested.by, cause.node, tested.before, tested.of
            )
        });
        let _ = writeln!(text, "  {tried}  {}", fix.words);
        let node = fix.node.as_ref().unwrap_or(&cause.node);
        for command in fix.commands.iter().filter(|command| !command.is_empty()) {
            let _ = writeln!(text, "             {node}# {command}");
        }
        for step in &fix.afterwards {
            let _ = writeln!(text, "       then  {}# {}", step.node, step.command);
        }
        for command in fix.undo.iter().filter(|command| !command.is_empty()) {
            let _ = writeln!(text, "       undo  {node}# {command}");
        }
    }
}

/// `7 timed out`.
pub(crate) fn endings(outcomes: &[Outcome]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for outcome in outcomes {
        let words = outcome.to_string();
        match counts.iter_mut().find(|(other, _)| *other == words) {
            Some((_, count)) => *count += 1,
            None => counts.push((words, 1)),
        }
    }
    let counts = counts
        .iter()
        .map(|(words, count)| format!("{count} {words}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Most ways of a conversation that are told.
const WAYS: usize = 6;

/// The ladder of what broke, for people and for programs; the cause is what the verdict is about.
pub fn broken(observed: &Observed<'_>, cause: Option<&Finding>) -> (String, Option<Courses>) {
    let style = Style {
        packets: WAYS,
        ..Style::default()
    };
    match broken_conversation(observed, cause) {
        Some(one) => (
            observed.ladder.table(one, style),
            Some(observed.ladder.courses(one, WAYS)),
        ),
        None => (String::new(), None),
    }
}

/// A conversation of the service in which a packet got lost, or ARP about it; one that ends at the cause
/// before others.
fn broken_conversation<'a>(
    observed: &Observed<'a>,
    cause: Option<&Finding>,
) -> Option<&'a Conversation> {
    let ladder = observed.ladder;
    let lost = |one: &&Conversation| {
        let mut ends = diagnosis::ends(observed);
        ends.any(|end| std::ptr::eq(end, *one))
    };
    let of_service = |one: &&Conversation| {
        one.service.ip() == observed.service.ip() && matches!(one.protocol, Protocol::Ip(_))
    };
    let at_cause = |one: &&Conversation| {
        let Some(cause) = cause else { return false };
        let mut packets = one.packets.iter().filter(|packet| !packet.delivered);
        packets.any(|packet| {
            let last = packet.hops.last();
            last.is_some_and(|hop| ladder.points[hop.point].node == cause.node)
        })
    };
    let all = || ladder.conversations.iter();
    all()
        .filter(of_service)
        .filter(at_cause)
        .find(lost)
        .or_else(|| all().filter(at_cause).find(lost))
        .or_else(|| all().filter(of_service).find(lost))
        .or_else(|| all().find(of_service))
        .or_else(|| all().find(lost))
}

/// What a file of the captured frames says of them: the verdict about all, findings where packets end.
pub fn remarks(report: &Report, ladder: &Ladder) -> Remarks {
    let mut remarks = Remarks::default();
    let text = report.text();
    remarks.whole = text.lines().next().map(str::to_owned);
    let packets = || ladder.conversations.iter().flat_map(|one| &one.packets);
    for (at, finding) in report.cause.iter().chain(&report.also).enumerate() {
        let remark = format!(
            "finding {}: {} ({}): {}",
            at + 1,
            finding.code,
            finding.confidence,
            finding.words
        );
        let is_here = |point: usize| {
            let point = &ladder.points[point];
            let link = finding.link.as_ref();
            point.node == finding.node && link.is_none_or(|link| *link == point.device)
        };
        let ends = packets()
            .filter(|packet| !packet.delivered)
            .filter_map(|packet| {
                let last = packet.hops.last()?;
                let beyond = packet.gaps.iter().find_map(|(after, gap)| match gap {
                    Gap::Missing(at) if *after == packet.hops.len() => Some(*at),
                    _ => None,
                });
                (is_here(last.point) || beyond.is_some_and(is_here)).then_some(last.observation)
            });
        let mut ends: Vec<usize> = ends.collect();
        if ends.is_empty() {
            // Nothing ends there: where it was seen first.
            let hops = packets().flat_map(|packet| &packet.hops);
            ends.extend(
                hops.filter(|hop| is_here(hop.point))
                    .map(|hop| hop.observation)
                    .next(),
            );
        }
        for end in ends {
            let said = remarks.frames.entry(end).or_default();
            if !said.is_empty() {
                *said += "; ";
            }
            *said += &remark;
        }
    }
    remarks
}

/// What limits what captures say.
pub fn limits(ladder: &Ladder) -> Vec<Unobserved> {
    let mut limits: Vec<Unobserved> = Vec::new();
    for point in &ladder.points {
        if point.lost > 0 {
            limits.push(Unobserved {
                what: format!("all frames at {point}"),
                because: format!("the capture lost {}", point.lost),
            });
        }
    }
    let hidden = ladder.conversations.iter().flat_map(|one| &one.packets);
    let hidden = hidden
        .flat_map(|packet| &packet.gaps)
        .filter_map(|(_, gap)| match gap {
            Gap::Hidden(at) => Some(*at),
            Gap::Missing(_) => None,
        });
    let places: std::collections::BTreeSet<usize> = hidden.collect();
    for at in places {
        limits.push(Unobserved {
            what: format!("frames at {}", ladder.points[at]),
            because: "an XDP program takes them before captures see them".to_owned(),
        });
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Evidence, Witness};

    fn question() -> Question {
        Question {
            service: "192.0.2.1:80".parse().unwrap(),
            protocol: "tcp".to_owned(),
            client: None,
            asker: None,
        }
    }

    fn finding(code: Code, witnesses: &[Witness]) -> Finding {
        let mut finding = Finding::new(code, "rs1", "something is wrong");
        for witness in witnesses {
            finding.evidence.push(Evidence {
                fact: "seen".to_owned(),
                command: String::new(),
                node: None,
                witness: Some(*witness),
            });
        }
        diagnosis::settle(&mut finding);
        finding
    }

    fn verdict(findings: &[Finding], outcomes: &[Outcome], lost: bool) -> Verdict {
        Report::verdict(&question(), findings, outcomes, lost)
    }

    #[test]
    fn only_witnesses_of_different_kinds_prove() {
        let sure = |witnesses: &[Witness]| finding(Code::ReversePath, witnesses).confidence;
        assert_eq!(sure(&[]), Confidence::Possible);
        assert_eq!(sure(&[Witness::Counter]), Confidence::Likely);
        assert_eq!(sure(&[Witness::Counter; 3]), Confidence::Likely);
        assert_eq!(
            sure(&[Witness::Counter, Witness::Kernel]),
            Confidence::Proved
        );
    }

    #[test]
    fn who_was_answered_is_healthy_but_for_what_harms_others() {
        let answered = [Outcome::Answered, Outcome::Answered];
        let both = [Witness::Capture, Witness::Trace];
        let twice = |code| verdict(&[finding(code, &both)], &answered, false);
        assert_eq!(twice(Code::ReversePath).status, Status::Healthy);
        assert_eq!(twice(Code::ArpFlux).status, Status::Fault);
        let once = verdict(&[finding(Code::ArpFlux, &[])], &answered, false);
        assert_eq!((once.status, once.code), (Status::Healthy, None));
    }

    #[test]
    fn silence_alone_is_no_fault() {
        let hung = [Outcome::Hung];
        assert_eq!(verdict(&[], &hung, false).status, Status::Unknown);
        assert_eq!(verdict(&[], &hung, true).status, Status::Fault);
        assert_eq!(verdict(&[], &[], false).status, Status::Unknown);
        let partly = [Outcome::Answered, Outcome::TimedOut];
        let partly = verdict(&[], &partly, false);
        assert_eq!((partly.status, partly.code), (Status::Fault, None));
        assert!(partly.summary.contains("1 of 2"), "{}", partly.summary);
    }
}
