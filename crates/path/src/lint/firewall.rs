//! Rules and reverse paths of nodes that packets are for, or are routed by.

use std::net::IpAddr;

use pointsman_director::model::ForwardingMethod;
use pointsman_filter::catalogue::{self, Kind, Role, Scene};
use pointsman_filter::connection::Connections;
use pointsman_filter::judge::{Judgement, Outcome, Verdict, judge};
use pointsman_filter::model::Engine;
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_wire::Mac;

use super::address::{set, show};
use super::node_rules;
use super::port_filter::{is_by_state, known, untracks};
use super::site::{Member, Site, Target, has_policy};
use super::trial;
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, Shows, Trial};
use crate::snapshot::{MAIN, Part, Route, Snapshot};

/// How many routers a way may have.
const HOPS: usize = 32;
/// For a link without a MAC address, whose frames are only looked at above.
const ANY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        unrouted(site, target, findings);
        short_lived(site, target, findings);
        director_input(site, target, findings);
        for member in &target.members {
            let Some(node) = member.node else { continue };
            server_input(site, target, member, node, findings);
            match member.server.method {
                ForwardingMethod::Masquerade => director_forward(site, target, member, findings),
                _ => {
                    policy_route(site, target, node, findings);
                    way_back(site, target, member, node, findings);
                }
            }
            if member.server.method == ForwardingMethod::Tunnel {
                too_big(site, target, findings);
            }
        }
    }
}

/// The frames of a role at a node.
pub(super) fn kinds(
    site: &Site<'_>,
    target: &Target<'_>,
    node: &Snapshot,
    role: Role,
    method: ForwardingMethod,
) -> Vec<Kind> {
    let mac = node
        .links
        .iter()
        .find_map(|link| link.mac)
        .unwrap_or(ANY_MAC);
    catalogue::kinds(&Scene::new(&known(site, target, node, mac, role, method)))
}

/// Judges a packet as a node's own rules see it: not by way of a bridge.
fn routed(
    site: &Site<'_>,
    node: &Snapshot,
    frame: &[u8],
    direction: Direction,
    device: Option<&str>,
) -> Option<Judgement> {
    let untold = !node.has(Part::Nft) && node.rules.iptables.is_empty();
    let rules = site.rules(node);
    if untold || rules.tables.is_empty() {
        return None;
    }
    let connections = Connections::new();
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        connections: Some(&connections),
        ..Host::default()
    };
    // The judge thinks of bridges: the device takes the place of one whose port no rule names.
    let port = Port {
        name: "",
        bridge: device,
        peer: None,
    };
    let judgement = judge(frame, port, direction, rules, &host).ok()?;
    let step = judgement.deciding()?;
    let of_bridge = step.engine == Engine::Ebtables || step.table.starts_with("nft bridge");
    (judgement.verdict == Verdict::Drop && !of_bridge).then_some(judgement)
}

/// The rule that drops a packet, and the list that it is in.
fn because(finding: Finding, judgement: &Judgement) -> Finding {
    let Some(step) = judgement.deciding() else {
        return finding;
    };
    node_rules::because(finding, step)
}

/// A rule before all others of a chain, in iptables; nothing for rules of nftables.
fn accept(finding: Finding, judgement: &Judgement, chain: &str, test: &str) -> Finding {
    let program = match judgement.deciding().map(|step| step.engine) {
        Some(Engine::Iptables) => "iptables",
        Some(Engine::Ip6tables) => "ip6tables",
        _ => return finding.mended_by(format!("accept it first: {test}"), [""; 0], [""; 0]),
    };
    finding.mended_by(
        "accept it before that rule",
        [format!("{program} -I {chain} 1 {test} -j ACCEPT")],
        [format!("{program} -D {chain} {test} -j ACCEPT")],
    )
}

