//! One run of qemu: boots, streams what the program prints, keeps the deadline.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::PACKAGES;

/// The line `init.sh` writes to the console when the program has ended.
const EXIT_LINE: &str = "pointsman-guest: exit status ";

/// What the machine is made of.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) console: &'a Path,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) icount: bool,
    pub(crate) append: &'a str,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: u8,
    pub(crate) output: Vec<u8>,
}

/// Kills qemu when dropped before its end.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine<'_> {
    /// Boots and waits until the guest powers off; `stream` copies its output to ours meanwhile.
    pub(crate) fn run(&self, timeout: Duration, stream: bool) -> Result<Ended> {
        let deadline = Instant::now() + timeout;
        let log = self.console.with_extension("qemu");
        // setpriv: an emulator must not outlive us, however we end.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(self.arguments());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?);
        let child = command.spawn().with_context(|| {
            format!(
                "cannot run `setpriv`; install the packages: {}",
                PACKAGES.join(" ")
            )
        })?;
        let mut guard = Guard(child);
        let mut pipe = guard.0.stdout.take().context("qemu without output pipe")?;
        let (sender, receiver) = mpsc::channel();
        // Ends when qemu does: the guard sees to that.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut output = Vec::new();
        loop {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    if stream {
                        let mut stdout = std::io::stdout().lock();
                        stdout.write_all(&bytes).and_then(|()| stdout.flush())?;
                    }
                    output.extend(bytes);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the guest did not end within {} s (`--timeout` sets this){}",
                        timeout.as_secs(),
                        self.last_words()
                    );
                }
            }
        }
        let ended = guard.0.wait()?;
        let messages = fs::read_to_string(&log).unwrap_or_default();
        Ok(Ended {
            status: self.exit_status(ended, messages.trim())?,
            output,
        })
    }

    fn arguments(&self) -> Vec<String> {
        // "max" so that programs built for this host's CPU find most of its instructions. The
        // kernel must not copy by `rep movsb`: every turn of it counts as an instruction.
        let cpu = if self.icount {
            "max,-erms,-fsrm"
        } else {
            "max"
        };
        let mut arguments = vec!["-machine".to_owned(), "q35".into(), "-accel".into()];
        arguments.extend(["tcg", "-cpu", cpu, "-nodefaults", "-no-user-config"].map(Into::into));
        arguments.extend(["-display", "none", "-no-reboot", "-m"].map(Into::into));
        arguments.push(format!("{}M", self.memory_mib));
        arguments.extend(["-smp".into(), self.cpus.to_string()]);
        if self.icount {
            // One instruction is one nanosecond of guest time; idle time is skipped.
            arguments.extend(["-icount".into(), "shift=0,sleep=off".into()]);
        }
        arguments.extend(["-serial".into(), format!("file:{}", self.console.display())]);
        arguments.extend(["-chardev", "stdio,id=job,signal=off"].map(Into::into));
        arguments.extend(["-serial", "chardev:job"].map(Into::into));
        arguments.extend(["-kernel".into(), self.kernel.display().to_string()]);
        arguments.extend([
            "-initrd".into(),
            self.initrd.display().to_string(),
            "-append".into(),
        ]);
        // panic=-1: reboot at once, which -no-reboot turns into the end of qemu.
        arguments.push(format!(
            "console=ttyS0,115200 quiet panic=-1 cryptomgr.notests {}",
            self.append
        ));
        arguments
    }

    fn exit_status(&self, ended: ExitStatus, messages: &str) -> Result<u8> {
        let console = self.console_text();
        let status = console
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(EXIT_LINE));
        if let Some(status) = status {
            return status.parse().context("the guest's exit line is garbled");
        }
        if messages.contains("failed to execute qemu") {
            bail!(
                "qemu is missing; install the packages: {}",
                PACKAGES.join(" ")
            );
        }
        bail!(
            "the guest ended without saying how its program did (qemu: {ended}; {}){}",
            if messages.is_empty() {
                "no message"
            } else {
                messages
            },
            self.last_words()
        );
    }

    fn console_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console).unwrap_or_default()).into_owned()
    }

    fn last_words(&self) -> String {
        let text = self.console_text();
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return "; nothing on its console".to_owned();
        }
        let tail = lines[lines.len().saturating_sub(40)..].join("\n  ");
        format!("; its console says:\n  {tail}")
    }
}
