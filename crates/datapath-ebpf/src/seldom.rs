//! What few packets need, as global functions: the verifier looks at each by itself, once, and not
//! on every path that leads to it.
//!
//! Their parameters are numbers and pointers to memory of the size of what they point to; the
//! verifier wants pointers compared with null.

use core::ptr;

use pointsman_director::{
    Scratch, begin, connection, persistence,
    record::{ConnectionRecord, FlowKey},
};

use crate::{env::Kernel, tables::Maps};

/// The kernel without a context: none of these asks for a route.
const KERNEL: Kernel = Kernel {
    context: ptr::null_mut(),
};

/// [`begin::choose`].
///
/// # Safety
///
/// `scratch` is null or valid and nobody else's.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn choose(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: the caller's promise.
    match unsafe { scratch.as_mut() } {
        Some(scratch) => begin::choose(&Maps, &KERNEL, scratch, now),
        None => 1,
    }
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
            u32::from(connection::retire(&Maps, key, connection, forced != 0))
        }
        _ => 0,
    }
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
