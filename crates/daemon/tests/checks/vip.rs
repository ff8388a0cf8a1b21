//! Checks of a virtual address through a real server, from a director that has it or not.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_daemon::checks::{Check, HttpCheck, HttpVersion, Target, Through, UdpCheck, Url};
use pointsman_linux::netns::{NetNs, Temporary};
use pointsman_linux::packet::Capture;
use pointsman_linux::sysctl;
use pointsman_linux::tun::Tun;

/// A check that gets no answer ends after this; one that gets it ends at once.
const BRIEF: Duration = Duration::from_millis(700);
const PATIENT: Duration = Duration::from_secs(10);

fn ip(namespace: Option<&NetNs>, arguments: &str) {
    let mut command = match namespace {
        Some(namespace) => namespace.command("ip"),
        None => Command::new("ip"),
    };
    let status = command.args(arguments.split(' ')).status();
    assert!(status.expect("ip").success(), "ip {arguments}");
}

/// The director is where the test is: 10.9.0.1, fd09::1. The real server is 10.9.0.2, fd09::2.
fn real_server(name: &str) -> Temporary {
    let name = format!("pmc-{}-{name}-s", std::process::id());
    let server = NetNs::create(&name).expect("a namespace").delete_on_drop();
    ip(
        None,
        &format!("link add eth0 type veth peer name eth0 netns {name}"),
    );
    for (namespace, number) in [(None, 1), (Some(&*server), 2)] {
        ip(namespace, "link set lo up");
        ip(namespace, "link set eth0 up");
        ip(
            namespace,
            &format!("address add 10.9.0.{number}/24 dev eth0"),
        );
        ip(
            namespace,
            &format!("address add fd09::{number}/64 dev eth0 nodad"),
        );
    }
    server
}

/// Serves pages at port 80 and echoes datagrams at port 53 of every address.
fn serve(server: &NetNs) {
    let open = || (TcpListener::bind("[::]:80"), UdpSocket::bind("[::]:53"));
    let (pages, datagrams) = server.run_in(open).expect("enter");
    let (pages, datagrams) = (pages.expect("listen"), datagrams.expect("bind"));
    std::thread::spawn(move || {
        for mut stream in pages.incoming().flatten() {
            // Who closes with something unread resets.
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nalive\n");
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        // From the address at which it was asked, which a socket of all addresses does not remember.
        while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(&bytes[..length], from);
        }
    });
}

fn target(vip: &str, port: u16, server: &str, timeout: Duration) -> Target {
    let vip: IpAddr = vip.parse().expect("an address");
    Target {
        through: Some(Through {
            server: server.parse().expect("an address"),
            is_tunnel: false,
        }),
        ..Target::new(SocketAddr::new(vip, port), timeout)
    }
}

/// All ways to look at the address; what each says that failed.
async fn look(vip: &str, server: &str, timeout: Duration) -> Vec<String> {
    let to = |port| target(vip, port, server, timeout);
    let http = HttpCheck {
        target: to(80),
        tls: None,
        version: HttpVersion::V10,
        urls: vec![Url::new("/")],
    };
    let mut said = Vec::new();
    for (name, check) in [
        ("tcp", Check::Tcp(to(80))),
        ("http", Check::Http(Box::new(http))),
        ("ping", Check::Ping(to(0))),
    ] {
        if let Err(failure) = check.make().await {
            said.push(format!("{name}: {failure}"));
        }
    }
    said
}

const BOTH: [(&str, &str); 2] = [("10.9.0.100", "10.9.0.2"), ("fd09::100", "fd09::2")];

#[test]
fn a_server_without_the_address_is_found_by_master_and_backup() {
    super::inside("vip", || async {
        let server = real_server("vip");
        serve(&server);
        for master in [false, true] {
            for (vip, address) in BOTH {
                let bits = if vip.contains(':') { 128 } else { 32 };
                if master {
                    ip(None, &format!("address add {vip}/{bits} dev eth0"));
                }
                let missing = look(vip, address, BRIEF).await;
                assert_eq!(missing.len(), 3, "master {master}: {missing:?}");
                ip(Some(&server), &format!("address add {vip}/{bits} dev lo"));
                // The kernel begins with a new address of IPv6 a moment later.
                let deadline = Instant::now() + super::PATIENCE;
                loop {
                    let said = look(vip, address, 2 * BRIEF).await;
                    if said.is_empty() {
                        break;
                    }
                    assert!(Instant::now() < deadline, "master {master}: {said:?}");
                }
                // What is not served is refused, and that at once.
                let closed = Check::Tcp(target(vip, 81, address, PATIENT)).make().await;
                let closed = closed.expect_err("nobody listens").to_string();
                assert!(closed.contains("refused"), "{closed}");
                let udp = |port| {
                    Check::Udp(UdpCheck {
                        target: target(vip, port, address, BRIEF),
                        payload: Some(b"x".to_vec()),
                        reply: None,
                        min_length: 0,
                        max_length: 9,
                    })
                };
                let failure = udp(54).make().await.expect_err("nobody is there");
                assert!(failure.to_string().contains("refused"), "{failure}");
                ip(
                    Some(&server),
                    &format!("address delete {vip}/{bits} dev lo"),
                );
                if master {
                    ip(None, &format!("address delete {vip}/{bits} dev eth0"));
                }
            }
        }
    });
}

#[test]
fn a_server_that_would_forward_to_another_is_told_from_one_that_serves() {
    super::inside("forwards", || async {
        let server = real_server("forwards");
        serve(&server);
        let forward = || {
            for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                sysctl::write(key, "1").expect(key);
            }
        };
        server.run_in(forward).expect("enter");
        // The next host would have the address, and an answer.
        for (vip, address) in BOTH {
            let bits = if vip.contains(':') { 128 } else { 32 };
            ip(None, &format!("address add {vip}/{bits} dev lo"));
            let said = look(vip, address, PATIENT).await;
            let told = said.iter().filter(|text| text.contains("has not got"));
            assert_eq!(told.count(), 3, "{said:?}");
        }
    });
}

#[test]
fn a_tunnel_carries_checks_and_its_end_has_to_have_the_address() {
    super::inside("tunnel", || async {
        let server = real_server("tunnel");
        serve(&server);
        let (tun, capture) = server
            .run_in(|| (Tun::open("tunl", 1400), Capture::open("eth0")))
            .expect("enter");
        let (tun, mut capture) = (Arc::new(tun.expect("a tun")), capture.expect("a capture"));
        // This kernel has no tunnels: packets are taken out by hand.
        std::thread::spawn(move || {
            while let Ok(frame) = capture.next(PATIENT) {
                let Some(frame) = frame else { continue };
                if frame.bytes.get(14) == Some(&0x45) && frame.bytes.get(23) == Some(&4) {
                    let _ = tun.send(&frame.bytes[34..]);
                }
            }
        });
        let loose = || {
            for name in ["all", "tunl"] {
                let key = format!("net.ipv4.conf.{name}.rp_filter");
                sysctl::write(&key, "0").expect("a setting");
            }
        };
        server.run_in(loose).expect("enter");
        let (vip, address) = BOTH[0];
        let check = |timeout| {
            let mut target = target(vip, 80, address, timeout);
            target.through = target.through.map(|through| Through {
                is_tunnel: true,
                ..through
            });
            Check::Tcp(target)
        };
        check(BRIEF).make().await.expect_err("it has not got it");
        ip(Some(&server), &format!("address add {vip}/32 dev lo"));
        check(PATIENT).make().await.expect("it has it");
    });
}
