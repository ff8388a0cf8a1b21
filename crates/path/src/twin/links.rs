//! Links, addresses, routes and kernel parameters of a twin.

use std::fmt::Write;

use super::{Plan, Step};
use crate::snapshot::{Link, MAIN, Snapshot};

/// Kernel parameters that a twin gets, by the beginning of their path.
const PARAMETERS: [&str; 4] = [
    "net/bridge/",
    "net/ipv4/conf/",
    "net/ipv6/conf/",
    "net/ipv4/ip_",
];
/// Parameters that need more than a namespace, or would only disturb.
const LEFT_ALONE: [&str; 3] = ["/accept_dad", "/disable_ipv6", "gc_thresh"];

/// Makes the links, down.
pub(super) fn plan(node: &Snapshot, outside: &str, plan: &mut Plan) {
    let mut batch = String::from("link set lo up\n");
    for link in &node.links {
        if link.is_loopback() {
            continue;
        }
        if !is_plain(&link.name) {
            plan.leave_out(format!("link {:?}, because of its name", link.name));
            continue;
        }
        let Some(mac) = link.mac else {
            plan.leave_out(format!("link {}, which is no Ethernet", link.name));
            continue;
        };
        let (name, mtu) = (&link.name, link.mtu);
        if let Some(bridge) = &link.bridge {
            let _ = write!(
                batch,
                "link add name {name} address {mac} mtu {mtu} type bridge stp_state 0 \
                 forward_delay 0"
            );
            // Kernels without a feature refuse to hear that it is off, too.
            for (is_on, feature) in [
                (bridge.vlan_filtering, "vlan_filtering"),
                (bridge.call_iptables, "nf_call_iptables"),
                (bridge.call_ip6tables, "nf_call_ip6tables"),
                (bridge.call_arptables, "nf_call_arptables"),
            ] {
                if is_on {
                    let _ = write!(batch, " {feature} 1");
                }
            }
            batch.push('\n');
            continue;
        }
        if link.vlan.is_some() || link.mode.is_some() || link.tunnel.is_some() {
            plan.leave_out(format!("link {name}, a {}", link.kind));
            continue;
        }
        let _ = writeln!(
            batch,
            "link add name {name} address {mac} mtu {mtu} type veth peer name {name} \
             mtu {mtu} netns {outside}"
        );
        plan.ports.push(name.clone());
    }
    let ports = node
        .links
        .iter()
        .filter(|link| plan.ports.contains(&link.name));
    for port in ports {
        join(node, port, &mut batch);
    }
    plan.steps.push(Step::new(&["ip", "-batch", "-"], batch));
}

/// Makes the link a port of its bridge, as it is on the node.
fn join(node: &Snapshot, link: &Link, batch: &mut String) {
    let (Some(master), Some(port)) = (&link.master, &link.port) else {
        return;
    };
    if !is_plain(master) || node.link(master).is_none_or(|link| link.bridge.is_none()) {
        return;
    }
    let is = |set: bool| if set { "on" } else { "off" };
    let name = &link.name;
    let _ = writeln!(batch, "link set dev {name} master {master}");
    let _ = writeln!(
        batch,
        "link set dev {name} type bridge_slave hairpin {} isolated {} learning {} flood {} \
         neigh_suppress {} mcast_flood {} bcast_flood {}",
        is(port.hairpin),
        is(port.isolated),
        is(port.learning),
        is(port.flood),
        is(port.neigh_suppress),
        is(port.multicast_flood),
        is(port.broadcast_flood),
    );
}

