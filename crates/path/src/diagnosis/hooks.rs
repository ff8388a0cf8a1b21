//! What packet filters did with the probes: rules that the kernel says decided, and hooks between which
//! packets were lost.
//!
//! Rules of the doctor's own count the probes first and last at every hook. Fewer at a hook's end than at
//! its beginning were lost to a rule there; fewer at the next hooks than at the end of one, to what the
//! kernel decides in between.

use std::fmt;

use super::{Witness, counted, settle, sort, witnessed};
use crate::bundle::Bundle;
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};
use crate::lint::node_rules;

/// A rule, or the end of a base chain, that the kernel says dropped probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleTold {
    /// The node.
    pub node: String,
    /// The table's family, as nft writes it.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Its place in the chain, from 0; nothing for the chain's policy.
    pub place: Option<usize>,
    /// How many packets it dropped.
    pub packets: usize,
}

/// The hooks of netfilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NfHook {
    /// Before the way is decided.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// After the way is decided.
    Postrouting,
}

impl NfHook {
    /// All of them, in the order of their numbers (`NF_INET_*`, `NF_BR_*`).
    pub const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];
}

impl fmt::Display for NfHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// To the service.
    Requests,
    /// From it.
    Answers,
    /// ARP about it.
    Arp,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Requests => "requests",
            Self::Answers => "answers",
            Self::Arp => "ARP messages",
        })
    }
}

/// How many packets of one kind were counted at the hooks of one layer of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCounts {
    /// The node.
    pub node: String,
    /// The family, as nft writes it: `bridge`, `ip`, `ip6`, `arp`.
    pub layer: String,
    /// What was counted.
    pub traffic: Traffic,
    /// Before and behind everybody's rules.
    pub hooks: Vec<(NfHook, u64, u64)>,
}

/// Packets that were lost at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The node.
    pub node: String,
    /// The family.
    pub layer: String,
    /// What was lost.
    pub traffic: Traffic,
    /// The hook that they got to last.
    pub hook: NfHook,
    /// True for rules at the hook, false for what the kernel decides behind it.
    pub inside: bool,
    /// How many.
    pub lost: u64,
    /// Of how many.
    pub of: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.inside {
            format!("to rules of {} {}", self.layer, self.hook)
        } else {
            format!("between {} {} and the next hook", self.layer, self.hook)
        };
        write!(
            f,
            "{} of {} {} were lost {place} on {}",
            self.lost, self.of, self.traffic, self.node
        )
    }
}

impl HookCounts {
    /// Where packets were lost, in the order that they meet the hooks.
    pub fn losses(&self) -> Vec<Loss> {
        let at = |wanted: NfHook| {
            let found = self.hooks.iter().find(|(hook, ..)| *hook == wanted);
            found.map_or((0, 0), |(_, first, last)| (*first, *last))
        };
        let mut losses = Vec::new();
        let mut lose = |hook, inside, before: u64, behind: u64| {
            if behind < before {
                losses.push(Loss {
                    node: self.node.clone(),
                    layer: self.layer.clone(),
                    traffic: self.traffic,
                    hook,
                    inside,
                    lost: before - behind,
                    of: before,
                });
            }
        };
        let (input, forward) = (at(NfHook::Input), at(NfHook::Forward));
        for (hook, first, last) in &self.hooks {
            lose(*hook, true, *first, *last);
        }
        // What is for this host leaves netfilter behind input, and ARP has no other hooks.
        if self.layer != "arp" {
            lose(
                NfHook::Prerouting,
                false,
                at(NfHook::Prerouting).1,
                input.0 + forward.0,
            );
            let sent = at(NfHook::Output).1 + forward.1;
            lose(NfHook::Forward, false, sent, at(NfHook::Postrouting).0);
        }
        losses
    }
}

/// The rule in its dialect: table as people name it, chain, text, and who wrote it.
pub fn rule_words(bundle: &Bundle, told: &RuleTold) -> (String, Option<String>) {
    match named(bundle, told) {
        Some((table, text, owner)) => (format!("{table} {}: {text}", told.chain), owner),
        None => {
            let place = told
                .place
                .map_or("(policy)".to_owned(), |place| format!("rule {}", place + 1));
            let words = format!("nft {} {} {}: {place}", told.family, told.table, told.chain);
            (words, None)
        }
    }
}

/// Title of the table, text of the rule, and its owner.
fn named(bundle: &Bundle, told: &RuleTold) -> Option<(String, String, Option<String>)> {
    let rules = node_rules::read(bundle.node(&told.node)?);
    let mut tables = rules.tables.iter();
    let table =
        tables.find(|table| table.family.name() == told.family && table.name == told.table)?;
    let chain = table.chain(&told.chain)?;
    let text = match told.place {
        Some(place) => chain.rules.get(place)?.text.clone(),
        None => "(policy DROP)".to_owned(),
    };
    let owner = node_rules::owner_of_chain(table, &told.chain);
    Some((table.title(), text, owner))
}

