//! One BFD session.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pointsman_wire::control::{BfdState, Control, Diagnostic};

use super::config::{SessionConfig, micros};

/// What a session wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutput {
    /// Send this to the neighbor.
    Send(Control),
    /// The session is up.
    Up,
    /// The session was up and is down.
    Down {
        /// Why, as this end sees it.
        diagnostic: Diagnostic,
        /// What the other end said last.
        remote: Diagnostic,
        /// True when somebody wants one of the ends down: the path may well be there (RFC 5882, section 3.2).
        administrative: bool,
    },
}

/// What a session has counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionStats {
    /// Packets received that counted.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Times it went up.
    pub ups: u64,
    /// Times it went down.
    pub downs: u64,
    /// Times the host must have been paused.
    pub pauses: u64,
    /// Packets that did not count, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// What both ends said last, by which a session goes on in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// This end.
    pub ours: Control,
    /// The other end.
    pub theirs: Control,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    discriminator: u32,
    state: BfdState,
    diagnostic: Diagnostic,
    /// What the other end said last, if it is still believed to be there.
    heard: Option<Control>,
    /// The interval by which it sends, microseconds: what it asks for, or less until a poll has ended.
    tx: u32,
    /// The interval by which it expects packets, microseconds: what it asks for, or more until a poll has ended.
    rx: u32,
    /// The interval by which the other end sends, microseconds.
    remote_tx: u32,
    /// The least interval by which the other end wants to receive, microseconds.
    remote_rx: u32,
    poll: bool,
    sends_at: Option<Duration>,
    expires_at: Option<Duration>,
    /// True when it was paused since it heard something.
    excused: bool,
    stats: SessionStats,
    outputs: VecDeque<SessionOutput>,
}

impl Session {
    /// A session that has heard nothing; its own number must not be 0.
    pub fn new(config: SessionConfig, discriminator: u32, now: Duration) -> Self {
        let mut session = Self {
            discriminator: discriminator.max(1),
            state: BfdState::Down,
            diagnostic: Diagnostic::NONE,
            heard: None,
            tx: 0,
            rx: micros(config.min_rx),
            remote_tx: 0,
            remote_rx: 1,
            poll: false,
            sends_at: Some(now),
            expires_at: None,
            excused: false,
            stats: SessionStats::default(),
            outputs: VecDeque::new(),
            config,
        };
        session.tx = session.desired_tx();
        session.sends_at = session.speaks().then_some(now);
        session
    }

    /// A session that was up in another process, which said and heard this last. The silence since then was
    /// its own: it waits as long for the other end as if it had just heard it.
    pub fn resume(config: SessionConfig, spoken: &Spoken, now: Duration) -> Self {
        let Spoken { ours, theirs } = spoken;
        let mut session = Self::new(config, ours.my_discriminator, now);
        if ours.state != BfdState::Up || theirs.state == BfdState::AdminDown {
            return session;
        }
        session.state = BfdState::Up;
        session.diagnostic = ours.diagnostic;
        session.heard = Some(*theirs);
        session.remote_tx = theirs.desired_min_tx;
        session.remote_rx = theirs.required_min_rx;
        session.tx = ours.desired_min_tx.min(session.desired_tx());
        session.rx = ours.required_min_rx.max(session.rx);
        session.poll = true;
        session.sends_at = session.speaks().then_some(now);
        session.expires_at = Some(now + session.detection_time());
        session
    }

    /// What it is told to be.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Its own number.
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Its state.
    pub fn state(&self) -> BfdState {
        self.state
    }

    /// True while both ends hear each other.
    pub fn is_up(&self) -> bool {
        self.state == BfdState::Up
    }

    /// Why it went down the last time.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the other end said last; none while nothing is heard.
    pub fn heard(&self) -> Option<&Control> {
        self.heard.as_ref()
    }

    /// What it has counted.
    pub fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// What both ends said last, while the session is up.
    pub fn spoken(&self) -> Option<Spoken> {
        let theirs = self.heard.filter(|_| self.is_up())?;
        let ours = self.packet(false);
        Some(Spoken { ours, theirs })
    }

    /// The interval by which it sends, before chance shortens it.
    pub fn interval(&self) -> Duration {
        Duration::from_micros(self.tx.max(self.remote_rx).into())
    }

