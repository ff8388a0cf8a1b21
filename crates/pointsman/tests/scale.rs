//! Many services and many connections: how long, how much memory, how punctual.
//!
//! A tenth of the real size, and a hundredth of the connections, unless `POINTSMAN_SCALE` is `full`,
//! as `cargo xtask scale` has it; then what is measured is held to what is promised.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

#[path = "scale/checks.rs"]
mod checks;

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::Ipv4Addr,
    process::Stdio,
    time::{Duration, Instant},
};

use host::{Host, PATIENCE, SERVER_MAC, can_run, eventually};
use nix::sys::signal::Signal;
use pointsman_daemon::client::Client;
use pointsman_linux::packet::Capture;
use pointsman_wire::{Mac, build::Frame};

/// Real servers of each service.
const SERVERS: usize = 10;

fn is_full() -> bool {
    std::env::var_os("POINTSMAN_SCALE").is_some_and(|scale| scale == "full")
}

/// What was measured.
#[derive(Default)]
struct Figures {
    broken: Vec<String>,
}

impl Figures {
    /// Prints a figure, which is held to `most` at full size, when all are known.
    fn note(&mut self, name: &str, value: f64, unit: &str, most: f64) {
        println!("scale: {name:<52} {value:>10.2} {unit}");
        if is_full() && value > most {
            let text = format!("{name}: {value:.2} {unit}, more than {most} {unit}");
            self.broken.push(text);
        }
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.broken.is_empty(), "{:#?}", self.broken);
        }
    }
}

/// A number of a process, such as `VmRSS`, KiB.
fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.expect("a line of status").parse().expect("a number")
}

/// Processor time of a process, seconds.
fn processor_time(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("ticks");
    // User and system time, in hundredths of a second on every Linux.
    (ticks(12) + ticks(13)) / 100.0
}

/// A save file, in the order in which it is saved again.
fn configuration(services: usize) -> String {
    let mut text = String::new();
    for number in 0..services {
        let address = Ipv4Addr::from_bits(0x0a14_0000 + number as u32);
        let _ = writeln!(text, "-A -t {address}:80 -s rr");
        for server in 0..SERVERS {
            let server = Ipv4Addr::from_bits(0x0a08_0000 + ((number + server) % 200) as u32 + 1);
            let _ = writeln!(text, "-a -t {address}:80 -r {server}:80 -g -w 1");
        }
    }
    text
}

fn lines(text: &str) -> HashSet<&str> {
    text.lines().collect()
}

