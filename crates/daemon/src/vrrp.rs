//! Virtual routers in the network: their sockets, addresses, scripts and what they track.
//!
//! What is decided is in [`pointsman_ha::vrrp`]. Here a thread of its own carries datagrams, frames and
//! addresses between it and the kernel, so that no other work of the daemon makes an advertisement
//! late; [`hooks`] tells scripts and FIFOs, [`track`] watches what moves priorities.

mod elsewhere;
mod engine;
mod farewell;
mod holding;
pub mod hooks;
mod host;
pub mod inquiry;
mod item;
mod parameters;
pub mod process;
mod refusal;
mod surroundings;
pub mod track;
mod vmac;
mod watch;
mod will;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_ha::vrrp::{Notice, Reading, RouterConfig, RouterStats, State, VirtualRouter};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::ear::{Mouth, ear};

pub use engine::INTERFACE_TRACKER;
pub use farewell::Farewell;
pub use holding::Holding;
pub use item::{Item, RouteItem, RuleItem};
pub use refusal::RefusalConfig;
pub use vmac::Vmac;
pub use watch::{VERIFY_TRACKER, Verification};

/// What all virtual routers of this host are told to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VrrpConfig {
    /// The virtual routers.
    pub instances: Vec<Instance>,
    /// The sync groups.
    pub groups: Vec<Group>,
    /// What this host has whoever is master.
    pub statics: Vec<Item>,
    /// For how long after the start nothing is sent or taken over (`vrrp_startup_delay`).
    pub startup_delay: Duration,
    /// The rules of masters that accept nothing at their addresses.
    pub refusal: RefusalConfig,
}

/// A virtual router, and what the kernel has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What it is.
    pub router: RouterConfig,
    /// How each of its addresses is held; one without is held by its interface as a host address.
    pub holdings: Vec<Holding>,
    /// Routes and rules that come and go with them.
    pub items: Vec<Item>,
    /// True when other addresses of its interface stay though the first one of their network goes.
    pub promote_secondaries: bool,
    /// The address it sends from, if not the interface's first one (`mcast_src_ip`, `unicast_src_ip`).
    pub source: Option<std::net::IpAddr>,
    /// False when it goes on while its interface is down (`dont_track_primary`).
    pub track_interface: bool,
    /// Its own link-layer address, if it has one (`use_vmac`).
    pub vmac: Option<Vmac>,
    /// Time between announcements of addresses that other interfaces have (`garp_extra_if all`); 0 for none.
    pub elsewhere: Duration,
    /// True when the master accepts nothing at its addresses (`no_accept`).
    pub refuses: bool,
    /// How it finds out whether its addresses are believed (`verify_vip`).
    pub verification: Option<Verification>,
}

/// A sync group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Names of its virtual routers.
    pub members: Vec<String>,
    /// True when members' weighted trackers count.
    pub tracking_weight: bool,
}

/// Where others read how virtual routers are.
pub type Board = Arc<Mutex<Vec<RouterStatus>>>;

/// What a daemon that leaves its virtual routers leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Names of the virtual routers that are master.
    pub masters: BTreeSet<String>,
    /// Interfaces' numbers, their virtual addresses, and the networks' lengths in bits.
    pub held: Vec<(u32, std::net::IpAddr, u8)>,
    /// Peers of those that have one.
    #[serde(default)]
    pub peers: BTreeMap<std::net::IpAddr, std::net::IpAddr>,
    /// Static addresses, routes and rules, in the order in which they came.
    #[serde(default)]
    pub items: Vec<Item>,
    /// Names of interfaces of virtual link-layer addresses.
    #[serde(default)]
    pub vmacs: Vec<String>,
    /// Kernel parameters that were changed for them, as they were.
    #[serde(default)]
    pub changed: BTreeMap<String, String>,
    /// True while tables of nftables drop what comes to some of the addresses.
    #[serde(default)]
    pub refuses: bool,
    /// What trackers found last.
    #[serde(default)]
    pub readings: BTreeMap<String, Found>,
    /// What its masters would say if they stopped.
    #[serde(default)]
    pub farewells: Vec<Farewell>,
}

/// What a tracker found, to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// The number in a file.
    Number(i32),
}

impl From<Reading> for Found {
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Up => Self::Up,
            Reading::Down => Self::Down,
            Reading::Number(number) => Self::Number(number),
        }
    }
}

impl From<Found> for Reading {
    fn from(found: Found) -> Self {
        match found {
            Found::Up => Self::Up,
            Found::Down => Self::Down,
            Found::Number(number) => Self::Number(number),
        }
    }
}

/// How a virtual router is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterStatus {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Virtual router id.
    pub vrid: u8,
    /// `INIT`, `FAULT`, `BACKUP` or `MASTER`.
    pub state: String,
    /// Its priority, tracking included.
    pub priority: u8,
    /// The master it knows, while backup.
    pub master: Option<std::net::IpAddr>,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The interval that counts, milliseconds.
    pub interval_ms: u64,
    /// Advertisements that counted.
    pub received: u64,
    /// Advertisements sent.
    pub sent: u64,
    /// Times it became master.
    pub became_master: u64,
    /// Times it ceased to be master.
    pub released_master: u64,
    /// Advertisements received from a master that stopped.
    pub zero_received: u64,
    /// Advertisements sent because it stopped.
    pub zero_sent: u64,
    /// Times the host must have been paused.
    pub pauses: u64,
    /// Advertisements that did not count, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Whether the segment believes that it has its addresses (`verify_vip`); unknown without.
    #[serde(default)]
    pub believed: Option<bool>,
    /// Another router that goes on saying that it is master, while this one is.
    #[serde(default)]
    pub rival: Option<std::net::IpAddr>,
}

