//! Asks the segment whether it believes that a master has its addresses.
//!
//! What follows from the answers is in [`pointsman_ha::vrrp::Verifier`]; here are the frames.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pointsman_ha::vrrp::{Belief, Interface, Verifier, VerifyConfig, VerifyOutput};
use pointsman_linux::packet::{Capture, Error, Options};
use pointsman_wire::Mac;

use super::inquiry::{answer, answers, question};

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
            let Some((from, to, _)) = answer(&frame.bytes) else {
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
