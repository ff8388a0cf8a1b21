//! The director of a lab: `pointsman run` in the director's namespace, and its operator.
//!
//! Pins and socket are the lab's own, so that several labs run at once, and beside a director of the
//! host. Whatever happens, nothing stays pinned: dropped, panicked or ended by a signal, a director
//! that was not stopped is killed and detached.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::cleanup;
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace::{self, command_line};
use crate::process::{Process, READY_LIMIT, wait_until};
use crate::tag::{self, namespace_name};
use crate::topology::Role;

/// Names the program when it is not beside the running one.
pub const PROGRAM_VARIABLE: &str = "POINTSMAN_PROGRAM";

/// How long next hops may take to be found.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
/// What the words of a next hop that is not known begin with.
const UNRESOLVED: [&str; 2] = ["unresolved", "not looked up"];
/// How long the API may take to answer.
const API_LIMIT: Duration = Duration::from_secs(10);
/// How long the daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// `pointsman run` in a lab.
#[derive(Debug)]
pub struct Director<'a> {
    // It runs no longer than its lab.
    lab: PhantomData<&'a ()>,
    place: Place,
    arguments: Vec<String>,
    ready_limit: Duration,
    process: Option<Process>,
    said: Vec<String>,
    // Last, so that it goes after the daemon.
    _directory: TempDir,
}

/// Where a director's program, pins and files are.
#[derive(Debug, Clone)]
struct Place {
    namespace: String,
    program: PathBuf,
    pin_dir: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl<'a> Director<'a> {
    /// Starts `pointsman run` with more arguments, and waits until it is ready.
    pub fn start(lab: &'a Lab, arguments: &[&str]) -> Result<Self> {
        Self::start_in(lab.tag(), arguments, READY_LIMIT)
    }

    /// The same in the director's namespace of whatever has this tag, which may take so long.
    pub(crate) fn start_in(tag: &str, arguments: &[&str], ready_limit: Duration) -> Result<Self> {
        let program = program()?;
        pointsman_linux::bpffs::mount("/sys/fs/bpf")
            .map_err(LabError::kernel("cannot mount a bpffs for pins"))?;
        let directory = tempfile::Builder::new()
            .prefix(&tag::directory_prefix(tag))
            .tempdir()
            .map_err(LabError::io("cannot make a directory for the socket"))?;
        let mut director = Self {
            lab: PhantomData,
            place: Place {
                namespace: namespace_name(tag, Role::Director),
                program,
                pin_dir: tag::pin_dir(tag),
                socket: directory.path().join("api.sock"),
                log: directory.path().join("log"),
            },
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ready_limit,
            process: None,
            said: Vec::new(),
            _directory: directory,
        };
        director.restart()?;
        Ok(director)
    }

    /// Starts the daemon anew after [`Self::kill`] or [`Self::terminate`].
    pub fn restart(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.place.log)
            .map_err(LabError::io("cannot open the director's log"))?;
        let mut command = self.place.command();
        command
            .arg("run")
            .arg("--pin-dir")
            .arg(&self.place.pin_dir)
            // The tables are preallocated; a lab needs no million of connections.
            .args(["--connections", "20000"])
            .args(&self.arguments)
            .stderr(log);
        {
            // In a process group of its own, so that Ctrl-C reaches the lab first, which ends it.
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        let place = self.place.clone();
        cleanup::before_end(&self.key(), Box::new(move || place.end()));
        let namespace = &self.place.namespace;
        let process = Process::start_within(namespace, &mut command, "ready", self.ready_limit)
            .map_err(|error| self.with_log(error))?;
        self.said = process.said().to_vec();
        self.process = Some(process);
        Ok(())
    }

    fn key(&self) -> String {
        self.place.pin_dir.display().to_string()
    }

    /// What the daemon said at its start: the hook of each interface and why, then that it is ready.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.place.log).unwrap_or_default()
    }

