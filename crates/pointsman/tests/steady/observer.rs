//! Who says to be master on a segment, and how long nobody does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::Capture;

const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_ARP: [u8; 2] = [0x08, 0x06];
const VRRP: u8 = 112;

/// What was heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Advertisements: when, nanoseconds; the sender's last byte; priority.
    pub adverts: Vec<(u64, u8, u8)>,
    /// Link-layer addresses that said they have the virtual address, each once.
    pub claims: Vec<[u8; 6]>,
}

impl Heard {
    /// The longest time without an advertisement.
    pub fn longest_gap(&self) -> Duration {
        let gaps = self.adverts.windows(2).map(|two| two[1].0 - two[0].0);
        Duration::from_nanos(gaps.max().unwrap_or(u64::MAX))
    }
}

/// Hears what a host's `eth0` hears and says; ends when dropped.
pub struct Observer {
    heard: Arc<Mutex<Heard>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to hear advertisements, and who says to have `address`.
    pub fn start(namespace: &NetNs, address: [u8; 4]) -> Self {
        let capture = namespace.run_in(|| Capture::open("eth0"));
        let mut capture = capture.expect("enter").expect("a capture");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (heard, ended) = (Arc::clone(&heard), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let frame = capture.next(Duration::from_millis(50)).expect("frames");
                    let Some(frame) = frame else { continue };
                    let bytes = &frame.bytes;
                    if bytes.len() < 42 {
                        continue;
                    }
                    let mut heard = heard.lock().expect("no panic");
                    if bytes[12..14] == ETHER_IPV4 && bytes[23] == VRRP {
                        heard
                            .adverts
                            .push((frame.timestamp_ns, bytes[29], bytes[36]));
                    }
                    if bytes[12..14] == ETHER_ARP && bytes[28..32] == address {
                        let mac: [u8; 6] = bytes[22..28].try_into().expect("six");
                        if !heard.claims.contains(&mac) {
                            heard.claims.push(mac);
                        }
                    }
                }
            }
        });
        Self {
            heard,
            ended,
            thread: Some(thread),
        }
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
