//! The static things of the host, and the routes and rules of masters, kept as they are meant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_linux::netlink::Netlink;

use super::item::{Index, Item};
use super::surroundings::Surroundings;

/// The static ones stand under this name, which no virtual router has.
const STATIC: &str = "";

/// What has to be there, by the virtual router for which it is.
#[derive(Debug, Default)]
pub(super) struct Host {
    wanted: BTreeMap<String, Vec<Entry>>,
    changes: u64,
}

/// One thing that has to be there.
#[derive(Debug)]
struct Entry {
    item: Item,
    /// True when the host has it, as far as is known.
    set: bool,
    /// True when it was said that it can't be.
    said: bool,
}

/// What may have gone.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Networks to which a route went.
    pub(super) networks: Vec<(IpAddr, u8)>,
    /// True when a rule went.
    pub(super) rules: bool,
    /// True when anything may have gone.
    pub(super) anything: bool,
}

impl Gone {
    fn concerns(&self, item: &Item) -> bool {
        self.anything
            || self.rules && item.is_rule()
            || self.networks.iter().any(|network| item.goes_to(*network))
    }
}

impl Host {
    /// Has the host have these static things and no others.
    pub(super) fn set_static(
        &mut self,
        items: &[Item],
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        self.change(STATIC, items, netlink, surroundings);
    }

    /// Has the host have these things of a master, and no others of it.
    pub(super) fn set(
        &mut self,
        router: &str,
        items: &[Item],
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        self.change(router, items, netlink, surroundings);
    }

    /// Takes away what is there because of this virtual router.
    pub(super) fn release(
        &mut self,
        router: &str,
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        self.change(router, &[], netlink, surroundings);
    }

    /// How often what the host has because of us became something else.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Everything that the host has because of us, in the order in which it came.
    pub(super) fn items(&self) -> Vec<Item> {
        let all = self.wanted.values().flatten();
        let set = all.filter(|entry| entry.set);
        set.map(|entry| entry.item.clone()).collect()
    }

    /// Takes away what a killed daemon left of things that are not to be there.
    pub(super) fn clear_stale(
        &self,
        items: &[Item],
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        let index = |name: &str| surroundings.index(name);
        for item in items.iter().rev().filter(|item| !self.has(item)) {
            match item.remove(netlink, &index) {
                Ok(true) => tracing::warn!(%item, "took away what was left behind"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, %item, "can't take away"),
            }
        }
    }

    /// Adds again what somebody took away, and what could not be until now.
    pub(super) fn restore(
        &mut self,
        gone: &Gone,
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        let index = |name: &str| surroundings.index(name);
        for entry in self.wanted.values_mut().flatten() {
            let lost = entry.set && entry.item.is_tracked() && gone.concerns(&entry.item);
            if !(lost || !entry.set && gone.anything) {
                continue;
            }
            // Neither a route nor an address of IPv6 stays at an interface that is down.
            if !entry
                .item
                .devices()
                .all(|name| surroundings.is_enabled(name))
            {
                continue;
            }
            if let Item::Address(holding) = &entry.item {
                let device = holding.device.as_deref().unwrap_or_default();
                let found = index(device).is_some_and(|at| surroundings.has(at, holding.address));
                if found {
                    continue;
                }
            }
            let was_set = entry.set;
            let is_new = entry.add(netlink, &index) == Some(true);
            self.changes += u64::from(entry.set != was_set);
            if is_new {
                let item = &entry.item;
                tracing::warn!(%item, "was not there; added");
            }
        }
    }

    fn has(&self, item: &Item) -> bool {
        let mut all = self.wanted.values().flatten();
        all.any(|entry| entry.set && entry.item == *item)
    }

    fn change(
        &mut self,
        router: &str,
        items: &[Item],
        netlink: &mut Netlink,
        surroundings: &Surroundings,
    ) {
        let index = |name: &str| surroundings.index(name);
        self.changes += 1;
        let (mut keep, mut go) = (Vec::new(), Vec::new());
        for entry in self.wanted.remove(router).unwrap_or_default() {
            match items.contains(&entry.item) {
                true => keep.push(entry),
                false => go.push(entry.item),
            }
        }
        // An address can't be there in two manners.
        let (mut go, addresses): (Vec<_>, Vec<_>) = {
            let changes = |item: &Item| item.is_address() && !items.is_empty();
            let (first, later) = go.into_iter().partition(changes);
            (later, first)
        };
        for item in addresses {
            self.remove(&item, netlink, &index);
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut again = Vec::new();
        for item in items {
            if let Some(at) = keep.iter().position(|entry| entry.item == *item) {
                entries.push(keep.swap_remove(at));
                continue;
            }
            let mut entry = Entry {
                item: item.clone(),
                set: false,
                said: false,
            };
            // What goes may be in the way of what comes in its place.
            if entry.add(netlink, &index) != Some(true) && !go.is_empty() {
                again.push(entries.len());
            }
            entries.push(entry);
        }
        while let Some(item) = go.pop() {
            self.remove(&item, netlink, &index);
        }
        for at in again {
            entries[at].add(netlink, &index);
        }
        if !entries.is_empty() {
            self.wanted.insert(router.to_owned(), entries);
        }
    }

    /// Takes it away unless somebody else wants it there.
    fn remove(&self, item: &Item, netlink: &mut Netlink, index: &Index<'_>) {
        if self.has(item) {
            return;
        }
        if let Err(error) = item.remove(netlink, index) {
            tracing::error!(%error, %item, "can't take away");
        }
    }
}

impl Entry {
    /// Has the host have it: true when it is new, false when it was there, none when it can't be.
    fn add(&mut self, netlink: &mut Netlink, index: &Index<'_>) -> Option<bool> {
        match self.item.add(netlink, index) {
            Ok(is_new) => {
                self.set = true;
                self.said = false;
                Some(is_new)
            }
            Err(error) => {
                let item = &self.item;
                if !self.said {
                    tracing::error!(%error, %item, "can't add");
                }
                self.said = true;
                None
            }
        }
    }
}
