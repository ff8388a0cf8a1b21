//! The director: its services, its way to real servers, its own rules and limits.

use std::net::IpAddr;

use pointsman_director::model::{ForwardingMethod, Protocol, RealServer, ServiceId};

use super::address::{set, show};
use super::site::{Site, Target};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding};
use crate::snapshot::{Part, Snapshot, Xdp};
use crate::topology::Role;

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    no_service(site, findings);
    for target in &site.targets {
        no_server(target, findings);
        sticky(target, findings);
        adjacency(target, findings);
        local_client(site, target, findings);
    }
    for node in site.nodes {
        full_tables(node, findings);
        let directs = site.targets.iter().any(|target| {
            target
                .director
                .is_some_and(|director| director.node == node.node)
        });
        if directs {
            devices(site, node, findings);
        }
    }
}

/// The address is here, the service is not.
fn no_service(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let (Some(vip), Some(port)) = (site.case.vip, site.case.port) else {
        return;
    };
    if site.targets.iter().any(|target| target.service.is_some()) {
        return;
    }
    for node in site.nodes {
        let known = |part| node.has(part);
        // Asked both kinds of balancers, or it is said to be the director.
        if !known(Part::Ipvs) || !known(Part::Pointsman) || node.owner_of(vip).is_none() {
            continue;
        }
        let by_mark = |service: &crate::snapshot::Service| {
            matches!(service.service.id, ServiceId::Mark { .. })
        };
        let all_ports = |service: &crate::snapshot::Service| {
            service
                .address()
                .is_some_and(|(_, own, port)| own == vip && port == 0)
        };
        let balances = node
            .services
            .iter()
            .any(|service| by_mark(service) || all_ports(service));
        let is_director = site.role(node) == Some(Role::Director) || !node.services.is_empty();
        // Who runs Pointsman, or has the address where clients ask for it.
        let holds = node
            .owner_of(vip)
            .is_some_and(|(link, _)| !link.is_loopback() && link.kind != "dummy");
        if balances || !is_director && (!holds || site.role(node).is_some()) {
            continue;
        }
        let serves = |socket: &crate::snapshot::Socket| socket.port == port && socket.takes(vip);
        if node.sockets.iter().any(serves) {
            continue;
        }
        let others: Vec<String> = node
            .services
            .iter()
            .filter_map(|service| service.address())
            .filter(|(_, own, _)| *own == vip)
            .map(|(protocol, _, port)| format!("{protocol} {port}"))
            .collect();
        let instead = if others.is_empty() {
            String::new()
        } else {
            format!(", only {}", others.join(" and "))
        };
        let protocol = match site.case.protocol.unwrap_or(Protocol::Tcp) {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        let endpoint = std::net::SocketAddr::new(vip, port);
        let words = format!("no virtual service {endpoint} on {}{instead}", node.node);
        let mut commands = vec![format!("ipvsadm -A {protocol} {endpoint} -s rr")];
        let servers = silent_holders(site, node, vip, port);
        let advice = match servers.is_empty() {
            true => "add it, then its real servers by `ipvsadm -a`",
            false => "add it, with the real servers that have the address and listen",
        };
        commands.extend(servers.into_iter().map(|address| {
            let server = std::net::SocketAddr::new(address, port);
            format!("ipvsadm -a {protocol} {endpoint} -r {server} -g")
        }));
        findings.push(
            Finding::new(Code::NoService, &node.node, words)
                .because(format!("{} has {vip}", node.node), "ip address show")
                .because("the list of services lacks it", "ipvsadm --save --numeric")
                .mended_by(
                    advice,
                    commands,
                    [format!("ipvsadm -D {protocol} {endpoint}")],
                ),
        );
    }
}

/// Addresses, on links of a director, of nodes that have the virtual address for themselves alone and
/// serve the port: real servers for direct routing.
fn silent_holders(site: &Site<'_>, director: &Snapshot, vip: IpAddr, port: u16) -> Vec<IpAddr> {
    let near = |address: IpAddr| {
        let route = director.route_to(address);
        let on_link = route.is_some_and(|route| route.via.is_none() && route.kind == "unicast");
        on_link && address.is_ipv4() == vip.is_ipv4()
    };
    let nodes = site.nodes.iter().filter(|node| {
        let silent = node
            .owner_of(vip)
            .is_some_and(|(link, _)| link.is_loopback());
        let serves = |socket: &crate::snapshot::Socket| socket.port == port && socket.takes(vip);
        silent && node.sockets.iter().any(serves)
    });
    let own = |node: &Snapshot| {
        let links = node.links.iter().filter(|link| !link.is_loopback());
        let mut addresses = links.flat_map(|link| &link.addresses);
        let found = addresses.find(|own| near(own.prefix.address));
        found.map(|own| own.prefix.address)
    };
    nodes.filter_map(own).collect()
}

fn no_server(target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some(director) = target.director.filter(|_| target.service.is_some()) else {
        return;
    };
    if target.members.iter().any(|member| member.server.weight > 0) {
        return;
    }
    let words = target.words();
    let why = if target.members.is_empty() {
        format!("{words} has no real server")
    } else {
        format!(
            "all {} real servers of {words} have weight 0",
            target.members.len()
        )
    };
    let finding = Finding::new(Code::NoServer, &director.node, why).because(
        "clients are told port unreachable",
        "ipvsadm --list --numeric",
    );
    // Where it is known who serves, those alone.
    let serves = |member: &super::site::Member<'_>| {
        let (address, port) = match member.server.method {
            ForwardingMethod::Masquerade => (member.server.address, member.server.port),
            _ => (target.vip, target.port),
        };
        member.node.is_none_or(|node| {
            let mut sockets = node.sockets.iter();
            !node.has(Part::Sockets)
                || sockets.any(|socket| socket.serves(target.transport(), address, port))
        })
    };
    let weigh = |weight: u8| -> Vec<String> {
        let members = target.members.iter().filter(|member| serves(member));
        let method = |member: &super::site::Member<'_>| option(member.server.method);
        members
            .map(|member| {
                let change = edit(target, &member.server, method(member));
                format!("{change} -w {weight}")
            })
            .collect()
    };
    findings.push(match weigh(1) {
        none if none.is_empty() => finding.mended_by(
            "a real server with a weight above 0, or a sorry server",
            [""; 0],
            [""; 0],
        ),
        commands => finding.mended_by(
            "give them work again, if whoever took it meant it to end",
            commands,
            weigh(0),
        ),
    });
}

