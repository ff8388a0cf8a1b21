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
    Belief, Datagram, Notice, Output, Peers, Reading, Rejection, State, SyncGroup, VerifyOutput,
    VirtualRouter, VrrpRouter,
};
use pointsman_linux::netlink::{Event, Monitor, Netlink};
use pointsman_linux::packet::Sender as FrameSender;
use pointsman_linux::raw_ip::{self, Family, RawIp};
use pointsman_wire::Mac;
use tokio::sync::mpsc::UnboundedSender;

use super::elsewhere::{Rounds, announced, announcement};
use super::farewell::Farewell;
use super::holding::Holding;
use super::host::{Gone, Host};
use super::parameters::Parameters;
use super::refusal::Refusals;
use super::surroundings::{Surroundings, forwards};
use super::vmac::Vmacs;
use super::watch::{VERIFY_TRACKER, Watch};
use super::will::Will;
use super::{Board, Command, Instance, Left, RouterStatus, VrrpConfig};
use crate::ear::Ear;

/// VRRP's IP protocol number.
pub(super) const PROTOCOL: u8 = 112;
/// Network control, as RFC 9568 and keepalived send.
pub(super) const CLASS: u8 = 0xc0;
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
    ear: Ear<Command>,
    notices: UnboundedSender<Notice>,
    status: Board,
    monitor: Monitor,
    netlink: Netlink,
    surroundings: Surroundings,
    sockets: BTreeMap<(String, Family), RawIp>,
    /// Those of virtual link-layer addresses, for sending alone.
    vmac_sockets: BTreeMap<(String, Family), RawIp>,
    vmacs: Vmacs,
    watches: Vec<Watch>,
    senders: BTreeMap<u32, FrameSender>,
    /// Interfaces' numbers and the virtual addresses that they have from us.
    held: BTreeMap<(u32, IpAddr), Holding>,
    host: Host,
    parameters: Parameters,
    /// What is remembered in case that the daemon dies.
    will: Will,
    refusals: Refusals,
    elsewhere: Rounds,
    /// What is held, or who refuses, has changed since refusals were settled.
    unsettled: bool,
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
        ear: Ear<Command>,
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
            vmac_sockets: BTreeMap::new(),
            vmacs: Vmacs::default(),
            watches: Vec::new(),
            senders: BTreeMap::new(),
            held: BTreeMap::new(),
            will: Will::default(),
            elsewhere: Rounds::default(),
            refusals: Refusals::new(config.refusal.clone(), !resume.is_empty()),
            unsettled: !resume.is_empty(),
            host: Host::default(),
            parameters: Parameters::default(),
            complaints: BTreeMap::new(),
            tracked: tracked_interfaces(config),
            epoch: Instant::now(),
            begins: config.startup_delay,
        };
        engine.make_vmacs(resume);
        engine.set_watches();
        engine.clear_stale(resume);
        engine.clear_stale_items(resume);
        engine.promote_secondaries();
        engine
            .host
            .set_static(&config.statics, &mut engine.netlink, &engine.surroundings);
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
                self.watches.iter().filter_map(Watch::poll_timeout).min(),
                self.elsewhere.poll_timeout(),
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
                    self.host
                        .set_static(&[], &mut self.netlink, &self.surroundings);
                    self.parameters.promote_secondaries(&BTreeSet::new());
                    self.vmacs.retain(&mut self.netlink, &[]);
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
            happened |= self.watch();
            self.announce_elsewhere();
            if happened {
                self.carry();
                self.publish();
                self.bequeath();
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn wait(&self, timeout: Duration) {
        let mut fds = vec![
            PollFd::new(self.ear.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        let sockets = self.sockets.values();
        fds.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        let ears = self.watches.iter().filter_map(Watch::ear);
        fds.extend(ears.map(|ear| PollFd::new(ear, PollFlags::POLLIN)));
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
        let mut gone = Gone::default();
        loop {
            match self.monitor.next(Duration::ZERO) {
                Ok(Some(Event::Link { .. } | Event::Address { .. } | Event::Lost)) => {
                    changed = true;
                }
                Ok(Some(Event::Route {
                    destination,
                    deleted: true,
                })) => match destination {
                    Some(network) => gone.networks.push(network),
                    None => gone.rules = true,
                },
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "can't watch interfaces");
                    break;
                }
            }
        }
        if !changed {
            if gone.rules || !gone.networks.is_empty() {
                self.host
                    .restore(&gone, &mut self.netlink, &self.surroundings);
            }
            return false;
        }
        // Routes go without a word when their interface does.
        gone.anything = true;
        match Surroundings::read(&mut self.netlink) {
            Ok(surroundings) => {
                self.surroundings = surroundings;
                self.forget_unused();
                self.make_vmacs(&BTreeSet::new());
                self.look();
                self.hold_again();
                self.promote_secondaries();
                self.host
                    .restore(&gone, &mut self.netlink, &self.surroundings);
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
            .chain((0..self.instances.len()).filter_map(|at| self.device(at)))
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
            match self.ear.next() {
                Ok(Command::Reading(tracker, reading)) => {
                    let now = self.now();
                    self.router.handle_reading(&tracker, reading, now);
                    order = Order::GoOn;
                }
                Ok(Command::Inherit(changed)) => self.inherit(changed),
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
                    let _ = answer.send(self.left());
                    return Order::Leave;
                }
                Ok(Command::Remember(heir)) => {
                    self.will = Will::new(heir);
                    order = Order::GoOn;
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Order::Stop,
                Err(TryRecvError::Empty) => return order,
            }
        }
    }

    /// What the daemon leaves, if it goes now.
    fn left(&self) -> Left {
        let routers = self.router.routers().iter();
        let masters = routers.filter(|router| router.state() == State::Master);
        let names = masters.map(|router| router.config().name.clone());
        let held = self.held.iter();
        let held = held.map(|((index, address), holding)| (*index, *address, holding.prefix));
        let peers = self.held.values();
        let peers = peers.filter_map(|one| Some((one.address, one.peer?)));
        let (vmacs, mut changed) = self.vmacs.left();
        changed.extend(self.parameters.changed().clone());
        let readings = self.router.readings().iter();
        let readings = readings.map(|(name, found)| (name.clone(), (*found).into()));
        Left {
            masters: names.collect(),
            held: held.collect(),
            peers: peers.collect(),
            items: self.host.items(),
            vmacs,
            changed,
            refuses: self.refusals.is_any(),
            readings: readings.collect(),
            farewells: Farewell::all(self.router.clone(), &self.instances, self.now()),
        }
    }

    /// Has it remembered what the daemon leaves if it dies, if that is something else than before.
    fn bequeath(&mut self) {
        if self
            .will
            .is_due(&self.router, &self.held, self.host.changes())
        {
            self.will.tell(self.left());
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
        self.will.forget();
        self.make_vmacs(&BTreeSet::new());
        self.leave_groups(&before);
        let instances = &self.instances;
        self.elsewhere
            .retain(|name| instances.iter().any(|one| one.router.name == name));
        self.router.set_config(routers, groups, now);
        self.set_watches();
        self.carry();
        self.forget_unused();
        self.hold_otherwise(&before);
        self.retain_vmacs();
        self.clear_stale(&BTreeSet::new());
        if let Err(error) = self.refusals.set_config(config.refusal.clone()) {
            tracing::error!("can't change the rules of virtual addresses: {error:#}");
        }
        self.unsettled = true;
        self.settle_refusals();
        self.promote_secondaries();
        self.host
            .set_static(&config.statics, &mut self.netlink, &self.surroundings);
        // Those that are new begin as after a start.
        let known = before.iter().map(|instance| instance.router.name.clone());
        self.clear_stale_items(&known.collect());
        for at in 0..self.instances.len() {
            if self.is_master(at) {
                self.set_items(at);
            }
        }
        self.look();
        Ok(())
    }

    /// Has a master's routes and rules be there.
    fn set_items(&mut self, at: usize) {
        let instance = &self.instances[at];
        self.host.set(
            &instance.router.name,
            &instance.items,
            &mut self.netlink,
            &self.surroundings,
        );
    }

    fn is_master(&self, at: usize) -> bool {
        let name = &self.instances[at].router.name;
        let mut routers = self.router.routers().iter();
        routers.any(|one| one.config().name == *name && one.state() == State::Master)
    }

    /// Takes away routes and rules that a killed daemon left; not those of routers that are known.
    fn clear_stale_items(&mut self, known: &BTreeSet<String>) {
        let instances = self.instances.iter();
        for instance in instances.filter(|one| !known.contains(&one.router.name)) {
            self.host
                .clear_stale(&instance.items, &mut self.netlink, &self.surroundings);
        }
    }

    /// Keeps addresses of interfaces where that is wanted.
    fn promote_secondaries(&mut self) {
        let instances = self.instances.iter();
        let wanted = instances.filter(|one| one.promote_secondaries);
        let interfaces = wanted.map(|one| one.router.interface.as_str());
        self.parameters.promote_secondaries(&interfaces.collect());
    }

    /// Takes over kernel parameters that an earlier daemon changed.
    fn inherit(&mut self, changed: BTreeMap<String, String>) {
        for (key, before) in changed {
            if !self.parameters.inherit(&key, &before) {
                self.vmacs.inherit(key, before);
            }
        }
        self.promote_secondaries();
        self.retain_vmacs();
    }

    /// Leaves the groups that nobody listens to any more.
    fn leave_groups(&self, before: &[Instance]) {
        let group = |instance: &Instance| match instance.router.peers {
            Peers::Multicast(group) => {
                let (name, family) = key(instance);
                Some(((name.to_owned(), family), group))
            }
            Peers::Unicast { .. } => None,
        };
        let now: BTreeSet<_> = self.instances.iter().filter_map(group).collect();
        let before: BTreeSet<_> = before.iter().filter_map(group).collect();
        for (key, group) in before.difference(&now) {
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            if let Err(error) = socket.leave(*group) {
                tracing::warn!(%error, %group, "can't leave a group");
            }
        }
    }

    /// Does what the virtual routers want.
    fn carry(&mut self) {
        // Whose addresses have come; routes and rules follow them.
        let mut come = None;
        while let Some((at, output)) = self.router.poll_output() {
            if come.is_some_and(|come| come != at || !matches!(output, Output::AddAddress(_)))
                && let Some(at) = come.take()
            {
                self.set_items(at);
            }
            match output {
                Output::Send(datagram) => self.send(at, datagram),
                Output::Frame(frame) => self.announce_address(at, &frame),
                Output::AddAddress(address) => {
                    self.hold(at, address);
                    come = Some(at);
                }
                Output::RemoveAddress(address) => {
                    self.release_items(at);
                    self.release(address);
                }
                Output::Notify(notice) => {
                    tracing::info!("{notice}");
                    // Without a listener nobody wants to know.
                    let _ = self.notices.send(notice);
                }
            }
        }
        if let Some(at) = come {
            self.set_items(at);
        }
        self.lower_vmacs();
        self.settle_refusals();
    }

    /// Before its addresses go, so do the routes and rules of a virtual router that is master no more.
    fn release_items(&mut self, at: usize) {
        if self.is_master(at) {
            return;
        }
        let name = &self.instances[at].router.name;
        self.host
            .release(name, &mut self.netlink, &self.surroundings);
    }

    fn send(&mut self, at: usize, datagram: Datagram) {
        let family = Family::of(datagram.destination);
        if let Err(error) = self.raise_vmac(at, &datagram) {
            return self.complain_of(at, "raise its own interface", &error);
        }
        let instance = &self.instances[at];
        let socket = match &instance.vmac {
            Some(vmac) if !vmac.advertise_below => {
                self.vmac_sockets.get(&(vmac.name.clone(), family))
            }
            _ => {
                let name = instance.router.interface.clone();
                self.sockets.get(&(name, family))
            }
        };
        let Some(socket) = socket else {
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

    /// Announces an address at the interface that has it.
    fn announce_address(&mut self, at: usize, frame: &[u8]) {
        let holdings = &self.instances[at].holdings;
        let is_it = |address| holdings.iter().find(|one| one.address == address);
        let held = announced(frame).and_then(is_it);
        let other = held.and_then(|holding| Some((holding.address, holding.device.as_ref()?)));
        let Some((address, device)) = other else {
            return self.announce(at, frame);
        };
        let Some(link) = self.surroundings.link(device) else {
            return;
        };
        let index = link.index;
        if let Some(frame) = announcement(address, link, forwards(device)) {
            self.emit(at, Some(index), &frame);
        }
    }

    /// Has switches behind other interfaces than virtual routers' remember masters: one address each.
    fn announce_elsewhere(&mut self) {
        let now = self.now();
        for at in 0..self.instances.len() {
            let Instance {
                router,
                holdings,
                elsewhere,
                ..
            } = &self.instances[at];
            let is_master = self.is_master(at);
            let every = Some(*elsewhere).filter(|every| is_master && !every.is_zero());
            if !self.elsewhere.is_due(&router.name, every, now) {
                continue;
            }
            let mut frames = BTreeMap::new();
            for holding in holdings {
                let Some(device) = holding
                    .device
                    .as_ref()
                    .filter(|one| **one != router.interface)
                else {
                    continue;
                };
                let link = self.surroundings.link(device);
                let frame =
                    link.and_then(|link| announcement(holding.address, link, forwards(device)));
                if let (Some(link), Some(frame)) = (link, frame) {
                    frames.entry(link.index).or_insert(frame);
                }
            }
            for (index, frame) in frames {
                self.emit(at, Some(index), &frame);
            }
        }
    }

    fn announce(&mut self, at: usize, frame: &[u8]) {
        self.emit(at, self.device(at), frame);
    }

    fn emit(&mut self, at: usize, index: Option<u32>, frame: &[u8]) {
        let Some(index) = index else { return };
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
        self.refuse(at);
        match self.netlink.address_add(&holding.on(index)) {
            Ok(()) => {
                self.held.insert((index, address), holding);
                self.unsettled = true;
            }
            Err(error) => tracing::error!(%error, %address, "can't add a virtual address"),
        }
    }

    fn release(&mut self, address: IpAddr) {
        let held = self.held.iter().find(|((_, held), _)| *held == address);
        let Some((&(index, _), _)) = held else {
            return;
        };
        self.let_go(index, address);
    }

    /// Takes an address from an interface that has it from us.
    fn let_go(&mut self, index: u32, address: IpAddr) {
        let Some(holding) = self.held.remove(&(index, address)) else {
            return;
        };
        self.unsettled = true;
        let (peer, prefix) = (holding.peer, holding.prefix);
        let removed = self.netlink.address_delete_to(index, address, peer, prefix);
        if let Err(error) = removed {
            tracing::error!(%error, %address, "can't remove a virtual address");
        }
    }

    /// What a virtual router that accepts nothing refuses, in force before the host has it.
    fn refuse(&mut self, at: usize) {
        if !self.instances[at].refuses {
            return;
        }
        let all = self.own_addresses(at).into_iter();
        let all: Vec<_> = all
            .filter_map(|address| Some((self.holding(at, address).1?, address)))
            .collect();
        if let Err(error) = self.refusals.add(&all) {
            self.complain_of(
                at,
                "refuse what comes to its addresses",
                &format!("{error:#}"),
            );
        }
    }

    /// Refuses what is for addresses that are held and accept nothing, no more and no less.
    fn settle_refusals(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let mut refused = BTreeSet::new();
        for at in (0..self.instances.len()).filter(|at| self.instances[*at].refuses) {
            for address in self.own_addresses(at) {
                let (_, index) = self.holding(at, address);
                let one = index.map(|index| (index, address));
                refused.extend(one.filter(|one| self.held.contains_key(one)));
            }
        }
        if let Err(error) = self.refusals.settle(refused) {
            tracing::error!("can't settle the rules of virtual addresses: {error:#}");
        }
    }

    /// How an address is held, and the number of the interface that has it.
    fn holding(&self, at: usize, address: IpAddr) -> (Holding, Option<u32>) {
        let instance = &self.instances[at];
        let known = instance.holdings.iter().find(|h| h.address == address);
        let holding = known.cloned().unwrap_or_else(|| Holding::host(address));
        let index = match &holding.device {
            Some(device) => self.surroundings.index(device),
            None => self.device(at),
        };
        (holding, index)
    }

    /// The interface that has a virtual router's addresses, and announces them.
    fn device(&self, at: usize) -> Option<u32> {
        let instance = &self.instances[at];
        match &instance.vmac {
            Some(vmac) => self.vmacs.index(&vmac.name),
            None => self.surroundings.index(&instance.router.interface),
        }
    }

    /// Makes the interfaces of virtual link-layer addresses that are not there.
    fn make_vmacs(&mut self, resume: &BTreeSet<String>) {
        let mut made = false;
        for at in 0..self.instances.len() {
            let instance = self.instances[at].clone();
            let Some(vmac) = &instance.vmac else { continue };
            let Some(lower) = self.surroundings.link(&instance.router.interface) else {
                continue;
            };
            let keep = resume.contains(&instance.router.name);
            let v6 = instance.router.is_ipv6();
            let before = self.vmacs.index(&vmac.name);
            let result = self.vmacs.make(&mut self.netlink, vmac, lower, v6, keep);
            if let Err(error) = result {
                self.complain_of(at, "make its own interface", &error);
            }
            made |= self.vmacs.index(&vmac.name) != before;
        }
        if !made {
            return;
        }
        self.vmac_sockets.clear();
        match Surroundings::read(&mut self.netlink) {
            Ok(surroundings) => self.surroundings = surroundings,
            Err(error) => tracing::error!(%error, "can't read interfaces"),
        }
    }

    fn retain_vmacs(&mut self) {
        let wanted = self.instances.iter().filter_map(|one| one.vmac.as_ref());
        let wanted: Vec<&str> = wanted.map(|vmac| vmac.name.as_str()).collect();
        self.vmacs.retain(&mut self.netlink, &wanted);
    }

    /// A master's own interface is up; backups don't advertise.
    fn raise_vmac(&mut self, at: usize, datagram: &Datagram) -> Result<()> {
        let Some(vmac) = self.instances[at].vmac.clone() else {
            return Ok(());
        };
        let key = (vmac.name.clone(), Family::of(datagram.destination));
        if self.vmac_sockets.contains_key(&key) {
            return Ok(());
        }
        let index = self.vmacs.index(&vmac.name).context("it is not there")?;
        self.vmacs
            .raise(&mut self.netlink, &vmac, Some(datagram.source))?;
        let socket = RawIp::open(key.1, PROTOCOL, &vmac.name, index, CLASS)?;
        self.vmac_sockets.insert(key, socket);
        Ok(())
    }

    /// Whoever is master no more takes its own interface down.
    fn lower_vmacs(&mut self) {
        for at in 0..self.instances.len() {
            let Some(vmac) = self.instances[at].vmac.clone() else {
                continue;
            };
            let name = &self.instances[at].router.name;
            let mut routers = self.router.routers().iter();
            let master =
                routers.any(|one| one.config().name == *name && one.state() == State::Master);
            let is_up = self.vmac_sockets.keys().any(|(up, _)| *up == vmac.name);
            if master || !is_up {
                continue;
            }
            self.vmac_sockets.retain(|(up, _), _| *up != vmac.name);
            if let Err(error) = self.vmacs.lower(&mut self.netlink, &vmac) {
                self.complain_of(at, "take its own interface down", &error);
            }
        }
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
                let (peer, prefix) = (holding.peer, holding.prefix);
                let removed = self.netlink.address_delete_to(index, address, peer, prefix);
                match removed {
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
                let (Some((&(on, _), _)), Some(index)) = (held, index) else {
                    continue;
                };
                if on == index && old.next().is_none_or(|old| *old == holding) {
                    continue;
                }
                self.let_go(on, address);
                self.hold(at, address);
            }
        }
    }

    /// Gives back to an interface what somebody else took from it while master.
    fn hold_again(&mut self) {
        for at in 0..self.instances.len() {
            for address in self.own_addresses(at) {
                let (holding, index) = self.holding(at, address);
                let Some(index) = index.filter(|_| holding.tracked) else {
                    continue;
                };
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

    /// Has a watch for each router that wants one.
    fn set_watches(&mut self) {
        let now = self.now();
        let mut old = std::mem::take(&mut self.watches);
        for instance in &self.instances {
            let Some(verification) = &instance.verification else {
                continue;
            };
            let name = &instance.router.name;
            let same = |watch: &Watch| watch.router == *name && watch.is_as(verification);
            let watch = match old.iter().position(same) {
                Some(at) => old.swap_remove(at),
                None => {
                    let tracker = format!("{VERIFY_TRACKER}{name}");
                    self.router.handle_reading(&tracker, Reading::Up, now);
                    Watch::new(name, verification)
                }
            };
            self.watches.push(watch);
        }
    }

    /// Finds out whether masters are believed; true when there is something to carry.
    fn watch(&mut self) -> bool {
        let now = self.now();
        let mut happened = false;
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            let named = |one: &Instance| one.router.name == watch.router;
            let Some(at) = self.instances.iter().position(named) else {
                continue;
            };
            let mut routers = self.router.routers().iter();
            let master = routers.any(|router| {
                router.config().name == watch.router && router.state() == State::Master
            });
            let lower = self
                .surroundings
                .index(&self.instances[at].router.interface);
            if let Err(error) = watch.handle_master(master, lower, now) {
                self.complain_of(at, "verify its addresses", &error);
            }
            watch.hear();
            if watch.poll_timeout().is_some_and(|due| due <= now) {
                for output in watch.handle_timeout(now) {
                    happened |= output != VerifyOutput::Ask;
                    self.verify(at, watch, output);
                }
            }
        }
        self.watches = watches;
        happened
    }

    fn verify(&mut self, at: usize, watch: &mut Watch, output: VerifyOutput) {
        let now = self.now();
        let tracker = format!("{VERIFY_TRACKER}{}", watch.router);
        match output {
            VerifyOutput::Ask => self.ask(at, watch),
            VerifyOutput::Tell(Belief::Disbelieved) => tracing::error!(
                instance = %watch.router,
                "is master, and neighbors answer its own address but not its virtual one: something on the \
                 way drops what comes from that; `pointsman doctor vrrp` tells what"
            ),
            VerifyOutput::Tell(_) => {
                tracing::info!(instance = %watch.router, "neighbors answer its virtual address");
            }
            VerifyOutput::StepDown => {
                tracing::warn!(instance = %watch.router, "steps down: nobody believes its address");
                self.router.handle_reading(&tracker, Reading::Down, now);
            }
            VerifyOutput::StepUp => self.router.handle_reading(&tracker, Reading::Up, now),
        }
    }

    /// Asks a neighbor, in the name of the virtual addresses and in the own one.
    fn ask(&mut self, at: usize, watch: &mut Watch) {
        let instance = self.instances[at].clone();
        let interface = self.surroundings.interface(&instance, &self.virtual_);
        let lower = self.surroundings.link(&instance.router.interface);
        let (Some(interface), Some(lower)) = (interface, lower) else {
            return;
        };
        let (index, Some(below)) = (lower.index, lower.mac) else {
            return;
        };
        let known = self.netlink.neighbours().unwrap_or_default().into_iter();
        let known = known.filter(|one| {
            one.index == index
                && one.usable_mac().is_some()
                && !one.address.is_multicast()
                && !self.virtual_.contains(&one.address)
        });
        let mut neighbors: Vec<IpAddr> = match &instance.router.peers {
            Peers::Unicast { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
            Peers::Multicast(_) => Vec::new(),
        };
        neighbors.extend(known.map(|one| one.address));
        let addresses = &instance.router.addresses;
        let questions = watch.questions(&neighbors, addresses, &interface, Mac(below));
        for question in questions {
            if question.own {
                self.emit(at, Some(index), &question.frame);
            } else {
                self.announce(at, &question.frame);
            }
        }
    }

    /// Lets others see how things are.
    fn publish(&self) {
        let routers = self.router.routers().iter();
        let status = routers.map(|router| {
            let name = &router.config().name;
            let watch = self.watches.iter().find(|watch| watch.router == *name);
            let believed = watch.and_then(|watch| match watch.belief() {
                Belief::Unknown => None,
                belief => Some(belief == Belief::Believed),
            });
            RouterStatus::of(router, believed)
        });
        let status: Vec<RouterStatus> = status.collect();
        let mut board = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        tell_of_rivals(&board, &status);
        *board = status;
    }

    fn complain_of(&mut self, at: usize, what: &'static str, error: &dyn std::fmt::Display) {
        let name = &self.instances[at].router.name;
        if is_due(&mut self.complaints, at, what) {
            tracing::warn!(%error, instance = %name, "can't {what}");
        }
    }
}

/// The sync groups, if everything is as it can be.
/// Logs which routers have begun to share, or share no longer, what they are master of.
fn tell_of_rivals(before: &[RouterStatus], now: &[RouterStatus]) {
    for router in now {
        let known = before.iter().find(|known| known.name == router.name);
        let instance = &router.name;
        match (known.and_then(|known| known.rival), router.rival) {
            (None, Some(rival)) => tracing::warn!(
                instance,
                %rival,
                "another router goes on as master too: `pointsman doctor vrrp` says why"
            ),
            (Some(_), None) => tracing::info!(instance, "no other router is master any more"),
            _ => {}
        }
    }
}

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
