//! Who answers for the virtual address on the link, and who remembers whom.

use std::net::IpAddr;

use pointsman_director::model::ForwardingMethod;
use pointsman_filter::catalogue::Role;
use pointsman_wire::Mac;

use super::address::{set, show};
use super::site::{Site, Target};
use super::trial;
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, Shows};
use crate::snapshot::{Link, Part, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        for node in site.nodes {
            if target.vip.is_ipv4() && site.is_server_of(node, target.vip) {
                speaks(site, target, node, findings);
            }
        }
        twice(site, target, findings);
        remembered(site, target, findings);
    }
}

/// A real server answers, or asks, in the virtual address's name.
fn speaks(site: &Site<'_>, target: &Target<'_>, node: &Snapshot, findings: &mut Vec<Finding>) {
    let vip = target.vip;
    // A backup director that serves too is judged as a director.
    let Some((holder, _)) = node
        .owner_of(vip)
        .filter(|_| !site.is_director_of(node, vip))
    else {
        return;
    };
    let who = (node, Role::RealServer, ForwardingMethod::Direct);
    for link in node
        .links
        .iter()
        .filter(|link| hears(site, target, node, link))
    {
        let [ignore, announce] =
            ["arp_ignore", "arp_announce"].map(|name| node.greater(&link.name, name));
        let (Some(ignore), Some(announce)) = (ignore, announce) else {
            continue;
        };
        let on_itself = holder.index == link.index;
        // 1 and 2 answer for addresses of the interface itself, 3 for all but those of scope host.
        let answers = ignore == 0 || ignore < 8 && on_itself;
        if answers && on_itself && ignore > 0 {
            let words = format!(
                "{} answers ARP for {vip}: the address is on {} itself, where arp_ignore does not help",
                node.node, link.name
            );
            let command = format!("ip address show dev {}", link.name);
            findings.push(
                Finding::new(Code::ArpFlux, &node.node, words)
                    .because(format!("{} has {vip}", link.name), command)
                    .mended_by(
                        "the address on lo instead",
                        [
                            format!("ip address add {vip}/32 dev lo"),
                            format!("ip address del {vip} dev {}", link.name),
                        ],
                        [format!("ip address del {vip}/32 dev lo")],
                    ),
            );
        } else if answers {
            let words = format!("{} answers ARP for {vip} on {}", node.node, link.name);
            let finding = parameter(
                node,
                link,
                "arp_ignore",
                ignore,
                Finding::new(Code::ArpFlux, &node.node, words),
            );
            let all = "net/ipv4/conf/all/arp_ignore";
            let by = trial::put_in(site, target, who, "vip-asked-in", link, Shows::Unanswered);
            findings.push(set(
                finding.shown_by(by),
                node,
                all,
                1,
                "answer only for addresses of the interface that is asked",
            ));
        }
        // 1 still takes the virtual address if it is in a network of the interface: here it is.
        if announce < 2 {
            let words = format!(
                "{} asks by ARP in the name of {vip} on {}",
                node.node, link.name
            );
            let finding = Finding::new(Code::ArpAnnounce, &node.node, words);
            let finding = parameter(node, link, "arp_announce", announce, finding);
            let all = "net/ipv4/conf/all/arp_announce";
            let shows = Shows::AsksAsItself;
            let by = trial::put_in(site, target, who, "handed-open-in", link, shows);
            findings.push(set(
                finding.shown_by(by),
                node,
                all,
                2,
                "ask in the name of the interface's own address",
            ));
        }
    }
}

fn parameter(node: &Snapshot, link: &Link, name: &str, value: i64, finding: Finding) -> Finding {
    let own = format!("net/ipv4/conf/{}/{name}", link.name);
    let all = format!("net/ipv4/conf/all/{name}");
    let finding = finding.because(
        format!("the greater {name} of all and {} is {value}", link.name),
        format!("{}; {}", show(&all), show(&own)),
    );
    match node.links.is_empty() {
        true => finding,
        false => finding.because(
            "the virtual address is on this node".to_owned(),
            "ip -4 address show".to_owned(),
        ),
    }
}

/// Whether those who look for the virtual address ask on this link.
fn hears(site: &Site<'_>, target: &Target<'_>, node: &Snapshot, link: &Link) -> bool {
    if link.is_loopback() || !link.is_up() || link.has_flag("NOARP") || link.mac.is_none() {
        return false;
    }
    let covers = |link: &Link| {
        let mut own = link.addresses.iter().map(|own| own.prefix);
        own.any(|own| !own.is_host() && own.contains(target.vip))
    };
    if covers(link) {
        return true;
    }
    // Plugged into the bridge that the director's own interface with the address is plugged into.
    let bridge = |node: &Snapshot, link: &Link| {
        let own = site.attachment(node, link)?;
        Some((own.host.node.clone(), own.port.master.clone()?))
    };
    target.director.is_some_and(|director| {
        let mut holders = director
            .links
            .iter()
            .filter(|own| own.address(target.vip).is_some());
        let own = bridge(node, link);
        own.is_some() && holders.any(|holder| bridge(director, holder) == own)
    })
}

