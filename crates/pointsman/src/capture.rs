//! `pointsman capture`: frames at many points at once, joined into packets on their way.

mod host;
pub(crate) mod points;
pub(crate) mod records;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pointsman_config::ipvsadm::{Numeric, endpoint};
use pointsman_daemon::client::Client;
use pointsman_director::model::ServiceId;
use pointsman_lab::recorder::observation;
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Captures, Options};
use pointsman_path::capture_file::{self, Item, RecordingReader, RecordingWriter};
use pointsman_path::capture_filter::Wanted;
use pointsman_path::ladder::{Conversation, Hints, Ladder, Style};
use pointsman_path::observation::{Observation, Point, Recording};
use pointsman_path::remote;
use pointsman_wire::{Line, text::PacketLine};

use crate::far::Ssh;
use host::{How, Remote};
use points::{Opened, Place};
use records::Directors;

/// Most bytes of frames that are kept.
const KEPT_MAX: usize = 512 << 20;
/// Most conversations shown.
const SHOWN: usize = 20;
/// How long a host may take until its capture runs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often hosts' streams are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often directors are asked to go on recording, at least.
const RENEWAL: Duration = Duration::from_secs(1);
const APPLICATION: &str = concat!("pointsman ", env!("CARGO_PKG_VERSION"));

pub(crate) const LONG_ABOUT: &str = "\
Capture at many points at once, and show packets hop by hop

A frame belongs to a packet by what it is: sequence numbers, payload, what ARP asks. So it is known again \
behind every change of MAC, address, port, VLAN tag, hop limit or tunnel, and though the clocks of hosts \
differ. Shown is each hop with what changed there (*), retransmissions, and where a packet was seen last \
and is missing first.

With --vip the kernel keeps only frames about that service, in VLAN tags, tunnels and ICMP errors too. \
Real servers' addresses are asked of the daemon if one runs; --server names others. Nothing is sent and \
nothing is changed; with --promisc, devices receive frames for others meanwhile, and that is said.

A director's programs tell themselves what they receive, send on and drop, and why: what XDP takes, nothing \
else on that host sees.

The end is Ctrl-C, SIGTERM, --seconds or --count.

    pointsman capture --netns 'pmdemo-*' --vip 192.0.2.208:80 --seconds 10 --out demo.pcapng
    pointsman capture --here --host root@rs1 --host root@rs2 --vip 192.0.2.208:80
    pointsman capture --read client.pcap --read rs1=server.pcapng --vip 192.0.2.208";

#[derive(Debug, Args)]
pub(crate) struct CaptureFlags {
    /// An interface, of a namespace if one is named; may be repeated
    #[arg(long = "point", value_name = "[NETNS:]DEV")]
    points: Vec<String>,
    /// All interfaces that are up in a network namespace, or in all whose names begin as NAME* says;
    /// may be repeated
    #[arg(long, value_name = "NAME")]
    netns: Vec<String>,
    /// All interfaces that are up where this program runs; so it is when nothing else is named
    #[arg(long)]
    here: bool,
    /// All interfaces that are up on a host that ssh reaches without a password, or in a network
    /// namespace of it, by a copy of this program in a temporary folder; may be repeated
    #[arg(long = "host", value_name = "USER@HOST[/NETNS]")]
    hosts: Vec<String>,
    /// On hosts, capture as root by sudo, which must not want a password
    #[arg(long, requires = "hosts")]
    sudo: bool,
    /// On hosts, let tcpdump capture at this interface instead of a copy of this program; may be repeated
    #[arg(long, value_name = "DEV", requires = "hosts")]
    tcpdump: Vec<String>,
    /// The virtual service: only what is about it is captured and shown
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end)]
    vip: Option<End>,
    /// Only what a client sends and gets; may be repeated
    #[arg(long = "client", value_name = "ADDR")]
    clients: Vec<IpAddr>,
    /// A real server, for what masquerade translates; may be repeated
    #[arg(long = "server", value_name = "ADDR[:PORT]", value_parser = end, requires = "vip")]
    servers: Vec<End>,
    /// End after this many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Keep this many bytes of each frame
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=262_144))]
    snaplen: Option<u32>,
    /// Have devices receive frames for others too, while the capture runs
    #[arg(long)]
    promisc: bool,
    /// Keep the frames as one pcapng file, an interface for each point
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Show each frame as it comes
    #[arg(long, conflicts_with = "json")]
    live: bool,
    /// Show each packet with its hops, rather than packets that went the same way together
    #[arg(long, conflicts_with = "json")]
    packets: bool,
    /// Read capture files (pcap, pcapng) instead; a name before = says which host's. May be repeated
    #[arg(long, value_name = "[HOST=]FILE",
          conflicts_with_all = ["points", "netns", "here", "hosts", "count", "seconds", "promisc",
                                "snaplen", "live"])]
    read: Vec<String>,
    /// The program that is called instead of ssh
    #[arg(long, value_name = "PROGRAM", default_value = "ssh", hide = true)]
    ssh: OsString,
    /// Write a stream of pcapng to standard output until standard input ends
    #[arg(long, hide = true, conflicts_with_all = ["hosts", "read", "out", "json", "live"])]
    stream: bool,
    /// The name of this host
    #[arg(long = "as", value_name = "NAME", hide = true)]
    name: Option<String>,
}