/// A router that throws packets for the virtual address away.
fn unrouted(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let vip = target.vip;
    let refuses = |route: &Route| ["blackhole", "unreachable", "prohibit"].contains(&&*route.kind);
    for node in site
        .nodes
        .iter()
        .filter(|node| node.has(Part::Routes) && node.owner_of(vip).is_none())
    {
        let asks = site
            .client(vip)
            .is_some_and(|client| node.owner_of(client).is_some());
        let family = if vip.is_ipv4() { "-4" } else { "-6" };
        let show = format!("ip {family} route get {vip}");
        match node.route_to(vip) {
            Some(route) if refuses(route) && (asks || route.to.length > 0) => {
                let route = format!("{} {}", route.kind, route.to);
                let words = format!("{} throws packets for {vip} away: {route}", node.node);
                let opening = target.director.and_then(|director| {
                    let method = ForwardingMethod::Direct;
                    let kinds = kinds(site, target, director, Role::Director, method);
                    kinds.into_iter().find(|kind| kind.id == "client-open-in")
                });
                let by = opening.filter(|_| !asks).and_then(|kind| {
                    let client = site.client(vip)?;
                    passing(node, client, &kind.frame)
                });
                findings.push(
                    Finding::new(Code::NotRouted, &node.node, words)
                        .shown_by(by)
                        .because(format!("the route {route}"), show)
                        .mended_by(
                            "take the route away",
                            [format!("ip {family} route del {route}")],
                            [format!("ip {family} route add {route}")],
                        ),
                );
            }
            None if asks => {
                let words = format!("{} has no route to {vip}", node.node);
                findings.push(
                    Finding::new(Code::NotRouted, &node.node, words)
                        .because("there is no route", show)
                        .mended_by(
                            "a route to the virtual address, or a default route",
                            [""; 0],
                            [""; 0],
                        ),
                );
            }
            _ => {}
        }
    }
}

/// A client whose packets may pass fewer routers than there are; the director is one more.
fn short_lived(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let client = site.client(target.vip).filter(|client| client.is_ipv4());
    let mut nodes = site.nodes.iter();
    let node = client.and_then(|client| nodes.find(|node| node.owner_of(client).is_some()));
    let Some((node, passed)) = node.zip(requests_way(site, target)) else {
        return;
    };
    let path = "net/ipv4/ip_default_ttl";
    if let Some(limit) = node
        .number(path)
        .filter(|limit| *limit <= passed.len() as i64 + 1)
        && let Some(director) = target.director
    {
        let words = format!(
            "packets of {} may pass {limit} routers; {} and the director are more",
            node.node,
            passed.len()
        );
        let finding = Finding::new(Code::TtlExpired, &director.node, words).seen_at(
            &node.node,
            format!("the hop limit is {limit}"),
            show(path),
        );
        let finding = set(finding, node, path, 64, "the usual hop limit");
        findings.push(finding.typed_at(&node.node));
    }
}

/// IPVS comes after the filter of INPUT; Pointsman comes before everything.
fn director_input(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some(director) = target.director.filter(|_| target.is_of_kernel()) else {
        return;
    };
    let Some((link, _)) = director.owner_of(target.vip) else {
        return;
    };
    let kinds = kinds(
        site,
        target,
        director,
        Role::Director,
        ForwardingMethod::Direct,
    );
    let Some(open) = kinds.iter().find(|kind| kind.id == "client-open-in") else {
        return;
    };
    // By which device requests come is known if the address is on it.
    let device = (!link.is_loopback() && link.kind != "dummy").then_some(&*link.name);
    if let Some(judgement) = routed(site, director, &open.frame, Direction::ToHost, device) {
        let words = format!(
            "{} drops requests for {} before IPVS sees them",
            director.node,
            target.words()
        );
        let finding = because(
            Finding::new(Code::DirectorInput, &director.node, words),
            &judgement,
        );
        let test = format!(
            "-d {} -p {} --dport {}",
            target.vip,
            target.transport(),
            target.port
        );
        let by = trial::addressed(open.frame.clone(), link, Shows::Answered);
        let finding = finding.shown_by(Some(by));
        findings.push(accept(finding, &judgement, "INPUT", &test));
    }
}

