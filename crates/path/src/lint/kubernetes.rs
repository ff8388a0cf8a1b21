//! What kube-proxy's rules do to services whose endpoint is a guest on a bridge of the same host.

use std::net::IpAddr;

use super::address::{set, show};
use super::site::Site;
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, RuleName};
use crate::snapshot::{Link, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for node in site.nodes {
        let saved = node.rules.iptables.iter().chain(&node.rules.ip6tables);
        let lines: Vec<&str> = saved.flat_map(|saved| saved.text.lines()).collect();
        refused(site, node, &lines, findings);
        if lines.iter().any(|line| line.contains("-j MASQUERADE")) {
            for endpoint in endpoints(site, &lines) {
                translated_back(site, node, endpoint, findings);
            }
        }
    }
}

/// Whether a rule is about the virtual address in question, or any if none is.
fn is_about(site: &Site<'_>, line: &str) -> bool {
    let Some(vip) = site.case.vip else {
        return true;
    };
    let vip = vip.to_string();
    line.split(' ')
        .any(|word| word.split('/').next() == Some(&vip))
}

/// kube-proxy says itself that nobody serves.
fn refused(site: &Site<'_>, node: &Snapshot, lines: &[&str], findings: &mut Vec<Finding>) {
    for line in lines.iter().filter(|line| is_about(site, line)) {
        let (code, words, advice) = if line.contains("has no endpoints")
            && line.contains("-j REJECT")
        {
            (
                Code::KubeNoEndpoint,
                "a service has no endpoint, and kube-proxy refuses its clients",
                "`kubectl get endpointslices` for the service the rule names: its selector must \
                 match pods that are ready",
            )
        } else if line.contains("has no local endpoints") && line.contains("-j DROP") {
            (
                Code::KubeLocalPolicy,
                "a service has no endpoint on this node, which must not use others",
                "a ready pod of the service on this node, or externalTrafficPolicy: Cluster",
            )
        } else {
            continue;
        };
        let mut finding = Finding::new(code, &node.node, format!("{}: {words}", node.node))
            .because(format!("the rule: {line}"), "iptables-save -c")
            .owned_by(Some("kube-proxy".to_owned()))
            .mended_by(advice, [""; 0], [""; 0]);
        finding.rule = rule_of(site, node, line);
        findings.push(finding);
    }
}

/// The name of the rule that this line of a dump tells.
fn rule_of(site: &Site<'_>, node: &Snapshot, line: &str) -> Option<RuleName> {
    let words: Vec<&str> = line.split(' ').collect();
    let chain = words.iter().skip_while(|word| **word != "-A").nth(1)?;
    let text = line.split_once(&format!("-A {chain} "))?.1;
    let mut tables = site.rules(node).tables.iter();
    let table = tables.find(|table| {
        let chain = table.chain(chain);
        chain.is_some_and(|chain| chain.rules.iter().any(|rule| rule.text == text))
    })?;
    Some(RuleName {
        table: table.title(),
        chain: (*chain).to_owned(),
        text: text.to_owned(),
        listing: "iptables-save -c".to_owned(),
    })
}

