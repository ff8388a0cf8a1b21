//! Masquerading: forwarding on the director, and the way back through it.

use std::net::IpAddr;

use pointsman_director::model::ForwardingMethod;
use pointsman_filter::catalogue::Role;

use super::address::{set, show};
use super::site::{Member, Site, Target, has_policy};
use super::trial;
use crate::catalogue::Code;
use crate::finding::{Finding, Shows};
use crate::snapshot::{Part, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        let masquerades =
            |member: &&Member<'_>| member.server.method == ForwardingMethod::Masquerade;
        let Some(director) = target.director else {
            continue;
        };
        if target.members.iter().any(|member| masquerades(&member)) {
            findings.extend(forwarding(site, target, director));
            findings.extend(source_translation(target, director));
        }
        for member in target.members.iter().filter(masquerades) {
            let node = member
                .node
                .filter(|node| node.has(Part::Routes) && !has_policy(node));
            if let Some(node) = node.filter(|_| !translates_source(director)) {
                findings.extend(way_back(site, target, member, director, node));
            }
        }
    }
}

/// The kernel's IPVS leaves answers to its routing.
fn forwarding(site: &Site<'_>, target: &Target<'_>, director: &Snapshot) -> Option<Finding> {
    let path = if target.vip.is_ipv4() {
        "net/ipv4/ip_forward"
    } else {
        "net/ipv6/conf/all/forwarding"
    };
    if !target.is_of_kernel() || director.number(path)? != 0 {
        return None;
    }
    let words = format!(
        "{} does not forward, so answers of {}'s real servers end there",
        director.node,
        target.words()
    );
    let finding = Finding::new(Code::NatNoForward, &director.node, words)
        .because("forwarding is off", show(path))
        .because("the service masquerades", "ipvsadm --save --numeric");
    let server = target.members.first()?.server.address;
    let link = director
        .route_to(server)
        .and_then(|route| director.link(route.device.as_deref()?));
    let who = (director, Role::Director, ForwardingMethod::Masquerade);
    let by = link
        .and_then(|link| trial::put_in(site, target, who, "server-reply-in", link, Shows::Passes));
    Some(set(finding.shown_by(by), director, path, 1, "forward"))
}

/// Rules of iptables that look for packets of IPVS never see one.
fn source_translation(target: &Target<'_>, director: &Snapshot) -> Option<Finding> {
    let path = "net/ipv4/vs/conntrack";
    if !target.is_of_kernel() || director.number(path)? != 0 {
        return None;
    }
    let saved = director
        .rules
        .iptables
        .iter()
        .chain(&director.rules.ip6tables);
    // Rules for anybody else's packets are well without.
    let is_for_servers = |line: &str| {
        let to = |address: IpAddr| {
            ["", "/32", "/128"]
                .iter()
                .any(|length| line.contains(&format!("-d {address}{length} ")))
        };
        line.contains("-m ipvs")
            || target
                .members
                .iter()
                .any(|member| to(member.server.address))
    };
    let rule = saved.flat_map(|saved| saved.text.lines()).find(|line| {
        (line.contains("-j SNAT") || line.contains("-j MASQUERADE")) && is_for_servers(line)
    })?;
    let words = format!(
        "{} translates the source of balanced packets by a rule that sees none",
        director.node
    );
    let finding = Finding::new(Code::IpvsConntrackOff, &director.node, words)
        .because(format!("the rule: {rule}"), "iptables-save -c -t nat")
        .because("IPVS does not track connections", show(path));
    Some(set(finding, director, path, 1, "track them"))
}

/// Whether the director may put its own address in, so that answers come back in any case.
fn translates_source(director: &Snapshot) -> bool {
    let saved = director
        .rules
        .iptables
        .iter()
        .chain(&director.rules.ip6tables);
    let by_line = saved
        .flat_map(|saved| saved.text.lines())
        .any(|line| line.contains("-j SNAT") || line.contains("-j MASQUERADE"));
    let nft = director
        .rules
        .nft
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    by_line || nft.contains("\"snat\"") || nft.contains("\"masquerade\"")
}

/// Answers must come back through the director.
fn way_back(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    director: &Snapshot,
    node: &Snapshot,
) -> Option<Finding> {
    let node_here = member.node?;
    let client = site.client(target.vip);
    let known = client.map_or("clients".to_owned(), |client| client.to_string());
    let way = site.way_to_clients(node_here, target.vip);
    let is_director = |via| {
        director.owner_of(via).is_some()
            || site.nodes.iter().any(|other| {
                site.is_director_of(other, target.vip) && other.owner_of(via).is_some()
            })
    };
    let family = if target.vip.is_ipv4() { "-4" } else { "-6" };
    let show = match client {
        Some(client) => format!("ip route get {client}"),
        None => format!("ip {family} route show"),
    };
    // The director's address on the real server's own network.
    let inside = member.link().and_then(|link| {
        let mut own = director.links.iter().flat_map(|link| &link.addresses);
        let near = own.find(|own| {
            own.prefix.address != target.vip
                && link
                    .addresses
                    .iter()
                    .any(|mine| mine.prefix.contains(own.prefix.address))
        });
        near.map(|own| own.prefix.address)
    });
    let gateway = inside.map_or("DIRECTOR".to_owned(), |address| address.to_string());
    let Some(way) = way else {
        let words = format!(
            "{} has no route to {known}: its answers go nowhere",
            node.node
        );
        return Some(
            Finding::new(Code::NatGateway, &node.node, words)
                .because("there is no route", show)
                .mended_by(
                    "the director as gateway",
                    [format!("ip {family} route add default via {gateway}")],
                    [format!("ip {family} route del default via {gateway}")],
                ),
        );
    };
    match way.via {
        Some(via) if is_director(via) => None,
        Some(via) => {
            let words = format!(
                "{} answers {known} by the gateway {via}, past the director",
                node.node
            );
            Some(
                Finding::new(Code::NatGateway, &node.node, words)
                    .because(format!("the route leads by {via}"), show)
                    .mended_by(
                        "the director as gateway",
                        [format!(
                            "ip {family} route replace {} via {gateway}",
                            way.to
                        )],
                        [format!("ip {family} route replace {} via {via}", way.to)],
                    ),
            )
        }
        // Only a client that is known can be known to be a neighbour.
        None if client.is_some() && way.kind == "unicast" => {
            let words = format!(
                "{} reaches {known} without the director and answers directly",
                node.node
            );
            let address = client.map(|client| client.to_string()).unwrap_or_default();
            Some(
                Finding::new(Code::NatSameSubnet, &node.node, words)
                    .because("client and real server are on one link", show)
                    .mended_by(
                        "answers to this client by the director; others of the network need the same, or source translation",
                        [format!("ip route add {address} via {gateway}")],
                        [format!("ip route del {address} via {gateway}")],
                    ),
            )
        }
        None => None,
    }
}