/// Masqueraded answers are forwarded by the kernel.
fn director_forward(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    findings: &mut Vec<Finding>,
) {
    let Some(director) = target.director.filter(|_| target.is_of_kernel()) else {
        return;
    };
    let kinds = kinds(
        site,
        target,
        director,
        Role::Director,
        ForwardingMethod::Masquerade,
    );
    let Some(reply) = kinds.iter().find(|kind| kind.id == "server-reply-in") else {
        return;
    };
    let Some(judgement) = routed(site, director, &reply.frame, Direction::Out, None) else {
        return;
    };
    let Some(step) = judgement.deciding() else {
        return;
    };
    let path = "net/ipv4/vs/conntrack";
    let by_state = step.text.contains("INVALID") || step.text.contains("invalid");
    let server = member.server.address;
    if by_state && director.number(path) != Some(1) {
        let words = format!(
            "{} drops answers of {server}, whose connections it does not track",
            director.node
        );
        let finding = because(
            Finding::new(Code::DirectorInvalid, &director.node, words),
            &judgement,
        )
        .because("IPVS does not track connections", show(path));
        findings.push(set(finding, director, path, 1, "track them"));
    } else if !by_state {
        let words = format!("{} does not forward answers of {server}", director.node);
        let finding = because(
            Finding::new(Code::DirectorForward, &director.node, words),
            &judgement,
        );
        let test = format!(
            "-s {server} -p {} --sport {}",
            target.transport(),
            member.server.port
        );
        let finding = finding.shown_by(passing(director, server, &reply.frame));
        findings.push(accept(finding, &judgement, "FORWARD", &test));
    }
}

/// A frame that comes from the direction of an address and is to go on.
fn passing(node: &Snapshot, from: IpAddr, frame: &[u8]) -> Option<Trial> {
    let route = node.route_to(from)?;
    let link = node.link(route.device.as_deref()?)?;
    Some(trial::addressed(frame.to_vec(), link, Shows::Passes))
}

/// The real server's own rules.
fn server_input(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    node: &Snapshot,
    findings: &mut Vec<Finding>,
) {
    let method = member.server.method;
    let Some(link) = member.link() else { return };
    let open = |method| {
        let kinds = kinds(site, target, node, Role::RealServer, method);
        kinds.into_iter().find(|kind| kind.id == "handed-open-in")
    };
    if method == ForwardingMethod::Tunnel
        && let Some(outer) = open(method)
        && let Some(judgement) = routed(
            site,
            node,
            &outer.frame,
            Direction::ToHost,
            Some(&link.name),
        )
    {
        let words = format!("{} drops the director's tunnel", node.node);
        let finding = because(
            Finding::new(Code::TunnelFirewall, &node.node, words),
            &judgement,
        );
        let test = if member.server.address.is_ipv4() && target.vip.is_ipv4() {
            "-p 4"
        } else {
            "-p 41"
        };
        findings.push(accept(finding, &judgement, "INPUT", test));
    }
    let inner = match method {
        ForwardingMethod::Tunnel => ForwardingMethod::Direct,
        other => other,
    };
    // What comes out of a tunnel comes by a device that is not known for sure.
    let device = (method != ForwardingMethod::Tunnel).then_some(&*link.name);
    if let Some(request) = open(inner)
        && let Some(judgement) = routed(site, node, &request.frame, Direction::ToHost, device)
    {
        let address = if method == ForwardingMethod::Masquerade {
            member.server.address
        } else {
            target.vip
        };
        let words = format!(
            "{} drops requests for {address} by its own rules",
            node.node
        );
        let finding = because(
            Finding::new(Code::ServerFirewall, &node.node, words),
            &judgement,
        );
        let port = if method == ForwardingMethod::Masquerade {
            member.server.port
        } else {
            target.port
        };
        let test = format!("-d {address} -p {} --dport {port}", target.transport());
        let by = trial::addressed(request.frame.clone(), link, Shows::Answered);
        let finding = finding.shown_by(device.map(|_| by));
        findings.push(accept(finding, &judgement, "INPUT", &test));
    }
}