    /// Directory of its pins.
    pub fn pin_dir(&self) -> &Path {
        &self.place.pin_dir
    }

    /// Process id of the running daemon.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Process::id)
    }

    /// Runs `pointsman` with these words to its end, good or bad.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.place.command();
        namespace::output_in(&self.place.namespace, command.args(words))
    }

    /// Runs `pointsman` with these words and returns what it said; a bad end is an error.
    pub fn call(&self, words: &[&str]) -> Result<String> {
        let mut command = self.place.command();
        namespace::check_in(&self.place.namespace, command.args(words))
            .map_err(|error| self.with_log(error))
    }

    /// The socket of its daemon.
    pub fn socket(&self) -> &Path {
        &self.place.socket
    }

    /// Runs `pointsman ipvsadm` with arguments as typed, split at spaces.
    pub fn ipvsadm(&self, arguments: &str) -> Result<String> {
        let words: Vec<&str> = std::iter::once("ipvsadm")
            .chain(arguments.split_whitespace())
            .collect();
        self.call(&words)
    }

    /// Virtual services with their real servers, counters and next hops, as the API gives them.
    pub fn services(&self) -> Result<Vec<Value>> {
        match self.ask("/v1/services")? {
            Value::Array(services) => Ok(services),
            other => Err(LabError::Answer(format!("services are {other}"))),
        }
    }

    /// Counts of verdicts by the name of their reason.
    pub fn verdicts(&self) -> Result<BTreeMap<String, u64>> {
        let verdicts = parse(&self.call(&["verdicts", "--json"])?)?;
        let list = verdicts.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(list
            .iter()
            .filter_map(|verdict| {
                Some((
                    verdict["reason"].as_str()?.to_owned(),
                    verdict["count"].as_u64()?,
                ))
            })
            .collect())
    }

    /// How the daemon is.
    pub fn status(&self) -> Result<Value> {
        parse(&self.call(&["status", "--json"])?)
    }

    fn ask(&self, path: &str) -> Result<Value> {
        self.get(path)
            .map_err(LabError::io(format!(
                "the director does not answer to {path}"
            )))
            .and_then(|answer| {
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
                let status = head.split_whitespace().nth(1).unwrap_or("nothing");
                if status != "200" {
                    let what = format!("the director answers {path} by {status}: {body}");
                    return Err(LabError::Answer(what));
                }
                parse(body)
            })
            .map_err(|error| self.with_log(error))
    }

    /// Asks the API; version 1.0 of HTTP ends with the connection.
    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.place.socket)?;
        stream.set_read_timeout(Some(API_LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Next hop of each real server in words, by its address as text.
    pub fn next_hops(&self) -> Result<BTreeMap<String, String>> {
        let services = self.services()?;
        let servers = services
            .iter()
            .flat_map(|service| service["servers"].as_array().into_iter().flatten());
        Ok(servers
            .filter_map(|view| {
                Some((
                    view["server"]["address"].as_str()?.to_owned(),
                    view["next_hop"].as_str()?.to_owned(),
                ))
            })
            .collect())
    }

    /// Waits until the next hop of every real server is known.
    pub fn wait_resolved(&self) -> Result<()> {
        self.wait_resolved_within(RESOLVE_LIMIT)
    }

    /// The same with a limit of one's own.
    pub fn wait_resolved_within(&self, limit: Duration) -> Result<()> {
        let mut hops = BTreeMap::new();
        let resolved = wait_until("next hops were not found", limit, || {
            hops = self.next_hops()?;
            Ok(hops
                .values()
                .all(|hop| !UNRESOLVED.iter().any(|start| hop.starts_with(start))))
        });
        resolved.map_err(|error| match error {
            LabError::Deadline { what, limit } => LabError::Deadline {
                what: format!("{what} ({hops:?})"),
                limit,
            },
            other => other,
        })
    }

    /// Kills the daemon; what it attached and pinned stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Leaves the daemon running, with its pins and its directory, when this process ends.
    pub(crate) fn release(self) {
        cleanup::forget_end(&self.key());
        // Neither is the daemon ended nor its directory removed; `lab down` does both.
        std::mem::forget(self);
    }

    /// Stops the daemon in the normal way, by SIGTERM; a bad end is an error.
    pub fn terminate(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(Signal::SIGTERM)?;
        let status = process
            .wait(STOP_LIMIT)
            .map_err(|error| self.with_log(error))?;
        if !status.success() {
            let error = LabError::Answer(format!("the director ended with {status}"));
            return Err(self.with_log(error));
        }
        Ok(())
    }

    /// Stops the daemon and makes sure that it left no pins.
    pub fn stop(mut self) -> Result<()> {
        self.terminate()?;
        if self.place.pin_dir.exists() {
            return Err(LabError::Answer(format!(
                "the director stopped, and {} is left",
                self.place.pin_dir.display()
            )));
        }
        Ok(())
    }

    /// An error with the last of the daemon's log, which mostly says why.
    fn with_log(&self, error: LabError) -> LabError {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        if last.is_empty() {
            return error;
        }
        LabError::Answer(format!(
            "{error}\nlog of the director:\n{}",
            last.join("\n")
        ))
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the director:\n{}", self.log());
        }
        self.kill();
        self.place.detach();
        cleanup::forget_end(&self.key());
    }
}

