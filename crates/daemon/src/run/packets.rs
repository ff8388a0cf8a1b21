//! Packets that the data plane hands over: answered, or their next hop asked for.

use std::{
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use pointsman_datapath::{Datapath, Event};
use pointsman_director::{Reason, native::fragments::forward_in_fragments};
use pointsman_linux::netlink::Netlink;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, watch},
    task::block_in_place,
    time::sleep,
};

use super::ended;
use crate::{
    answers::{Answerer, Outcome, Question},
    api::Shell,
    hops::own_address,
};

/// Packets taken before somebody else gets a turn.
const TURN: usize = 64;
/// When to look again after the data plane was busy.
const BUSY: Duration = Duration::from_millis(2);

/// What came of taking packets from the ring.
enum Taken {
    /// The ring is empty.
    Empty,
    /// There may be more.
    More,
    /// The data plane is being read.
    Busy,
}

/// The ring of packets.
pub(super) struct Packets {
    ring: AsyncFd<OwnedFd>,
    shell: Arc<Shell<Datapath>>,
    unresolved: Arc<Notify>,
    answerer: Answerer,
    /// Identification of the last outer header of a packet sent in fragments.
    fragmented: u16,
    netlink: Netlink,
}

impl Packets {
    /// The ring behind a descriptor of the shell's data plane; `unresolved` is told of packets whose
    /// next hop does not answer.
    pub(super) fn new(
        ring: RawFd,
        shell: Arc<Shell<Datapath>>,
        unresolved: Arc<Notify>,
    ) -> Result<Self> {
        // SAFETY: the data plane, which `shell` holds, keeps its ring open.
        let ring = unsafe { BorrowedFd::borrow_raw(ring) };
        let ring = ring
            .try_clone_to_owned()
            .context("watching the event ring")?;
        // SAFETY: the descriptor is ours alone, and open until the registration ends.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self {
            ring: ring.context("watching the event ring")?,
            shell,
            unresolved,
            answerer: Answerer::default(),
            fragmented: 0,
            netlink: Netlink::new()?,
        })
    }

    /// Deals with packets until the daemon stops.
    pub(super) async fn answer(mut self, stopped: watch::Receiver<()>) {
        let stop = ended(stopped);
        tokio::pin!(stop);
        loop {
            let ready = tokio::select! {
                () = &mut stop => return,
                ready = self.ring.readable() => ready,
            };
            match ready {
                // Cleared before the ring is read: what comes in between raises it again.
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "can't watch the event ring");
                    return;
                }
            }
            loop {
                match block_in_place(|| self.take()) {
                    Taken::Empty => break,
                    Taken::More => tokio::task::yield_now().await,
                    Taken::Busy => sleep(BUSY).await,
                }
            }
        }
    }

    fn take(&mut self) -> Taken {
        let mut taken = Taken::More;
        for _ in 0..TURN {
            match self.shell.balancer.try_plane_mut(Datapath::next_event) {
                None => taken = Taken::Busy,
                Some(None) => taken = Taken::Empty,
                Some(Some(event)) => {
                    self.deal_with(&event);
                    continue;
                }
            }
            break;
        }
        let mut counts = self
            .shell
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts = self.answerer.counts;
        taken
    }

    fn deal_with(&mut self, event: &Event) {
        match event.reason {
            Reason::NoNextHop => self.unresolved.notify_one(),
            Reason::NeedsFragmenting => match self.send_fragments(event) {
                Ok(()) => self.answerer.counts.fragmented += 1,
                Err(error) => {
                    self.answerer.counts.unfragmented += 1;
                    tracing::debug!(
                        ifindex = event.ifindex,
                        length = event.length,
                        mtu = event.mtu,
                        %error,
                        "dropped a packet that would have to be fragmented"
                    );
                }
            },
            reason => self.send_answer(event, reason),
        }
    }

    /// Forwards a packet in fragments, as the programs would have if they could cut it.
    fn send_fragments(&mut self, event: &Event) -> Result<()> {
        if event.length as usize > event.frame.len() {
            bail!("it is longer than the ring keeps");
        }
        let (server, settings) = self
            .shell
            .balancer
            .server(event.server)
            .context("its real server is gone")?;
        self.fragmented = self.fragmented.wrapping_add(1);
        let pieces = forward_in_fragments(
            &event.frame,
            &server,
            event.port,
            &settings,
            self.fragmented,
        )
        .map_err(|reason| anyhow!(reason.explanation()))?;
        Ok(self.answerer.forward(server.hop.ifindex, &pieces)?)
    }

    fn send_answer(&mut self, event: &Event, reason: Reason) {
        let question = Question {
            frame: &event.frame,
            reason,
            mtu: event.mtu,
            id: 0,
        };
        let (shell, netlink) = (&self.shell, &mut self.netlink);
        let own = |destination: IpAddr| {
            if shell.balancer.is_virtual(destination) {
                return destination;
            }
            // A reply of a real server: its destination is the client, who must not be quoted.
            own_address(netlink, event.ifindex, destination.is_ipv6()).unwrap_or(destination)
        };
        match self.answerer.ask(event.ifindex, question, own) {
            Outcome::Failed(error) => tracing::debug!(%error, "can't send an ICMP error"),
            Outcome::Silent(why) => tracing::trace!(?why, "no answer"),
            Outcome::Sent | Outcome::Limited => {}
        }
    }
}
