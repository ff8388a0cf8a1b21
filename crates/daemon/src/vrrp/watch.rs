//! Asks the segment whether it believes that a master has its addresses.
//!
//! What follows from the answers is in [`pointsman_ha::vrrp::Verifier`]; here are the frames.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pointsman_ha::vrrp::{Belief, Interface, Verifier, VerifyConfig, VerifyOutput};
use pointsman_linux::packet::{Capture, Error, Options};
use pointsman_wire::build::Frame;
use pointsman_wire::build::arp_request;
use pointsman_wire::{Mac, icmp};

/// Prefix of the names of trackers that keep a router down which nobody believes; its name follows.
pub const VERIFY_TRACKER: &str = "verify_vip ";

/// How a virtual router finds out whether it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// When, and what becomes of it.
    pub config: VerifyConfig,
    /// Whom it asks; without, whom the kernel knows on the segment.
    pub ask: Vec<IpAddr>,
}

/// The verifier of one virtual router, and its ear.
#[derive(Debug)]
pub(super) struct Watch {
    /// Name of the virtual router.
    pub(super) router: String,
    verification: Verification,
    verifier: Verifier,
    capture: Option<Capture>,
    /// Who was asked, the own address, and the virtual ones that were not answered yet.
    asked: Option<(IpAddr, IpAddr, BTreeSet<IpAddr>)>,
    turn: usize,
}

/// A question on its way: the frame, and whether it is in the name of the own address.
pub(super) struct Question {
    pub(super) frame: Vec<u8>,
    pub(super) own: bool,
}

impl Watch {
    pub(super) fn new(router: &str, verification: &Verification) -> Self {
        Self {
            router: router.to_owned(),
            verification: verification.clone(),
            verifier: Verifier::new(verification.config),
            capture: None,
            asked: None,
            turn: 0,
        }
    }

    /// Whether it does this still.
    pub(super) fn is_as(&self, verification: &Verification) -> bool {
        self.verification == *verification
    }

    /// What is known.
    pub(super) fn belief(&self) -> Belief {
        self.verifier.belief()
    }

    pub(super) fn ear(&self) -> Option<BorrowedFd<'_>> {
        self.capture.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.verifier.poll_timeout()
    }

    /// Listens on the interface while master.
    pub(super) fn handle_master(
        &mut self,
        master: bool,
        index: Option<u32>,
        now: Duration,
    ) -> Result<(), Error> {
        self.verifier.handle_master(master, now);
        match (master, index) {
            (true, Some(index)) if self.capture.is_none() => {
                self.capture = Some(Capture::open_with(
                    index,
                    &Options {
                        snaplen: Some(128),
                        buffer_bytes: 64 << 10,
                        filter: answers(),
                        ..Options::default()
                    },
                )?);
            }
            (false, _) => {
                self.capture = None;
                self.asked = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what came in.
    pub(super) fn hear(&mut self) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        while let Ok(Some(frame)) = capture.next(Duration::ZERO) {
            let Some((from, to)) = answer(&frame.bytes) else {
                continue;
            };
            let Some((asked, own, open)) = &mut self.asked else {
                continue;
            };
            if from != *asked {
                continue;
            }
            if to == *own {
                self.verifier.handle_answer(false);
            } else if open.remove(&to) && open.is_empty() {
                self.verifier.handle_answer(true);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Vec<VerifyOutput> {
        self.verifier.handle_timeout(now)
    }

    /// The questions of a round to one of these neighbors; `below` is the link-layer address of the
    /// own address.
    pub(super) fn questions(
        &mut self,
        neighbors: &[IpAddr],
        addresses: &[IpAddr],
        interface: &Interface,
        below: Mac,
    ) -> Vec<Question> {
        let whom = if self.verification.ask.is_empty() {
            neighbors
        } else {
            &self.verification.ask
        };
        let fits = whom
            .iter()
            .filter(|one| one.is_ipv6() == interface.source.is_ipv6());
        let fits: Vec<IpAddr> = fits.copied().collect();
        let Some(&target) = fits.get(self.turn % fits.len().max(1)) else {
            self.asked = None;
            return Vec::new();
        };
        self.turn = self.turn.wrapping_add(1);
        self.asked = Some((
            target,
            interface.source,
            addresses.iter().copied().collect(),
        ));
        let in_name_of = |address: IpAddr, mac, own| Question {
            frame: question(mac, address, target),
            own,
        };
        let virtual_ = addresses
            .iter()
            .map(|address| in_name_of(*address, interface.mac, false));
        let own = in_name_of(interface.source, below, true);
        virtual_.chain([own]).collect()
    }
}

/// Who has `target`? Asked in the name of `sender`.
fn question(mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    match (sender, target) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => arp_request(mac, sender, target),
        (IpAddr::V6(sender), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            // Behind the target the option with its link-layer address: type 1, one unit of 8 bytes.
            let body = [target.octets().as_slice(), &[1, 1], &mac.0].concat();
            Frame::ipv6(sender, group)
                .macs(mac, Mac([0x33, 0x33, 0xff, a, b, c]))
                .ttl(255)
                .icmp(icmp::V6_NEIGHBOR_SOLICITATION, 0, 0)
                .payload(&body)
                .build()
        }
        _ => Vec::new(),
    }
}

/// Who says, and to which address, where it is: an ARP reply, or a neighbor advertisement.
fn answer(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| {
        let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let v6 = |at: usize| {
        let bytes: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 2] => Some((v4(28)?, v4(38)?)),
        [0x86, 0xdd] if *frame.get(20)? == 58 && *frame.get(54)? == 136 => Some((v6(62)?, v6(38)?)),
        _ => None,
    }
}

/// Lets ARP replies and neighbor advertisements through.
fn answers() -> Vec<libc::sock_filter> {
    let load = |size: u32, at: u32| (libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let equal = |value, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let verdict = |length| (libc::BPF_RET | libc::BPF_K, 0, 0, length);
    [
        load(libc::BPF_H, 12),
        equal(0x0806, 0, 2),
        load(libc::BPF_H, 20),
        equal(2, 5, 6),
        equal(0x86dd, 0, 5),
        load(libc::BPF_B, 20),
        equal(58, 0, 3),
        load(libc::BPF_B, 54),
        equal(136, 0, 1),
        verdict(u32::MAX),
        verdict(0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use pointsman_wire::build::{arp_reply, neighbor_announcement};

    use super::*;

    #[test]
    fn answers_say_who_and_to_whom() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let reply = arp_reply(mac, a, mac, b);
        assert_eq!(answer(&reply), Some((a.into(), b.into())));
        assert_eq!(answer(&question(mac, a.into(), b.into())), None);
        let host: Ipv6Addr = "fd00::1".parse().unwrap();
        let heard = answer(&neighbor_announcement(mac, host, false)).unwrap();
        assert_eq!(heard.0, IpAddr::V6(host));
        assert_eq!(answer(&question(mac, host.into(), host.into())), None);
        assert_eq!(answer(&[]), None);
    }
}
