//! What a master tells: connections looked at, decided on, gathered into messages.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use pointsman_wire::sync::{Batch, SyncConnection};

use super::Policy;

const TCP: u8 = 6;
const SCTP: u8 = 132;

/// TCP's ESTABLISHED, by IPVS's numbers.
const TCP_ESTABLISHED: u8 = 1;
/// ESTABLISHED, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT.
const TCP_TOLD: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;
/// SCTP's ESTABLISHED.
const SCTP_ESTABLISHED: u8 = 8;
/// ESTABLISHED, SHUTDOWN_SENT, SHUTDOWN_RECEIVED, SHUTDOWN_ACK_SENT, CLOSED.
const SCTP_TOLD: u32 = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13;

/// The least time by which an end has to move before it is told again.
const LEAST: Duration = Duration::from_secs(10);
/// Looks in a row that may miss an entry before it is forgotten: tables that change while they are read
/// hide one now and then.
const MISSES: u8 = 3;
/// No state: nothing was told.
const NEVER: u8 = u8::MAX;

/// A connection or a template at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What tells it from all others.
    pub id: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// Its state.
    pub state: u8,
    /// Packets from the client so far, wrapping; nothing in a template.
    pub packets: u32,
    /// Timeout of its state.
    pub timeout: Duration,
    /// When it ends, by the clock of `now`.
    pub ends: Duration,
    /// A template; true inside when a connection of it had packets since the last look.
    pub template: Option<bool>,
    /// It belongs to a template.
    pub controlled: bool,
    /// Another director told of it.
    pub synced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Packets at the latest look that counted.
    packets: u32,
    /// State when it was told, or [`NEVER`].
    state: u8,
    retries: u8,
    misses: u8,
    /// When it was to end: a connection when it was told, a template when it was looked at.
    ends: Duration,
}

/// A master: knows what it told, and has messages ready.
#[derive(Debug)]
pub struct Master {
    sync_id: u8,
    limit: usize,
    known: HashMap<u64, Known>,
    batch: Option<Batch>,
    ready: VecDeque<Vec<u8>>,
}

impl Master {
    /// A master that has told nothing, with messages of at most `limit` bytes.
    pub fn new(sync_id: u8, limit: usize) -> Self {
        Self {
            sync_id,
            limit,
            known: HashMap::new(),
            batch: None,
            ready: VecDeque::new(),
        }
    }

    /// Entries that it remembers.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// True when a connection seen like this had packets since the last look.
    pub fn has_moved(&self, seen: &Seen) -> bool {
        let known = self.known.get(&seen.id);
        known.is_none_or(|known| known.packets != seen.packets)
    }

    /// Looks at a connection; true when others are to be told of it as it is.
    pub fn look(&mut self, policy: &Policy, seen: &Seen, now: Duration) -> bool {
        let first = Known {
            packets: if seen.synced {
                policy.threshold.min(seen.packets)
            } else {
                0
            },
            state: if seen.synced { seen.state } else { NEVER },
            retries: 0,
            misses: 0,
            ends: if seen.synced {
                seen.ends
            } else {
                Duration::ZERO
            },
        };
        let known = self.known.entry(seen.id).or_insert(first);
        known.misses = 0;
        if seen.packets < known.packets {
            // Another one under the same ports.
            *known = first;
        }
        let told = match seen.template {
            Some(used) => is_template_due(policy, known, seen, used, now),
            None => is_due(policy, known, seen, now),
        };
        if told {
            known.state = seen.state;
        }
        told
    }

    /// Adds a connection to the message being filled.
    pub fn tell(&mut self, connection: &SyncConnection) {
        let (id, limit) = (self.sync_id, self.limit);
        let batch = self.batch.get_or_insert_with(|| Batch::new(id, limit));
        if batch.push(connection) {
            return;
        }
        self.flush();
        let mut batch = Batch::new(id, limit);
        // What fits into no message can't be told.
        if batch.push(connection) {
            self.batch = Some(batch);
        }
    }

    /// Ends a look at the whole table: what was gathered is ready, what is gone is forgotten.
    pub fn end_round(&mut self) {
        self.flush();
        self.known.retain(|_, known| {
            known.misses += 1;
            known.misses <= MISSES
        });
        if self.known.capacity() > 4 * self.known.len().max(1024) {
            self.known.shrink_to(2 * self.known.len());
        }
    }

