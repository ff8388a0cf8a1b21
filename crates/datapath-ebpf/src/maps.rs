//! The maps. Sizes here are the smallest that work; the loader sets the real ones.

use core::cell::UnsafeCell;

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use pointsman_director::{
    Scratch,
    atomic::Word64,
    reason::REASONS,
    record::{
        self, ConnectionRecord, EventRecord, FlowKey, FlowKey4, LinkRecord, LocalityKey,
        LocalityRecord, MarkRuleRecord, ReplyRecord, SchedulerState, ServerCounts, ServerRecord,
        ServerStats, ServiceKey, ServiceRecord, Settings, SlotLine, TableLine,
    },
    recording::{FrameRecord, RecordingRecord},
};

use crate::env::FibLookup;

/// IPv4 connections by the flow from client to virtual service.
#[btf_map]
pub static CONN4: HashMap<FlowKey4, ConnectionRecord, 1024> = HashMap::new();
/// IPv6 connections.
#[btf_map]
pub static CONN6: HashMap<FlowKey, ConnectionRecord, 1024> = HashMap::new();
/// IPv4 reply entries by the flow from real server to client.
#[btf_map]
pub static REPLY4: HashMap<FlowKey4, ReplyRecord, 1024> = HashMap::new();
/// IPv6 reply entries.
#[btf_map]
pub static REPLY6: HashMap<FlowKey, ReplyRecord, 1024> = HashMap::new();
/// Virtual services.
#[btf_map]
pub static SERVICES: HashMap<ServiceKey, ServiceRecord, 1024> = HashMap::new();
/// Scheduler state by service index.
#[btf_map]
pub static SCHEDULERS: Array<SchedulerState, 1024> = Array::new();
/// Slots of services, newest server first.
#[btf_map]
pub static SLOTS: Array<SlotLine, 1024> = Array::new();
/// Lookup tables of hash schedulers.
#[btf_map]
pub static TABLES: Array<TableLine, 1024> = Array::new();
/// Caches of `lblc` and `lblcr`. Four times what IPVS lets one grow to, and not allocated before use.
#[btf_map]
pub static LOCALITY: HashMap<LocalityKey, LocalityRecord, 65536, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
/// Real servers.
#[btf_map]
pub static SERVERS: Array<ServerRecord, 1024> = Array::new();
/// Connection counts of real servers.
#[btf_map]
pub static COUNTS: Array<ServerCounts, 1024> = Array::new();
/// Traffic of real servers.
#[btf_map]
pub static STATS: PerCpuArray<ServerStats, 1024> = PerCpuArray::new();
/// Attached devices, each at its index modulo the size.
#[btf_map]
pub static LINKS: Array<LinkRecord, { record::LINKS as usize }> = Array::new();
/// What holds for every service.
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();
/// Rules that make firewall marks: two sets, one in use.
#[btf_map]
pub static MARK_RULES: Array<MarkRuleRecord, { 2 * record::MARK_RULES as usize }> = Array::new();
/// Verdicts by reason.
#[btf_map]
pub static REASON_COUNTS: PerCpuArray<u64, { REASONS }> = PerCpuArray::new();
/// One packet's working state.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
/// A question about a route, and its answer.
#[btf_map]
pub static FIB: PerCpuArray<FibLookup, 1> = PerCpuArray::new();
/// Packets for the daemon.
#[btf_map]
pub static EVENTS: RingBuf<EventRecord, { 1 << 19 }> = RingBuf::new();
/// Whether frames are recorded.
#[btf_map]
pub static RECORDING: Array<RecordingRecord, 1> = Array::new();
/// Addresses whose frames are recorded; those of IPv4 as IPv6 writes them.
#[btf_map]
pub static WANTED: HashMap<[u32; 4], u32, 64> = HashMap::new();
/// A frame as it came and as it goes.
#[btf_map]
pub static SIDES: PerCpuArray<FrameRecord, 2> = PerCpuArray::new();
/// Recorded frames.
#[btf_map]
pub static RECORDS: RingBuf<FrameRecord, { 1 << 20 }> = RingBuf::new();
/// Recorded frames that were lost because nobody read them, by the place of the device they came by.
#[btf_map]
pub static LOST: Array<Word64, { record::LINKS as usize }> = Array::new();
/// Time (nanoseconds) and chance of the differential test; read only when [`TESTING`] is set.
#[btf_map]
pub static TEST: Array<u64, 2> = Array::new();

/// The kernel's time at the last sweep, nanoseconds: what the daemon compares expiries with.
#[btf_map]
pub static CLOCK: Array<u64, 1> = Array::new();

/// Nanoseconds of a jiffy, set by the loader.
#[unsafe(no_mangle)]
pub static TICK: Global<u64> = Global::new(4_000_000);

/// Not 0 while the loader wants time and chance from [`TEST`].
#[unsafe(no_mangle)]
pub static TESTING: Global<u32> = Global::new(0);

/// A word that the verifier knows nothing about: unlike a [`Global`], which lies in a frozen map, it
/// could be written.
#[repr(transparent)]
pub struct Unknown(UnsafeCell<u32>);

// SAFETY: nobody writes it.
unsafe impl Sync for Unknown {}

impl Unknown {
    /// Its value.
    #[inline(always)]
    pub fn load(&self) -> u32 {
        // SAFETY: valid and aligned; volatile, so that the compiler knows nothing about it either.
        unsafe { self.0.get().read_volatile() }
    }
}

/// Zero, but only at run time.
#[unsafe(no_mangle)]
pub static ZERO: Unknown = Unknown(UnsafeCell::new(0));
