//! Reloads and restarts of a daemon under traffic: nothing is lost, nobody else becomes master.
//!
//! `cargo xtask steady` sends 50 000 datagrams a second and talks on 200 connections during 100 reloads
//! and 20 restarts; without it there are fewer of each, for machines that are busy with other tests. Half of it
//! goes by direct routing, half by masquerade. `POINTSMAN_OTHER` names a program of another build, which takes
//! turns with today's.

#[path = "../../daemon/tests/vrrp/keepalived.rs"]
#[allow(dead_code)]
mod keepalived;
#[path = "support/manager.rs"]
#[allow(dead_code)]
mod manager;
#[path = "steady/numbered.rs"]
mod numbered;
#[path = "steady/observer.rs"]
mod observer;
#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;
#[path = "steady/talk.rs"]
mod talk;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::bpffs;

use keepalived::Keepalived;
use manager::Manager;
use numbered::{Counter, FLOWS, Sender};
use observer::Observer;
use segment::{Segment, ip, sysctl, wait};
use talk::{Echo, Talk};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
/// Of the services with masquerade, in a network that real servers reach through the director.
const MASQUERADED: &str = "10.78.0.100";
/// Hosts of the segment.
const DIRECTOR: usize = 0;
const SERVERS: [usize; 2] = [1, 2];
const CLIENT: usize = 3;
const RIVAL: usize = 4;

/// How much of everything.
struct Measure {
    /// Datagrams in a second.
    rate: u64,
    connections: usize,
    reloads: usize,
    restarts: usize,
    /// Seconds between advertisements: three of them without one, and the rival is master.
    interval: u64,
}

impl Measure {
    fn of_today() -> Self {
        if std::env::var_os("POINTSMAN_STEADY").is_some_and(|value| value == "full") {
            return Self {
                rate: 50_000,
                connections: 200,
                reloads: 100,
                restarts: 20,
                interval: 1,
            };
        }
        Self {
            rate: 2_000,
            connections: 50,
            reloads: 20,
            restarts: 4,
            interval: 5,
        }
    }
}

/// What a keepalived.conf says, as often as it is changed.
fn configuration(measure: &Measure, turn: usize) -> String {
    let interval = measure.interval;
    // Every second one says the same in other words.
    let step = turn / 2;
    let weight = 1 + step % 3;
    let server = |number: usize, weight: usize, more: &str| {
        format!(
            " real_server 10.77.0.{number} 80 {{\n  weight {weight}\n  TCP_CHECK {{\n   \
             connect_timeout 10\n   warmup 1\n{more}  }}\n }}\n"
        )
    };
    let checked = match step % 2 {
        0 => "   retry 3\n",
        _ => "   retry 4\n   delay_before_retry 2\n",
    };
    let third = match step % 4 {
        1..3 => " real_server 10.77.0.9 80 {\n  weight 2\n }\n",
        _ => "",
    };
    let datagrams = match step % 5 {
        0..3 => "",
        _ => " quorum 1\n real_server 10.77.0.9 5000 {\n  weight 0\n }\n",
    };
    format!(
        "! {turn}\nvrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n priority 150\n \
         advert_int {interval}\n virtual_ipaddress {{\n  {VIP}/32\n  {MASQUERADED}/32\n }}\n}}\n\
         virtual_server {VIP} 80 {{\n delay_loop 1\n lb_algo wrr\n lb_kind DR\n protocol TCP\n{}{}{third}}}\n\
         virtual_server {VIP} 5000 {{\n lb_algo rr\n lb_kind DR\n protocol UDP\n{datagrams} \
         real_server 10.77.0.2 5000 {{\n }}\n real_server 10.77.0.3 5000 {{\n }}\n}}\n\
         virtual_server {MASQUERADED} 80 {{\n lb_algo wrr\n lb_kind NAT\n protocol TCP\n{third} \
         real_server 10.77.0.2 80 {{\n  weight {weight}\n }}\n real_server 10.77.0.3 80 {{\n }}\n}}\n\
         virtual_server {MASQUERADED} 5000 {{\n lb_algo rr\n lb_kind NAT\n protocol UDP\n \
         real_server 10.77.0.2 6000 {{\n }}\n real_server 10.77.0.3 6000 {{\n }}\n}}\n",
        server(2, weight, checked),
        server(3, 1, "   retry 3\n"),
    )
}

/// A director that is reloaded and restarted, and all others that it deals with.
struct Stage {
    measure: Measure,
    folder: tempfile::TempDir,
    pins: PathBuf,
    manager: Manager,
    daemon: Option<Child>,
    /// The program, and another copy of it.
    programs: [PathBuf; 2],
    starts: usize,
    turn: usize,
    segment: Segment,
}

