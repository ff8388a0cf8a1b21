//! Filters at the bridge ports of directors and real servers: judges the frames that they must send.

use std::net::IpAddr;

use pointsman_director::model::{ForwardingMethod, Protocol};
use pointsman_filter::catalogue::{self, Kind, Known, Method, Need, Role, Scene, Vip};
use pointsman_filter::judge::{Judgement, Outcome, Step, Verdict};
use pointsman_filter::model::{End, Engine};
use pointsman_filter::route::Direction;

use super::node_rules::{because, bridge_port, owner};
use super::site::{Attachment, Site, Target, is_link_local};
use crate::catalogue::Code;
use crate::finding::{Finding, Fix, Shows, Trial};
use crate::snapshot::{Part, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        let mut methods: Vec<ForwardingMethod> = Vec::new();
        for member in &target.members {
            if !methods.contains(&member.server.method) {
                methods.push(member.server.method);
            }
            let Some(node) = member.node else { continue };
            for own in site
                .attachments
                .iter()
                .filter(|own| own.guest.node == node.node)
            {
                at_port(
                    site,
                    target,
                    own,
                    Role::RealServer,
                    member.server.method,
                    findings,
                );
            }
        }
        let Some(director) = target.director else {
            continue;
        };
        for method in methods {
            for own in site
                .attachments
                .iter()
                .filter(|own| own.guest.node == director.node)
            {
                at_port(site, target, own, Role::Director, method, findings);
            }
        }
    }
}

/// Whether frames of a kind go by the interface: clients' where the virtual address is or the way to
/// them leads, real servers' where the way to them leads.
fn goes_by(
    site: &Site<'_>,
    target: &Target<'_>,
    own: &Attachment<'_>,
    role: Role,
    id: &str,
) -> bool {
    let is_own = |device: Option<&str>| device == Some(&*own.link.name);
    let way = |address| {
        let route = own.guest.route_to(address);
        is_own(route.and_then(|route| route.device.as_deref()))
    };
    let Some(node) = site.nodes.iter().find(|node| node.node == own.guest.node) else {
        return false;
    };
    let to_clients = site.way_to_clients(node, target.vip);
    let clients = is_own(to_clients.and_then(|way| way.device.as_deref()));
    if id.starts_with("own-") {
        return true;
    }
    if role == Role::RealServer {
        let is_asked = target
            .members
            .iter()
            .any(|member| own.link.address(member.server.address).is_some());
        return match id {
            "server-reply-out" => clients || is_asked && to_clients.is_none(),
            _ => is_asked,
        };
    }
    let of_server = ["forward-", "server-", "check-"]
        .iter()
        .any(|start| id.starts_with(start));
    match of_server {
        true => target
            .members
            .iter()
            .any(|member| way(member.server.address)),
        false => clients || own.link.address(target.vip).is_some(),
    }
}

