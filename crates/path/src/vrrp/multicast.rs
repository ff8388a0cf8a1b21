//! Ports of bridges that groups are not passed on to.
//!
//! A Linux bridge passes a group on to those who joined it only when it listens who joins
//! (`mcast_snooping`) and somebody asks who has (a querier); 224.0.0.0/24 and ff02::1 go to all in any
//! case. To all means to those whose `mcast_flood` is on.

use std::net::{IpAddr, Ipv6Addr};

use super::way::Lost;
use super::{Scene, captured};
use crate::catalogue::Code;
use crate::finding::{Confidence, Finding};
use crate::snapshot::{Link, Part, Snapshot};

/// Why a port does not get a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// It gets no group that nobody joined there.
    NotFlooded,
    /// Nobody is known to have joined there.
    NotJoined,
}

/// Whether a bridge passes a group on to all, whoever has joined.
fn goes_to_all(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    }
}

/// Why a bridge's port does not get a group, if it does not.
pub(crate) fn withheld(node: &Snapshot, port: &Link, group: IpAddr) -> Option<Withheld> {
    if !group.is_multicast() {
        return None;
    }
    let bridge = node.link(port.master.as_deref()?)?;
    let set = bridge.bridge.as_ref()?;
    let is_v6 = group.is_ipv6();
    // Who asks in IPv6 needs an address of it.
    let mut own = bridge.addresses.iter();
    let can_ask = !is_v6 || own.any(|own| own.prefix.address.is_ipv6());
    let mut others = set.other_queriers.iter();
    let is_asked = set.querier && can_ask
        || others.any(|other| other.is_ipv6() == is_v6 && !other.is_unspecified());
    if set.snooping != Some(true) || !is_asked || goes_to_all(group) {
        let floods = port.port.as_ref()?.multicast_flood;
        return (!floods).then_some(Withheld::NotFlooded);
    }
    let known = &node.multicast;
    let mut joined = known
        .members
        .iter()
        .filter(|own| own.bridge == bridge.name && own.group == Some(group));
    let gets = joined.any(|own| own.port == port.name) || known.routers.contains(&port.name);
    (node.has(Part::Multicast) && !gets).then_some(Withheld::NotJoined)
}

/// A port that the group of lost advertisements is not passed on to.
pub(super) fn finding(
    scene: Scene<'_>,
    lost: Lost<'_>,
    node: &Snapshot,
    link: &Link,
    why: Withheld,
) -> Finding {
    let group = lost.from.last.destination;
    let port = &link.name;
    let bridge = link.master.as_deref().unwrap_or_default();
    let because = match why {
        Withheld::NotFlooded => "which gets no groups that nobody joined there (mcast_flood off)",
        Withheld::NotJoined => "behind which nobody is known to have joined it (mcast_snooping)",
    };
    let words = format!(
        "{}, {bridge} of {} does not pass {group} on to {port}, {because}",
        lost.words(scene),
        node.node
    );
    let finding = Finding::new(Code::IgmpSnooping, &node.node, words)
        .at(port)
        .with(Confidence::Likely);
    let finding = captured(finding, lost.saying(scene), super::WATCH);
    mended(finding, why, bridge, port, group)
}

/// Adds what shows that a port does not get a group, and what mends it.
pub(crate) fn mended(
    finding: Finding,
    why: Withheld,
    bridge: &str,
    port: &str,
    group: IpAddr,
) -> Finding {
    match why {
        Withheld::NotFlooded => finding
            .because(
                format!("{port} has mcast_flood off"),
                format!("bridge -d link show dev {port}"),
            )
            .mended_by(
                format!("pass groups on to {port}"),
                [format!("bridge link set dev {port} mcast_flood on")],
                [format!("bridge link set dev {port} mcast_flood off")],
            ),
        Withheld::NotJoined => finding
            .because(
                format!("{bridge} has a querier, and knows no member of {group} behind {port}"),
                format!("bridge -d mdb show dev {bridge}"),
            )
            .mended_by(
                format!(
                    "a fixed entry for {group}; better, see what drops reports (IGMP, MLD) from there or \
                     the querier's questions"
                ),
                [format!(
                    "bridge mdb add dev {bridge} port {port} grp {group} permanent"
                )],
                [format!("bridge mdb del dev {bridge} port {port} grp {group}")],
            )
            .mended_by(
                format!("no snooping on {bridge}: groups go to all ports"),
                [format!("ip link set dev {bridge} type bridge mcast_snooping 0")],
                [format!("ip link set dev {bridge} type bridge mcast_snooping 1")],
            ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Bridge, BridgePort, Member};

    fn node(snooping: bool, querier: bool, flood: bool) -> Snapshot {
        let link = |name: &str| Link {
            name: name.to_owned(),
            ..Link::default()
        };
        let mut node = Snapshot {
            links: vec![
                Link {
                    bridge: Some(Bridge {
                        snooping: Some(snooping),
                        querier,
                        ..Bridge::default()
                    }),
                    ..link("br0")
                },
                Link {
                    master: Some("br0".to_owned()),
                    port: Some(BridgePort {
                        multicast_flood: flood,
                        ..BridgePort::default()
                    }),
                    ..link("p1")
                },
            ],
            ..Snapshot::default()
        };
        node.parts.insert(Part::Multicast);
        node
    }

    #[test]
    fn groups_are_withheld_as_the_kernel_withholds_them() {
        let (usual, own) = ("224.0.0.18".parse().unwrap(), "224.0.1.18".parse().unwrap());
        let why = |node: &Snapshot, group| withheld(node, &node.links[1], group);
        // Without querier everything goes to all; to who wants no flood nothing does.
        for group in [usual, own] {
            assert_eq!(why(&node(true, false, true), group), None);
            assert_eq!(why(&node(false, true, true), group), None);
            let not_flooded = Some(Withheld::NotFlooded);
            assert_eq!(why(&node(true, false, false), group), not_flooded);
        }
        assert_eq!(why(&node(true, true, true), usual), None);
        let mut snooping = node(true, true, true);
        assert_eq!(why(&snooping, own), Some(Withheld::NotJoined));
        snooping.multicast.members.push(Member {
            group: Some(own),
            port: "p1".to_owned(),
            bridge: "br0".to_owned(),
            ..Member::default()
        });
        assert_eq!(why(&snooping, own), None);
        // Earlier versions did not ask who joined.
        let mut early = node(true, true, true);
        early.parts.clear();
        assert_eq!(why(&early, own), None);
    }

    #[test]
    fn questions_of_ipv6_take_an_address_of_it() {
        let group = "ff02::12".parse().unwrap();
        let mut node = node(true, true, true);
        assert_eq!(withheld(&node, &node.links[1], group), None);
        let bridge = node.links[0].bridge.as_mut().unwrap();
        bridge.other_queriers.push("fe80::1".parse().unwrap());
        let why = withheld(&node, &node.links[1], group);
        assert_eq!(why, Some(Withheld::NotJoined));
    }
}
