//! Captures on hosts that ssh reaches, as a stream of pcapng or pcap.
//!
//! Either a copy of this program captures there, or tcpdump does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::Result;
use pointsman_path::capture_file::{Item, Reader};
use pointsman_path::remote::{Place, quoted};

use crate::far::{Far, Ssh};

/// What came from a host: which one, and what it was.
pub(crate) type News = (usize, Result<Vec<Item>, String>);

/// A capture that runs on a host; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Remote {
    far: Far,
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
        ssh: Ssh<'_>,
        host: &str,
        how: &How,
        number: usize,
        news: Sender<News>,
    ) -> Result<Self> {
        let place = Place::parse(host)?;
        let (far, output) = match how {
            How::Copy(arguments) => Far::copy(ssh, place, arguments)?,
            How::Tcpdump(device, filter) => {
                let inside = place.netns.map_or_else(String::new, |netns| {
                    format!("ip netns exec {} ", quoted(netns))
                });
                // The shell keeps no end of the output, so that this ends when tcpdump does.
                let script = format!(
                    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; \
                     {inside}tcpdump -i {} -p -n -U --immediate-mode -s 0 -w - {} & p=$!; exec >/dev/null; \
                     trap 'kill $p 2>/dev/null' EXIT; trap 'exit 1' HUP INT TERM; \
                     cat; kill $p 2>/dev/null; wait $p",
                    quoted(device),
                    quoted(filter)
                );
                Far::script(ssh, place, &script)?
            }
        };
        let name = host.to_owned();
        let output: File = OwnedFd::from(output).into();
        let reader = thread::spawn(move || read(output, &name, number, &news));
        Ok(Self {
            far,
            reader: Some(reader),
        })
    }

    /// Asks it to end, waits for the rest of what it saw, and leaves nothing running.
    pub(crate) fn stop(&mut self) {
        self.far.ask_to_end();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.far.end();
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
