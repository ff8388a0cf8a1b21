//! What the director needs from its surroundings: the frame, the tables, time and routes.
//!
//! The eBPF programs implement these over contexts, maps and helpers; [`crate::native`] over
//! vectors and hash maps.

use core::ops::Deref;

use pointsman_wire::{Be16, Wire, checksum::Difference};

use crate::{
    begin, connection, mark, persistence,
    process::Scratch,
    reason::Reason,
    record::{
        Address, ConnectionRecord, FlowKey, LinkRecord, LocalityKey, LocalityRecord,
        MarkRuleRecord, NextHop, ReplyRecord, SchedulerState, ServerCounts, ServerRecord,
        ServerStats, ServiceKey, ServiceRecord, Settings, Slot, SlotLine, TableLine,
    },
    schedule, sctp,
};

/// The frame being processed. Offsets are bytes from the start of the Ethernet header.
pub trait Frame {
    /// True when the frame's only VLAN tag lies in the frame; false when the kernel keeps it apart.
    const TAGS_IN_FRAME: bool;

    /// True when the hook can have the kernel find a missing link-layer address.
    const RESOLVES: bool;

    /// True when the frame has at least `bytes`, Ethernet header included.
    fn holds(&self, bytes: u32) -> bool;

    /// Index of the device it came in by.
    fn ifindex(&self) -> u32;

    /// Payload bytes of each segment when the frame is a super-frame (GSO), else 0.
    fn segment_size(&self) -> u32;

    /// VLAN tags that the kernel keeps apart from the frame.
    fn tags_outside(&self) -> u8;

    /// The header at `offset`, if the frame holds all of it.
    fn view<T: Wire>(&self, offset: u32) -> Option<&T>;

    /// The header at `offset`, to be changed.
    fn view_mut<T: Wire>(&mut self, offset: u32) -> Option<&mut T>;

    /// Lets the transport checksum at `offset` follow a change of addresses and of ports.
    /// A UDP checksum of 0 stays, and never becomes 0. False when the frame is too short.
    ///
    /// As it stands for complete checksums; a hook whose frames may have them pending has its own.
    #[inline(always)]
    fn fix_checksum(
        &mut self,
        offset: u32,
        addresses: Difference,
        ports: Difference,
        udp: bool,
    ) -> bool {
        let Some(field) = self.view_mut::<Be16>(offset) else {
            return false;
        };
        let old = field.raw();
        if udp && old == 0 {
            return true;
        }
        let new = Difference(addresses.0 + ports.0).apply(old);
        field.set_raw(if udp && new == 0 { u16::MAX } else { new });
        true
    }

    /// Gives the frame the VLAN tag of its next hop (0: none) in place of its `tags` tags.
    /// False when it can't.
    fn set_vlan(&mut self, tags: u8, vlan: u16) -> bool;

    /// Opens `bytes` of room between the Ethernet header and the IP header for an outer IP header.
    /// The room's content and the frame's addresses are undefined then, EtherType and tag are kept.
    /// False when it can't.
    fn encapsulate(&mut self, bytes: u32, outer_ipv6: bool, inner_ipv6: bool) -> bool;
}

/// Why a connection could not be added.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
pub enum InsertError {
    /// Another processor was faster.
    Exists,
    /// The table has no room.
    Full,
}

/// The tables, by their keys. Records that programs change hold shared words, so `&self` is enough.
pub trait Tables {
    /// A connection in the table.
    type Connection<'a>: Deref<Target = ConnectionRecord>
    where
        Self: 'a;
    /// A reply entry in the table.
    type Reply<'a>: Deref<Target = ReplyRecord>
    where
        Self: 'a;
    /// What an address was sent to before.
    type Locality<'a>: Deref<Target = LocalityRecord>
    where
        Self: 'a;

