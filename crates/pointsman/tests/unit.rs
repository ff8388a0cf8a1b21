//! The unit of `packaging/` under a real systemd: start, reload, restart, stop, crashes and hangs.

#[path = "steady/observer.rs"]
#[allow(dead_code)]
mod observer;
#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;
#[path = "support/systemd.rs"]
mod systemd;
#[path = "steady/talk.rs"]
mod talk;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use observer::Observer;
use segment::{Segment, ip, sysctl, wait};
use systemd::Systemd;
use talk::{Echo, Talk};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
const FILE: &str = "/etc/pointsman/keepalived.conf";
const DEFAULTS: &str = "/etc/default/pointsman";
/// Hosts of the segment.
const DIRECTOR: usize = 0;
const SERVER: usize = 1;
const CLIENT: usize = 2;

/// What a keepalived.conf says; the real server's weight tells which one was read. No owner, the virtual
/// router has to be elected.
fn configuration(weight: u32) -> String {
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n version 3\n virtual_router_id 51\n priority 150\n advert_int 0.3\n \
         virtual_ipaddress {{\n  {VIP}/32\n }}\n}}\n\
         virtual_server {VIP} 80 {{\n lb_algo rr\n lb_kind DR\n protocol TCP\n \
         real_server 10.77.0.2 80 {{\n  weight {weight}\n }}\n}}\n"
    )
}

/// A director whose daemon is a service.
struct Stage {
    systemd: Systemd,
    segment: Segment,
}

impl Stage {
    fn new(drop_in: &str, options: &str) -> Option<Self> {
        let segment = Segment::new(3)?;
        let server = &segment.hosts[SERVER];
        sysctl(server, "net/ipv4/conf/all/arp_ignore=1");
        sysctl(server, "net/ipv4/conf/all/arp_announce=2");
        ip(server, &format!("address add {VIP}/32 dev lo"));
        let systemd = Systemd::boot(&segment.hosts[DIRECTOR], PROGRAM, drop_in)?;
        let options = format!(
            "POINTSMAN_OPTIONS=\"--interface eth0 --connections 1024 --servers 64 --keepalived {FILE} {options}\"\n"
        );
        systemd.write(DEFAULTS, &options);
        systemd.write(FILE, &configuration(1));
        Some(Self { systemd, segment })
    }

    /// Whether the daemon has this address, and what it balances.
    fn has_address(&self) -> bool {
        self.segment.has(DIRECTOR, VIP)
    }

    fn listed(&self) -> String {
        self.systemd.run("pointsman ipvsadm -Sn").text
    }

    fn talk(&self) -> (Echo, Talk) {
        let hosts = &self.segment.hosts;
        let echo = Echo::start(&hosts[SERVER], SocketAddr::from(([0, 0, 0, 0], 80)));
        let to = SocketAddr::new(VIP.parse().expect("an address"), 80);
        (echo, Talk::start(&hosts[CLIENT], to, 20))
    }

    fn observer(&self) -> Observer {
        Observer::start(&self.segment.hosts[CLIENT], [10, 77, 0, 100])
    }

    /// Starts the unit and waits for the address.
    fn start(&self) {
        self.systemd.do_with_unit("start");
        self.segment
            .wait_for_owner(DIRECTOR, &[DIRECTOR, CLIENT], VIP);
    }

    /// Waits until systemd has begun the daemon again so many times, and it is up.
    fn wait_for_restart(&self, before: u32) {
        wait("a restart", || {
            let restarts = self.systemd.property("NRestarts").parse::<u32>();
            restarts.is_ok_and(|restarts| restarts > before)
                && self.systemd.property("ActiveState") == "active"
        });
    }

    fn restarts(&self) -> u32 {
        let restarts = self.systemd.property("NRestarts");
        restarts.parse().expect("a number")
    }

