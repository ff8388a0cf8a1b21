//! Captures on hosts that ssh reaches, as a stream of pcapng or pcap.
//!
//! Either a copy of this program captures there, from a temporary folder that goes with it, or
//! tcpdump does. Both end when their standard input does, so that nothing stays when the connection or
//! this process is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;
use pointsman_path::capture_file::{Item, Reader};
use pointsman_path::remote::quoted;

/// What came from a host: which one, and what it was.
pub(crate) type News = (usize, Result<Vec<Item>, String>);

/// A capture that runs on a host; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Remote {
    child: Child,
    // What the other side waits for the end of.
    stdin: Option<ChildStdin>,
    feeder: Option<thread::JoinHandle<io::Result<ChildStdin>>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// How to capture on a host.
#[derive(Debug)]
pub(crate) enum How {
    /// A copy of this program, with these arguments.
    Copy(Vec<String>),
    /// `tcpdump` at this device, with this filter.
    Tcpdump(String, String),
}

impl Remote {
    /// Starts a capture on a host; what it sees goes to `news` under a number.
    pub(crate) fn start(
        ssh: &OsString,
        host: &str,
        how: &How,
        number: usize,
        news: Sender<News>,
    ) -> Result<Self> {
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(|b| b.is_ascii_graphic()) {
            bail!("{host:?} is no host: write it as for ssh, USER@HOST");
        }
        let (script, program) = match how {
            How::Copy(arguments) => {
                let path = std::env::current_exe().context("cannot find this program")?;
                let program = File::open(&path).with_context(|| path.display().to_string())?;
                let length = program.metadata()?.len();
                let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
                // The shell stays to take the copy away, whatever ends the capture.
                let script = format!(
                    "umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf \"$d\"' EXIT; \
                     trap 'exit 1' HUP INT TERM; \
                     head -c {length} >\"$d/pointsman\" && chmod 700 \"$d/pointsman\" && \
                     \"$d/pointsman\" {}",
                    words.join(" ")
                );
                (script, Some(program))
            }
            How::Tcpdump(device, filter) => {
                // The shell keeps no end of the output, so that this ends when tcpdump does.
                let script = format!(
                    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; \
                     tcpdump -i {} -p -n -U --immediate-mode -s 0 -w - {} & p=$!; exec >/dev/null; \
                     trap 'kill $p 2>/dev/null' EXIT; trap 'exit 1' HUP INT TERM; \
                     cat; kill $p 2>/dev/null; wait $p",
                    quoted(device),
                    quoted(filter)
                );
                (script, None)
            }
        };
        let mut command = Command::new(ssh);
        // Signals are blocked here, and would be there: nobody could end what it starts.
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
        }
        let mut child = command
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", host])
            .arg(format!("exec sh -c {}", quoted(&script)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for us, who then tell the other side.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", ssh.display()))?;
        let output = child.stdout.take();
        let (mut stdin, mut feeder) = (child.stdin.take(), None);
        if let Some(mut program) = program
            && let Some(mut pipe) = stdin.take()
        {
            feeder = Some(thread::spawn(move || {
                io::copy(&mut program, &mut pipe)?;
                Ok(pipe)
            }));
        }
        let name = host.to_owned();
        let reader = output.map(|output| {
            thread::spawn(move || read(OwnedFd::from(output).into(), &name, number, &news))
        });
        Ok(Self {
            child,
            stdin,
            feeder,
            reader,
        })
    }

    /// Asks it to end, waits for the rest of what it saw, and leaves nothing running.
    pub(crate) fn stop(&mut self) {
        self.stdin = None;
        if let Some(feeder) = self.feeder.take() {
            // A host that does not take the program does not take its end either.
            if !feeder.is_finished() {
                let _ = self.child.kill();
            }
            let _ = feeder.join();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read(mut output: File, host: &str, number: usize, news: &Sender<News>) {
    let mut reader = Reader::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = news.send((number, Err(format!("{host}: {error}"))));
                return;
            }
        };
        reader.push(&buffer[..length]);
        let mut items = Vec::new();
        let failed = loop {
            match reader.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if news.send((number, Ok(items))).is_err() {
            return;
        }
        if let Some(error) = failed {
            let _ = news.send((number, Err(format!("{host}: {error}"))));
            return;
        }
    }
    if let Err(error) = reader.finish() {
        let _ = news.send((number, Err(format!("{host}: {error}"))));
    }
}
