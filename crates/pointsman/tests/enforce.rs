//! Filters enforced at a port of a bridge: what passes, what stays when something goes wrong, what is learned.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use pointsman_linux::netns::{NetNs, Temporary};
use pointsman_linux::packet::{Capture, Direction, Options};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const PATIENCE: Duration = Duration::from_secs(30);

const GUEST: [u8; 6] = [2, 0, 0x73, 0xb6, 0x53, 0xc8];
const MAC: &str = "02:00:73:b6:53:c8";
const OTHER: [u8; 6] = [6, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
const SERVER: [u8; 4] = [10, 9, 0, 254];

/// A guard of the guest's own addresses, in chains of their own, and one that asks for states.
const FILTERS: &[&str] = &[
    "<filter name='guard' chain='root'><filterref filter='guard-mac'/><filterref filter='guard-ip'/>\
     <filterref filter='guard-arp'/><rule action='accept' direction='inout' priority='900'>\
     <mac protocolid='ipv4'/></rule><rule action='accept' direction='inout' priority='900'>\
     <mac protocolid='arp'/></rule><rule action='drop' direction='inout' priority='1000'/></filter>",
    "<filter name='guard-mac' chain='mac'><rule action='return' direction='out'>\
     <mac srcmacaddr='$MAC'/></rule><rule action='drop' direction='out'/></filter>",
    "<filter name='guard-ip' chain='ipv4-ip'><rule action='return' direction='out' priority='100'>\
     <ip srcipaddr='0.0.0.0' protocol='udp'/></rule><rule action='return' direction='out'>\
     <ip srcipaddr='$IP'/></rule><rule action='drop' direction='out' priority='1000'/></filter>",
    "<filter name='guard-arp' chain='arp'><rule action='return' direction='out'>\
     <arp arpsrcipaddr='$IP'/></rule><rule action='drop' direction='out' priority='1000'/></filter>",
    "<filter name='open-80' chain='root'><rule action='accept' direction='in'>\
     <tcp dstportstart='80'/></rule><rule action='drop' direction='inout' priority='1000'><all/></rule>\
     </filter>",
    "<filter name='odd' chain='root'><rule action='drop' direction='out'><sheep/></rule></filter>",
    "<filter name='loop' chain='root'><filterref filter='loop'/></filter>",
];

struct Net {
    namespace: Temporary,
    directory: tempfile::TempDir,
    port: String,
}

struct Said {
    out: String,
    err: String,
    code: i32,
}

fn can_run() -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    if std::process::Command::new("nft")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: nft is not installed");
        return false;
    }
    true
}

