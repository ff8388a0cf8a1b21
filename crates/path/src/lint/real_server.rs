//! Real servers of direct routing and tunnels: the virtual address, reverse paths, sockets.

use std::net::IpAddr;

use pointsman_director::model::ForwardingMethod;
use pointsman_filter::catalogue::Role;

use super::address::{set, show};
use super::site::{Member, Site, Target, has_policy};
use super::trial;
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding, Fix, Shows};
use crate::snapshot::{Part, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        for member in &target.members {
            let Some(node) = member.node.filter(|node| node.has(Part::Links)) else {
                continue;
            };
            if member.server.method != ForwardingMethod::Masquerade {
                let by = member.link().and_then(|link| {
                    let direct = ForwardingMethod::Direct;
                    let who = (node, Role::RealServer, direct);
                    trial::put_in(site, target, who, "handed-open-in", link, Shows::Answered)
                });
                let by = by.filter(|_| member.server.method == ForwardingMethod::Direct);
                let missing = missing(target, node);
                findings.extend(missing.map(|own| {
                    let mut by = by.clone();
                    if own.code == Code::VipMissingForwarding {
                        by.iter_mut()
                            .for_each(|by| by.tempting = vec![forward_no_more()]);
                    }
                    own.shown_by(by)
                }));
                findings.extend(netmask(target, node).map(|own| own.shown_by(by.clone())));
                if member.server.method == ForwardingMethod::Direct {
                    let found = reverse_path(site, target, member, node);
                    findings.extend(found.map(|own| own.shown_by(by)));
                }
            }
            findings.extend(duplicate_detection(target, node));
            // Who is quiesced may be down.
            if member.server.weight > 0 {
                findings.extend(sockets(target, member, node));
            }
        }
    }
}

/// The virtual address is nowhere on the node, and nothing else takes its packets.
fn missing(target: &Target<'_>, node: &Snapshot) -> Option<Finding> {
    let vip = target.vip;
    let is_local = node
        .route_to(vip)
        .is_some_and(|route| route.kind == "local");
    if is_local || node.owner_of(vip).is_some() || translates(node, &vip.to_string()) {
        return None;
    }
    let forwards = node.number(if vip.is_ipv4() {
        "net/ipv4/ip_forward"
    } else {
        "net/ipv6/conf/all/forwarding"
    }) == Some(1);
    let (code, words) = if forwards {
        let words = format!(
            "{} lacks the virtual address {vip} and sends its packets back",
            node.node
        );
        (Code::VipMissingForwarding, words)
    } else {
        let words = format!(
            "{} lacks the virtual address {vip} and drops its packets",
            node.node
        );
        (Code::VipMissing, words)
    };
    let family = if vip.is_ipv4() { "-4" } else { "-6" };
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let mut finding = Finding::new(code, &node.node, words).because(
        format!("no interface has {vip}, and no rule translates it"),
        format!("ip {family} address show"),
    );
    let mut commands = Vec::new();
    let mut undo = Vec::new();
    if vip.is_ipv4() {
        for (name, value) in [("arp_ignore", 1), ("arp_announce", 2)] {
            let path = format!("net/ipv4/conf/all/{name}");
            let old = node.number(&path).unwrap_or_default();
            if old < value {
                commands.push(format!("sysctl -w net.ipv4.conf.all.{name}={value}"));
                undo.push(format!("sysctl -w net.ipv4.conf.all.{name}={old}"));
            }
        }
    }
    commands.push(format!("ip address add {vip}/{length} dev lo"));
    undo.insert(0, format!("ip address del {vip}/{length} dev lo"));
    finding = finding.mended_by(
        "give it the address, and let nobody hear of it",
        commands,
        undo,
    );
    if forwards {
        finding = finding.because("it forwards packets", show("net/ipv4/ip_forward"));
    }
    Some(finding)
}

/// What stops the packets from going round, and has nobody take them.
fn forward_no_more() -> Fix {
    let set = |value| vec![format!("sysctl -w net.ipv4.ip_forward={value}")];
    Fix {
        words: "no more forwarding: then the packets are dropped".to_owned(),
        commands: set(0),
        undo: set(1),
        ..Fix::default()
    }
}

