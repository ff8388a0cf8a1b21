//! Bridges between director, real servers and clients: hairpin, isolation, VLANs, MTU.

use pointsman_director::model::ForwardingMethod;
use pointsman_wire::Mac;

use super::site::{Attachment, Crossing, Site, Target};
use crate::catalogue::Code;
use crate::finding::Finding;
use crate::snapshot::{Link, Part, PortVlans, Snapshot};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in &site.targets {
        for (from, to) in pairs(site, target) {
            let Some(crossings) = site.crossings(from, to) else {
                continue;
            };
            let (here, there) = (&from.guest.node, &to.guest.node);
            let way = format!("between {here} and {there}");
            for crossing in &crossings {
                findings.extend(isolated(crossing, &way));
                findings.extend(hairpin(crossing, &way));
            }
            findings.extend(size(&crossings, from, to));
            findings.extend(vlans(&crossings, from, to));
        }
        same_mac(site, target, findings);
    }
}

/// Who must reach whom on the link.
pub(super) fn pairs<'s, 'a>(
    site: &'s Site<'a>,
    target: &Target<'a>,
) -> Vec<(&'s Attachment<'a>, &'s Attachment<'a>)> {
    let mut pairs = Vec::new();
    let mut add = |one: Option<&'s Attachment<'a>>, other: Option<&'s Attachment<'a>>| {
        if let (Some(one), Some(other)) = (one, other)
            && one.guest.node != other.guest.node
        {
            pairs.push((one, other));
        }
    };
    let at = |node: &Snapshot, link: Option<&Link>| site.attachment(node, link?);
    let Some(director) = target.director else {
        return pairs;
    };
    let towards = |node: &'a Snapshot, address| {
        let route = node.route_to(address)?;
        node.link(route.device.as_deref()?)
    };
    for member in &target.members {
        let Some(node) = member.node else { continue };
        let route = director.route_to(member.server.address);
        if route.is_some_and(|route| route.via.is_none()) {
            add(
                at(director, towards(director, member.server.address)),
                at(node, member.link()),
            );
        }
        if member.server.method != ForwardingMethod::Masquerade {
            let (gateway, link) = next_hop(site, target, node);
            let way = site.way_to_clients(node, target.vip);
            let own = way.and_then(|way| node.link(way.device.as_deref()?));
            if let Some(gateway) = gateway {
                add(at(node, own), at(gateway, link));
            }
        }
    }
    let holder = director.owner_of(target.vip).map(|(link, _)| link);
    if let (Some(gateway), link) = next_hop(site, target, director) {
        add(at(gateway, link), at(director, holder));
    }
    pairs
}

/// The node, and its link, by which a node reaches clients.
fn next_hop<'a>(
    site: &Site<'a>,
    target: &Target<'a>,
    node: &'a Snapshot,
) -> (Option<&'a Snapshot>, Option<&'a Link>) {
    let way = site.way_to_clients(node, target.vip);
    let address = way
        .and_then(|way| way.via)
        .or_else(|| site.client(target.vip));
    let Some(address) = address else {
        return (None, None);
    };
    let there = site.node_of(address, node);
    let link = there
        .and_then(|there| there.owner_of(address))
        .map(|(link, _)| link);
    (there, link)
}

fn isolated(crossing: &Crossing<'_>, way: &str) -> Option<Finding> {
    let is = |link: &Link| link.port.as_ref().is_some_and(|port| port.isolated);
    let (input, output) = (crossing.input, crossing.output);
    if input.index == output.index || !is(input) || !is(output) {
        return None;
    }
    let (one, other) = (
        &input.name.clone().min(output.name.clone()),
        &input.name.clone().max(output.name.clone()),
    );
    let words = format!(
        "{one} and {other} of {} are isolated from each other, {way}",
        crossing.host.node
    );
    Some(
        Finding::new(Code::PortIsolated, &crossing.host.node, words)
            .because(
                "both ports are isolated",
                format!(
                    "bridge -details link show dev {one}; bridge -details link show dev {other}"
                ),
            )
            .mended_by(
                "one of them like other ports",
                [format!("bridge link set dev {other} isolated off")],
                [format!("bridge link set dev {other} isolated on")],
            ),
    )
}

fn hairpin(crossing: &Crossing<'_>, way: &str) -> Option<Finding> {
    let port = crossing.input;
    let is_on = port.port.as_ref().is_some_and(|port| port.hairpin);
    if port.index != crossing.output.index || is_on {
        return None;
    }
    let name = &port.name;
    let words = format!(
        "{name} of {} does not send frames back to where they came from, {way}",
        crossing.host.node
    );
    Some(
        Finding::new(Code::Hairpin, &crossing.host.node, words)
            .because(
                "both are behind this port, and hairpin is off",
                format!("bridge -details link show dev {name}"),
            )
            .mended_by(
                "let the port send frames back",
                [format!("bridge link set dev {name} hairpin on")],
                [format!("bridge link set dev {name} hairpin off")],
            ),
    )
}