    /// Nothing is left of addresses and pins, and others have heard it.
    fn assert_released(&self, observer: &Observer, pins: &str) {
        assert!(!self.has_address(), "{}", self.systemd.log());
        let pins = self.systemd.file(pins);
        assert!(!pins.exists(), "{}", self.systemd.log());
        wait("others to hear that it stops", || {
            let heard = observer.heard().adverts;
            heard.last().is_some_and(|(_, _, priority)| *priority == 0)
        });
    }
}

/// Watches whether the address is ever taken away.
struct Addresses(Child);

impl Addresses {
    fn watch(stage: &Stage) -> Self {
        let mut command = stage.segment.hosts[DIRECTOR].command("ip");
        command.args(["monitor", "address"]).stdout(Stdio::piped());
        Self(command.spawn().expect("run ip"))
    }

    /// How it was taken away so far.
    fn said(mut self) -> String {
        self.0.kill().expect("end it");
        let mut said = String::new();
        let mut out = self.0.stdout.take().expect("its output");
        out.read_to_string(&mut said).expect("text");
        self.0.wait().expect("its end");
        let taken = said
            .lines()
            .filter(|line| line.starts_with("Deleted") && line.contains(VIP));
        taken.map(|line| line.to_owned() + "\n").collect()
    }
}

#[test]
fn it_starts_reloads_restarts_and_stops() {
    let Some(stage) = Stage::new("", "") else {
        return;
    };
    let systemd = &stage.systemd;
    let before = ip(&stage.segment.hosts[DIRECTOR], "-o address show");
    let units =
        "/etc/systemd/system/pointsman.service /etc/systemd/system/pointsman-give-back.service";
    let said = systemd.run(&format!("systemd-analyze verify {units}"));
    assert!(
        said.good && !said.text.contains("pointsman"),
        "{}",
        said.text
    );
    // It reads a configuration that nobody has written yet: it is not up before it is ready.
    let file = systemd.file(FILE);
    fs::remove_file(&file).expect("remove");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    systemd.do_with_unit("start --no-block");
    wait("the daemon", || systemd.property("MainPID") != "0");
    assert_eq!(systemd.property("ActiveState"), "activating");
    fs::write(&file, configuration(1)).expect("write");
    wait("the service to be up", || {
        systemd.property("ActiveState") == "active"
    });
    assert!(stage.listed().contains("-w 1"), "{}", stage.listed());
    // What the unit may do is enough.
    assert!(
        !systemd.log().contains("no more urgent"),
        "{}",
        systemd.log()
    );
    let status = systemd.property("StatusText");
    assert!(status.starts_with("API on /run/pointsman/"), "{status}");
    stage
        .segment
        .wait_for_owner(DIRECTOR, &[DIRECTOR, CLIENT], VIP);
    let observer = stage.observer();
    let addresses = Addresses::watch(&stage);
    let (_echo, talk) = stage.talk();

    systemd.write(FILE, &configuration(2));
    systemd.do_with_unit("reload");
    assert!(stage.listed().contains("-w 2"), "{}", stage.listed());
    systemd.write(FILE, &(configuration(3) + "nonsense\n"));
    let said = systemd.systemctl(&format!("reload {}", systemd::UNIT));
    assert!(!said.good, "{}", said.text);
    let status = systemd.property("StatusText");
    assert!(
        status.contains("was not taken, nothing changed"),
        "{status}"
    );
    assert!(
        systemd.log().contains("unknown keyword `nonsense`"),
        "{}",
        systemd.log()
    );
    assert_eq!(systemd.property("ActiveState"), "active");
    assert!(stage.listed().contains("-w 2"), "{}", stage.listed());

    systemd.write(FILE, &configuration(3));
    let first = systemd.property("MainPID");
    talk.wait_for_words(2);
    systemd.do_with_unit("restart");
    assert_ne!(systemd.property("MainPID"), first);
    let status = systemd.property("StatusText");
    assert!(
        status.contains("services and connections taken over"),
        "{status}"
    );
    assert!(stage.has_address());
    assert!(stage.listed().contains("-w 3"), "{}", stage.listed());
    talk.wait_for_words(2);
    let (_, broken) = talk.stop();
    assert_eq!(broken, [""; 0]);
    let heard = observer.heard();
    let stays = |(_, from, priority): &(u64, u8, u8)| (*from, *priority) == (1, 150);
    assert!(heard.adverts.iter().all(stays), "{:?}", heard.adverts);
    assert_eq!(addresses.said(), "");

    systemd.do_with_unit("stop");
    assert_eq!(systemd.property("ActiveState"), "inactive");
    assert_eq!(systemd.property("Result"), "success");
    assert_eq!(
        ip(&stage.segment.hosts[DIRECTOR], "-o address show"),
        before
    );
    stage.assert_released(&observer, "/sys/fs/bpf/pointsman");
}

