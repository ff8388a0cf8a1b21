//! Checks of real servers that answer, fail, hang and flood, in a namespace of their own.

#[path = "checks/identity.rs"]
mod identity;
#[path = "checks/vip.rs"]
mod vip;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pointsman_daemon::checks::{
    Check, DnsCheck, Failure, HttpCheck, HttpVersion, Payload, RecordType, SmtpCheck, Target, Tls,
    UdpCheck, Url,
};
use pointsman_daemon::child::Script;
use pointsman_daemon::minding::{Hand, Minded, Placing, TimedCheck};
use pointsman_ha::health::{CheckerConfig, HealthNotice, ServerConfig, ServiceConfig};
use pointsman_linux::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// Runs in a fresh namespace whose loopback is up; not without root, and says so.
fn inside<F: Future<Output = ()>>(name: &str, work: impl FnOnce() -> F) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let name = format!("pmc-{}-{name}", std::process::id());
    let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
    let _inside = namespace.enter().expect("enter");
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip");
    assert!(up.success());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work());
}

fn local(port: u16) -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

fn target(port: u16) -> Target {
    Target::new(local(port), Duration::from_secs(5))
}

/// What every connection to a port gets, from then on.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    port: u16,
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) {
    let listener = TcpListener::bind(local(port)).await.expect("listen");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
}

async fn say(mut stream: TcpStream, text: &'static str) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(text.as_bytes()).await;
}

fn http(port: u16, url: Url) -> Check {
    Check::Http(Box::new(HttpCheck {
        target: target(port),
        tls: None,
        version: HttpVersion::V10,
        urls: vec![Url::new("/"), url],
    }))
}

#[test]
fn connections_and_pages_are_checked() {
    inside("pages", || async {
        const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
        serve(80, |stream| say(stream, PAGE)).await;
        serve(81, |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        })
        .await;
        assert!(Check::Tcp(target(80)).make().await.is_ok());
        let refused = Check::Tcp(target(79)).make().await.expect_err("refused");
        assert!(matches!(refused, Failure::Connect { .. }), "{refused}");
        let mut url = Url::new("/");
        // md5 of "hello"
        url.digest = Some(0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592_u128.to_be_bytes());
        http(80, url.clone())
            .make()
            .await
            .expect("the page is right");
        url.digest = Some([0; 16]);
        let wrong = http(80, url).make().await.expect_err("another page");
        assert!(
            wrong
                .to_string()
                .contains("5d41402abc4b2a76b9719d911017c592"),
            "{wrong}"
        );
        let short = http(81, Url::new("/")).make().await.expect_err("cut short");
        assert!(short.to_string().contains("5 of 50"), "{short}");
    });
}