/// What is known of who takes part, for the frames of a role.
pub(super) fn known(
    site: &Site<'_>,
    target: &Target<'_>,
    node: &Snapshot,
    mac: pointsman_wire::Mac,
    role: Role,
    method: ForwardingMethod,
) -> Known {
    let v4 = target.vip.is_ipv4();
    let mut addresses: Vec<IpAddr> = node
        .links
        .iter()
        .filter(|link| !link.is_loopback())
        .flat_map(|link| &link.addresses)
        .map(|own| own.prefix.address)
        .filter(|own| *own != target.vip && !is_link_local(*own))
        .collect();
    let real_servers: Vec<_> = target
        .members
        .iter()
        .map(|member| catalogue::RealServer {
            address: member.server.address,
            mac: member.link().and_then(|link| link.mac),
            port: Some(member.server.port),
        })
        .collect();
    if role == Role::RealServer {
        // Its own address is the one that the director knows.
        let own = real_servers.iter().map(|server| server.address);
        let own: Vec<IpAddr> = own.filter(|own| addresses.contains(own)).collect();
        addresses.sort_by_key(|address| !own.contains(address));
    }
    let gateways: Vec<IpAddr> = node
        .routes
        .iter()
        .filter(|route| route.to.length == 0)
        .filter_map(|route| route.via)
        .collect();
    let gateway_mac = gateways
        .iter()
        .find_map(|gateway| site.node_of(*gateway, node)?.owner_of(*gateway)?.0.mac);
    Known {
        roles: vec![role],
        method: Some(match method {
            ForwardingMethod::Direct => Method::Direct,
            ForwardingMethod::Tunnel => Method::Tunnel,
            ForwardingMethod::Masquerade => Method::Masquerade,
        }),
        vips: vec![Vip {
            address: target.vip,
            port: target.port,
            protocol: match target.protocol {
                Protocol::Udp => catalogue::Protocol::Udp,
                _ => catalogue::Protocol::Tcp,
            },
        }],
        mac,
        addresses,
        clients: site
            .client(target.vip)
            .into_iter()
            .filter(|own| own.is_ipv4() == v4)
            .collect(),
        gateways,
        gateway_mac,
        real_servers: if role == Role::Director {
            real_servers
        } else {
            Vec::new()
        },
        vrid: None,
        vmac: false,
    }
}

fn at_port(
    site: &Site<'_>,
    target: &Target<'_>,
    own: &Attachment<'_>,
    role: Role,
    method: ForwardingMethod,
    findings: &mut Vec<Finding>,
) {
    let host = own.host;
    let told =
        host.has(Part::Nft) || !host.rules.ebtables.is_empty() || !host.rules.iptables.is_empty();
    let rules = site.rules(host);
    let Some(mac) = own.link.mac.filter(|_| told && !rules.tables.is_empty()) else {
        return;
    };
    let (port, settings) = bridge_port(own.host, own.port);
    let scene = Scene::new(&known(site, target, own.guest, mac, role, method));
    let kinds = catalogue::kinds(&scene);
    let judged: Vec<(&Kind, Judgement)> = kinds
        .iter()
        .filter(|kind| kind.need == Need::Must && goes_by(site, target, own, role, kind.id))
        .filter_map(|kind| Some((kind, kind.judge(port, rules, &settings).ok()?)))
        .filter(|(_, judgement)| judgement.verdict == Verdict::Drop)
        .collect();
    let all_dropped = judged
        .iter()
        .any(|(kind, _)| kind.id == "own-connection-out");
    let is_untracked = untracks(host, target);
    for (kind, judgement) in &judged {
        let Some(step) = judgement.deciding() else {
            continue;
        };
        let Some(code) = code(kind, step, role, method, all_dropped) else {
            continue;
        };
        // The judge does not follow what is not tracked.
        if is_untracked && is_by_state(step) {
            continue;
        }
        let said = findings.iter().any(|finding| {
            finding.code == code
                && finding.node == host.node
                && finding.words.contains(&format!(" {} ", own.port.name))
        });
        if said {
            continue;
        }
        findings.push(finding(target, own, code, kind, step));
    }
}

/// Advertisements of VRRP that a port's filter drops, out or in.
pub(super) fn adverts(
    site: &Site<'_>,
    target: &Target<'_>,
    own: &Attachment<'_>,
) -> Option<Finding> {
    let rules = site.rules(own.host);
    let mac = own.link.mac.filter(|_| !rules.tables.is_empty())?;
    let (port, settings) = bridge_port(own.host, own.port);
    let method = ForwardingMethod::Direct;
    let scene = Scene::new(&known(site, target, own.guest, mac, Role::Vrrp, method));
    let kinds = catalogue::kinds(&scene);
    let adverts = kinds.iter().filter(|kind| kind.id.starts_with("advert"));
    let mut judged =
        adverts.filter_map(|kind| Some((kind, kind.judge(port, rules, &settings).ok()?)));
    let (kind, judgement) = judged.find(|(_, judgement)| judgement.verdict == Verdict::Drop)?;
    Some(finding(
        target,
        own,
        Code::VrrpSplit,
        kind,
        judgement.deciding()?,
    ))
}

