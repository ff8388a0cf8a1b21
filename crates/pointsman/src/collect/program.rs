//! Runs a program with a limit of time and of output, without a shell.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program did.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: Vec<u8>,
    pub(crate) complaint: String,
}

/// Bytes of complaints that are kept.
const COMPLAINT: usize = 64 << 10;

/// Runs a program to its end; what takes longer or says more is killed, with all that it began.
pub(crate) fn run(
    mut command: Command,
    input: Option<Vec<u8>>,
    patience: Duration,
    limit: usize,
) -> Result<Ended, String> {
    let deadline = Instant::now() + patience;
    command
        .env("LC_ALL", "C")
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // Who does not read its input to the end is told by its exit.
        thread::spawn(move || {
            let _ = std::io::Write::write_all(&mut pipe, &input);
        });
    }
    let output = child.stdout.take().map(|pipe| read(pipe, limit));
    let complaint = child.stderr.take().map(|pipe| read(pipe, COMPLAINT));
    let taken = (|| {
        let output = take(output, deadline, patience)?;
        if output.len() > limit {
            return Err(format!("it said more than {limit} bytes"));
        }
        let complaint = take(complaint, deadline, patience)?;
        Ok((output, complaint))
    })();
    let (output, complaint) = taken.inspect_err(|_| end(&mut child))?;
    // Both streams are closed: it is about to end.
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                end(&mut child);
                return Err(late(patience));
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    Ok(Ended {
        status,
        output,
        complaint: String::from_utf8_lossy(&complaint).trim().to_owned(),
    })
}

fn late(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}

fn end(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// Reads one byte more than the limit, to tell that there was more.
fn read(pipe: impl Read + Send + 'static, limit: usize) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(limit as u64 + 1).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn take(
    stream: Option<Receiver<Vec<u8>>>,
    deadline: Instant,
    patience: Duration,
) -> Result<Vec<u8>, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    match stream {
        Some(stream) => stream.recv_timeout(left).map_err(|_| late(patience)),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: u64, limit: usize) -> Result<Ended, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, None, Duration::from_millis(patience), limit)
    }

    #[test]
    fn both_streams_and_the_code_come_back() {
        let ended = shell("echo out; echo err >&2; exit 3", 10_000, 100).unwrap();
        assert_eq!(ended.output, b"out\n");
        assert_eq!(ended.complaint, "err");
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn what_never_ends_or_never_stops_talking_is_ended() {
        let begun = Instant::now();
        let error = shell("sleep 60 & sleep 60", 200, 100).err().unwrap();
        assert!(error.contains("no answer"), "{error}");
        let error = shell("yes", 10_000, 1000).err().unwrap();
        assert!(error.contains("more than 1000 bytes"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
