//! Which real server takes a new connection.
//!
//! A service's real servers lie in slots, newest first, as the kernel keeps them; every scheduler
//! walks from the first slot, so "first" means most recently added. Selection, tie-breaks and
//! weight-0 rules are those of `net/netfilter/ipvs/ip_vs_*.c`.

mod hash;
mod least_connection;
mod round_robin;
mod weighted_round_robin;

#[cfg(feature = "std")]
pub use hash::{maglev_table, source_table};
pub use weighted_round_robin::State;

use crate::{
    headers::Headers,
    record::{NONE, SLOTS_PER_LINE, ServiceRecord, Slot, counts_flag},
    tables::{Env, Tables},
};

macro_rules! schedulers {
    ($($name:ident = $number:literal, $text:literal, $done:literal;)*) => {
        /// The schedulers of IPVS.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "std", derive(Debug, Hash, PartialOrd, Ord))]
        #[repr(u8)]
        pub enum Scheduler {
            $(#[doc = concat!("`", $text, "`")] $name = $number,)*
        }

        impl Scheduler {
            /// Every scheduler.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in `ipvsadm -s`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// False while Pointsman does not schedule by it yet.
            pub const fn is_supported(self) -> bool {
                match self { $(Self::$name => $done,)* }
            }
        }
    };
}

schedulers! {
    RoundRobin = 0, "rr", true;
    WeightedRoundRobin = 1, "wrr", true;
    LeastConnection = 2, "lc", true;
    WeightedLeastConnection = 3, "wlc", true;
    LocalityBased = 4, "lblc", false;
    LocalityBasedReplicated = 5, "lblcr", false;
    DestinationHash = 6, "dh", false;
    SourceHash = 7, "sh", true;
    ShortestExpectedDelay = 8, "sed", false;
    NeverQueue = 9, "nq", false;
    Failover = 10, "fo", false;
    Overflow = 11, "ovf", false;
    MaglevHash = 12, "mh", true;
    PowerOfTwo = 13, "twos", false;
}

impl Scheduler {
    /// The scheduler called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }

    /// True when a flow's choice can be computed again without a connection.
    pub const fn is_hash(self) -> bool {
        matches!(
            self,
            Self::SourceHash | Self::MaglevHash | Self::DestinationHash
        )
    }
}

/// The real server for a new connection of `service`; [`NONE`] when no server can take it.
#[inline(always)]
pub fn schedule<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    h: &Headers,
) -> u32 {
    if service.count == 0 {
        return NONE;
    }
    const RR: u8 = Scheduler::RoundRobin as u8;
    const WRR: u8 = Scheduler::WeightedRoundRobin as u8;
    const LC: u8 = Scheduler::LeastConnection as u8;
    const WLC: u8 = Scheduler::WeightedLeastConnection as u8;
    const SH: u8 = Scheduler::SourceHash as u8;
    const MH: u8 = Scheduler::MaglevHash as u8;
    match service.scheduler {
        RR => round_robin::pick(tables, env, service),
        WRR => weighted_round_robin::pick(tables, env, service),
        LC => least_connection::pick(tables, env, service, false),
        WLC => least_connection::pick(tables, env, service, true),
        SH => hash::source(tables, env, service, h),
        MH => hash::maglev(tables, env, service, h),
        _ => NONE,
    }
}

/// The slot at `position` of `service`.
#[inline(always)]
fn slot<T: Tables>(tables: &T, service: &ServiceRecord, position: u32) -> Slot {
    let line = service.slots.wrapping_add(position / SLOTS_PER_LINE as u32);
    match tables.slots(line) {
        Some(slots) => slots[position as usize % SLOTS_PER_LINE],
        None => Slot::UNUSED,
    }
}

/// True when the server in `slot` may take a new connection.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, slot: &Slot) -> bool {
    if slot.weight <= 0 {
        return false;
    }
    match tables.counts(slot.server) {
        Some(counts) => counts.flags.load() & counts_flag::OVERLOAD == 0,
        None => false,
    }
}