/// Whether the state of a connection decided.
pub(super) fn is_by_state(step: &Step) -> bool {
    step.text.contains("INVALID") || step.text.contains("invalid")
}

/// Whether a node has a rule that keeps the service's packets from being tracked.
pub(super) fn untracks(node: &Snapshot, target: &Target<'_>) -> bool {
    let vip = target.vip.to_string();
    let saved = node.rules.iptables.iter().chain(&node.rules.ip6tables);
    let by_line = saved.flat_map(|saved| saved.text.lines()).any(|line| {
        let is_notrack = line.contains("--notrack") || line.contains("-j NOTRACK");
        is_notrack && (line.contains(&vip) || !line.contains(" -d ") && !line.contains(" -s "))
    });
    let nft = node
        .rules
        .nft
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    by_line || nft.contains("\"notrack\"")
}

/// Which fault it is that a frame is dropped.
fn code(
    kind: &Kind,
    step: &Step,
    role: Role,
    method: ForwardingMethod,
    all_dropped: bool,
) -> Option<Code> {
    let is_out = kind.direction == Direction::Out;
    let id = kind.id;
    // What the guest does on its own behalf is not about the service; health checks are its symptom.
    if id.starts_with("own-") || id.starts_with("check-") || id.starts_with("link-local-") {
        return None;
    }
    let chain = step.chain.as_str();
    let by_state = is_by_state(step);
    Some(if by_state && chain == "KUBE-FORWARD" {
        Code::KubeInvalid
    } else if by_state && role == Role::Director {
        Code::StatefulDirector
    } else if by_state {
        Code::StatefulReturn
    } else if step.outcome == Outcome::Policy(End::Drop) && chain == "FORWARD" {
        Code::DockerForward
    } else if ["KUBE-DEDUP", "cali-", "cni-"]
        .iter()
        .any(|start| chain.starts_with(start))
    {
        Code::CniEbtables
    } else if is_out && all_dropped {
        Code::HostMacSpoof
    } else if id.starts_with("vip-") {
        Code::HostArpSpoof
    } else if method == ForwardingMethod::Tunnel
        && (id.starts_with("handed-") || id.starts_with("forward-"))
    {
        Code::TunnelFirewall
    } else if !is_out {
        Code::SecurityGroupIngress
    } else if chain.starts_with("neutron-") {
        Code::NeutronPortSecurity
    } else if role == Role::RealServer {
        Code::HostIpSpoofServer
    } else if id.starts_with("forward-") && method == ForwardingMethod::Direct {
        Code::HostIpSpoofDirector
    } else {
        Code::HostIpSpoofVip
    })
}

