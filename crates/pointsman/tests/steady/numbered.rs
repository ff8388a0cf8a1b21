//! Numbered datagrams from a client to a virtual address, counted at the real servers.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use pointsman_linux::netns::NetNs;

/// Flows, each from a port of its own.
pub const FLOWS: usize = 32;
/// Datagrams sent at once; between two such bursts the sender sleeps if it is ahead of its rate.
const BURST: u64 = 10;
/// Bytes that may wait for a real server: what is lost there nobody else lost.
const ROOM: usize = 64 << 20;

/// Counts what comes; ends when dropped.
pub struct Counter {
    seen: Arc<Mutex<Vec<Vec<u64>>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    /// Listens on an address within a namespace.
    pub fn start(namespace: &NetNs, at: SocketAddr) -> Self {
        let socket = namespace.run_in(|| UdpSocket::bind(at));
        let socket = socket.expect("enter").expect("bind");
        setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &ROOM).expect("room");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        let seen: Arc<Mutex<Vec<Vec<u64>>>> = Arc::new(Mutex::new(vec![Vec::new(); FLOWS]));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let mut datagram = [0; 16];
                    let Ok(10) = socket.recv(&mut datagram) else {
                        continue;
                    };
                    let flow = usize::from(u16::from_be_bytes([datagram[0], datagram[1]]));
                    let number = u64::from_be_bytes(datagram[2..10].try_into().expect("eight"));
                    let (word, bit) = ((number / 64) as usize, number % 64);
                    let mut seen = seen.lock().expect("no panic");
                    let words = &mut seen[flow];
                    if words.len() <= word {
                        words.resize(word + 1, 0);
                    }
                    words[word] |= 1 << bit;
                }
            }
        });
        Self {
            seen,
            ended,
            thread: Some(thread),
        }
    }

    /// How many different datagrams of each flow came.
    pub fn counts(&self) -> Vec<u64> {
        let seen = self.seen.lock().expect("no panic");
        let ones = |words: &Vec<u64>| words.iter().map(|word| u64::from(word.count_ones())).sum();
        seen.iter().map(ones).collect()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends numbered datagrams until it is asked to stop.
pub struct Sender {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    began: Instant,
    thread: JoinHandle<Vec<u64>>,
}

impl Sender {
    /// Sends so many in a second to an address, from within a namespace.
    pub fn start(namespace: &NetNs, to: SocketAddr, rate: u64) -> Self {
        let sockets = namespace.run_in(|| {
            let socket = |_| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(to)?;
                Ok(socket)
            };
            (0..FLOWS).map(socket).collect::<std::io::Result<Vec<_>>>()
        });
        let sockets = sockets.expect("enter").expect("sockets");
        let ended = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let thread = thread::spawn({
            let (ended, sent) = (Arc::clone(&ended), Arc::clone(&sent));
            move || {
                let mut numbers = vec![0_u64; FLOWS];
                let mut total = 0;
                while !ended.load(Ordering::Relaxed) {
                    let due =
                        (began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
                    if due < total + BURST {
                        thread::sleep(Duration::from_micros(100));
                        continue;
                    }
                    for _ in 0..BURST {
                        let flow = (total % FLOWS as u64) as usize;
                        let mut datagram = [0; 10];
                        datagram[..2].copy_from_slice(&(flow as u16).to_be_bytes());
                        datagram[2..].copy_from_slice(&numbers[flow].to_be_bytes());
                        sockets[flow].send(&datagram).expect("send");
                        numbers[flow] += 1;
                        total += 1;
                    }
                    sent.store(total, Ordering::Relaxed);
                }
                numbers
            }
        });
        Self {
            ended,
            sent,
            began,
            thread,
        }
    }

    /// Waits until so many more were sent.
    pub fn wait_for(&self, more: u64) {
        let begun = self.sent.load(Ordering::Relaxed);
        super::segment::wait("datagrams to be sent", || {
            self.sent.load(Ordering::Relaxed) >= begun + more
        });
    }

    /// Stops; how many of each flow were sent, and how many in a second.
    pub fn stop(self) -> (Vec<u64>, f64) {
        self.ended.store(true, Ordering::Relaxed);
        let sent = self.thread.join().expect("no panic");
        let rate = sent.iter().sum::<u64>() as f64 / self.began.elapsed().as_secs_f64();
        (sent, rate)
    }
}
