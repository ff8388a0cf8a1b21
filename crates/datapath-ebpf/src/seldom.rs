//! What few packets need, as global functions: the verifier looks at each by itself, once, and not
//! on every path that leads to it.
//!
//! Their parameters are numbers and pointers to memory of the size of what they point to; the
//! verifier wants pointers compared with null. Kernel 6.1 does not take such memory for a key or
//! value of a map: keys are copied, and the scratch is looked up again.

use core::ptr;

use pointsman_director::{
    begin, connection, mark, persistence,
    record::{ConnectionRecord, FlowKey, NONE, ServiceRecord},
    schedule, sctp,
};

use crate::{env::Kernel, maps::SCRATCH, tables::Maps};

/// The kernel without a context: none of these asks for a route.
const KERNEL: Kernel = Kernel {
    context: ptr::null_mut(),
};

/// [`begin::choose`] on this processor's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn choose(now: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: this processor's own copy; the caller hands over the one it has.
    begin::choose(&Maps, &KERNEL, unsafe { &mut *scratch }, now)
}

/// [`mark::of`] the packet in this processor's scratch.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mark(ingress: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this processor's own copy, which the caller does not change meanwhile.
    mark::of(&Maps, &KERNEL, unsafe { &(*scratch).headers }, ingress)
}

/// [`schedule::schedule`] for the packet in this processor's scratch.
///
/// # Safety
///
/// The pointer is null or valid.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn schedule(service: *const ServiceRecord) -> u32 {
    // SAFETY: the caller's promise.
    let (Some(service), Some(scratch)) = (unsafe { service.as_ref() }, SCRATCH.get_ptr_mut(0))
    else {
        return NONE;
    };
    // SAFETY: this processor's own copy; the caller hands over the one it has.
    let scratch = unsafe { &mut *scratch };
    schedule::schedule(&Maps, &KERNEL, service, &scratch.headers, &mut scratch.room)
}

/// [`connection::retire`]; 1 for true.
///
/// # Safety
///
/// The pointers are null or valid.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn retire(
    key: *const FlowKey,
    connection: *const ConnectionRecord,
    forced: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    match unsafe { (key.as_ref(), connection.as_ref()) } {
        (Some(key), Some(connection)) => {
            let key = *key;
            u32::from(connection::retire(&Maps, &key, connection, forced != 0))
        }
        _ => 0,
    }
}

/// [`sctp::checksum_change`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn checksum_change(change: u32, length: u32) -> u32 {
    sctp::checksum_change(&KERNEL, change, length)
}

/// [`persistence::assure`].
///
/// # Safety
///
/// The pointers are null or valid.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn assure(key: *const FlowKey, connection: *const ConnectionRecord) -> u32 {
    // SAFETY: the caller's promise.
    if let (Some(key), Some(connection)) = unsafe { (key.as_ref(), connection.as_ref()) } {
        persistence::assure(&Maps, key, connection);
    }
    0
}
