//! A thousand real servers, each checked every second: what that costs of a processor.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::host::{Host, can_run, eventually};
use super::{Figures, is_full};

/// Virtual services among which the real servers are divided.
const SERVICES: usize = 10;
/// For how long checks are counted.
const WINDOW: Duration = Duration::from_secs(3);
const PAGE: &str = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nalive\n";

/// The first real server; the others follow.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 1);

fn server(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + number as u32)
}

fn configuration(servers: usize, check: &str) -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let _ = writeln!(
            text,
            "virtual_server 10.20.0.{service} 80 {{\n delay_loop 1\n lb_algo rr\n lb_kind NAT\n protocol TCP"
        );
        for number in (service..servers).step_by(SERVICES) {
            let server = server(number);
            let _ = writeln!(text, " real_server {server} 80 {{\n  {check}\n }}");
        }
        text += "}\n";
    }
    text
}

/// Answers everybody who connects to any real server; the number counts them.
fn serve(host: &Host) -> Arc<AtomicU64> {
    super::host::ip(&host.server, "route add local 10.30.0.0/16 dev lo");
    let answered = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&answered);
    let listener = host.server.run_in(|| TcpListener::bind("0.0.0.0:80"));
    let listener = listener.expect("enter").expect("listen");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counter.fetch_add(1, Ordering::Relaxed);
            // Who only connects closes at once.
            if stream.read(&mut [0; 512]).is_ok_and(|length| length > 0) {
                let _ = stream.write_all(PAGE.as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    });
    answered
}

/// Processor time of all threads of a process that are there now.
fn processor_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let times = tasks.filter_map(|task| nanoseconds(&task.ok()?.path().join("schedstat")));
    times.sum()
}

fn nanoseconds(file: &std::path::Path) -> Option<Duration> {
    let text = fs::read_to_string(file).ok()?;
    let first = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(first))
}

/// What it costs this thread to connect, or to get the page, and nothing else.
fn plain(host: &Host, pages: bool) -> Duration {
    const TIMES: u32 = 300;
    let work = || {
        let own = || nanoseconds("/proc/thread-self/schedstat".as_ref()).expect("a thread");
        let before = own();
        for number in 0..TIMES {
            let mut stream = TcpStream::connect((server(number as usize), 80)).expect("connect");
            if pages {
                let request = b"GET / HTTP/1.0\r\nHost: plain\r\n\r\n";
                stream.write_all(request).expect("send");
                stream.read_to_end(&mut Vec::new()).expect("a page");
            }
        }
        (own() - before) / TIMES
    };
    host.director.run_in(work).expect("enter")
}

fn costs(name: &str, check: &str, pages: bool) {
    if !can_run() {
        return;
    }
    let servers = if is_full() { 1_000 } else { 200 };
    let host = Host::new();
    host.ip("route add 10.30.0.0/16 via 10.9.0.2");
    let answered = serve(&host);
    let file = host.file("keepalived.conf");
    fs::write(&file, configuration(servers, check)).expect("write");
    let room = [
        "--services",
        "64",
        "--servers",
        "4096",
        "--slot-lines",
        "1024",
    ];
    let file = file.display().to_string();
    let daemon = host.run_with_room(&room, &["--no-state", "--keepalived", &file]);
    // All were checked once, and have their ways.
    eventually(
        || answered.load(Ordering::Relaxed),
        |count| *count >= 2 * servers as u64,
    );
    let process = daemon.id();
    let (began, before) = (Instant::now(), answered.load(Ordering::Relaxed));
    let used = processor_time(process);
    std::thread::sleep(WINDOW);
    let used = processor_time(process) - used;
    let (took, checks) = (began.elapsed(), answered.load(Ordering::Relaxed) - before);
    let plain = plain(&host, pages);
    let list = host.call("ipvsadm -Sn").out;
    assert_eq!(list.lines().count(), SERVICES + servers, "all are there");

    let mut figures = Figures::default();
    let each = used.as_secs_f64() / checks as f64;
    let rate = checks as f64 / took.as_secs_f64();
    figures.note(&format!("{name}: checks a second"), rate, "/s", f64::MAX);
    let share = 100.0 * used.as_secs_f64() / took.as_secs_f64();
    figures.note(&format!("{name}: part of a processor"), share, "%", 10.0);
    figures.note(&format!("{name}: each check"), each * 1e6, "us", 100.0);
    let ratio = each / plain.as_secs_f64();
    figures.note("  as many times as plain system calls take", ratio, "", 5.0);
    let least = 0.5 * servers as f64;
    assert!(rate > least, "{rate} checks a second, not {least}");
    // Not optimized, and beside other work, it is more than when measured for real.
    assert!(ratio < 25.0, "a check costs {ratio} times what it has to");
}

#[test]
fn a_thousand_servers_whose_ports_are_checked_cost_little() {
    costs("1 000 TCP_CHECK", "TCP_CHECK {\n  }", false);
}

#[test]
fn a_thousand_servers_whose_pages_are_checked_cost_little() {
    let check = "HTTP_GET {\n   url {\n    path /\n   }\n  }";
    costs("1 000 HTTP_GET", check, true);
}
