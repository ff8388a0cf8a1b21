//! What a virtual router is told to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use pointsman_wire::advert::ChecksumStyle;
use pointsman_wire::vrrp;
use thiserror::Error;

use super::announcer::AnnounceConfig;
use super::tracker::Tracker;

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768: whole seconds, every router the same interval, passwords.
    V2,
    /// RFC 9568: centiseconds, backups adopt the master's interval.
    V3,
}

impl Version {
    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Whom a virtual router talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// A group: 224.0.0.18 or ff02::12, unless told otherwise.
    Multicast(IpAddr),
    /// Each of these alone.
    Unicast {
        /// The peers.
        peers: Vec<Peer>,
        /// Hop limit of what is sent.
        hop_limit: u8,
        /// True when only peers are believed (`check_unicast_src`).
        only_peers: bool,
    },
}

/// One unicast peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The hop limits with which its advertisements may arrive.
    pub hop_limits: RangeInclusive<u8>,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            hop_limits: 0..=u8::MAX,
        }
    }
}

/// Checksums of keepalived up to 1.3.6, where version 3 speaks to IPv4 peers: as if it spoke to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OldChecksum {
    /// They are accepted, and sent once a peer sends them.
    #[default]
    Detect,
    /// They are sent.
    Always,
    /// They are neither sent nor accepted.
    Never,
}

/// What happens to an advertisement with other addresses than our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AddressCheck {
    /// It is rejected, as by keepalived 2.2.7.
    #[default]
    Reject,
    /// It is rejected unless it comes from the master already known (`skip_check_adv_addr`).
    TrustMaster,
    /// It counts, and is only counted, as by keepalived 2.3.3.
    Count,
}

/// A virtual router as configured; what comes from its interface is in
/// [`Interface`](super::Interface).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Its name, for people and notices.
    pub name: String,
    /// Name of the interface it lives on.
    pub interface: String,
    /// The protocol's version.
    pub version: Version,
    /// Virtual router id, 1 to 255.
    pub vrid: u8,
    /// Priority before tracking, 1 to 255; 255 owns the addresses.
    pub priority: u8,
    /// Time between advertisements; whole seconds to 255 s in version 2, 10 ms to 40.95 s in 3.
    pub interval: Duration,
    /// Addresses that are advertised, of one family.
    pub addresses: Vec<IpAddr>,
    /// Addresses that come and go with them, but are not advertised; of any family.
    pub excluded: Vec<IpAddr>,
    /// Whom it talks to.
    pub peers: Peers,
    /// Password of version 2 over IPv4, padded with zeros.
    pub password: Option<[u8; vrrp::AUTH_DATA]>,
    /// Checksums of what version 3 sends over IPv4; what it receives may have either.
    pub checksum: ChecksumStyle,
    /// Whether checksums are about the group where it talks to peers.
    pub old_checksum: OldChecksum,
    /// True when it takes over from a master with lower priority.
    pub preempt: bool,
    /// For how long it lets a master with lower priority be before it takes over.
    pub preempt_delay: Duration,
    /// Intervals of silence after which the master is down, 1 to 100.
    pub down_adverts: u8,
    /// What happens to advertisements with other addresses.
    pub address_check: AddressCheck,
    /// True when a master answers advertisements of lower priority with its own.
    pub answer_lower: bool,
    /// True when a master that yields to a higher priority sends a last advertisement.
    pub answer_higher: bool,
    /// How the segment is told where the addresses are.
    pub announce: AnnounceConfig,
    /// What moves the priority.
    pub trackers: Vec<Tracker>,
    /// True when changes of priority are notices.
    pub notify_priority: bool,
}