/// Endpoints of services of kube-proxy, those of the virtual address in question if it has any.
fn endpoints(site: &Site<'_>, lines: &[&str]) -> Vec<IpAddr> {
    let target = |line: &str| {
        line.split(' ')
            .skip_while(|word| *word != "-j")
            .nth(1)
            .map(str::to_owned)
    };
    let chain = |line: &str| {
        line.split(' ')
            .skip_while(|word| *word != "-A")
            .nth(1)
            .map(str::to_owned)
    };
    let wanted: Vec<String> = lines
        .iter()
        .filter(|line| line.contains("KUBE-SERVICES") && is_about(site, line))
        .filter_map(|line| target(line))
        .collect();
    let served: Vec<String> = lines
        .iter()
        .filter(|line| chain(line).is_some_and(|chain| wanted.contains(&chain)))
        .filter_map(|line| target(line))
        .collect();
    let mut endpoints: Vec<IpAddr> = lines
        .iter()
        .filter(|line| {
            line.contains("-j DNAT") && chain(line).is_some_and(|chain| served.contains(&chain))
        })
        .filter_map(|line| {
            let word = line
                .split(' ')
                .skip_while(|word| *word != "--to-destination")
                .nth(1)?;
            let endpoint: std::net::SocketAddr = word.parse().ok()?;
            Some(endpoint.ip())
        })
        .collect();
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

/// A guest's answer crosses the bridge, where connection tracking takes it for the host's own.
fn translated_back(
    site: &Site<'_>,
    node: &Snapshot,
    endpoint: IpAddr,
    findings: &mut Vec<Finding>,
) {
    let plugged = site.attachments.iter().find(|own| {
        own.host.node == node.node
            && own.guest.node != node.node
            && own.link.address(endpoint).is_some()
    });
    let Some(port) = plugged.map(|own| own.port) else {
        return;
    };
    let Some(bridge) = port.master.as_deref().and_then(|name| node.link(name)) else {
        return;
    };
    let path = if endpoint.is_ipv4() {
        "net/bridge/bridge-nf-call-iptables"
    } else {
        "net/bridge/bridge-nf-call-ip6tables"
    };
    let own = bridge.bridge.clone().unwrap_or_default();
    let calls = node.number(path) == Some(1) || own.call_iptables;
    // The host reaches the guest by way of a router: only then the answer crosses the bridge first.
    let around = node
        .route_to(endpoint)
        .is_some_and(|route| route.device.as_deref() != Some(&*bridge.name));
    if !calls || !around {
        return;
    }
    let waiting = node
        .connections
        .iter()
        .find(|line| line.contains("SYN_RECV") && line.contains(&format!("src={endpoint} ")));
    let tagged = own.vlan_filtering && leaves_tagged(node, bridge, port);
    let skips_tagged = node.number("net/bridge/bridge-nf-filter-vlan-tagged") == Some(0);
    let code = match (tagged && skips_tagged, waiting) {
        (true, _) => Code::BridgeDestinationNat,
        (false, Some(_)) => Code::BridgeFullNat,
        // Both directions meet the same rules: translated twice, and it works.
        (false, None) => return,
    };
    let words = format!(
        "{} translates answers of {endpoint} back while they cross {}, before they come to it",
        node.node, bridge.name
    );
    let mut finding = Finding::new(code, &node.node, words)
        .because(
            format!("{} gives bridged packets to iptables", bridge.name),
            show(path),
        )
        .because(
            "connections to the endpoint are masqueraded",
            "iptables-save -c -t nat",
        )
        .because(
            format!("the host reaches {endpoint} around the bridge"),
            format!("ip route get {endpoint}"),
        )
        .owned_by(Some("kube-proxy".to_owned()));
    if let Some(line) = waiting {
        finding = finding
            .because(
                format!("a connection waits for an answer that came: {line}"),
                "conntrack --dump",
            )
            .with(Confidence::Likely);
    }
    findings.push(set(
        finding.clone(),
        node,
        path,
        0,
        "bridged packets past iptables, if no filter of guests or containers needs it",
    ));
    if tagged && skips_tagged {
        let words = format!(
            "requests cross {} of {} tagged and skip iptables, answers do not",
            bridge.name, node.node
        );
        findings.push(
            Finding::new(Code::BridgeAsymmetricVlan, &node.node, words)
                .because(
                    "tagged frames skip iptables",
                    show("net/bridge/bridge-nf-filter-vlan-tagged"),
                )
                .because(
                    format!("{} takes and gives frames without tag", port.name),
                    format!("bridge vlan show dev {}", port.name),
                )
                .with(finding.confidence),
        );
    }
}

/// Whether frames of a port have a tag on another port of the bridge.
fn leaves_tagged(node: &Snapshot, bridge: &Link, port: &Link) -> bool {
    let vlans = |name: &str| node.vlans.iter().find(|own| own.port == name);
    let Some(pvid) = vlans(&port.name).and_then(|own| own.pvid()) else {
        return false;
    };
    node.ports_of(&bridge.name).any(|other| {
        other.name != port.name
            && vlans(&other.name).is_some_and(|own| {
                let mut entries = own.vlans.iter();
                entries.any(|vlan| (vlan.first..=vlan.last).contains(&pvid) && !vlan.untagged)
            })
    })
}