impl Net {
    /// A bridge whose ports are the guest's (at the other end g0), p1 (g1) and p2 (g2).
    fn new(port: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pme-{}-{number}", std::process::id());
        let net = Self {
            namespace: NetNs::create(&name).unwrap().delete_on_drop(),
            directory: tempfile::tempdir().unwrap(),
            port: port.to_owned(),
        };
        for (number, text) in FILTERS.iter().enumerate() {
            let path = net.directory.path().join(format!("{number}.xml"));
            std::fs::write(path, text).unwrap();
        }
        net.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        ]);
        for (port, end) in [(port, "g0"), ("p1", "g1"), ("p2", "g2")] {
            net.ip(&[
                "link", "add", "dev", port, "type", "veth", "peer", "name", end,
            ]);
            net.ip(&["link", "set", "dev", port, "master", "br0"]);
            let bridge = ["learning", "off", "flood", "on", "mcast_flood", "on"];
            net.ip(&[
                &["link", "set", "dev", port, "type", "bridge_slave"],
                &bridge[..],
            ]
            .concat());
        }
        for device in ["br0", port, "p1", "p2", "g0", "g1", "g2"] {
            net.ip(&["link", "set", "dev", device, "addrgenmode", "none", "up"]);
        }
        net
    }

    fn ip(&self, words: &[&str]) {
        let status = self.namespace.command("ip").args(words).status();
        assert!(status.unwrap().success(), "ip {words:?}");
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.namespace.command(PROGRAM);
        command.arg("nwfilter").args(words);
        command
    }

    fn say(&self, words: &[&str]) -> Said {
        ended(self.command(words))
    }

    /// The words of `apply`.
    fn apply_words<'a>(&'a self, filter: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let filters = self.directory.path().to_str().unwrap();
        let words = [
            "apply",
            "--port",
            &self.port,
            "--filter",
            filter,
            "--filters",
            filters,
        ];
        [&words, more].concat()
    }

    fn apply(&self, filter: &str, more: &[&str]) -> Said {
        self.say(&self.apply_words(filter, more))
    }

    /// The guard, for some addresses.
    fn guard(&self, addresses: &[&str]) -> String {
        let parameters: Vec<String> = addresses.iter().map(|one| format!("IP={one}")).collect();
        let mut more = vec!["--mac", MAC];
        for parameter in &parameters {
            more.extend(["--param", parameter]);
        }
        let said = self.apply("guard", &more);
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    }

    fn list(&self) -> String {
        let said = self.say(&["list", "--port", &self.port]);
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    }

    /// Whether the kernel tracks connections on bridges.
    fn tracks(&self) -> bool {
        let probe = "add table bridge q; add chain bridge q c; add rule bridge q c ct state new";
        let added = self.namespace.command("nft").arg(probe).output().unwrap();
        if added.status.success() {
            self.nft(&["delete", "table", "bridge", "q"]);
        }
        added.status.success()
    }

    fn nft(&self, words: &[&str]) -> String {
        let output = self.namespace.command("nft").args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Which of the frames sent at one end arrive at the other.
    fn pass(&self, from: &str, to: &str, frames: &[Vec<u8>]) -> Vec<bool> {
        let work = || {
            // One processor has one queue: what is sent first arrives first.
            let mut own = CpuSet::new();
            own.set(sched_getcpu().unwrap()).unwrap();
            sched_setaffinity(Pid::from_raw(0), &own).unwrap();
            let open = |name: &str| {
                let promiscuous = true;
                let options = Options {
                    promiscuous,
                    ..Options::default()
                };
                Capture::open_with(name, &options).unwrap()
            };
            let (from, mut to, marker, mut seen) = (open(from), open(to), open("g2"), open("g1"));
            for frame in frames {
                from.send(frame).unwrap();
            }
            let mark = ethernet(OTHER, [0xff; 6], 0x88b6, &[0xab; 50]);
            marker.send(&mark).unwrap();
            let mut passed = vec![false; frames.len()];
            // The marker is from the third port, and arrives at the second whatever the rules are.
            loop {
                let frame = seen.next(PATIENCE).unwrap().expect("the marker arrives");
                if frame.bytes == mark && frame.direction != Direction::Out {
                    break;
                }
            }
            while let Some(frame) = to.next(Duration::ZERO).unwrap() {
                if frame.direction != Direction::Out {
                    for (at, sent) in frames.iter().enumerate() {
                        passed[at] |= *sent == frame.bytes;
                    }
                }
            }
            passed
        };
        self.namespace.run_in(work).unwrap()
    }

    fn passes(&self, from: &str, to: &str, frame: Vec<u8>) -> bool {
        self.pass(from, to, &[frame])[0]
    }

    /// Whether the guest may send from an address, by IPv4 and in ARP.
    fn may_send(&self, address: [u8; 4]) -> [bool; 2] {
        let frames = [
            udp(GUEST, address, [1000, 53], &[7; 20]),
            arp(GUEST, address),
        ];
        let passed = self.pass("g0", "g1", &frames);
        [passed[0], passed[1]]
    }

    /// A directory with another `nft`, to be searched first.
    fn other_nft(&self, script: &str) -> String {
        let directory = self.directory.path().join("bin");
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("nft");
        let real = std::env::var("PATH").unwrap();
        let real = std::env::split_paths(&real)
            .map(|place| place.join("nft"))
            .find(|path| path.exists())
            .unwrap();
        let text = format!("#!/bin/sh\nreal={}\n{script}\n", real.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", directory.display(), std::env::var("PATH").unwrap())
    }
}

fn ended(mut command: std::process::Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        out: text(output.stdout),
        err: text(output.stderr),
        code: output.status.code().unwrap(),
    }
}

