//! The director's tables, in maps.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::HashMap,
    helpers::generated::{bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem},
};
use pointsman_director::{
    reason::{REASONS, Reason},
    record::{
        self, ConnectionRecord, FlowKey, LinkRecord, LocalityKey, LocalityRecord, MarkRuleRecord,
        ReplyRecord, SchedulerState, ServerCounts, ServerRecord, ServerStats, ServiceKey,
        ServiceRecord, Settings, Slot, SlotLine, TableLine,
    },
    tables::{InsertError, Tables},
};

use crate::maps;

const NO_EXIST: u64 = 1;
const EEXIST: i64 = -17;

/// `bpf_map_lookup_elem`; null when there is no such element.
#[inline(always)]
fn lookup<K, V, const N: usize, const F: usize>(map: &HashMap<K, V, N, F>, key: &K) -> *const V {
    // SAFETY: the map's own key type.
    unsafe {
        bpf_map_lookup_elem(
            (&raw const *map).cast_mut().cast(),
            (&raw const *key).cast(),
        )
        .cast()
    }
}

/// `bpf_map_update_elem`.
#[inline(always)]
fn update<K, V, const N: usize, const F: usize>(
    map: &HashMap<K, V, N, F>,
    key: &K,
    record: &V,
    flags: u64,
) -> i64 {
    // SAFETY: the map's own types.
    unsafe {
        bpf_map_update_elem(
            (&raw const *map).cast_mut().cast(),
            (&raw const *key).cast(),
            (&raw const *record).cast(),
            flags,
        )
    }
}

/// `bpf_map_delete_elem`.
#[inline(always)]
fn delete<K, V, const N: usize>(map: &HashMap<K, V, N>, key: &K) -> i64 {
    // SAFETY: the map's own key type.
    unsafe {
        bpf_map_delete_elem(
            (&raw const *map).cast_mut().cast(),
            (&raw const *key).cast(),
        )
    }
}

/// Evaluates a call on one of two maps so that it stays a call of its own.
///
/// LLVM joins the same call on different maps, at the end of two branches, into one with the map in
/// a register. The kernel then can't inline the lookup, and an indirect call takes its place, which
/// costs more than the lookup. A different instruction behind each call keeps them apart.
macro_rules! apart {
    ($tag:literal, $call:expr) => {{
        let mut result = $call;
        // SAFETY: moves a register to itself.
        unsafe { asm!(concat!("{0} = {0} // ", $tag), inout(reg) result) };
        result
    }};
}

/// A map value as a reference, if there is one.
#[inline(always)]
fn value<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: see at the implementation below.
    unsafe { pointer.as_ref() }
}

/// The maps as the director's tables.
pub struct Maps;

// SAFETY of the references to map values below: the kernel keeps a value's memory readable until
// the program ends (RCU). A value may be reused under a reader; every field the director relies on
// is one word, checked by what it does next.
impl Tables for Maps {
    type Connection<'a> = &'a ConnectionRecord;
    type Reply<'a> = &'a ReplyRecord;
    type Locality<'a> = &'a LocalityRecord;

    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&LinkRecord> {
        let link = maps::LINKS.get(ifindex % record::LINKS)?;
        if link.ifindex == ifindex {
            Some(link)
        } else {
            None
        }
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        maps::SETTINGS.get(0)
    }

    #[inline(always)]
    fn connection(&self, key: &FlowKey) -> Option<&ConnectionRecord> {
        if key.ipv6 != 0 {
            value(apart!("CONN6", lookup(&maps::CONN6, key)))
        } else {
            value(apart!("CONN4", lookup(&maps::CONN4, &key.compact())))
        }
    }

