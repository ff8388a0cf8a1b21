//! Named network namespaces, as `ip netns` keeps them, and work done inside them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::{self, NetNs};

use crate::error::{LabError, Result};
use crate::process::wait_until;

/// The file behind a name.
pub fn path(name: &str) -> PathBuf {
    Path::new(netns::NETNS_DIR).join(name)
}

/// Runs `work` on a thread of its own that has moved to the namespace.
///
/// Processes that `work` starts are born in the namespace; `/sys` stays the host's.
pub fn run_in<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    Ok(NetNs::open(name)?.run_in(work)?)
}

/// Starts a process in the namespace.
pub fn spawn_in(name: &str, command: &mut Command) -> Result<Child> {
    let words = command_line(command);
    run_in(name, || command.spawn())?
        .map_err(LabError::io(format!("cannot start `{words}` in {name}")))
}

/// Runs a process in the namespace to its end and returns what it said, good or bad.
pub fn output_in(name: &str, command: &mut Command) -> Result<Output> {
    let words = command_line(command);
    run_in(name, || command.stdin(Stdio::null()).output())?
        .map_err(LabError::io(format!("cannot run `{words}` in {name}")))
}

/// Runs a process in the namespace and returns what it said; a bad end is an error.
pub fn check_in(name: &str, command: &mut Command) -> Result<String> {
    let output = output_in(name, command)?;
    if !output.status.success() {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(LabError::Command {
            command: format!("{} (in {name})", command_line(command)),
            status: output.status,
            stderr: format!("{} {}", stderr.trim(), stdout.trim())
                .trim()
                .to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one line for messages.
pub fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Kills whatever runs in these namespaces and deletes them; a namespace already gone is no error.
pub fn delete(names: &[String]) -> Result<()> {
    end_processes(names)?;
    let mut first_error = None;
    for name in names {
        match NetNs::delete(name) {
            Ok(()) | Err(netns::Error::Missing { .. }) => {}
            Err(error) => {
                first_error.get_or_insert(LabError::from(error));
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Kills every process whose main thread is in one of the namespaces, and waits until none is left.
pub(crate) fn end_processes(names: &[String]) -> Result<()> {
    let homes: HashSet<_> = names
        .iter()
        .filter_map(|name| fs::metadata(path(name)).ok())
        .map(|data| (data.dev(), data.ino()))
        .collect();
    let what = format!("processes in {} did not end", names.join(", "));
    wait_until(&what, Duration::from_secs(5), || {
        let living = processes_in(&homes);
        for pid in &living {
            // It may have ended meanwhile, which is as good.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(living.is_empty())
    })
}

fn processes_in(homes: &HashSet<(u64, u64)>) -> Vec<i32> {
    let own = std::process::id() as i32;
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        // Following the link gives the namespace itself; a zombie has none.
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|data| homes.contains(&(data.dev(), data.ino())))
        })
        .collect()
}

/// Runs `ip` with arguments, and with lines on its standard input if there are some.
pub fn ip(arguments: &[&str], batch: Option<&str>) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(&mut command, batch)
}

/// Runs a command to its end; a bad end is an error that quotes its complaint.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let line = command_line(command);
    let what = || format!("cannot run `{line}`");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = command.spawn().map_err(LabError::io(what()))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        use std::io::Write;
        // A program that ends early explains itself on stderr; the broken pipe says less.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(LabError::io(what()))?;
    if !output.status.success() {
        let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if let Some(input) = input {
            stderr += &format!("\ninput was:\n{input}");
        }
        return Err(LabError::Command {
            command: line,
            status: output.status,
            stderr,
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a process in the namespace to its end with bytes on its standard input.
pub fn output_with(name: &str, command: &mut Command, input: &[u8]) -> Result<Output> {
    let words = command_line(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn_in(name, command)?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        // Written aside, or both would wait with full pipes.
        scope.spawn(move || {
            use std::io::Write;
            // A program that ends early explains itself on stderr; the broken pipe says less.
            pipe.map(|mut pipe| pipe.write_all(input))
        });
        child.wait_with_output()
    })
    .map_err(LabError::io(format!("cannot run `{words}` in {name}")))
}
