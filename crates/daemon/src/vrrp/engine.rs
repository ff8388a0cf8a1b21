//! The thread that carries everything between virtual routers and the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::PoisonError;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pointsman_ha::vrrp::{
    Datagram, Notice, Output, Peers, Reading, Rejection, State, SyncGroup, VirtualRouter,
    VrrpRouter,
};
use pointsman_linux::netlink::{Event, Monitor, Netlink};
use pointsman_linux::packet::Sender as FrameSender;
use pointsman_linux::raw_ip::{self, Family, RawIp};
use tokio::sync::mpsc::UnboundedSender;

use super::holding::Holding;
use super::surroundings::Surroundings;
use super::{Board, Command, Ear, Instance, Left, RouterStatus, VrrpConfig};

/// VRRP's IP protocol number.
const PROTOCOL: u8 = 112;
/// Network control, as RFC 9568 and keepalived send.
const CLASS: u8 = 0xc0;
/// Prefix of the names of trackers that follow an interface; the name follows.
pub const INTERFACE_TRACKER: &str = "interface ";
/// How often the same complaint about one virtual router is logged, at most.
const COMPLAIN: Duration = Duration::from_secs(60);
/// The longest wait without a deadline: nothing depends on it.
const IDLE: Duration = Duration::from_secs(3600);

/// How it goes on.
enum Order {
    /// Nobody said anything that counts.
    Nothing,
    GoOn,
    /// Everything is given back.
    Stop,
    /// Everything stays, for the daemon that comes next.
    Leave,
}

/// Virtual routers, and what carries for them.
pub(super) struct Engine {
    router: VrrpRouter,
    instances: Vec<Instance>,
    /// All virtual addresses: nobody sends from them.
    virtual_: Vec<IpAddr>,
    ear: Ear,
    notices: UnboundedSender<Notice>,
    status: Board,
    monitor: Monitor,
    netlink: Netlink,
    surroundings: Surroundings,
    sockets: BTreeMap<(String, Family), RawIp>,
    senders: BTreeMap<u32, FrameSender>,
    /// Interfaces' numbers and the virtual addresses that they have from us, with the networks' lengths.
    held: BTreeMap<(u32, IpAddr), u8>,
    complaints: BTreeMap<(usize, &'static str), Instant>,
    /// Names of interfaces that are tracked.
    tracked: BTreeSet<String>,
    epoch: Instant,
    /// Until then nobody is told that interfaces are there.
    begins: Duration,
}

impl Engine {
    pub(super) fn new(
        config: &VrrpConfig,
        resume: &BTreeSet<String>,
        ear: Ear,
        notices: UnboundedSender<Notice>,
        status: Board,
    ) -> Result<Self> {
        let groups = checked_groups(config)?;
        let routers = config.instances.iter();
        let routers = routers.map(|instance| {
            let mut router = VirtualRouter::new(instance.router.clone());
            if resume.contains(&instance.router.name) {
                router.resume();
            }
            router
        });
        // Watch first: what changes while it is read is seen.
        let monitor = Monitor::new().context("watching interfaces")?;
        let mut netlink = Netlink::new()?;
        let surroundings = Surroundings::read(&mut netlink)?;
        let mut engine = Self {
            router: VrrpRouter::new(routers.collect(), groups),
            virtual_: virtual_addresses(config),
            instances: config.instances.clone(),
            ear,
            notices,
            status,
            monitor,
            netlink,
            surroundings,
            sockets: BTreeMap::new(),
            senders: BTreeMap::new(),
            held: BTreeMap::new(),
            complaints: BTreeMap::new(),
            tracked: tracked_interfaces(config),
            epoch: Instant::now(),
            begins: config.startup_delay,
        };
        engine.clear_stale(resume);
        engine.look();
        engine.carry();
        engine.publish();
        Ok(engine)
    }