/// How ipvsadm is told a forwarding method.
const fn option(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Direct => "-g",
        ForwardingMethod::Tunnel => "-i",
        ForwardingMethod::Masquerade => "-m",
    }
}

/// Persistence and a real server of weight 0 that keeps its clients.
fn sticky(target: &Target<'_>, findings: &mut Vec<Finding>) {
    let (Some(director), Some(service)) = (target.director, target.service) else {
        return;
    };
    let name = "expire_quiescent_template";
    let path = format!("net/ipv4/vs/{name}");
    let value = match target.is_of_kernel() {
        true => director.number(&path),
        false => director.settings.get(name).copied(),
    };
    let quiesced = |member: &super::site::Member<'_>| member.server.weight == 0;
    if service.service.persistence.is_none()
        || value != Some(0)
        || !target.members.iter().any(quiesced)
        || target.members.iter().all(quiesced)
    {
        return;
    }
    let words = format!(
        "clients of {} that know a real server of weight 0 stay there, dead or alive",
        target.words()
    );
    let finding = Finding::new(Code::StickyDead, &director.node, words)
        .because("the service is persistent", "ipvsadm --save --numeric");
    let fix = "let templates of quiesced real servers expire";
    findings.push(if target.is_of_kernel() {
        set(
            finding.because("templates do not expire", show(&path)),
            director,
            &path,
            1,
            fix,
        )
    } else {
        finding
            .because(
                "templates do not expire",
                format!("pointsman setting {name}"),
            )
            .mended_by(
                fix,
                [format!("pointsman setting {name}=1")],
                [format!("pointsman setting {name}=0")],
            )
    });
}

/// Direct routing needs real servers on a link of the director.
fn adjacency(target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some(director) = target.director.filter(|node| node.has(Part::Routes)) else {
        return;
    };
    for member in &target.members {
        let address = member.server.address;
        let direct = member.server.method == ForwardingMethod::Direct;
        if !direct || director.owner_of(address).is_some() {
            continue;
        }
        let route = director.route_to(address);
        let words = match route {
            Some(route) if route.via.is_some() => {
                let via = route.via.map(|via| via.to_string()).unwrap_or_default();
                format!("direct routing to {address}, which is behind the router {via}")
            }
            Some(_) => continue,
            None => format!("no route to the real server {address}"),
        };
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        findings.push(
            Finding::new(Code::NotAdjacent, &director.node, words)
                .because(
                    "only link-layer addresses are changed",
                    "ipvsadm --save --numeric",
                )
                .because(
                    "the route does not end on a link",
                    format!("ip {family} route get {address}"),
                )
                .mended_by(
                    "a tunnel to this real server, which needs its other end there; or masquerading",
                    [edit(target, &member.server, "-i")],
                    [edit(target, &member.server, "-g")],
                ),
        );
    }
}

/// The command that gives a real server another forwarding method.
fn edit(target: &Target<'_>, server: &RealServer, method: &str) -> String {
    let protocol = match target.protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    };
    let service = std::net::SocketAddr::new(target.vip, target.port);
    let server = std::net::SocketAddr::new(server.address, server.port);
    format!("ipvsadm -e {protocol} {service} -r {server} {method}")
}