/// An address, and a port if one is meant.
type End = (IpAddr, Option<u16>);

pub(crate) fn run(flags: &CaptureFlags, socket: &Path) -> Result<ExitCode> {
    let mut hints = Hints::default();
    let wanted = wanted(flags, socket, &mut hints);
    let (recording, mut failures) = if flags.read.is_empty() {
        match capture(flags, &wanted)? {
            Some(captured) => captured,
            // A stream has said everything.
            None => return Ok(ExitCode::SUCCESS),
        }
    } else {
        read(&flags.read)
    };
    let ladder = Ladder::new(&recording, &hints);
    if let Some(path) = &flags.out
        && let Err(error) = write(path, &recording, &ladder)
    {
        failures.push(format!("{error:#}"));
    }
    let shown = |conversation: &&Conversation| {
        let about = |address: IpAddr| {
            [conversation.client.ip(), conversation.service.ip()].contains(&address)
        };
        flags.vip.is_none_or(|(vip, _)| about(vip))
            && (flags.clients.is_empty() || flags.clients.iter().copied().any(about))
    };
    if flags.json {
        let mut only = ladder.clone();
        only.conversations.retain(|one| shown(&one));
        let text = serde_json::to_string_pretty(&only.to_json())?;
        writeln!(io::stdout().lock(), "{text}")?;
    } else {
        show(flags, &recording, &ladder, shown)?;
    }
    for failure in &failures {
        eprintln!("pointsman: {failure}");
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

fn show(
    flags: &CaptureFlags,
    recording: &Recording,
    ladder: &Ladder,
    shown: impl Fn(&&Conversation) -> bool,
) -> Result<()> {
    let mut out = io::stdout().lock();
    let style = Style {
        colour: io::stdout().is_terminal(),
        ..Style::default()
    };
    writeln!(
        out,
        "{} frames at {} points",
        recording.observations.len(),
        recording.points.len()
    )?;
    let all: Vec<&Conversation> = ladder.conversations.iter().filter(shown).collect();
    for conversation in all.iter().take(SHOWN) {
        let text = if flags.packets {
            ladder.text(conversation, style)
        } else {
            ladder.table(conversation, style)
        };
        write!(out, "\n{text}")?;
    }
    if all.len() > SHOWN {
        writeln!(
            out,
            "\n{} more conversations, not shown; --json has all",
            all.len() - SHOWN
        )?;
    }
    let others = ladder.conversations.len() - all.len();
    if others > 0 {
        writeln!(out, "\n{others} conversations of others, not shown")?;
    }
    for remark in ladder.remarks() {
        writeln!(out, "note: {remark}")?;
    }
    Ok(())
}

/// What the kernel shall keep; the daemon knows real servers.
fn wanted(flags: &CaptureFlags, socket: &Path, hints: &mut Hints) -> Wanted {
    let mut wanted = Wanted {
        ends: flags
            .vip
            .into_iter()
            .chain(flags.servers.iter().copied())
            .collect(),
        clients: flags.clients.clone(),
    };
    hints
        .servers
        .extend(flags.servers.iter().map(|(server, _)| *server));
    let Some((vip, port)) = flags.vip else {
        return wanted;
    };
    hints.virtual_addresses.push(vip);
    let services = Client::connect(socket).and_then(|mut client| client.services());
    for service in services.into_iter().flatten() {
        // A mark may be the service's too.
        if matches!(service.service.id, ServiceId::Address { address, .. } if address != vip) {
            continue;
        }
        for server in &service.servers {
            let end = (server.server.address, port.and(Some(server.server.port)));
            hints.servers.push(end.0);
            if !wanted.ends.contains(&end) {
                wanted.ends.push(end);
            }
        }
    }
    wanted
}

/// Reads files, `NAME=FILE` or `FILE`: what was in them, and why not more.
pub(crate) fn read(files: &[String]) -> (Recording, Vec<String>) {
    let mut recording = Recording::default();
    let mut failures = Vec::new();
    for spec in files {
        let (name, path) = match spec.split_once('=') {
            Some((name, path)) if !name.is_empty() && !Path::new(spec).exists() => {
                (Some(name.to_owned()), path)
            }
            _ => (None, spec.as_str()),
        };
        let stem = Path::new(path).file_stem().unwrap_or_default();
        let name = name.unwrap_or_else(|| stem.to_string_lossy().into_owned());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                failures.push(format!("cannot read {path}: {error}"));
                continue;
            }
        };
        let (part, error) = capture_file::read(&bytes, &name);
        if let Some(error) = error {
            failures.push(format!(
                "{path}: {error}; {} frames were read before",
                part.observations.len()
            ));
        }
        recording.append(part);
    }
    (recording, failures)
}