    /// Carries until told to stop.
    pub(super) fn run(mut self) {
        // On a busy host an advertisement that comes late makes a second master.
        if let Err(error) = pointsman_linux::urgency::make_urgent() {
            tracing::warn!(%error, "virtual routers are no more urgent than anything else");
        }
        loop {
            let now = self.now();
            let deadlines = [
                self.router.poll_timeout(),
                (self.begins > now).then_some(self.begins),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            self.wait(deadline.map_or(IDLE, |at| at.saturating_sub(now)));
            // What came in goes before timers: a master that was heard is not silent.
            let mut happened = self.hear();
            happened |= self.note_events();
            match self.obey() {
                Order::Nothing => {}
                Order::GoOn => happened = true,
                Order::Leave => return,
                Order::Stop => {
                    self.router.stop(self.now());
                    self.carry();
                    self.publish();
                    return;
                }
            }
            let now = self.now();
            if !self.begins.is_zero() && self.begins <= now {
                self.begins = Duration::ZERO;
                self.look();
                happened = true;
            }
            if self.router.poll_timeout().is_some_and(|at| at <= now) {
                self.router.handle_timeout(now);
                happened = true;
            }
            if happened {
                self.carry();
                self.publish();
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn wait(&self, timeout: Duration) {
        let mut fds = vec![
            PollFd::new(self.ear.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        let sockets = self.sockets.values();
        fds.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        // Rounded up: waking too early would spin.
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "can't wait for advertisements"),
        }
    }

    /// Hands over every advertisement that is there; says whether there was one.
    fn hear(&mut self) -> bool {
        let now = self.now();
        let mut heard = false;
        let mut broken = Vec::new();
        for (key, socket) in &mut self.sockets {
            loop {
                let datagram = match socket.receive() {
                    Ok(Some(datagram)) => datagram,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "can't receive advertisements");
                        broken.push(key.clone());
                        break;
                    }
                };
                heard = true;
                let datagram = Datagram {
                    source: datagram.source,
                    destination: datagram.destination,
                    hop_limit: datagram.hop_limit,
                    message: datagram.payload,
                };
                if let Err((at, rejection)) = self.router.handle_packet(&key.0, &datagram, now) {
                    complain(
                        &mut self.complaints,
                        &self.instances,
                        at,
                        &datagram,
                        &rejection,
                    );
                }
            }
        }
        if broken.is_empty() {
            return heard;
        }
        for key in broken {
            self.sockets.remove(&key);
        }
        self.look();
        true
    }

    /// Takes note of what changed on this host; says whether something did.
    fn note_events(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.monitor.next(Duration::ZERO) {
                Ok(Some(Event::Link { .. } | Event::Address { .. } | Event::Lost)) => {
                    changed = true;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "can't watch interfaces");
                    break;
                }
            }
        }
        if !changed {
            return false;
        }
        match Surroundings::read(&mut self.netlink) {
            Ok(surroundings) => {
                self.surroundings = surroundings;
                self.forget_unused();
                self.look();
                self.hold_again();
            }
            Err(error) => tracing::error!(%error, "can't read interfaces"),
        }
        true
    }

    /// Closes the sockets that no virtual router needs any more.
    fn forget_unused(&mut self) {
        let needed: BTreeSet<(&str, Family)> = self.instances.iter().map(key).collect();
        self.sockets
            .retain(|(name, family), _| needed.contains(&(name.as_str(), *family)));
        let indices: BTreeSet<u32> = needed
            .iter()
            .filter_map(|(name, _)| self.surroundings.index(name))
            .collect();
        self.senders.retain(|index, _| indices.contains(index));
    }