/// Whether a node answers ARP for the address to everybody.
fn answers(node: &Snapshot, vip: IpAddr) -> bool {
    let Some((holder, own)) = node.owner_of(vip) else {
        return false;
    };
    let is_out = !own.flags.iter().any(|flag| flag == "dadfailed");
    if vip.is_ipv6() || !holder.is_loopback() && holder.kind != "dummy" {
        return is_out && holder.mac.is_some() && holder.is_up() && !holder.is_loopback();
    }
    node.links.iter().any(|link| {
        !link.is_loopback()
            && link.is_up()
            && link.kind != "dummy"
            && link.mac.is_some()
            && node.greater(&link.name, "arp_ignore") == Some(0)
    })
}

/// Two nodes mean to have the virtual address.
fn twice(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let vip = target.vip;
    // kube-proxy with IPVS has it on every node, for nobody to hear of.
    let by_kube_proxy = |node: &Snapshot| {
        let own = node.owner_of(vip);
        own.is_some_and(|(link, _)| link.name == "kube-ipvs0")
    };
    for node in site
        .nodes
        .iter()
        .filter(|node| by_kube_proxy(node) && vip.is_ipv4())
    {
        let heard = |link: &&Link| hears(site, target, node, link);
        let ignore = |link: &Link| node.greater(&link.name, "arp_ignore");
        let mut links = node.links.iter().filter(heard);
        let Some(link) = links.find(|link| ignore(link) == Some(0)) else {
            continue;
        };
        let words = format!(
            "{} answers ARP for {vip} on {}, which kube-proxy put on kube-ipvs0",
            node.node, link.name
        );
        let path = "net/ipv4/conf/all/arp_ignore";
        let finding = Finding::new(Code::StrictArp, &node.node, words)
            .because(
                "the address is on kube-ipvs0",
                "ip address show dev kube-ipvs0",
            )
            .because("arp_ignore is 0", show(path));
        let who = (node, Role::RealServer, ForwardingMethod::Direct);
        let by = trial::put_in(site, target, who, "vip-asked-in", link, Shows::Unanswered);
        let words = "as kube-proxy's strictARP does";
        findings.push(set(finding.shown_by(by), node, path, 1, words));
    }
    let holders: Vec<&Snapshot> = site
        .nodes
        .iter()
        .filter(|node| !site.is_server_of(node, vip) && !by_kube_proxy(node) && answers(node, vip))
        .collect();
    if holders.len() < 2 {
        return;
    }
    // Those who agree by VRRP who is master do so only if they hear each other.
    let before = findings.len();
    for own in site
        .attachments
        .iter()
        .filter(|own| holders.iter().any(|holder| holder.node == own.guest.node))
    {
        if own.link.address(vip).is_some() {
            findings.extend(super::port_filter::adverts(site, target, own));
        }
    }
    if findings.len() > before {
        return;
    }
    let names: Vec<&str> = holders.iter().map(|node| &*node.node).collect();
    let stray = holders.iter().find(|node| !site.is_director_of(node, vip));
    let node = stray.or(holders.last()).map_or("", |node| &node.node);
    let mut finding = Finding::new(
        Code::DuplicateVip,
        node,
        format!("{} have {vip} and answer for it", names.join(" and ")),
    );
    for holder in &holders {
        let (device, prefix) = holder
            .owner_of(vip)
            .map_or(("", String::new()), |(link, own)| {
                (&*link.name, own.prefix.to_string())
            });
        finding = finding.seen_at(
            &holder.node,
            format!("{} has {prefix} on {device}", holder.node),
            format!("ip address show dev {device}"),
        );
        if holder.node == node {
            finding = finding.mended_by(
                format!("take it from {node}, if that is the one who should not have it"),
                [format!("ip address del {prefix} dev {device}")],
                [format!("ip address add {prefix} dev {device}")],
            );
        }
    }
    findings.push(finding);
}

