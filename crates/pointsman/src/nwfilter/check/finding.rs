//! A frame of the catalogue with what becomes of it, and groups of those with the same cause.

use pointsman_filter::catalogue::{Kind, Need, Part};
use pointsman_filter::explain::{Explanation, Pinned};
use pointsman_filter::judge::Verdict;
use pointsman_filter::owner::Program;
use pointsman_filter::route::Direction;
use pointsman_path::catalogue::Code;

/// A frame and what becomes of it.
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) explanation: Explanation,
}

impl Finding {
    /// Whether it does not pass and must.
    pub(super) fn is_lacking(&self) -> bool {
        self.kind.need == Need::Must && self.is_kept()
    }

    /// Whether it does not pass, as far as a single frame tells.
    fn is_kept(&self) -> bool {
        self.explanation.verdict != Verdict::Pass && !self.is_put_together()
    }

    /// A fragment that rules for packets drop: connection tracking puts it together with the others
    /// before they see it.
    pub(super) fn is_put_together(&self) -> bool {
        let rule = self.explanation.rule.as_ref();
        let by_packets = rule.is_some_and(|rule| {
            rule.table.starts_with("iptables ") || rule.table.starts_with("ip6tables ")
        });
        by_packets && self.kind.id.contains("fragment")
    }

    /// Whether people should look at it.
    pub(super) fn is_trouble(&self) -> bool {
        match self.kind.need {
            Need::Must | Need::Should => self.is_kept(),
            Need::MustNot => self.kind.part == Part::Work && !self.is_dropped(),
            Need::Free => false,
        }
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.explanation.verdict == Verdict::Drop
    }

    /// What the doctor calls it.
    pub(super) fn fault(&self) -> Option<Code> {
        if !self.is_dropped() {
            return None;
        }
        let rule = self.explanation.rule.as_ref()?;
        let owner = self.explanation.owner.as_ref();
        let program = owner.map(|owner| owner.program);
        let id = self.kind.id;
        if rule.text.contains("INVALID") || rule.text.contains("ct state invalid") {
            return Some(Code::StatefulDirector);
        }
        Some(match (self.explanation.pins, program) {
            (Some(_), Some(Program::Neutron)) => Code::NeutronPortSecurity,
            (_, Some(Program::Cni | Program::Calico)) => Code::CniEbtables,
            (Some(Pinned::Arp), _) => Code::HostArpSpoof,
            (Some(Pinned::Mac | Pinned::ArpMac), _) if self.direction() == "out" => {
                Code::HostMacSpoof
            }
            (Some(Pinned::Source), _) if id.starts_with("forward-") => Code::HostIpSpoofDirector,
            (Some(Pinned::Source), _) if id == "server-reply-out" => Code::HostIpSpoofServer,
            (Some(Pinned::Source), _)
                if matches!(id, "reply-out" | "too-big-out" | "unreachable-out") =>
            {
                Code::HostIpSpoofVip
            }
            (None, _) if rule.chain.ends_with("sg-fallback") => Code::SecurityGroupIngress,
            (None, _) if id.starts_with("advert-") => Code::VrrpSplit,
            _ => return None,
        })
    }

    pub(super) fn direction(&self) -> &'static str {
        match self.kind.direction {
            Direction::In | Direction::FromHost => "in",
            Direction::Out | Direction::ToHost => "out",
        }
    }
}

/// What keeps frames from passing that should: one rule, or one chain's end.
pub(super) struct Cause<'f> {
    /// `source address pinned by `I-vnet0-ipv4-ip``.
    pub(super) words: String,
    /// The first finding of it.
    pub(super) example: &'f Finding,
    /// How many must pass.
    pub(super) must: usize,
    /// How many more should pass.
    pub(super) should: usize,
    /// What the doctor calls it.
    pub(super) faults: Vec<Code>,
}

/// Causes in the order of what they keep from passing that must.
pub(super) fn causes(findings: &[Finding]) -> Vec<Cause<'_>> {
    let mut causes: Vec<Cause<'_>> = Vec::new();
    for finding in findings {
        if !finding.is_kept() {
            continue;
        }
        let (must, should) = match finding.kind.need {
            Need::Must => (1, 0),
            Need::Should => (0, 1),
            Need::Free | Need::MustNot => continue,
        };
        let words = words(finding);
        let at = match causes.iter().position(|cause| cause.words == words) {
            Some(at) => at,
            None => {
                causes.push(Cause {
                    words,
                    example: finding,
                    must: 0,
                    should: 0,
                    faults: Vec::new(),
                });
                causes.len() - 1
            }
        };
        let cause = &mut causes[at];
        cause.must += must;
        cause.should += should;
        if let Some(fault) = finding.fault()
            && !cause.faults.contains(&fault)
        {
            cause.faults.push(fault);
        }
    }
    causes.sort_by_key(|cause| std::cmp::Reverse((cause.must, cause.should)));
    causes
}

fn words(finding: &Finding) -> String {
    let explanation = &finding.explanation;
    let Some(rule) = &explanation.rule else {
        return explanation.reason.clone();
    };
    let number = rule
        .number
        .map_or_else(|| "its end".into(), |number| format!("rule {number}"));
    match (finding.is_dropped(), explanation.pins) {
        (true, Some(pinned)) => {
            let how = match finding.kind.direction {
                Direction::Out | Direction::ToHost => "pinned",
                Direction::In | Direction::FromHost => "of others limited",
            };
            format!("{} {how} by `{}`", pinned.name(), rule.chain)
        }
        (true, None) => format!("dropped by `{}`, {number}", rule.chain),
        (false, _) => format!("not to be told behind `{}`, {number}", rule.chain),
    }
}