    /// Tells every virtual router of its interface, and opens the sockets it needs.
    fn look(&mut self) {
        let now = self.now();
        if self.begins > now {
            return;
        }
        for name in &self.tracked {
            let up = self.surroundings.is_up(name);
            let reading = if up { Reading::Up } else { Reading::Down };
            let tracker = format!("{INTERFACE_TRACKER}{name}");
            self.router.handle_reading(&tracker, reading, now);
        }
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            let mut interface = self.surroundings.interface(instance, &self.virtual_);
            if interface.is_some()
                && let Err(error) = self.listen(at)
            {
                let name = &self.instances[at].router.name;
                tracing::error!(%error, instance = %name, "can't listen for advertisements");
                interface = None;
            }
            self.router.handle_interface_of(at, interface, now);
        }
    }

    /// Opens the socket of a virtual router's interface, anew if that is a new one of the same name.
    fn listen(&mut self, at: usize) -> Result<()> {
        let config = &self.instances[at].router;
        let name = &config.interface;
        let index = self.surroundings.index(name).context("no such interface")?;
        let (_, family) = key(&self.instances[at]);
        let key = (name.clone(), family);
        let known = self.sockets.get(&key).map(RawIp::index);
        if known != Some(index) {
            self.sockets.remove(&key);
            let socket = RawIp::open(family, PROTOCOL, name, index, CLASS)?;
            self.sockets.insert(key.clone(), socket);
        }
        if let (Peers::Multicast(group), Some(socket)) = (&config.peers, self.sockets.get(&key)) {
            socket.join(*group)?;
        }
        Ok(())
    }

