//! Mail servers that hang, refuse, flood and go away delay nobody.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pointsman_daemon::mail::{FAREWELL, MailConfig, Mailer, ROOM};
use pointsman_ha::mail::Alert;
use pointsman_linux::netns::NetNs;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs in a fresh namespace whose loopback is up; not without root, and says so.
fn inside<F: Future<Output = ()>>(name: &str, work: impl FnOnce() -> F) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let name = format!("pmm-{}-{name}", std::process::id());
    let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
    let _inside = namespace.enter().expect("enter");
    let ip = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(ip.expect("ip").success());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work());
}

fn config(port: u16, timeout: Duration) -> MailConfig {
    MailConfig {
        server: ("127.0.0.1".to_owned(), port),
        hello: "west.example.org".to_owned(),
        timeout,
        host: "west".to_owned(),
        sender: "west@example.org".to_owned(),
        recipients: vec!["a@example.org".to_owned()],
        faults: true,
        checkers: true,
    }
}

fn post(mailer: &Mailer, number: usize) {
    let alert = || {
        Some(Alert {
            subject: format!("number {number}"),
            text: "=> text <=".to_owned(),
        })
    };
    mailer.post(|_| true, alert);
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen")
}

/// Takes one connection's mails, and tells their subjects; says to each line what `answer` says.
fn take(stream: TcpStream, told: &std::sync::mpsc::Sender<String>) -> std::io::Result<()> {
    let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes());
    say("220 here")?;
    let mut is_text = false;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if let Some(subject) = line.strip_prefix("Subject: ") {
            let _ = told.send(subject.to_owned());
        }
        match line.as_str() {
            "." => {
                is_text = false;
                say("250 taken")?;
            }
            _ if is_text => {}
            "DATA" => {
                is_text = true;
                say("354 go on")?;
            }
            "QUIT" => {
                let _ = told.send("QUIT".to_owned());
                return say("221 bye");
            }
            _ => say("250 fine")?,
        }
    }
    Ok(())
}

fn sink(port: u16) -> Receiver<String> {
    let (told, heard) = channel();
    let listener = listen(port);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = take(stream, &told);
        }
    });
    heard
}

/// The next thing told, waited for on the runtime, which has to deliver it meanwhile.
async fn next(heard: &Receiver<String>) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = heard.try_recv() {
            return text;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn letters_that_wait_go_by_one_connection_in_their_order() {
    inside("order", || async {
        let heard = sink(25);
        let mailer = Mailer::start(Some(config(25, PATIENCE)));
        for number in 0..5 {
            post(&mailer, number);
        }
        // What is posted from here on goes elsewhere; what was posted goes where it was to go.
        mailer.set_config(Some(MailConfig {
            host: "east".to_owned(),
            ..config(25, PATIENCE)
        }));
        post(&mailer, 5);
        mailer.set_config(None);
        post(&mailer, 6);
        for number in 0..5 {
            assert_eq!(next(&heard).await, format!("[west] number {number}"));
        }
        assert_eq!(next(&heard).await, "QUIT");
        assert_eq!(next(&heard).await, "[east] number 5");
        assert_eq!(next(&heard).await, "QUIT");
        let begun = Instant::now();
        mailer.finish(PATIENCE).await;
        assert!(begun.elapsed() < PATIENCE, "there is nothing to wait for");
        assert!(heard.try_recv().is_err());
    });
}

#[test]
fn a_name_is_looked_up() {
    inside("name", || async {
        let heard = sink(2525);
        let named = MailConfig {
            server: ("localhost".to_owned(), 2525),
            ..config(0, PATIENCE)
        };
        let mailer = Mailer::start(Some(named));
        post(&mailer, 1);
        assert_eq!(next(&heard).await, "[west] number 1");
    });
}

#[test]
fn a_server_that_hangs_delays_nobody_and_the_oldest_letters_are_lost() {
    inside("hang", || async {
        let hang = listen(25);
        let mailer = Mailer::start(Some(config(25, PATIENCE)));
        post(&mailer, 0);
        // Its connection is there, and says nothing.
        hang.set_nonblocking(true).expect("set");
        let held = loop {
            match hang.accept() {
                Ok(held) => break held,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        let begun = Instant::now();
        for number in 1..=ROOM + 50 {
            post(&mailer, number);
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "posting waits");
        let begun = Instant::now();
        mailer.finish(FAREWELL).await;
        assert!(begun.elapsed() < FAREWELL + Duration::from_secs(5));
        drop((held, hang));
        // What waits is the newest.
        let heard = sink(26);
        let mailer = Mailer::start(Some(config(26, PATIENCE)));
        for number in 0..ROOM + 50 {
            post(&mailer, number);
        }
        assert_eq!(next(&heard).await, "[west] number 50");
        for number in 51..ROOM + 50 {
            assert_eq!(next(&heard).await, format!("[west] number {number}"));
        }
    });
}

#[test]
fn what_a_bad_server_gets_is_lost_and_the_next_letter_is_tried() {
    inside("bad", || async {
        let short = Duration::from_millis(200);
        let heard = sink(25);
        let (hang, flood, refuse, leave) = (listen(26), listen(27), listen(28), listen(29));
        std::thread::spawn(move || {
            let held: Vec<_> = hang.incoming().collect();
            drop(held);
        });
        std::thread::spawn(move || {
            for mut stream in flood.incoming().flatten() {
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            }
        });
        std::thread::spawn(move || {
            for mut stream in refuse.incoming().flatten() {
                let _ = stream.write_all(b"554 no\r\n");
                // Whoever reads nothing has said all.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        std::thread::spawn(move || for _ in leave.incoming().flatten() {});
        let mailer = Mailer::start(None);
        // Nobody listens at the last one.
        for port in [26, 27, 28, 29, 30] {
            mailer.set_config(Some(config(port, short)));
            post(&mailer, port.into());
        }
        mailer.set_config(Some(config(25, PATIENCE)));
        post(&mailer, 1);
        assert_eq!(next(&heard).await, "[west] number 1");
    });
}
