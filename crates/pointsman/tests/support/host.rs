//! A director's host and a real server's, two namespaces with a veth pair between them.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use pointsman_linux::{
    bpffs,
    netns::{NetNs, Temporary},
};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// Link-layer address of the real server.
pub(crate) const SERVER_MAC: &str = "02:00:00:00:00:02";

/// Director 10.9.0.1, fd09::1 (eth0) --veth-- (eth0) server 10.9.0.2, fd09::2.
pub(crate) struct Host {
    pub(crate) director: Temporary,
    pub(crate) server: Temporary,
    directory: tempfile::TempDir,
    pub(crate) pin_dir: PathBuf,
}

/// What a program said and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

/// Whether the test can do its work; says so when not.
pub(crate) fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

impl Host {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        bpffs::mount("/sys/fs/bpf").expect("mount a bpffs");
        let tag = format!(
            "pmd-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let create = |role: &str| {
            NetNs::create(&format!("{tag}-{role}"))
                .expect("create a namespace")
                .delete_on_drop()
        };
        let host = Self {
            director: create("d"),
            server: create("s"),
            directory: tempfile::tempdir().expect("a directory"),
            pin_dir: PathBuf::from(format!("/sys/fs/bpf/{tag}")),
        };
        let server = host.server.name().expect("name").to_owned();
        host.ip(&format!(
            "link add eth0 address 02:00:00:00:00:01 type veth \
             peer name eth0 netns {server} address {SERVER_MAC}"
        ));
        for (namespace, number) in [(&host.director, 1), (&host.server, 2)] {
            // Without addresses that come and settle by themselves: what is compared stays.
            ip(namespace, "link set eth0 addrgenmode none");
            ip(namespace, "link set lo up");
            ip(
                namespace,
                &format!("address add 10.9.0.{number}/24 dev eth0"),
            );
            ip(
                namespace,
                &format!("address add fd09::{number}/64 dev eth0 nodad"),
            );
            ip(namespace, "link set eth0 up");
        }
        host
    }

    pub(crate) fn ip(&self, arguments: &str) {
        ip(&self.director, arguments);
    }

    /// A place for files that goes with the host.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub(crate) fn program(&self) -> Command {
        let mut command = self.director.command(PROGRAM);
        command.env("POINTSMAN_SOCKET", self.socket());
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn run(&self, arguments: &[&str]) -> Daemon {
        self.run_with_room(&["--connections", "1024", "--servers", "64"], arguments)
    }

    /// Starts the daemon with room as told and waits until it is ready.
    pub(crate) fn run_with_room(&self, room: &[&str], arguments: &[&str]) -> Daemon {
        let mut child = self
            .program()
            .arg("run")
            .arg("--pin-dir")
            .arg(&self.pin_dir)
            .args(room)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        let out = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut daemon = Daemon {
            child,
            said: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !daemon
            .said
            .last()
            .is_some_and(|line| line.starts_with("ready"))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("the daemon is not ready: {:?}", daemon.said));
            daemon.said.push(line);
        }
        daemon
    }

    /// Runs the program to its end.
    pub(crate) fn call(&self, arguments: &str) -> Said {
        self.call_with(arguments, "")
    }

    /// Runs the program with an input.
    pub(crate) fn call_with(&self, arguments: &str, input: &str) -> Said {
        self.call_as(PROGRAM.as_ref(), arguments, input)
    }

    /// Runs the program by the path of a link to it.
    pub(crate) fn call_as(&self, program: &Path, arguments: &str, input: &str) -> Said {
        // `timeout` ends what should have ended; it passes exit codes on.
        let mut child = self
            .director
            .command("timeout")
            .env("POINTSMAN_SOCKET", self.socket())
            .arg(PATIENCE.as_secs().to_string())
            .arg(program)
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut stdin = child.stdin.take().expect("stdin");
        // A program that reads nothing may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("output");
        Said {
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
            code: output.status.code().expect("an exit code"),
        }
    }

    /// Runs ipvsadm, which has to succeed silently.
    pub(crate) fn ipvsadm(&self, arguments: &str) {
        let said = self.call(&format!("ipvsadm {arguments}"));
        assert_eq!(
            (said.code, said.err.as_str()),
            (0, ""),
            "ipvsadm {arguments}"
        );
    }

    /// The next hop of the only real server with this address.
    pub(crate) fn next_hop(&self, address: &str) -> String {
        let services = pointsman_daemon::client::Client::connect(&self.socket())
            .expect("connect")
            .services()
            .expect("services");
        services
            .into_iter()
            .flat_map(|service| service.servers)
            .find(|server| server.server.address.to_string() == address)
            .map_or_else(|| "no such server".to_owned(), |server| server.next_hop)
    }

    /// All that a director may change of its host, in words.
    pub(crate) fn state(&self) -> String {
        let mut state = String::new();
        for command in [
            "ip -d -o link",
            "ip -o address",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "tc qdisc show",
            "tc filter show dev eth0 ingress",
            "bpftool net",
        ] {
            let mut words = command.split(' ');
            let output = self
                .director
                .command(words.next().expect("a word"))
                .args(words)
                .output()
                .expect(command);
            state += &format!("# {command}\n{}", String::from_utf8_lossy(&output.stdout));
        }
        state += &format!("# neighbours\n{}", self.neighbours());
        state += &self
            .director
            .run_in(|| sysctls("/proc/sys/net".as_ref()))
            .expect("read sysctls");
        state + &format!("# pins: {}\n", self.pin_dir.exists())
    }

    /// Neighbours without their states, which change with time.
    pub(crate) fn neighbours(&self) -> String {
        let output = self
            .director
            .command("ip")
            .args(["-o", "neigh"])
            .output()
            .expect("ip neigh");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let words = line.split_whitespace();
                let stable = words.filter(|word| !word.chars().all(|c| c.is_ascii_uppercase()));
                stable.collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect();
        lines.sort();
        lines.concat()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.pin_dir.exists() {
            let said = self.call(&format!("detach --pin-dir {}", self.pin_dir.display()));
            if said.code != 0 {
                eprintln!("pins stay behind: {said:?}");
            }
        }
    }
}

/// All parameters below a directory with their values.
fn sysctls(directory: &std::path::Path) -> String {
    let mut text = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory of /proc/sys")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            text += &sysctls(&path);
        } else if let Ok(value) = std::fs::read_to_string(&path) {
            text += &format!("{} = {}\n", path.display(), value.trim_end());
        }
    }
    text
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    /// Its lines up to the one that says it is ready.
    pub(crate) said: Vec<String>,
}

impl Daemon {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("signal the daemon");
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: nix::sys::signal::Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("wait for the daemon")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `ip` with words split at spaces in a namespace.
pub(crate) fn ip(namespace: &NetNs, arguments: &str) {
    let status = namespace
        .command("ip")
        .args(arguments.split_whitespace())
        .status()
        .expect("run ip (package iproute2)");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// Looks again and again until `look` is content, or fails with what it saw last.
pub(crate) fn eventually<T: std::fmt::Debug>(
    mut look: impl FnMut() -> T,
    content: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if content(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "still {seen:?}");
        // Between two looks; nothing is assumed to have happened meanwhile.
        thread::sleep(Duration::from_millis(10));
    }
}