impl RouterConfig {
    /// A router with keepalived's defaults, but version 3 for IPv6 and multicast.
    pub fn new(name: &str, interface: &str, vrid: u8, addresses: &[IpAddr]) -> Self {
        let v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
        let group = if v6 {
            Ipv6Addr::from(vrrp::GROUP_V6).into()
        } else {
            Ipv4Addr::from(vrrp::GROUP_V4).into()
        };
        Self {
            name: name.to_owned(),
            interface: interface.to_owned(),
            version: if v6 { Version::V3 } else { Version::V2 },
            vrid,
            priority: 100,
            interval: Duration::from_secs(1),
            addresses: addresses.to_vec(),
            excluded: Vec::new(),
            peers: Peers::Multicast(group),
            password: None,
            checksum: ChecksumStyle::PseudoHeader,
            old_checksum: OldChecksum::Detect,
            preempt: true,
            preempt_delay: Duration::ZERO,
            down_adverts: 3,
            address_check: AddressCheck::Reject,
            answer_lower: true,
            answer_higher: false,
            announce: AnnounceConfig::default(),
            trackers: Vec::new(),
            notify_priority: false,
        }
    }

    /// True when the advertised addresses are IPv6's.
    pub fn is_ipv6(&self) -> bool {
        self.addresses.first().is_some_and(IpAddr::is_ipv6)
    }

    /// The interval as version 2 says it, seconds.
    pub(super) fn seconds(&self) -> u8 {
        u8::try_from(self.interval.as_secs()).unwrap_or(u8::MAX)
    }

    /// The interval as version 3 says it, centiseconds.
    pub(super) fn centiseconds(&self) -> u16 {
        u16::try_from(self.interval.as_millis() / 10).unwrap_or(u16::MAX)
    }

    /// Says what can't be, if anything.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fault = |problem: String| {
            Err(ConfigError {
                router: self.name.clone(),
                problem,
            })
        };
        if self.vrid == 0 {
            return fault("virtual_router_id 0; it goes from 1 to 255".into());
        }
        if self.priority == 0 {
            return fault("priority 0, which means that a master stops; use 1 to 255".into());
        }
        if self.addresses.is_empty() {
            return fault("no virtual_ipaddress; name at least one".into());
        }
        if self.addresses.len() > 255 {
            return fault(format!(
                "{} virtual addresses, an advertisement has room for 255; \
                 put the others into virtual_ipaddress_excluded",
                self.addresses.len()
            ));
        }
        let v6 = self.is_ipv6();
        if let Some(other) = self.addresses.iter().find(|a| a.is_ipv6() != v6) {
            return fault(format!(
                "virtual address {other} is of another family than {}; \
                 put it into virtual_ipaddress_excluded or make a second virtual router",
                self.addresses[0]
            ));
        }
        let interval = self.interval;
        let (least, most, unit) = match self.version {
            Version::V2 => (
                Duration::from_secs(1),
                Duration::from_secs(255),
                Duration::from_secs(1),
            ),
            Version::V3 => (
                Duration::from_millis(10),
                Duration::from_millis(40_950),
                Duration::from_millis(10),
            ),
        };
        let whole = interval.as_nanos().is_multiple_of(unit.as_nanos());
        if interval < least || interval > most || !whole {
            return fault(format!(
                "advert_int {interval:?}; version {} has {least:?} to {most:?} in steps of {unit:?}",
                self.version.number()
            ));
        }
        if self.password.is_some() && (self.version != Version::V2 || v6) {
            return fault("a password, which only version 2 over IPv4 has".into());
        }
        if !(1..=100).contains(&self.down_adverts) {
            return fault(format!(
                "down_timer_adverts {}; it goes from 1 to 100",
                self.down_adverts
            ));
        }
        match &self.peers {
            Peers::Multicast(group) if group.is_ipv6() != v6 || !group.is_multicast() => {
                fault(format!("{group} is no multicast group of its family"))
            }
            Peers::Unicast { peers, .. } => match peers
                .iter()
                .find(|peer| peer.address.is_ipv6() != v6 || peer.address.is_multicast())
            {
                Some(peer) => fault(format!(
                    "{} is no unicast address of its family",
                    peer.address
                )),
                None => Ok(()),
            },
            Peers::Multicast(_) => Ok(()),
        }
    }
}

/// A virtual router that can't be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("virtual router {router}: {problem}")]
pub struct ConfigError {
    /// Its name.
    pub router: String,
    /// What is wrong, and what to do.
    pub problem: String,
}