#[test]
fn many_services_are_restored_listed_and_kept() {
    if !can_run() {
        return;
    }
    let services = if is_full() { 10_000 } else { 1_000 };
    let room = [
        "--services",
        "16384",
        "--servers",
        "131072",
        "--slot-lines",
        "65536",
    ];
    let host = Host::new();
    host.ip("route add 10.8.0.0/16 via 10.9.0.2");
    let state = host.file("state.json").display().to_string();
    let run = || host.run_with_room(&room, &["--state", &state]);
    let mut figures = Figures::default();
    let daemon = run();
    let process = daemon.id();
    let before = processor_time(process);
    let wanted = configuration(services);

    let start = Instant::now();
    let said = host.call_with("ipvsadm -R", &wanted);
    let restored = start.elapsed().as_secs_f64();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    figures.note("restore, seconds", restored, "s", 2.0);
    figures.note(
        "  of it processor time of the daemon",
        processor_time(process) - before,
        "s",
        2.0,
    );
    // All servers have their next hop, by one neighbour.
    let mut client = Client::connect(&host.socket()).expect("connect");
    let start = Instant::now();
    eventually(
        || {
            let all = client.services().expect("services");
            let servers = all.iter().flat_map(|service| &service.servers);
            servers
                .filter(|server| !server.next_hop.starts_with("eth0"))
                .count()
        },
        |unresolved| *unresolved == 0,
    );
    figures.note(
        "next hops known, seconds after that",
        start.elapsed().as_secs_f64(),
        "s",
        10.0,
    );
    let start = Instant::now();
    let list = host.call("ipvsadm -Ln").out;
    figures.note("list, seconds", start.elapsed().as_secs_f64(), "s", 1.0);
    assert_eq!(list.lines().count(), 3 + services * (1 + SERVERS));
    let saved = host.call("ipvsadm -S -n").out;
    assert!(
        lines(&saved) == lines(&wanted),
        "saved is what was restored"
    );
    figures.note(
        "memory of the daemon",
        memory(process, "VmRSS") as f64 / 1024.0,
        "MiB",
        400.0,
    );

    let start = Instant::now();
    assert!(daemon.end(Signal::SIGTERM).success());
    figures.note(
        "stop, with the state file written",
        start.elapsed().as_secs_f64(),
        "s",
        10.0,
    );
    let size = fs::metadata(&state).expect("a state file").len();
    figures.note("state file", size as f64 / f64::from(1 << 20), "MiB", 64.0);
    let start = Instant::now();
    let _daemon = run();
    figures.note(
        "start from the state file",
        start.elapsed().as_secs_f64(),
        "s",
        5.0,
    );
    let start = Instant::now();
    assert!(host.call("ipvsadm -S -n").out == saved);
    figures.note("save, seconds", start.elapsed().as_secs_f64(), "s", 1.0);
    let start = Instant::now();
    host.ipvsadm("-C");
    figures.note("clear, seconds", start.elapsed().as_secs_f64(), "s", 2.0);
    // The servers that were there before are no burden for those that come.
    let start = Instant::now();
    assert_eq!(host.call_with("ipvsadm -R", &wanted).code, 0);
    figures.note(
        "restore again, seconds",
        start.elapsed().as_secs_f64(),
        "s",
        3.0,
    );
}

/// One packet of each of `count` flows to the service; when each tenth of them was sent.
fn begin_flows(host: &Host, count: usize) -> Vec<Instant> {
    host.server
        .run_in(|| {
            let port = Capture::open("eth0").expect("open eth0");
            let service = Ipv4Addr::new(10, 20, 0, 0);
            let mut marks = Vec::new();
            for number in 0..count {
                let client = Ipv4Addr::from_bits(0x0a40_0000 + (number / 50_000) as u32);
                let from = (number % 50_000) as u16 + 1024;
                let frame = Frame::ipv4(client, service)
                    .macs(
                        SERVER_MAC.parse().expect("an address"),
                        Mac([2, 0, 0, 0, 0, 1]),
                    )
                    .udp(from, 53)
                    .build();
                port.send(&frame).expect("send");
                if (number + 1) % (count / 10) == 0 {
                    marks.push(Instant::now());
                }
            }
            marks
        })
        .expect("a thread")
}