fn local_client(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some(director) = target.director else {
        return;
    };
    if let Some(client) = site.case.client
        && director.owner_of(client).is_some()
    {
        let words = format!(
            "the client {client} is the director itself, where {} is local",
            target.vip
        );
        findings.push(
            Finding::new(Code::LocalClient, &director.node, words)
                .because("the route is local", format!("ip route get {}", target.vip))
                .mended_by("try from a third host", [""; 0], [""; 0]),
        );
    }
}

/// Tables that are full, or nearly.
fn full_tables(node: &Snapshot, findings: &mut Vec<Finding>) {
    let nearly = |count: i64, limit: i64| limit > 0 && count * 20 >= limit * 19;
    let [count, limit] =
        ["count", "max"].map(|name| node.number(&format!("net/netfilter/nf_conntrack_{name}")));
    if let (Some(count), Some(limit)) = (count, limit)
        && nearly(count, limit)
    {
        let path = "net/netfilter/nf_conntrack_max";
        let words = format!(
            "{} tracks {count} connections of at most {limit}",
            node.node
        );
        let finding = Finding::new(Code::ConntrackFull, &node.node, words)
            .because(
                "new connections are dropped",
                show("net/netfilter/nf_conntrack_count"),
            )
            .with(Confidence::Likely);
        findings.push(set(
            finding,
            node,
            path,
            limit * 2,
            "room for twice as many",
        ));
    }
    for (family, v4) in [("ipv4", true), ("ipv6", false)] {
        let path = format!("net/{family}/neigh/default/gc_thresh3");
        let own = |neighbour: &&crate::snapshot::Neighbour| neighbour.address.is_ipv4() == v4;
        let count = node.neighbours.iter().filter(own).count() as i64;
        if let Some(limit) = node.number(&path)
            && nearly(count, limit)
        {
            let words = format!("{} knows {count} neighbours of at most {limit}", node.node);
            let finding = Finding::new(Code::NeighbourOverflow, &node.node, words)
                .because("new neighbours are not resolved", show(&path))
                .with(Confidence::Likely);
            findings.push(set(finding, node, &path, limit * 4, "room for more"));
        }
    }
}

/// What the director's interfaces do to frames.
fn devices(site: &Site<'_>, node: &Snapshot, findings: &mut Vec<Finding>) {
    for link in &node.links {
        let on = |node: &Snapshot, link: &str, name: &str| {
            node.offloads
                .get(link)
                .and_then(|own| own.get(name))
                .copied()
        };
        if on(node, &link.name, "large-receive-offload") == Some(true) {
            let words = format!(
                "{} of {} merges packets that can't be cut again",
                link.name, node.node
            );
            let command = format!("ethtool --show-features '{}'", link.name);
            findings.push(
                Finding::new(Code::ReceiveOffload, &node.node, words)
                    .because("large-receive-offload is on", command)
                    .mended_by(
                        "no merging beyond the MTU",
                        [format!("ethtool -K '{}' lro off", link.name)],
                        [format!("ethtool -K '{}' lro on", link.name)],
                    ),
            );
        }
        let by_xdp = matches!(link.xdp, Some(Xdp::Driver | Xdp::Generic | Xdp::Several));
        if !by_xdp || link.kind != "veth" {
            continue;
        }
        let Some((there, peer)) = site.peer(node, link) else {
            continue;
        };
        if on(there, &peer.name, "tx-checksumming") == Some(true) {
            let words = format!(
                "XDP on {} gets frames whose checksum {} left open",
                link.name, there.node
            );
            let (peer_name, device) = (&peer.name, &link.name);
            findings.push(
                Finding::new(Code::PartialChecksum, &there.node, words)
                    .because(
                        format!("tx-checksumming of {peer_name} is on"),
                        format!("ethtool --show-features '{peer_name}'"),
                    )
                    .seen_at(
                        &node.node,
                        format!("an XDP program is attached to {device}"),
                        format!("ip link show dev '{device}'"),
                    )
                    .mended_by(
                        "let this end complete frames; or another hook for the director: tcx",
                        [format!("ethtool -K '{peer_name}' tx off tso off gso off")],
                        [format!("ethtool -K '{peer_name}' tx on tso on gso on")],
                    ),
            );
        }
        if peer.xdp.is_none() && on(there, &peer.name, "generic-receive-offload") == Some(false) {
            let words = format!(
                "what XDP sends back by {} is lost: its other end runs no XDP program",
                link.name
            );
            findings.push(
                Finding::new(Code::XdpVethSilent, &there.node, words)
                    .because(
                        format!("no XDP program at {}", peer.name),
                        format!("ip link show dev '{}'", peer.name),
                    )
                    .mended_by("another hook: `pointsman run --hook tcx`", [""; 0], [""; 0]),
            );
        }
    }
}
