//! Expiry: run by the daemon through `BPF_PROG_TEST_RUN`, over all connections.
//!
//! A raw tracepoint program, because its test run neither disables softirqs nor copies a packet.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_for_each_map_elem;
use pointsman_director::{
    expiry::expire,
    record::{ConnectionRecord, FlowKey, FlowKey4, settings_flag},
    tables::{Env, Tables},
};

use crate::{env::Kernel, maps, tables::Maps};

/// What the callbacks are given.
#[repr(C)]
struct Sweep {
    now: u64,
    /// The settings' flags.
    flags: u32,
    pad: u32,
    ended: u64,
}

impl Sweep {
    #[inline(always)]
    fn look(&mut self, key: &FlowKey, connection: &ConnectionRecord) {
        let env = Kernel {
            context: ptr::null_mut(),
        };
        let ended = expire(&Maps, &env, self.flags, key, connection, self.now);
        self.ended += u64::from(ended);
    }
}

unsafe extern "C" fn expire4(
    _map: *mut c_void,
    key: *const FlowKey4,
    value: *const ConnectionRecord,
    sweep: *mut Sweep,
) -> i64 {
    // SAFETY: the kernel passes valid key and value; `sweep` lives on the caller's stack.
    unsafe {
        let key = (*key).expand();
        (*sweep).look(&key, &*value);
    }
    0
}

unsafe extern "C" fn expire6(
    _map: *mut c_void,
    key: *const FlowKey,
    value: *const ConnectionRecord,
    sweep: *mut Sweep,
) -> i64 {
    // SAFETY: as in `expire4`.
    unsafe {
        let key = *key;
        (*sweep).look(&key, &*value);
    }
    0
}

/// Notes the time. With its first argument not 0 also ends every connection whose time is over, or
/// will be in as many nanoseconds as the second says, and returns how many. With its second lowest
/// bit set, too, `drop_entry` has its turn.
///
/// `#[raw_tracepoint]` would return 0 whatever this returned.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn sweep(context: *mut c_void) -> i32 {
    let env = Kernel { context };
    let now = env.now();
    if let Some(clock) = maps::CLOCK.get_ptr_mut(0) {
        // SAFETY: one word, written by sweeps only.
        unsafe { clock.write_volatile(now) };
    }
    // SAFETY: the daemon runs the program with two arguments.
    let (sweeping, ahead) = unsafe {
        let arguments = context.cast::<u64>();
        (*arguments, *arguments.add(1))
    };
    if sweeping == 0 {
        return 0;
    }
    let now = now + ahead;
    let mut flags = Maps.settings().map_or(0, |settings| settings.flags);
    if sweeping & 2 == 0 {
        flags &= !settings_flag::DROP_ENTRY;
    }
    let mut state = Sweep {
        now,
        flags,
        pad: 0,
        ended: env.opaque(0) as u64,
    };
    // SAFETY: maps and callbacks fit each other; the state outlives the calls.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const maps::CONN4).cast_mut().cast(),
            expire4 as *mut c_void,
            (&raw mut state).cast(),
            0,
        );
        bpf_for_each_map_elem(
            (&raw const maps::CONN6).cast_mut().cast(),
            expire6 as *mut c_void,
            (&raw mut state).cast(),
            0,
        );
    }
    state.ended as i32
}
