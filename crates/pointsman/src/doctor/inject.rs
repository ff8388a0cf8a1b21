//! Lost probes put in again further and further on, as if they came from the wire.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::Sender;
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::injection::{self, Place, Plan, Put};
use pointsman_path::observation::{Observation, Recording};
use pointsman_path::snapshot::Origin;
use pointsman_wire::{Summary, checksum};

use super::probe::Probe;
use super::trial;
use super::watch::Watch;

/// Frames put in at each place.
pub(super) const FRAMES: u16 = 2;
/// How long a place has before the next one's turn.
const TURN: Duration = Duration::from_millis(20);
/// How long answers may take.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is put in.
pub(super) struct Injection<'a> {
    /// The nodes.
    pub(super) bundle: &'a Bundle,
    /// What captures keep.
    pub(super) wanted: &'a Wanted,
    /// The service.
    pub(super) service: std::net::SocketAddr,
    /// The client's address.
    pub(super) client: IpAddr,
    /// True for datagrams.
    pub(super) udp: bool,
    /// Where the client is; nothing for here.
    pub(super) netns: Option<NetNs>,
    /// Where to put in what.
    pub(super) plan: Plan,
    /// The frame that was seen last.
    pub(super) frame: Vec<u8>,
}

impl Injection<'_> {
    /// What is sent, in words.
    pub(super) fn words(&self) -> String {
        let first = &self.plan.places[0];
        let last = &self.plan.places[self.plan.places.len() - 1];
        format!(
            "{FRAMES} numbered copies of the request, at each of {} places from {}/{} to {}/{}",
            self.plan.places.len(),
            first.node,
            first.device,
            last.node,
            last.device
        )
    }

    /// Puts them in and sees what is answered; places where that can't be done are told.
    pub(super) fn run(&self) -> Result<(Vec<Put>, Vec<String>)> {
        let count = FRAMES * u16::try_from(self.plan.places.len())?;
        let netns = self.netns.as_ref();
        let first = Probe::free_ports(self.client, self.udp, count.into(), netns)?;
        let address = self.service.ip();
        let mut gaps = Vec::new();
        let watch = Watch::begin(self.bundle, self.wanted, address, None, &mut gaps);
        let mut limits = Vec::new();
        let mut puts = Vec::new();
        for (at, place) in self.plan.places.iter().enumerate() {
            let port = first + FRAMES * u16::try_from(at)?;
            match self.put(place, port) {
                Ok(()) => puts.push((port, place)),
                Err(error) => limits.push(format!("{}/{}: {error:#}", place.node, place.device)),
            }
            std::thread::sleep(TURN);
        }
        std::thread::sleep(PATIENCE);
        let (recording, _) = watch.end(&mut gaps)?;
        if let Some(gap) = gaps.first() {
            bail!("answers can't be seen: {}", gap.because);
        }
        if puts.is_empty() {
            bail!("{}", limits.join("; "));
        }
        let puts = puts.into_iter().map(|(port, place)| {
            let answered = (port..port + FRAMES)
                .filter(|port| self.is_answered(&recording, *port))
                .count();
            Put {
                place: place.clone(),
                sent: FRAMES.into(),
                answered,
            }
        });
        Ok((puts.collect(), limits))
    }

    /// Has a device receive the frame, from so many ports.
    fn put(&self, place: &Place, first: u16) -> Result<()> {
        let (node, device) = place
            .other_end
            .as_ref()
            .context("the other end of its cable is not on this machine")?;
        let node = self
            .bundle
            .node(node)
            .context("its other end was not read")?;
        let send = || -> Result<()> {
            let sender = Sender::open(device.as_str())?;
            for port in first..first + FRAMES {
                let frame = numbered(&self.frame, place.to.map(|mac| mac.0), port)
                    .context("the frame can't be numbered")?;
                sender.send(&frame)?;
            }
            Ok(())
        };
        match &node.origin {
            Origin::Here => send(),
            Origin::Netns(name) => NetNs::open(name)?.run_in(send)?,
            Origin::Host(host) => bail!("{host} is not this machine"),
        }
    }

    /// Whether an answer to this port came to the client.
    fn is_answered(&self, recording: &Recording, port: u16) -> bool {
        let came = |seen: &Observation| {
            let point = &recording.points[seen.point];
            let Some(summary) = Summary::parse(&seen.bytes).filter(|_| seen.way.is_in()) else {
                return false;
            };
            let is_ours = summary.flow().is_some_and(|flow| {
                flow.source == self.service
                    && flow.destination == std::net::SocketAddr::new(self.client, port)
            });
            is_ours && point.addresses.contains(&self.client)
        };
        recording.observations.iter().any(came)
    }
}

/// The frame from another port, which is its number too, and to another device if that is told; its
/// checksums as they must be.
fn numbered(frame: &[u8], to: Option<[u8; 6]>, port: u16) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    if let Some(to) = to {
        frame.get_mut(..6)?.copy_from_slice(&to);
    }
    let transport = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = 14 + 4 * usize::from(frame.get(14)? & 0x0f);
            frame.get_mut(18..20)?.copy_from_slice(&port.to_be_bytes());
            frame.get_mut(24..26)?.fill(0);
            let sum = checksum::of(frame.get(14..header)?);
            frame[24..26].copy_from_slice(&sum.to_ne_bytes());
            header
        }
        [0x86, 0xdd] => 54,
        _ => return None,
    };
    let source = frame.get_mut(transport..transport + 2)?;
    source.copy_from_slice(&port.to_be_bytes());
    trial::complete(&mut frame);
    Some(frame)
}

/// What the puts say, in words.
pub(super) fn words(puts: &[Put], limits: &[String]) -> String {
    let each = puts.iter().map(|put| {
        format!(
            "{}/{} {} of {} answered",
            put.place.node, put.place.device, put.answered, put.sent
        )
    });
    let each: Vec<String> = each.chain(limits.iter().cloned()).collect();
    let each = each.join("; ");
    match injection::broken(puts) {
        Some((silent, answers)) => format!(
            "broken between {}/{} and {}/{}: {each}",
            silent.place.node, silent.place.device, answers.place.node, answers.place.device
        ),
        None => each,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_frame_is_right_in_all_its_sums() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 10]);
        frame.extend([198, 51, 100, 208]);
        frame.extend([
            0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff,
        ]);
        frame.extend([0xde, 0xad, 0, 0]);
        let made = numbered(&frame, Some([2, 0, 0, 0, 0, 9]), 61_001).unwrap();
        let summary = Summary::parse(&made).unwrap();
        assert_eq!(summary.flow().unwrap().source.port(), 61_001);
        assert_eq!(made[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(checksum::of(&made[14..34]), 0);
        let sum = checksum::pseudo_header(&made[26..30], &made[30..34], 6, 20);
        assert_eq!(checksum::fold(checksum::add(sum, &made[34..])), 0xffff);
        // Once more the same is the same.
        assert_eq!(numbered(&made, None, 61_001).unwrap(), made);
        assert!(numbered(&frame[..30], None, 1).is_none());
        assert!(numbered(&[0; 60], None, 1).is_none());
    }
}