    /// Does what it is told, but for ending.
    fn obey(&mut self) -> Order {
        self.ear.quiet();
        let mut order = Order::Nothing;
        loop {
            match self.ear.commands.try_recv() {
                Ok(Command::Reading(tracker, reading)) => {
                    let now = self.now();
                    self.router.handle_reading(&tracker, reading, now);
                    order = Order::GoOn;
                }
                Ok(Command::Configure(config, notices, answer)) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.configure(&config, notices));
                    order = Order::GoOn;
                }
                Ok(Command::States(answer)) => {
                    let _ = answer.send(self.router.states());
                }
                Ok(Command::Leave(answer)) => {
                    self.router.advertise(self.now());
                    self.carry();
                    let routers = self.router.routers().iter();
                    let masters = routers.filter(|router| router.state() == State::Master);
                    let names = masters.map(|router| router.config().name.clone());
                    let held = self.held.iter();
                    let held = held.map(|((index, address), prefix)| (*index, *address, *prefix));
                    let _ = answer.send(Left {
                        masters: names.collect(),
                        held: held.collect(),
                    });
                    return Order::Leave;
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Order::Stop,
                Err(TryRecvError::Empty) => return order,
            }
        }
    }

    /// Takes a new configuration, or says what is wrong with it and stays as it is.
    fn configure(&mut self, config: &VrrpConfig, notices: UnboundedSender<Notice>) -> Result<()> {
        let groups = checked_groups(config)?;
        let now = self.now();
        let routers: Vec<_> = config.instances.iter().map(|i| i.router.clone()).collect();
        self.router.retire(&routers, now);
        // Of those that are gone; the positions are still the old ones, and so is who is told.
        self.carry();
        self.notices = notices;
        let before = std::mem::replace(&mut self.instances, config.instances.clone());
        self.virtual_ = virtual_addresses(config);
        self.tracked = tracked_interfaces(config);
        self.complaints.clear();
        self.router.set_config(routers, groups, now);
        self.carry();
        self.forget_unused();
        self.hold_otherwise(&before);
        self.clear_stale(&BTreeSet::new());
        self.look();
        Ok(())
    }

    /// Does what the virtual routers want.
    fn carry(&mut self) {
        while let Some((at, output)) = self.router.poll_output() {
            match output {
                Output::Send(datagram) => self.send(at, datagram),
                Output::Frame(frame) => self.announce(at, &frame),
                Output::AddAddress(address) => self.hold(at, address),
                Output::RemoveAddress(address) => self.release(address),
                Output::Notify(notice) => {
                    tracing::info!("{notice}");
                    // Without a listener nobody wants to know.
                    let _ = self.notices.send(notice);
                }
            }
        }
    }

    fn send(&mut self, at: usize, datagram: Datagram) {
        let name = &self.instances[at].router.interface;
        let family = Family::of(datagram.destination);
        let Some(socket) = self.sockets.get(&(name.clone(), family)) else {
            return;
        };
        let sent = socket.send(&raw_ip::Datagram {
            source: datagram.source,
            destination: datagram.destination,
            hop_limit: datagram.hop_limit,
            payload: datagram.message,
        });
        if let Err(error) = sent {
            self.complain_of(at, "advertise", &error);
        }
    }

    fn announce(&mut self, at: usize, frame: &[u8]) {
        let name = &self.instances[at].router.interface;
        let Some(index) = self.surroundings.index(name) else {
            return;
        };
        let sender = match self.senders.entry(index) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => match FrameSender::open(index) {
                Ok(sender) => entry.insert(sender),
                Err(error) => return self.complain_of(at, "announce", &error),
            },
        };
        if let Err(error) = sender.send(frame) {
            self.senders.remove(&index);
            self.complain_of(at, "announce", &error);
        }
    }

    fn hold(&mut self, at: usize, address: IpAddr) {
        let (holding, index) = self.holding(at, address);
        let Some(index) = index else {
            return tracing::error!(%address, "the interface of a virtual address is not there");
        };
        match self.netlink.address_add(&holding.on(index)) {
            Ok(()) => {
                self.held.insert((index, address), holding.prefix);
            }
            Err(error) => tracing::error!(%error, %address, "can't add a virtual address"),
        }
    }

    fn release(&mut self, address: IpAddr) {
        let held = self.held.iter().find(|((_, held), _)| *held == address);
        let Some((&(index, _), &prefix)) = held else {
            return;
        };
        self.held.remove(&(index, address));
        if let Err(error) = self.netlink.address_delete(index, address, prefix) {
            tracing::error!(%error, %address, "can't remove a virtual address");
        }
    }

    /// How an address is held, and the number of the interface that has it.
    fn holding(&self, at: usize, address: IpAddr) -> (Holding, Option<u32>) {
        let instance = &self.instances[at];
        let known = instance.holdings.iter().find(|h| h.address == address);
        let holding = known.cloned().unwrap_or_else(|| Holding::host(address));
        let device = holding
            .device
            .as_ref()
            .unwrap_or(&instance.router.interface);
        let index = self.surroundings.index(device);
        (holding, index)
    }

    /// Takes away virtual addresses that a killed daemon left; not those of routers that go on.
    fn clear_stale(&mut self, resume: &BTreeSet<String>) {
        for at in 0..self.instances.len() {
            if resume.contains(&self.instances[at].router.name) {
                continue;
            }
            for address in self.own_addresses(at) {
                let (holding, index) = self.holding(at, address);
                let stale = |index: &u32| {
                    self.surroundings.has(*index, address)
                        && !self.held.contains_key(&(*index, address))
                };
                let Some(index) = index.filter(stale) else {
                    continue;
                };
                match self.netlink.address_delete(index, address, holding.prefix) {
                    Ok(true) => {
                        tracing::warn!(%address, "took away an address that was left behind");
                    }
                    // It is on its way already.
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, %address, "can't take an address away"),
                }
            }
        }
    }

    /// Holds addresses as a new configuration says: on another interface, in another network, or by
    /// another label than before.
    fn hold_otherwise(&mut self, before: &[Instance]) {
        for at in 0..self.instances.len() {
            for address in self.own_addresses(at) {
                let (holding, index) = self.holding(at, address);
                let old = before.iter().flat_map(|instance| &instance.holdings);
                let mut old = old.filter(|old| old.address == address);
                let held = self.held.iter().find(|((_, held), _)| *held == address);
                let (Some((&(on, _), &prefix)), Some(index)) = (held, index) else {
                    continue;
                };
                if on == index && old.next().is_none_or(|old| *old == holding) {
                    continue;
                }
                self.held.remove(&(on, address));
                if let Err(error) = self.netlink.address_delete(on, address, prefix) {
                    tracing::error!(%error, %address, "can't remove a virtual address");
                }
                self.hold(at, address);
            }
        }
    }

    /// Gives back to an interface what somebody else took from it while master.
    fn hold_again(&mut self) {
        for at in 0..self.instances.len() {
            for address in self.own_addresses(at) {
                let (_, index) = self.holding(at, address);
                let Some(index) = index else { continue };
                let lost = self.held.contains_key(&(index, address))
                    && !self.surroundings.has(index, address);
                if lost {
                    tracing::warn!(%address, "somebody removed a virtual address; adding it again");
                    self.hold(at, address);
                }
            }
        }
    }

    fn own_addresses(&self, at: usize) -> Vec<IpAddr> {
        let config = &self.instances[at].router;
        let all = config.addresses.iter().chain(&config.excluded);
        all.copied().collect()
    }

    /// Lets others see how things are.
    fn publish(&self) {
        let status = self.router.routers().iter().map(RouterStatus::of).collect();
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn complain_of(&mut self, at: usize, what: &'static str, error: &dyn std::fmt::Display) {
        let name = &self.instances[at].router.name;
        if is_due(&mut self.complaints, at, what) {
            tracing::warn!(%error, instance = %name, "can't {what}");
        }
    }
}

