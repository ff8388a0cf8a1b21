//! Programs that are run for the daemon: checks, trackers, notices.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// How long a program has that was told to end, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A program to be run, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The program and its arguments; the program is a path or is looked for in `PATH`.
    pub words: Vec<String>,
    /// User and group that it runs as; the daemon's if none.
    pub user: Option<(u32, u32)>,
}

/// What became of a program.
#[derive(Debug)]
pub enum Outcome {
    /// It ended.
    Ended(ExitStatus),
    /// It took too long, and was ended with all that it began.
    TimedOut,
    /// It could not be run.
    Failed(io::Error),
}

impl Script {
    /// Begins to run it, with more arguments at the end, in a process group of its own.
    pub fn begin(&self, more: &[String]) -> io::Result<Child> {
        let (program, arguments) = self
            .words
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(more)
            // What the service manager hears comes from the daemon itself.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.spawn()
    }

    /// Begins a script, if there is one, and logs how it ends beside everything else.
    pub fn begin_and_forget(script: Option<&Self>, more: &[String]) {
        let Some(script) = script else { return };
        let words = script.words.join(" ");
        match script.begin(more) {
            Ok(mut child) => {
                tokio::spawn(async move {
                    match child.wait().await {
                        Ok(status) if status.success() => {}
                        Ok(status) => tracing::warn!(script = %words, "ended with {status}"),
                        Err(error) => tracing::warn!(script = %words, %error, "can't wait for it"),
                    }
                });
            }
            Err(error) => tracing::error!(script = %words, %error, "can't run it"),
        }
    }

    /// Begins to run it, until what is returned is dropped.
    pub fn keep(&self, more: &[String]) -> io::Result<Kept> {
        let mut child = self.begin(more)?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let words = self.words.join(" ");
        let (gone, dropped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                ended = child.wait() => {
                    // What it left running was meant to.
                    std::mem::forget(group);
                    match ended {
                        Ok(status) => tracing::warn!(script = %words, "ended with {status}"),
                        Err(error) => tracing::warn!(script = %words, %error, "can't wait for it"),
                    }
                }
                _ = dropped => end(child, group).await,
            }
        });
        Ok(Kept { _gone: gone })
    }

    /// Runs it to its end, for `limit` at most.
    pub async fn run(&self, limit: Duration) -> Outcome {
        let mut child = match self.begin(&[]) {
            Ok(child) => child,
            Err(error) => return Outcome::Failed(error),
        };
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let ended = timeout(limit, child.wait()).await;
        match ended {
            Ok(ended) => {
                // What it left running was meant to.
                std::mem::forget(group);
                return match ended {
                    Ok(status) => Outcome::Ended(status),
                    Err(error) => Outcome::Failed(error),
                };
            }
            Err(_) => end(child, group).await,
        }
        Outcome::TimedOut
    }
}

/// A program that runs as long as somebody has this.
#[derive(Debug)]
pub struct Kept {
    _gone: oneshot::Sender<()>,
}

/// Ends a program: it is told to, and killed if it does not.
async fn end(mut child: Child, group: Group) {
    group.signal(Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    // Not reaped meanwhile: its number stays that of its group.
    while !group.has_ended() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    drop(group);
    let _ = child.wait().await;
}

/// The processes that a program began, killed when dropped.
struct Group(Option<i32>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.0 {
            // Gone already is what was wanted.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }

    /// True when the program itself has ended, whatever it began.
    fn has_ended(&self) -> bool {
        let Some(id) = self.0 else { return true };
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(
            waitid(Id::Pid(Pid::from_raw(id)), flags),
            Ok(WaitStatus::StillAlive)
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script {
            words: ["sh", "-c", text].map(str::to_owned).to_vec(),
            user: None,
        }
    }

    #[tokio::test]
    async fn a_program_ends_with_its_code() {
        for code in [0, 3] {
            let outcome = script(&format!("exit {code}"))
                .run(Duration::from_secs(10))
                .await;
            assert!(matches!(outcome, Outcome::Ended(status) if status.code() == Some(code)));
        }
        let missing = Script {
            words: vec!["/no/such/program".to_owned()],
            user: None,
        };
        assert!(matches!(missing.run(GRACE).await, Outcome::Failed(_)));
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_with_all_that_it_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        // Neither it nor its child listens to SIGTERM.
        let text = format!(
            "trap '' TERM; (trap '' TERM; echo $BASHPID > {0}; while :; do sleep 60; done) & wait",
            file.display()
        );
        let begun = Script {
            words: ["bash", "-c", &text].map(str::to_owned).to_vec(),
            user: None,
        };
        let outcome = begun.run(Duration::from_millis(500)).await;
        assert!(matches!(outcome, Outcome::TimedOut));
        let id: i32 = std::fs::read_to_string(&file)
            .expect("its child wrote its number")
            .trim()
            .parse()
            .expect("a number");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Gone, or dead and not yet reaped by whoever inherited it.
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                break;
            }
            assert!(Instant::now() < deadline, "still there: {stat}");
            sleep(LOOK).await;
        }
    }
}
