//! Removed real servers that connections still refer to: the kernel's trash.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Server;
use crate::model::ServiceId;

/// A removed real server.
#[derive(Debug, Clone)]
pub(super) struct Removed {
    pub(super) id: ServiceId,
    pub(super) server: Server,
    /// Its service went, too; one of the same id is another one.
    pub(super) alone: bool,
    /// Removed before the latest collection: no packet is still choosing it.
    pub(super) rested: bool,
    /// The round in which a cache was seen to refer to it.
    pub(super) cached: Option<u32>,
}

/// Removed real servers, found by index and by what they were.
#[derive(Debug, Default)]
pub(super) struct Trash {
    by_index: BTreeMap<u32, Removed>,
    places: BTreeSet<(ServiceId, IpAddr, u16, u32)>,
}

impl Trash {
    pub(super) fn put(&mut self, removed: Removed) {
        self.places.insert(place(&removed));
        self.by_index.insert(removed.server.index, removed);
    }

    pub(super) fn take(&mut self, index: u32) -> Option<Removed> {
        let removed = self.by_index.remove(&index)?;
        self.places.remove(&place(&removed));
        Some(removed)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Removed> {
        self.by_index.get(&index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Removed> {
        self.by_index.get_mut(&index)
    }

    /// The server that was at this place.
    pub(super) fn at(&self, id: &ServiceId, address: IpAddr, port: u16) -> Option<&Removed> {
        let (first, last) = ((*id, address, port, 0), (*id, address, port, u32::MAX));
        let (.., index) = self.places.range(first..=last).next()?;
        self.by_index.get(index)
    }

    /// Notes that a service is gone from which servers had been removed.
    pub(super) fn leave_alone(&mut self, id: &ServiceId) {
        let first = (*id, Ipv4Addr::UNSPECIFIED.into(), 0, 0);
        let last = Ipv6Addr::from_bits(u128::MAX).into();
        let last = (*id, last, u16::MAX, u32::MAX);
        for (.., index) in self.places.range(first..=last) {
            if let Some(removed) = self.by_index.get_mut(index) {
                removed.alone = true;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Removed> {
        self.by_index.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Removed> {
        self.by_index.values_mut()
    }
}

fn place(removed: &Removed) -> (ServiceId, IpAddr, u16, u32) {
    let server = &removed.server;
    (
        removed.id,
        server.config.address,
        server.config.port,
        server.index,
    )
}
