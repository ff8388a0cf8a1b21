//! Mails, beside those of the real keepalived in the same host with the same configuration.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{Daemon, Host, can_run, eventually};
use super::replace;

/// What gives mails to nobody, and keeps them.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<String>>>);

impl Sink {
    /// Listens in the director's namespace; ends with the test program.
    fn new(host: &Host) -> Self {
        let sink = Self::default();
        let listener = host
            .director
            .run_in(|| TcpListener::bind("127.0.0.1:2525"))
            .expect("enter")
            .expect("listen");
        let taker = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taker = taker.clone();
                // Who goes away in the middle is none of a test's business.
                std::thread::spawn(move || taker.take(stream));
            }
        });
        sink
    }

    fn take(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).split(b'\n');
        let mut next = || -> std::io::Result<String> {
            let line = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
            Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
        };
        let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes());
        say("220 sink")?;
        let mut envelope = Vec::new();
        loop {
            let line = next()?;
            match line.split([' ', ':']).next().unwrap_or_default() {
                "DATA" => {
                    say("354 go on")?;
                    let mut text = Vec::new();
                    loop {
                        match next()?.as_str() {
                            "." => break,
                            line => text.push(line.to_owned()),
                        }
                    }
                    say("250 taken")?;
                    self.keep(&envelope, &text);
                    envelope.clear();
                }
                "QUIT" => return say("221 bye"),
                _ => {
                    envelope.push(line);
                    say("250-well\r\n250 fine")?;
                }
            }
        }
    }

    /// Keeps the envelope, the header lines that do not depend on program and time, and the text.
    fn keep(&self, envelope: &[String], text: &[String]) {
        let is_its_own = |line: &String| {
            !["X-Mailer:", "Date:"]
                .iter()
                .any(|header| line.starts_with(header))
                && !line.is_empty()
        };
        // The first letter of a connection comes after a greeting.
        let envelope = envelope.iter().filter(|line| !line.starts_with("HELO"));
        let lines: Vec<&str> = envelope
            .chain(text.iter().filter(|line| is_its_own(line)))
            .map(String::as_str)
            .collect();
        self.0.lock().expect("mails").push(lines.join("|"));
    }

    /// Waits until as many mails are there as are wanted, and these; they are forgotten then.
    fn expect(&self, wanted: &[&str]) {
        let about = "MAIL FROM:<director@example.org>|RCPT TO:<a@example.org>|RCPT TO:<b@example.org>|\
                     From: director@example.org|Subject: [west] ";
        let to = "To: a@example.org, b@example.org";
        let mut wanted: Vec<String> = wanted
            .iter()
            .map(|mail| {
                let (subject, text) = mail.split_once('|').expect("subject and text");
                format!("{about}{subject}|{to}|=> {text} <=")
            })
            .collect();
        wanted.sort();
        let sorted = || {
            let mut mails = self.0.lock().expect("mails").clone();
            mails.sort();
            mails
        };
        eventually(sorted, |mails| mails.len() >= wanted.len());
        assert_eq!(sorted(), wanted);
        self.0.lock().expect("mails").clear();
    }
}

/// Whoever has the configuration at work.
trait Program {
    fn reload(&self);
}

impl Program for Daemon {
    fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }
}

/// keepalived, which believes in IPVS; killed when dropped.
struct Keepalived(Child);

impl Program for Keepalived {
    fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }
}

impl Keepalived {
    fn start(host: &Host, file: &Path) -> Self {
        let mut command = host.director.command("keepalived");
        command.env("LD_PRELOAD", stub(host));
        for flag in ["-p", "-r", "-c", "-b"] {
            let pid = host.file(&format!("pid{flag}"));
            let _ = fs::remove_file(&pid);
            command.arg(flag).arg(pid);
        }
        let log = fs::File::create(host.file("log")).expect("a log");
        let child = command
            .args(["-n", "-l", "-G", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("keepalived; `cargo xtask setup` installs it");
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), signal);
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // Its children end with it, when it is asked to.
        self.signal(Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// What stands in for the kernel's IPVS.
fn stub(host: &Host) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = host.file("libipvs_stub.so");
    let status = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["-C", "panic=abort", "-o"])
        .arg(&library)
        .arg(folder.join("../config/tests/peer/ipvs_stub.rs"))
        .current_dir(folder)
        .status()
        .expect("run rustc");
    assert!(status.success(), "rustc ipvs_stub.rs");
    library
}

/// Three routers, two of them in a group, one of which says nothing; a service with two servers and a file.
fn configuration(host: &Host, routers: &[u8], servers: &[u8], globals: &str) -> String {
    let mut text = format!(
        "global_defs {{
    router_id west
    script_user root
    vrrp_version 3
    notification_email {{
        a@example.org
        b@example.org
    }}
    notification_email_from director@example.org
    smtp_server 127.0.0.1 2525
    smtp_connect_timeout 5
    smtp_alert_vrrp
    {globals}
}}
track_file number {{
    file {}
    weight 0
    init_file 0 overwrite
}}
",
        host.file("number").display()
    );
    if routers.len() > 2 {
        text += "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n}\n";
    }
    for number in routers {
        text += &format!(
            "vrrp_instance VI_{number} {{
    interface eth0
    virtual_router_id {number}
    priority 150
    advert_int 0.2
    virtual_ipaddress {{
        10.9.0.10{number}/32
    }}
    {}
}}
",
            if *number == 3 { "smtp_alert off" } else { "" }
        );
    }
    text += "virtual_server 10.9.0.100 80 {
    delay_loop 0.2
    delay_before_retry 0.1
    retry 1
    warmup 0
    lb_algo rr
    lb_kind NAT
    protocol TCP
    smtp_alert
    quorum 2
    hysteresis 1
