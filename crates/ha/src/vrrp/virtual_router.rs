//! One virtual router.

mod member;
mod speech;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use pointsman_wire::advert::{Advert, ChecksumStyle, Form};
use pointsman_wire::vrrp;

use super::announcer::Announcer;
use super::config::{RouterConfig, Version};
use super::notice::Event;
use super::output::{Datagram, Interface, Output};
use super::reception::{self, Received, Rejection};
use super::rival::{self, Rivals};
use super::tracker::{Effect, Reading, effective_priority};

/// What a virtual router is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not begun, or stopped: it waits for its interface and for what it tracks.
    Initialize,
    /// It can't take part: the interface or something tracked is down.
    Fault,
    /// Another router has the addresses; it waits for that one's silence.
    Backup,
    /// It has the addresses and says so.
    Master,
}

/// What a virtual router counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Advertisements that counted.
    pub received: u64,
    /// Advertisements sent, to each peer.
    pub sent: u64,
    /// Times it became master.
    pub became_master: u64,
    /// Times it ceased to be master.
    pub released_master: u64,
    /// Advertisements received from a master that stopped.
    pub zero_received: u64,
    /// Advertisements sent because it stopped, to each peer.
    pub zero_sent: u64,
    /// Times its own timer came so late that the host must have been paused.
    pub pauses: u64,
    /// Advertisements that did not count, by [`Rejection::name`]; addresses also when they are only
    /// counted.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// Being late by less is no pause, however short the interval: a busy host is.
const LATE: Duration = Duration::from_millis(100);
/// For how long a master hears what came in during a pause before it speaks again, at most.
const LISTEN: Duration = Duration::from_millis(20);

/// One virtual router on one host.
#[derive(Debug, Clone)]
pub struct VirtualRouter {
    config: RouterConfig,
    /// False while nobody has told of the interface.
    told: bool,
    interface: Option<Interface>,
    /// Beside [`RouterConfig::trackers`].
    readings: Vec<Option<Reading>>,
    state: State,
    stopped: bool,
    /// It was master when the daemon before it went, and takes that up.
    resumes: bool,
    priority: u8,
    /// The master that is known, while backup.
    master: Option<IpAddr>,
    /// The interval that counts: the master's in version 3, else our own.
    interval: Duration,
    /// The other routers' checksums, as last seen.
    peer_style: Option<ChecksumStyle>,
    /// A peer sends checksums of keepalived up to 1.3.6.
    peer_is_old: bool,
    /// When an advertisement is due, or the master is taken for down.
    deadline: Option<Duration>,
    /// The host was paused; it is heard first who is there.
    listening: bool,
    /// When a lower master is no longer let be.
    preempt_at: Option<Duration>,
    /// Before this time no lower priority is answered.
    quiet_until: Duration,
    /// Who else says that it is master.
    rivals: Rivals,
    announcer: Announcer,
    /// It is in a sync group, which decides when it becomes master.
    grouped: bool,
    /// It would be master if its group were.
    ready: bool,
    /// Another member of the group can't take part.
    group_fault: bool,
    /// Weights count; in sync groups they mostly don't.
    weighted: bool,
    /// It heard a lower priority, which the group has not been told yet.
    heard_lower: bool,
    stats: RouterStats,
    outputs: VecDeque<Output>,
}

impl VirtualRouter {
    /// A virtual router that waits to be told of its interface.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            told: false,
            interface: None,
            readings: vec![None; config.trackers.len()],
            state: State::Initialize,
            stopped: false,
            resumes: false,
            priority: config.priority,
            master: None,
            interval: config.interval,
            peer_style: None,
            peer_is_old: false,
            deadline: None,
            listening: false,
            preempt_at: None,
            quiet_until: Duration::ZERO,
            rivals: Rivals::default(),
            announcer: Announcer::default(),
            grouped: false,
            ready: false,
            group_fault: false,
            weighted: true,
            heard_lower: false,
            stats: RouterStats::default(),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// What it is told to be.
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// What it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its priority, tracking included.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// The master it knows, while backup.
    pub fn master(&self) -> Option<IpAddr> {
        self.master
    }

