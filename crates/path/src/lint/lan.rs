//! Which devices a frame comes by on its way through bridges and cables.

use std::net::IpAddr;

use pointsman_wire::Mac;

use super::Case;
use super::site::Site;
use crate::bundle::Bundle;
use crate::injection::Place;
use crate::snapshot::{Link, Snapshot};

/// Cables and bridges of a bundle.
pub(crate) struct Lan<'a> {
    site: Site<'a>,
}

impl<'a> Lan<'a> {
    pub(crate) fn new(bundle: &'a Bundle, case: &'a Case) -> Self {
        Self {
            site: Site::new(bundle, case),
        }
    }

    /// A device that is to receive something.
    pub(crate) fn place(&self, node: &str, device: &str) -> Option<Place> {
        let (node, link) = self.find(node, device)?;
        Some(self.place_of(node, link, None))
    }

    /// The devices that receive a frame to this address one after the other: behind the device that sent
    /// it, or behind the bridge whose port it came in by.
    pub(crate) fn way(&self, node: &str, device: &str, sent: bool, to: Mac) -> Vec<Place> {
        let Some((node, link)) = self.find(node, device) else {
            return Vec::new();
        };
        // Breadth first: what received the frame, and after which other.
        let mut places: Vec<(&Snapshot, &Link, Option<usize>)> = Vec::new();
        if sent {
            places.extend(
                self.site
                    .peer(node, link)
                    .map(|(node, link)| (node, link, None)),
            );
        } else {
            places.push((node, link, None));
        }
        let mut at = 0;
        while let Some(&(node, link, _)) = places.get(at) {
            if link.mac == Some(to) && link.port.is_none() {
                return self.trail(&places, at, sent);
            }
            let bridge = link.master.as_deref().filter(|_| link.port.is_some());
            for output in bridge.into_iter().flat_map(|bridge| node.ports_of(bridge)) {
                let Some((there, next)) = self.site.peer(node, output) else {
                    continue;
                };
                let seen = places.iter().any(|(known, link, _)| {
                    known.node == there.node
                        && (link.index == next.index
                            || link.master.is_some() && link.master == next.master)
                });
                if !seen {
                    places.push((there, next, Some(at)));
                }
            }
            at += 1;
        }
        Vec::new()
    }

    /// The real servers that take packets to an address: where the address is and no director.
    pub(crate) fn servers(&self, address: IpAddr) -> Vec<Place> {
        let members = self.site.targets.iter().flat_map(|target| &target.members);
        let mut places: Vec<Place> = Vec::new();
        for member in members {
            let Some(node) = member.node.filter(|node| node.owner_of(address).is_some()) else {
                continue;
            };
            let Some((link, _)) = node.owner_of(member.server.address) else {
                continue;
            };
            let place = self.place_of(node, link, link.mac);
            if !self.site.is_director_of(node, address) && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    fn trail(
        &self,
        places: &[(&Snapshot, &Link, Option<usize>)],
        at: usize,
        sent: bool,
    ) -> Vec<Place> {
        let mut trail = Vec::new();
        let mut next = Some(at);
        while let Some((node, link, before)) = next.and_then(|at| places.get(at)) {
            trail.push(self.place_of(node, link, None));
            next = *before;
        }
        // It was seen where the search began.
        if !sent {
            trail.pop();
        }
        trail.reverse();
        trail
    }

    fn place_of(&self, node: &Snapshot, link: &Link, to: Option<Mac>) -> Place {
        let other_end = self.site.peer(node, link);
        Place {
            node: node.node.clone(),
            device: link.name.clone(),
            to,
            other_end: other_end.map(|(node, link)| (node.node.clone(), link.name.clone())),
        }
    }

    fn find(&self, node: &str, device: &str) -> Option<(&'a Snapshot, &'a Link)> {
        let node = self.site.nodes.iter().find(|own| own.node == node)?;
        Some((node, node.link(device)?))
    }
}
