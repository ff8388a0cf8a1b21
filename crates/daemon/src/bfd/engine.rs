//! The thread that carries packets between BFD sessions and the kernel.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use pointsman_ha::bfd::{SessionConfig, SessionOutput, SessionRejection, Sessions, Spoken};
use pointsman_wire::{Control, bfd};

use super::socket::{Listener, Speaker};
use super::{BfdBoard, BfdStatus, Command, LeftSession, LeftSessions, LevelSender, locked};
use crate::chance;
use crate::ear::Ear;

/// How often the same complaint is logged, at most.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How often the board is written while nothing but counts changes, at most.
const PUBLISH: Duration = Duration::from_millis(500);
/// For how long a session that was up in a daemon before may be down before anybody is told: it begins
/// with a packet a second.
const GRACE: Duration = Duration::from_secs(4);
/// Sessions left longer ago are forgotten, seconds.
const LATE: f64 = 30.0;
/// Packets taken between two looks at timers, at most: whoever floods the port keeps nobody silent.
const BURST: usize = 256;
/// The longest wait without a deadline: nothing depends on it.
const IDLE: Duration = Duration::from_secs(3600);

/// Sessions, and what carries for them.
pub(super) struct Engine {
    sessions: Sessions,
    listeners: BTreeMap<bool, Listener>,
    speakers: BTreeMap<String, Speaker>,
    /// Ports from which sessions spoke in a daemon before.
    ports: BTreeMap<String, u16>,
    ear: Ear<Command>,
    tell: LevelSender,
    /// Sessions that were up in a daemon before and are not yet again; nobody was told.
    doubtful: BTreeSet<String>,
    /// Until when nobody is told.
    grace: Duration,
    board: BfdBoard,
    published: Option<Duration>,
    complaints: BTreeMap<(String, &'static str), Instant>,
}

impl Engine {
    pub(super) fn new(
        configs: &[SessionConfig],
        (left, age): (&LeftSessions, f64),
        ear: Ear<Command>,
        tell: LevelSender,
        board: BfdBoard,
    ) -> Result<Self> {
        let mut engine = Self {
            sessions: Sessions::default(),
            listeners: BTreeMap::new(),
            speakers: BTreeMap::new(),
            ports: BTreeMap::new(),
            ear,
            tell,
            doubtful: BTreeSet::new(),
            grace: now() + GRACE,
            board,
            published: None,
            complaints: BTreeMap::new(),
        };
        engine.prepare(configs)?;
        let mut levels = BTreeMap::new();
        for config in configs {
            let left = left.get(&config.name).filter(|_| age < LATE);
            let left = left.and_then(|left| Some((left, spoken(left)?)));
            let left = left.filter(|(left, _)| left.neighbor == config.neighbor);
            levels.insert(config.name.clone(), left.is_some());
            if let Some((left, _)) = left {
                engine.ports.insert(config.name.clone(), left.port);
                engine.doubtful.insert(config.name.clone());
            }
            // Later the other end has given up, and waits to hear that we have, too.
            let spoken = left.map(|(_, spoken)| spoken);
            let spoken = spoken.filter(|spoken| age < patience(spoken));
            let number = chance32();
            engine
                .sessions
                .add(config.clone(), spoken.as_ref(), now(), number);
        }
        engine.tell.send_replace(levels);
        engine.publish(now(), true);
        Ok(engine)
    }

    /// Carries until told to stop.
    pub(super) fn run(mut self) {
        // On a busy host a packet that comes late ends a session.
        if let Err(error) = pointsman_linux::urgency::make_urgent() {
            tracing::warn!(%error, "BFD sessions are no more urgent than anything else");
        }
        loop {
            let doubt = (!self.doubtful.is_empty()).then_some(self.grace);
            let deadlines = [self.sessions.poll_timeout(), doubt];
            let deadline = deadlines.into_iter().flatten().min();
            self.wait(deadline.map_or(IDLE, |at| at.saturating_sub(now())));
            // What came in goes before timers: who was heard is not silent.
            self.hear();
            if self.obey() {
                return;
            }
            self.sessions.handle_timeout(now(), chance32());
            let changed = self.carry();
            self.end_doubts();
            self.publish(now(), changed);
        }
    }

