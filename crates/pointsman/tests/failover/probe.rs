//! A client that asks a virtual address every 5 ms whether it is there.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::NetNs;
use pointsman_linux::raw_ip::{Datagram, Family, RawIp};

/// Time between two probes.
pub const EVERY: Duration = Duration::from_millis(5);

/// Echo requests from one address to another; ends when dropped.
pub struct Prober {
    probes: Arc<Mutex<Vec<Probe>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct Probe {
    sent: Instant,
    answered: bool,
}

impl Prober {
    /// Begins to ask `to` from `from` in a namespace, through its `eth0`.
    pub fn start(namespace: &NetNs, from: IpAddr, to: IpAddr) -> Self {
        let (probes, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let socket = {
            let _inside = namespace.enter().expect("enter");
            let links = Netlink::new().expect("netlink").links().expect("links");
            let link = links.iter().find(|link| link.name == "eth0");
            let index = link.expect("eth0").index;
            let protocol = if to.is_ipv6() { 58 } else { 1 };
            RawIp::open(Family::of(to), protocol, "eth0", index, 0).expect("a raw socket")
        };
        let thread = thread::spawn({
            let (probes, ended) = (Arc::clone(&probes), Arc::clone(&ended));
            move || ask(socket, from, to, &probes, &ended)
        });
        Self {
            probes,
            ended,
            thread: Some(thread),
        }
    }

    /// Waits until so many probes in a row, sent from now on, were answered.
    pub fn wait_for_answers(&self, count: usize) {
        let began = Instant::now();
        super::segment::wait("answers in a row", || {
            let probes = self.probes.lock().expect("no panic");
            let recent = probes.iter().rev().take_while(|probe| probe.sent > began);
            // The last ones may be on their way.
            let answered = recent.skip_while(|probe| !probe.answered);
            answered.take_while(|probe| probe.answered).count() >= count
        });
    }

    /// The longest time without an answer since `from`: between the sending of two probes that were
    /// answered.
    pub fn outage(&self, from: Instant) -> Duration {
        let probes = self.probes.lock().expect("no panic");
        let answered = probes.iter().filter(|probe| probe.answered);
        let mut last = None;
        let mut longest = Duration::ZERO;
        for probe in answered {
            if let Some(last) = last.replace(probe.sent)
                && probe.sent > from
            {
                longest = longest.max(probe.sent - last);
            }
        }
        longest
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ask(
    mut socket: RawIp,
    source: IpAddr,
    destination: IpAddr,
    probes: &Mutex<Vec<Probe>>,
    ended: &AtomicBool,
) {
    // What comes late here is no failure of those who are asked.
    let _ = pointsman_linux::urgency::make_urgent();
    let mut next = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        let number = {
            let mut probes = probes.lock().expect("no panic");
            probes.push(Probe {
                sent: Instant::now(),
                answered: false,
            });
            u32::try_from(probes.len() - 1).expect("not for months")
        };
        // While nobody answers ARP this fails, which is no answer.
        let _ = socket.send(&Datagram {
            source,
            destination,
            hop_limit: 64,
            payload: request(number, destination.is_ipv6()),
        });
        next += EVERY;
        loop {
            while let Ok(Some(datagram)) = socket.receive() {
                let answer = reply(&datagram.payload, destination.is_ipv6());
                if let Some(number) = answer.filter(|_| datagram.source == destination) {
                    let mut probes = probes.lock().expect("no panic");
                    if let Some(probe) = probes.get_mut(number as usize) {
                        probe.answered = true;
                    }
                }
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(Duration::from_millis(1)));
        }
    }
}

/// An echo request with a number; the kernel makes the checksum of ICMPv6.
fn request(number: u32, v6: bool) -> Vec<u8> {
    let mut message = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 0, 0, 1];
    message.extend(number.to_be_bytes());
    if !v6 {
        let checksum = pointsman_wire::checksum::of(&message);
        message[2..4].copy_from_slice(&checksum.to_ne_bytes());
    }
    message
}

/// The number in an echo reply.
fn reply(message: &[u8], v6: bool) -> Option<u32> {
    let number: [u8; 4] = message.get(8..12)?.try_into().ok()?;
    let wanted = if v6 { 129 } else { 0 };
    (message[0] == wanted).then(|| u32::from_be_bytes(number))
}
