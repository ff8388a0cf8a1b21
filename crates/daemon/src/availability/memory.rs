//! What one daemon leaves behind for the next.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use pointsman_linux::netlink::{Netlink, RefusalTable};
use pointsman_linux::sysctl;
use serde::{Deserialize, Serialize};

use crate::bfd::LeftSessions;
use crate::minding::Known;
use crate::vrrp::{Item, Left, VrrpConfig};

/// What is remembered while nobody runs virtual routers and checks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Seconds since the machine started, suspended time included.
    at: f64,
    /// The virtual routers.
    pub(super) left: Left,
    /// The virtual services, by what they are known by in words.
    #[serde(default)]
    pub(super) services: BTreeMap<String, Known>,
    /// The BFD sessions that were up.
    #[serde(default)]
    pub(super) sessions: LeftSessions,
}

impl Memory {
    /// What is so now.
    pub(super) fn new(
        left: Left,
        services: BTreeMap<String, Known>,
        sessions: LeftSessions,
    ) -> Self {
        let at = uptime();
        Self {
            at,
            left,
            services,
            sessions,
        }
    }

    /// Writes it to a file.
    pub(super) fn write(&self, file: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        let new = file.with_extension("vrrp-new");
        if let Err(error) = fs::write(&new, text).and_then(|()| fs::rename(&new, file)) {
            tracing::warn!(%error, "can't remember virtual routers; they will be elected anew");
        }
    }

    /// Reads the file and removes it: it is about one moment.
    pub(super) fn take(file: &Path) -> Option<Self> {
        let memory = Self::read(file);
        let _ = fs::remove_file(file);
        memory
    }

    fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let memory: Self = serde_json::from_str(&text).ok()?;
        // Of another life of the machine.
        (memory.at <= uptime()).then_some(memory)
    }

    /// Takes away addresses, routes and rules that a configuration does not have any more.
    pub(super) fn forget(&self, config: &VrrpConfig) {
        if config.is_empty() {
            // Nobody is there who puts them back at the end.
            self.put_back();
        }
        let routers = config.instances.iter().map(|instance| &instance.router);
        let addresses = routers.flat_map(|router| router.addresses.iter().chain(&router.excluded));
        let addresses: Vec<&IpAddr> = addresses.collect();
        let held = self.left.held.iter();
        let held: Vec<_> = held
            .filter(|(_, address, _)| !addresses.contains(&address))
            .collect();
        let instances = config.instances.iter();
        let items: Vec<&Item> = instances
            .flat_map(|instance| &instance.items)
            .chain(&config.statics)
            .collect();
        let gone = self.left.items.iter().rev();
        let gone: Vec<&Item> = gone.filter(|item| !items.contains(item)).collect();
        if held.is_empty() && gone.is_empty() {
            return;
        }
        let mut netlink = match Netlink::new() {
            Ok(netlink) => netlink,
            Err(error) => return tracing::warn!(%error, "what was left behind stays"),
        };
        for item in gone {
            take_away(item, &mut netlink);
        }
        for (index, address, prefix) in held {
            self.let_go(*index, *address, *prefix, &mut netlink);
        }
    }

    /// Takes a virtual address away; true if it was there.
    fn let_go(&self, index: u32, address: IpAddr, prefix: u8, netlink: &mut Netlink) -> bool {
        let peer = self.left.peers.get(&address).copied();
        match netlink.address_delete_to(index, address, peer, prefix) {
            Ok(was_there) => was_there,
            Err(error) => {
                tracing::warn!(%error, %address, "can't take an address away");
                false
            }
        }
    }

    /// Puts kernel parameters back as they were.
    fn put_back(&self) {
        for (key, value) in &self.left.changed {
            // The interface may be gone.
            let _ = sysctl::write(key, value);
        }
    }

    /// Seconds since then.
    pub(super) fn age(&self) -> f64 {
        uptime() - self.at
    }
}

/// Says in the file `left` that what it tells was so until now: a daemon has just died without a word.
pub fn note_sudden_end(left: &Path) {
    if let Some(memory) = Memory::read(left) {
        Memory::new(memory.left, memory.services, memory.sessions).write(left);
    }
}

/// Takes away the addresses that a daemon left at its end, as the file `left` tells; says how many.
pub fn release(left: &Path) -> usize {
    let Some(memory) = Memory::take(left) else {
        return 0;
    };
    let Ok(mut netlink) = Netlink::new() else {
        return 0;
    };
    for item in memory.left.items.iter().rev() {
        take_away(item, &mut netlink);
    }
    let held = memory.left.held.iter();
    let released = held
        .filter(|(index, address, prefix)| memory.let_go(*index, *address, *prefix, &mut netlink))
        .count();
    if memory.left.refuses
        && let Err(error) = RefusalTable::sweep(None)
    {
        tracing::warn!(%error, "can't remove the rules of virtual addresses");
    }
    for farewell in &memory.left.farewells {
        if let Err(error) = farewell.say(memory.age(), &mut netlink) {
            tracing::warn!("others are not told that this host stops: {error:#}");
        }
    }
    for name in &memory.left.vmacs {
        if let Ok(link) = netlink.link_by_name(name)
            && link.kind.as_deref() == Some("macvlan")
            && let Err(error) = netlink.link_delete(link.index)
        {
            tracing::warn!(%error, interface = %name, "can't remove it");
        }
    }
    memory.put_back();
    released
}

fn take_away(item: &Item, netlink: &mut Netlink) {
    if let Err(error) = item.take_away(netlink) {
        tracing::warn!(%error, %item, "can't take it away");
    }
}

/// Seconds since the machine started, suspended time included.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}
