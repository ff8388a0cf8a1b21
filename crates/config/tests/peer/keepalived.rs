//! The real keepalived in a network namespace of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_linux::netns::{NetNs, Temporary};

const PROGRAM: &str = "/usr/sbin/keepalived";
/// The version whose language this is.
const VERSION: &str = "v2.2.7";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interfaces that configurations name.
const INTERFACES: [&str; 5] = ["eth0", "eth1", "eth2", "eth3", "eth0.1"];

/// The program, where it runs, and what makes it believe in IPVS.
pub struct Keepalived {
    namespace: Temporary,
    folder: tempfile::TempDir,
    stub: PathBuf,
}

/// What the test of a configuration says.
#[derive(Debug)]
pub struct Verdict {
    /// Exit code; 0 is fine, none is a crash.
    pub code: Option<i32>,
    /// Everything that was said.
    pub text: String,
    /// Lines of the file that were named.
    pub lines: Vec<u32>,
}

impl Keepalived {
    /// None, and why is said, where it can't run.
    pub fn new(tag: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let version = Command::new(PROGRAM).arg("-v").output();
        let said = version.map(|v| String::from_utf8_lossy(&v.stderr).into_owned());
        match said {
            Ok(text) if text.contains(VERSION) => {}
            Ok(text) => {
                let first = text.lines().next().unwrap_or_default();
                println!("skipped: needs keepalived {VERSION}, here is {first}");
                return None;
            }
            Err(error) => {
                println!("skipped: {PROGRAM}: {error}");
                return None;
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let stub = stub(folder.path());
        let name = format!("pmk-{}-{tag}", std::process::id());
        let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
        let ip = |arguments: &str| {
            let status = namespace
                .command("ip")
                .args(arguments.split(' '))
                .status()
                .expect("run ip");
            assert!(status.success(), "ip {arguments}");
        };
        ip("link set lo up");
        for (number, interface) in INTERFACES.iter().enumerate() {
            ip(&format!("link add {interface} type bridge"));
            ip(&format!("link set {interface} up"));
            ip(&format!(
                "address add 192.168.25{number}.5/24 dev {interface}"
            ));
        }
        Some(Self {
            namespace,
            folder,
            stub,
        })
    }

    /// Writes a configuration.
    pub fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("keepalived.conf");
        fs::write(&path, text).expect("write");
        path
    }

    /// Writes a file that the configuration includes.
    pub fn part(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("write");
    }

    /// What `keepalived -t` says of a file.
    pub fn test(&self, file: &Path) -> Verdict {
        let output = self
            .namespace
            .command(PROGRAM)
            .args(["-t", "-G", "-i", "west", "-f"])
            .arg(file)
            .output()
            .expect("run keepalived");
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        let mut lines: Vec<u32> = text
            .split("Line ")
            .skip(1)
            .filter_map(|rest| rest.split(')').next()?.parse().ok())
            .collect();
        lines.sort_unstable();
        lines.dedup();
        Verdict {
            code: output.status.code(),
            text,
            lines,
        }
    }

    /// What it derives from a file: its dump of services and checks, then that of virtual routers.
    pub fn dump(&self, file: &Path, services: bool, routers: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if services {
            // The checks come last; what follows them tells that they are complete.
            lines.extend(self.run(file, &["-C"], "Activating BFD"));
        }
        if routers {
            // Without a process for BFD, whose lines would come between.
            lines.extend(self.run(file, &["-P", "-B"], "< Interfaces >"));
        }
        lines
    }

    /// What it says of a file with sessions alone, until it says `last`.
    pub fn sessions(&self, file: &Path, last: &str) -> Vec<String> {
        self.run(file, &["-D"], last)
    }

    /// Runs some of its processes until it says `last`.
    fn run(&self, file: &Path, which: &[&str], last: &str) -> Vec<String> {
        let mut command = self.namespace.command(PROGRAM);
        command.env("LD_PRELOAD", &self.stub);
        for (flag, name) in [("-p", "p"), ("-r", "r"), ("-c", "c"), ("-b", "b")] {
            let pid = self.folder.path().join(name);
            // What a process left that was killed.
            let _ = fs::remove_file(&pid);
            command.arg(flag).arg(pid);
        }
        let mut child = command
            .args(which)
            .args(["-n", "-l", "-d", "-D", "-G", "-i", "west", "-f"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start keepalived");
        let (sender, lines) = mpsc::channel();
        let pipes: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout")),
            Box::new(child.stderr.take().expect("stderr")),
        ];
        for pipe in pipes {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        drop(sender);
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            // Behind the date.
            let line = line.split_once(" 20").map_or(&*line, |(_, rest)| rest);
            let line = line
                .split_once(": ")
                .map_or(line, |(_, rest)| rest)
                .to_owned();
            let is_last = line.contains(last);
            said.push(line);
            if is_last {
                break;
            }
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = child.wait();
        assert!(said.iter().any(|line| line.contains(last)), "{said:#?}");
        said
    }
}

/// Compiles what stands in for the kernel's IPVS.
fn stub(folder: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer/ipvs_stub.rs");
    let library = folder.join("libipvs_stub.so");
    let status = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["-C", "panic=abort", "-o"])
        .arg(&library)
        .arg(source)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("run rustc");
    assert!(status.success(), "rustc {source}");
    library
}
