//! Kernels asked which way they send packets of the service.

use pointsman_linux::netlink::{Netlink, RouteKind};
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::diagnosis::{RouteTold, RouteWish};
use pointsman_path::snapshot::{Origin, Snapshot};

/// Asks all of them; what can't be asked is left out, for captures show as much.
pub(super) fn ask(bundle: &Bundle, wishes: Vec<RouteWish>) -> Vec<RouteTold> {
    let asked = wishes.into_iter().filter_map(|wish| {
        let node = bundle.node(&wish.node)?;
        match &node.origin {
            Origin::Here => one(node, wish),
            Origin::Netns(name) => {
                let netns = NetNs::open(name).ok()?;
                netns.run_in(|| one(node, wish)).ok()?
            }
            Origin::Host(_) => None,
        }
    });
    asked.collect()
}

fn one(node: &Snapshot, wish: RouteWish) -> Option<RouteTold> {
    let route = Netlink::new().ok()?.route_to(wish.to, wish.from).ok()?;
    let dead_end = match route.kind {
        RouteKind::NoRoute => Some("no route"),
        RouteKind::Unreachable => Some("unreachable"),
        RouteKind::Prohibit => Some("prohibit"),
        RouteKind::Blackhole => Some("blackhole"),
        _ => None,
    };
    let device = route
        .out_index
        .and_then(|index| node.links.iter().find(|link| link.index == index));
    Some(RouteTold {
        asked: wish,
        dead_end: dead_end.map(str::to_owned),
        via: route.gateway,
        device: device.map(|link| link.name.clone()),
    })
}
