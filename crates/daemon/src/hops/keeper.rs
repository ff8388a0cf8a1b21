//! Asks the kernel for ways, listens to it, and writes what changed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use pointsman_linux::netlink::{Error, Event, Link, Netlink, Route, RouteKind, nud};
use pointsman_wire::Mac;

use super::{NeighbourKey, Neighbours, Obstacle, World, plan};
use crate::{
    balancer::{Balancer, NamedWay},
    plane::Plane,
};

/// How often an unresolved neighbour is asked for because packets need it.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What has to be read anew.
#[derive(Debug, Default)]
struct Stale {
    links: bool,
    neighbours: bool,
    routes: bool,
    /// Prefixes whose routes changed.
    prefixes: Vec<(IpAddr, u8)>,
    /// A route or link-layer address really changed: what programs remember is old.
    epoch: bool,
    /// Interfaces with another link-layer address.
    macs: HashSet<u32>,
}

impl Stale {
    fn everything() -> Self {
        Self {
            links: true,
            neighbours: true,
            routes: true,
            epoch: true,
            ..Self::default()
        }
    }
}

/// What a round of [`Keeper::update`] did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Records written.
    pub written: usize,
    /// Real servers whose frames can't leave yet.
    pub unresolved: usize,
    /// Something failed and should be tried again soon.
    pub incomplete: bool,
}

/// Keeps the next hops of real servers true.
#[derive(Debug)]
pub struct Keeper {
    netlink: Netlink,
    world: World,
    neighbours: Neighbours,
    stale: Stale,
    /// Neighbours of ours that vanished and have to be managed anew.
    vanished: HashSet<NeighbourKey>,
    /// When an unresolved neighbour was last asked for.
    asked: HashMap<NeighbourKey, Instant>,
    /// What was last said about each real server's address.
    told: HashMap<IpAddr, String>,
    /// Devices the programs are attached to.
    attached: Vec<u32>,
    /// The kernel has no room for more neighbours, and that was said.
    full: bool,
}

