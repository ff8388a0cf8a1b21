//! A kernel with IPVS, as far as keepalived asks before it shows its configuration.
//!
//! Loaded before keepalived's libraries, it takes the socket options of IPVS, which kernels without the
//! module don't know, and lets everything else through.

use std::ffi::{c_int, c_long, c_void};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const CALLS: [c_long; 2] = [54, 55];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [c_long; 2] = [208, 209];
const SOL_IP: c_int = 0;
/// The kernel's IP_VS_BASE_CTL (64 + 1024 + 64) and what follows it.
const IPVS: std::ops::Range<c_int> = 1152..1280;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: u32,
) -> c_int {
    if level == SOL_IP && IPVS.contains(&name) {
        return 0;
    }
    // SAFETY: the caller's own arguments.
    unsafe { syscall(CALLS[0], socket, level, name, value, length) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut u32,
) -> c_int {
    if level == SOL_IP && IPVS.contains(&name) {
        // SAFETY: the caller says how much room there is.
        unsafe { value.cast::<u8>().write_bytes(0, *length as usize) };
        return 0;
    }
    // SAFETY: the caller's own arguments.
    unsafe { syscall(CALLS[1], socket, level, name, value, length) as c_int }
}