    fn wait(&self, timeout: Duration) {
        let mut fds = vec![PollFd::new(self.ear.as_fd(), PollFlags::POLLIN)];
        let listeners = self.listeners.values();
        fds.extend(listeners.map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)));
        // Rounded up: waking too early would spin.
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "can't wait for BFD packets"),
        }
    }

    fn hear(&mut self) {
        let mut complaints = Vec::new();
        for listener in self.listeners.values() {
            for _ in 0..BURST {
                let packet = match listener.receive() {
                    Ok(Some(packet)) => packet,
                    Ok(None) => break,
                    Err(error) => {
                        complaints.push((String::new(), "receive", error.to_string()));
                        break;
                    }
                };
                let (source, hop_limit) = (packet.source, packet.hop_limit);
                let handled = self.sessions.handle_packet(
                    &packet.payload,
                    source,
                    hop_limit,
                    now(),
                    chance32(),
                );
                if let Err(rejection) = handled {
                    let whose = match &rejection {
                        SessionRejection::HopLimit { session, .. } => session.clone(),
                        _ => String::new(),
                    };
                    let text = format!("a packet of {source} does not count: {rejection}");
                    complaints.push((whose, rejection.name(), text));
                }
            }
        }
        for (whose, what, text) in complaints {
            self.complain(whose, what, &text);
        }
    }

    /// Does what it is told; says whether that is to end.
    fn obey(&mut self) -> bool {
        self.ear.quiet();
        loop {
            match self.ear.next() {
                Ok(Command::Prepare(configs, answer)) => {
                    let _ = answer.send(self.prepare(&configs));
                }
                Ok(Command::Configure(configs, answer)) => {
                    self.configure(&configs);
                    let _ = answer.send(());
                }
                Ok(Command::Leave(answer)) => {
                    let _ = answer.send(self.left());
                    return true;
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    *locked(&self.board) = BfdStatus::default();
                    self.tell.send_replace(BTreeMap::new());
                    return true;
                }
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Opens the sockets that these sessions need and that are not there.
    fn prepare(&mut self, configs: &[SessionConfig]) -> Result<()> {
        for is_ipv6 in families(configs) {
            if let Entry::Vacant(place) = self.listeners.entry(is_ipv6) {
                let listener = Listener::open(is_ipv6).with_context(|| {
                    let family = if is_ipv6 { 6 } else { 4 };
                    format!("listening for BFD on UDP port {} of IPv{family}", bfd::PORT)
                })?;
                place.insert(listener);
            }
        }
        Ok(())
    }

    fn configure(&mut self, configs: &[SessionConfig]) {
        let families: Vec<bool> = families(configs).collect();
        self.listeners.retain(|family, _| families.contains(family));
        self.sessions.set_configs(configs, now(), chance32());
        self.speakers.retain(|name, speaker| {
            let config = configs.iter().find(|config| config.name == *name);
            config.is_some_and(|config| speaker.fits(config))
        });
        let levels: BTreeMap<String, bool> = {
            let before = self.tell.borrow();
            let sessions = self.sessions.iter();
            let levels = sessions.map(|session| {
                let name = session.config().name.clone();
                // What is new is down, also under an old name.
                let same = session.stats().received > 0 || self.doubtful.contains(&name);
                let up = session.is_up() || same && before.get(&name) == Some(&true);
                (name, up)
            });
            levels.collect()
        };
        self.tell.send_if_modified(|before| {
            let differs = *before != levels;
            *before = levels;
            differs
        });
        self.doubtful
            .retain(|name| configs.iter().any(|config| config.name == *name));
        self.publish(now(), true);
    }

    /// Does what the sessions want; says whether one went up or down.
    fn carry(&mut self) -> bool {
        let mut changed = false;
        while let Some((config, output)) = self.sessions.poll_output() {
            let name = config.name.clone();
            match output {
                SessionOutput::Send(packet) => {
                    let config = config.clone();
                    if let Err(error) = self.speak(&config, &packet) {
                        let text = format!("can't send to {}: {error}", config.neighbor);
                        self.complain(name, "send", &text);
                    }
                }
                SessionOutput::Up => {
                    tracing::info!(session = %name, "up");
                    self.doubtful.remove(&name);
                    self.set_level(name, true);
                    changed = true;
                }
                SessionOutput::Down {
                    diagnostic,
                    remote,
                    administrative,
                } => {
                    tracing::warn!(session = %name, %diagnostic, %remote, administrative, "down");
                    // Somebody wants it so; that says nothing about the path. Nor does what comes of a restart.
                    let doubtful = self.doubtful.contains(&name) && now() < self.grace;
                    if !administrative && !doubtful {
                        self.set_level(name, false);
                    }
                    changed = true;
                }
            }
        }
        changed
    }

    /// Tells of sessions that did not come again.
    fn end_doubts(&mut self) {
        if self.doubtful.is_empty() || now() < self.grace {
            return;
        }
        for name in std::mem::take(&mut self.doubtful) {
            let mut sessions = self.sessions.iter();
            if !sessions.any(|session| session.config().name == name && session.is_up()) {
                self.set_level(name, false);
            }
        }
    }

    fn set_level(&self, name: String, up: bool) {
        self.tell
            .send_if_modified(|levels| levels.insert(name, up) != Some(up));
    }

    fn speak(&mut self, config: &SessionConfig, packet: &Control) -> io::Result<()> {
        let speaker = match self.speakers.entry(config.name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            // An address that is not there yet may come.
            Entry::Vacant(place) => {
                let port = self.ports.get(&config.name).copied();
                place.insert(Speaker::open(config, port, chance32())?)
            }
        };
        speaker.send(&packet.bytes())
    }

    /// The sessions that are up, by which another daemon goes on.
    fn left(&self) -> LeftSessions {
        let up = self.sessions.iter().filter_map(|session| {
            let Spoken { ours, theirs } = session.spoken()?;
            let name = session.config().name.clone();
            let port = self.speakers.get(&name).and_then(Speaker::port);
            let left = LeftSession {
                neighbor: session.config().neighbor,
                ours: ours.bytes().to_vec(),
                theirs: theirs.bytes().to_vec(),
                port: port.unwrap_or(bfd::SOURCE_PORT),
            };
            Some((name, left))
        });
        up.collect()
    }

    fn publish(&mut self, now: Duration, changed: bool) {
        let is_due = self.published.is_none_or(|last| now >= last + PUBLISH);
        if changed || is_due {
            *locked(&self.board) = BfdStatus::of(&self.sessions);
            self.published = Some(now);
        }
    }

    /// Says what is wrong, now and then.
    fn complain(&mut self, session: String, what: &'static str, text: &str) {
        let now = Instant::now();
        let last = self.complaints.get(&(session.clone(), what));
        if last.is_none_or(|last| now.duration_since(*last) >= COMPLAIN) {
            tracing::warn!(%session, "{text}");
            self.complaints.insert((session, what), now);
        }
    }
}

/// What both ends of a session said last, if it can be read.
fn spoken(left: &LeftSession) -> Option<Spoken> {
    Some(Spoken {
        ours: Control::parse(&left.ours).ok()?,
        theirs: Control::parse(&left.theirs).ok()?,
    })
}

/// For how long the other end waits to hear of us, seconds.
fn patience(spoken: &Spoken) -> f64 {
    let Spoken { ours, theirs } = spoken;
    let interval = ours.desired_min_tx.max(theirs.required_min_rx);
    f64::from(ours.multiplier) * f64::from(interval) / 1e6
}

/// The families of the neighbors; true is IPv6.
fn families(configs: &[SessionConfig]) -> impl Iterator<Item = bool> {
    let has = |is_ipv6: bool| configs.iter().any(|c| c.neighbor.is_ipv6() == is_ipv6);
    [false, true]
        .into_iter()
        .filter(move |is_ipv6| has(*is_ipv6))
}

/// The time since the machine started, which goes on while it sleeps.
fn now() -> Duration {
    // The clock is always there.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

fn chance32() -> u32 {
    (chance::bits() >> 32) as u32
}