/// Whether a rule of the node names the address as something to translate or to take.
pub(super) fn translates(node: &Snapshot, address: &str) -> bool {
    let saved = node.rules.iptables.iter().chain(&node.rules.ip6tables);
    let mut lines = saved.flat_map(|saved| saved.text.lines());
    let by_line = lines.any(|line| {
        line.contains(address)
            && ["DNAT", "REDIRECT", "TPROXY"]
                .iter()
                .any(|target| line.contains(target))
    });
    let nft = node
        .rules
        .nft
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    by_line
        || nft.contains(&format!("\"{address}\""))
            && ["\"dnat\"", "\"redirect\"", "\"tproxy\""]
                .iter()
                .any(|word| nft.contains(word))
}

/// The virtual address made a whole network local.
fn netmask(target: &Target<'_>, node: &Snapshot) -> Option<Finding> {
    let vip = target.vip;
    let (link, own) = node.owner_of(vip)?;
    let swallows =
        link.is_loopback() || ["dummy", "ipip", "tun", "ip6tnl", "sit"].contains(&&*link.kind);
    if own.prefix.is_host() || !swallows {
        return None;
    }
    let (device, prefix) = (&link.name, own.prefix);
    let host = crate::snapshot::Prefix::host(vip);
    let words = format!(
        "{vip} on {device} of {} makes all of {prefix} local there",
        node.node
    );
    Some(
        Finding::new(Code::VipNetmask, &node.node, words)
            .because(
                format!("{device} has {prefix}"),
                format!("ip address show dev {device}"),
            )
            .mended_by(
                "the address alone",
                [
                    format!("ip address add {host} dev {device}"),
                    format!("ip address del {prefix} dev {device}"),
                ],
                [
                    format!("ip address add {prefix} dev {device}"),
                    format!("ip address del {host} dev {device}"),
                ],
            ),
    )
}

/// Requests come in where the way back to the client does not lead out.
fn reverse_path(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    node: &Snapshot,
) -> Option<Finding> {
    let link = member.link().filter(|_| target.vip.is_ipv4())?;
    let node_here = member.node?;
    if has_policy(node) || !node.has(Part::Routes) || node.greater(&link.name, "rp_filter")? != 1 {
        return None;
    }
    let way = site.way_to_clients(node_here, target.vip);
    let device = way.and_then(|way| way.device.as_deref());
    if device == Some(&*link.name) || way.is_some_and(|way| !way.hops.is_empty()) {
        return None;
    }
    let leads = device.map_or("nowhere".to_owned(), |device| format!("by {device}"));
    let words = format!(
        "{} drops requests that come in by {}: the way back to clients leads {leads}",
        node.node, link.name
    );
    let path = format!("net/ipv4/conf/{}/rp_filter", link.name);
    let mut finding = Finding::new(Code::ReversePath, &node.node, words)
        .because(
            format!("the greater rp_filter of all and {} is 1", link.name),
            format!("{}; {}", show("net/ipv4/conf/all/rp_filter"), show(&path)),
        )
        .because(
            format!("requests for {} come in by {}", target.vip, link.name),
            format!("ip address show dev {}", link.name),
        );
    finding = dropped(finding, node);
    Some(set(
        finding,
        node,
        &path,
        2,
        "loose instead of strict: any way back will do",
    ))
}

/// Raises a finding whose drops the kernel has counted.
pub(super) fn dropped(finding: Finding, node: &Snapshot) -> Finding {
    match node.counters.get("TcpExtIPReversePathFilter") {
        Some(count @ 1..) => finding
            .because(
                format!("the kernel has dropped {count} packets for it"),
                "nstat -az TcpExtIPReversePathFilter",
            )
            .with(Confidence::Likely),
        _ => finding,
    }
}

/// Duplicate detection took the address away.
pub(super) fn duplicate_detection(target: &Target<'_>, node: &Snapshot) -> Option<Finding> {
    let (link, own) = node.owner_of(target.vip)?;
    if !own.flags.iter().any(|flag| flag == "dadfailed") {
        return None;
    }
    let (vip, device) = (target.vip, &link.name);
    let words = format!(
        "{vip} on {device} of {} was found to be another's and is not used",
        node.node
    );
    Some(
        Finding::new(Code::DuplicateDetection, &node.node, words)
            .because(
                "the address is marked dadfailed",
                format!("ip -6 address show dev {device}"),
            )
            .with(Confidence::Likely)
            .mended_by(
                "add it without asking the others",
                [
                    format!("ip address del {} dev {device}", own.prefix),
                    format!("ip address add {vip}/128 dev lo nodad"),
                ],
                [format!("ip address del {vip}/128 dev lo")],
            ),
    )
}