/// Somebody's neighbour entry for the virtual address names another node than the director.
fn remembered(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let vip = target.vip;
    let macs =
        |node: &Snapshot| -> Vec<Mac> { node.links.iter().filter_map(|link| link.mac).collect() };
    let owners: Vec<&Snapshot> = site
        .nodes
        .iter()
        .filter(|node| {
            node.has(Part::Links) && site.is_director_of(node, vip) && node.owner_of(vip).is_some()
        })
        .collect();
    let right: Vec<Mac> = owners.iter().flat_map(|node| macs(node)).collect();
    if right.is_empty() {
        return;
    }
    for node in site.nodes {
        for entry in node.neighbours.iter().filter(|entry| entry.address == vip) {
            let Some(mac) = entry.mac else { continue };
            let Mac([a, b, c, d, ..]) = mac;
            // A virtual router's own address.
            if right.contains(&mac) || [a, b, c, d] == [0, 0, 0x5e, 0] {
                continue;
            }
            let holder = site.nodes.iter().find(|other| macs(other).contains(&mac));
            let server = holder.filter(|holder| site.is_server_of(holder, vip));
            let command = format!("ip neighbour show {vip}");
            let (device, states) = (&entry.device, entry.states.join(" "));
            let fact = format!("{}: {vip} lladdr {mac} dev {device} {states}", node.node);
            // Who has the address too has a finding of its own.
            if let Some(own) = holder.and_then(|holder| speaker(findings, holder, vip)) {
                let finding = own.clone().seen_at(&node.node, fact, command);
                *own = finding.with(Confidence::Likely);
                continue;
            }
            let (code, at, words) = match (server, holder) {
                (Some(server), _) => {
                    let ignored = server
                        .links
                        .iter()
                        .filter(|link| link.mac == Some(mac))
                        .any(|link| node_ignores(server, link));
                    let code = if ignored {
                        Code::ArpAnnounce
                    } else {
                        Code::ArpFlux
                    };
                    let words = format!(
                        "{} takes the real server {} for {vip}",
                        node.node, server.node
                    );
                    (code, &server.node, words)
                }
                (None, Some(holder)) => (
                    Code::StaleNeighbour,
                    &node.node,
                    format!("{} sends packets for {vip} to {}", node.node, holder.node),
                ),
                (None, None) => (
                    Code::StaleNeighbour,
                    &node.node,
                    format!(
                        "{} sends packets for {vip} to {mac}, which the director is not",
                        node.node
                    ),
                ),
            };
            if at != &node.node {
                // The configuration may have told of it already.
                let own = findings
                    .iter()
                    .position(|own| own.code == code && &own.node == at);
                let own = own.map(|own| findings.swap_remove(own));
                let finding = own.unwrap_or_else(|| {
                    Finding::new(code, at, words)
                        .mended_by(
                            "forget the entry, once nobody else says to have the address",
                            [format!("ip neighbour del {vip} dev {device}")],
                            [""; 0],
                        )
                        .typed_at(&node.node)
                });
                findings.push(
                    finding
                        .seen_at(&node.node, fact, command)
                        .with(Confidence::Likely),
                );
                continue;
            }
            let state = entry
                .states
                .first()
                .map_or("stale".to_owned(), |state| state.to_lowercase());
            findings.push(
                Finding::new(code, at, words)
                    .because(fact, command)
                    .with(Confidence::Likely)
                    .mended_by(
                        "forget the entry, and ask anew",
                        [format!("ip neighbour del {vip} dev {device}")],
                        [format!(
                            "ip neighbour replace {vip} lladdr {mac} dev {device} nud {state}"
                        )],
                    ),
            );
        }
    }
}

/// What was found of a node that has a virtual address besides the director.
fn speaker<'f>(
    findings: &'f mut [Finding],
    holder: &Snapshot,
    vip: IpAddr,
) -> Option<&'f mut Finding> {
    let has_it = holder.owner_of(vip).is_some();
    findings.iter_mut().find(|own| match own.code {
        Code::DuplicateVip | Code::StrictArp => own.node == holder.node,
        Code::VrrpSplit => has_it,
        _ => false,
    })
}

fn node_ignores(node: &Snapshot, link: &Link) -> bool {
    node.greater(&link.name, "arp_ignore")
        .is_some_and(|value| value > 0)
}

/// Fixes of who speaks for a virtual address are not heard by those who remember another.
pub(super) fn forget(site: &Site<'_>, findings: &mut [Finding]) {
    let heard = [
        Code::HostArpSpoof,
        Code::ArpFlux,
        Code::ArpAnnounce,
        Code::DuplicateVip,
        Code::StrictArp,
        Code::VrrpSplit,
    ];
    for target in &site.targets {
        let vip = target.vip;
        for node in site
            .nodes
            .iter()
            .filter(|node| node.owner_of(vip).is_none())
        {
            let mut entries = node.neighbours.iter();
            let entry = entries.find(|entry| entry.address == vip);
            let Some(entry) = entry else { continue };
            let command = format!("ip neighbour flush to {vip} dev {}", entry.device);
            for finding in findings.iter_mut().filter(|own| heard.contains(&own.code)) {
                finding.forgotten_by(&node.node, &command);
            }
        }
    }
}