fn ethernet(from: [u8; 6], to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &kind.to_be_bytes()].concat();
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn udp(from: [u8; 6], source: [u8; 4], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let to = if from == GUEST { OTHER } else { GUEST };
    let mut packet = vec![0x45, 0];
    packet.extend((28 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend([10, 1, 1, 1]);
    // The bridge looks at the header's checksum where it calls IP's hooks.
    let words = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(ports.map(u16::to_be_bytes).concat());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    ethernet(from, to, 0x0800, &packet)
}

fn arp(from: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(from);
    packet.extend(address);
    packet.extend([0, 0, 0, 0, 0, 0, 10, 9, 0, 254]);
    ethernet(from, [0xff; 6], 0x0806, &packet)
}

/// A DHCP message of this kind: 5 acknowledges, 7 gives back, 1 asks.
fn dhcp(kind: u8, address: [u8; 4], seconds: u32) -> Vec<u8> {
    let answers = kind == 5;
    let mut message = vec![if answers { 2 } else { 1 }, 1, 6, 0];
    message.resize(236, 0);
    let at = if answers { 16 } else { 12 };
    message[at..at + 4].copy_from_slice(&address);
    message[28..34].copy_from_slice(&GUEST);
    message.extend([99, 130, 83, 99, 53, 1, kind, 51, 4]);
    message.extend(seconds.to_be_bytes());
    message.push(255);
    if answers {
        udp(OTHER, SERVER, [67, 68], &message)
    } else {
        udp(GUEST, address, [68, 67], &message)
    }
}

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
    }
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn line(reader: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn a_port_is_guarded_and_left_as_it_was() {
    if !can_run() {
        return;
    }
    // As odd as a name may be.
    for port in ["vnet0", "t$p;{é*"] {
        let net = Net::new(port);
        net.nft(&[
            "add table bridge foreign; add chain bridge foreign c { type filter hook forward \
             priority 0; }; add rule bridge foreign c counter; add table inet libvirt_x",
        ]);
        let foreign = || net.nft(&["-s", "list", "table", "bridge", "foreign"]);
        let (before, own_before) = (net.nft(&["-s", "list", "ruleset"]), foreign());
        assert_eq!(net.may_send([10, 9, 0, 3]), [true, true]);
        assert_eq!(
            net.guard(&["10.9.0.1", "10.9.0.2"]),
            format!("{port}: guard in force\n")
        );
        assert_eq!(net.may_send([10, 9, 0, 1]), [true, true]);
        assert_eq!(net.may_send([10, 9, 0, 2]), [true, true]);
        assert_eq!(net.may_send([10, 9, 0, 3]), [false, false]);
        assert!(!net.passes("g0", "g1", udp(OTHER, [10, 9, 0, 1], [1, 2], &[0; 20])));
        // Nobody else's port is guarded.
        assert!(net.passes("g1", "g0", udp(OTHER, [10, 9, 0, 3], [1, 2], &[0; 20])));
        let listed = net.list();
        assert!(listed.contains(&format!(
            "{port}: guard IP=10.9.0.1 IP=10.9.0.2 MAC={MAC}\n"
        )));
        let counted = listed
            .lines()
            .find(|line| line.contains("# guard-ip, rule 3"));
        assert_eq!(
            counted.unwrap().split_whitespace().next(),
            Some("1"),
            "{listed}"
        );
        // The same again changes nothing, counters neither.
        let again = net.guard(&["10.9.0.1", "10.9.0.2"]);
        assert_eq!(again, format!("{port}: guard was in force already\n"));
        assert_eq!(net.list(), listed);
        // Unless somebody touched it.
        let table = net.nft(&["list", "tables", "bridge"]);
        let table = table
            .lines()
            .find(|line| line.contains("pointsman_"))
            .unwrap();
        let name = table.rsplit(' ').next().unwrap();
        net.nft(&["flush", "chain", "bridge", name, "prerouting"]);
        assert_eq!(net.may_send([10, 9, 0, 3]), [true, true]);
        assert_eq!(
            net.guard(&["10.9.0.1", "10.9.0.2"]),
            format!("{port}: guard in force\n")
        );
        assert_eq!(net.may_send([10, 9, 0, 3]), [false, false]);
        // Another address instead.
        net.guard(&["10.9.0.3"]);
        assert_eq!(net.may_send([10, 9, 0, 3]), [true, true]);
        assert_eq!(net.may_send([10, 9, 0, 1]), [false, false]);
        assert_eq!(foreign(), own_before);
        // The port may be gone by then.
        net.ip(&["link", "del", "dev", port]);
        let said = net.say(&["remove", "--port", port]);
        assert_eq!(
            (said.out, said.code),
            (format!("{port}: guard removed\n"), 0)
        );
        let said = net.say(&["remove", "--port", port]);
        assert_eq!(
            (said.out, said.code),
            (format!("{port}: has no rules of ours\n"), 0)
        );
        assert_eq!(net.nft(&["-s", "list", "ruleset"]), before);
    }
}

#[test]
fn what_can_not_be_enforced_is_said() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let before = net.nft(&["list", "ruleset"]);
    let good = ["--mac", MAC, "--param", "IP=10.9.0.1"];
    for (filter, more, code, error) in [
        (
            "guard",
            &["--mac", MAC, "--param", "IP=10.9.0.0/24"][..],
            2,
            "name each",
        ),
        (
            "guard",
            &["--mac", MAC, "--param", "IP"],
            2,
            "write NAME=VALUE",
        ),
        ("guard", &["--mac", "02:00"], 2, "--mac"),
        (
            "guard",
            &["--param", "IP=10.9.0.1"],
            1,
            "are not there: MAC",
        ),
        (
            "guard",
            &["--mac", MAC, "--param", "IP=banana"],
            1,
            "`banana` is not an IPv4 address",
        ),
        (
            "guard",
            &["--mac", MAC, "--param", "CTRL_IP_LEARNING=none"],
            1,
            "IP has no value",
        ),
        (
            "guard",
            &["--mac", MAC, "--param", "IPP=10.9.0.1"],
            1,
            "no rule of guard names $IPP",
        ),
        ("gone", &good, 1, "there is no filter `gone`"),
        ("loop", &["--mac", MAC], 1, "in a loop: loop -> loop"),
        ("odd", &["--mac", MAC], 1, "sheep"),
    ] {
        let said = net.apply(filter, more);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(error), "{error}: {}", said.err);
    }
    let words = net.apply_words("guard", &good);
    let elsewhere: Vec<&str> = words
        .iter()
        .map(|word| if *word == "vnet0" { "vnet9" } else { word })
        .collect();
    let said = net.say(&elsewhere);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no interface \"vnet9\""), "{}", said.err);
    // No nft, and an nft that may do nothing.
    let mut command = net.command(&words);
    command.env("PATH", "/nowhere");
    let without = ended(command);
    assert!(
        without.err.contains("nft is not installed"),
        "{}",
        without.err
    );
    let mut command = net.command(&words);
    command.env(
        "PATH",
        net.other_nft("echo 'Error: Operation not permitted' >&2; exit 1"),
    );
    let without = ended(command);
    assert!(without.err.contains("run this as root"), "{}", without.err);
    assert_eq!(without.code, 1);
    let said = net.say(&["list", "--port", "vnet0"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (1, "pointsman: vnet0 has no rules of ours\n")
    );
    assert_eq!(net.nft(&["list", "ruleset"]), before);
}