/// A port that takes less than both ends send.
fn size(crossings: &[Crossing<'_>], from: &Attachment<'_>, to: &Attachment<'_>) -> Option<Finding> {
    let sent = from.link.mtu.min(to.link.mtu);
    let ports = crossings.iter().flat_map(|crossing| {
        [
            (crossing.host, crossing.input),
            (crossing.host, crossing.output),
        ]
    });
    let (host, port) = ports
        .filter(|(_, port)| port.mtu < sent)
        .min_by_key(|(_, port)| port.mtu)?;
    let (name, mtu) = (&port.name, port.mtu);
    let words = format!(
        "{name} of {} takes {mtu} bytes where up to {sent} are sent",
        host.node
    );
    let mut finding = Finding::new(Code::LinkMtu, &host.node, words)
        .because(
            format!("{name} has an MTU of {mtu}"),
            format!("ip link show dev {name}"),
        )
        .because(
            format!(
                "{} of {} and {} of {} send up to {sent}",
                from.link.name, from.guest.node, to.link.name, to.guest.node
            ),
            "ip link show",
        )
        .mended_by(
            "one MTU for all links of the network",
            [format!("ip link set dev {name} mtu {sent}")],
            [format!("ip link set dev {name} mtu {mtu}")],
        );
    if port.counters.receive_dropped > 0 {
        finding = finding.because(
            format!(
                "{name} dropped {} packets that it received",
                port.counters.receive_dropped
            ),
            format!("ip -statistics link show dev {name}"),
        );
    }
    Some(finding)
}

/// Follows a frame's VLAN from port to port.
fn vlans(
    crossings: &[Crossing<'_>],
    from: &Attachment<'_>,
    to: &Attachment<'_>,
) -> Option<Finding> {
    let mut tag = from.link.vlan;
    for crossing in crossings {
        let host = crossing.host;
        let bridge = host.link(crossing.input.master.as_deref()?)?;
        if !bridge
            .bridge
            .as_ref()
            .is_some_and(|bridge| bridge.vlan_filtering)
        {
            continue;
        }
        if !host.has(Part::Vlans) {
            return None;
        }
        let of = |link: &Link| host.vlans.iter().find(|own| own.port == link.name);
        let wrong = |port: &Link, words: String, id: u16| {
            let way = format!("between {} and {}", from.guest.node, to.guest.node);
            Finding::new(Code::VlanMismatch, &host.node, format!("{words}, {way}"))
                .because(
                    "the VLANs of the port",
                    format!("bridge vlan show dev {}", port.name),
                )
                .mended_by(
                    "add the VLAN to the port",
                    [format!("bridge vlan add dev {} vid {id}", port.name)],
                    [format!("bridge vlan del dev {} vid {id}", port.name)],
                )
        };
        let input = of(crossing.input);
        let id = match tag {
            Some(id) if input.is_some_and(|own| own.carries(id)) => id,
            Some(id) => {
                let words = format!(
                    "{} of {} does not take VLAN {id}",
                    crossing.input.name, host.node
                );
                return Some(wrong(crossing.input, words, id));
            }
            None => input.and_then(|own| own.pvid())?,
        };
        let entry = of(crossing.output).and_then(|own| {
            let mut entries = own.vlans.iter();
            entries.find(|vlan| (vlan.first..=vlan.last).contains(&id))
        });
        let Some(entry) = entry else {
            let name = &crossing.output.name;
            let words = format!("{name} of {} does not carry VLAN {id}", host.node);
            let mut finding = wrong(crossing.output, words, id);
            // Who takes and sends frames without a tag is in one VLAN.
            if let Some(old) = of(crossing.output).and_then(PortVlans::access) {
                let add = |id| format!("bridge vlan add dev {name} vid {id} pvid untagged");
                let delete = |id| format!("bridge vlan del dev {name} vid {id}");
                finding.fixes.clear();
                finding = finding.mended_by(
                    "put the port into the VLAN, instead of the one that it is in",
                    [delete(old), add(id)],
                    [delete(id), add(old)],
                );
            }
            return Some(finding);
        };
        tag = (!entry.untagged).then_some(id);
    }
    None
}

/// Two nodes of the network have one address.
fn same_mac(site: &Site<'_>, target: &Target<'_>, findings: &mut Vec<Finding>) {
    let Some(director) = target.director else {
        return;
    };
    let own = site
        .attachments
        .iter()
        .filter(|own| own.guest.node == director.node);
    for own in own {
        let Some(mac @ Mac([a, b, c, d, ..])) = own.link.mac else {
            continue;
        };
        if [a, b, c, d] == [0, 0, 0x5e, 0] {
            continue;
        }
        for other in &site.attachments {
            let is_other = other.guest.node != own.guest.node || other.link.index != own.link.index;
            if other.link.mac != Some(mac)
                || !is_other
                || !other.link.is_up()
                || site.crossings(own, other).is_none()
            {
                continue;
            }
            let words = format!(
                "{} of {} has the MAC address {mac} of {}",
                other.link.name, other.guest.node, director.node
            );
            // Seen where the other one is plugged in.
            let host = &other.host.node;
            let (name, free) = (&other.link.name, unused(site, mac));
            findings.push(
                Finding::new(Code::MacFlapping, host, words)
                    .at(&other.port.name)
                    .because(
                        format!(
                            "frames from it come in by {} and by others",
                            other.port.name
                        ),
                        format!("bridge fdb show | grep {mac}"),
                    )
                    .mended_by(
                        "another address for the other one; of a guest, in its definition too",
                        [format!("ip link set dev {name} address {free}")],
                        [format!("ip link set dev {name} address {mac}")],
                    )
                    .typed_at(&other.guest.node),
            );
            let finding = findings.last_mut();
            let forget = format!(
                "ip link set dev {} type bridge_slave fdb_flush",
                other.port.name
            );
            finding
                .into_iter()
                .for_each(|own| own.forgotten_by(host, &forget));
        }
    }
}

/// An address like this one that nobody in the bundle has, of those that anybody may take.
fn unused(site: &Site<'_>, Mac(mut octets): Mac) -> Mac {
    let links = || site.nodes.iter().flat_map(|node| &node.links);
    octets[0] = octets[0] & !1 | 2;
    loop {
        octets[5] = octets[5].wrapping_add(1);
        let own = Mac(octets);
        if links().all(|link| link.mac != Some(own)) || octets[5] == u8::MAX {
            return own;
        }
    }
}
