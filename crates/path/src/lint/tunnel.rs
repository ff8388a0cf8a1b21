//! Tunnels: the real server's end.

use pointsman_director::model::{ForwardingMethod, TunnelType};

use super::address::{set, show};
use super::real_server::dropped;
use super::site::{Member, Site, Target, has_policy};
use crate::catalogue::Code;
use crate::finding::Finding;
use crate::snapshot::{Link, Part, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        for member in &target.members {
            let is_tunnel = member.server.method == ForwardingMethod::Tunnel
                && member.server.tunnel == TunnelType::Ipip;
            let node = member
                .node
                .filter(|node| is_tunnel && node.has(Part::Links));
            let Some(node) = node else { continue };
            let ends = ends(target, member, node);
            if !ends.iter().any(|link| link.is_up()) {
                findings.push(down(target, member, node, &ends));
            }
            for link in ends.into_iter().filter(|link| link.is_up()) {
                findings.extend(reverse_path(site, target, member, node, link));
            }
        }
    }
}

/// Devices that may be the tunnel's end: the kernel's for this pair of families, or a program's.
fn ends<'a>(target: &Target<'_>, member: &Member<'_>, node: &'a Snapshot) -> Vec<&'a Link> {
    let kinds: &[&str] = match (member.server.address.is_ipv4(), target.vip.is_ipv4()) {
        (true, true) => &["ipip", "tun"],
        (true, false) => &["sit", "tun"],
        (false, _) => &["ip6tnl", "tun"],
    };
    let fits = |link: &&Link| {
        let outer = link.tunnel.as_ref().and_then(|tunnel| tunnel.local);
        kinds.contains(&&*link.kind) && outer.is_none_or(|own| own == member.server.address)
    };
    node.links.iter().filter(fits).collect()
}

fn down(target: &Target<'_>, member: &Member<'_>, node: &Snapshot, ends: &[&Link]) -> Finding {
    let (module, usual) = match (member.server.address.is_ipv4(), target.vip.is_ipv4()) {
        (true, true) => ("ipip", "tunl0"),
        (true, false) => ("sit", "sit0"),
        (false, _) => ("ip6_tunnel", "ip6tnl0"),
    };
    let (words, commands, undo) = match ends.first() {
        Some(link) => (
            format!("the tunnel {} of {} is down", link.name, node.node),
            vec![format!("ip link set dev {} up", link.name)],
            vec![format!("ip link set dev {} down", link.name)],
        ),
        None => (
            format!(
                "{} has no tunnel that takes packets for {}",
                node.node, target.vip
            ),
            vec![
                format!("modprobe {module}"),
                format!("ip link set dev {usual} up"),
            ],
            vec![
                format!("ip link set dev {usual} down"),
                format!("modprobe -r {module}"),
            ],
        ),
    };
    Finding::new(Code::TunnelDown, &node.node, words)
        .because("no tunnel device is up", "ip -details link show")
        .mended_by("the kernel's own tunnel", commands, undo)
}

/// What comes out of the tunnel has a source whose way back is elsewhere.
fn reverse_path(
    site: &Site<'_>,
    target: &Target<'_>,
    member: &Member<'_>,
    node: &Snapshot,
    link: &Link,
) -> Option<Finding> {
    let strict = target.vip.is_ipv4()
        && !has_policy(node)
        && node.has(Part::Routes)
        && node.greater(&link.name, "rp_filter")? == 1;
    let way = site.way_to_clients(member.node?, target.vip);
    let device = way.and_then(|way| way.device.as_deref());
    if !strict || device == Some(&*link.name) {
        return None;
    }
    let words = format!(
        "{} drops what comes out of the tunnel {}: the way back to clients leads elsewhere",
        node.node, link.name
    );
    let path = format!("net/ipv4/conf/{}/rp_filter", link.name);
    let finding = Finding::new(Code::TunnelReversePath, &node.node, words).because(
        format!("the greater rp_filter of all and {} is 1", link.name),
        format!("{}; {}", show("net/ipv4/conf/all/rp_filter"), show(&path)),
    );
    let finding = dropped(finding, node);
    let loose = "loose instead of strict: any way back will do";
    // Without an address of its own a device has no loose way back either.
    if link
        .addresses
        .iter()
        .any(|own| own.prefix.address.is_ipv4())
    {
        return Some(set(finding, node, &path, 2, loose));
    }
    if node.number("net/ipv4/conf/all/rp_filter") == Some(0) {
        let words = "no check there: without an address the device can't have a loose one";
        return Some(set(finding, node, &path, 0, words));
    }
    let mut finding = set(finding, node, &path, 2, loose);
    if let Some(fix) = finding.fixes.last_mut() {
        let change = |verb| format!("ip address {verb} {}/32 dev {}", target.vip, link.name);
        fix.words += ", where the device has an address";
        fix.commands.push(change("add"));
        fix.undo.push(change("del"));
    }
    Some(finding)
}