#[test]
fn a_load_that_fails_or_is_killed_leaves_what_was() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let before = net.nft(&["list", "ruleset"]);
    // The kernel refuses the last rule of the transaction.
    let spoil = "case \"$*\" in '-f -') cat > \"$0.text\"; echo 'add rule bridge pointsman_vnet0 gone \
                 drop' >> \"$0.text\"; exec $real -f \"$0.text\";; *) exec $real \"$@\";; esac";
    let try_other = |address: &str| {
        let parameter = format!("IP={address}");
        let words = net.apply_words("guard", &["--mac", MAC, "--param", &parameter]);
        let mut command = net.command(&words);
        command.env("PATH", net.other_nft(spoil));
        ended(command)
    };
    let said = try_other("10.9.0.1");
    assert_eq!(said.code, 1);
    assert!(
        said.err
            .contains("vnet0: still without rules of ours: nft refuses: "),
        "{}",
        said.err
    );
    assert_eq!(net.nft(&["list", "ruleset"]), before);
    net.guard(&["10.9.0.1"]);
    let guarded = net.nft(&["list", "ruleset"]);
    let said = try_other("10.9.0.2");
    assert!(
        said.err
            .contains("vnet0: guard stays in force: nft refuses: "),
        "{}",
        said.err
    );
    assert_eq!(net.nft(&["list", "ruleset"]), guarded);
    // Killed before the kernel has heard of it, together with its nft.
    let path = net.other_nft(
        "case \"$*\" in '-f -') cat > \"$0.text\"; echo $$ > \"$0.pid\"; mv \"$0.pid\" \"$0.here\"; \
         exec sleep 1000;; *) exec $real \"$@\";; esac",
    );
    let words = net.apply_words("guard", &["--mac", MAC, "--param", "IP=10.9.0.2"]);
    let mut command = net.command(&words);
    command
        .env("PATH", path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let here = net.directory.path().join("bin/nft.here");
    until("nft was called", || here.exists());
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let child: i32 = std::fs::read_to_string(&here)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(net.nft(&["list", "ruleset"]), guarded);
    assert_eq!(net.may_send([10, 9, 0, 1]), [true, true]);
    assert_eq!(net.may_send([10, 9, 0, 2]), [false, false]);
    // Nobody waits for the one that died.
    net.guard(&["10.9.0.2"]);
    assert_eq!(net.may_send([10, 9, 0, 2]), [true, true]);
}