impl Keeper {
    /// Looks at the calling thread's network namespace; `file` is where managed neighbours are
    /// remembered, `attached` the devices whose link-layer addresses the programs have to know.
    pub fn new(file: &Path, attached: Vec<u32>) -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::new()?,
            world: World::default(),
            neighbours: Neighbours::load(file),
            stale: Stale::everything(),
            vanished: HashSet::new(),
            asked: HashMap::new(),
            told: HashMap::new(),
            attached,
            full: false,
        })
    }

    /// Takes note of a change; true when it may matter to a next hop.
    pub fn note(&mut self, event: Event) -> bool {
        match event {
            Event::Link { link, deleted } => self.note_link(link, deleted),
            Event::Address { .. } => {
                // Addresses bring routes along, and are the sources of tunnels.
                self.stale.routes = true;
                self.stale.epoch = true;
                true
            }
            Event::Neighbour {
                index,
                address,
                mac,
                state,
                deleted,
            } => {
                let usable = mac.filter(|_| !deleted && state & nud::VALID != 0);
                let failed = !deleted && state & nud::FAILED != 0;
                self.note_neighbour((index, address), usable, failed, deleted)
            }
            Event::Route { destination, .. } => {
                match destination {
                    Some(prefix) => self.stale.prefixes.push(prefix),
                    None => self.stale.routes = true,
                }
                self.stale.epoch = true;
                true
            }
            Event::Lost => {
                tracing::warn!(
                    "the kernel dropped events about routes and neighbours; reading all"
                );
                self.stale = Stale::everything();
                true
            }
        }
    }

    fn note_link(&mut self, link: Link, deleted: bool) -> bool {
        let index = link.index;
        if deleted {
            if self.attached.contains(&index) {
                tracing::error!(interface = link.name, "an attached interface is gone");
            }
            self.stale.routes = true;
            self.stale.epoch = true;
            return self.world.links.remove(&index).is_some();
        }
        let old = self.world.links.get(&index);
        if old == Some(&link) {
            return false;
        }
        let changed = |part: fn(&Link) -> u64| old.map(part) != Some(part(&link));
        if old.map(|old| old.mac) != Some(link.mac) {
            self.stale.macs.insert(index);
            self.stale.epoch = true;
        }
        if changed(|link| u64::from(link.flags)) || changed(|link| link.master.map_or(0, u64::from))
        {
            self.stale.routes = true;
            self.stale.epoch = true;
        }
        self.world.links.insert(index, link);
        true
    }

    fn note_neighbour(
        &mut self,
        key: NeighbourKey,
        usable: Option<[u8; 6]>,
        failed: bool,
        deleted: bool,
    ) -> bool {
        if deleted && self.neighbours.contains(&key) {
            self.vanished.insert(key);
        }
        let old = match usable {
            Some(mac) => self.world.neighbours.insert(key, mac),
            None => self.world.neighbours.remove(&key),
        };
        // One that fails is asked for again and again; it fails until it answers or goes.
        let news = match failed {
            true => self.world.failed.insert(key),
            false => (usable.is_some() || deleted) && self.world.failed.remove(&key),
        };
        // A neighbour that is new to us can't have been remembered by a program.
        self.stale.epoch |= old.is_some() && old != usable;
        news || old != usable || self.vanished.contains(&key)
    }

    /// Reads what is stale, and writes the ways of real servers that changed.
    pub fn update<P: Plane>(&mut self, balancer: &Balancer<P>) -> Report {
        let mut report = Report::default();
        let stale = std::mem::take(&mut self.stale);
        if let Err(error) = self.refresh(&stale) {
            tracing::warn!(%error, "can't read links or neighbours");
            self.stale = stale;
            report.incomplete = true;
            return report;
        }
        let links = self.world.links.values();
        let interfaces = links.map(|link| (link.name.clone(), link.index)).collect();
        if let Err(error) = balancer.set_interfaces(interfaces) {
            tracing::error!(%error, "can't write mark rules");
            report.incomplete = true;
        }
        let requests = balancer.hop_requests();
        let wanted: HashSet<IpAddr> = requests.iter().map(|request| request.address).collect();
        self.forget_routes(&stale, &wanted);
        report.incomplete |= self.ask_routes(&wanted);
        let mut needed = BTreeSet::new();
        let mut ways = Vec::with_capacity(requests.len());
        let mut told = HashMap::new();
        for request in &requests {
            let Some(way) = plan(request, &self.world) else {
                continue;
            };
            needed.extend(way.neighbour);
            let text = self.world.describe(&way, request.address);
            report.unresolved += usize::from(way.obstacle.is_some());
            if told.insert(request.address, text.clone()).is_none() {
                self.tell(request.address, &text, way.obstacle);
            }
            ways.push(NamedWay {
                server: request.server,
                address: request.address,
                way,
                text,
            });
        }
        self.told = told;
        report.incomplete |= self.manage(&needed);
        match balancer.set_ways(ways, stale.epoch) {
            Ok(written) => report.written = written,
            Err(error) => {
                tracing::error!(%error, "can't write next hops");
                self.stale.epoch |= stale.epoch;
                report.incomplete = true;
            }
        }
        report.incomplete |= self.follow_devices(&stale, balancer);
        report
    }

    fn refresh(&mut self, stale: &Stale) -> Result<(), Error> {
        if stale.links {
            let links = self.netlink.links()?;
            let links = links.into_iter().map(|link| (link.index, link));
            self.world.links = links.collect();
            self.stale.macs.extend(&self.attached);
        }
        if stale.neighbours {
            let all = self.netlink.neighbours()?;
            self.world.neighbours = all
                .iter()
                .filter_map(|found| Some(((found.index, found.address), found.usable_mac()?)))
                .collect();
            self.world.failed = all
                .iter()
                .filter(|found| found.state & nud::FAILED != 0)
                .map(|found| (found.index, found.address))
                .collect();
            let managed: HashSet<NeighbourKey> = all
                .iter()
                .filter(|found| found.managed)
                .map(|found| (found.index, found.address))
                .collect();
            let lost = self.neighbours.keys().filter(|key| !managed.contains(key));
            self.vanished.extend(lost);
        }
        Ok(())
    }

    fn forget_routes(&mut self, stale: &Stale, wanted: &HashSet<IpAddr>) {
        self.world.routes.retain(|address, _| {
            wanted.contains(address)
                && !stale.routes
                && !stale
                    .prefixes
                    .iter()
                    .any(|(prefix, length)| covers(*prefix, *length, *address))
        });
    }

    /// Asks for the ways that are not known; true when that failed for some.
    fn ask_routes(&mut self, wanted: &HashSet<IpAddr>) -> bool {
        let mut failed = false;
        for address in wanted {
            if self.world.routes.contains_key(address) {
                continue;
            }
            let route = match self.netlink.route_to(*address, None) {
                Ok(route) => route,
                // No such family in this kernel: no route.
                Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => no_route(),
                Err(error) => {
                    tracing::warn!(%error, "can't ask for a route");
                    failed = true;
                    no_route()
                }
            };
            self.world.routes.insert(*address, route);
        }
        // Asked again in the next round.
        self.stale.routes |= failed;
        failed
    }

    /// Has the kernel manage just the neighbours that are needed; true when that failed for some.
    fn manage(&mut self, needed: &BTreeSet<NeighbourKey>) -> bool {
        let surplus: Vec<NeighbourKey> = self
            .neighbours
            .keys()
            .filter(|key| !needed.contains(key))
            .collect();
        let mut changed = !surplus.is_empty();
        let (mut failed, mut full) = (false, false);
        for key in surplus {
            if let Err(error) = self.neighbours.release(&mut self.netlink, key) {
                tracing::debug!(%error, "can't give a neighbour back");
            }
        }
        for key in needed {
            if self.neighbours.contains(key) && !self.vanished.contains(key) {
                continue;
            }
            match self.neighbours.manage(&mut self.netlink, *key) {
                Ok(()) => {
                    changed = true;
                    self.vanished.remove(key);
                }
                Err(error) if error.errno() == Some(libc::ENOBUFS) => {
                    // All the others would fail alike.
                    full = true;
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "can't have a neighbour resolved");
                    failed = true;
                }
            }
        }
        if full && !self.full {
            tracing::error!(
                needed = needed.len(),
                "the kernel's neighbour table is full, so some next hops stay unresolved: raise \
                 net.ipv4.neigh.default.gc_thresh3 or net.ipv6.neigh.default.gc_thresh3"
            );
        }
        self.full = full;
        self.vanished.retain(|key| needed.contains(key));
        self.asked.retain(|key, _| needed.contains(key));
        if changed && let Err(error) = self.neighbours.save() {
            tracing::warn!(%error, "can't remember managed neighbours; `pointsman detach` won't know them");
        }
        failed || full
    }

    /// Tells the programs the new addresses of their devices.
    fn follow_devices<P: Plane>(&mut self, stale: &Stale, balancer: &Balancer<P>) -> bool {
        let mut failed = false;
        let noted = std::mem::take(&mut self.stale.macs);
        for index in stale.macs.union(&noted).copied().collect::<Vec<_>>() {
            if !self.attached.contains(&index) {
                continue;
            }
            let Some(mac) = self.world.links.get(&index).and_then(|link| link.mac) else {
                continue;
            };
            if let Err(error) = balancer.set_link(index, Mac(mac)) {
                tracing::error!(%error, "can't tell the programs the address of a device");
                self.stale.macs.insert(index);
                failed = true;
            }
        }
        failed
    }

    /// Asks again for every neighbour that is needed and does not answer: packets wait for it.
    pub fn ask_unresolved(&mut self, now: Instant) {
        let silent: Vec<NeighbourKey> = self
            .neighbours
            .keys()
            .filter(|key| !self.world.neighbours.contains_key(key))
            .collect();
        for key in silent {
            let recent = self
                .asked
                .get(&key)
                .is_some_and(|asked| now.duration_since(*asked) < ASK_AGAIN);
            if recent {
                continue;
            }
            self.asked.insert(key, now);
            if let Err(error) = self.neighbours.manage(&mut self.netlink, key) {
                tracing::debug!(%error, "can't ask for a neighbour");
            }
        }
    }

    /// Asks for the neighbours that this kernel does not keep resolved on its own.
    pub fn probe(&mut self) {
        self.neighbours.probe(&mut self.netlink);
    }

    /// Gives all managed neighbours back.
    pub fn release(mut self) {
        let (count, errors) = self.neighbours.release_all(&mut self.netlink);
        for error in errors {
            tracing::warn!(%error, "can't give a neighbour back");
        }
        tracing::debug!(count, "gave neighbours back");
    }

    fn tell(&self, address: IpAddr, text: &str, obstacle: Option<Obstacle>) {
        if self.told.get(&address).is_some_and(|told| told == text) {
            return;
        }
        match obstacle {
            None => tracing::info!(server = %address, hop = text, "next hop resolved"),
            Some(Obstacle::Asking(_)) => tracing::debug!(server = %address, "next hop {text}"),
            Some(_) => tracing::warn!(server = %address, "next hop {text}"),
        }
    }
}

