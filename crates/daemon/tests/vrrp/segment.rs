//! Hosts on one bridge, each in a network namespace of its own, gone when dropped.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pointsman_linux::netns::{NetNs, Temporary};

/// Longest wait for anything here.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Hosts `0` to `n - 1`: `eth0` with 10.77.0.1 and so on, fd77::1 and so on.
pub struct Segment {
    pub bridge: Temporary,
    pub hosts: Vec<Temporary>,
}

impl Segment {
    /// Builds a bridge and so many hosts; none without root, and says so.
    pub fn new(hosts: usize) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let namespace = |what: String| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("pmv-{}-{number}-{what}", std::process::id());
            NetNs::create(&name).expect("a namespace").delete_on_drop()
        };
        let bridge = namespace("bridge".to_owned());
        ip(&bridge, "link add br0 type bridge");
        ip(&bridge, "link set br0 up");
        let hosts = (1..=hosts).map(|number| {
            let host = namespace(format!("host{number}"));
            let name = host.name().expect("a name");
            ip(
                &bridge,
                &format!("link add port{number} type veth peer name eth0 netns {name}"),
            );
            ip(&bridge, &format!("link set port{number} master br0 up"));
            ip(&host, "link set lo up");
            sysctl(&host, "net/ipv6/conf/eth0/dad_transmits=0");
            ip(&host, &format!("address add 10.77.0.{number}/24 dev eth0"));
            ip(
                &host,
                &format!("address add fd77::{number}/64 dev eth0 nodad"),
            );
            ip(&host, "link set eth0 up");
            host
        });
        let segment = Self {
            hosts: hosts.collect(),
            bridge,
        };
        // keepalived looks for a link-local address once, when it starts.
        for host in &segment.hosts {
            wait("a link-local address", || {
                let listed = ip(host, "-6 -o address show dev eth0 scope link");
                !listed.is_empty() && !listed.contains("tentative")
            });
        }
        Some(segment)
    }

    /// True when the host has the address.
    pub fn has(&self, host: usize, address: &str) -> bool {
        let listed = ip(&self.hosts[host], "-o address show");
        listed
            .split_whitespace()
            .any(|word| word.split_once('/').map_or(word, |(address, _)| address) == address)
    }

    /// Takes a host's cable out, or puts it in again.
    pub fn cable(&self, host: usize, state: &str) {
        ip(&self.bridge, &format!("link set port{} {state}", host + 1));
    }

    /// Waits until exactly this host has the address, of these.
    pub fn wait_for_owner(&self, owner: usize, hosts: &[usize], address: &str) {
        wait(&format!("host {owner} alone to have {address}"), || {
            hosts
                .iter()
                .all(|host| self.has(*host, address) == (*host == owner))
        });
    }
}

/// Waits until something holds.
pub fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `ip` with these words in a namespace.
pub fn ip(namespace: &NetNs, words: &str) -> String {
    run(namespace, "ip", words)
}

/// Sets a kernel parameter in a namespace.
pub fn sysctl(namespace: &NetNs, assignment: &str) {
    run(namespace, "sysctl", &format!("-q -w {assignment}"));
}

/// Runs a program with these words in a namespace.
pub fn run(namespace: &NetNs, program: &str, words: &str) -> String {
    let mut command: Command = namespace.command(program);
    let output = command
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("run it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
