//! How urgent the work of a thread is.

use std::io;

/// The most urgent of ordinary threads.
const MOST: i32 = -20;

/// Lets the calling thread run before others that are ready, as `nice -20` does; threads that it
/// starts are as urgent.
pub fn make_urgent() -> io::Result<()> {
    // SAFETY: the call takes no pointers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, MOST) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