    /// How long the other end may be silent.
    pub fn detection_time(&self) -> Duration {
        let multiplier = self.heard.map_or(0, |heard| heard.multiplier);
        self.remote_interval() * u32::from(multiplier)
    }

    fn remote_interval(&self) -> Duration {
        Duration::from_micros(self.rx.max(self.remote_tx).into())
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadlines = [self.sends_at, self.expires_at];
        deadlines.into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    /// Counts a packet that did not count.
    pub(super) fn reject(&mut self, why: &'static str) {
        *self.stats.rejected.entry(why).or_default() += 1;
    }

    /// Takes a packet that is for it; `chance` of 2^32 shortens the next interval.
    pub fn handle_packet(&mut self, packet: &Control, now: Duration, chance: u32) {
        if self.state == BfdState::AdminDown {
            return self.reject("admin-down");
        }
        self.stats.received += 1;
        let before = self.interval();
        // While the other end polls it may not yet send as often as it says: it waits for the answer.
        let hastens = packet.poll && packet.desired_min_tx < self.remote_tx;
        if !hastens {
            self.remote_tx = packet.desired_min_tx;
        }
        self.remote_rx = packet.required_min_rx;
        self.heard = Some(*packet);
        self.excused = false;
        if packet.is_final && std::mem::take(&mut self.poll) {
            self.tx = self.desired_tx();
            self.rx = micros(self.config.min_rx);
        }
        let changed = self.follow(packet.state);
        self.expires_at = Some(now + self.detection_time());
        if packet.poll {
            self.send(true);
        }
        if changed && (self.poll || !packet.poll) && self.speaks() {
            // What is new is said at once (section 6.8.7).
            self.send(false);
            self.sends_at = Some(now + self.jittered(chance));
        }
        self.schedule(before, now, chance);
    }

    /// Does what is due; `chance` of 2^32 shortens the next interval.
    pub fn handle_timeout(&mut self, now: Duration, chance: u32) {
        if let Some(expires) = self.expires_at.filter(|at| *at <= now) {
            self.handle_silence(now, now - expires);
        }
        if !self.speaks() {
            self.sends_at = None;
        } else if self.sends_at.is_none_or(|at| at <= now) {
            self.send(false);
            self.sends_at = Some(now + self.jittered(chance));
        }
    }

    /// Has it down on purpose, or not any more (section 6.8.16).
    pub fn set_admin_down(&mut self, down: bool, now: Duration) {
        match (down, self.state) {
            (true, BfdState::AdminDown) => return,
            (true, _) => {
                self.leave(BfdState::AdminDown, Diagnostic::ADMIN_DOWN, true);
                self.expires_at = None;
            }
            (false, BfdState::AdminDown) => {
                self.state = BfdState::Down;
                self.forget();
            }
            (false, _) => return,
        }
        self.sends_at = self.speaks().then_some(now);
    }

    /// Takes another configuration of the same ends. An up session stays up: the other end is asked whether
    /// it has heard before anything slows down.
    pub fn set_config(&mut self, config: SessionConfig, now: Duration, chance: u32) {
        let before = self.interval();
        let asked = (self.desired_tx(), micros(self.config.min_rx));
        self.config = config;
        let asks = (self.desired_tx(), micros(self.config.min_rx));
        if !self.is_up() {
            (self.tx, self.rx) = asks;
        } else if asked != asks {
            self.tx = self.tx.min(asks.0);
            self.rx = self.rx.max(asks.1);
            self.poll = true;
            self.sends_at = Some(now);
        }
        if self.heard.is_some() {
            let expires = now + self.detection_time();
            self.expires_at = self.expires_at.map(|at| at.max(expires));
        }
        self.schedule(before, now, chance);
    }

    /// Goes where a packet in this state leads (section 6.8.6); says whether that is somewhere else.
    fn follow(&mut self, remote: BfdState) -> bool {
        use BfdState::{AdminDown, Down, Init, Up};
        let next = match (self.state, remote) {
            (_, AdminDown) => Down,
            (Down, Down) => Init,
            (Down, Init) | (Init, Init | Up) => Up,
            (Up, Down) => Down,
            (state, _) => state,
        };
        if next == self.state {
            return false;
        }
        if next == Down {
            self.leave(Down, Diagnostic::NEIGHBOR_DOWN, remote == AdminDown);
            return true;
        }
        self.state = next;
        self.diagnostic = Diagnostic::NONE;
        if next == Up {
            self.stats.ups += 1;
            self.tx = self.tx.min(self.desired_tx());
            self.poll = true;
            self.outputs.push_back(SessionOutput::Up);
        }
        true
    }

    fn leave(&mut self, state: BfdState, diagnostic: Diagnostic, administrative: bool) {
        let was_up = self.is_up();
        self.state = state;
        self.diagnostic = diagnostic;
        self.poll = false;
        self.tx = self.desired_tx();
        self.rx = micros(self.config.min_rx);
        if was_up {
            self.stats.downs += 1;
            self.outputs.push_back(SessionOutput::Down {
                diagnostic,
                remote: self
                    .heard
                    .map_or(Diagnostic::NONE, |heard| heard.diagnostic),
                administrative,
            });
        }
    }

    /// The other end was silent for the detection time, or this one was paused so long ago as `late`.
    fn handle_silence(&mut self, now: Duration, late: Duration) {
        let grace = self.remote_interval();
        if late > grace && self.is_up() && !std::mem::replace(&mut self.excused, true) {
            // What would have come in meanwhile may still be on its way.
            self.stats.pauses += 1;
            self.expires_at = Some(now + grace);
            return;
        }
        if matches!(self.state, BfdState::Init | BfdState::Up) {
            self.leave(BfdState::Down, Diagnostic::EXPIRED, false);
            self.sends_at = Some(now);
        }
        self.forget();
    }

    /// Nothing is known of the other end any more (`bfd.RemoteDiscr`, section 6.8.1).
    fn forget(&mut self) {
        self.heard = None;
        self.expires_at = None;
        self.remote_tx = 0;
        self.remote_rx = 1;
    }

    /// What it asks for as its interval, microseconds.
    fn desired_tx(&self) -> u32 {
        micros(match self.state {
            BfdState::Up => self.config.min_tx,
            _ => self.config.idle_tx.max(SessionConfig::SLOW),
        })
    }

    /// Whether it sends without being asked (section 6.8.7).
    fn speaks(&self) -> bool {
        let rests = |heard: &Control| heard.demand && heard.state == BfdState::Up && !self.poll;
        match &self.heard {
            None => !self.config.passive,
            Some(heard) => self.remote_rx != 0 && !(self.is_up() && rests(heard)),
        }
    }

    /// Moves the next packet where the interval has become shorter.
    fn schedule(&mut self, before: Duration, now: Duration, chance: u32) {
        if !self.speaks() {
            self.sends_at = None;
            return;
        }
        let next = now + self.jittered(chance);
        self.sends_at = Some(match self.sends_at {
            Some(at) if self.interval() >= before => at,
            Some(at) => at.min(next),
            None => next,
        });
    }

    /// The interval less 0 to 25 %, less 10 to 25 % where no packet may be lost (section 6.8.7).
    fn jittered(&self, chance: u32) -> Duration {
        let interval = self.tx.max(self.remote_rx);
        let (least, most) = match self.config.multiplier {
            1 => (interval / 10, interval / 4),
            _ => (0, interval / 4),
        };
        let spread = (u64::from(most - least) * u64::from(chance)) >> 32;
        let less = least + u32::try_from(spread).unwrap_or(0);
        Duration::from_micros((interval - less).into())
    }

    fn send(&mut self, is_final: bool) {
        self.stats.sent += 1;
        let packet = self.packet(is_final);
        self.outputs.push_back(SessionOutput::Send(packet));
    }

    fn packet(&self, is_final: bool) -> Control {
        Control {
            state: self.state,
            diagnostic: self.diagnostic,
            poll: self.poll && !is_final,
            is_final,
            independent: false,
            demand: false,
            multiplier: self.config.multiplier.max(1),
            my_discriminator: self.discriminator,
            your_discriminator: self.heard.map_or(0, |heard| heard.my_discriminator),
            desired_min_tx: self.desired_tx(),
            required_min_rx: micros(self.config.min_rx),
            required_min_echo_rx: 0,
        }
    }
}
