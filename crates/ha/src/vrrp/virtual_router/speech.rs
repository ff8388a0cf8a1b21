//! What a virtual router says: advertisements, announcements, notices.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pointsman_wire::advert::{Advert, Form};
use pointsman_wire::build::{Addresses, arp_announcement, neighbor_announcement};
use pointsman_wire::vrrp;

use super::super::config::{OldChecksum, Peers, RouterConfig, Version};
use super::super::notice::{Event, Notice, Scope};
use super::super::output::{Datagram, Output};
use super::super::reception;
use super::{State, VirtualRouter};

impl VirtualRouter {
    /// Advertises, and the next time an interval later.
    pub(super) fn advertise(&mut self, now: Duration) {
        let sent = self.send(self.priority);
        self.stats.sent += sent;
        self.wait(now + self.config.interval);
    }

    pub(super) fn send(&mut self, priority: u8) -> u64 {
        let Some(interface) = self.interface else {
            return 0;
        };
        let form = match self.config.version {
            Version::V2 => Form::V2 {
                authentication: reception::expected_authentication(&self.config),
                seconds: self.config.seconds(),
            },
            Version::V3 => Form::V3 {
                centiseconds: self.config.centiseconds(),
            },
        };
        let advert = Advert {
            form,
            vrid: self.config.vrid,
            priority,
            addresses: self.config.addresses.clone(),
        };
        let (destinations, hop_limit): (Vec<IpAddr>, u8) = match &self.config.peers {
            Peers::Multicast(group) => (vec![*group], vrrp::HOP_LIMIT),
            Peers::Unicast {
                peers, hop_limit, ..
            } => (peers.iter().map(|peer| peer.address).collect(), *hop_limit),
        };
        let is_old = match self.config.old_checksum {
            OldChecksum::Detect => self.peer_is_old,
            OldChecksum::Always => true,
            OldChecksum::Never => false,
        };
        let mut sent = 0;
        for destination in destinations {
            let between = match (interface.source, destination) {
                (IpAddr::V4(source), IpAddr::V4(_))
                    if is_old && self.config.version == Version::V3 =>
                {
                    Addresses::V4(source, Ipv4Addr::from(vrrp::GROUP_V4))
                }
                (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4(source, destination),
                (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6(source, destination),
                _ => continue,
            };
            self.outputs.push_back(Output::Send(Datagram {
                source: interface.source,
                destination,
                hop_limit,
                message: advert.message(&between, self.config.checksum),
            }));
            sent += 1;
        }
        sent
    }

    /// As master: says that it stops, and gives the addresses back.
    pub(super) fn release(&mut self) {
        if self.state != State::Master {
            return;
        }
        let sent = self.send(vrrp::STOP);
        self.stats.sent += sent;
        self.stats.zero_sent += sent;
        self.give_back();
    }

    pub(super) fn give_back(&mut self) {
        self.stats.released_master += 1;
        self.announcer.stop();
        let removing = self.held().into_iter().map(Output::RemoveAddress);
        self.outputs.extend(removing);
    }

    pub(super) fn held(&self) -> Vec<IpAddr> {
        held(&self.config)
    }

    pub(super) fn announce_again(&mut self, now: Duration) {
        let addresses = self.held();
        self.announcer.begin(&self.config.announce, &addresses, now);
        self.flush_announcements(now);
    }

    pub(super) fn announce_after_lower(&mut self, now: Duration) {
        let addresses = self.held();
        self.announcer.lower(&self.config.announce, &addresses, now);
        self.flush_announcements(now);
    }

    /// A unicast router that comes out of a fault tells where its own address is: peers reach it there.
    pub(super) fn announce_source(&mut self, now: Duration) {
        let unicast = matches!(self.config.peers, Peers::Unicast { .. });
        let virtual_mac = vrrp::virtual_mac(self.config.vrid, self.config.is_ipv6());
        // The virtual link-layer address is not where its own address is.
        let own = self
            .interface
            .filter(|interface| interface.mac != virtual_mac);
        if let (true, Some(interface)) = (unicast, own) {
            self.announcer.once(1, &[interface.source], now);
            self.flush_announcements(now);
        }
    }

    pub(super) fn flush_announcements(&mut self, now: Duration) {
        let Some(interface) = self.interface else {
            return;
        };
        let addresses = self.held();
        for address in self.announcer.due(&self.config.announce, &addresses, now) {
            let frame = match address {
                IpAddr::V4(address) => arp_announcement(interface.mac, address),
                IpAddr::V6(address) => {
                    neighbor_announcement(interface.mac, address, interface.router)
                }
            };
            self.outputs.push_back(Output::Frame(frame));
        }
    }

    pub(super) fn notify(&mut self, event: Event) {
        self.outputs.push_back(Output::Notify(Notice {
            scope: Scope::Instance,
            name: self.config.name.clone(),
            event,
            priority: self.priority,
        }));
    }
}

/// The addresses of a master, in the order in which they come.
pub(super) fn held(config: &RouterConfig) -> Vec<IpAddr> {
    let all = config.addresses.iter().chain(&config.excluded);
    all.copied().collect()
}
