//! Scripts and copies of this program that run on hosts that ssh reaches.
//!
//! A copy lies in a temporary folder of its own that goes when it ends, however it ends. All of it ends
//! when its standard input does, so that nothing stays when the connection or this process is gone.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use pointsman_path::remote::{Place, quoted};

/// How hosts are reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ssh<'a> {
    /// The program.
    pub(crate) program: &'a OsStr,
    /// As root there, by sudo.
    pub(crate) sudo: bool,
}

/// Something that runs on a host; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Far {
    child: Child,
    // What the other side waits for the end of.
    stdin: Option<ChildStdin>,
    feeder: Option<JoinHandle<io::Result<ChildStdin>>>,
}

impl Far {
    /// Runs a copy of this program with arguments: it, and what it prints.
    pub(crate) fn copy(
        ssh: Ssh<'_>,
        place: Place<'_>,
        arguments: &[String],
    ) -> Result<(Self, ChildStdout)> {
        let path = std::env::current_exe().context("cannot find this program")?;
        let mut program = File::open(&path).with_context(|| path.display().to_string())?;
        let length = program.metadata()?.len();
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        // The shell stays to take the copy away, whatever ends it.
        let script = format!(
            "umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf \"$d\"' EXIT; \
             trap 'exit 1' HUP INT TERM; \
             head -c {length} >\"$d/pointsman\" && chmod 700 \"$d/pointsman\" && \
             \"$d/pointsman\" {}",
            words.join(" ")
        );
        let (mut far, output) = Self::script(ssh, place, &script)?;
        if let Some(mut pipe) = far.stdin.take() {
            far.feeder = Some(thread::spawn(move || {
                io::copy(&mut program, &mut pipe)?;
                Ok(pipe)
            }));
        }
        Ok((far, output))
    }

    /// Runs a script of the shell, which may leave nothing behind: it, and what it prints.
    pub(crate) fn script(
        ssh: Ssh<'_>,
        place: Place<'_>,
        script: &str,
    ) -> Result<(Self, ChildStdout)> {
        let mut command = Command::new(ssh.program);
        // Signals are blocked here, and would be there: nobody could end what it starts.
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
        }
        let sudo = if ssh.sudo { "sudo -n " } else { "" };
        let mut child = command
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--"])
            .arg(place.login)
            .arg(format!("exec {sudo}sh -c {}", quoted(script)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for us, who then tell the other side.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", ssh.program.display()))?;
        let output = child.stdout.take().context("no output")?;
        let far = Self {
            stdin: child.stdin.take(),
            child,
            feeder: None,
        };
        Ok((far, output))
    }

    /// Writes to its standard input.
    pub(crate) fn tell(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(feeder) = self.feeder.take() {
            let fed = feeder.join();
            self.stdin = Some(fed.map_err(|_| io::ErrorKind::BrokenPipe)??);
        }
        match &mut self.stdin {
            Some(pipe) => pipe.write_all(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends its standard input, which asks it to end; what it still prints can be read.
    pub(crate) fn ask_to_end(&mut self) {
        self.stdin = None;
        if let Some(feeder) = self.feeder.take() {
            // A host that does not take the program does not take its end either.
            if !feeder.is_finished() {
                let _ = self.child.kill();
            }
            let _ = feeder.join();
        }
    }

    /// Leaves nothing of it running.
    pub(crate) fn end(&mut self) {
        self.ask_to_end();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.end();
    }
}