#[test]
fn rules_are_replaced_under_traffic_without_loss_or_hole() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    net.guard(&["10.9.0.1"]);
    let frame = |number: u32, last: u8| {
        udp(
            GUEST,
            [10, 9, 0, last],
            [1000, 53],
            &[&number.to_be_bytes()[..], &[9; 20]].concat(),
        )
    };
    let done = AtomicBool::new(false);
    let (sent, good, bad) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let work = || {
                let open = |name: &str| {
                    let buffer_bytes = 64 << 20;
                    let options = Options {
                        promiscuous: true,
                        buffer_bytes,
                        ..Options::default()
                    };
                    Capture::open_with(name, &options).unwrap()
                };
                let (from, mut to) = (open("g0"), open("g1"));
                let (mut sent, mut good, mut bad) = (0, 0, 0);
                loop {
                    let ending = done.load(Ordering::Relaxed);
                    if !ending {
                        from.send(&frame(sent, 1)).unwrap();
                        from.send(&frame(sent, 66)).unwrap();
                        sent += 1;
                    } else if good == sent {
                        break;
                    }
                    let wait = if ending { PATIENCE } else { Duration::ZERO };
                    match to.next(wait).unwrap() {
                        None if ending => break,
                        Some(seen) if seen.direction != Direction::Out => {
                            let is_good = seen.bytes.get(26..30) == Some(&[10, 9, 0, 1]);
                            good += u32::from(is_good);
                            bad += u32::from(!is_good);
                        }
                        _ => {}
                    }
                }
                (sent, good, bad)
            };
            net.namespace.run_in(work).unwrap()
        });
        for round in 0..12 {
            // Now the same rules, now others that let the same pass.
            match round % 2 {
                0 => net.guard(&["10.9.0.1", "10.9.0.2"]),
                _ => net.guard(&["10.9.0.1"]),
            };
        }
        done.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    assert!(sent > 100, "{sent}");
    assert_eq!((good, bad), (sent, 0));
}