#[test]
fn what_hangs_or_floods_ends_in_time() {
    inside("hang", || async {
        serve(80, |stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        serve(81, |mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        })
        .await;
        let began = Instant::now();
        let brief = |port| Target::new(local(port), SHORT);
        let urls = vec![Url::new("/")];
        for port in [80, 81] {
            let check = Check::Http(Box::new(HttpCheck {
                target: brief(port),
                tls: None,
                version: HttpVersion::V11,
                urls: urls.clone(),
            }));
            check.make().await.expect_err("no page");
        }
        let smtp = Check::Smtp(SmtpCheck {
            target: brief(80),
            helo_name: "check.example".to_owned(),
        });
        let failure = smtp.make().await.expect_err("no greeting");
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn pages_behind_tls_are_checked() {
    inside("tls", || async {
        let folder = tempfile::tempdir().expect("a folder");
        let make = tokio::process::Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
            .args("-subj /CN=other.example -keyout key -out certificate".split(' '))
            .current_dir(folder.path())
            .output();
        let made = make.await.expect("openssl");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut server = tokio::process::Command::new("openssl")
            .args("s_server -quiet -accept 443 -www -key key -cert certificate".split(' '))
            .current_dir(folder.path())
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null())
            .spawn()
            .expect("openssl");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(local(443)).await.is_err() {
            assert!(Instant::now() < deadline, "openssl does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let name = Some("www.example".to_owned());
        let identity = None;
        for tls in [Tls::default(), Tls { name, identity }] {
            let check = HttpCheck {
                target: target(443),
                tls: Some(tls),
                version: HttpVersion::V10,
                urls: vec![Url::new("/")],
            };
            Check::Http(Box::new(check)).make().await.expect("a page");
        }
        server.kill().await.expect("killed");
    });
}

#[test]
fn mail_servers_are_checked() {
    inside("smtp", || async {
        async fn talk(mut stream: TcpStream, answers: [&'static str; 3]) {
            let mut line = [0; 256];
            for answer in answers {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read(&mut line).await;
            }
        }
        let right = ["220-one\r\n220 two\r\n", "250 hello\r\n", "221 bye\r\n"];
        serve(25, move |stream| talk(stream, right)).await;
        serve(26, move |stream| {
            talk(stream, ["220 x\r\n", "550 go away\r\n", ""])
        })
        .await;
        let check = |port| {
            Check::Smtp(SmtpCheck {
                target: target(port),
                helo_name: "check.example".to_owned(),
            })
        };
        check(25).make().await.expect("a mail server");
        let failure = check(26).make().await.expect_err("refused");
        assert!(failure.to_string().contains("550 go away"), "{failure}");
    });
}

#[test]
fn datagrams_names_and_echoes_are_checked() {
    inside("udp", || async {
        let echo = UdpSocket::bind(local(7)).await.expect("bind");
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = echo.recv_from(&mut bytes).await {
                // As an answer of DNS, if it was a question.
                bytes[2] |= 0x80;
                let _ = echo.send_to(&bytes[..length], from).await;
            }
        });
        let mut udp = UdpCheck {
            target: Target::new(local(7), SHORT),
            payload: Some(b"ab\x00d".to_vec()),
            reply: Some(Payload {
                bytes: b"ab\x80d".to_vec(),
                mask: Vec::new(),
            }),
            min_length: 4,
            max_length: 4,
        };
        Check::Udp(udp.clone())
            .make()
            .await
            .expect("the right answer");
        udp.min_length = 5;
        udp.max_length = 9;
        Check::Udp(udp.clone()).make().await.expect_err("too short");
        udp.reply = None;
        udp.target.to = local(8);
        // Nobody listens, and the kernel says so.
        Check::Udp(udp).make().await.expect_err("port unreachable");
        let dns = |port| {
            Check::Dns(DnsCheck {
                target: Target::new(local(port), SHORT),
                record: RecordType::Soa,
                name: "example.org".to_owned(),
            })
        };
        dns(7).make().await.expect("an answer");
        dns(8).make().await.expect_err("nobody");
        let ping = |address: &str| {
            let to = SocketAddr::new(address.parse().expect("an address"), 0);
            Check::Ping(Target::new(to, SHORT))
        };
        for address in ["127.0.0.1", "127.8.8.8", "::1"] {
            ping(address).make().await.expect(address);
        }
        ping("192.0.2.1").make().await.expect_err("no route");
    });
}

#[test]
fn programs_say_a_weight() {
    inside("misc", || async {
        let check = |text: &str, dynamic| Check::Script {
            script: Script {
                words: ["sh", "-c", text].map(str::to_owned).to_vec(),
                user: None,
            },
            limit: SHORT,
            dynamic,
        };
        assert_eq!(check("exit 0", true).make().await.expect("up").weight, None);
        assert_eq!(
            check("exit 52", true).make().await.expect("up").weight,
            Some(50)
        );
        check("exit 52", false).make().await.expect_err("down");
        check("exit 1", true).make().await.expect_err("down");
        let failure = check("sleep 60", false).make().await.expect_err("too long");
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
    });
}

/// Notes what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    async fn wait(&self, wanted: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.0.lock().expect("notes").clone();
            if said == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{said:?} instead of {wanted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Hand for Notes {
    fn place(&self, change: Placing) {
        self.0.lock().expect("notes").push(format!("{change:?}"));
    }

    fn notify(&self, notice: HealthNotice) {
        self.0.lock().expect("notes").push(notice.to_string());
    }
}

#[test]
fn a_server_that_fails_leaves_and_comes_back() {
    inside("minding", || async {
        let listen = || TcpListener::bind(local(80));
        let listener = listen().await.expect("listen");
        let server = |number: u8| ServerConfig {
            name: format!("[127.0.0.{number}]:tcp:80"),
            weight: 3,
            inhibit: false,
            checkers: vec![true],
        };
        let check = |to: &str| TimedCheck {
            timing: CheckerConfig {
                delay_loop: Duration::from_millis(50),
                retry: 1,
                delay_before_retry: Duration::from_millis(20),
                warmup: Duration::ZERO,
                alpha: false,
            },
            check: Check::Tcp(Target::new(to.parse().expect("an address"), SHORT)),
            log_all: false,
        };
        let minded = Minded::new(
            ServiceConfig {
                name: "[192.0.2.1]:tcp:80".to_owned(),
                quorum: 1,
                hysteresis: 0,
                omega: false,
                sorry_server: true,
                sorry_inhibit: false,
                servers: vec![server(1)],
            },
            vec![vec![check("127.0.0.1:80")]],
        );
        let notes = Arc::new(Notes::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let hand: Arc<dyn Hand> = Arc::<Notes>::clone(&notes);
        let keeping = tokio::spawn(minded.keep(hand, async {
            let _ = stopped.await;
        }));
        let begun = ["Add(Server(0), 3)", "VS [192.0.2.1]:tcp:80 UP"];
        notes.wait(&begun).await;
        drop(listener);
        let down = [
            begun[0],
            begun[1],
            "Remove(Server(0))",
            "RS [127.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 DOWN",
            "Add(Sorry, 1)",
            "VS [192.0.2.1]:tcp:80 DOWN",
        ];
        notes.wait(&down).await;
        let _listener = listen().await.expect("listen again");
        let up = [
            "RS [127.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 UP",
            "Add(Server(0), 3)",
            "Remove(Sorry)",
            "VS [192.0.2.1]:tcp:80 UP",
        ];
        notes.wait(&[&down[..], &up].concat()).await;
        let _ = stop.send(());
        keeping.await.expect("it ends");
    });
}
