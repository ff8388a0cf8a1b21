//! Scenarios by chance: the same seed gives the same scenario.
//!
//! What would depend on how fast a machine is stays out: connections that were reset are waited for
//! until they have expired, counters of packets are looked at where only datagrams were sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::oracle::scenario::Scenario;
use crate::oracle::site;
use crate::oracle::step::{Flow, Step};

/// Schedulers of kernel 6.1, the oldest that Pointsman runs on.
const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
];
/// Longer than a connection that was reset is remembered (10 s), and some for the sweep.
const AFTER_RESETS: Duration = Duration::from_secs(13);
/// The kernel adds its counters up every two seconds.
const BEFORE_STATS: Duration = Duration::from_millis(2500);
/// Real servers that a scenario may have: each is two devices and many sockets.
const SERVERS: u64 = 5;
/// Steps besides the setup.
const STEPS: u64 = 40;

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut story = Story::new(seed);
    let setup = story.begin();
    for _ in 0..STEPS {
        story.step();
    }
    story.end();
    Scenario {
        name: format!("seed-{seed}"),
        description: story.description(),
        setup,
        steps: story.steps,
        ports: vec![80, 8080],
    }
}

/// A virtual service as it should be by now.
#[derive(Debug, Clone)]
struct Service {
    /// `-t 10.99.0.1:80`, as ipvsadm names it.
    name: String,
    /// The rule that marks its packets, for a service of a mark.
    mark_rule: Option<String>,
    destination: SocketAddr,
    udp: bool,
    /// Numbers of its real servers with their ports.
    servers: Vec<(u8, u16)>,
    exists: bool,
}