impl Stage {
    fn new(measure: Measure) -> Option<Self> {
        let segment = Segment::new(5)?;
        bpffs::mount("/sys/fs/bpf").expect("mount a bpffs");
        for host in SERVERS {
            let server = &segment.hosts[host];
            sysctl(server, "net/ipv4/conf/all/arp_ignore=1");
            sysctl(server, "net/ipv4/conf/all/arp_announce=2");
            ip(server, &format!("address add {VIP}/32 dev lo"));
            ip(server, "route add 10.78.0.0/24 via 10.77.0.1");
        }
        for (host, number) in [(DIRECTOR, 1), (CLIENT, 4)] {
            let address = format!("address add 10.78.0.{number}/24 dev eth0");
            ip(&segment.hosts[host], &address);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let other = match std::env::var_os("POINTSMAN_OTHER") {
            Some(other) => other.into(),
            None => copy_of_program(folder.path()),
        };
        let stage = Self {
            measure,
            manager: Manager::new(folder.path()),
            pins: PathBuf::from(format!("/sys/fs/bpf/pms-{}", std::process::id())),
            folder,
            daemon: None,
            programs: [PROGRAM.into(), other],
            starts: 0,
            turn: 0,
            segment,
        };
        stage.write();
        Some(stage)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("keepalived.conf")
    }

    fn write(&self) {
        let file = self.file();
        let new = file.with_extension("new");
        fs::write(&new, configuration(&self.measure, self.turn)).expect("write");
        fs::rename(&new, &file).expect("rename");
    }

    fn start(&mut self) {
        let program = &self.programs[self.starts % 2];
        self.starts += 1;
        let mut command = self.segment.hosts[DIRECTOR].command(program);
        command
            .args(["run", "--keep", "--no-state", "--interface", "eth0"])
            .args(["--connections", "4096", "--servers", "64"])
            .arg("--keepalived")
            .arg(self.file())
            .arg("--pin-dir")
            .arg(&self.pins)
            .env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"))
            .env("POINTSMAN_LOG", "warn")
            .stdout(std::process::Stdio::null());
        self.manager.attend(&mut command, None);
        self.daemon = Some(command.spawn().expect("start the daemon"));
        self.manager.wait_for("READY=1");
    }

    fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        signal(&daemon, Signal::SIGTERM);
        assert!(daemon.wait().expect("its end").success());
    }

    /// Has the configuration read again; what the daemon says of it.
    fn read_again(&self) -> String {
        self.write();
        self.manager.forget();
        signal(self.daemon.as_ref().expect("a daemon"), Signal::SIGHUP);
        self.manager.wait_for("RELOADING=1");
        self.manager.wait_for("READY=1")
    }

    fn reload(&mut self) {
        self.turn += 1;
        let said = self.read_again();
        let difference = configuration(&self.measure, self.turn)
            .lines()
            .skip(1)
            .ne(configuration(&self.measure, self.turn - 1).lines().skip(1));
        let nothing = said.contains("nothing is different");
        assert_eq!(nothing, !difference, "{said}");
    }

    fn call(&self, words: &str) -> String {
        let mut command = self.segment.hosts[DIRECTOR].command(PROGRAM);
        command.env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"));
        let output = command.args(words.split(' ')).output().expect("run it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let pins = self.pins.display().to_string();
        self.call(&format!("detach --pin-dir {pins}"));
    }
}

/// Of another build, for all that the system knows: the same code in another file.
fn copy_of_program(folder: &Path) -> PathBuf {
    let copy = folder.join("pointsman");
    fs::copy(PROGRAM, &copy).expect("copy the program");
    let mut program = fs::OpenOptions::new();
    let mut program = program.append(true).open(&copy).expect("open the copy");
    std::io::Write::write_all(&mut program, b"another build").expect("change the copy");
    copy
}

/// Connections and datagrams from the client to one virtual address.
struct Traffic {
    talk: Talk,
    sender: Sender,
    counters: [Counter; 2],
}

/// What became of it.
struct Tally {
    words: u64,
    broken: Vec<String>,
    sent: u64,
    rate: f64,
    lost: u64,
}

impl Traffic {
    /// Half of what is measured; datagrams come to the counters' address.
    fn start(stage: &Stage, to: &str, counters: [Counter; 2]) -> Self {
        let to = |port: u16| SocketAddr::new(to.parse().expect("an address"), port);
        let client = &stage.segment.hosts[CLIENT];
        Self {
            talk: Talk::start(client, to(80), stage.measure.connections / 2),
            sender: Sender::start(client, to(5000), stage.measure.rate / 2),
            counters,
        }
    }