fn finding(
    target: &Target<'_>,
    own: &Attachment<'_>,
    code: Code,
    kind: &Kind,
    step: &Step,
) -> Finding {
    let (host, port) = (&own.host.node, &own.port.name);
    let words = format!(
        "{host} drops at port {port} of {}: {}",
        own.guest.node, kind.words
    );
    let is_libvirt = owner(step).is_some_and(|owner| owner.contains("nwfilter"));
    let mut finding = because(Finding::new(code, host, words).at(port), step);
    // Frames that come in at the port are those that the guest sends.
    finding.trial = Some(Trial {
        frame: kind.frame.clone(),
        enters: kind.direction == Direction::Out,
        port: None,
        shows: Shows::Passes,
        tempting: tempting(target, code, step),
    });
    let Some((words, test)) = exception(target, own, code, step.engine) else {
        return finding;
    };
    let table = table_name(step);
    let (family, program) = match step.engine {
        Engine::Ebtables => ("", "ebtables"),
        Engine::Iptables => ("", "iptables"),
        Engine::Ip6tables => ("", "ip6tables"),
        Engine::Nftables => (step.table.split(' ').nth(1).unwrap_or("inet"), "nft"),
    };
    let chain = &step.chain;
    if program == "nft" && code == Code::CniEbtables {
        let words = format!("{words}; the rule goes when it is loaded anew");
        return finding.mended_by(
            words,
            [format!(
                "nft insert rule {family} {table} {chain} {test} counter return"
            )],
            ["nft --handle list ruleset; nft delete rule ... handle NUMBER"],
        );
    }
    if program == "nft" {
        let words = format!("{words}; the rule goes when it is loaded anew");
        return finding.mended_by(
            words,
            [format!(
                "nft insert rule {family} {table} {chain} {test} accept"
            )],
            ["nft --handle list ruleset; nft delete rule ... handle NUMBER"],
        );
    }
    // From a base chain a frame does not return to anything.
    let base = [
        "PREROUTING",
        "FORWARD",
        "INPUT",
        "OUTPUT",
        "POSTROUTING",
        "BROUTING",
    ]
    .contains(&&**chain);
    let (verdict, table) = if code == Code::StatefulDirector
        || code == Code::KubeInvalid
        || code == Code::StatefulReturn
    {
        ("CT --notrack", "raw")
    } else if base {
        ("ACCEPT", table)
    } else {
        ("RETURN", table)
    };
    let chain = if table == "raw" { "PREROUTING" } else { chain };
    let finding = finding.mended_by(
        format!("{words}; whoever wrote the rules will write them anew"),
        [format!(
            "{program} -t {table} -I {chain} 1 {test} -j {verdict}"
        )],
        [format!(
            "{program} -t {table} -D {chain} {test} -j {verdict}"
        )],
    );
    let by_state = matches!(code, Code::StatefulDirector | Code::KubeInvalid);
    if program == "iptables" && (by_state || code == Code::DockerForward) {
        return uncalled(finding, own);
    }
    if !is_libvirt {
        return finding;
    }
    let words = match code {
        Code::HostIpSpoofDirector => {
            "to last: a filter of its own for the guest, by `pointsman nwfilter mend`; to allow the \
             virtual address does not help, the source is the client's"
        }
        _ => "to last: a filter of its own for the guest, by `pointsman nwfilter mend`",
    };
    finding.mended_by(words, [""; 0], [""; 0])
}

/// Adds that bridged packets need not meet iptables at all, where the host says that they do.
fn uncalled(finding: Finding, own: &Attachment<'_>) -> Finding {
    let name = "net.bridge.bridge-nf-call-iptables";
    if own.host.number("net/bridge/bridge-nf-call-iptables") != Some(1) {
        return finding;
    }
    finding.mended_by(
        "bridged packets past iptables, if no filter of guests or containers needs it",
        [format!("sysctl -w {name}=0")],
        [format!("sysctl -w {name}=1")],
    )
}

/// What people try first at the port of a director that routes directly, and what does not help.
fn tempting(target: &Target<'_>, code: Code, step: &Step) -> Vec<Fix> {
    let table = step.table.strip_prefix("ebtables ");
    let fits = code == Code::HostIpSpoofDirector && target.vip.is_ipv4();
    let Some(table) = table.filter(|_| fits) else {
        return Vec::new();
    };
    let (vip, chain) = (target.vip, &step.chain);
    let change = |how: &str| format!("ebtables -t {table} {how} -p IPv4 --ip-src {vip} -j RETURN");
    vec![Fix {
        words: format!(
            "{vip} as one more allowed address: frames of direct routing have the client's"
        ),
        commands: vec![change(&format!("-I {chain} 1"))],
        undo: vec![change(&format!("-D {chain}"))],
        ..Fix::default()
    }]
}

fn table_name(step: &Step) -> &str {
    step.table.rsplit(' ').next().unwrap_or_default()
}

