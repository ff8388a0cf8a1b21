//! A service manager as a daemon sees it: a socket that is told how it is.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a daemon may take to say something, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told to `NOTIFY_SOCKET`.
pub(crate) struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Listens in a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, path }
    }

    /// Has a program talk to it; with a watchdog, if there is a time.
    pub(crate) fn attend(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
    }

    /// The next message within a time, none if there is none.
    pub(crate) fn next(&self, within: Duration) -> Option<String> {
        let within = within.max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(within))
            .expect("a timeout");
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8_lossy(&message[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message that has a line; returns all of it.
    pub(crate) fn wait_for(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {line}");
            if let Some(message) = self.next(left)
                && message.lines().any(|said| said == line)
            {
                return message;
            }
        }
    }

    /// Forgets what was said so far.
    pub(crate) fn forget(&self) {
        while self.next(Duration::ZERO).is_some() {}
    }
}