struct Story {
    chance: Chance,
    steps: Vec<Step>,
    services: Vec<Service>,
    /// Connections that were opened and not ended.
    open: Vec<Flow>,
    sockets: Vec<Flow>,
    has_tcp: bool,
    count: u32,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut story = Self {
            chance: Chance(seed),
            steps: Vec::new(),
            services: Vec::new(),
            open: Vec::new(),
            sockets: Vec::new(),
            has_tcp: false,
            count: 0,
        };
        // Only datagrams, so that packets can be counted, now and then.
        let datagrams_only = story.chance.one_in(4);
        for number in 1..=story.chance.between(1, 3) {
            let udp = datagrams_only || story.chance.one_in(4);
            let service = story.service(number as u8, udp);
            story.services.push(service);
        }
        story
    }

    fn description(&self) -> String {
        let named: Vec<&str> = self.services.iter().map(|s| s.name.as_str()).collect();
        format!("by chance: {}", named.join(", "))
    }

    fn service(&mut self, number: u8, udp: bool) -> Service {
        let ipv6 = self.chance.one_in(4);
        let address: IpAddr = if ipv6 {
            Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, number.into()).into()
        } else {
            Ipv4Addr::new(10, 99, 0, number).into()
        };
        let destination = SocketAddr::new(address, 80);
        let is_mark = self.chance.one_in(6);
        let option = if udp { "-u" } else { "-t" };
        let program = if ipv6 { "ip6tables" } else { "iptables" };
        let protocol = if udp { "udp" } else { "tcp" };
        Service {
            name: match is_mark {
                true => format!("-f {number}{}", if ipv6 { " -6" } else { "" }),
                false => format!("{option} {destination}"),
            },
            mark_rule: is_mark.then(|| {
                format!(
                    "{program} -t mangle -A PREROUTING -d {address} -p {protocol} --dport 80 \
                     -j MARK --set-mark {number}"
                )
            }),
            destination,
            udp,
            servers: Vec::new(),
            exists: true,
        }
    }

    /// Services and their first real servers, as lines of the setup.
    fn begin(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for at in 0..self.services.len() {
            if let Some(rule) = self.services[at].mark_rule.clone() {
                self.steps.push(Step::Shell(rule));
            }
            let how = self.how_to_balance(at);
            lines.push(format!("-A {}{how}", self.services[at].name));
            for _ in 0..self.chance.between(1, SERVERS) {
                if let Some(line) = self.new_server(at) {
                    lines.push(line);
                }
            }
        }
        lines
    }

    /// Scheduler, its flags, persistence, one-packet scheduling.
    fn how_to_balance(&mut self, at: usize) -> String {
        let scheduler = *self.chance.of(&SCHEDULERS);
        let mut words = format!(" -s {scheduler}");
        if matches!(scheduler, "sh" | "mh") {
            let flags = ["", "port", "fallback", "port,fallback"];
            let flags = *self.chance.of(&flags);
            if !flags.is_empty() {
                let flags = flags.split(',').map(|flag| format!("{scheduler}-{flag}"));
                words += &format!(" -b {}", flags.collect::<Vec<_>>().join(","));
            }
        }
        let service = &self.services[at];
        let (udp, ipv6) = (service.udp, service.destination.is_ipv6());
        match self.chance.below(5) {
            0 => {
                // Longer than any scenario takes.
                words += &format!(" -p {}", self.chance.between(400, 1000));
                if self.chance.one_in(2) {
                    let mask = if ipv6 { "124" } else { "255.255.255.252" };
                    words += &format!(" -M {mask}");
                }
            }
            1 if udp => words += " -o",
            _ => {}
        }
        words
    }

    fn weight(&mut self) -> u64 {
        match self.chance.below(8) {
            0 => 0,
            1 => self.chance.between(10, 1000),
            _ => self.chance.between(1, 5),
        }
    }

    /// Method, weight and thresholds.
    fn how_to_serve(&mut self, method: char) -> String {
        let mut words = format!(" -{method} -w {}", self.weight());
        if self.chance.one_in(5) {
            let upper = self.chance.between(1, 4);
            words += &format!(" -x {upper}");
            if self.chance.one_in(2) {
                words += &format!(" -y {}", self.chance.between(1, upper));
            }
        }
        words
    }

    fn method(&mut self) -> char {
        *self.chance.of(&['g', 'm', 'm'])
    }

    fn server_name(&self, at: usize, (server, port): (u8, u16)) -> String {
        let [four, six] = site::server_addresses(server).unwrap_or([IpAddr::from([0; 4]); 2]);
        let service = &self.services[at];
        let address = if service.destination.is_ipv6() {
            six
        } else {
            four
        };
        SocketAddr::new(address, port).to_string()
    }

    /// A line that adds a real server that is not there; `None` when every one is.
    fn new_server(&mut self, at: usize) -> Option<String> {
        let method = self.method();
        let port = match method {
            'm' if self.chance.one_in(3) => 8080,
            _ => 80,
        };
        let number = self.chance.between(1, SERVERS) as u8;
        let server = (number, port);
        if self.services[at].servers.contains(&server) {
            return None;
        }
        self.services[at].servers.push(server);
        let how = self.how_to_serve(method);
        let name = self.server_name(at, server);
        Some(format!("-a {} -r {name}{how}", self.services[at].name))
    }

    fn ipvsadm(&mut self, words: String) {
        self.steps.push(Step::Ipvsadm(words));
    }

    fn step(&mut self) {
        let at = self.chance.below(self.services.len() as u64) as usize;
        match self.chance.below(40) {
            0..17 => self.traffic(at),
            17..20 => self.end_one(false),
            20 => self.end_one(true),
            21..23 => self.send(),
            23..27 => self.edit_server(at),
            27..30 => self.delete_server(at),
            30..33 => {
                if let Some(line) = self.new_server(at) {
                    self.ipvsadm(line);
                }
            }
            33 => {
                let how = self.how_to_balance(at);
                let name = self.services[at].name.clone();
                self.ipvsadm(format!("-E {name}{how}"));
            }
            34 => self.delete_or_return(at),
            35 => self.mistake(at),
            36..38 => self.steps.push(Step::List),
            38 => self.steps.push(Step::Conns),
            _ => self.look(at),
        }
    }

    fn client(&mut self, ipv6: bool) -> IpAddr {
        let host = self.chance.between(1, 12) as u8;
        if ipv6 {
            Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, host.into()).into()
        } else {
            Ipv4Addr::new(10, 64, 0, host).into()
        }
    }

    fn fresh_flow(&mut self, at: usize) -> Flow {
        let destination = self.services[at].destination;
        let address = self.client(destination.is_ipv6());
        self.count += 1;
        // Not in steps of one: hashes see the ports.
        let port = 20_000 + (self.count * 37 % 10_000) as u16;
        Flow {
            id: format!("c{}", self.count),
            source: SocketAddr::new(address, port),
            destination,
        }
    }

    fn traffic(&mut self, at: usize) {
        // A burst tells schedulers apart better than one at a time.
        for _ in 0..self.chance.between(1, 4) {
            if self.services[at].udp {
                let again = self
                    .sockets
                    .iter()
                    .filter(|socket| socket.destination == self.services[at].destination);
                let again: Vec<Flow> = again.cloned().collect();
                let flow = match !again.is_empty() && self.chance.one_in(3) {
                    true => self.chance.of(&again).clone(),
                    false => self.fresh_flow(at),
                };
                self.sockets.push(flow.clone());
                self.steps.push(Step::Udp(flow));
                continue;
            }
            self.has_tcp = true;
            let flow = self.fresh_flow(at);
            self.opened(flow);
        }
    }

    fn opened(&mut self, flow: Flow) {
        self.open.push(flow.clone());
        self.steps.push(Step::Open(flow));
    }

    fn take_open(&mut self) -> Option<Flow> {
        if self.open.is_empty() {
            return None;
        }
        let which = self.chance.below(self.open.len() as u64) as usize;
        Some(self.open.remove(which))
    }

    fn end_one(&mut self, reset: bool) {
        if !reset {
            if let Some(open) = self.take_open() {
                self.steps.push(Step::Close(open.id));
            }
            return;
        }
        let mut ended = Vec::new();
        for _ in 0..self.chance.between(1, 5) {
            if let Some(open) = self.take_open() {
                self.steps.push(Step::Reset(open.id.clone()));
                ended.push(open);
            }
        }
        if ended.is_empty() {
            return;
        }
        // The same ports again, while the connections before are remembered.
        if self.chance.one_in(2) {
            for mut flow in ended {
                self.count += 1;
                flow.id = format!("c{}", self.count);
                self.opened(flow);
            }
        }
        self.steps.push(Step::Sleep(AFTER_RESETS));
    }

    fn send(&mut self) {
        if !self.open.is_empty() {
            let which = self.chance.below(self.open.len() as u64) as usize;
            let id = self.open[which].id.clone();
            self.steps.push(Step::Send(id));
        }
    }

    fn some_server(&mut self, at: usize) -> Option<(u8, u16)> {
        let servers = self.services[at].servers.clone();
        (!servers.is_empty()).then(|| *self.chance.of(&servers))
    }

    fn edit_server(&mut self, at: usize) {
        let Some(server) = self.some_server(at) else {
            return;
        };
        // A port of its own is for masquerading alone: others would get the service's.
        let method = match server.1 {
            8080 => 'm',
            _ => self.method(),
        };
        let how = self.how_to_serve(method);
        let name = self.server_name(at, server);
        let service = self.services[at].name.clone();
        self.ipvsadm(format!("-e {service} -r {name}{how}"));
    }

    fn delete_server(&mut self, at: usize) {
        if let Some(server) = self.some_server(at) {
            self.services[at].servers.retain(|other| *other != server);
            let name = self.server_name(at, server);
            let service = self.services[at].name.clone();
            self.ipvsadm(format!("-d {service} -r {name}"));
        }
    }

    /// Deletes the service, or brings it back with some of the real servers that it may have had.
    fn delete_or_return(&mut self, at: usize) {
        let name = self.services[at].name.clone();
        if self.services[at].exists {
            self.services[at].exists = false;
            self.services[at].servers.clear();
            self.ipvsadm(format!("-D {name}"));
            return;
        }
        self.services[at].exists = true;
        let how = self.how_to_balance(at);
        self.ipvsadm(format!("-A {name}{how}"));
        for _ in 0..self.chance.between(1, 4) {
            if let Some(line) = self.new_server(at) {
                self.ipvsadm(line);
            }
        }
    }

    /// Something that is refused, or at least odd.
    fn mistake(&mut self, at: usize) {
        let name = self.services[at].name.clone();
        let server = self.some_server(at).unwrap_or((1, 80));
        let server = self.server_name(at, server);
        let line = match self.chance.below(6) {
            0 => format!("-A {name}"),
            1 => format!("-a {name} -r {server}"),
            2 => format!("-e {name} -r {server} -m -x 1 -y 2"),
            3 => format!("-E {name} -s nosuch"),
            4 => "-D -t 10.99.9.9:80".to_owned(),
            _ => format!("-Z {name}"),
        };
        if let Some(rest) = line.strip_prefix("-A ") {
            // It may succeed where the service was deleted.
            let service = &mut self.services[at];
            debug_assert_eq!(rest, service.name);
            service.exists = true;
        }
        self.ipvsadm(line);
    }

    /// The text of a list.
    fn look(&mut self, at: usize) {
        let views = ["", " --thresholds", " --persistent-conn", " --tun-info"];
        let view = *self.chance.of(&views);
        let service = match self.services[at].exists && self.chance.one_in(3) {
            true => format!(" {}", self.services[at].name),
            false => String::new(),
        };
        self.ipvsadm(format!("-Ln{service}{view}"));
    }

    fn end(&mut self) {
        self.steps.push(Step::List);
        self.ipvsadm("-Ln".to_owned());
        self.ipvsadm("-Ln --persistent-conn".to_owned());
        self.steps.push(Step::Conns);
        self.steps.push(Step::Save);
        if !self.has_tcp {
            self.steps.push(Step::Sleep(BEFORE_STATS));
            self.steps.push(Step::Stats);
        }
    }
}