    #[inline(always)]
    fn add_connection(&self, key: &FlowKey, record: &ConnectionRecord) -> Result<(), InsertError> {
        let result = if key.ipv6 != 0 {
            apart!("CONN6", update(&maps::CONN6, key, record, NO_EXIST))
        } else {
            apart!(
                "CONN4",
                update(&maps::CONN4, &key.compact(), record, NO_EXIST)
            )
        };
        match result {
            0 => Ok(()),
            EEXIST => Err(InsertError::Exists),
            _ => Err(InsertError::Full),
        }
    }

    #[inline(always)]
    fn remove_connection(&self, key: &FlowKey) {
        if key.ipv6 != 0 {
            apart!("CONN6", delete(&maps::CONN6, key));
        } else {
            apart!("CONN4", delete(&maps::CONN4, &key.compact()));
        }
    }

    #[inline(always)]
    fn reply(&self, key: &FlowKey) -> Option<&ReplyRecord> {
        if key.ipv6 != 0 {
            value(apart!("REPLY6", lookup(&maps::REPLY6, key)))
        } else {
            value(apart!("REPLY4", lookup(&maps::REPLY4, &key.compact())))
        }
    }

    #[inline(always)]
    fn set_reply(&self, key: &FlowKey, record: &ReplyRecord) -> bool {
        if key.ipv6 != 0 {
            apart!("REPLY6", update(&maps::REPLY6, key, record, 0)) == 0
        } else {
            apart!("REPLY4", update(&maps::REPLY4, &key.compact(), record, 0)) == 0
        }
    }

    #[inline(always)]
    fn remove_reply(&self, key: &FlowKey) {
        if key.ipv6 != 0 {
            apart!("REPLY6", delete(&maps::REPLY6, key));
        } else {
            apart!("REPLY4", delete(&maps::REPLY4, &key.compact()));
        }
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        // SAFETY: see above.
        unsafe { maps::SERVICES.get(key) }
    }

    #[inline(always)]
    fn server(&self, server: u32) -> Option<&ServerRecord> {
        maps::SERVERS.get(server)
    }

    #[inline(always)]
    fn counts(&self, server: u32) -> Option<&ServerCounts> {
        maps::COUNTS.get(server)
    }

    #[inline(always)]
    fn counts_of(&self, slot: &Slot) -> Option<&ServerCounts> {
        // The slot itself is the key: nothing is copied to the stack.
        // SAFETY: a map of numbers; the helper reads one.
        value(
            unsafe {
                bpf_map_lookup_elem(
                    (&raw const maps::COUNTS).cast_mut().cast(),
                    (&raw const slot.server).cast(),
                )
            }
            .cast(),
        )
    }

    #[inline(always)]
    fn account(&self, server: u32, change: impl FnOnce(&mut ServerStats)) {
        if let Some(stats) = maps::STATS.get_ptr_mut(server) {
            // SAFETY: this processor's own copy; programs are not preempted by one another.
            change(unsafe { &mut *stats });
        }
    }

    #[inline(always)]
    fn slots(&self, line: u32) -> Option<&SlotLine> {
        maps::SLOTS.get(line)
    }

    #[inline(always)]
    fn table(&self, line: u32) -> Option<&TableLine> {
        maps::TABLES.get(line)
    }

    #[inline(always)]
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        maps::SCHEDULERS.get(service)
    }

    #[inline(always)]
    fn mark_rule(&self, place: u32) -> Option<&MarkRuleRecord> {
        maps::MARK_RULES.get(place)
    }

    #[inline(always)]
    fn locality(&self, key: &LocalityKey) -> Option<&LocalityRecord> {
        value(lookup(&maps::LOCALITY, key))
    }

    #[inline(always)]
    fn set_locality(&self, key: &LocalityKey, record: &LocalityRecord) -> bool {
        update(&maps::LOCALITY, key, record, 0) == 0
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        let number = reason as u32;
        if number < REASONS as u32
            && let Some(counter) = maps::REASON_COUNTS.get_ptr_mut(number)
        {
            // SAFETY: this processor's own copy.
            unsafe { *counter += 1 };
        }
    }
}
