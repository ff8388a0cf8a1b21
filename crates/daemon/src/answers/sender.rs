//! Sends answers, within a rate.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use pointsman_linux::packet::{Capture, Options};

use super::{Bucket, Question, Silence, answer};

/// Answers a second.
const RATE: u32 = 1000;
/// Answers at once.
const BURST: u32 = 50;

/// How many answers were and were not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AnswerCounts {
    /// Sent.
    pub sent: u64,
    /// Not sent, because there were too many a second.
    pub limited: u64,
    /// Not sent, because the packet must not be answered.
    pub silent: u64,
    /// Not sent, because sending failed.
    pub failed: u64,
    /// Packets that were forwarded in fragments.
    pub fragmented: u64,
    /// Packets that would have had to be fragmented, and could not be.
    pub unfragmented: u64,
}

/// What became of a question.
#[derive(Debug)]
pub enum Outcome {
    /// The answer is on its way.
    Sent,
    /// Too many answers a second.
    Limited,
    /// The packet must not be answered.
    Silent(Silence),
    /// Sending failed.
    Failed(pointsman_linux::packet::Error),
}

/// Answers dropped packets by ICMP.
#[derive(Debug)]
pub struct Answerer {
    sockets: HashMap<u32, Capture>,
    bucket: Bucket,
    start: Instant,
    id: u16,
    /// How it went so far.
    pub counts: AnswerCounts,
}

impl Default for Answerer {
    fn default() -> Self {
        Self {
            sockets: HashMap::new(),
            bucket: Bucket::new(RATE, BURST),
            start: Instant::now(),
            id: 0,
            counts: AnswerCounts::default(),
        }
    }
}

impl Answerer {
    /// Answers a packet that came in by the interface `ifindex`.
    pub fn ask(
        &mut self,
        ifindex: u32,
        question: Question<'_>,
        own: impl FnOnce(IpAddr) -> IpAddr,
    ) -> Outcome {
        // Looked at first: building answers that can't be sent would help a flood.
        let now = self.start.elapsed();
        if !self.bucket.has(now) {
            self.counts.limited += 1;
            return Outcome::Limited;
        }
        let id = self.id.wrapping_add(1);
        let frame = match answer(&Question { id, ..question }, own) {
            Ok(frame) => frame,
            Err(silence) => {
                self.counts.silent += 1;
                return Outcome::Silent(silence);
            }
        };
        self.bucket.take(now);
        self.id = id;
        match self.send(ifindex, &frame) {
            Ok(()) => {
                self.counts.sent += 1;
                Outcome::Sent
            }
            Err(error) => {
                // The interface may have gone: the next answer opens a new socket.
                self.sockets.remove(&ifindex);
                self.counts.failed += 1;
                Outcome::Failed(error)
            }
        }
    }

    /// Sends the pieces of a packet by the interface `ifindex`.
    pub fn forward(
        &mut self,
        ifindex: u32,
        pieces: &[Vec<u8>],
    ) -> Result<(), pointsman_linux::packet::Error> {
        let sent = pieces
            .iter()
            .try_for_each(|piece| self.send(ifindex, piece));
        if sent.is_err() {
            self.sockets.remove(&ifindex);
        }
        sent
    }

    fn send(&mut self, ifindex: u32, frame: &[u8]) -> Result<(), pointsman_linux::packet::Error> {
        if let Some(socket) = self.sockets.get(&ifindex) {
            return socket.send(frame);
        }
        let socket = Capture::open_with(ifindex, &send_only())?;
        let sent = socket.send(frame);
        self.sockets.insert(ifindex, socket);
        sent
    }
}

/// Options of a socket that receives nothing.
fn send_only() -> Options {
    // `ret #0`: no byte of any frame.
    let reject = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    Options {
        snaplen: Some(64),
        buffer_bytes: 4096,
        filter: vec![reject],
        ..Options::default()
    }
}