/// The exception that lets the service's frames through, for a rule of its dialect.
fn exception(
    target: &Target<'_>,
    own: &Attachment<'_>,
    code: Code,
    engine: Engine,
) -> Option<(&'static str, String)> {
    let (vip, port, transport) = (target.vip, target.port, target.transport());
    let mac = own.link.mac?;
    let v4 = vip.is_ipv4();
    let ip = if v4 { "ip" } else { "ip6" };
    Some(match (engine, code) {
        (Engine::Ebtables, Code::HostIpSpoofDirector | Code::SecurityGroupIngress) => {
            let protocol = if v4 { "IPv4" } else { "IPv6" };
            (
                "let the service's packets out whoever sent them",
                format!(
                    "-p {protocol} --{ip}-dst {vip} --{ip}-proto {transport} --{ip}-dport {port}"
                ),
            )
        }
        (Engine::Ebtables, Code::HostIpSpoofServer | Code::HostIpSpoofVip) => {
            let protocol = if v4 { "IPv4" } else { "IPv6" };
            (
                "let packets from the virtual address out",
                format!("-p {protocol} --{ip}-src {vip}"),
            )
        }
        (Engine::Ebtables, Code::HostArpSpoof) if v4 => (
            "let the guest speak for the virtual address",
            format!("-p ARP --arp-ip-src {vip}"),
        ),
        (Engine::Ebtables, Code::HostMacSpoof | Code::CniEbtables) => {
            ("let the guest's own MAC address out", format!("-s {mac}"))
        }
        (Engine::Ebtables, Code::VrrpSplit) => {
            ("let VRRP through", "-p IPv4 --ip-proto 112".to_owned())
        }
        (Engine::Iptables, Code::VrrpSplit) => ("let VRRP through", "-p 112".to_owned()),
        (Engine::Nftables, Code::VrrpSplit) => ("let VRRP through", "ip protocol 112".to_owned()),
        (Engine::Ebtables, Code::TunnelFirewall) => {
            ("let the tunnel through", "-p IPv4 --ip-proto 4".to_owned())
        }
        (Engine::Iptables | Engine::Ip6tables, Code::NeutronPortSecurity) => (
            "let the guest send from any address",
            format!("-m mac --mac-source {mac}"),
        ),
        (
            Engine::Iptables | Engine::Ip6tables,
            Code::SecurityGroupIngress
            | Code::HostIpSpoofDirector
            | Code::StatefulDirector
            | Code::KubeInvalid,
        ) => (
            "let the service's packets through",
            format!("-d {vip} -p {transport} --dport {port}"),
        ),
        (
            Engine::Iptables | Engine::Ip6tables,
            Code::HostIpSpoofServer | Code::HostIpSpoofVip | Code::StatefulReturn,
        ) => (
            "let the service's answers through",
            format!("-s {vip} -p {transport} --sport {port}"),
        ),
        (Engine::Iptables | Engine::Ip6tables, Code::DockerForward) => (
            "let bridged packets through",
            "-m physdev --physdev-is-bridged".to_owned(),
        ),
        (Engine::Nftables, Code::HostIpSpoofDirector | Code::SecurityGroupIngress) => (
            "let the service's packets out whoever sent them",
            format!("{ip} daddr {vip} {transport} dport {port}"),
        ),
        (Engine::Nftables, Code::HostIpSpoofServer | Code::HostIpSpoofVip) => (
            "let packets from the virtual address out",
            format!("{ip} saddr {vip}"),
        ),
        (Engine::Nftables, Code::HostArpSpoof) if v4 => (
            "let the guest speak for the virtual address",
            format!("arp saddr ip {vip}"),
        ),
        (Engine::Nftables, Code::HostMacSpoof | Code::CniEbtables) => (
            "let the guest's own MAC address out",
            format!("ether saddr {mac}"),
        ),
        _ => return None,
    })
}