#[test]
fn states_are_asked_for_only_where_somebody_tells_them() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let before = net.nft(&["list", "ruleset"]);
    let call_inet = |value: &'static str| {
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        net.namespace
            .run_in(|| std::fs::write(path, value))
            .unwrap()
    };
    let there = call_inet("0").is_ok();
    let said = net.apply("open-80", &[]);
    if net.tracks() {
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(net.list().contains("ct state"), "{}", net.list());
        assert_eq!(net.say(&["remove", "--all"]).code, 0);
        assert_eq!(net.nft(&["list", "ruleset"]), before);
        return;
    }
    assert!(said.err.contains("4.xml:1:"), "{}", said.err);
    assert!(
        said.err.contains("asks for the state of connections"),
        "{}",
        said.err
    );
    assert_eq!(net.nft(&["list", "ruleset"]), before);
    if !there {
        println!("skipped: neither nf_conntrack_bridge nor br_netfilter");
        return;
    }
    assert!(
        said.err
            .contains("`sysctl -w net.bridge.bridge-nf-call-iptables=1`"),
        "{}",
        said.err
    );
    call_inet("1").unwrap();
    let filters = net.directory.path().to_str().unwrap();
    for port in ["vnet0", "p1"] {
        let said = net.say(&[
            "apply",
            "--port",
            port,
            "--filter",
            "open-80",
            "--filters",
            filters,
        ]);
        assert_eq!(said.code, 0, "{}", said.err);
    }
    // Nobody opened a connection.
    assert!(!net.passes("g0", "g1", udp(GUEST, [10, 9, 0, 1], [1, 2], &[0; 20])));
    call_inet("0").unwrap();
    let said = net.say(&["list"]);
    assert!(
        said.err
            .contains("net.bridge.bridge-nf-call-iptables is not 1"),
        "{}",
        said.err
    );
    // What tells states goes with the last that asks.
    assert_eq!(net.say(&["remove", "--port", "vnet0"]).code, 0);
    assert!(
        net.nft(&["list", "tables"])
            .contains("table inet pointsman_/state")
    );
    assert_eq!(net.say(&["remove", "--port", "p1"]).code, 0);
    assert_eq!(net.nft(&["list", "ruleset"]), before);
}

#[test]
fn connections_between_host_and_guest_are_judged_by_their_state() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let guest = NetNs::create(&format!("{}-guest", net.namespace.name().unwrap()));
    let guest = guest.unwrap().delete_on_drop();
    let path = guest.path().to_str().unwrap();
    net.ip(&["link", "set", "dev", "g0", "netns", path]);
    for (namespace, device, address) in [
        (&net.namespace, "br0", "10.9.0.254/24"),
        (&guest, "g0", "10.9.0.1/24"),
    ] {
        for words in [
            ["address", "add", address, "dev", device],
            ["link", "set", "up", "dev", device],
        ] {
            let status = namespace.command("ip").args(words).status();
            assert!(status.unwrap().success(), "{words:?}");
        }
    }
    // Where the kernel tracks connections on bridges this is not needed, and does no harm.
    let call = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let _ = net.namespace.run_in(|| std::fs::write(call, "1"));
    let said = net.apply("open-80", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let listen = |namespace: &NetNs, address: &str| {
        namespace
            .run_in(|| TcpListener::bind(address))
            .unwrap()
            .unwrap()
    };
    let listeners = [
        listen(&guest, "10.9.0.1:80"),
        listen(&guest, "10.9.0.1:81"),
        listen(&net.namespace, "10.9.0.254:80"),
    ];
    let connect = |namespace: &NetNs, address: &str, patience| {
        let address = address.parse().unwrap();
        let work = || TcpStream::connect_timeout(&address, patience);
        namespace.run_in(work).unwrap()
    };
    // What is open answers; what is not says nothing, nor may the guest begin.
    let mut stream = connect(&net.namespace, "10.9.0.1:80", PATIENCE).unwrap();
    let (mut accepted, _) = listeners[0].accept().unwrap();
    accepted.write_all(b"from the guest").unwrap();
    drop(accepted);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the guest");
    let short = Duration::from_millis(700);
    for (namespace, address) in [(&net.namespace, "10.9.0.1:81"), (&guest, "10.9.0.254:80")] {
        let error = connect(namespace, address, short).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{address}");
    }
    assert_eq!(net.say(&["remove", "--all"]).code, 0);
    connect(&guest, "10.9.0.254:80", PATIENCE).unwrap();
}

