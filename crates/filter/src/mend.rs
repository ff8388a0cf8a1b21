//! The smallest change of a guest's filter that lets a role work and keeps what the filter protects.
//!
//! Frames of the [catalogue] that the role needs are judged with the filter as it is. For
//! each that is dropped there are two cures, tried in this order: a longer list of addresses, where the
//! filter asks for one, and a rule just before the one that drops. The change is written as XML,
//! read again, compiled for each of libvirt's backends, and everything judged once more: it counts only
//! if all that is needed passes, and what was stopped before is stopped as before.

mod commands;
mod diff;
mod documents;
mod edit;
mod exemption;
mod list;
mod neutron;
mod search;

pub use commands::Commands;
pub use documents::{Document, Source, Subject};

use std::net::IpAddr;

use crate::catalogue::{self, Kind, Known, Method, Need, Part, Role, Scene};
use crate::diagnostic::Diagnostic;
use crate::explain::{Explanation, explain};
use crate::frame::FrameError;
use crate::judge::{Step, Verdict};
use crate::model::Ruleset;
use crate::nwfilter::{Backend, Binding, Compiled, Library, compile, reach};
use crate::route::{Direction, Host, Port};
use documents::Edits;
use list::Extension;

/// The port's name where the guest does not run.
const PORT: &str = "vnet0";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// All filters.
    pub library: &'a Library,
    /// The port's filter.
    pub binding: &'a Binding,
    /// Where that is written.
    pub source: Source<'a>,
    /// What the guest is, and with whom it talks.
    pub known: &'a Known,
    /// Which backends the change is for.
    pub backends: &'a [Backend],
    /// What else the change should do.
    pub wishes: Wishes,
}

/// What else a change should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Let packets pass to known real servers only, by their link-layer addresses.
    pub tight: bool,
    /// Let later fragments pass, which have no ports: then no rule can tell ports.
    pub fragments: bool,
    /// Let ICMP errors pass that belong to connections.
    pub icmp: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Everything that is needed passes.
    Nothing,
    /// The change.
    Change,
    /// There is none, and why: a sentence for each that was tried.
    None(Vec<String>),
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Mend {
    /// What was found.
    pub outcome: Outcome,
    /// What is needed and dropped now.
    pub blocked: Vec<Blocked>,
    /// The change in words, a line for each part.
    pub parts: Vec<String>,
    /// The change.
    pub documents: Vec<Document>,
    /// The commands for libvirt.
    pub virsh: Commands,
    /// The commands for neutron, which has no filters but a port's security.
    pub neutron: Commands,
    /// What passes with each of the filters.
    pub rows: Vec<Row>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What was not told and is assumed.
    pub assumed: Vec<String>,
}

/// A kind of frame that is needed and dropped.
#[derive(Debug, Clone)]
pub struct Blocked {
    /// The kind.
    pub kind: Kind,
    /// With which backend.
    pub backend: Backend,
    /// By what, and why.
    pub explanation: Explanation,
}

/// A kind of frame, and what becomes of it with each filter; one verdict for each backend.
#[derive(Debug, Clone)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// As it is.
    pub before: Vec<Verdict>,
    /// With the change.
    pub mended: Vec<Verdict>,
    /// With the virtual addresses in the list of addresses, and nothing else.
    pub listed: Vec<Verdict>,
    /// Without any filter.
    pub deleted: Vec<Verdict>,
}

impl Row {
    /// Whether the change lets it pass and the filter as it is does not.
    pub fn is_new(&self) -> bool {
        passes(&self.mended) && !passes(&self.before)
    }
}

/// Whether it passes with one of the backends.
fn passes(verdicts: &[Verdict]) -> bool {
    verdicts.contains(&Verdict::Pass)
}

impl Document {
    /// What it changes, as `diff -u` shows it.
    pub fn diff(&self) -> String {
        let old = self.before_file();
        match &self.before {
            Some(before) => diff::unified(&old, &self.file, before, &self.after),
            None => diff::unified("/dev/null", &self.file, "", &self.after),
        }
    }
}

/// Why the question can't be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MendError {
    /// A text is wrong.
    #[error(transparent)]
    Diagnostic(#[from] Diagnostic),
    /// A frame of the catalogue can't be judged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nobody said which virtual router it is.
    #[error("virtual link-layer addresses need the number of the virtual router")]
    NoVrid,
    /// Nobody said where the real servers are.
    #[error("a tight change needs the real servers' link-layer addresses")]
    NoServers,
}

