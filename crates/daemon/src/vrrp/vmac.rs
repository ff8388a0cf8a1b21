//! Virtual link-layer addresses: interfaces of their own, which are up while master.
//!
//! keepalived leaves such an interface up as backup and has nftables drop what the kernel would send by
//! it, since a switch that hears the address at the backup's port sends the master's frames there. Down,
//! it sends nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use pointsman_linux::netlink::{Link, Netlink, NewAddress};
use pointsman_linux::sysctl;
use pointsman_wire::Mac;

/// `IFA_F_NODAD`: the address is the lower interface's, which has asked already.
const NODAD: u32 = 0x02;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;

/// The interface of a virtual router's own link-layer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmac {
    /// Its name.
    pub name: String,
    /// The link-layer address.
    pub mac: Mac,
    /// True when advertisements come from the interface below (`vmac_xmit_base`).
    pub advertise_below: bool,
}

/// The interfaces that are there because of us, and what was changed below them.
#[derive(Debug, Default)]
pub(super) struct Vmacs {
    /// Numbers by name.
    made: BTreeMap<String, u32>,
    /// Kernel parameters of lower interfaces as they were.
    changed: BTreeMap<String, String>,
}

impl Vmacs {
    /// Makes the interface unless it is there. One of that name that was left behind is made anew,
    /// or with `keep` taken over; what is something else is left alone, with an error.
    pub(super) fn make(
        &mut self,
        netlink: &mut Netlink,
        vmac: &Vmac,
        lower: &Link,
        v6: bool,
        keep: bool,
    ) -> Result<()> {
        let found = netlink.link_by_name(&vmac.name).ok();
        let own =
            |link: &Link| link.kind.as_deref() == Some("macvlan") && link.mac == Some(vmac.mac.0);
        match found {
            Some(link)
                if self.made.get(&vmac.name) == Some(&link.index)
                    && link.lower == Some(lower.index) =>
            {
                return Ok(());
            }
            Some(link) if own(&link) && keep && link.lower == Some(lower.index) => {
                self.made.insert(vmac.name.clone(), link.index);
                return Ok(());
            }
            Some(link) if own(&link) => {
                if !self.made.contains_key(&vmac.name) {
                    tracing::warn!(interface = %vmac.name, "took away an interface that was left behind");
                }
                netlink.link_delete(link.index)?;
            }
            Some(_) => bail!(
                "an interface {} is there and is no virtual router's; choose another name by use_vmac",
                vmac.name
            ),
            None => {}
        }
        netlink.macvlan_add(&vmac.name, lower.index, vmac.mac.0)?;
        let link = netlink.link_by_name(&vmac.name)?;
        self.made.insert(vmac.name.clone(), link.index);
        if v6 {
            self.prepare_v6(&vmac.name)
        } else {
            self.prepare_v4(&vmac.name, &lower.name)
        }
        .context("setting what the interface answers to")
    }

    /// Each answers ARP for its own addresses only; a packet may come in here though the way back
    /// is the interface below.
    fn prepare_v4(&mut self, name: &str, lower: &str) -> Result<(), sysctl::Error> {
        // The effective value is the larger of both: 2 wins over a strict one for all.
        let all = sysctl::read("net/ipv4/conf/all/rp_filter").unwrap_or_default();
        let rp_filter = if all == "1" { "2" } else { "0" };
        for (key, value) in [
            ("arp_ignore", "1"),
            ("accept_local", "1"),
            ("promote_secondaries", "1"),
            ("rp_filter", rp_filter),
        ] {
            sysctl::write(&format!("net/ipv4/conf/{name}/{key}"), value)?;
        }
        // Nor does the interface below ask in the name of a virtual address, which tells everybody that
        // it is there.
        for (key, value) in [
            ("arp_ignore", "1"),
            ("arp_filter", "1"),
            ("arp_announce", "2"),
        ] {
            let key = format!("net/ipv4/conf/{lower}/{key}");
            let before = sysctl::read(&key)?;
            if before.as_str() < value {
                sysctl::write(&key, value)?;
                self.changed.entry(key).or_insert(before);
            }
        }
        Ok(())
    }

    fn prepare_v6(&mut self, name: &str) -> Result<(), sysctl::Error> {
        for (key, value) in [
            ("addr_gen_mode", "1"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_dad", "0"),
        ] {
            sysctl::write(&format!("net/ipv6/conf/{name}/{key}"), value)?;
        }
        Ok(())
    }

    /// Takes the interface up: its router is master. `source` is what it advertises from, if that is
    /// an address of the link.
    pub(super) fn raise(
        &self,
        netlink: &mut Netlink,
        vmac: &Vmac,
        source: Option<IpAddr>,
    ) -> Result<()> {
        let index = *self.made.get(&vmac.name).context("it is not there")?;
        netlink.link_set_up(index, true)?;
        if let Some(source @ IpAddr::V6(_)) = source
            && !vmac.advertise_below
        {
            netlink.address_add(&NewAddress {
                index,
                address: source,
                peer: None,
                prefix: 64,
                broadcast: None,
                scope: SCOPE_LINK,
                label: None,
                flags: NODAD,
                preferred_seconds: Some(0),
            })?;
        }
        Ok(())
    }

    /// Takes it down.
    pub(super) fn lower(&self, netlink: &mut Netlink, vmac: &Vmac) -> Result<()> {
        if let Some(index) = self.made.get(&vmac.name) {
            netlink.link_set_up(*index, false)?;
        }
        Ok(())
    }

    /// Its number, if it is there.
    pub(super) fn index(&self, name: &str) -> Option<u32> {
        self.made.get(name).copied()
    }

    /// Removes those that nobody wants, and puts back what was changed when none is left.
    pub(super) fn retain(&mut self, netlink: &mut Netlink, wanted: &[&str]) {
        self.made.retain(|name, index| {
            if wanted.contains(&name.as_str()) {
                return true;
            }
            if let Err(error) = netlink.link_delete(*index) {
                tracing::error!(%error, interface = %name, "can't remove it");
            }
            false
        });
        if self.made.is_empty() {
            for (key, value) in std::mem::take(&mut self.changed) {
                // The interface may be gone.
                let _ = sysctl::write(&key, &value);
            }
        }
    }

    /// Takes over what an earlier daemon changed below its interfaces: the value before.
    pub(super) fn inherit(&mut self, key: String, before: String) {
        self.changed.entry(key).or_insert(before);
    }

    /// What a daemon that leaves leaves behind: names, and parameters as they were.
    pub(super) fn left(&self) -> (Vec<String>, BTreeMap<String, String>) {
        (self.made.keys().cloned().collect(), self.changed.clone())
    }
}
