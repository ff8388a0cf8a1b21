//! BFD sessions over networks made by chance, that lose, delay and repeat, between hosts that pause.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use pointsman_ha::bfd::{SessionConfig, SessionOutput, Sessions};

/// Numbers by chance (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    /// It loses half, delays and repeats, and hosts pause.
    Foul,
    /// It loses no more in a row than sessions allow.
    Fair,
    /// Nothing comes through.
    Cut,
}

struct Host {
    sessions: Sessions,
    address: IpAddr,
    paused_until: Duration,
    /// What came in while it was paused.
    waiting: Vec<Vec<u8>>,
    /// Packets lost in a row on the way to it.
    lost: u64,
    up: bool,
    falls: u64,
    fell_at: Duration,
}

/// When what arrives where; the number in the middle keeps the order.
type Arrival = (Duration, u64, usize, Vec<u8>);

struct Network {
    dice: Dice,
    now: Duration,
    weather: Weather,
    hosts: [Host; 2],
    wire: BinaryHeap<Reverse<Arrival>>,
    count: u64,
}

const HOP_LIMIT: u8 = 255;

impl Network {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let address = |host: usize| IpAddr::from([10, 0, 0, 1 + host as u8]);
        // One end at most is passive: two would wait for each other.
        let passive = dice.below(3) as usize;
        let hosts = [0, 1].map(|host| {
            let mut interval = || Duration::from_millis(10 + dice.below(190));
            let config = SessionConfig {
                min_rx: interval(),
                min_tx: interval(),
                multiplier: 3 + dice.below(5) as u8,
                passive: passive == host,
                idle_tx: Duration::from_millis(1000 + dice.below(1000)),
                ..SessionConfig::new("B", address(1 - host))
            };
            let mut sessions = Sessions::default();
            // As with two keepalived, both may have the same number.
            sessions.add(config, None, Duration::ZERO, dice.below(2) as u32 + 1);
            Host {
                sessions,
                address: address(host),
                paused_until: Duration::ZERO,
                waiting: Vec::new(),
                lost: 0,
                up: false,
                falls: 0,
                fell_at: Duration::ZERO,
            }
        });
        Self {
            dice,
            now: Duration::ZERO,
            weather: Weather::Foul,
            hosts,
            wire: BinaryHeap::new(),
            count: 0,
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = |host: &Host| Some(host.sessions.poll_timeout()?.max(host.paused_until));
            let timers = self.hosts.iter().filter_map(due);
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let next = timers.chain(arrival).min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.arrive();
            for host in 0..2 {
                self.wake(host);
            }
        }
    }

    fn arrive(&mut self) {
        while let Some(Reverse((at, _, host, packet))) = self.wire.pop() {
            if at > self.now {
                self.wire.push(Reverse((at, self.count, host, packet)));
                self.count += 1;
                return;
            }
            self.hosts[host].waiting.push(packet);
        }
    }

    /// Lets a host take what waits for it, and do what is due.
    fn wake(&mut self, at: usize) {
        let (now, chance) = (self.now, self.dice.roll() as u32);
        let from = self.hosts[1 - at].address;
        let host = &mut self.hosts[at];
        if host.paused_until > now {
            return;
        }
        for packet in std::mem::take(&mut host.waiting) {
            let taken = host
                .sessions
                .handle_packet(&packet, from, HOP_LIMIT, now, chance);
            taken.expect("every packet is for it");
        }
        host.sessions.handle_timeout(now, chance);
        let mut sent = Vec::new();
        while let Some((_, output)) = host.sessions.poll_output() {
            match output {
                SessionOutput::Send(packet) => sent.push(packet.bytes().to_vec()),
                SessionOutput::Up => {
                    assert!(!std::mem::replace(&mut host.up, true), "up twice");
                }
                SessionOutput::Down { .. } => {
                    assert!(std::mem::replace(&mut host.up, false), "down twice");
                    host.falls += 1;
                    host.fell_at = now;
                }
            }
        }
        if self.weather == Weather::Foul && self.dice.percent(1) {
            let pause = Duration::from_millis(self.dice.below(3000));
            self.hosts[at].paused_until = now + pause;
        }
        for packet in sent {
            self.send(1 - at, packet);
        }
    }

    fn send(&mut self, to: usize, packet: Vec<u8>) {
        let config = |host: &Host| host.sessions.iter().next().expect("it").config().clone();
        let sender = config(&self.hosts[1 - to]);
        // Lost ones, jitter and delay together stay below the detection time.
        let may_lose = u64::from(sender.multiplier) - 2;
        let (loses, delay, repeats) = match self.weather {
            Weather::Cut => (true, 1, 0),
            Weather::Foul => (self.dice.percent(50), 300, 20),
            Weather::Fair => {
                let loses = self.dice.percent(30) && self.hosts[to].lost < may_lose;
                (loses, 5, 10)
            }
        };
        if loses {
            self.hosts[to].lost += 1;
            return;
        }
        self.hosts[to].lost = 0;
        let copies = 1 + usize::from(self.dice.percent(repeats));
        for _ in 0..copies {
            let at = self.now + Duration::from_micros(self.dice.below(delay * 1000));
            self.wire
                .push(Reverse((at, self.count, to, packet.clone())));
            self.count += 1;
        }
    }

    fn falls(&self) -> u64 {
        self.hosts.iter().map(|host| host.falls).sum()
    }
}

#[test]
fn both_ends_agree_in_the_end_and_nothing_flaps_while_losses_are_allowed() {
    let mut falls = 0;
    for seed in 0..400 {
        let mut network = Network::new(seed);
        network.run_for(Duration::from_secs(15));
        network.weather = Weather::Fair;
        network.run_for(Duration::from_secs(25));
        for host in &network.hosts {
            assert!(host.up, "{seed}: {:?}", host.sessions);
        }
        let before = network.falls();
        falls += before;
        network.run_for(Duration::from_secs(20));
        assert_eq!(
            network.falls(),
            before,
            "{seed}: {:?}",
            network.hosts.each_ref().map(|h| &h.sessions)
        );
        // Cut, each is down within its own detection time.
        network.weather = Weather::Cut;
        let cut = network.now;
        let limits = network.hosts.each_ref().map(|host| {
            let session = host.sessions.iter().next().expect("it");
            session.detection_time() + Duration::from_millis(5)
        });
        network.run_for(Duration::from_secs(10));
        for (host, limit) in network.hosts.iter().zip(limits) {
            assert!(!host.up, "{seed}");
            let took = host.fell_at - cut;
            assert!(took <= limit, "{seed}: {took:?} of {limit:?}");
        }
        network.weather = Weather::Fair;
        network.run_for(Duration::from_secs(25));
        assert!(network.hosts.iter().all(|host| host.up), "{seed}");
    }
    assert!(falls > 100, "the weather was not foul: {falls}");
}
