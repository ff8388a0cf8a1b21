//! How much memory the kernel has at hand.

use std::{io, mem::zeroed};

/// Pages that are free or hold buffers, as IPVS looks at them to see whether memory is short.
///
/// # Errors
///
/// When the kernel does not say.
pub fn available_pages() -> io::Result<u64> {
    // SAFETY: all-zero bytes are a valid value of this plain C structure.
    let mut info: libc::sysinfo = unsafe { zeroed() };
    // SAFETY: the structure is ours, and of the type that the call fills.
    if unsafe { libc::sysinfo(&raw mut info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let units = info.freeram.saturating_add(info.bufferram);
    let bytes = units.saturating_mul(info.mem_unit.into());
    Ok(bytes / u64::try_from(page).unwrap_or(4096).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_pages_are_free_and_fewer_than_there_are() {
        let total = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
        let pages = available_pages().unwrap();
        assert!(pages > 0 && pages < total / 4, "{pages} of {total} KiB");
    }
}
