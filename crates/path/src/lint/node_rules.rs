//! All packet-filter rules of a node as one ruleset.

use pointsman_filter::iptables::Version;
use pointsman_filter::judge::Step;
use pointsman_filter::model::{Engine, Family, Ruleset, Table};
use pointsman_filter::route::{Host, Port};
use pointsman_filter::{ebtables, iptables, nft, owner};

use crate::finding::{Finding, RuleName};
use crate::question::is_compatible;
use crate::snapshot::{Link, Snapshot};

/// Reads all dumps. Tables of nftables that iptables and ebtables made are taken from those programs'
/// own dumps, which say what their extensions test.
pub(crate) fn read(node: &Snapshot) -> Ruleset {
    let mut rules = Ruleset::default();
    let dumps = &node.rules;
    for saved in &dumps.ebtables {
        extend(&mut rules, ebtables::read(&saved.program, &saved.text));
    }
    for (version, saved) in [
        (Version::V4, &dumps.iptables),
        (Version::V6, &dumps.ip6tables),
    ] {
        for saved in saved {
            extend(
                &mut rules,
                iptables::read_save(version, &saved.program, &saved.text),
            );
        }
    }
    let has = |engine| rules.tables.iter().any(|table| table.engine == engine);
    let known = [
        (Family::Bridge, has(Engine::Ebtables)),
        (Family::Ip, has(Engine::Iptables)),
        (Family::Ip6, has(Engine::Ip6tables)),
    ];
    if let Some(document) = &dumps.nft
        && let Ok(mut own) = nft::read_document("nft", document)
    {
        own.tables.retain(|table| {
            let told = known
                .iter()
                .any(|(family, known)| *family == table.family && *known);
            !(told && is_compatible(&table.name))
        });
        rules.extend(own);
    }
    rules
}

fn extend<E>(rules: &mut Ruleset, read: Result<Ruleset, E>) {
    if let Ok(read) = read {
        rules.extend(read);
    }
}

/// The name of the rule that decides, and the command that lists it.
pub(crate) fn name(step: &Step) -> RuleName {
    let listing = match step.engine {
        Engine::Ebtables => "ebtables-save -c",
        Engine::Iptables => "iptables-save -c",
        Engine::Ip6tables => "ip6tables-save -c",
        Engine::Nftables => "nft --handle list ruleset",
    };
    RuleName {
        table: step.table.clone(),
        chain: step.chain.clone(),
        text: step.text.clone(),
        listing: listing.to_owned(),
    }
}

/// A finding with the rule that decides: which, where it is listed, whose it is.
pub(crate) fn because(finding: Finding, step: &Step) -> Finding {
    let name = name(step);
    let rule = format!(
        "the rule that decides: {} {}: {}",
        step.table, step.chain, step.text
    );
    let mut finding = finding.because(rule, &*name.listing).owned_by(owner(step));
    finding.rule = Some(name);
    finding
}

/// A port of a bridge as judges are told of it, and what of the kernel's settings decides there.
pub(crate) fn bridge_port<'a>(node: &Snapshot, link: &'a Link) -> (Port<'a>, Host<'static>) {
    let bridge = link.master.as_deref().and_then(|name| node.link(name));
    let flags = bridge
        .and_then(|link| link.bridge.clone())
        .unwrap_or_default();
    let is_on = |name: &str| node.number(&format!("net/bridge/{name}")) == Some(1);
    let settings = Host {
        call_iptables: is_on("bridge-nf-call-iptables") || flags.call_iptables,
        call_ip6tables: is_on("bridge-nf-call-ip6tables") || flags.call_ip6tables,
        call_arptables: is_on("bridge-nf-call-arptables") || flags.call_arptables,
        filter_vlan_tagged: is_on("bridge-nf-filter-vlan-tagged"),
        connections: None,
    };
    let port = Port {
        name: &link.name,
        bridge: link.master.as_deref(),
        peer: None,
    };
    (port, settings)
}

/// Who wrote the rule that decides, and where it is changed.
pub(crate) fn owner(step: &Step) -> Option<String> {
    let table = step.table.rsplit(' ').next().unwrap_or_default();
    owner_words(step.engine, table, &step.chain)
}

/// Who wrote a chain, and where it is changed.
pub(crate) fn owner_of_chain(table: &Table, chain: &str) -> Option<String> {
    owner_words(table.engine, &table.name, chain)
}

fn owner_words(engine: Engine, table: &str, chain: &str) -> Option<String> {
    let owner = owner::of_names(engine, table, chain)?;
    let words = owner.to_string();
    let filter = owner.filter.filter(|filter| !words.contains(filter));
    let filter = filter.map(|filter| format!(", filter {filter}"));
    let knob = owner
        .knob
        .as_ref()
        .map(|knob| format!("; change it there: {knob}"));
    Some(format!(
        "{words}{}{}",
        filter.unwrap_or_default(),
        knob.unwrap_or_default()
    ))
}
