//! Looks for the faults of the catalogue that configuration alone can tell.
//!
//! What was not read is never taken for absent: a check whose facts are missing is silent. A finding is
//! *possible*; where a counter or a neighbour's entry saw the fault at work it is *likely*.

mod address;
mod arp;
mod bridge;
mod director;
mod firewall;
mod found;
mod kubernetes;
mod lan;
mod masquerade;
mod neighbor;
pub(crate) mod node_rules;
mod port_filter;
mod real_server;
mod site;
mod trial;
mod tunnel;

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_director::model::{ForwardingMethod, Protocol};

use crate::bundle::Bundle;
use crate::finding::Finding;
use crate::topology::{Cable, Role};
pub(crate) use found::main;
pub use found::{ahead, topology};
pub(crate) use lan::Lan;
pub(crate) use real_server::redirection;
use site::Site;

/// What is asked about.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// The virtual address; all of all services when not told.
    pub vip: Option<IpAddr>,
    /// The virtual port.
    pub port: Option<u16>,
    /// The virtual service's protocol, where no service tells; TCP when not told.
    pub protocol: Option<Protocol>,
    /// A client.
    pub client: Option<IpAddr>,
    /// How packets get to real servers, where no service tells; direct routing when not told.
    pub method: Option<ForwardingMethod>,
    /// What nodes are for, by their name or the last part of it.
    pub roles: BTreeMap<String, Role>,
    /// Cables that were told: node and port at both ends.
    pub cables: Vec<Cable>,
}

/// Everything that looks wrong: the surest first, then in the order of a packet's path.
pub fn lint(bundle: &Bundle, case: &Case) -> Vec<Finding> {
    let site = Site::new(bundle, case);
    let mut findings = Vec::new();
    for check in [
        director::check,
        port_filter::check,
        arp::check,
        bridge::check,
        neighbor::check,
        real_server::check,
        tunnel::check,
        masquerade::check,
        firewall::check,
        kubernetes::check,
    ] {
        check(&site, &mut findings);
    }
    arp::forget(&site, &mut findings);
    let unfit = site.unfit_names();
    for finding in &mut findings {
        withhold(finding, &unfit);
    }
    // The same may be wrong for several services of one node.
    let mut told: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |own: &&mut Finding| {
            own.code == finding.code && own.node == finding.node && own.words == finding.words
        };
        match told.iter_mut().find(same) {
            Some(own) => own.confidence = own.confidence.max(finding.confidence),
            None => told.push(finding),
        }
    }
    told.sort_by_key(|finding| (std::cmp::Reverse(finding.confidence), finding.code));
    told
}

/// Takes commands away that hold a name which a shell would not take for one: names of interfaces and
/// chains come from elsewhere, and people paste commands as root.
fn withhold(finding: &mut Finding, unfit: &[String]) {
    let is_unfit = |command: &String| unfit.iter().any(|name| command.contains(name.as_str()));
    for evidence in &mut finding.evidence {
        if is_unfit(&evidence.command) {
            evidence.command.clear();
        }
    }
    for fix in &mut finding.fixes {
        let steps = fix.afterwards.iter().map(|step| &step.command);
        if fix
            .commands
            .iter()
            .chain(&fix.undo)
            .chain(steps)
            .any(is_unfit)
        {
            fix.commands.clear();
            fix.undo.clear();
            fix.afterwards.clear();
            fix.words += " (no commands: a name in them is not fit for a shell)";
        }
    }
}

/// What the virtual services are that a case is about, in words; for a healthy answer.
pub fn subject(bundle: &Bundle, case: &Case) -> Vec<String> {
    let site = Site::new(bundle, case);
    let mut subjects: Vec<String> = site.targets.iter().map(site::Target::words).collect();
    if let Some(vip) = case.vip.filter(|_| subjects.is_empty())
        && site.is_of_kube_proxy(&vip.to_string())
    {
        subjects.push(format!("{vip} by kube-proxy"));
    }
    subjects
}