    /// The next message to send.
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    fn flush(&mut self) {
        if let Some(batch) = self.batch.take().filter(|batch| !batch.is_empty()) {
            self.ready.push_back(batch.finish());
        }
    }
}

/// Whether packets since the last look would have had a connection told.
fn is_due(policy: &Policy, known: &mut Known, seen: &Seen, now: Duration) -> bool {
    if policy.templates_only && seen.controlled {
        return false;
    }
    let (states, established) = match seen.protocol {
        TCP => (TCP_TOLD, TCP_ESTABLISHED),
        SCTP => (SCTP_TOLD, SCTP_ESTABLISHED),
        _ => (u32::MAX, seen.state),
    };
    if states >> (seen.state & 31) & 1 == 0 {
        // Packets of the handshake count once it is through.
        return false;
    }
    if seen.state != known.state && seen.state != established {
        (known.packets, known.ends, known.retries) = (seen.packets, seen.ends, 0);
        return true;
    }
    let before = std::mem::replace(&mut known.packets, seen.packets);
    if before == seen.packets {
        return false;
    }
    let refreshed = policy.refresh == 0 || has_moved(policy, known, seen, now);
    let crossed = match (policy.period, policy.refresh) {
        (0, 0) => (before + 1..=seen.packets).contains(&policy.threshold),
        (0, _) => true,
        (period, _) => crosses(before, seen.packets, policy.threshold, period),
    };
    if refreshed && crossed {
        let again = policy.refresh != 0 && !is_far(policy, known, seen);
        known.retries = if again { known.retries + 1 } else { 0 };
        known.ends = seen.ends;
        return true;
    }
    false
}

/// Whether the use of a template since the last look would have had it told.
fn is_template_due(
    policy: &Policy,
    known: &mut Known,
    seen: &Seen,
    used: bool,
    now: Duration,
) -> bool {
    // New connections begin its time anew; those that last do not.
    let used = used || known.ends != seen.ends && policy.refresh == 0;
    if known.state == NEVER {
        (known.ends, known.retries) = (seen.ends, 0);
        return true;
    }
    if seen.state != known.state {
        known.ends = seen.ends;
        return true;
    }
    if policy.refresh != 0 {
        if known.ends == seen.ends && !used || !has_moved(policy, known, seen, now) {
            return false;
        }
        let again = !is_far(policy, known, seen);
        known.retries = if again { known.retries + 1 } else { 0 };
        known.ends = seen.ends;
        return true;
    }
    known.ends = seen.ends;
    used && policy.period != 0
}

/// True when the end of `seen` is far enough from the one told, or a repetition is due.
fn has_moved(policy: &Policy, known: &Known, seen: &Seen, now: Duration) -> bool {
    if is_far(policy, known, seen) {
        return true;
    }
    let refresh = Duration::from_secs(policy.refresh.into());
    u32::from(known.retries) < policy.retries
        && now >= known.ends.saturating_sub(seen.timeout) + refresh / 8
}

fn is_far(policy: &Policy, known: &Known, seen: &Seen) -> bool {
    let refresh = Duration::from_secs(policy.refresh.into());
    seen.ends.abs_diff(known.ends) >= refresh.min(LEAST.max(seen.timeout / 2))
}

/// True when one of the packets behind `before` up to `packets` has a number that is `threshold` modulo
/// `period`.
fn crosses(before: u32, packets: u32, threshold: u32, period: u32) -> bool {
    if threshold >= period {
        return false;
    }
    let before = u64::from(before);
    let (threshold, period) = (u64::from(threshold), u64::from(period));
    let next = before + 1;
    let next = next + (threshold + period - next % period) % period;
    next <= u64::from(packets)
}

#[cfg(test)]
mod tests {
    use super::crosses;

    #[test]
    fn packets_between_looks_are_counted_as_one_by_one() {
        for (threshold, period) in [(3, 50), (0, 1), (0, 7), (6, 7), (7, 7), (9, 7)] {
            for before in 0..120_u32 {
                for packets in before..before + 60 {
                    let each = (before + 1..=packets).any(|number| number % period == threshold);
                    assert_eq!(
                        crosses(before, packets, threshold, period),
                        each,
                        "{before}..{packets} of {threshold} {period}"
                    );
                }
            }
        }
    }
}
