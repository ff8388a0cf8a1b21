//! What a BFD session is told to be.

use std::net::IpAddr;
use std::time::Duration;

/// A session as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Its name.
    pub name: String,
    /// The other end.
    pub neighbor: IpAddr,
    /// The address it sends from; without, the kernel's choice.
    pub source: Option<IpAddr>,
    /// It can receive no more often.
    pub min_rx: Duration,
    /// It would like to send no more often.
    pub min_tx: Duration,
    /// The same while the session is not up, at least [`Self::SLOW`].
    pub idle_tx: Duration,
    /// How many of its packets in a row may be lost.
    pub multiplier: u8,
    /// True when it is silent until it hears something.
    pub passive: bool,
    /// Time to live or hop limit of what it sends, and of what it receives where that was sent.
    pub hop_limit: u8,
    /// How much less may be left of that; 255 and more for any.
    pub max_hops: u8,
}

impl SessionConfig {
    /// The least interval while a session is not up (RFC 5880, section 6.8.3).
    pub const SLOW: Duration = Duration::from_secs(1);

    /// A session with keepalived's defaults.
    pub fn new(name: &str, neighbor: IpAddr) -> Self {
        Self {
            name: name.to_owned(),
            neighbor,
            source: None,
            min_rx: Duration::from_millis(10),
            min_tx: Duration::from_millis(10),
            idle_tx: Self::SLOW,
            multiplier: 5,
            passive: false,
            hop_limit: if neighbor.is_ipv6() { 64 } else { 255 },
            max_hops: 0,
        }
    }

    /// The least hop limit with which a packet may arrive.
    pub fn least_hop_limit(&self) -> u8 {
        match self.max_hops {
            u8::MAX => 0,
            hops => self.hop_limit.saturating_sub(hops),
        }
    }

    /// True when it is the same session, whatever its intervals: the same ends.
    pub fn is_same(&self, other: &Self) -> bool {
        let ends = |one: &Self| (one.name.clone(), one.neighbor, one.source);
        ends(self) == ends(other)
    }
}

/// An interval as packets have it, microseconds.
pub(super) fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}