    /// Another router that has been saying for a while that it is master too, while this one is.
    pub fn rival(&self) -> Option<IpAddr> {
        let rival = self.rivals.rival(self.patience());
        rival.filter(|_| self.state == State::Master)
    }

    /// For how long somebody has to be heard, or not to be heard.
    fn patience(&self) -> Duration {
        self.interval * u32::from(self.config.down_adverts)
    }

    /// The interval that counts: in version 3 and as backup the master's.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The checksums that the last advertisement had.
    pub fn peer_style(&self) -> Option<ChecksumStyle> {
        self.peer_style
    }

    /// What it has counted.
    pub fn stats(&self) -> &RouterStats {
        &self.stats
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.listening {
            return self.deadline;
        }
        let timers = [self.deadline, self.announcer.deadline()];
        timers.into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Tells of the interface: none while it is down or has no address to send from.
    pub fn handle_interface(&mut self, interface: Option<Interface>, now: Duration) {
        self.told = true;
        let before = std::mem::replace(&mut self.interface, interface);
        if self.state == State::Master && interface.is_some() && before != interface {
            self.announce_again(now);
        }
        self.settle(now);
    }

    /// Tells what the tracker `name` found.
    pub fn handle_reading(&mut self, name: &str, reading: Reading, now: Duration) {
        let trackers = self.config.trackers.iter().zip(&mut self.readings);
        for (_, slot) in trackers.filter(|(tracker, _)| tracker.name == name) {
            *slot = Some(reading);
        }
        self.settle(now);
    }

    /// Takes what came in; the error says why it does not count.
    pub fn handle_packet(&mut self, datagram: &Datagram, now: Duration) -> Result<(), Rejection> {
        let Some(interface) = self.interface else {
            return Ok(());
        };
        if !matches!(self.state, State::Backup | State::Master) {
            return Ok(());
        }
        let checked = reception::check(&self.config, interface.source, self.master, datagram);
        if let Err(rejection) = &checked {
            self.count(rejection);
            if rival::is_of_master(rejection) {
                self.rivals.hear(datagram.source, now);
            }
        }
        let Received {
            advert,
            style,
            old,
            other_addresses,
        } = checked?;
        if let Some(rejection) = other_addresses {
            self.count(&rejection);
        }
        self.stats.received += 1;
        self.peer_style = Some(style);
        self.peer_is_old |= old;
        let outranked = advert.priority > self.priority
            || advert.priority == self.priority && datagram.source > interface.source;
        match (self.state, advert.priority) {
            (State::Master, vrrp::STOP) => {
                self.stats.zero_received += 1;
                self.advertise(now);
            }
            (State::Master, _) if outranked => self.yield_to(&advert, datagram.source, now),
            (State::Master, _) => {
                self.rivals.hear(datagram.source, now);
                self.hear_lower(now);
            }
            (_, vrrp::STOP) => {
                self.stats.zero_received += 1;
                self.wait(now + self.skew());
            }
            _ => self.hear_master(&advert, datagram.source, now),
        }
        Ok(())
    }

    /// Does what is due. Call it when nothing that was received is left to hand over: a timer that
    /// ran out during a pause, but not long ago, looks like a master's silence.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) {
            let late = now - deadline > self.interval.max(LATE);
            if late {
                self.stats.pauses += 1;
            }
            match self.state {
                State::Master if late => {
                    self.listening = true;
                    self.deadline = Some(now + LISTEN.min(self.interval / 4));
                }
                State::Master => {
                    self.rivals.forget(self.patience(), now);
                    let paused = self.listening;
                    self.advertise(now);
                    if paused {
                        self.announce_again(now);
                    }
                }
                // Who was paused can't tell whether the master was silent.
                State::Backup if late => self.wait(now + self.interval + self.skew()),
                State::Backup if self.grouped => {
                    self.ready = true;
                    self.deadline = Some(now + self.interval + self.skew());
                }
                State::Backup => self.become_master(now),
                State::Initialize | State::Fault => self.deadline = None,
            }
        }
        // Who listens does not know yet whether the addresses are still its own.
        if !self.listening {
            self.flush_announcements(now);
        }
    }

    /// Before it has begun: it was master a moment ago, in a daemon that handed over, and is master at
    /// once. Nobody else may have taken it for down meanwhile.
    pub fn resume(&mut self) {
        self.resumes = self.state == State::Initialize;
    }

    /// Takes a new configuration and keeps what it is: only what differs changes. Another interface,
    /// virtual router id or family makes another virtual router: stop this one and begin a new one.
    pub fn set_config(&mut self, config: RouterConfig, now: Duration) {
        self.reconfigure(config, &BTreeMap::new(), now);
    }

    /// The same, when it is known what trackers found that it did not have.
    pub(super) fn reconfigure(
        &mut self,
        config: RouterConfig,
        known: &BTreeMap<String, Reading>,
        now: Duration,
    ) {
        let same = self.config == config;
        let old = std::mem::replace(&mut self.config, config);
        let readings = self.config.trackers.iter().map(|tracker| {
            let at = old.trackers.iter().position(|t| t.name == tracker.name);
            let own = at.and_then(|at| self.readings[at]);
            own.or_else(|| known.get(&tracker.name).copied())
        });
        self.readings = readings.collect();
        if self.state == State::Master {
            let (before, after) = (speech::held(&old), self.held());
            let gone = before.iter().filter(|address| !after.contains(address));
            let gone: Vec<_> = gone
                .map(|address| Output::RemoveAddress(*address))
                .collect();
            self.outputs.extend(gone);
            let added = after.iter().filter(|address| !before.contains(address));
            let added: Vec<IpAddr> = added.copied().collect();
            let adding = added.iter().map(|address| Output::AddAddress(*address));
            self.outputs.extend(adding);
            let rounds = self.config.announce.repeat;
            self.announcer.once(rounds, &added, now);
        }
        self.settle(now);
        match self.state {
            // Others are told early only of what they can see.
            _ if same => {}
            State::Master => {
                self.interval = self.config.interval;
                self.advertise(now);
                self.flush_announcements(now);
            }
            State::Backup if old.interval != self.config.interval => {
                self.interval = self.config.interval;
                self.wait(now + self.master_down());
            }
            _ => {}
        }
    }

    /// Takes what trackers found before it began.
    pub(super) fn know(&mut self, known: &BTreeMap<String, Reading>) {
        for (tracker, slot) in self.config.trackers.iter().zip(&mut self.readings) {
            *slot = slot.or_else(|| known.get(&tracker.name).copied());
        }
    }

    /// Advertises before it is due, if it is master.
    pub(super) fn advertise_now(&mut self, now: Duration) {
        if self.state == State::Master {
            self.advertise(now);
        }
    }

    /// Stops: says so, gives the addresses back. With the daemon, or because it is gone from the
    /// configuration.
    pub fn stop(&mut self, event: Event) {
        self.release();
        self.stopped = true;
        self.ready = false;
        self.state = State::Initialize;
        self.deadline = None;
        self.notify(event);
    }

    /// Begins, falls into fault, comes out of it, and follows its priority.
    fn settle(&mut self, now: Duration) {
        if self.stopped {
            return;
        }
        let (mut waiting, mut fault, mut sum) = (!self.told, self.interface.is_none(), 0);
        for (tracker, reading) in self.config.trackers.iter().zip(&self.readings) {
            match tracker.effect(*reading) {
                Effect::Wait => waiting = true,
                Effect::Fault => fault = true,
                Effect::Add(weight) => sum += weight,
            }
        }
        if !self.weighted {
            sum = 0;
        }
        fault |= self.group_fault;
        let priority = effective_priority(self.config.priority, sum);
        let changed = std::mem::replace(&mut self.priority, priority) != priority;
        match self.state {
            State::Initialize | State::Fault if waiting => {}
            State::Fault if fault => {}
            _ if fault => self.fall(),
            State::Initialize => self.begin(now),
            State::Fault => {
                self.begin(now);
                self.announce_source(now);
            }
            State::Backup if changed && self.config.notify_priority => {
                self.notify(Event::BackupPriority);
            }
            State::Master if changed && self.config.notify_priority => {
                self.notify(Event::MasterPriority);
            }
            State::Backup | State::Master => {}
        }
    }

    fn begin(&mut self, now: Duration) {
        let owner = self.config.priority == vrrp::OWNER;
        if std::mem::take(&mut self.resumes) || owner && !self.grouped {
            return self.become_master(now);
        }
        self.become_backup(now);
        self.ready = owner;
    }

    fn fall(&mut self) {
        self.release();
        self.state = State::Fault;
        self.deadline = None;
        self.ready = false;
        self.notify(Event::Fault);
    }

    fn become_master(&mut self, now: Duration) {
        self.state = State::Master;
        self.rivals = Rivals::default();
        self.stats.became_master += 1;
        self.interval = self.config.interval;
        self.master = None;
        self.ready = false;
        self.preempt_at = None;
        self.quiet_until = now;
        self.heard_lower = false;
        self.advertise(now);
        let adding = self.held().into_iter().map(Output::AddAddress);
        self.outputs.extend(adding);
        self.announce_again(now);
        self.notify(Event::Master);
    }

    fn become_backup(&mut self, now: Duration) {
        self.state = State::Backup;
        self.interval = self.config.interval;
        self.master = None;
        self.ready = false;
        self.preempt_at = None;
        self.wait(now + self.master_down());
        self.notify(Event::Backup);
    }

    /// Hears a router with more right to be master.
    fn yield_to(&mut self, advert: &Advert, source: IpAddr, now: Duration) {
        if self.config.answer_higher {
            self.advertise(now);
        }
        self.give_back();
        self.become_backup(now);
        self.follow(advert, source, now);
    }

    /// Hears a router with less right to be master: it may have been paused, and switches may have
    /// learned its port.
    fn hear_lower(&mut self, now: Duration) {
        // Not to each: where both sides take the other for lower, answers would chase each other.
        if now < self.quiet_until {
            return;
        }
        self.quiet_until = now + self.config.interval / 2;
        if self.config.answer_lower {
            self.advertise(now);
        }
        self.heard_lower = true;
        self.announce_after_lower(now);
        self.notify(Event::MasterRxLowerPri);
    }

    /// Hears a master while backup.
    fn hear_master(&mut self, advert: &Advert, source: IpAddr, now: Duration) {
        if self.config.preempt && advert.priority < self.priority {
            let delay = self.config.preempt_delay;
            let at = *self.preempt_at.get_or_insert(now + delay);
            if at <= now {
                // The deadline stands, and then this router is master.
                return;
            }
        } else {
            self.preempt_at = None;
        }
        self.follow(advert, source, now);
    }

    fn follow(&mut self, advert: &Advert, source: IpAddr, now: Duration) {
        self.master = Some(source);
        if let Form::V3 { centiseconds } = advert.form {
            self.interval = Duration::from_millis(u64::from(centiseconds) * 10);
        }
        self.ready = false;
        self.wait(now + self.master_down());
    }

    fn wait(&mut self, until: Duration) {
        self.deadline = Some(until);
        self.listening = false;
    }

    /// How much longer than others it waits, the less its priority (RFC 9568 section 6.1).
    fn skew(&self) -> Duration {
        let unit = match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.interval,
        };
        unit * (256 - u32::from(self.priority)) / 256
    }

    fn master_down(&self) -> Duration {
        self.interval * u32::from(self.config.down_adverts) + self.skew()
    }

    fn count(&mut self, rejection: &Rejection) {
        *self.stats.rejected.entry(rejection.name()).or_default() += 1;
    }
}