/// Nobody listens where requests arrive.
fn sockets(target: &Target<'_>, member: &Member<'_>, node: &Snapshot) -> Option<Finding> {
    let is_translated = member.server.method == ForwardingMethod::Masquerade;
    let (address, port) = if is_translated {
        (member.server.address, member.server.port)
    } else {
        (target.vip, target.port)
    };
    let transport = target.transport();
    if port == 0 || transport == "sctp" || !node.has(Part::Sockets) || !node.has(Part::Iptables) {
        return None;
    }
    // Containers are served by rules, not by sockets.
    if translates(node, &port.to_string()) {
        return None;
    }
    let command = format!("ss --numeric --listening --{transport} --processes");
    let own = |own: &&crate::snapshot::Socket| own.protocol == transport;
    let full = node.sockets.iter().filter(own).find(|socket| {
        socket.serves(transport, address, port)
            && socket.backlog > 0
            && socket.waiting >= socket.backlog
    });
    if let Some(full) = full {
        let words = format!(
            "the queue of new connections on port {port} of {} is full: {} of {}",
            node.node, full.waiting, full.backlog
        );
        let finding = Finding::new(Code::Backlog, &node.node, words);
        return Some(
            finding
                .because("nobody takes connections from it", command)
                .with(Confidence::Likely)
                .mended_by(
                    format!(
                        "see what {} does that it takes none: halted, or too slow for a queue this \
                         short (its own backlog, net.core.somaxconn)",
                        full.program.as_deref().unwrap_or("the server")
                    ),
                    [""; 0],
                    [""; 0],
                ),
        );
    }
    if node
        .sockets
        .iter()
        .any(|socket| socket.serves(transport, address, port))
    {
        return None;
    }
    if let Some(other) = node
        .sockets
        .iter()
        .filter(own)
        .find(|socket| socket.port == port)
    {
        let words = format!(
            "{} listens on port {port} for {} only, not for {address}",
            node.node, other.address
        );
        let program = other.program.as_deref().unwrap_or("the server");
        return Some(
            Finding::new(Code::ServiceBind, &node.node, words)
                .because(format!("{program} is bound to {}", other.address), command)
                .mended_by(
                    format!("bind {program} to {address} or to all addresses"),
                    [""; 0],
                    [""; 0],
                ),
        )
        .map(|finding| {
            let to = other.address.to_string();
            let fits = !other.address.is_loopback() && other.address.is_ipv4() == address.is_ipv4();
            match fits {
                true => until_then(finding, target, address, &to),
                false => finding,
            }
        });
    }
    let others: Vec<String> = node
        .sockets
        .iter()
        .filter(own)
        .filter(|socket| socket.takes(address) && socket.port != 22)
        .map(|socket| socket.port.to_string())
        .take(4)
        .collect();
    let also = if others.is_empty() {
        String::new()
    } else {
        format!("; others are served: {}", others.join(", "))
    };
    let words = format!(
        "nobody listens on {transport} port {port} of {}{also}",
        node.node
    );
    let finding = Finding::new(Code::PortMismatch, &node.node, words)
        .because(format!("no socket for {address} and port {port}"), command);
    if is_translated {
        return Some(finding.mended_by(
            "start the server, or tell the director the port that it has",
            [""; 0],
            [""; 0],
        ));
    }
    let finding = finding.mended_by(
        "serve the virtual port there: direct routing and tunnels do not change ports; or use masquerading",
        [""; 0],
        [""; 0],
    );
    Some(match &others[..] {
        [only] => until_then(finding, target, address, &format!(":{only}")),
        _ => finding,
    })
}

/// Adds what helps until the server is told: the real server translates for it.
fn until_then(finding: Finding, target: &Target<'_>, vip: IpAddr, to: &str) -> Finding {
    let [add, delete] = redirection(vip, target.port, target.transport(), to);
    finding.mended_by(
        "until then: the real server translates what comes for the virtual address",
        [add],
        [delete],
    )
}

/// Commands by which a real server translates what comes for a virtual service to where somebody
/// listens, and no longer.
pub(crate) fn redirection(vip: IpAddr, port: u16, transport: &str, to: &str) -> [String; 2] {
    let program = if vip.is_ipv4() {
        "iptables"
    } else {
        "ip6tables"
    };
    let to = match to.contains(':') && !to.starts_with(':') {
        true => format!("[{to}]"),
        false => to.to_owned(),
    };
    ["-I PREROUTING 1", "-D PREROUTING"].map(|change| {
        format!(
            "{program} -t nat {change} -d {vip} -p {transport} --dport {port} -j DNAT \
             --to-destination {to}"
        )
    })
}
