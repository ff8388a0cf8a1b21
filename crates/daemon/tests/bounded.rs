//! Checks of targets that hang, flood and never answer leave nothing behind, however often they are made.
//!
//! It is a program of its own, and one test: descriptors, threads and children are counted for the process.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use pointsman_daemon::checks::{
    Check, DnsCheck, HttpCheck, HttpVersion, RecordType, SmtpCheck, Target, Through, Tls, UdpCheck,
    Url,
};
use pointsman_daemon::child::Script;
use pointsman_linux::netns::NetNs;
use tokio::task::JoinSet;

const SHORT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds before it is counted, and in which nothing more may come.
const ROUNDS: [usize; 2] = [3, 12];

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip")
        .args(arguments.split(' '))
        .status();
    assert!(status.expect("ip").success(), "ip {arguments}");
}

fn to(port: u16) -> Target {
    Target::new((Ipv4Addr::LOCALHOST, port).into(), SHORT)
}

/// Everything that listens and does not behave.
fn misbehave() {
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
    let (hang, flood) = (listen(80), listen(81));
    std::thread::spawn(move || {
        let held: Vec<_> = hang.incoming().collect();
        drop(held);
    });
    std::thread::spawn(move || {
        for mut stream in flood.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }
    });
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("bind");
    std::thread::spawn(move || while silent.recv(&mut [0; 64]).is_ok() {});
}

fn checks() -> Vec<Check> {
    let http = |port, tls| {
        Check::Http(Box::new(HttpCheck {
            target: to(port),
            tls,
            version: HttpVersion::V11,
            urls: vec![Url::new("/")],
        }))
    };
    let through = |address: &str| Target {
        to: SocketAddr::new(address.parse().expect("an address"), 80),
        through: Some(Through {
            server: "10.9.0.2".parse().expect("an address"),
            is_tunnel: false,
        }),
        ..to(80)
    };
    // It begins another, and neither listens to SIGTERM.
    let stubborn = "trap '' TERM; (trap '' TERM; while :; do sleep 60; done) & wait; wait";
    vec![
        http(80, None),
        http(81, None),
        http(80, Some(Tls::default())),
        Check::Smtp(SmtpCheck {
            target: to(80),
            helo_name: "check.example".to_owned(),
        }),
        Check::Dns(DnsCheck {
            target: to(53),
            record: RecordType::Soa,
            name: "example.org".to_owned(),
        }),
        Check::Udp(UdpCheck {
            target: to(53),
            payload: None,
            reply: Some(pointsman_daemon::checks::Payload::default()),
            min_length: 0,
            max_length: 9,
        }),
        Check::Tcp(through("10.9.0.100")),
        Check::Ping(through("10.9.0.100")),
        Check::Script {
            script: Script {
                words: ["bash", "-c", stubborn].map(str::to_owned).to_vec(),
                user: None,
            },
            limit: SHORT,
            dynamic: false,
        },
    ]
}

/// Descriptors, threads and children of this process.
fn held() -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    let tasks = fs::read_dir("/proc/self/task").expect("tasks").flatten();
    let children = tasks.map(|task| {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().count()
    });
    let children = children.sum();
    [
        entries("/proc/self/fd"),
        entries("/proc/self/task"),
        children,
    ]
}

async fn rounds(count: usize) {
    let mut all = JoinSet::new();
    for _ in 0..count {
        for check in checks() {
            all.spawn(async move {
                let began = Instant::now();
                assert!(check.make().await.is_err(), "{check:?}");
                (format!("{check:?}"), began.elapsed())
            });
        }
    }
    while let Some(done) = all.join_next().await {
        let (check, took) = done.expect("it ends");
        assert!(took < PATIENCE, "{took:?} for {check}");
    }
}

#[test]
fn what_misbehaves_is_bounded_and_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let name = format!("pmb-{}", std::process::id());
    let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
    let _inside = namespace.enter().expect("enter");
    ip("link set lo up");
    // The real server is there and silent: packets to it end in a device that nobody reads.
    ip("link add eth0 type veth peer name far");
    ip("link set eth0 up");
    ip("link set far up");
    ip("address add 10.9.0.1/24 dev eth0");
    ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev eth0");
    misbehave();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        rounds(ROUNDS[0]).await;
        let before = held();
        rounds(ROUNDS[1]).await;
        // The other ends of connections, and goodbyes, take a moment.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = held();
            // Those who hang hold what they accepted, one descriptor for each connection.
            let accepted = 3 * ROUNDS[1];
            let more = [accepted + 4, 0, 0];
            if now
                .iter()
                .zip(before)
                .zip(more)
                .all(|((now, before), more)| *now <= before + more)
            {
                break;
            }
            assert!(Instant::now() < deadline, "{now:?} after {before:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