/// Finds the smallest change.
pub fn mend(question: &Question<'_>) -> Result<Mend, MendError> {
    let known = question.known;
    if known.vmac && known.vrid.is_none() {
        return Err(MendError::NoVrid);
    }
    if question.wishes.tight && known.real_servers.iter().all(|server| server.mac.is_none()) {
        return Err(MendError::NoServers);
    }
    let scene = Scene::new(known);
    let bench = Bench {
        question,
        kinds: catalogue::kinds(&scene),
        facts: facts(known, &scene),
    };
    let mut before = bench.judge(question.library, question.binding)?;
    let mut notes = Vec::new();
    let (mut library, mut binding) = (question.library.clone(), question.binding.clone());
    if before.learning {
        // What is learned first are the guest's own addresses, if all goes well.
        let edits = Edits {
            lists: vec![search::learned(&bench)],
            rules: Vec::new(),
        };
        let written = documents::write(
            question.library,
            question.binding,
            &question.source,
            "",
            &edits,
        )?;
        before = bench.judge(&written.library, &written.binding)?;
        before.learning = true;
        (library, binding) = (written.library, written.binding);
        notes.push(
            "libvirt learns this port's address from what the guest sends first, which for a director              may be a client's packet; \"now\" is when it has learned the guest's own."
                .into(),
        );
    }
    let blocked = bench.explained(&library, &binding, bench.blocked(&before))?;
    let mut answer = Mend {
        outcome: Outcome::Nothing,
        blocked,
        parts: Vec::new(),
        documents: Vec::new(),
        virsh: Commands::default(),
        neutron: Commands::default(),
        rows: Vec::new(),
        notes,
        assumed: scene.assumed.clone(),
    };
    let mut after = None;
    if !answer.blocked.is_empty() {
        match search::search(&bench, &before)? {
            Ok(found) => {
                answer.outcome = Outcome::Change;
                answer.parts = found.edits.lists.iter().map(Extension::words).collect();
                let rules = found.edits.rules.iter().map(|rule| rule.words());
                answer.parts.extend(rules);
                answer.virsh = commands::virsh(&found.written.documents, question.binding);
                answer.neutron = neutron::neutron(&bench.wish(&scene));
                answer
                    .notes
                    .extend(bench.notes(&found.edits, &found.judged));
                answer.documents = found.written.documents;
                after = Some(found.judged);
            }
            Err(reasons) => answer.outcome = Outcome::None(reasons),
        }
    }
    let listed = bench.listed();
    let deleted = bench.judge_rules(&vec![Ruleset::default(); question.backends.len()])?;
    let pick = |judged: &Judged, at: usize| -> Vec<Verdict> {
        judged.kinds[at].iter().map(|one| one.verdict).collect()
    };
    let mended = after.as_ref().unwrap_or(&before);
    for (at, kind) in bench.kinds.iter().enumerate() {
        answer.rows.push(Row {
            kind: kind.clone(),
            before: pick(&before, at),
            mended: pick(mended, at),
            listed: listed
                .as_ref()
                .map(|judged| pick(judged, at))
                .unwrap_or_default(),
            deleted: pick(&deleted, at),
        });
    }
    if answer.outcome == Outcome::Change {
        answer.notes.extend(tempting(&answer.rows));
    }
    Ok(answer)
}

/// What is wrong with a longer list of addresses alone, if something is.
fn tempting(rows: &[Row]) -> Option<String> {
    let all_pass = |verdicts: &[Verdict]| verdicts.iter().all(|&one| one == Verdict::Pass);
    let is_same = |row: &Row| row.listed == row.mended;
    if rows.iter().all(is_same) || rows.iter().all(|row| row.listed.is_empty()) {
        return None;
    }
    let lacks = rows
        .iter()
        .find(|row| row.kind.need == Need::Must && !all_pass(&row.listed));
    if let Some(row) = lacks {
        return Some(format!(
            "Merely adding the VIP to the list of addresses does not do it; this would stay dropped: {}.",
            row.kind.words
        ));
    }
    let permits = rows.iter().find(|row| {
        row.kind.need == Need::MustNot && passes(&row.listed) && !passes(&row.mended)
    })?;
    Some(format!(
        "Merely adding the VIP to the list of addresses would also permit what should not pass: {}.",
        permits.kind.words
    ))
}

