//! Counters that rose with the probes.

use pointsman_filter::model::Ruleset;

use super::{Observed, Witness, elsewhere, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding, RuleName};
use crate::lint::node_rules;

/// The counter of the guilty rule, or of the part of the network stack that does it.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let before = observed.before.node(&finding.node)?;
    let after = observed.after.node(&finding.node)?;
    if let Some(rule) = &finding.rule {
        let (old, new) = (
            packets(&node_rules::read(before), rule)?,
            packets(&node_rules::read(after), rule)?,
        );
        let fact = format!(
            "the counter of {} {}: {} rose from {old} to {new}",
            rule.table, rule.chain, rule.text
        );
        return (new > old).then(|| witnessed(Witness::Counter, fact, rule.listing.clone()));
    }
    let own = names(finding.code).iter().find_map(|name| {
        let (old, new) = (before.counters.get(*name)?, after.counters.get(*name)?);
        let fact = format!("{name} rose from {old} to {new}");
        let command = format!("nstat --zeros --noupdate --ignore {name}");
        (new > old).then(|| witnessed(Witness::Counter, fact, command))
    });
    own.or_else(|| elsewhere::counter(finding, observed))
}

/// What a rule has counted.
fn packets(rules: &Ruleset, name: &RuleName) -> Option<u64> {
    let tables = rules.tables.iter();
    let mut chains = tables
        .filter(|table| table.title() == name.table)
        .flat_map(|table| &table.chains)
        .filter(|chain| chain.name == name.chain);
    let rule = chains.find_map(|chain| chain.rules.iter().find(|rule| rule.text == name.text))?;
    rule.packets
}

/// Counters of the network stack that a fault raises, under the names of `nstat`.
fn names(code: Code) -> &'static [&'static str] {
    match code {
        Code::VipMissing | Code::NatNoForward => &["IpInAddrErrors"],
        Code::ReversePath | Code::TunnelReversePath | Code::CniReversePath => {
            &["TcpExtIPReversePathFilter"]
        }
        Code::Backlog => &["TcpExtListenOverflows", "TcpExtListenDrops"],
        Code::ServiceBind | Code::PortMismatch => &["TcpOutRsts", "UdpNoPorts"],
        Code::Timestamps => &["TcpExtPAWSEstab", "TcpExtTSEcrRejected"],
        Code::TtlExpired => &["IpInHdrErrors"],
        Code::VipMissingForwarding => &["IpForwDatagrams"],
        Code::TunnelDown => &["IpInUnknownProtos"],
        _ => &[],
    }
}