/// The sync groups, if everything is as it can be.
fn checked_groups(config: &VrrpConfig) -> Result<Vec<SyncGroup>> {
    for instance in &config.instances {
        instance.router.check()?;
    }
    let mut groups = Vec::new();
    for group in &config.groups {
        let mut members = Vec::new();
        for name in &group.members {
            let named = |instance: &Instance| instance.router.name == *name;
            let Some(at) = config.instances.iter().position(named) else {
                bail!("sync group {}: no virtual router {name}", group.name);
            };
            members.push(at);
        }
        groups.push(SyncGroup::new(&group.name, &members, group.tracking_weight));
    }
    Ok(groups)
}

/// What a virtual router listens with.
fn key(instance: &Instance) -> (&str, Family) {
    let family = match instance.router.is_ipv6() {
        true => Family::V6,
        false => Family::V4,
    };
    (&instance.router.interface, family)
}

fn virtual_addresses(config: &VrrpConfig) -> Vec<IpAddr> {
    let routers = config.instances.iter().map(|instance| &instance.router);
    let addresses = routers.flat_map(|router| router.addresses.iter().chain(&router.excluded));
    addresses.copied().collect()
}

fn tracked_interfaces(config: &VrrpConfig) -> BTreeSet<String> {
    let trackers = config.instances.iter().flat_map(|i| &i.router.trackers);
    let names = trackers.filter_map(|tracker| tracker.name.strip_prefix(INTERFACE_TRACKER));
    names.map(str::to_owned).collect()
}

/// Says why an advertisement does not count, now and then.
fn complain(
    complaints: &mut BTreeMap<(usize, &'static str), Instant>,
    instances: &[Instance],
    at: usize,
    datagram: &Datagram,
    rejection: &Rejection,
) {
    if is_due(complaints, at, rejection.name()) {
        tracing::warn!(
            instance = %instances[at].router.name,
            source = %datagram.source,
            "an advertisement does not count: {rejection}"
        );
    }
}

fn is_due(
    complaints: &mut BTreeMap<(usize, &'static str), Instant>,
    at: usize,
    what: &'static str,
) -> bool {
    let now = Instant::now();
    let last = complaints.get(&(at, what));
    if last.is_some_and(|last| now.duration_since(*last) < COMPLAIN) {
        return false;
    }
    complaints.insert((at, what), now);
    true
}
