//! Announcements of addresses that another interface has than their virtual router's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pointsman_linux::netlink::Link;
use pointsman_wire::Mac;
use pointsman_wire::build::{arp_announcement, neighbor_announcement};

/// Ethertypes, and where in a frame the address is that is announced: ARP's sender, the advertisement's
/// target.
const ARP: [u8; 2] = [0x08, 0x06];
const ARP_SENDER: usize = 28;
const IPV6: [u8; 2] = [0x86, 0xdd];
const TARGET: usize = 62;

/// The address that an announcement is about.
pub(super) fn announced(frame: &[u8]) -> Option<IpAddr> {
    let kind: [u8; 2] = frame.get(12..14)?.try_into().ok()?;
    match kind {
        ARP => {
            let octets: [u8; 4] = frame.get(ARP_SENDER..ARP_SENDER + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        IPV6 => {
            let octets: [u8; 16] = frame.get(TARGET..TARGET + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// The announcement of an address at an interface, which has a link-layer address.
pub(super) fn announcement(address: IpAddr, link: &Link, forwards: bool) -> Option<Vec<u8>> {
    let mac = Mac(link.mac?);
    Some(match address {
        IpAddr::V4(address) => arp_announcement(mac, address),
        IpAddr::V6(address) => neighbor_announcement(mac, address, forwards),
    })
}

/// When masters announce again at other interfaces, by the names of virtual routers.
#[derive(Debug, Default)]
pub(super) struct Rounds(BTreeMap<String, Duration>);

impl Rounds {
    /// Whether a round of this virtual router is due; the first is an interval after it became master.
    pub(super) fn is_due(&mut self, router: &str, every: Option<Duration>, now: Duration) -> bool {
        let Some(every) = every else {
            self.0.remove(router);
            return false;
        };
        let at = self.0.entry(router.to_owned()).or_insert(now + every);
        // A shorter interval counts at once.
        *at = (*at).min(now + every);
        let is_due = *at <= now;
        if is_due {
            *at = now + every;
        }
        is_due
    }

    /// Forgets virtual routers that are no more.
    pub(super) fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.0.retain(|router, _| stays(router));
    }

    /// When the next is due.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.0.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_found_in_the_frame() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let v4 = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(announced(&arp_announcement(mac, v4)), Some(v4.into()));
        let v6: Ipv6Addr = "fd00::7".parse().expect("an address");
        let frame = neighbor_announcement(mac, v6, true);
        assert_eq!(announced(&frame), Some(v6.into()));
        assert_eq!(announced(&frame[..70]), None);
    }

    #[test]
    fn a_round_is_due_each_interval_while_it_is_wanted() {
        let seconds = Duration::from_secs;
        let mut rounds = Rounds::default();
        let every = Some(seconds(10));
        assert!(!rounds.is_due("A", every, seconds(1)));
        assert_eq!(rounds.poll_timeout(), Some(seconds(11)));
        assert!(!rounds.is_due("A", every, seconds(10)));
        assert!(rounds.is_due("A", every, seconds(12)));
        assert_eq!(rounds.poll_timeout(), Some(seconds(22)));
        // No master any more: it begins anew.
        assert!(!rounds.is_due("A", None, seconds(13)));
        assert_eq!(rounds.poll_timeout(), None);
        assert!(!rounds.is_due("A", every, seconds(30)));
        assert!(!rounds.is_due("A", Some(seconds(2)), seconds(31)));
        assert_eq!(rounds.poll_timeout(), Some(seconds(33)));
        rounds.retain(|_| false);
        assert_eq!(rounds.poll_timeout(), None);
    }
}