/// Chance from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_a_scenario_and_it_can_be_read() {
        for seed in 1..200 {
            let made = scenario(seed);
            assert_eq!(made, scenario(seed));
            let read = Scenario::parse(&made.to_json()).expect("a scenario");
            assert_eq!(read.all_steps(), made.all_steps(), "{seed}");
        }
    }

    #[test]
    fn every_scheduler_and_every_kind_of_step_comes_soon() {
        let all: Vec<Scenario> = (1..60).map(scenario).collect();
        let text: String = all.iter().map(Scenario::to_json).collect();
        for scheduler in SCHEDULERS {
            assert!(
                text.contains(&format!("-s {scheduler} -"))
                    || text.contains(&format!("-s {scheduler}\"")),
                "{scheduler}"
            );
        }
        let operations: BTreeSet<&str> = all
            .iter()
            .flat_map(Scenario::all_steps)
            .map(|step| step.operation())
            .collect();
        let wanted = [
            "close", "conns", "ipvsadm", "list", "open", "rst", "save", "send", "sh", "sleep",
            "stats", "udp",
        ];
        assert_eq!(operations, BTreeSet::from(wanted));
        for words in [
            " -p ", " -M ", " -o\"", " -x ", " -w 0", "-E ", "-D ", "-f ", "[fd00",
        ] {
            assert!(text.contains(words), "{words}");
        }
    }
}