    fn finish(self) -> Tally {
        let (words, broken) = self.talk.stop();
        let (sent, rate) = self.sender.stop();
        assert_eq!(sent.len(), FLOWS);
        let counts = || -> Vec<u64> {
            let [one, other] = self.counters.each_ref().map(Counter::counts);
            one.iter().zip(&other).map(|(a, b)| a + b).collect()
        };
        // What was sent may be on its way; what is lost never comes.
        let deadline = Instant::now() + Duration::from_secs(5);
        while counts() != sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let sent = sent.iter().sum::<u64>();
        let came = counts().iter().sum::<u64>();
        Tally {
            words,
            broken,
            sent,
            rate,
            lost: sent - came,
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    kill(id, signal).expect("signal the daemon");
}

/// Packets that this machine dropped before anybody looked at them, because it was too busy.
fn overrun() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").expect("counters");
    let dropped = |line: &str| {
        let word = line.split_whitespace().nth(1)?;
        u64::from_str_radix(word, 16).ok()
    };
    text.lines().filter_map(dropped).sum()
}

#[test]
fn nothing_is_lost_by_reloads_and_restarts() {
    let Some(mut stage) = Stage::new(Measure::of_today()) else {
        return;
    };
    let everywhere = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let hosts = &stage.segment.hosts;
    let echoes = SERVERS.map(|host| Echo::start(&hosts[host], everywhere(80)));
    let direct = SocketAddr::new(VIP.parse().expect("an address"), 5000);
    let direct = SERVERS.map(|host| Counter::start(&hosts[host], direct));
    let masqueraded = SERVERS.map(|host| Counter::start(&hosts[host], everywhere(6000)));
    let observer = Observer::start(&hosts[RIVAL], [10, 77, 0, 100]);
    // Elected soon, before anybody else is there.
    let interval = std::mem::replace(&mut stage.measure.interval, 1);
    stage.write();
    stage.start();
    stage.segment.wait_for_owner(DIRECTOR, &[DIRECTOR], VIP);
    stage.measure.interval = interval;
    stage.read_again();
    let rival = format!(
        "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n priority 100\n advert_int {}\n \
         virtual_ipaddress {{\n {VIP}/32\n {MASQUERADED}/32\n }}\n}}\n",
        stage.measure.interval
    );
    let mut rival = Keepalived::start(&stage.segment.hosts[RIVAL], &rival);
    // Both next hops are known before anything counts.
    wait("next hops", || {
        let said = stage.call("status --json");
        !said.is_empty() && stage.call("ipvsadm -Ln").matches("10.77.0.").count() >= 4
    });
    wait("both real servers to answer", || {
        let mac = |number: u8| format!("10.77.0.{number} lladdr");
        let known = ip(&stage.segment.hosts[DIRECTOR], "neighbour show dev eth0");
        [2, 3].iter().all(|number| known.contains(&mac(*number)))
    });
    let overrun_before = overrun();
    let all = [
        Traffic::start(&stage, VIP, direct),
        Traffic::start(&stage, MASQUERADED, masqueraded),
    ];
    let [sender, _] = all.each_ref().map(|traffic| &traffic.sender);
    let hear = |words: u64| all.iter().for_each(|one| one.talk.wait_for_words(words));
    sender.wait_for(stage.measure.rate / 4);
    let mut longest = Duration::ZERO;
    let began = Instant::now();
    let Measure {
        reloads, restarts, ..
    } = stage.measure;
    for reload in 0..reloads {
        stage.reload();
        sender.wait_for(stage.measure.rate / 40);
        if (reload + 1) % (reloads / restarts) == 0 {
            hear(2);
            let began = Instant::now();
            stage.stop();
            stage.start();
            longest = longest.max(began.elapsed());
            hear(2);
        }
    }
    let took = began.elapsed();
    sender.wait_for(stage.measure.rate / 4);
    let tallies = all.map(Traffic::finish);
    let sum = |part: fn(&Tally) -> u64| tallies.iter().map(part).sum::<u64>();
    let (sent, lost, words) = (sum(|t| t.sent), sum(|t| t.lost), sum(|t| t.words));
    let rate: f64 = tallies.iter().map(|tally| tally.rate).sum();
    let broken: Vec<&String> = tallies.iter().flat_map(|tally| &tally.broken).collect();
    let heard = observer.heard();
    let gap = heard.longest_gap();
    println!(
        "steady: {} datagrams at {rate:.0} a second, {lost} lost; {} connections, {words} words, {} \
         broken; {reloads} reloads and {restarts} restarts in {:.1} s, the longest {} ms; advertisements \
         {} s apart, at most {} ms",
        sent,
        stage.measure.connections,
        broken.len(),
        took.as_secs_f64(),
        longest.as_millis(),
        stage.measure.interval,
        gap.as_millis(),
    );
    assert_eq!(broken, [""; 0]);
    let busy = overrun() - overrun_before;
    assert_eq!(
        tallies.map(|tally| tally.lost),
        [0, 0],
        "{busy} dropped by a busy machine\n{}",
        stage.call("verdicts")
    );
    // One master, always the same, and nobody thought otherwise.
    assert!(
        heard
            .adverts
            .iter()
            .all(|(_, from, priority)| (*from, *priority) == (1, 150))
    );
    let down = Duration::from_secs(stage.measure.interval * 3);
    assert!(gap < down, "{gap:?} without an advertisement");
    assert_eq!(heard.claims.len(), 1, "{:x?}", heard.claims);
    assert!(!stage.segment.has(RIVAL, VIP));
    rival.stop();
    rival.assert_content();
    drop(echoes);
}