/// The addresses that a port's filter is told to be the guest's, as far as they are addresses.
pub fn pinned(library: &Library, binding: &Binding) -> Vec<IpAddr> {
    ["IP", "IPV6"]
        .iter()
        .filter_map(|name| list::scope(library, binding, name))
        .flat_map(|(_, values)| values)
        .filter_map(|value| value.parse().ok())
        .collect()
}

/// What rules may name.
fn facts(known: &Known, scene: &Scene) -> exemption::Known {
    let mac = |mac: pointsman_wire::Mac| crate::frame::mac(mac);
    let mut facts = exemption::Known {
        mac: mac(known.mac),
        ..exemption::Known::default()
    };
    if known.vmac {
        let router = |v6| mac(pointsman_wire::vrrp::virtual_mac(scene.vrid, v6));
        facts.virtual_macs = scene
            .casts
            .iter()
            .map(|cast| router(cast.own.is_ipv6()))
            .collect();
    }
    for cast in &scene.casts {
        facts.own.push(cast.own);
        if !known.addresses.contains(&cast.own) {
            facts.assumed.push(cast.own);
        }
        for (station, port) in &cast.servers {
            let told = known
                .real_servers
                .iter()
                .find(|server| server.address == station.address);
            if told.is_none() {
                facts.assumed.push(station.address);
            }
            facts.servers.push(exemption::Server {
                mac: told.and_then(|server| server.mac).map(mac),
                address: Some(station.address),
            });
            facts.ports.extend(port);
        }
    }
    for vip in &known.vips {
        if !facts.vips.contains(&vip.address) {
            facts.vips.push(vip.address);
        }
        facts.ports.push(vip.port);
    }
    facts
}

/// One verdict with what decides.
#[derive(Debug, Clone)]
struct One {
    verdict: Verdict,
    step: Option<Step>,
}

/// A kind that is wanted and does not pass.
#[derive(Debug, Clone)]
struct Lacking {
    kind: Kind,
    /// Number of the backend.
    backend: usize,
    step: Option<Step>,
    /// Whether it is not known what becomes of it.
    unknown: bool,
}

/// For each kind, a verdict for each backend.
#[derive(Debug, Clone)]
struct Judged {
    kinds: Vec<Vec<One>>,
    /// Whether the guest's address is to be learned.
    learning: bool,
}

/// A question with what follows from it.
struct Bench<'a> {
    question: &'a Question<'a>,
    kinds: Vec<Kind>,
    facts: exemption::Known,
}