/// An address of this host on an interface; one that is not link-local if there is one.
pub fn own_address(netlink: &mut Netlink, index: u32, ipv6: bool) -> Option<IpAddr> {
    let all = netlink.addresses().ok()?;
    let usable = all.iter().filter(|found| {
        found.index == index
            && found.address.is_ipv6() == ipv6
            && found.flags & libc::IFA_F_TENTATIVE == 0
    });
    let is_link_local = |address: IpAddr| match address {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(address) => address.is_link_local(),
    };
    usable
        .min_by_key(|found| is_link_local(found.address))
        .map(|found| found.address)
}

fn no_route() -> Route {
    Route {
        kind: RouteKind::NoRoute,
        out_index: None,
        gateway: None,
        source: None,
        mtu: None,
    }
}

/// Whether a prefix holds an address.
fn covers(prefix: IpAddr, length: u8, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let rest = 32_u32.saturating_sub(length.into());
            (prefix.to_bits() ^ address.to_bits())
                .checked_shr(rest)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let rest = 128_u32.saturating_sub(length.into());
            (prefix.to_bits() ^ address.to_bits())
                .checked_shr(rest)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn prefixes_cover_their_addresses_only() {
        let is = |prefix: &str, length, address: &str| {
            covers(prefix.parse().unwrap(), length, address.parse().unwrap())
        };
        assert!(is("0.0.0.0", 0, "192.0.2.1"));
        assert!(is("10.1.0.0", 16, "10.1.255.1"));
        assert!(!is("10.1.0.0", 16, "10.2.0.1"));
        assert!(is("10.1.0.1", 32, "10.1.0.1") && !is("10.1.0.1", 32, "10.1.0.2"));
        assert!(is("::", 0, "fd00::1") && !is("::", 0, "10.0.0.1"));
        assert!(is("fd00::", 64, "fd00::1") && !is("fd00::", 64, "fd00:0:0:1::1"));
    }
}
