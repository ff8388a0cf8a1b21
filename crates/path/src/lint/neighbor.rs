//! Neighbor discovery of IPv6: addresses that duplicate detection took away, and questions that a bridge
//! does not pass on.

use std::net::{IpAddr, Ipv6Addr};

use pointsman_wire::build::Frame;
use pointsman_wire::{Mac, icmp};

use super::bridge::pairs;
use super::site::{Attachment, Crossing, Site, Target};
use crate::catalogue::Code;
use crate::finding::{Finding, Shows, Trial};
use crate::snapshot::Snapshot;
use crate::vrrp::multicast::{Withheld, mended, withheld};

pub(super) fn check(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for target in site.targets.iter().filter(|target| target.vip.is_ipv6()) {
        let director = target.director;
        findings.extend(director.and_then(|node| duplicate(site, target, node)));
        for (from, to) in pairs(site, target) {
            for crossing in site.crossings(from, to).iter().flatten() {
                findings.extend(kept(target, from, to, crossing));
            }
        }
    }
}

/// Duplicate detection took the virtual address from its director.
fn duplicate(site: &Site<'_>, target: &Target<'_>, node: &Snapshot) -> Option<Finding> {
    let (link, own) = node.owner_of(target.vip)?;
    if !own.flags.iter().any(|flag| flag == "dadfailed") {
        return None;
    }
    let (vip, device, prefix) = (target.vip, &link.name, own.prefix);
    let words = format!(
        "{vip} on {device} of {} was found to be another's and is not used",
        node.node
    );
    let mut finding = Finding::new(Code::DuplicateDetection, &node.node, words)
        .at(device)
        .because(
            "the address is marked dadfailed",
            format!("ip -6 address show dev {device}"),
        );
    let others = site.nodes.iter().filter(|other| other.node != node.node);
    for other in others {
        if let Some((link, _)) = other.owner_of(vip).filter(|(link, _)| !link.is_loopback()) {
            let (name, device) = (&other.node, &link.name);
            let show = format!("ip -6 address show dev {device}");
            finding = finding.seen_at(name, format!("{name} has it on {device}"), show);
        }
    }
    Some(finding.mended_by(
        "see who else has it; then add it anew, without asking the others",
        [
            format!("ip address del {prefix} dev {device}"),
            format!("ip address add {prefix} dev {device} nodad"),
        ],
        [
            format!("ip address del {prefix} dev {device}"),
            format!("ip address add {prefix} dev {device}"),
        ],
    ))
}

/// The group in which an address is asked for.
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A port that the question for an address does not leave by.
fn kept(
    target: &Target<'_>,
    from: &Attachment<'_>,
    to: &Attachment<'_>,
    crossing: &Crossing<'_>,
) -> Option<Finding> {
    // Who serves is asked for the addresses that matter, others for any.
    let serves = |address| {
        let mut servers = target.members.iter().map(|member| member.server.address);
        address == target.vip || servers.any(|own| own == address)
    };
    let own = to.link.addresses.iter().map(|own| own.prefix.address);
    let own: Vec<IpAddr> = own.filter(|own| own.is_ipv6()).collect();
    let is_known = own.iter().any(|own| serves(*own));
    let asked = own.iter().filter(|own| serves(**own) || !is_known);
    let (address, group, why) = asked.copied().find_map(|address| {
        let IpAddr::V6(own) = address else {
            return None;
        };
        let group = solicited(own);
        let why = withheld(crossing.host, crossing.output, group.into())?;
        Some((own, group, why))
    })?;
    let port = &crossing.output.name;
    let bridge = crossing.output.master.as_deref().unwrap_or_default();
    let words = format!(
        "{bridge} of {} does not pass {} questions for {address} on to {port} of {}: neighbor discovery \
         asks in {group}",
        crossing.host.node, from.guest.node, to.guest.node
    );
    let finding = Finding::new(Code::IgmpSnooping, &crossing.host.node, words).at(port);
    let trial = (why == Withheld::NotFlooded).then(|| Trial {
        frame: question(from, address, group),
        enters: false,
        port: None,
        shows: Shows::Passes,
        tempting: Vec::new(),
    });
    Some(mended(
        finding.shown_by(trial),
        why,
        bridge,
        port,
        group.into(),
    ))
}

/// Who has the address? Asked by a link.
fn question(from: &Attachment<'_>, address: Ipv6Addr, group: Ipv6Addr) -> Vec<u8> {
    let own = from.link.addresses.iter();
    let own = own.map(|own| own.prefix.address).find_map(|own| match own {
        IpAddr::V6(own) => Some(own),
        IpAddr::V4(_) => None,
    });
    let mac = from.link.mac.unwrap_or(Mac([2, 0, 0, 0, 0, 1]));
    let [.., a, b, c] = group.octets();
    let body = [address.octets().as_slice(), &[1, 1], &mac.0].concat();
    Frame::ipv6(own.unwrap_or(Ipv6Addr::UNSPECIFIED), group)
        .macs(mac, Mac([0x33, 0x33, 0xff, a, b, c]))
        .ttl(255)
        .icmp(icmp::V6_NEIGHBOR_SOLICITATION, 0, 0)
        .payload(&body)
        .build()
}
