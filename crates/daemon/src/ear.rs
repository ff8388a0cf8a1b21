//! Commands for a thread that waits in `poll`: a queue, and a socket that wakes it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// Where others speak.
#[derive(Debug)]
pub(crate) struct Mouth<C> {
    commands: Sender<C>,
    wake: Arc<UnixStream>,
}

/// What the thread hears with; readable when there may be commands.
#[derive(Debug)]
pub(crate) struct Ear<C> {
    commands: Receiver<C>,
    wake: UnixStream,
}

/// Both ends.
///
/// # Errors
///
/// Without a pair of sockets.
pub(crate) fn ear<C>() -> io::Result<(Mouth<C>, Ear<C>)> {
    let (sender, commands) = channel();
    let (wake, woken) = UnixStream::pair()?;
    for socket in [&wake, &woken] {
        socket.set_nonblocking(true)?;
    }
    let mouth = Mouth {
        commands: sender,
        wake: Arc::new(wake),
    };
    let ear = Ear {
        commands,
        wake: woken,
    };
    Ok((mouth, ear))
}

// Derived, it would want commands that can be cloned.
impl<C> Clone for Mouth<C> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<C> Mouth<C> {
    /// Sends a command. Without a listener nobody needs it any more.
    pub(crate) fn send(&self, command: C) {
        if self.commands.send(command).is_ok() {
            // A full socket is awake already.
            let _ = (&*self.wake).write(&[0]);
        }
    }
}

impl<C> Ear<C> {
    /// Empties the socket that wakes the thread.
    pub(crate) fn quiet(&mut self) {
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = self.wake.read(&mut bytes) {
            if length < bytes.len() {
                break;
            }
        }
    }

    /// The next command that is there.
    pub(crate) fn next(&self) -> Result<C, TryRecvError> {
        self.commands.try_recv()
    }
}

impl<C> AsFd for Ear<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
