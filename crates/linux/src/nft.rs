//! `nft`, given a text to load or asked what is in force.
//!
//! It works in the calling thread's network namespace.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// Why nft did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("nft is not installed: the package is called nftables")]
    Missing,
    /// It was not run by root, or without `CAP_NET_ADMIN`.
    #[error("nft may not touch the kernel's rules: run this as root")]
    NotPermitted,
    /// Nft or the kernel refused; nothing was changed.
    #[error("nft refuses: {reason}{}", .rule.as_ref().map(|rule| format!(", in `{rule}`")).unwrap_or_default())]
    Refused {
        /// In its words.
        reason: String,
        /// The line of the text that it is about.
        rule: Option<String>,
    },
    /// It could not be run.
    #[error("{call} nft: {source}")]
    Call {
        /// What failed.
        call: &'static str,
        /// What the call returned.
        source: io::Error,
    },
}

/// Loads a text: all of it, or nothing.
pub fn load(text: &str) -> Result<(), Error> {
    run(&["-f", "-"], text).map(|_| ())
}

/// Whether nft and the kernel would take a text, without changing anything.
pub fn check(text: &str) -> Result<(), Error> {
    run(&["-c", "-f", "-"], text).map(|_| ())
}

/// What `nft -j list WORDS` prints.
pub fn list(words: &[&str]) -> Result<String, Error> {
    let words: Vec<&str> = ["-j", "list"].iter().chain(words).copied().collect();
    let output = run(&words, "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(words: &[&str], text: &str) -> Result<Output, Error> {
    let failed = |call| move |source| Error::Call { call, source };
    let started = Command::new("nft")
        .args(words)
        // Its messages are read below.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing),
        Err(source) => {
            return Err(Error::Call {
                call: "starting",
                source,
            });
        }
    };
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // On a thread of its own, for nft may complain before it has read everything.
        let writer = scope.spawn(move || match input {
            Some(mut input) => input.write_all(text.as_bytes()),
            None => Ok(()),
        });
        let output = child.wait_with_output().map_err(failed("waiting for"))?;
        match writer.join() {
            // What it did not want to read is told by what it said.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(written) => written.map_err(failed("writing to"))?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(output)
    })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(
        refusal(&String::from_utf8_lossy(&output.stderr), text).unwrap_or_else(|| {
            let reason = format!("it ended with {}", output.status);
            Error::Refused { reason, rule: None }
        }),
    )
}

/// The first error of what nft said, with the line that it is about.
fn refusal(said: &str, text: &str) -> Option<Error> {
    if said.contains("Operation not permitted") {
        return Some(Error::NotPermitted);
    }
    let line = said
        .lines()
        .find(|line| line.contains("Error: "))
        .or_else(|| said.lines().find(|line| !line.trim().is_empty()))?;
    let (place, reason) = line.split_once("Error: ").unwrap_or(("", line));
    // `/dev/stdin:20:96-99: Error: ...`
    let number = place.split(':').nth(1).and_then(|line| line.parse().ok());
    let rule = number.and_then(|line: usize| text.lines().nth(line.checked_sub(1)?));
    Some(Error::Refused {
        reason: reason.trim().to_owned(),
        rule: rule.map(|rule| rule.trim().to_owned()),
    })
}

/// Held by one program at a time, in a network namespace, that reads rules and then changes them.
///
/// Released when dropped, or when the program ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _held: Flock<File>,
}

/// Waits until nobody else of us changes rules.
pub fn lock() -> Result<Lock, Error> {
    let failed = |source| Error::Call {
        call: "taking turns with others that use",
        source,
    };
    // The namespace itself: no file is left anywhere, and other namespaces go on.
    let file = File::open("/proc/thread-self/ns/net").map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(held) => Ok(Lock { _held: held }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_until_it_is_dropped() {
        let try_lock = || {
            let file = File::open("/proc/thread-self/ns/net").unwrap();
            Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
        };
        let held = lock().unwrap();
        assert!(!try_lock());
        drop(held);
        // Others of this machine may hold it for a moment.
        drop(lock().unwrap());
    }

    #[test]
    fn what_nft_says_is_told_with_the_rule() {
        let text = "table bridge x {\n\tchain y {\n\t\tct state new accept\n\t}\n}\n";
        let said = "/dev/stdin:3:3-7: Error: Could not process rule: Protocol error\n\
                    \t\tct state new accept\n\t\t^^^^^\n";
        assert_eq!(
            refusal(said, text).unwrap().to_string(),
            "nft refuses: Could not process rule: Protocol error, in `ct state new accept`"
        );
        let said = "Error: cache initialization failed: Operation not permitted";
        assert!(matches!(refusal(said, ""), Some(Error::NotPermitted)));
        let said = "netlink: Error: cache initialization failed: Invalid argument";
        assert_eq!(
            refusal(said, "x").unwrap().to_string(),
            "nft refuses: cache initialization failed: Invalid argument"
        );
        assert!(refusal("", "").is_none());
    }
}