fn write(path: &Path, recording: &Recording, ladder: &Ladder) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    capture_file::write(BufWriter::new(file), APPLICATION, recording, Some(ladder))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Captures until the end: what was seen and what failed. A stream gives nothing back.
fn capture(flags: &CaptureFlags, wanted: &Wanted) -> Result<Option<(Recording, Vec<String>)>> {
    // Before threads are made, which inherit it; children do not.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let wake = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot wait for signals")?;
    let host = match &flags.name {
        Some(name) => name.clone(),
        None => fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "here".to_owned(), |name| name.trim().to_owned()),
    };
    let options = Options {
        snaplen: flags.snaplen.map(|bytes| bytes as usize),
        promiscuous: flags.promisc,
        ..Options::default()
    };
    let places = places(flags)?;
    let opened = if places.is_empty() {
        Opened::default()
    } else {
        points::open(&places, &host, wanted, &options)?
    };
    for failure in &opened.directors.failures {
        eprintln!("note: {failure}");
    }
    if flags.stream {
        stream(flags, opened, &wake)?;
        return Ok(None);
    }
    let mut session = Session {
        flags,
        local: opened.points.len(),
        recording: Recording {
            points: opened.points,
            observations: Vec::new(),
        },
        captures: Captures::new(opened.captures),
        directors: opened.directors,
        hosts: Vec::new(),
        failures: Vec::new(),
        kept: 0,
        seen: 0,
        started: Instant::now(),
    };
    session.start_hosts(wanted, &wake)?;
    Ok(Some(session.run(&wake)?))
}

/// Namespaces and devices wanted on this machine.
fn places(flags: &CaptureFlags) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    for point in &flags.points {
        let (netns, device) = match point.rsplit_once(':') {
            Some((netns, device)) => (Some(netns.to_owned()), device),
            None => (None, point.as_str()),
        };
        match places.iter_mut().find(|place| place.netns == netns) {
            Some(place) => place.devices.push(device.to_owned()),
            None => places.push(Place {
                netns,
                devices: vec![device.to_owned()],
            }),
        }
    }
    let mut whole: Vec<Option<String>> = Vec::new();
    for name in &flags.netns {
        let Some(beginning) = name.strip_suffix('*') else {
            whole.push(Some(name.clone()));
            continue;
        };
        let known = NetNs::list().context("cannot list network namespaces")?;
        let before = whole.len();
        whole.extend(
            known
                .into_iter()
                .filter(|name| name.starts_with(beginning))
                .map(Some),
        );
        if whole.len() == before {
            bail!("no network namespace is called {name}; `ip netns list` shows them");
        }
    }
    if flags.here || (flags.points.is_empty() && whole.is_empty() && flags.hosts.is_empty()) {
        whole.push(None);
    }
    for netns in whole {
        match places.iter_mut().find(|place| place.netns == netns) {
            Some(place) => place.devices.clear(),
            None => places.push(Place {
                netns,
                devices: Vec::new(),
            }),
        }
    }
    Ok(places)
}