impl RouterStatus {
    fn of(router: &VirtualRouter, believed: Option<bool>) -> Self {
        let config = router.config();
        let RouterStats {
            received,
            sent,
            became_master,
            released_master,
            zero_received,
            zero_sent,
            pauses,
            rejected,
        } = router.stats().clone();
        Self {
            name: config.name.clone(),
            interface: config.interface.clone(),
            vrid: config.vrid,
            state: state_name(router.state()).to_owned(),
            priority: router.priority(),
            master: router.master(),
            addresses: config.addresses.clone(),
            interval_ms: u64::try_from(router.interval().as_millis()).unwrap_or(u64::MAX),
            received,
            sent,
            became_master,
            released_master,
            zero_received,
            zero_sent,
            pauses,
            rejected: rejected
                .into_iter()
                .map(|(why, n)| (why.to_owned(), n))
                .collect(),
            believed,
            rival: router.rival(),
        }
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Initialize => "INIT",
        State::Fault => "FAULT",
        State::Backup => "BACKUP",
        State::Master => "MASTER",
    }
}

/// What the virtual routers' thread is told.
#[derive(Debug)]
enum Command {
    /// What a tracker found.
    Reading(String, Reading),
    /// Kernel parameters that an earlier daemon changed, as they were.
    Inherit(BTreeMap<String, String>),
    /// A new configuration, whom to tell from then on, and where to say whether it was taken.
    Configure(Box<VrrpConfig>, UnboundedSender<Notice>, Sender<Result<()>>),
    /// To say what everything is.
    States(oneshot::Sender<Vec<Notice>>),
    /// Whom to tell what would be left, each time that it is something else.
    Remember(UnboundedSender<Left>),
    /// To end and leave everything as it is; what is left is wanted.
    Leave(Sender<Left>),
    /// To give everything back and end.
    Stop,
}

/// The virtual routers of this host, at work. Dropped, they stop as [`Vrrp::stop`] does.
#[derive(Debug)]
pub struct Vrrp {
    remote: Remote,
    thread: Option<JoinHandle<()>>,
    status: Board,
}

/// How other threads talk to the virtual routers.
#[derive(Debug, Clone)]
pub struct Remote {
    commands: Mouth<Command>,
}

impl Remote {
    /// Tells what a tracker found.
    pub fn read(&self, tracker: &str, reading: Reading) {
        self.send(Command::Reading(tracker.to_owned(), reading));
    }

    /// Has kernel parameters put back at the end that an earlier daemon changed; these are their values
    /// before.
    pub fn inherit(&self, changed: &BTreeMap<String, String>) {
        if !changed.is_empty() {
            self.send(Command::Inherit(changed.clone()));
        }
    }

    /// What each virtual router and group is, as notices would say; the answer shows that the thread is at
    /// work.
    pub fn ask_states(&self) -> oneshot::Receiver<Vec<Notice>> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::States(answer));
        answered
    }

    /// Has `heir` told what is left if the daemon dies now, now and each time that it changes.
    pub fn bequeath(&self, heir: UnboundedSender<Left>) {
        self.send(Command::Remember(heir));
    }

    fn send(&self, command: Command) {
        self.commands.send(command);
    }
}

impl VrrpConfig {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.statics.is_empty()
    }
}

impl Vrrp {
    /// Begins: looks at the interfaces, takes away addresses that an earlier daemon left, and takes
    /// part. What happens is told to `notices`, how things are is on the board. The virtual routers named in `resume` were master in a
    /// daemon that [left](Self::leave) before anybody else could take them for down, and still are.
    ///
    /// Works in the calling thread's network namespace.
    pub fn start(
        config: &VrrpConfig,
        resume: &BTreeSet<String>,
        notices: UnboundedSender<Notice>,
        status: Board,
    ) -> Result<Self> {
        let (commands, ear) = ear().context("a pair of sockets")?;
        let engine = engine::Engine::new(config, resume, ear, notices, Arc::clone(&status))?;
        let thread = thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || engine.run())
            .context("starting a thread")?;
        Ok(Self {
            remote: Remote { commands },
            thread: Some(thread),
            status,
        })
    }

    /// How others talk to the virtual routers.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Gives the virtual routers a new configuration: what stays the same goes on as it is. With an
    /// error nothing has changed. From then on `notices` is told what happens.
    pub fn set_config(&self, config: &VrrpConfig, notices: UnboundedSender<Notice>) -> Result<()> {
        let (answer, answered) = channel();
        let config = Box::new(config.clone());
        self.remote
            .send(Command::Configure(config, notices, answer));
        answered.recv().context("the virtual routers have ended")?
    }

    /// How the virtual routers are.
    pub fn status(&self) -> Vec<RouterStatus> {
        let status = self.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread and leaves everything as it is; tells what that is.
    pub fn leave(mut self) -> Left {
        let (answer, answered) = channel();
        self.remote.send(Command::Leave(answer));
        let left = answered.recv().unwrap_or_default();
        self.join();
        left
    }

    /// Says that this host stops, gives the addresses back and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.remote.send(Command::Stop);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the virtual routers ended badly");
        }
    }
}

impl Drop for Vrrp {
    fn drop(&mut self) {
        self.end();
    }
}