";
    for number in servers {
        text += &format!(
            "    real_server 10.9.0.2 {number} {{
        weight 2
        {}
        TCP_CHECK {{
            connect_timeout 1
        }}
        FILE_CHECK {{
            track_file number
        }}
    }}
",
            if *number == 82 { "smtp_alert off" } else { "" }
        );
    }
    text + "}\n"
}

/// What happens, and the mails about it, whoever runs.
fn story<T: Program>(host: &Host, sink: &Sink, start: impl FnOnce(&Path) -> T) -> T {
    let listen = |port: u16| {
        host.server
            .run_in(|| TcpListener::bind(("10.9.0.2", port)))
            .expect("enter")
            .expect("listen")
    };
    let first = listen(81);
    let second = listen(82);
    let file = host.file("keepalived.conf");
    fs::write(&file, configuration(host, &[1, 2, 3], &[81, 82], "")).expect("write");
    let program = start(&file);
    let state = |name: &str| {
        let owns = if name == "MASTER" { "now" } else { "no longer" };
        [1, 2]
            .map(|number| {
                format!(
                    "VRRP Instance VI_{number} - Entering {name} state|VRRP Instance is {owns} owning VRRP VIPs"
                )
            })
            .into_iter()
            .chain([format!(
                "VRRP Group G - Entering {name} state|All VRRP group instances are now in {name} state"
            )])
            .collect::<Vec<_>>()
    };
    let service = "Virtualserver [10.9.0.100]:tcp:80";
    let server = |number: u8| {
        format!("Realserver [10.9.0.2]:tcp:{number} of virtual server [10.9.0.100]:tcp:80")
    };
    let mut begin = state("BACKUP");
    begin.extend(state("MASTER"));
    begin.push(format!("{service} - UP|Starting with quorum up 2+1=3 <= 4"));
    let expect = |mails: Vec<String>| {
        let mails: Vec<&str> = mails.iter().map(String::as_str).collect();
        sink.expect(&mails);
    };
    expect(begin);
    drop(first);
    expect(vec![format!(
        "{} - DOWN|TCP CHECK failed on service",
        server(81)
    )]);
    // Of this one no mail tells, of the quorum one does.
    drop(second);
    expect(vec![format!("{service} - DOWN|Lost quorum 2+1=1 <= 0")]);
    let first = listen(81);
    expect(vec![format!(
        "{} - UP|TCP CHECK succeed on service",
        server(81)
    )]);
    let second = listen(82);
    expect(vec![format!("{service} - UP|Gained quorum 2+1=3 <= 4")]);
    // A cable without an end.
    super::host::ip(&host.server, "link set eth0 down");
    let mut lost = state("FAULT");
    lost.push(format!("{} - DOWN|TCP CHECK failed on service", server(81)));
    lost.push(format!("{service} - DOWN|Lost quorum 2+1=1 <= 0"));
    expect(lost);
    super::host::ip(&host.server, "link set eth0 up");
    let mut back = state("BACKUP");
    back.extend(state("MASTER"));
    back.push(format!("{} - UP|TCP CHECK succeed on service", server(81)));
    back.push(format!("{service} - UP|Gained quorum 2+1=3 <= 4"));
    expect(back);
    replace(&file, &configuration(host, &[2, 3], &[82], ""));
    program.reload();
    expect(vec![
        "VRRP Instance VI_1 - Entering FAULT state|VRRP Instance is no longer owning VRRP VIPs"
            .to_owned(),
        format!("{} - DOWN|Removing", server(81)),
    ]);
    drop((first, second));
    expect(vec![format!("{service} - DOWN|Lost quorum 2+1=1 <= 0")]);
    program
}

#[test]
fn mails_tell_what_keepalived_s_tell() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let sink = Sink::new(&host);
    drop(story(&host, &sink, |file| Keepalived::start(&host, file)));
    sink.0.lock().expect("mails").clear();
    let daemon = story(&host, &sink, |file| {
        host.run(&["--keepalived", &file.display().to_string()])
    });
    // At the end, too, which those of keepalived do not live to tell.
    assert!(daemon.end(Signal::SIGTERM).success());
    sink.expect(&["VRRP Instance VI_2 - Stopping|VRRP Instance stopping"]);
}

#[test]
fn a_reload_is_told_by_a_file_and_scripts_have_the_umask() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let sign = host.file("reload");
    let mask = host.file("mask");
    let text = |globals: &str| {
        format!(
            "global_defs {{\n script_user root\n vrrp_version 3\n reload_file {}\n {globals}\n}}\n\
             vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 1\n priority 255\n \
             advert_int 0.2\n virtual_ipaddress {{\n 10.9.0.101/32\n }}\n \
             notify \"/bin/sh -c 'umask > {}'\"\n}}\n",
            sign.display(),
            mask.display()
        )
    };
    let file = host.file("keepalived.conf");
    fs::write(&file, text("umask IRGRP|IWOTH")).expect("write");
    let daemon = host.run(&["--keepalived", &file.display().to_string()]);
    let noted = || fs::read_to_string(&mask).unwrap_or_default();
    eventually(noted, |mask| mask == "0042\n");
    // Whoever changes files makes it, and waits until it is gone.
    for globals in ["umask 0x12", "no_such_word"] {
        fs::write(&file, text(globals)).expect("write");
        fs::write(&sign, "about to").expect("write");
        daemon.signal(Signal::SIGHUP);
        eventually(|| sign.exists(), |exists| !exists);
    }
    assert!(daemon.end(Signal::SIGTERM).success());
    // The second one was not taken.
    eventually(noted, |mask| mask == "0022\n");
}