/// A capture that runs.
struct Session<'a> {
    flags: &'a CaptureFlags,
    /// How many of the points are on this machine; they come first.
    local: usize,
    recording: Recording,
    captures: Captures,
    directors: Directors,
    hosts: Vec<Far>,
    failures: Vec<String>,
    kept: usize,
    seen: u64,
    started: Instant,
}

/// A capture on a host.
struct Far {
    remote: Remote,
    reader: RecordingReader,
    news: mpsc::Receiver<host::News>,
    name: String,
    runs: bool,
    ended: bool,
    told: usize,
}

impl Session<'_> {
    fn start_hosts(&mut self, wanted: &Wanted, wake: &SignalFd) -> Result<()> {
        let ssh = Ssh {
            program: &self.flags.ssh,
            sudo: self.flags.sudo,
        };
        for host in &self.flags.hosts {
            let hows: Vec<How> = if self.flags.tcpdump.is_empty() {
                vec![How::Copy(self.stream_arguments(host))]
            } else {
                let filter = tcpdump_filter(wanted);
                let devices = self.flags.tcpdump.iter();
                devices
                    .map(|device| How::Tcpdump(device.clone(), filter.clone()))
                    .collect()
            };
            for how in hows {
                let (sender, news) = mpsc::channel();
                let mut reader = RecordingReader::new(host);
                if let How::Tcpdump(device, _) = &how {
                    reader = reader.of_device(device);
                }
                self.hosts.push(Far {
                    remote: Remote::start(ssh, host, &how, 0, sender)?,
                    reader,
                    news,
                    name: host.clone(),
                    runs: false,
                    ended: false,
                    told: 0,
                });
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while self.hosts.iter().any(|far| !far.runs && !far.ended) {
            self.take_news(LOOK);
            if has_come(wake) {
                break;
            }
            if Instant::now() > deadline {
                bail!(
                    "a host did not begin to capture within {} s",
                    PATIENCE.as_secs()
                );
            }
        }
        if self.local == 0 && self.hosts.iter().all(|far| far.ended) {
            bail!("{}", self.failures.join("; "));
        }
        Ok(())
    }

    /// What a copy of this program is told on a host.
    fn stream_arguments(&self, host: &str) -> Vec<String> {
        let flags = self.flags;
        let mut words: Vec<String> = ["capture", "--stream", "--as", host]
            .map(str::to_owned)
            .to_vec();
        words.push(
            match remote::Place::parse(host)
                .ok()
                .and_then(|place| place.netns)
            {
                Some(netns) => format!("--netns={netns}"),
                None => "--here".to_owned(),
            },
        );
        let end = |(address, port): &End| match (address, port) {
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
            (address, Some(port)) => format!("{address}:{port}"),
            (address, None) => address.to_string(),
        };
        words.extend(flags.vip.iter().map(|vip| format!("--vip={}", end(vip))));
        words.extend(
            flags
                .servers
                .iter()
                .map(|server| format!("--server={}", end(server))),
        );
        words.extend(
            flags
                .clients
                .iter()
                .map(|client| format!("--client={client}")),
        );
        words.extend(flags.snaplen.map(|bytes| format!("--snaplen={bytes}")));
        words.extend(flags.promisc.then(|| "--promisc".to_owned()));
        words
    }

    fn run(mut self, wake: &SignalFd) -> Result<(Recording, Vec<String>)> {
        let points = self.recording.points.len()
            + self
                .hosts
                .iter()
                .map(|far| far.reader.recording().points.len())
                .sum::<usize>();
        let promiscuous = if self.flags.promisc {
            ", which are promiscuous meanwhile"
        } else {
            ""
        };
        eprintln!("ready: capturing at {points} points{promiscuous}; Ctrl-C ends it");
        self.started = Instant::now();
        let mut ending = false;
        loop {
            ending |= self.is_over(wake);
            let mut timeout = match (ending, self.hosts.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, false) => LOOK,
                (false, true) => Duration::from_secs(3600),
            };
            if !self.directors.is_empty() {
                timeout = timeout.min(RENEWAL);
            }
            if let Some(seconds) = self.flags.seconds {
                timeout = timeout.min(seconds.saturating_sub(self.started.elapsed()));
            }
            let more = self.take_frames(timeout, wake)?;
            self.take_news(Duration::ZERO);
            // What was there when the end came is kept, but a flood has no end.
            if ending && (!more || self.is_full()) {
                break;
            }
        }
        let lost = self.captures.dropped();
        for (point, lost) in self.recording.points.iter_mut().zip(lost) {
            point.lost = lost;
        }
        for (point, lost) in self.directors.lost() {
            self.recording.points[point].lost = lost;
        }
        for far in &mut self.hosts {
            far.remote.stop();
        }
        self.take_news(Duration::ZERO);
        if self.is_full() && self.kept >= KEPT_MAX {
            self.failures.push(format!(
                "ended early: {} MiB of frames are kept at most; --vip and --snaplen keep fewer",
                KEPT_MAX >> 20
            ));
        }
        for far in self.hosts {
            self.recording.append(far.reader.into_recording());
        }
        self.recording.join_records();
        Ok((self.recording, self.failures))
    }

    fn is_over(&self, wake: &SignalFd) -> bool {
        let late = |limit| self.started.elapsed() >= limit;
        has_come(wake) || self.flags.seconds.is_some_and(late) || self.is_full()
    }

    fn is_full(&self) -> bool {
        self.kept >= KEPT_MAX || self.flags.count.is_some_and(|count| self.seen >= count)
    }

    fn take_frames(&mut self, timeout: Duration, wake: &SignalFd) -> Result<bool> {
        let Self {
            captures,
            directors,
            recording,
            flags,
            kept,
            seen,
            ..
        } = self;
        let count = flags.count.unwrap_or(u64::MAX);
        let mut take = |observation: Observation| {
            if *seen >= count || *kept >= KEPT_MAX {
                return;
            }
            *seen += 1;
            *kept += observation.bytes.len() + size_of::<Observation>();
            if flags.live {
                line(&recording.points[observation.point], &observation);
            }
            recording.observations.push(observation);
        };
        let wakes = [wake.as_fd()].into_iter().chain(directors.descriptors());
        let more = captures.read(timeout, wakes, |point, frame| {
            take(observation(point, frame));
        })?;
        Ok(more | directors.read(take))
    }

    /// Takes what hosts sent; waits for it, at most so long, while none of them runs.
    fn take_news(&mut self, wait: Duration) {
        let waits = self.hosts.len().max(1) as u32;
        for far in &mut self.hosts {
            loop {
                let received = if wait.is_zero() {
                    far.news
                        .try_recv()
                        .map_err(|error| error == mpsc::TryRecvError::Disconnected)
                } else {
                    let wait = wait / waits;
                    far.news
                        .recv_timeout(wait)
                        .map_err(|error| error == mpsc::RecvTimeoutError::Disconnected)
                };
                match received {
                    Ok((_, Ok(items))) => {
                        far.runs = true;
                        for item in items {
                            if let Item::Packet(packet) = &item {
                                self.seen += 1;
                                self.kept += packet.bytes.len() + size_of::<Observation>();
                            }
                            far.reader.take(item);
                        }
                        if self.flags.live {
                            let recording = far.reader.recording();
                            for seen in &recording.observations[far.told..] {
                                line(&recording.points[seen.point], seen);
                            }
                            far.told = recording.observations.len();
                        }
                        if !wait.is_zero() {
                            break;
                        }
                    }
                    Ok((_, Err(failure))) => {
                        self.failures.push(failure);
                        far.ended = true;
                    }
                    Err(disconnected) => {
                        if disconnected && !far.runs && !far.ended {
                            self.failures
                                .push(format!("{}: no capture began there", far.name));
                        }
                        far.ended |= disconnected;
                        break;
                    }
                }
            }
        }
    }
}

