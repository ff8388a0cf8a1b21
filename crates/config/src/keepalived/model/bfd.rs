//! BFD sessions.

use std::net::IpAddr;
use std::time::Duration;

use super::{Places, Weight};

/// `bfd_instance`: one session with a neighbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BfdInstance {
    /// Its name.
    pub name: String,
    /// Where its keywords stand.
    pub places: Places,
    /// The neighbor.
    pub neighbor: IpAddr,
    /// The address from which; none is the kernel's choice.
    pub source: Option<IpAddr>,
    /// It can receive no more often.
    pub min_rx: Duration,
    /// It would like to send no more often.
    pub min_tx: Duration,
    /// The same while the session is not up.
    pub idle_tx: Duration,
    /// Packets in a row that may be lost.
    pub multiplier: u8,
    /// True when it waits to be spoken to.
    pub passive: bool,
    /// Time to live or hop limit of what it sends, and of what the neighbor sends.
    pub hop_limit: u8,
    /// How much less of that may be left on arrival; 255 for any.
    pub max_hops: u8,
    /// Weight where the tracker names none.
    pub weight: Weight,
    /// True when virtual routers may track it.
    pub for_routers: bool,
    /// True when checks of real servers may use it.
    pub for_servers: bool,
}