#[test]
fn the_first_address_is_learned_and_stays() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let said = net.apply("guard", &["--mac", MAC]);
    assert_eq!(said.out, "vnet0: guard in force, address learned (any)\n");
    assert!(said.err.contains("for one, give IP"), "{}", said.err);
    assert!(net.list().contains("learned (any): nothing yet"));
    // Before: ARP of any address, DHCP, and everything to the guest; no foreign MAC.
    assert!(net.passes("g0", "g1", arp(GUEST, [10, 9, 0, 6])));
    assert!(net.passes("g0", "g1", dhcp(1, [0, 0, 0, 0], 0)));
    assert!(net.passes("g1", "g0", ethernet(OTHER, GUEST, 0x88b5, &[0; 50])));
    assert!(!net.passes("g0", "g1", udp(OTHER, [10, 9, 0, 6], [1, 2], &[0; 20])));
    assert!(!net.passes("g0", "g1", udp(GUEST, [224, 0, 0, 1], [1, 2], &[0; 20])));
    assert!(net.list().contains("learned (any): nothing yet"));
    // The first source.
    assert_eq!(net.may_send([10, 9, 0, 5]), [true, true]);
    assert_eq!(net.may_send([10, 9, 0, 6]), [false, false]);
    assert!(!net.passes("g1", "g0", ethernet(OTHER, GUEST, 0x88b5, &[0; 50])));
    assert!(net.list().contains("learned (any): 10.9.0.5\n"));
    // Rules that are loaded again know it.
    let said = net.apply("guard", &["--mac", MAC, "--reload"]);
    assert_eq!(said.code, 0);
    assert_eq!(net.may_send([10, 9, 0, 6]), [false, false]);
    assert_eq!(net.may_send([10, 9, 0, 5]), [true, true]);
    // For another guest nothing is known.
    let said = net.apply("guard", &["--mac", "02:00:00:00:00:09"]);
    assert_eq!(said.code, 0);
    assert!(net.list().contains("learned (any): nothing yet"));
    let said = net.say(&["learn", "--port", "vnet0"]);
    assert!(
        said.err.contains("learns no address by DHCP"),
        "{}",
        said.err
    );
}

#[test]
fn leases_are_learned_as_they_come_and_end() {
    if !can_run() {
        return;
    }
    let net = Net::new("vnet0");
    let said = net.apply("guard", &["--mac", MAC, "--param", "CTRL_IP_LEARNING=dhcp"]);
    assert_eq!(said.code, 0, "{}", said.err);
    // Before: DHCP and nothing else, both ways.
    assert_eq!(net.may_send([10, 9, 0, 5]), [false, false]);
    assert!(net.passes("g0", "g1", dhcp(1, [0, 0, 0, 0], 0)));
    assert!(!net.passes("g1", "g0", udp(OTHER, [10, 1, 1, 1], [1, 2], &[0; 20])));
    let mut command = net.command(&["learn", "--port", "vnet0"]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(running.0.stdout.take().unwrap());
    assert_eq!(line(&mut out), "ready");
    assert!(net.passes("g1", "g0", dhcp(5, [10, 9, 0, 5], 600)));
    assert_eq!(line(&mut out), "vnet0: 10.9.0.5 for 600 s, says 10.9.0.254");
    assert_eq!(net.may_send([10, 9, 0, 5]), [true, true]);
    assert_eq!(net.may_send([10, 9, 0, 6]), [false, false]);
    assert!(net.list().contains("learned (dhcp): 10.9.0.5 for "));
    assert!(net.passes("g1", "g0", udp(OTHER, [10, 1, 1, 1], [1, 2], &[0; 20])));
    // Another address takes its place; the guest may give it back.
    assert!(net.passes("g1", "g0", dhcp(5, [10, 9, 0, 6], 600)));
    assert_eq!(line(&mut out), "vnet0: 10.9.0.6 for 600 s, says 10.9.0.254");
    assert_eq!(net.may_send([10, 9, 0, 6]), [true, true]);
    assert_eq!(net.may_send([10, 9, 0, 5]), [false, false]);
    net.passes("g0", "g1", dhcp(7, [10, 9, 0, 6], 0));
    assert_eq!(line(&mut out), "vnet0: address given back");
    assert_eq!(net.may_send([10, 9, 0, 6]), [false, false]);
    // A lease ends by itself, though nobody watches any more.
    assert!(net.passes("g1", "g0", dhcp(5, [10, 9, 0, 7], 2)));
    assert_eq!(line(&mut out), "vnet0: 10.9.0.7 for 2 s, says 10.9.0.254");
    drop(running);
    assert_eq!(net.may_send([10, 9, 0, 7]), [true, true]);
    until("the lease ends", || {
        net.may_send([10, 9, 0, 7]) == [false, false]
    });
    assert!(net.list().contains("learned (dhcp): nothing yet"));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
