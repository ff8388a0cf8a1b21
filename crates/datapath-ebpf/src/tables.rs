//! The director's tables, in maps.

use pointsman_director::{
    reason::{REASONS, Reason},
    record::{
        ConnectionRecord, FlowKey, LinkRecord, ReplyRecord, SchedulerState, ServerCounts,
        ServerRecord, ServerStats, ServiceKey, ServiceRecord, Settings, SlotLine, TableLine,
    },
    tables::{InsertError, Tables},
};

use crate::maps;

const NO_EXIST: u64 = 1;
const EEXIST: i32 = -17;

/// The maps as the director's tables.
pub struct Maps;

// SAFETY of the references to map values below: the kernel keeps a value's memory readable until
// the program ends (RCU). A value may be reused under a reader; every field the director relies on
// is one word, checked by what it does next.
impl Tables for Maps {
    type Connection<'a> = &'a ConnectionRecord;
    type Reply<'a> = &'a ReplyRecord;

    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<&LinkRecord> {
        // SAFETY: see above.
        unsafe { maps::LINKS.get(ifindex) }
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        maps::SETTINGS.get(0)
    }

    #[inline(always)]
    fn connection(&self, key: &FlowKey) -> Option<&ConnectionRecord> {
        if key.ipv6 != 0 {
            // SAFETY: see above.
            unsafe { maps::CONN6.get(key) }
        } else {
            // SAFETY: see above.
            unsafe { maps::CONN4.get(key.compact()) }
        }
    }

    #[inline(always)]
    fn add_connection(&self, key: &FlowKey, record: &ConnectionRecord) -> Result<(), InsertError> {
        let result = if key.ipv6 != 0 {
            maps::CONN6.insert(key, record, NO_EXIST)
        } else {
            maps::CONN4.insert(key.compact(), record, NO_EXIST)
        };
        match result {
            Ok(()) => Ok(()),
            Err(EEXIST) => Err(InsertError::Exists),
            Err(_) => Err(InsertError::Full),
        }
    }

    #[inline(always)]
    fn remove_connection(&self, key: &FlowKey) {
        let _ = if key.ipv6 != 0 {
            maps::CONN6.remove(key)
        } else {
            maps::CONN4.remove(key.compact())
        };
    }

    #[inline(always)]
    fn reply(&self, key: &FlowKey) -> Option<&ReplyRecord> {
        if key.ipv6 != 0 {
            // SAFETY: see above.
            unsafe { maps::REPLY6.get(key) }
        } else {
            // SAFETY: see above.
            unsafe { maps::REPLY4.get(key.compact()) }
        }
    }

    #[inline(always)]
    fn set_reply(&self, key: &FlowKey, record: &ReplyRecord) -> bool {
        if key.ipv6 != 0 {
            maps::REPLY6.insert(key, record, 0).is_ok()
        } else {
            maps::REPLY4.insert(key.compact(), record, 0).is_ok()
        }
    }

    #[inline(always)]
    fn remove_reply(&self, key: &FlowKey) {
        let _ = if key.ipv6 != 0 {
            maps::REPLY6.remove(key)
        } else {
            maps::REPLY4.remove(key.compact())
        };
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
