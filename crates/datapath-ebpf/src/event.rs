//! Packets that the daemon has to deal with.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use pointsman_director::{
    Scratch, Verdict,
    record::{EVENT_BYTES, EventRecord},
};

use crate::maps::EVENTS;

/// How a program copies bytes out of its frame.
pub trait Copy {
    /// Copies `length` bytes from the start of the frame; `length` is 1..=EVENT_BYTES.
    unsafe fn copy(context: *mut c_void, to: *mut c_void, length: u32) -> bool;
}

/// Copies under XDP.
pub struct FromXdp;
/// Copies under tcx.
pub struct FromSkb;

impl Copy for FromXdp {
    #[inline(always)]
    unsafe fn copy(context: *mut c_void, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the caller's.
        unsafe { bpf_xdp_load_bytes(context.cast(), 0, to, length) == 0 }
    }
}

impl Copy for FromSkb {
    #[inline(always)]
    unsafe fn copy(context: *mut c_void, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the caller's.
        unsafe { bpf_skb_load_bytes(context, 0, to, length) == 0 }
    }
}

/// Tells the daemon about a packet; a full ring loses the telling, not more.
#[inline(always)]
pub fn emit<C: Copy>(
    context: *mut c_void,
    length: u32,
    ifindex: u32,
    scratch: &Scratch,
    verdict: Verdict,
) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return;
    };
    let event: *mut EventRecord = entry.as_mut_ptr();
    let captured = bounded(length);
    // SAFETY: the entry is ours until submitted and as large as the record.
    let complete = unsafe {
        (*event).ifindex = ifindex;
        (*event).mtu = scratch.mtu;
        (*event).length = length;
        (*event).captured = captured;
        (*event).reason = verdict.reason as u8;
        (*event).pad = 0;
        (*event).server = scratch.server;
        (*event).port = scratch.port as u16;
        C::copy(context, (&raw mut (*event).data).cast(), captured)
    };
    if complete {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
}

/// `length` within 1..=[`EVENT_BYTES`], so that the verifier can see it: the compiler compares in
/// 32 bits and passes 64, and kernel 6.1 learns nothing from a comparison with 0 by `!=`.
#[inline(always)]
fn bounded(length: u32) -> u32 {
    let mut bounded = length as u64;
    // SAFETY: arithmetic on one register.
    unsafe {
        asm!(
            "{l} <<= 32",
            "{l} >>= 32",
            "if {l} < {limit} goto +1",
            "{l} = {limit}",
            "if {l} > 0 goto +1",
            "{l} = 1",
            l = inout(reg) bounded,
            limit = const EVENT_BYTES,
        );
    }
    bounded as u32
}