impl Bench<'_> {
    /// Compiles a filter for all backends and judges all kinds.
    fn judge(&self, library: &Library, binding: &Binding) -> Result<Judged, MendError> {
        let compiled = self.compile(library, binding)?;
        let learning = compiled.iter().any(|one| one.learning.is_some());
        let rules: Vec<Ruleset> = compiled.into_iter().map(|one| one.ruleset).collect();
        let mut judged = self.judge_rules(&rules)?;
        judged.learning = learning;
        Ok(judged)
    }

    fn compile(&self, library: &Library, binding: &Binding) -> Result<Vec<Compiled>, Diagnostic> {
        let (port, _) = self.place();
        let backends = self.question.backends.iter();
        backends
            .map(|&backend| compile(library, binding, port.name, backend))
            .collect()
    }

    /// Where frames are judged.
    fn place(&self) -> (Port<'_>, Host<'static>) {
        let port = Port {
            name: self.question.binding.port.as_deref().unwrap_or(PORT),
            bridge: None,
            peer: None,
        };
        // As a new network namespace has it: whatever can filter does.
        let host = Host {
            call_iptables: true,
            call_ip6tables: true,
            ..Host::default()
        };
        (port, host)
    }

    fn judge_rules(&self, rules: &[Ruleset]) -> Result<Judged, MendError> {
        let (port, host) = self.place();
        let mut kinds = Vec::new();
        for kind in &self.kinds {
            let mut ones = Vec::new();
            for rules in rules {
                let judgement = kind.judge(port, rules, &host)?;
                ones.push(One {
                    verdict: judgement.verdict,
                    step: judgement.deciding().cloned(),
                });
            }
            kinds.push(ones);
        }
        Ok(Judged {
            kinds,
            learning: false,
        })
    }

    /// Whether the change must let a kind pass.
    fn is_wanted(&self, kind: &Kind) -> bool {
        let wishes = self.question.wishes;
        match kind.need {
            Need::Must => true,
            Need::Should if kind.id.contains("fragment") => wishes.fragments,
            Need::Should if is_icmp_error(kind) => wishes.icmp,
            Need::Should => true,
            Need::Free | Need::MustNot => false,
        }
    }

    /// Whether a change of this kind can't help letting a kind pass that nobody wants.
    fn is_unavoidable(&self, kind: &Kind) -> bool {
        // Fragments of IPv6 hide the protocol from nft.
        let is_v6 = kind.frame.get(12..14) == Some(&[0x86, 0xdd]);
        let udp = is_v6
            && self
                .question
                .known
                .vips
                .iter()
                .any(|vip| vip.protocol == catalogue::Protocol::Udp);
        match kind.id {
            // The source is the client's, and so is whatever else says where it comes from.
            "vip-to-others" => !self.question.wishes.tight,
            "vip-other-port" => self.question.wishes.fragments || udp,
            _ => false,
        }
    }

    /// What is wanted and does not pass.
    fn blocked(&self, judged: &Judged) -> Vec<Lacking> {
        let mut blocked = Vec::new();
        for (kind, ones) in self.kinds.iter().zip(&judged.kinds) {
            if !self.is_wanted(kind) {
                continue;
            }
            for (backend, one) in ones.iter().enumerate() {
                if one.verdict != Verdict::Pass {
                    blocked.push(Lacking {
                        kind: kind.clone(),
                        backend,
                        step: one.step.clone(),
                        unknown: one.verdict == Verdict::Unknown,
                    });
                }
            }
        }
        blocked
    }

    /// Why these don't pass.
    fn explained(
        &self,
        library: &Library,
        binding: &Binding,
        lacking: Vec<Lacking>,
    ) -> Result<Vec<Blocked>, MendError> {
        let rules = self.compile(library, binding)?;
        let filters = reach(library, binding);
        let (port, host) = self.place();
        lacking
            .into_iter()
            .map(|Lacking { kind, backend, .. }| {
                let rules = &rules[backend].ruleset;
                let judgement = kind.judge(port, rules, &host)?;
                Ok(Blocked {
                    explanation: explain(&judgement, &kind.frame, rules, &filters),
                    backend: self.question.backends[backend],
                    kind,
                })
            })
            .collect()
    }

    /// What no longer is dropped and should be.
    fn lost<'k>(&'k self, before: &Judged, after: &Judged) -> Vec<&'k Kind> {
        let mut lost = Vec::new();
        for (at, kind) in self.kinds.iter().enumerate() {
            let stopped = |judged: &Judged, backend: usize| {
                judged.kinds[at][backend].verdict == Verdict::Drop
            };
            let backends = 0..self.question.backends.len();
            if kind.need == Need::MustNot
                && !self.is_unavoidable(kind)
                && backends
                    .into_iter()
                    .any(|backend| stopped(before, backend) && !stopped(after, backend))
            {
                lost.push(kind);
            }
        }
        lost
    }

    /// With the virtual addresses in the list of addresses, and nothing else; nothing if that can't
    /// be compiled.
    fn listed(&self) -> Option<Judged> {
        let Question {
            library,
            binding,
            source,
            ..
        } = self.question;
        let mut edits = Edits::default();
        for (name, v4) in [("IP", true), ("IPV6", false)] {
            let vips = self.facts.vips.iter().filter(|vip| vip.is_ipv4() == v4);
            let scope = list::scope(library, binding, name);
            if let Some((scope, there)) = scope {
                let mut values: Vec<String> = vips
                    .map(IpAddr::to_string)
                    .filter(|vip| !there.contains(vip))
                    .collect();
                if values.is_empty() {
                    continue;
                }
                if scope.is_shared() {
                    values.splice(0..0, there);
                }
                let scope = scope.own();
                edits.lists.push(Extension {
                    scope,
                    name: name.to_owned(),
                    values,
                });
            }
        }
        let written = documents::write(library, binding, source, "", &edits).ok()?;
        self.judge(&written.library, &written.binding).ok()
    }

    /// A word for the role in names of filters.
    fn role(&self) -> &'static str {
        let known = self.question.known;
        if known.roles.contains(&Role::Director) {
            known.method.unwrap_or(Method::Direct).name()
        } else if known.roles.contains(&Role::RealServer) {
            "rs"
        } else {
            "vrrp"
        }
    }

    fn wish(&self, scene: &Scene) -> neutron::Wish<'_> {
        let has = |role| scene.roles.contains(&role);
        let known = self.question.known;
        neutron::Wish {
            mac: &self.question.binding.mac,
            own: &known.addresses,
            vips: &self.facts.vips,
            virtual_macs: &self.facts.virtual_macs,
            as_clients: has(Role::Director) && scene.method != Method::Tunnel,
            is_real_server: has(Role::RealServer),
            speaks_vrrp: has(Role::Vrrp),
            ends_tunnel: has(Role::RealServer) && scene.method == Method::Tunnel,
        }
    }

    /// What people should know about a change.
    fn notes(&self, edits: &Edits, after: &Judged) -> Vec<String> {
        let known = self.question.known;
        let has = |role| known.roles.contains(&role);
        let mut notes = Vec::new();
        let mut is_unavoidable = Vec::new();
        let mut left = (Vec::new(), Vec::new());
        for (kind, ones) in self.kinds.iter().zip(&after.kinds) {
            let dropped = ones.iter().any(|one| one.verdict == Verdict::Drop);
            let passed = ones.iter().any(|one| one.verdict == Verdict::Pass);
            if kind.need == Need::Should && dropped && kind.part == Part::Work {
                if is_icmp_error(kind) {
                    left.1.push(kind.id);
                } else if kind.id.contains("fragment") {
                    left.0.push(kind.id);
                }
            }
            if passed && self.is_unavoidable(kind) && kind.need == Need::MustNot {
                is_unavoidable.push(kind.words.as_str());
            }
        }
        if !left.0.is_empty() {
            notes.push(
                "Later fragments of clients' packets stay dropped, for they have no ports; \
                 --fragments lets them pass, and with them every port of the virtual address."
                    .into(),
            );
        }
        if !left.1.is_empty() {
            notes.push(
                "ICMP errors about clients' connections stay dropped (a path that is too narrow is \
                 not noticed); --icmp lets them pass."
                    .into(),
            );
        }
        is_unavoidable.dedup();
        if let Some(words) = is_unavoidable.first() {
            let hint = if self.question.wishes.tight || !words.contains("MAC of a host") {
                ""
            } else {
                "; --tight with --real-server MAC allows the real servers' MACs only"
            };
            notes.push(format!(
                "Passes as well, and can't be told apart: {words}{hint}."
            ));
        }
        let widened = |name: &str| edits.lists.iter().any(|list| list.name == name);
        if has(Role::RealServer) && !(widened("IP") || widened("IPV6")) {
            notes.push(
                "The VIP is not put into the list of addresses: the host goes on dropping ARP \
                 for it from this real server, even if arp_ignore or arp_announce are forgotten."
                    .into(),
            );
        }
        let names_mac = |rule: &exemption::Exemption| {
            let mut values = rule.attributes.iter().map(|(_, value)| value);
            values.any(|value| {
                let mut macs = self.facts.virtual_macs.iter();
                macs.any(|&mac| crate::address::mac_text(mac) == *value)
            })
        };
        if widened("MAC") || edits.rules.iter().any(names_mac) {
            notes.push(
                "Without use_vmac in keepalived no link-layer address needs to be allowed, and \
                 gratuitous ARP moves the VIP: the smaller change."
                    .into(),
            );
        }
        let is_answer = |(_, value): &(&str, String)| value == "136";
        if edits
            .rules
            .iter()
            .any(|rule| rule.direction == "out" && rule.attributes.iter().any(is_answer))
        {
            notes.push(
                "libvirt's filters can't look into neighbour advertisements: their source is pinned,                  but not which address they speak of."
                    .into(),
            );
        }
        if has(Role::Vrrp) {
            notes.push(
                "Every node that may become master needs the same change at its own port.".into(),
            );
        }
        notes
    }
}

/// ICMP about a connection, by which a path is found too narrow or a host unreachable.
fn is_icmp_error(kind: &Kind) -> bool {
    ["path-error", "too-big", "unreachable"]
        .iter()
        .any(|part| kind.id.contains(part))
}

/// Whether a kind is one from the guest.
fn is_out(kind: &Kind) -> bool {
    kind.direction == Direction::Out
}

#[cfg(test)]
mod tests;
