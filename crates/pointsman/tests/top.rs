//! `pointsman top` beside a running daemon: as text, and on a terminal that it gives back.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use host::{Host, PATIENCE, SERVER_MAC, can_run, eventually};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

#[test]
fn one_look_is_plain_text() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let said = host.call("top --once");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("is `pointsman run` running?"), "{said:?}");

    let _daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.1:80 -s rr");
    host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.2 -w 7");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    let service =
        "TCP 10.9.0.1:80                    0        0         0       0       0       0       0";
    let server = "  -> 10.9.0.2:80                   0        0         0       0       0       0       0      7 \
                  eth0 02:00:00:00:00:02\n";
    for arguments in ["top --once", "top", "top -d 0.5 --once"] {
        let said = host.call(arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments}");
        assert!(
            said.out
                .starts_with("1 service, 1 server, 0 of 1024 connections"),
            "{}",
            said.out
        );
        let rows = format!("{service}        rr\n{server}");
        assert!(said.out.ends_with(&rows), "{}", said.out);
    }
    host.call("setting run_estimation=0");
    let out = host.call("top --once").out;
    assert!(out.contains("\nno rates: run_estimation is 0\n"), "{out}");
}

/// `pointsman top` on a terminal of its own.
struct Screen {
    child: Child,
    master: File,
    /// Held, so that the terminal stays when the program has ended.
    slave: File,
    before: Termios,
    parts: Receiver<Vec<u8>>,
    shown: String,
}

impl Screen {
    fn open(host: &Host) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 130,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(Some(&size), None).expect("a terminal");
        let slave = File::from(terminal.slave);
        let end = || slave.try_clone().expect("a descriptor");
        let before = tcgetattr(&slave).expect("a terminal");
        let child = host
            .program()
            .args(["top", "-d", "0.2"])
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("start the program");
        let master = File::from(terminal.master);
        let mut reader = master.try_clone().expect("a descriptor");
        let (sender, parts) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            master,
            slave,
            before,
            parts,
            shown: String::new(),
        }
    }

    /// Waits until a text is shown.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let part = self
                .parts
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.shown));
            self.shown += &String::from_utf8_lossy(&part);
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Waits for the end; the terminal has to be as it was.
    fn end(mut self) -> ExitStatus {
        // The cursor shown, and out of the alternate screen.
        self.expect("\x1b[?25h");
        self.expect("\x1b[?1049l");
        let status = self.child.wait().expect("wait for the program");
        let after = tcgetattr(&self.slave).expect("a terminal");
        assert_eq!(after, self.before, "modes of the terminal");
        status
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_terminal_is_given_back() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.1:80 -s rr");
    let mut screen = Screen::open(&host);
    screen.expect("\x1b[?1049h");
    screen.expect("TCP 10.9.0.1:80");
    assert_ne!(tcgetattr(&screen.slave).expect("a terminal"), screen.before);
    // What comes later is shown, and keys are obeyed.
    host.ipvsadm("-A -t 10.9.0.1:443 -s rr");
    screen.expect("TCP 10.9.0.1:443");
    screen.press(" ");
    screen.expect("PAUSED");
    screen.press("q");
    assert_eq!(screen.end().code(), Some(0));

    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut screen = Screen::open(&host);
        screen.expect("TCP 10.9.0.1:443");
        let pid = Pid::from_raw(screen.child.id().cast_signed());
        kill(pid, signal).expect("signal the program");
        assert_eq!(screen.end().signal(), Some(signal as i32));
    }

    // A daemon that goes is said; the program stays.
    let mut screen = Screen::open(&host);
    screen.expect("TCP 10.9.0.1:443");
    assert!(daemon.end(Signal::SIGTERM).success());
    // Only what differs from before is written: these words do, and are red.
    screen.expect("reach");
    let _daemon = host.run(&[]);
    screen.shown.clear();
    screen.expect("services,");
    screen.press("\x03");
    assert_eq!(screen.end().code(), Some(0));
}