    /// The attached device with this index.
    fn link(&self, ifindex: u32) -> Option<&LinkRecord>;
    /// What holds for every service.
    fn settings(&self) -> Option<&Settings>;
    /// The connection of a flow from client to virtual service.
    fn connection(&self, key: &FlowKey) -> Option<Self::Connection<'_>>;
    /// Adds a connection unless it is there.
    fn add_connection(&self, key: &FlowKey, record: &ConnectionRecord) -> Result<(), InsertError>;
    /// Removes a connection.
    fn remove_connection(&self, key: &FlowKey);
    /// The reply entry of a flow from real server to client.
    fn reply(&self, key: &FlowKey) -> Option<Self::Reply<'_>>;
    /// Adds or replaces a reply entry; false when the table is full.
    fn set_reply(&self, key: &FlowKey, record: &ReplyRecord) -> bool;
    /// Removes a reply entry.
    fn remove_reply(&self, key: &FlowKey);
    /// The virtual service with this key.
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord>;
    /// The real server with this index.
    fn server(&self, server: u32) -> Option<&ServerRecord>;
    /// The counts of the real server with this index.
    fn counts(&self, server: u32) -> Option<&ServerCounts>;
    /// The counts of the real server in a slot.
    #[inline(always)]
    fn counts_of(&self, slot: &Slot) -> Option<&ServerCounts> {
        self.counts(slot.server)
    }
    /// Changes this processor's counters of a real server.
    fn account(&self, server: u32, change: impl FnOnce(&mut ServerStats));
    /// A line of slots.
    fn slots(&self, line: u32) -> Option<&SlotLine>;
    /// A line of a lookup table.
    fn table(&self, line: u32) -> Option<&TableLine>;
    /// A service's scheduler state.
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState>;
    /// A record of the rules that make firewall marks.
    fn mark_rule(&self, place: u32) -> Option<&MarkRuleRecord>;
    /// The entry of a cache.
    fn locality(&self, key: &LocalityKey) -> Option<Self::Locality<'_>>;
    /// Adds or replaces the entry of a cache; false when there is no room.
    fn set_locality(&self, key: &LocalityKey, record: &LocalityRecord) -> bool;
    /// Counts a verdict.
    fn count(&self, reason: Reason);
}

/// Time, chance, routes, and loops; and what few packets need.
///
/// The latter are [`begin::choose`], [`mark::of`], [`connection::retire`], [`persistence::assure`] and
/// [`sctp::checksum_change`]. The kernel implements them by functions of their own, which its
/// verifier looks at once instead of on every path that leads to them.
pub trait Env: Sized {
    /// Nanoseconds of the monotonic clock; a few milliseconds of grain is enough.
    fn now(&self) -> u64;

    /// A random word.
    fn random(&self) -> u32;

    /// The next hop of a packet of `length` bytes from `source` to `destination` that came in by
    /// `ifindex`, if both link-layer addresses are known.
    fn route(
        &self,
        ipv6: bool,
        source: &Address,
        destination: &Address,
        ifindex: u32,
        hop: &mut NextHop,
    ) -> bool;

    /// Calls `body` with 0, 1, ... below `times` until it returns false.
    ///
    /// On the kernel this is `bpf_loop`; kernel 6.1 verifies the body for one iteration only, so
    /// variables that the body changes start from [`Env::opaque`].
    fn repeat(&self, times: u32, body: impl FnMut(u32) -> bool);

    /// `value`, in a form about which the verifier knows nothing.
    fn opaque(&self, value: u32) -> u32;

    /// [`begin::choose`].
    #[inline(always)]
    fn choose<T: Tables>(&self, tables: &T, s: &mut Scratch, now: u64) -> u32 {
        begin::choose(tables, self, s, now)
    }

    /// [`mark::of`].
    #[inline(always)]
    fn mark<T: Tables>(&self, tables: &T, s: &mut Scratch) -> u32 {
        mark::of(tables, self, &s.headers, s.ingress)
    }

    /// [`schedule::schedule`] for the packet in `s`.
    #[inline(always)]
    fn schedule<T: Tables>(&self, tables: &T, service: &ServiceRecord, s: &mut Scratch) -> u32 {
        schedule::schedule(tables, self, service, &s.headers, &mut s.room)
    }

    /// [`connection::retire`].
    #[inline(always)]
    fn retire<T: Tables>(
        &self,
        tables: &T,
        key: &FlowKey,
        connection: &ConnectionRecord,
        forced: bool,
    ) -> bool {
        connection::retire(tables, key, connection, forced)
    }

    /// [`sctp::checksum_change`].
    #[inline(always)]
    fn checksum_change(&self, change: u32, length: u32) -> u32 {
        sctp::checksum_change(self, change, length)
    }

    /// [`persistence::assure`].
    #[inline(always)]
    fn assure<T: Tables>(&self, tables: &T, key: &FlowKey, connection: &ConnectionRecord) {
        persistence::assure(tables, key, connection);
    }
}