/// Sets parameters, raises the links, and adds what needs raised ones.
pub(super) fn raise(node: &Snapshot, plan: &mut Plan) {
    let mut parameters = String::new();
    for (path, value) in &node.sysctls {
        let wanted = PARAMETERS.iter().any(|start| path.starts_with(start))
            && !LEFT_ALONE.iter().any(|part| path.contains(part));
        if wanted && is_plain_path(path) && is_plain(value) {
            let _ = writeln!(parameters, "{path} = {value}");
        }
    }
    if !parameters.is_empty() {
        // Not all namespaces have all of them.
        let step = Step::new(&["sysctl", "-q", "-e", "-p", "-"], parameters);
        plan.steps.push(step.tried());
    }
    let mut batch = String::new();
    let here = |plan: &Plan, link: &Link| link.bridge.is_some() || plan.has(&link.name);
    for link in &node.links {
        if link.is_loopback() || (is_plain(&link.name) && here(plan, link)) {
            addresses(link, &mut batch);
        }
    }
    for link in node
        .links
        .iter()
        .filter(|link| here(plan, link) && link.is_up())
    {
        let _ = writeln!(batch, "link set dev {} up", link.name);
    }
    if !batch.is_empty() {
        plan.steps.push(Step::new(&["ip", "-batch", "-"], batch));
    }
    let mut batch = String::new();
    routes(node, plan, &mut batch);
    neighbours(node, plan, &mut batch);
    if !batch.is_empty() {
        // One that can't be is the loss of that one alone.
        plan.steps
            .push(Step::new(&["ip", "-force", "-batch", "-"], batch).tried());
    }
    let mut batch = String::new();
    for entry in &node.forwarding {
        let (Some(mac), true) = (entry.mac, plan.has(&entry.port)) else {
            continue;
        };
        // Its own addresses are there already, and groups go everywhere.
        if entry.state == "permanent" || mac.0[0] & 1 != 0 || entry.bridge.is_none() {
            continue;
        }
        let vlan = entry
            .vlan
            .map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
        let _ = writeln!(
            batch,
            "fdb replace {mac} dev {} master static{vlan}",
            entry.port
        );
    }
    if !batch.is_empty() {
        plan.steps
            .push(Step::new(&["bridge", "-force", "-batch", "-"], batch).tried());
    }
}

fn addresses(link: &Link, batch: &mut String) {
    for own in &link.addresses {
        let address = own.prefix.address;
        let loopback = address.is_loopback();
        let local = matches!(address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        // The kernel gives these itself.
        if loopback || local {
            continue;
        }
        let more = if address.is_ipv6() { " nodad" } else { "" };
        let _ = writeln!(
            batch,
            "address replace {} dev {}{more}",
            own.prefix, link.name
        );
    }
}

fn routes(node: &Snapshot, plan: &Plan, batch: &mut String) {
    for route in &node.routes {
        let refuses = ["blackhole", "unreachable", "prohibit"].contains(&&*route.kind);
        // Every namespace has some of its own for IPv6.
        if refuses
            && route.table == MAIN
            && route.to.length > 0
            && route.device.as_deref() != Some("lo")
        {
            let _ = writeln!(batch, "route replace {} {}", route.kind, route.to);
            continue;
        }
        let Some(device) = &route.device else {
            continue;
        };
        let known = plan.has(device) || node.link(device).is_some_and(|link| link.bridge.is_some());
        // Those of addresses come with them.
        if !known || route.kind != "unicast" || route.table != MAIN || !is_plain(device) {
            continue;
        }
        let mut line = format!("route replace {}", route.to);
        if let Some(via) = route.via {
            let family = if via.is_ipv4() { "inet" } else { "inet6" };
            let _ = write!(line, " via {family} {via}");
        }
        let _ = write!(line, " dev {device}");
        if let Some(source) = route.source {
            let _ = write!(line, " src {source}");
        }
        if route.metric != 0 {
            let _ = write!(line, " metric {}", route.metric);
        }
        if route.via.is_some() {
            line.push_str(" onlink");
        }
        let _ = writeln!(batch, "{line}");
    }
}

fn neighbours(node: &Snapshot, plan: &Plan, batch: &mut String) {
    for neighbour in &node.neighbours {
        let Some(mac) = neighbour.mac else { continue };
        let device = &neighbour.device;
        let known = plan.has(device) || node.link(device).is_some_and(|link| link.bridge.is_some());
        if known && is_plain(device) {
            let _ = writeln!(
                batch,
                "neighbour replace {} lladdr {mac} dev {device} nud permanent",
                neighbour.address
            );
        }
    }
}

/// Whether a word can't be anything else than a name to the programs that read it.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:@+-".contains(c);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}

fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain)
}