/// Whether a signal came; it stays unread, so that every look sees it.
fn has_come(wake: &SignalFd) -> bool {
    let mut waiting = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Writes pcapng to standard output until a signal, the end of standard input, or of who reads it.
fn stream(flags: &CaptureFlags, opened: Opened, wake: &SignalFd) -> Result<()> {
    let mut captures = Captures::new(opened.captures);
    let mut directors = opened.directors;
    thread::spawn(|| {
        let mut buffer = [0; 4096];
        while io::stdin().read(&mut buffer).is_ok_and(|length| length > 0) {}
        // Blocked everywhere, so it only wakes whom it shall.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGTERM);
    });
    let out = BufWriter::new(io::stdout().lock());
    let mut writer = RecordingWriter::new(out, APPLICATION, &opened.points)?;
    writer.flush()?;
    let started = Instant::now();
    let mut seen = 0;
    loop {
        let late = flags
            .seconds
            .is_some_and(|limit| started.elapsed() >= limit);
        let ending = has_come(wake) || late || flags.count.is_some_and(|most| seen >= most);
        let mut timeout = match (ending, flags.seconds) {
            (true, _) => Duration::ZERO,
            (false, Some(limit)) => limit.saturating_sub(started.elapsed()),
            (false, None) => Duration::from_secs(3600),
        };
        if !directors.is_empty() {
            timeout = timeout.min(RENEWAL);
        }
        let mut failed = None;
        let mut take = |observation: Observation| {
            seen += 1;
            if failed.is_none() {
                failed = writer.write(&observation, None).err();
            }
        };
        let wakes = [wake.as_fd()].into_iter().chain(directors.descriptors());
        let mut more = captures.read(timeout, wakes, |point, frame| {
            take(observation(point, frame));
        })?;
        more |= directors.read(take);
        if let Some(error) = failed.or_else(|| writer.flush().err()) {
            return Err(error.into());
        }
        if ending && (!more || has_come(wake)) {
            break;
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let lost = captures.dropped().into_iter().enumerate();
    for (point, lost) in lost.chain(directors.lost()) {
        writer.lost(point, now, lost)?;
    }
    Ok(writer.flush()?)
}

/// Shows one frame.
fn line(point: &Point, seen: &Observation) {
    let (seconds, rest) = (
        seen.at_ns / 1_000_000_000,
        seen.at_ns % 1_000_000_000 / 1000,
    );
    let (way, bytes) = (seen.way.word(), &seen.bytes);
    let mut out = io::stdout().lock();
    let _ = if point.bare {
        writeln!(
            out,
            "{seconds}.{rest:06} {point} {way} {}",
            PacketLine(bytes)
        )
    } else {
        writeln!(out, "{seconds}.{rest:06} {point} {way} {}", Line(bytes))
    };
    let _ = out.flush();
}

/// What tcpdump is told; it looks into VLAN tags and IP-in-IP only where it is told to.
fn tcpdump_filter(wanted: &Wanted) -> String {
    let ends = wanted.ends.iter().map(|(address, _)| address);
    let hosts: Vec<String> = if wanted.clients.is_empty() {
        ends.map(|address| format!("host {address}")).collect()
    } else {
        let clients = wanted.clients.iter();
        clients.map(|address| format!("host {address}")).collect()
    };
    if hosts.is_empty() {
        return String::new();
    }
    let hosts = hosts.join(" or ");
    format!("({hosts} or ip proto 4 or ip proto 41 or ip proto 47) or (vlan and ({hosts}))")
}

/// An address with or without a port.
fn end(text: &str) -> Result<End, String> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    endpoint::parse(text, None, &Numeric)
        .map(|end| (end.address, end.port.filter(|port| *port != 0)))
        .ok_or_else(|| {
            "write an address, or address and port, as in 192.0.2.1:80 or [2001:db8::1]:80"
                .to_owned()
        })
}

/// Seconds, a tenth at least.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=86400.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are a number from 0.1 to 86400".to_owned()),
    }
}
