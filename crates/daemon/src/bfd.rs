//! BFD sessions in the network: their sockets, and who is told that a neighbor is there.
//!
//! What is decided is in [`pointsman_ha::bfd`]. Here a thread of its own carries packets between it and
//! the kernel, so that no other work of the daemon makes a packet late; [`Levels`] tell virtual routers
//! and checks of real servers which sessions are up.

mod engine;
mod socket;
mod status;
mod tracker;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use pointsman_ha::bfd::SessionConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ear::{Mouth, ear};

pub use status::{BfdStatus, SessionStatus};
pub use tracker::BfdTracker;

/// Which sessions are up, as those are told who depend on them; a neighbor that is down because somebody
/// wants it so leaves its level as it was.
pub type Levels = watch::Receiver<BTreeMap<String, bool>>;

/// Where the sessions say that.
pub type LevelSender = watch::Sender<BTreeMap<String, bool>>;

/// Where others read how the sessions are.
pub type BfdBoard = Arc<Mutex<BfdStatus>>;

/// What a daemon that leaves its sessions leaves behind: by name, what both ends said last, and the port
/// that this one sends from.
pub type LeftSessions = BTreeMap<String, LeftSession>;

/// A session that was up when it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftSession {
    /// The other end.
    pub neighbor: IpAddr,
    /// The packet that this end would send.
    pub ours: Vec<u8>,
    /// The last packet of the other end.
    pub theirs: Vec<u8>,
    /// The port from which it sends.
    pub port: u16,
}

/// What the thread of the sessions is told.
#[derive(Debug)]
enum Command {
    /// To open what these sessions need, and where to say whether that can be.
    Prepare(Vec<SessionConfig>, Sender<Result<()>>),
    /// Other sessions, for which all has been prepared, and where to say that they were taken.
    Configure(Vec<SessionConfig>, Sender<()>),
    /// To end; what is left is wanted.
    Leave(Sender<LeftSessions>),
    /// To end.
    Stop,
}

/// The BFD sessions of this host, at work. Dropped, they fall silent, which others notice in their time.
#[derive(Debug)]
pub struct Bfd {
    commands: Mouth<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Bfd {
    /// Begins in the calling thread's network namespace. Sessions that another daemon left so many seconds
    /// ago go on, or begin anew before anybody is told that they were down.
    pub fn start(
        configs: &[SessionConfig],
        (left, age): (&LeftSessions, f64),
        tell: LevelSender,
        board: BfdBoard,
    ) -> Result<Self> {
        let (commands, ear) = ear().context("a pair of sockets")?;
        let engine = engine::Engine::new(configs, (left, age), ear, tell, board)?;
        let thread = thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || engine.run())
            .context("starting a thread")?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Opens what these sessions need; with an error they can't be.
    pub fn prepare(&self, configs: &[SessionConfig]) -> Result<()> {
        let (answer, answered) = channel();
        self.send(Command::Prepare(configs.to_vec(), answer));
        answered.recv().context("the BFD sessions have ended")?
    }

    /// Takes other sessions, which were [prepared](Self::prepare): those of the same ends go on.
    pub fn set_config(&self, configs: &[SessionConfig]) {
        let (answer, answered) = channel();
        self.send(Command::Configure(configs.to_vec(), answer));
        if answered.recv().is_err() {
            tracing::error!("the BFD sessions have ended");
        }
    }

    /// Ends the thread; tells by what another can go on.
    pub fn leave(mut self) -> LeftSessions {
        let (answer, answered) = channel();
        self.send(Command::Leave(answer));
        let left = answered.recv().unwrap_or_default();
        self.end();
        left
    }

    fn send(&self, command: Command) {
        self.commands.send(command);
    }

    fn end(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the BFD sessions ended badly");
        }
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.end();
    }
}

/// The board's content, whoever panicked with it.
fn locked(board: &Mutex<BfdStatus>) -> std::sync::MutexGuard<'_, BfdStatus> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
