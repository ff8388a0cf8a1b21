//! `pointsman nwfilter check --live`: the rules of a host as they are.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pointsman_filter::ebtables;
use pointsman_linux::netns::{NetNs, Temporary};
use pointsman_linux::packet::Sender;

use crate::{Files, Said, said};

/// The rules that libvirt makes of `clean` at vnet7.
const HOST: &str = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:OUTPUT ACCEPT\n\
    :libvirt-I-vnet7 ACCEPT\n:I-vnet7-mac ACCEPT\n:I-vnet7-ipv4-ip ACCEPT\n:I-vnet7-arp-ip ACCEPT\n\
    -A PREROUTING -i vnet7 -j libvirt-I-vnet7\n\
    -A libvirt-I-vnet7 -j I-vnet7-mac\n\
    -A libvirt-I-vnet7 -p IPv4 -j I-vnet7-ipv4-ip\n\
    -A libvirt-I-vnet7 -p ARP -j I-vnet7-arp-ip\n\
    -A I-vnet7-mac -s 02:00:73:b6:53:c8 -j RETURN\n-A I-vnet7-mac -j DROP\n\
    -A I-vnet7-ipv4-ip -p IPv4 --ip-src 192.0.2.200 -j RETURN\n-A I-vnet7-ipv4-ip -j DROP\n\
    -A I-vnet7-arp-ip -p ARP --arp-ip-src 192.0.2.200 -j RETURN\n-A I-vnet7-arp-ip -j DROP\n";

/// A bridge with the guest's port vnet7, whose other end the guest has as eth0.
struct Bridge {
    host: Temporary,
    guest: Temporary,
}

impl Bridge {
    /// Nothing where it can't be built.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        if Command::new("ebtables-restore")
            .arg("--version")
            .output()
            .is_err()
        {
            println!("skipped: ebtables-restore is not installed");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let create = |role: &str| {
            let name = format!("pmw-{}-{number}-{role}", std::process::id());
            NetNs::create(&name).unwrap().delete_on_drop()
        };
        let bridge = Self {
            host: create("h"),
            guest: create("g"),
        };
        let guest = bridge.guest.name().unwrap();
        bridge.ip("link add br0 type bridge");
        bridge.ip(&format!(
            "link add vnet7 type veth peer name eth0 netns {guest}"
        ));
        bridge.ip("link set vnet7 master br0");
        for name in ["br0", "vnet7"] {
            bridge.ip(&format!("link set {name} addrgenmode none up"));
        }
        let up = ["link", "set", "eth0", "addrgenmode", "none", "up"];
        assert!(
            bridge
                .guest
                .command("ip")
                .args(up)
                .status()
                .unwrap()
                .success()
        );
        bridge.restore(HOST);
        Some(bridge)
    }

    fn ip(&self, arguments: &str) {
        let mut command = self.host.command("ip");
        let status = command.args(arguments.split_whitespace()).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    fn restore(&self, rules: &str) {
        let mut command = self.host.command("ebtables-restore");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(rules.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    fn check(&self, arguments: &[&str]) -> Said {
        let mut command = self.host.command(env!("CARGO_BIN_EXE_pointsman"));
        let live = ["nwfilter", "check", "--live", "--port", "vnet7"];
        said(command.args(live).args(arguments))
    }

    /// Packets that each rule has counted: chain, number, packets.
    fn counts(&self) -> Vec<(String, usize, u64)> {
        let output = self
            .host
            .command("ebtables-save")
            .arg("-c")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let rules = ebtables::read("ebtables-save", &text).unwrap();
        let chains = rules.tables.iter().flat_map(|table| &table.chains);
        chains
            .flat_map(|chain| {
                let rules = chain.rules.iter().zip(1..);
                rules.map(|(rule, number)| {
                    (chain.name.clone(), number, rule.packets.unwrap_or_default())
                })
            })
            .collect()
    }

    /// Sends a frame from the guest some times; which rules that drop count them.
    fn risen(&self, frame: &[u8], times: u64) -> Vec<(String, usize)> {
        let before = self.counts();
        let sender = self.guest.run_in(|| Sender::open("eth0").unwrap()).unwrap();
        for _ in 0..times {
            sender.send(frame).unwrap();
        }
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let after = self.counts();
            let hook = |counts: &[(String, usize, u64)]| {
                let found = counts.iter().find(|(chain, ..)| chain == "PREROUTING");
                found.map_or(0, |(.., packets)| *packets)
            };
            if hook(&after) >= hook(&before) + times {
                let pairs = before.iter().zip(&after);
                return pairs
                    .filter(|((.., old), (.., new))| new - old == times)
                    .map(|(_, (chain, number, _))| (chain.clone(), *number))
                    .collect();
            }
            assert!(Instant::now() < end, "frames do not get to the bridge");
            std::thread::yield_now();
        }
    }
}

#[test]
fn the_rule_that_is_named_is_the_one_whose_counter_rises() {
    let Some(bridge) = Bridge::new() else { return };
    let director = ["--role", "director", "--vip", "192.0.2.208:80"];
    let report = bridge.check(&[&director[..], &["--json"]].concat()).json();
    assert_eq!(report["mac"], "02:00:73:b6:53:c8");
    let mut tried = 0;
    for frame in report["frames"].as_array().unwrap() {
        if frame["direction"] != "out" || frame["verdict"] != "drop" {
            continue;
        }
        let hex = frame["frame"].as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let chain = frame["rule"]["chain"].as_str().unwrap().to_owned();
        let number = frame["rule"]["number"].as_u64().unwrap() as usize;
        let risen = bridge.risen(&bytes, 7);
        assert!(
            risen.contains(&(chain.clone(), number)),
            "{}: {chain} rule {number} is named, {risen:?} rose",
            frame["words"]
        );
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn rules_of_the_host_are_compared_with_the_guests_filter() {
    let Some(bridge) = Bridge::new() else { return };
    let files = Files::new();
    let [domain, filters] = ["director.xml", "filters"].map(|name| files.path(name));
    let arguments = [
        &["--domain", domain.to_str().unwrap()],
        &["--filters", filters.to_str().unwrap()],
        &["--role", "director"],
        &["--vip", "192.0.2.208:80"][..],
    ]
    .concat();
    let said = bridge.check(&arguments);
    assert_eq!(said.code, 1, "{}", said.err);
    said.has("filter pin-ip (by way of clean), rule `drop out`, priority 1000")
        .has("source address 203.0.113.77 is not IP=192.0.2.200");
    assert!(!said.out.contains("the host lacks"), "{}", said.out);
    assert!(!said.out.contains("somebody else"), "{}", said.out);
    // Somebody flushes ebtables: everything passes, and that is said.
    bridge.restore("*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:OUTPUT ACCEPT\n");
    let said = bridge.check(&arguments);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    said.has("the host has none of the filter's rules in ebtables nat");
}