#[test]
fn many_connections_are_held_listed_and_expired() {
    if !can_run() {
        return;
    }
    let (count, timeout) = if is_full() {
        (1_000_000, 60)
    } else {
        (10_000, 8)
    };
    let host = Host::new();
    let room = ["--connections", &count.to_string()];
    let mut figures = Figures::default();
    let daemon = host.run_with_room(&room, &["--no-state"]);
    let process = daemon.id();
    // The kernel never expects those that answer nobody.
    host.ip("route add 10.64.0.0/16 dev lo");
    host.ipvsadm("-A -u 10.20.0.0:53 -s rr");
    host.ipvsadm("-a -u 10.20.0.0:53 -r 10.9.0.2");
    host.ipvsadm(&format!("--set 0 0 {timeout}"));
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.starts_with("eth0"));
    let mut client = Client::connect(&host.socket()).expect("connect");

    let start = Instant::now();
    let sent = begin_flows(&host, count);
    let took = start.elapsed();
    figures.note(
        "begin a connection",
        took.as_secs_f64() * 1e6 / count as f64,
        "us",
        100.0,
    );
    assert!(
        took.as_secs() < timeout,
        "too slow a machine: the first flows ended before the last began"
    );
    let used = client.status().expect("status").connections.used;
    assert_eq!(used, count as u64, "all are held");
    let bytes = table_bytes(process, count);
    figures.note(
        "map memory of a connection",
        bytes as f64 / count as f64,
        "B",
        121.0,
    );

    stream(&host, process, count, &mut figures);

    // Each tenth is gone a timeout after it came.
    let mut worst = Duration::ZERO;
    for (tenth, sent) in (1_usize..).zip(&sent) {
        let left = (count - count / 10 * tenth) as u64;
        let due = *sent + Duration::from_secs(timeout);
        while client.status().expect("status").connections.used > left {
            assert!(due.elapsed() < PATIENCE, "tenth {tenth} does not end");
            // Between two looks; nothing is assumed to have happened meanwhile.
            std::thread::sleep(Duration::from_millis(10));
        }
        let now = Instant::now();
        assert!(
            now >= due - Duration::from_millis(20),
            "tenth {tenth} ended early"
        );
        worst = worst.max(now.saturating_duration_since(due));
    }
    let share = 100.0 * worst.as_secs_f64() / timeout as f64;
    figures.note("expired late, part of the timeout", share, "%", 5.0);
    assert!(is_full() || worst < Duration::from_secs(4), "{worst:?}");
    assert_eq!(host.call("ipvsadm -Lnc").out.lines().count(), 2);
}

/// Bytes of the map that holds the connections of IPv4, by the kernel's account.
fn table_bytes(process: u32, room: usize) -> u64 {
    let entries = fs::read_dir(format!("/proc/{process}/fdinfo")).expect("a process");
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let field = |info: &str, name: &str| -> Option<u64> {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let found = infos.into_iter().find_map(|info| {
        let is_table = field(&info, "map_type:") == Some(1)
            && field(&info, "key_size:") == Some(16)
            && field(&info, "value_size:") == Some(40)
            && field(&info, "max_entries:") == Some(room as u64);
        is_table.then(|| field(&info, "memlock:")).flatten()
    });
    found.expect("the map of connections")
}

/// Lists all connections while looking at the memory of both ends.
fn stream(host: &Host, daemon: u32, count: usize, figures: &mut Figures) {
    let before = memory(daemon, "VmRSS");
    let start = Instant::now();
    let mut child = host
        .director
        .command(env!("CARGO_BIN_EXE_pointsman"))
        .env("POINTSMAN_SOCKET", host.socket())
        .args(["ipvsadm", "-Lnc"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the program");
    let process = child.id();
    let mut out = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    let (mut rows, mut first) = (0, None);
    let (mut most_here, mut most_there) = (0, 0);
    while {
        line.clear();
        out.read_line(&mut line).expect("text") != 0
    } {
        if !line.starts_with("UDP") {
            continue;
        }
        first.get_or_insert_with(|| start.elapsed());
        rows += 1;
        // What is unread keeps the program alive: it has a pipe's worth of lines to write.
        if rows % 5_000 == 1 && rows + 2_000 < count {
            most_here = most_here.max(memory(process, "VmHWM"));
            most_there = most_there.max(memory(daemon, "VmRSS"));
        }
    }
    let all = start.elapsed();
    assert!(child.wait().expect("wait").success());
    assert_eq!(rows, count);
    let first = first.unwrap_or(all);
    figures.note("first connection listed", first.as_secs_f64(), "s", 0.5);
    figures.note("all connections listed", all.as_secs_f64(), "s", 20.0);
    figures.note(
        "memory of the list's reader",
        most_here as f64 / 1024.0,
        "MiB",
        24.0,
    );
    let grown = most_there.saturating_sub(before);
    figures.note(
        "growth of the daemon meanwhile",
        grown as f64 / 1024.0,
        "MiB",
        8.0,
    );
    assert!(grown < 16 << 10, "{grown} KiB");
    // A line that nobody takes must not be the last thing this test does.
    std::io::stdout().flush().expect("stdout");
}
