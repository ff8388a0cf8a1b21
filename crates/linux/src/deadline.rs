//! Waiting for a file descriptor until a point in time.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The moment a wait gives up; `None` inside means never.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Makes the deadline `timeout` from now; a timeout past the clock's range never ends.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Waits until `fd` has something to read (or an error to report); false when time is up.
    ///
    /// Looks at least once, so a zero timeout is a plain readiness check.
    pub(crate) fn wait_readable(self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        self.wait(fd, PollFlags::POLLIN)
    }

    /// Waits until `fd` has room to write; false when time is up.
    pub(crate) fn wait_writable(self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        self.wait(fd, PollFlags::POLLOUT)
    }

    fn wait(self, fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<bool> {
        loop {
            let left = self
                .0
                .map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = match left {
                None => PollTimeout::NONE,
                // Rounded up: polling with zero milliseconds until the deadline would spin.
                Some(left) => PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000))
                    .unwrap_or(PollTimeout::MAX),
            };
            let mut fds = [PollFd::new(fd, flags)];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
