//! Which real server takes a new connection.
//!
//! A service's real servers lie in slots, newest first, as the kernel keeps them; every scheduler
//! walks from the first slot, so "first" means most recently added. Selection, tie-breaks and
//! weight-0 rules are those of `net/netfilter/ipvs/ip_vs_*.c`.

mod hash;
mod least;
mod locality;
mod power_of_two;
mod round_robin;
mod weighted_round_robin;

#[cfg(feature = "std")]
pub use hash::{destination_table, maglev_table, source_table};
pub use power_of_two::Draw;
pub use weighted_round_robin::State;

use crate::{
    headers::Headers,
    record::{LocalityEntry, NONE, SLOTS_PER_LINE, ServerCounts, ServiceRecord, Slot, counts_flag},
    tables::{Env, Tables},
};

macro_rules! schedulers {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// The schedulers of IPVS; the last one, `none`, is none.
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
        }
    };
}

schedulers! {
    RoundRobin = 0, "rr";
    WeightedRoundRobin = 1, "wrr";
    LeastConnection = 2, "lc";
    WeightedLeastConnection = 3, "wlc";
    LocalityBased = 4, "lblc";
    LocalityBasedReplicated = 5, "lblcr";
    DestinationHash = 6, "dh";
    SourceHash = 7, "sh";
    ShortestExpectedDelay = 8, "sed";
    NeverQueue = 9, "nq";
    Failover = 10, "fo";
    Overflow = 11, "ovf";
    MaglevHash = 12, "mh";
    PowerOfTwo = 13, "twos";
    Nothing = 14, "none";
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

    /// True when it remembers which servers a destination address was sent to.
    pub const fn has_cache(self) -> bool {
        matches!(self, Self::LocalityBased | Self::LocalityBasedReplicated)
    }
}

/// What schedulers work on that is too much for the stack.
#[cfg_attr(feature = "std", derive(Debug, Default))]
#[repr(C)]
pub struct Room {
    /// `lblc`, `lblcr`: an entry of the cache.
    pub locality: LocalityEntry,
    /// `twos`: one draw.
    pub first: Draw,
    /// `twos`: the other.
    pub second: Draw,
}

/// The real server for a new connection of `service`; [`NONE`] when no server can take it.
#[inline(always)]
pub fn schedule<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    h: &Headers,
    room: &mut Room,
) -> u32 {
    if service.count == 0 {
        return NONE;
    }
    const RR: u8 = Scheduler::RoundRobin as u8;
    const WRR: u8 = Scheduler::WeightedRoundRobin as u8;
    const LC: u8 = Scheduler::LeastConnection as u8;
    const WLC: u8 = Scheduler::WeightedLeastConnection as u8;
    const LBLC: u8 = Scheduler::LocalityBased as u8;
    const LBLCR: u8 = Scheduler::LocalityBasedReplicated as u8;
    const DH: u8 = Scheduler::DestinationHash as u8;
    const SH: u8 = Scheduler::SourceHash as u8;
    const SED: u8 = Scheduler::ShortestExpectedDelay as u8;
    const NQ: u8 = Scheduler::NeverQueue as u8;
    const FO: u8 = Scheduler::Failover as u8;
    const OVF: u8 = Scheduler::Overflow as u8;
    const MH: u8 = Scheduler::MaglevHash as u8;
    const TWOS: u8 = Scheduler::PowerOfTwo as u8;
    match service.scheduler {
        RR => round_robin::pick(tables, env, service),
        WRR => weighted_round_robin::pick(tables, env, service),
        LC => least::pick::<least::Connections, T, E>(tables, env, service),
        WLC => least::pick::<least::WeightedConnections, T, E>(tables, env, service),
        LBLC | LBLCR => locality::pick(tables, env, service, h, &mut room.locality),
        DH => hash::destination(tables, service, h),
        SH => hash::source(tables, env, service, h),
        SED => least::pick::<least::Delay, T, E>(tables, env, service),
        NQ => least::pick::<least::DelayOrIdle, T, E>(tables, env, service),
        FO => least::pick::<least::Weight, T, E>(tables, env, service),
        OVF => least::pick::<least::WeightWithRoom, T, E>(tables, env, service),
        MH => hash::maglev(tables, env, service, h),
        TWOS => power_of_two::pick(tables, env, service, &mut room.first, &mut room.second),
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
        Some(counts) => !is_overloaded(counts),
        None => false,
    }
}

/// True when a server has reached its upper threshold.
#[inline(always)]
fn is_overloaded(counts: &ServerCounts) -> bool {
    counts.flags.load() & counts_flag::OVERLOAD != 0
}

/// Gives every server with a weight to `step`, newest first, until it returns false; what it makes of
/// `state`.
#[inline(always)]
fn fold<S: Copy, T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    mut state: S,
    mut step: impl FnMut(&mut S, &Slot, &ServerCounts) -> bool,
) -> S {
    // A line of slots at a time: the lookup and the call are paid once for eight servers.
    env.repeat(service.count.div_ceil(SLOTS_PER_LINE as u32), |line| {
        let Some(slots) = tables.slots(service.slots.wrapping_add(line)) else {
            return false;
        };
        // Of its own, so that it can stay in registers.
        let mut now = state;
        let mut more = true;
        // Eight times the same, not a loop: with hundreds of servers every instruction shows.
        macro_rules! look {
            ($($at:literal)*) => {$(
                let slot = &slots[$at];
                if more
                    && slot.weight > 0
                    && let Some(counts) = tables.counts_of(slot)
                {
                    more = step(&mut now, slot, counts);
                }
            )*};
        }
        look!(0 1 2 3 4 5 6 7);
        state = now;
        more
    });
    state
}