#[test]
fn a_daemon_that_dies_or_hangs_begins_again_and_goes_on() {
    let Some(stage) = Stage::new("WatchdogSec=2", "") else {
        return;
    };
    let systemd = &stage.systemd;
    stage.start();
    let observer = stage.observer();
    let addresses = Addresses::watch(&stage);
    let (_echo, talk) = stage.talk();
    for (signal, result) in [("KILL", "signal"), ("STOP", "watchdog")] {
        let before = stage.restarts();
        systemd.kill(signal);
        stage.wait_for_restart(before);
        let said = format!("everything stays as it is: pointsman.service failed ({result})");
        assert!(systemd.log().contains(&said), "{}", systemd.log());
        assert!(stage.has_address());
        talk.wait_for_words(2);
    }
    let (_, broken) = talk.stop();
    assert_eq!(broken, [""; 0]);
    assert_eq!(addresses.said(), "", "{}", systemd.log());
    let heard = observer.heard();
    let stays = |(_, from, priority): &(u64, u8, u8)| (*from, *priority) == (1, 150);
    assert!(heard.adverts.iter().all(stays), "{:?}", heard.adverts);
    // Stopped for good, it is so also if it does not end by itself.
    let hard = "/etc/systemd/system/pointsman.service.d/hard.conf";
    systemd.write(hard, "[Service]\nKillSignal=SIGKILL\n");
    assert!(systemd.systemctl("daemon-reload").good);
    systemd.do_with_unit("stop");
    assert_eq!(systemd.property("Result"), "signal");
    stage.assert_released(&observer, "/sys/fs/bpf/pointsman");
}

#[test]
fn options_reach_what_ends_it_and_one_given_up_on_keeps_no_address() {
    let socket = "/run/pointsman/other.sock";
    let options = format!("--socket {socket} --pin-dir /sys/fs/bpf/elsewhere");
    let Some(stage) = Stage::new("", &options) else {
        return;
    };
    let systemd = &stage.systemd;
    stage.start();
    assert!(systemd.file("/sys/fs/bpf/elsewhere").exists() && systemd.file(socket).exists());
    systemd.write(FILE, &configuration(2));
    systemd.do_with_unit("reload");
    let observer = stage.observer();
    systemd.do_with_unit("stop");
    stage.assert_released(&observer, "/sys/fs/bpf/elsewhere");

    stage.start();
    systemd.write(FILE, "nonsense\n");
    let said = systemd.systemctl(&format!("restart {}", systemd::UNIT));
    assert!(!said.good, "{}", said.text);
    wait("systemd to give up", || {
        systemd.property("ActiveState") == "failed"
    });
    wait("the address to be given back", || !stage.has_address());
    assert!(
        systemd.file("/sys/fs/bpf/elsewhere").exists(),
        "forwarding goes on"
    );
    systemd.write(FILE, &configuration(3));
    systemd.do_with_unit("reset-failed");
    stage.start();
    let status = systemd.property("StatusText");
    assert!(
        status.contains("services and connections taken over"),
        "{status}"
    );
    // Ended by hand it does not begin again.
    systemd.kill("TERM");
    wait("the end", || systemd.property("ActiveState") == "inactive");
    assert_eq!(systemd.property("NRestarts"), "0");
    stage.assert_released(&observer, "/sys/fs/bpf/elsewhere");
}
