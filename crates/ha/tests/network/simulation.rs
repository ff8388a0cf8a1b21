//! Hosts with virtual routers on segments, all from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pointsman_ha::vrrp::{
    AnnounceConfig, Datagram, Interface, Output, Peer, Peers, Reading, RouterConfig, State,
    SyncGroup, Tracker, Version, VirtualRouter, VrrpRouter,
};
use pointsman_wire::Mac;
use pointsman_wire::advert::ChecksumStyle;

const MILLISECOND: Duration = Duration::from_millis(1);
/// What a paused host's sockets keep.
const BACKLOG: usize = 40;

/// Numbers that look like chance and are not (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        MILLISECOND * (least + self.below(most - least + 1)) as u32
    }
}

/// What happens at a time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival(usize, Arrival),
    Resume(usize),
    Trouble,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Arrival {
    segment: usize,
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    message: Vec<u8>,
}

struct Host {
    vrrp: VrrpRouter,
    configs: Vec<RouterConfig>,
    running: bool,
    paused: bool,
    backlog: Vec<Arrival>,
    /// Per segment: frames pass from the host, frames pass to it.
    port: Vec<(bool, bool)>,
    /// Per segment: the addresses it has.
    held: Vec<BTreeSet<IpAddr>>,
}

pub struct Simulation {
    seed: u64,
    chance: Chance,
    now: Duration,
    hosts: Vec<Host>,
    segments: usize,
    v6: bool,
    grouped: bool,
    /// Loss and repetition in percent, delay at most.
    loss: u64,
    repeated: u64,
    delay: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    sequence: u64,
    changes: u64,
    several: bool,
    convergence: Duration,
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let count = 2 + chance.below(4) as usize;
        let grouped = chance.percent(25);
        let segments = if grouped { 2 } else { 1 };
        let v6 = chance.percent(30);
        let version = if v6 || chance.percent(60) {
            Version::V3
        } else {
            Version::V2
        };
        let unicast = chance.percent(30);
        let alike = chance.percent(50);
        let all_preempt = chance.percent(50);
        let common = interval(&mut chance, version);
        let mut longest = Duration::ZERO;
        let mut hosts = Vec::new();
        for index in 0..count {
            let priority = match chance.below(10) {
                0 => 255,
                1 | 2 => 100,
                _ => 1 + chance.below(254) as u8,
            };
            let preempt = all_preempt || chance.percent(50);
            let delay = if chance.percent(25) {
                chance.milliseconds(0, 3000)
            } else {
                Duration::ZERO
            };
            let own = if alike || version == Version::V2 {
                common
            } else {
                interval(&mut chance, version)
            };
            let style = if chance.percent(50) {
                ChecksumStyle::PseudoHeader
            } else {
                ChecksumStyle::Message
            };
            longest = longest.max(own);
            let configs = (0..segments).map(|segment| {
                let name = format!("VI_{segment}");
                let vip = virtual_address(segment, v6);
                let mut config = RouterConfig::new(&name, &interface_name(segment), 51, &[vip]);
                config.version = version;
                config.priority = priority;
                config.interval = own;
                config.checksum = style;
                config.preempt = preempt;
                config.preempt_delay = delay;
                config.announce = AnnounceConfig {
                    repeat: 1,
                    lower_repeat: 1,
                    ..AnnounceConfig::default()
                };
                config.trackers = vec![Tracker::new("weighted").weight(-60), Tracker::new("hard")];
                if unicast {
                    let others = (0..count).filter(|other| *other != index);
                    config.peers = Peers::Unicast {
                        peers: others
                            .map(|o| Peer::from(address(segment, o, v6)))
                            .collect(),
                        hop_limit: 255,
                        only_peers: true,
                    };
                }
                config.check().expect("a possible router");
                config
            });
            hosts.push(Host {
                vrrp: VrrpRouter::default(),
                configs: configs.collect(),
                running: false,
                paused: false,
                backlog: Vec::new(),
                port: vec![(true, true); segments],
                held: vec![BTreeSet::new(); segments],
            });
        }
        let mut simulation = Self {
            seed,
            loss: chance.below(30),
            repeated: chance.below(20),
            delay: chance.milliseconds(1, 300),
            chance,
            // Any moment is as good as zero.
            now: Duration::from_secs(1000),
            hosts,
            segments,
            v6,
            grouped,
            queue: BinaryHeap::new(),
            sequence: 0,
            changes: 0,
            several: false,
            // Two rounds of silence, a pause noticed, a delayed preemption, and one round more.
            convergence: longest * 16 + Duration::from_secs(5),
        };
        for host in 0..count {
            simulation.start(host);
        }
        simulation
    }

    /// Some seconds in which everything happens.
    pub fn trouble(&mut self) {
        let end = self.now + self.chance.milliseconds(4000, 15_000);
        while self.now < end {
            let next = self.now + self.chance.milliseconds(50, 1500);
            self.schedule(next, Happening::Trouble);
            self.run_for(next - self.now);
        }
    }

    /// The end of all trouble; one host may stay away.
    pub fn calm(&mut self) {
        self.loss = 0;
        self.delay = MILLISECOND * 2;
        let away = self.chance.below(3 * self.hosts.len() as u64) as usize;
        for host in 0..self.hosts.len() {
            self.hosts[host].port.fill((true, true));
            self.resume(host);
            if host == away {
                self.stop(host);
                continue;
            }
            if !self.hosts[host].running {
                self.start(host);
            }
            for segment in 0..self.segments {
                self.set_interface(host, segment, true);
            }
            for tracker in ["weighted", "hard"] {
                let now = self.now;
                self.hosts[host]
                    .vrrp
                    .handle_reading(tracker, Reading::Up, now);
            }
            self.drain(host);
        }
    }

    pub fn convergence_time(&self) -> Duration {
        self.convergence
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let happening = self.queue.peek().map(|Reverse((at, ..))| *at);
            let awake = self.hosts.iter().enumerate();
            let timers = awake.filter(|(_, host)| host.running && !host.paused);
            let timer = timers
                .filter_map(|(index, host)| Some((host.vrrp.poll_timeout()?, index)))
                .min();
            let timer_first = match (timer, happening) {
                (Some((at, _)), Some(other)) => at <= other,
                (timer, _) => timer.is_some(),
            };
            if let Some((at, host)) = timer.filter(|(at, _)| timer_first && *at <= end) {
                self.now = self.now.max(at);
                self.hosts[host].vrrp.handle_timeout(self.now);
                self.drain(host);
            } else if happening.is_some_and(|at| at <= end) && !timer_first {
                let Reverse((at, _, happening)) = self.queue.pop().expect("it was seen");
                self.now = self.now.max(at);
                self.happen(happening);
            } else {
                break;
            }
            self.several |= self.masters().iter().any(|masters| masters.len() > 1);
        }
        self.now = end;
    }

    /// The hosts that are master, for each segment.
    pub fn masters(&self) -> Vec<Vec<usize>> {
        let is_master = |host: &Host, segment: usize| {
            host.running && host.vrrp.routers()[segment].state() == State::Master
        };
        (0..self.segments)
            .map(|segment| {
                (0..self.hosts.len())
                    .filter(|host| is_master(&self.hosts[*host], segment))
                    .collect()
            })
            .collect()
    }

    /// Changes of state so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn had_several_masters(&self) -> bool {
        self.several
    }

    pub fn assert_converged(&self) {
        let seed = self.seed;
        let masters = self.masters();
        for (segment, masters_here) in masters.iter().enumerate() {
            assert_eq!(
                masters_here.len(),
                1,
                "seed {seed}, segment {segment}: masters {masters:?}"
            );
            let master = &self.hosts[masters_here[0]].vrrp.routers()[segment];
            for (index, host) in self.hosts.iter().enumerate() {
                let holds = !host.held[segment].is_empty();
                assert_eq!(
                    holds,
                    masters_here[0] == index,
                    "seed {seed}: addresses of host {index}"
                );
                let Some(router) = host.running.then(|| &host.vrrp.routers()[segment]) else {
                    continue;
                };
                let passed_over = router.config().preempt && router.priority() > master.priority();
                assert!(
                    !passed_over,
                    "seed {seed}: host {index} should have preempted"
                );
            }
        }
        if self.grouped {
            assert_eq!(masters[0], masters[1], "seed {seed}: a group is split");
        }
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(host, arrival) => {
                let receiver = &mut self.hosts[host];
                if !receiver.running || !receiver.port[arrival.segment].1 {
                    return;
                }
                if receiver.paused {
                    if receiver.backlog.len() < BACKLOG {
                        receiver.backlog.push(arrival);
                    }
                    return;
                }
                self.deliver(host, arrival);
            }
            Happening::Resume(host) => self.resume(host),
            Happening::Trouble => self.make_trouble(),
        }
    }

    fn make_trouble(&mut self) {
        let host = self.chance.below(self.hosts.len() as u64) as usize;
        let segment = self.chance.below(self.segments as u64) as usize;
        let reading = if self.chance.percent(50) {
            Reading::Up
        } else {
            Reading::Down
        };
        let now = self.now;
        match self.chance.below(8) {
            0 | 1 if !self.hosts[host].paused => {
                self.hosts[host].paused = true;
                let until = now + self.chance.milliseconds(10, 6000);
                self.schedule(until, Happening::Resume(host));
            }
            2 => {
                let port = (self.chance.percent(50), self.chance.percent(50));
                self.hosts[host].port[segment] = port;
            }
            // A process that is paused is not told anything.
            _ if self.hosts[host].paused => {}
            3 => self.hosts[host]
                .vrrp
                .handle_reading("weighted", reading, now),
            4 => self.hosts[host].vrrp.handle_reading("hard", reading, now),
            5 => self.set_interface(host, segment, reading == Reading::Up),
            6 if self.hosts[host].running => self.stop(host),
            _ if !self.hosts[host].running => self.start(host),
            _ => self.loss = self.chance.below(40),
        }
        self.drain(host);
    }

    fn start(&mut self, host: usize) {
        let configs = self.hosts[host].configs.iter().cloned();
        let routers = configs.map(VirtualRouter::new).collect();
        let members: Vec<usize> = (0..self.segments).collect();
        let groups = if self.grouped {
            vec![SyncGroup::new("VG", &members, true)]
        } else {
            Vec::new()
        };
        let now = self.now;
        self.hosts[host].vrrp = VrrpRouter::new(routers, groups);
        self.hosts[host].running = true;
        for tracker in ["weighted", "hard"] {
            self.hosts[host]
                .vrrp
                .handle_reading(tracker, Reading::Up, now);
        }
        for segment in 0..self.segments {
            self.set_interface(host, segment, true);
        }
        self.drain(host);
    }

    fn stop(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].vrrp.stop(now);
        self.drain(host);
        self.hosts[host].running = false;
        let held = &self.hosts[host].held;
        assert!(
            held.iter().all(BTreeSet::is_empty),
            "seed {}: addresses stay behind",
            self.seed
        );
    }

    fn resume(&mut self, host: usize) {
        if !std::mem::take(&mut self.hosts[host].paused) {
            return;
        }
        let backlog = std::mem::take(&mut self.hosts[host].backlog);
        // Which comes first, the timer or the sockets, is the event loop's whim.
        if self.chance.percent(50) {
            self.hosts[host].vrrp.handle_timeout(self.now);
            self.drain(host);
        }
        for arrival in backlog {
            self.deliver(host, arrival);
        }
    }

    fn set_interface(&mut self, host: usize, segment: usize, up: bool) {
        let interface = up.then(|| Interface {
            source: address(segment, host, self.v6),
            mac: Mac([2, 0, 0, 0, segment as u8, host as u8]),
            router: false,
        });
        let (now, v6) = (self.now, self.v6);
        let name = interface_name(segment);
        self.hosts[host]
            .vrrp
            .handle_interface(&name, v6, interface, now);
    }

    fn deliver(&mut self, host: usize, arrival: Arrival) {
        let datagram = Datagram {
            source: arrival.source,
            destination: arrival.destination,
            hop_limit: arrival.hop_limit,
            message: arrival.message,
        };
        let name = interface_name(arrival.segment);
        let taken = self.hosts[host]
            .vrrp
            .handle_packet(&name, &datagram, self.now);
        assert!(taken.is_ok(), "seed {}: rejected: {taken:?}", self.seed);
        self.drain(host);
    }

    /// Does what a host wants done.
    fn drain(&mut self, host: usize) {
        while let Some((segment, output)) = self.hosts[host].vrrp.poll_output() {
            match output {
                Output::Send(datagram) => self.send(host, segment, datagram),
                Output::Frame(_) => {}
                Output::AddAddress(address) => {
                    let added = self.hosts[host].held[segment].insert(address);
                    assert!(added, "seed {}: {address} added twice", self.seed);
                }
                Output::RemoveAddress(address) => {
                    let removed = self.hosts[host].held[segment].remove(&address);
                    assert!(removed, "seed {}: {address} removed twice", self.seed);
                }
                Output::Notify(_) => self.changes += 1,
            }
        }
    }

    fn send(&mut self, host: usize, segment: usize, datagram: Datagram) {
        if !self.hosts[host].port[segment].0 {
            return;
        }
        for other in 0..self.hosts.len() {
            let theirs = address(segment, other, self.v6);
            let group = datagram.destination.is_multicast();
            if other == host || !group && datagram.destination != theirs {
                continue;
            }
            let copies = 1 + u64::from(self.chance.percent(self.repeated));
            for _ in 0..copies {
                if self.chance.percent(self.loss) {
                    continue;
                }
                let most = self.delay.as_millis() as u64;
                let at = self.now + self.chance.milliseconds(0, most);
                let arrival = Arrival {
                    segment,
                    source: datagram.source,
                    destination: datagram.destination,
                    hop_limit: datagram.hop_limit,
                    message: datagram.message.clone(),
                };
                self.schedule(at, Happening::Arrival(other, arrival));
            }
        }
    }
}

fn interval(chance: &mut Chance, version: Version) -> Duration {
    match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => MILLISECOND * [200, 500, 1000, 2000][chance.below(4) as usize],
    }
}

fn interface_name(segment: usize) -> String {
    format!("eth{segment}")
}

fn address(segment: usize, host: usize, v6: bool) -> IpAddr {
    let (segment, host) = (segment as u16, host as u16 + 1);
    if v6 {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, segment, host).into()
    } else {
        Ipv4Addr::new(10, 99, segment as u8, host as u8).into()
    }
}

fn virtual_address(segment: usize, v6: bool) -> IpAddr {
    address(segment, 99, v6)
}
