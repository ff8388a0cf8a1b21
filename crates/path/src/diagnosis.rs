//! What probes showed, and which findings that proves.
//!
//! Configuration says what could be wrong; probes that were watched say what is. Each way of watching is
//! a [`Witness`], and only witnesses of different kinds count twice: one makes a finding *likely*, two
//! make it *proved*.

mod capture;
mod counter;
mod elsewhere;
mod hooks;
mod kernel;
mod refusal;
mod rewrite;
mod route;
mod source;
mod traces;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::catalogue::Code;
use crate::finding::{Confidence, Evidence, Finding, Witness};
use crate::ladder::Ladder;
use crate::observation::Recording;
pub use hooks::{HookCounts, Loss, NfHook, RuleTold, Traffic, rule_words, weigh_hooks};
pub use route::{RouteTold, RouteWish};

/// A packet that a kernel dropped while probes were under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDrop {
    /// The node; empty if nobody knows whose namespace it was.
    pub node: String,
    /// The device it had; empty if the kernel had forgotten it.
    pub device: String,
    /// The kernel's reason: `NETFILTER_DROP`.
    pub reason: String,
    /// The kernel's function.
    pub location: String,
    /// EtherType, host order.
    pub protocol: u16,
    /// The packet from its network header on, at least its beginning.
    pub packet: Vec<u8>,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// A connection was made, and nothing came.
    Hung,
    /// Nothing came.
    TimedOut,
    /// It was refused.
    Refused,
    /// Something else, in the kernel's words.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Hung => f.write_str("connected, and nothing came"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Refused => f.write_str("refused"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Everything that was seen while probes were under way.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The virtual service.
    pub service: SocketAddr,
    /// The client.
    pub client: Option<IpAddr>,
    /// The nodes before.
    pub before: &'a Bundle,
    /// The nodes after.
    pub after: &'a Bundle,
    /// The frames.
    pub recording: &'a Recording,
    /// The frames, joined.
    pub ladder: &'a Ladder,
    /// What kernels dropped; nothing if that could not be watched.
    pub drops: &'a [KernelDrop],
    /// Which way kernels say they send packets of the service.
    pub routes: &'a [RouteTold],
    /// How each probe ended.
    pub outcomes: &'a [Outcome],
    /// True for a service of UDP.
    pub udp: bool,
}

impl Observed<'_> {
    /// True when every probe was answered.
    pub fn is_answered(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|one| *one == Outcome::Answered)
    }
}

/// The ways that kernels are to be asked for.
pub fn routes_wanted(bundle: &Bundle, vip: IpAddr, client: Option<IpAddr>) -> Vec<RouteWish> {
    route::wishes(bundle, vip, client)
}

/// Adds to each finding what was seen of it and findings that only packets show, says how sure each is
/// now, and puts the surest first.
pub fn weigh(findings: &mut Vec<Finding>, observed: &Observed<'_>) {
    if !findings.iter().any(|one| one.code == Code::UdpSource) {
        findings.extend(source::find(observed));
    }
    let rewrites = [Code::BridgeFullNat, Code::BridgeDestinationNat];
    if !findings.iter().any(|one| rewrites.contains(&one.code)) {
        findings.extend(rewrite::find(observed));
    }
    for finding in findings.iter_mut() {
        if rewrites.contains(&finding.code) && finding.trial.is_none() {
            finding.trial = rewrite::trial(finding, observed);
        }
        let mut seen = Vec::new();
        seen.extend(counter::see(finding, observed));
        seen.extend(kernel::see(finding, observed));
        seen.extend(capture::see(finding, observed));
        seen.extend(traces::see(finding, observed));
        seen.extend(refusal::see(finding, observed));
        seen.extend(route::see(finding, observed));
        for evidence in seen {
            finding.evidence.push(evidence);
        }
        settle(finding);
    }
    sort(findings);
}

/// Puts the surest finding first, of the same ones that with the most witnesses.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| {
        let witnesses = std::cmp::Reverse(witnesses(finding).len());
        (
            std::cmp::Reverse(finding.confidence),
            witnesses,
            finding.code,
        )
    });
}

/// The kinds of witnesses that saw a finding at work.
pub fn witnesses(finding: &Finding) -> Vec<Witness> {
    let mut witnesses: Vec<Witness> = finding.evidence.iter().filter_map(|e| e.witness).collect();
    witnesses.sort_unstable();
    witnesses.dedup();
    witnesses
}

/// Says how sure a finding is by its witnesses.
pub fn settle(finding: &mut Finding) {
    let confidence = match witnesses(finding).len() {
        0 => Confidence::Possible,
        1 => Confidence::Likely,
        _ => Confidence::Proved,
    };
    finding.confidence = finding.confidence.max(confidence);
}

/// What a witness saw.
fn witnessed(witness: Witness, fact: String, command: impl Into<String>) -> Evidence {
    Evidence {
        fact,
        command: command.into(),
        node: None,
        witness: Some(witness),
    }
}

/// `1 packet`, `3 packets`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Conversations in which a packet got lost.
pub(crate) fn ends<'a>(
    observed: &'a Observed<'_>,
) -> impl Iterator<Item = &'a crate::ladder::Conversation> {
    capture::ends(observed)
        .into_iter()
        .map(|end| end.conversation)
}

/// Packets of the service that ended too soon.
pub(crate) fn lost<'a>(
    observed: &'a Observed<'_>,
) -> impl Iterator<Item = &'a crate::ladder::Packet> {
    capture::ends(observed).into_iter().map(|end| end.packet)
}

/// Packets of conversations in which the service says nothing.
pub(crate) fn unanswered<'a>(
    observed: &'a Observed<'_>,
) -> impl Iterator<Item = &'a crate::ladder::Packet> {
    let conversations = observed.ladder.conversations.iter();
    let speaks = |packet: &crate::ladder::Packet| {
        let first = packet.first().and_then(|hop| hop.headers.ip());
        let error = first.is_none_or(|ip| ip.innermost().quoted.is_some());
        !packet.forward && !error
    };
    conversations
        .filter(move |one| !one.packets.iter().any(speaks))
        .flat_map(|one| &one.packets)
}

/// Whether packets of the service, not only ARP, ended too soon.
pub fn has_lost_packets(observed: &Observed<'_>) -> bool {
    let is_ip =
        |one: &crate::ladder::Conversation| matches!(one.protocol, crate::ladder::Protocol::Ip(_));
    ends(observed).any(is_ip)
}

/// The frame of the service that was seen last at a finding's port: the index of the recording's
/// observation, and whether it came in there.
pub fn last_frame(finding: &Finding, observed: &Observed<'_>) -> Option<(usize, String)> {
    let points = &observed.ladder.points;
    let of_node = |end: &capture::End<'_>| {
        let last = end.packet.hops.last()?;
        let point = &points[last.point];
        let here = point.node == finding.node && last.way.is_in();
        let fits = finding.link.as_ref().is_none_or(|link| {
            *link == point.device || end.missed.is_none_or(|next| points[next].device == *link)
        });
        (here && fits).then(|| (last.observation, point.device.clone()))
    };
    capture::ends(observed).iter().find_map(of_node)
}