/// Adds to each finding what was told and counted, and puts the surest first.
pub fn weigh_hooks(
    findings: &mut [Finding],
    bundle: &Bundle,
    told: &[RuleTold],
    counts: &[HookCounts],
) {
    let losses: Vec<Loss> = counts.iter().flat_map(HookCounts::losses).collect();
    for finding in findings.iter_mut() {
        let rule = decided(finding, bundle, told);
        let hook = lost(finding, &losses);
        finding.evidence.extend(rule);
        finding.evidence.extend(hook);
        settle(finding);
    }
    sort(findings);
}

/// The kernel names the finding's rule.
fn decided(finding: &Finding, bundle: &Bundle, told: &[RuleTold]) -> Option<Evidence> {
    let rule = finding.rule.as_ref()?;
    let same = |told: &&RuleTold| {
        let is_policy = told.place.is_none() && rule.text.starts_with('(');
        told.node == finding.node
            && told.chain == rule.chain
            && named(bundle, told).is_some_and(|(table, text, _)| {
                table == rule.table && (text == rule.text || is_policy)
            })
    };
    let told = told.iter().find(same)?;
    let fact = format!(
        "the kernel of {} tells that {} {}: {} drops {}",
        finding.node,
        rule.table,
        rule.chain,
        rule.text,
        counted(told.packets, "packet")
    );
    Some(witnessed(Witness::Rule, fact, "nft monitor trace"))
}

/// Probes were lost where the finding says.
fn lost(finding: &Finding, losses: &[Loss]) -> Option<Evidence> {
    let is_bridge = |table: &str| table.starts_with("ebtables") || table.starts_with("nft bridge");
    let fits = |loss: &&Loss| {
        if loss.node != finding.node {
            return false;
        }
        let arp = loss.traffic == Traffic::Arp;
        match (&finding.rule, finding.code) {
            (Some(rule), Code::HostArpSpoof) => loss.inside && arp && is_bridge(&rule.table),
            (Some(rule), _) => {
                loss.inside && !arp && is_bridge(&rule.table) == (loss.layer == "bridge")
            }
            (None, Code::PortIsolated | Code::Hairpin) => {
                !loss.inside && loss.layer == "bridge" && loss.hook == NfHook::Prerouting
            }
            (
                None,
                Code::NotRouted
                | Code::ReversePath
                | Code::TunnelReversePath
                | Code::CniReversePath
                | Code::VipMissing
                | Code::NatNoForward,
            ) => !loss.inside && loss.layer.starts_with("ip") && loss.hook == NfHook::Prerouting,
            _ => false,
        }
    };
    let loss = losses.iter().find(fits)?;
    let fact = format!("own rules before and behind everybody's counted: {loss}");
    Some(witnessed(Witness::Hook, fact, String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(hooks: &[(NfHook, u64, u64)]) -> HookCounts {
        HookCounts {
            node: "host1".to_owned(),
            layer: "bridge".to_owned(),
            traffic: Traffic::Requests,
            hooks: hooks.to_vec(),
        }
    }

    fn losses(hooks: &[(NfHook, u64, u64)]) -> Vec<(NfHook, bool, u64)> {
        let losses = counts(hooks).losses();
        losses
            .iter()
            .map(|loss| (loss.hook, loss.inside, loss.lost))
            .collect()
    }

    use NfHook::{Forward, Input, Output, Postrouting, Prerouting};

    #[test]
    fn a_loss_is_at_a_hook_or_behind_it() {
        assert_eq!(losses(&[(Prerouting, 7, 0)]), [(Prerouting, true, 7)]);
        assert_eq!(losses(&[(Prerouting, 7, 7)]), [(Prerouting, false, 7)]);
        let passes = [(Prerouting, 7, 7), (Forward, 7, 7), (Postrouting, 7, 7)];
        assert_eq!(losses(&passes), []);
        let to_both = [
            (Prerouting, 7, 7),
            (Input, 3, 1),
            (Forward, 4, 4),
            (Postrouting, 4, 4),
        ];
        assert_eq!(losses(&to_both), [(Input, true, 2)]);
        let sent = [(Output, 5, 5), (Postrouting, 2, 2)];
        assert_eq!(losses(&sent), [(Forward, false, 3)]);
    }

    #[test]
    fn floods_are_no_loss() {
        let flooded = [(Prerouting, 1, 1), (Forward, 4, 4), (Postrouting, 4, 4)];
        assert_eq!(losses(&flooded), []);
    }
}