/// A rule sends answers to a router that is not there.
fn policy_route(
    site: &Site<'_>,
    target: &Target<'_>,
    node: &Snapshot,
    findings: &mut Vec<Finding>,
) {
    let vip = target.vip;
    for rule in &node.routing_rules {
        let Some((from, table)) = rule.from.zip(rule.table.as_ref()) else {
            continue;
        };
        let chosen =
            from.contains(vip) && rule.to.is_none() && rule.input.is_none() && rule.mark.is_none();
        if !chosen || [MAIN, "local", "default"].contains(&&**table) {
            continue;
        }
        let mut routes = node
            .routes
            .iter()
            .filter(|route| &route.table == table && route.to.length == 0);
        let Some(route) = routes.find(|route| route.to.address.is_ipv4() == vip.is_ipv4()) else {
            continue;
        };
        let dead = match route.via {
            _ if ["blackhole", "unreachable", "prohibit"].contains(&&*route.kind) => {
                "is a dead end".to_owned()
            }
            Some(via) => {
                let gone = node.neighbours.iter().any(|neighbour| {
                    neighbour.address == via
                        && neighbour
                            .states
                            .iter()
                            .any(|state| state == "FAILED" || state == "INCOMPLETE")
                });
                let usual = site
                    .way_to_clients(node_in(site, node), vip)
                    .and_then(|way| way.via);
                let known = |via| site.nodes.iter().any(|other| other.owner_of(via).is_some());
                let strange = usual.is_some_and(known) && !known(via);
                if !gone && !strange {
                    continue;
                }
                format!(
                    "leads to {via}, which nobody {}",
                    if gone { "answers for" } else { "here has" }
                )
            }
            None => continue,
        };
        let selector = format!("from {from} lookup {table}");
        let words = format!(
            "{} looks answers from {vip} up in table {table}, which {dead}",
            node.node
        );
        findings.push(
            Finding::new(Code::PolicyRoute, &node.node, words)
                .because(format!("the rule {selector}"), "ip rule show")
                .because("its default route", format!("ip route show table {table}"))
                .mended_by(
                    "without that rule the main table is used",
                    [format!("ip rule del {selector} priority {}", rule.priority)],
                    [format!("ip rule add {selector} priority {}", rule.priority)],
                ),
        );
    }
}

/// The node again, as long-lived as the site.
fn node_in<'a>(site: &Site<'a>, node: &Snapshot) -> &'a Snapshot {
    let own = site.nodes.iter().find(|own| own.node == node.node);
    // It came from there.
    own.unwrap_or(&site.nodes[0])
}

