//! The interfaces and addresses of this host, as far as virtual routers need them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_ha::vrrp::{Interface, Peers, RouterConfig};
use pointsman_linux::netlink::{Address, Link, Netlink};
use pointsman_linux::sysctl;
use pointsman_wire::Mac;

use super::Instance;

/// `IFA_F_TENTATIVE`, `IFA_F_DADFAILED`: nothing can be sent from such an address.
const UNUSABLE: u32 = 0x40 | 0x08;

/// Links and addresses, as last read.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    links: BTreeMap<String, Link>,
    addresses: Vec<Address>,
}

impl Surroundings {
    /// Reads everything.
    pub(super) fn read(netlink: &mut Netlink) -> Result<Self, pointsman_linux::netlink::Error> {
        let links = netlink.links()?.into_iter();
        Ok(Self {
            links: links.map(|link| (link.name.clone(), link)).collect(),
            addresses: netlink.addresses()?,
        })
    }

    /// An interface.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.get(name)
    }

    /// The number of an interface.
    pub(super) fn index(&self, name: &str) -> Option<u32> {
        self.links.get(name).map(|link| link.index)
    }

    /// True when the interface is there, up and has a wire.
    pub(super) fn is_up(&self, name: &str) -> bool {
        let link = self.links.get(name);
        link.is_some_and(|link| link.up && link.has_carrier())
    }

    /// True when the interface is there and was set up, with a wire or without.
    pub(super) fn is_enabled(&self, name: &str) -> bool {
        self.links.get(name).is_some_and(|link| link.up)
    }

    /// Whether the interface has the address.
    pub(super) fn has(&self, index: u32, address: IpAddr) -> bool {
        let found = |held: &Address| held.index == index && held.address == address;
        self.addresses.iter().any(found)
    }

    /// What the virtual router has to know of its interface; none while that is down, or there is no
    /// address to send from that is not itself a virtual one.
    pub(super) fn interface(&self, instance: &Instance, virtual_: &[IpAddr]) -> Option<Interface> {
        let config = &instance.router;
        let link = self.links.get(&config.interface)?;
        // It was told to speak to peers, and has none (`unicast_fault_no_peer`).
        if matches!(&config.peers, Peers::Unicast { peers, .. } if peers.is_empty()) {
            return None;
        }
        if instance.track_interface && !self.is_up(&config.interface) {
            return None;
        }
        Some(Interface {
            source: self.source(link.index, instance, virtual_)?,
            mac: match &instance.vmac {
                // Without its interface it can't have its address.
                Some(vmac) => self.links.get(&vmac.name).map(|_| vmac.mac)?,
                None => Mac(link.mac?),
            },
            router: config.is_ipv6() && forwards(&config.interface),
        })
    }

    fn source(&self, index: u32, instance: &Instance, virtual_: &[IpAddr]) -> Option<IpAddr> {
        let config = &instance.router;
        let here = self
            .addresses
            .iter()
            .filter(|address| address.index == index);
        let mut usable = here.filter(|address| address.flags & UNUSABLE == 0);
        if let Some(source) = instance.source {
            // It may be another interface's: packets go out by the virtual router's all the same.
            let known = |address: &Address| address.address == source;
            return self.addresses.iter().any(known).then_some(source);
        }
        let found = usable
            .find(|address| !virtual_.contains(&address.address) && fits(config, address.address));
        found.map(|address| address.address)
    }
}

/// Whether a virtual router may send from `address`: version 3 over IPv6 sends to groups from
/// link-local ones.
fn fits(config: &RouterConfig, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !config.is_ipv6(),
        IpAddr::V6(address) => {
            let multicast = matches!(config.peers, Peers::Multicast(_));
            config.is_ipv6() && (!multicast || address.is_unicast_link_local())
        }
    }
}

/// Whether an interface forwards IPv6.
pub(super) fn forwards(interface: &str) -> bool {
    let key = format!("net/ipv6/conf/{interface}/forwarding");
    sysctl::read(&key).is_ok_and(|value| value != "0")
}
