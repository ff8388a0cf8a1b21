//! Several captures, read together.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Capture, Error, Frame};

/// Frames read of one capture before the next one has its turn.
const TURN: usize = 256;

/// Captures of several interfaces, wherever they are.
#[derive(Debug, Default)]
pub struct Captures {
    captures: Vec<Capture>,
}

impl Captures {
    /// Joins captures; each is known by its place in the list.
    pub fn new(captures: Vec<Capture>) -> Self {
        Self { captures }
    }

    /// Hands over the frames that are there, and waits for some if there are none, at most `timeout`
    /// or until one of `wake` can be read. True when there may be more at once.
    ///
    /// An interface that goes down or away is no error: its frames just end.
    pub fn read<'a>(
        &mut self,
        timeout: Duration,
        wake: impl IntoIterator<Item = BorrowedFd<'a>>,
        mut take: impl FnMut(usize, Frame),
    ) -> Result<bool, Error> {
        let mut waiting: Vec<PollFd<'_>> = self
            .captures
            .iter()
            .map(|capture| PollFd::new(capture.as_fd(), PollFlags::POLLIN))
            .collect();
        waiting.extend(
            wake.into_iter()
                .map(|wake| PollFd::new(wake, PollFlags::POLLIN)),
        );
        let limit = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, limit) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => {
                return Err(Error::Call {
                    call: "poll",
                    interface: "of several".to_owned(),
                    source: errno.into(),
                });
            }
        }
        let ready: Vec<bool> = waiting
            .iter()
            .take(self.captures.len())
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        drop(waiting);
        let mut more = false;
        for (at, capture) in self.captures.iter_mut().enumerate() {
            if !ready[at] {
                continue;
            }
            let mut turn = TURN;
            while turn > 0 {
                match capture.next(Duration::ZERO) {
                    Ok(Some(frame)) => take(at, frame),
                    Ok(None) | Err(Error::Down { .. } | Error::NoSuchInterface { .. }) => break,
                    Err(error) => return Err(error),
                }
                turn -= 1;
            }
            more |= turn == 0;
        }
        Ok(more)
    }

    /// Frames that each capture lost since it was opened.
    pub fn dropped(&mut self) -> Vec<u64> {
        let counts = self.captures.iter_mut().map(Capture::statistics);
        counts
            .map(|counts| counts.map_or(0, |counts| counts.dropped))
            .collect()
    }
}