impl Director<'_> {
    /// The program with the variable that leads it to this director's socket.
    pub(crate) fn program(&self) -> (&Path, &Path) {
        (&self.place.program, &self.place.socket)
    }
}

impl Place {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("POINTSMAN_SOCKET", &self.socket);
        command
    }

    /// Kills the daemon, also one that is not ready yet, and removes what is left of it.
    fn end(&self) {
        if let Err(error) = namespace::end_processes(std::slice::from_ref(&self.namespace)) {
            eprintln!("pointsman-lab: {error}");
        }
        self.detach();
        if let Some(directory) = self.socket.parent() {
            // Only files of ours; what can't be removed is in nobody's way.
            let _ = fs::remove_dir_all(directory);
        }
    }

    /// Removes what a killed daemon left.
    fn detach(&self) {
        if !self.pin_dir.exists() {
            return;
        }
        let mut command = self.command();
        command.arg("detach").arg("--pin-dir").arg(&self.pin_dir);
        command.stdout(Stdio::null());
        let mut last = String::new();
        // Locks of a killed process go when it is wholly gone.
        let detached = wait_until("the director was not detached", STOP_LIMIT, || {
            let output = namespace::output_in(&self.namespace, &mut command)?;
            last = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Ok(output.status.success())
        });
        if let Err(error) = detached {
            eprintln!(
                "pointsman-lab: {} stays: {error}: {last}; `{}` removes it",
                self.pin_dir.display(),
                command_line(&command)
            );
        }
    }
}

/// The program `pointsman`: named by the environment, or beside the running one.
pub fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os(PROGRAM_VARIABLE) {
        let named = PathBuf::from(named);
        return match named.is_file() {
            true => Ok(named),
            false => Err(LabError::Usage(format!(
                "{PROGRAM_VARIABLE} names {}, which is no file",
                named.display()
            ))),
        };
    }
    let current = env::current_exe().map_err(LabError::io("cannot find this program"))?;
    // `pointsman lab` itself, target/PROFILE/pointsman-lab, or target/PROFILE/deps/test-HASH.
    let candidates = current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("pointsman"));
    let itself = current.file_name().is_some_and(|name| name == "pointsman");
    std::iter::once(current.clone())
        .filter(|_| itself)
        .chain(candidates)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            LabError::Usage(format!(
                "there is no program pointsman near {}; build it by `cargo build -p pointsman`, or \
                 name it in {PROGRAM_VARIABLE}",
                current.display()
            ))
        })
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| LabError::Answer(format!("the director answered no JSON: {error}")))
}