/// The router behind a real server: reverse paths, and state that it can't have.
fn way_back(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    node: &Snapshot,
    findings: &mut Vec<Finding>,
) {
    let vip = target.vip;
    let way = site.way_to_clients(node_in(site, node), vip);
    let Some(via) = way.and_then(|way| way.via) else {
        return;
    };
    let Some(router) = site
        .node_of(via, node)
        .filter(|router| !site.is_director_of(router, vip))
    else {
        return;
    };
    let Some((link, _)) = router.owner_of(via) else {
        return;
    };
    let known = router.has(Part::Routes) && !has_policy(router);
    if vip.is_ipv4() && known && router.greater(&link.name, "rp_filter") == Some(1) {
        let route = router.route_to(vip);
        let device = route.and_then(|route| route.device.as_deref());
        if device != Some(&*link.name) && route.is_none_or(|route| route.hops.is_empty()) {
            let words = format!(
                "{} drops answers of {} that come in by {}: its way to {vip} is another",
                router.node, node.node, link.name
            );
            let path = format!("net/ipv4/conf/{}/rp_filter", link.name);
            let mut finding = Finding::new(Code::ReplyUpstream, &router.node, words).because(
                format!("the greater rp_filter of all and {} is 1", link.name),
                show(&path),
            );
            if let Some(count @ 1..) = router.counters.get("TcpExtIPReversePathFilter") {
                finding = finding
                    .because(
                        format!("the kernel has dropped {count} packets for it"),
                        "nstat -az TcpExtIPReversePathFilter",
                    )
                    .with(Confidence::Likely);
            }
            let reply = kinds(site, target, node, Role::RealServer, member.server.method)
                .into_iter()
                .find(|kind| kind.id == "server-reply-out");
            finding.trial = reply.map(|reply| trial::addressed(reply.frame, link, Shows::Passes));
            findings.push(set(finding, router, &path, 2, "loose instead of strict"));
        }
    }
    // A router that clients' packets do not pass knows no connection.
    let Some(request) = requests_way(site, target) else {
        return;
    };
    if request.iter().any(|passed| passed.node == router.node) {
        return;
    }
    let kinds = kinds(site, target, node, Role::RealServer, member.server.method);
    let Some(reply) = kinds.iter().find(|kind| kind.id == "server-reply-out") else {
        return;
    };
    let judgement = routed(site, router, &reply.frame, Direction::Out, None);
    let follows =
        |own: &Judgement| !untracks(router, target) || !own.deciding().is_some_and(is_by_state);
    if let Some(judgement) = judgement.filter(follows) {
        let words = format!(
            "{} drops answers of {}, whose requests it never saw",
            router.node, node.node
        );
        let finding = because(
            Finding::new(Code::StatefulReturn, &router.node, words),
            &judgement,
        );
        let test = format!("-s {vip} -p {} --sport {}", target.transport(), target.port);
        let by = trial::addressed(reply.frame.clone(), link, Shows::Passes);
        let finding = finding.shown_by(Some(by));
        findings.push(accept(finding, &judgement, "FORWARD", &test));
    }
}

/// The routers that requests pass; nothing if the client is not in the bundle.
fn requests_way<'a>(site: &Site<'a>, target: &Target<'_>) -> Option<Vec<&'a Snapshot>> {
    let client = site.client(target.vip)?;
    let mut node = site
        .nodes
        .iter()
        .find(|node| node.owner_of(client).is_some())?;
    let mut passed = Vec::new();
    while passed.len() < HOPS {
        let route = node.route_to(target.vip)?;
        let Some(via) = route.via else {
            return Some(passed);
        };
        node = site.node_of(via, node)?;
        passed.push(node);
    }
    None
}

/// The director's word that a packet does not fit the tunnel must reach the client.
fn too_big(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some((director, passed)) = target.director.zip(requests_way(site, target)) else {
        return;
    };
    let kinds = kinds(
        site,
        target,
        director,
        Role::Director,
        ForwardingMethod::Tunnel,
    );
    let Some(error) = kinds.iter().find(|kind| kind.id == "too-big-out") else {
        return;
    };
    for router in passed {
        let judgement = routed(site, router, &error.frame, Direction::Out, None);
        let Some(judgement) = judgement.filter(|judgement| !by_state(judgement)) else {
            continue;
        };
        let words = format!(
            "{} drops the director's word that packets do not fit the tunnel",
            router.node
        );
        let finding = because(
            Finding::new(Code::TunnelMtu, &router.node, words),
            &judgement,
        );
        let test = if target.vip.is_ipv4() {
            "-p icmp --icmp-type fragmentation-needed"
        } else {
            "-p icmpv6 --icmpv6-type packet-too-big"
        };
        let finding = finding.shown_by(passing(router, target.vip, &error.frame));
        findings.push(accept(finding, &judgement, "FORWARD", test));
    }
}

/// Whether the state of a connection decided, which nobody knows here.
fn by_state(judgement: &Judgement) -> bool {
    judgement.deciding().is_some_and(|step| {
        matches!(step.outcome, Outcome::Policy(_)) || step.text.contains("state")
    })
}
