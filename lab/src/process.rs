//! A process of a lab: started in a namespace, ready when it says so, dead when dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{LabError, Result};
use crate::namespace;

/// How long a process may take until it is ready.
pub const READY_LIMIT: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is yes; `what` says what was missing if it never was.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !ready()? {
        if Instant::now() >= deadline {
            return Err(LabError::Deadline {
                what: what.to_owned(),
                limit,
            });
        }
        // Short enough not to matter, long enough to leave the processor to others.
        thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}

/// A running process that is killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
    said: Vec<String>,
}

impl Process {
    /// Starts `command` in the namespace and waits for a line on its standard output that begins
    /// with `ready`.
    pub fn start(namespace: &str, command: &mut Command, ready: &str) -> Result<Self> {
        Self::start_within(namespace, command, ready, READY_LIMIT)
    }

    /// The same with a limit of one's own.
    pub fn start_within(
        namespace: &str,
        command: &mut Command,
        ready: &str,
        limit: Duration,
    ) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = format!("`{}` in {namespace}", namespace::command_line(command));
        let mut child = namespace::spawn_in(namespace, command)?;
        let output = child.stdout.take();
        let mut process = Self {
            name,
            child: Some(child),
            said: Vec::new(),
        };
        let (send, receive) = mpsc::channel();
        let wanted = ready.to_owned();
        thread::spawn(move || {
            let Some(output) = output else { return };
            let mut lines = BufReader::new(output);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                let ready = line.starts_with(&wanted);
                let _ = send.send(std::mem::take(&mut line).trim_end().to_owned());
                if ready {
                    break;
                }
            }
            drop(send);
            // Keep the pipe empty, so that a talkative process never waits for us.
            let _ = std::io::copy(&mut lines.by_ref(), &mut std::io::sink());
        });
        let deadline = Instant::now() + limit;
        while !process
            .said
            .last()
            .is_some_and(|line| line.starts_with(ready))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            match receive.recv_timeout(left) {
                Ok(line) => process.said.push(line),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(LabError::Deadline {
                        what: format!("{} did not say {ready:?}", process.name),
                        limit,
                    });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = process.kill();
                    return Err(LabError::Answer(format!(
                        "{} ended early: {status}",
                        process.name
                    )));
                }
            }
        }
        Ok(process)
    }

    /// Its lines up to the one that said that it is ready.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Process id.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        kill(Pid::from_raw(child.id().cast_signed()), signal).map_err(|errno| LabError::Io {
            what: format!("cannot signal {}", self.name),
            source: errno.into(),
        })
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let Some(child) = &mut self.child else {
            return Err(LabError::Usage(format!(
                "{} was waited for already",
                self.name
            )));
        };
        let mut ended = None;
        wait_until(&format!("{} did not end", self.name), limit, || {
            ended = child.try_wait().map_err(LabError::io(self.name.clone()))?;
            Ok(ended.is_some())
        })?;
        self.child = None;
        ended.ok_or_else(|| LabError::Answer(format!("{} has no status", self.name)))
    }

    /// Lets the process live on without us.
    pub fn release(mut self) {
        self.child = None;
    }

    /// Ends it by SIGKILL and says how it ended.
    pub fn kill(&mut self) -> String {
        let Some(mut child) = self.child.take() else {
            return "gone before".to_owned();
        };
        let _ = child.kill();
        child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
