//! Stations of the doctor on hosts that ssh reaches: they watch there, and ask from there.
//!
//! A station is a copy of this program. It says on standard output, a line of JSON each, that it
//! watches, how probes ended that it was told to send, and at last, when its input ends, what it saw;
//! the frames follow that line as pcapng.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::process::{ChildStdout, ExitCode};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_file;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::diagnosis::{KernelDrop, Outcome};
use pointsman_path::observation::Recording;
use pointsman_path::remote::Place;
use pointsman_path::report::Unobserved;
use pointsman_path::snapshot::{Origin, Snapshot};
use pointsman_wire::Mac;
use serde::{Deserialize, Serialize};

use super::inquiry::Inquiry;
use super::probe::Probe;
use super::watch::Watch;
use crate::far::{Far, Ssh};

/// How long a host may take until it watches.
const BEGINNING: Duration = Duration::from_secs(30);
/// How long probes may take, and the account at the end.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of the longest line, and of the frames that a station may send.
const LIMIT: u64 = 256 << 20;

/// What a station is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Orders {
    /// The node's name.
    node: String,
    /// Its namespace there.
    netns: Option<String>,
    /// What is watched.
    errand: Errand,
}

/// What a station watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Errand {
    /// The packets of a service.
    Service {
        /// The address whose dropped packets are told.
        address: IpAddr,
        /// Which frames are kept.
        ends: Vec<(IpAddr, Option<u16>)>,
        /// Only those of these clients, if any are named.
        clients: Vec<IpAddr>,
    },
    /// What virtual routers and neighbors say.
    Routers,
}

/// What a station is told to do meanwhile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Task {
    /// Send this.
    Probe(Probe),
    /// Ask this.
    Ask(Inquiry),
    /// Say what time it is.
    Time,
    /// Watch no longer, and say what was seen.
    Report,
}

/// What a station says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    /// It watches, but not everything.
    Ready(Vec<Unobserved>),
    /// How probes ended.
    Outcomes(Result<Vec<Outcome>, String>),
    /// Who answered.
    Answers(Result<Vec<String>, String>),
    /// What time it is there, nanoseconds since 1970.
    Time(u64),
    /// What it saw; so many bytes of frames follow.
    Seen { drops: Vec<KernelDrop>, bytes: u64 },
    /// It could not go on.
    Failed(String),
}

/// Flags of the copy.
#[derive(Debug, Args)]
pub(crate) struct StationFlags {
    /// What it is for, as JSON
    #[arg(value_name = "ORDERS")]
    orders: String,
}

/// The copy's side.
pub(super) fn run(flags: &StationFlags) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    if let Err(error) = serve(&flags.orders, &mut out) {
        say(&mut out, &Word::Failed(format!("{error:#}")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(orders: &str, out: &mut impl Write) -> Result<()> {
    let orders: Orders = serde_json::from_str(orders)?;
    let origin = match &orders.netns {
        Some(netns) => Origin::Netns(netns.clone()),
        None => Origin::Here,
    };
    let bundle = Bundle {
        nodes: vec![Snapshot {
            node: orders.node.clone(),
            origin,
            ..Snapshot::default()
        }],
    };
    let mut unobserved = Vec::new();
    let gaps = &mut unobserved;
    let watch = match orders.errand {
        Errand::Service {
            address,
            ends,
            clients,
        } => Watch::begin(&bundle, &Wanted { ends, clients }, address, None, gaps),
        Errand::Routers => Watch::listen(&bundle, &[], None, gaps),
    };
    let mut watch = Some(watch);
    say(out, &Word::Ready(unobserved))?;
    for line in io::stdin().lock().lines() {
        let netns = || orders.netns.as_deref().map(NetNs::open).transpose();
        let told = |error: anyhow::Error| format!("{error:#}");
        match serde_json::from_str(&line?)? {
            Task::Probe(probe) => {
                let outcomes = probe.send(netns()?.as_ref());
                say(out, &Word::Outcomes(outcomes.map_err(told)))?;
            }
            Task::Ask(inquiry) => {
                let answers = inquiry.ask(netns()?.as_ref());
                let texts = |macs: Vec<Mac>| macs.iter().map(ToString::to_string).collect();
                say(out, &Word::Answers(answers.map(texts).map_err(told)))?;
            }
            Task::Time => say(out, &Word::Time(now()))?,
            Task::Report => {
                if let Some(watch) = watch.take() {
                    report(watch, out)?;
                }
            }
        }
    }
    watch.map_or(Ok(()), |watch| report(watch, out))
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}

fn report(watch: Watch, out: &mut impl Write) -> Result<()> {
    let (recording, drops) = watch.end(&mut Vec::new())?;
    let mut frames = Vec::new();
    let application = concat!("pointsman ", env!("CARGO_PKG_VERSION"));
    capture_file::write(&mut frames, application, &recording, None)?;
    let bytes = frames.len() as u64;
    say(out, &Word::Seen { drops, bytes })?;
    out.write_all(&frames)?;
    Ok(out.flush()?)
}

fn say(out: &mut impl Write, word: &Word) -> Result<()> {
    serde_json::to_writer(&mut *out, word)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A station that was sent to a host; dropped, it ends.
pub(super) struct Station {
    node: String,
    login: String,
    far: Far,
    words: Receiver<Result<(Word, Vec<u8>)>>,
}

impl Station {
    /// Sends a station to each node that ssh reaches; what can't be watched there is told.
    pub(super) fn send(
        bundle: &Bundle,
        errand: &Errand,
        ssh: Ssh<'_>,
        unobserved: &mut Vec<Unobserved>,
    ) -> Vec<Self> {
        let mut sent = Vec::new();
        let mut missing = |node: &str, error: anyhow::Error| {
            unobserved.push(Unobserved {
                what: format!("frames and drops at {node}"),
                because: format!("{error:#}"),
            });
        };
        for node in &bundle.nodes {
            let Origin::Host(host) = &node.origin else {
                continue;
            };
            match Self::begin(&node.node, host, errand, ssh) {
                Ok(station) => sent.push(station),
                Err(error) => missing(&node.node, error),
            }
        }
        let deadline = Instant::now() + BEGINNING;
        let mut watching = Vec::new();
        for station in sent {
            match station.next(deadline) {
                Ok((Word::Ready(gaps), _)) => {
                    for gap in gaps {
                        let what = format!("{} at {}", gap.what, station.node);
                        missing(&what, anyhow!(gap.because));
                    }
                    watching.push(station);
                }
                Ok(_) => missing(&station.node, anyhow!("{} said nonsense", station.login)),
                Err(error) => missing(&station.node, error),
            }
        }
        watching
    }

    fn begin(node: &str, host: &str, errand: &Errand, ssh: Ssh<'_>) -> Result<Self> {
        let place = Place::parse(host)?;
        let orders = Orders {
            node: node.to_owned(),
            netns: place.netns.map(str::to_owned),
            errand: errand.clone(),
        };
        let orders = serde_json::to_string(&orders)?;
        let arguments = ["doctor", "station", &orders].map(str::to_owned);
        let (far, output) = Far::copy(ssh, place, &arguments)?;
        let (sender, words) = mpsc::channel();
        thread::spawn(move || listen(output, &sender));
        Ok(Self {
            node: node.to_owned(),
            login: place.login.to_owned(),
            far,
            words,
        })
    }

    /// The node where it is.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Calls its node something else.
    pub(super) fn rename(&mut self, node: String) {
        self.node = node;
    }

    /// Has it send probes: how they ended.
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<Vec<Outcome>> {
        self.tell(&Task::Probe(*probe))?;
        match self.next(Instant::now() + ANSWER)? {
            (Word::Outcomes(outcomes), _) => {
                outcomes.map_err(|why| anyhow!("{}: {why}", self.login))
            }
            _ => bail!("{} said nonsense", self.login),
        }
    }

    /// Has it ask who has an address: the link-layer addresses that answered.
    pub(super) fn ask(&mut self, inquiry: &Inquiry) -> Result<Vec<Mac>> {
        self.tell(&Task::Ask(inquiry.clone()))?;
        match self.next(Instant::now() + ANSWER)? {
            (Word::Answers(answers), _) => {
                let answers = answers.map_err(|why| anyhow!("{}: {why}", self.login))?;
                Ok(answers.iter().filter_map(|mac| mac.parse().ok()).collect())
            }
            _ => bail!("{} said nonsense", self.login),
        }
    }

    fn tell(&mut self, task: &Task) -> Result<()> {
        let order = serde_json::to_string(task)? + "\n";
        let told = self.far.tell(order.as_bytes());
        told.with_context(|| self.login.clone())
    }

    /// How far its clock is ahead of ours, nanoseconds: none where asking took longer than that.
    fn ahead(&mut self) -> Result<i64> {
        let asked = now();
        self.tell(&Task::Time)?;
        let (Word::Time(there), _) = self.next(Instant::now() + ANSWER)? else {
            bail!("{} said nonsense", self.login);
        };
        let answered = now();
        if (asked..=answered).contains(&there) {
            return Ok(0);
        }
        let here = asked.midpoint(answered);
        Ok(i64::try_from(i128::from(there) - i128::from(here)).unwrap_or_default())
    }

    /// Has it watch no longer: what it saw, by our clock. It can still ask.
    pub(super) fn report(&mut self) -> Result<(Recording, Vec<KernelDrop>)> {
        let ahead = self.ahead()?;
        self.tell(&Task::Report)?;
        let (mut recording, drops) = self.seen()?;
        for seen in &mut recording.observations {
            seen.at_ns = seen.at_ns.saturating_add_signed(-ahead);
        }
        Ok((recording, drops))
    }

    /// Ends it: what it saw.
    pub(super) fn end(mut self) -> Result<(Recording, Vec<KernelDrop>)> {
        self.far.ask_to_end();
        self.seen()
    }

    fn seen(&self) -> Result<(Recording, Vec<KernelDrop>)> {
        let (word, frames) = self.next(Instant::now() + ANSWER)?;
        let Word::Seen { drops, .. } = word else {
            bail!("{} said nonsense", self.login);
        };
        let (mut recording, error) = capture_file::read(&frames, &self.node);
        if let Some(error) = error {
            bail!("{}: its capture: {error}", self.login);
        }
        for point in &mut recording.points {
            // Its points share a clock with each other and with nobody else.
            point.host.clone_from(&self.login);
            point.node.clone_from(&self.node);
            if let Some((node, _)) = &mut point.peer {
                node.clone_from(&self.node);
            }
        }
        Ok((recording, drops))
    }

    fn next(&self, deadline: Instant) -> Result<(Word, Vec<u8>)> {
        let wait = deadline.saturating_duration_since(Instant::now());
        match self.words.recv_timeout(wait) {
            Ok(Ok((Word::Failed(why), _))) => bail!("{}: {why}", self.login),
            Ok(word) => word.with_context(|| self.login.clone()),
            Err(RecvTimeoutError::Timeout) => bail!("{}: it did not answer in time", self.login),
            Err(RecvTimeoutError::Disconnected) => bail!(
                "{}: a copy of this program did not run there, see above",
                self.login
            ),
        }
    }
}

/// Passes on what a station says, until its end or the first nonsense.
fn listen(output: ChildStdout, words: &Sender<Result<(Word, Vec<u8>)>>) {
    let mut output = BufReader::new(output);
    loop {
        let word = match next_word(&mut output) {
            Ok(Some(word)) => Ok(word),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = word.is_err();
        if words.send(word).is_err() || last {
            return;
        }
    }
}

fn next_word(output: &mut impl BufRead) -> Result<Option<(Word, Vec<u8>)>> {
    let mut line = Vec::new();
    output.take(LIMIT).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let word = serde_json::from_slice(&line).context("it said nonsense")?;
    let mut frames = Vec::new();
    if let Word::Seen { bytes, .. } = word {
        output.take(bytes.min(LIMIT)).read_to_end(&mut frames)?;
        anyhow::ensure!(frames.len() as u64 == bytes, "what it said breaks off");
    }
    Ok(Some((word, frames)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_station_says_is_read_or_refused() {
        let said = |text: &[u8]| {
            let mut rest = text;
            let mut words = Vec::new();
            loop {
                match next_word(&mut rest) {
                    Ok(Some((_, frames))) => words.push(frames.len()),
                    Ok(None) => return Ok(words),
                    Err(error) => return Err(format!("{error:#}")),
                }
            }
        };
        let mut text = Vec::new();
        say(&mut text, &Word::Ready(Vec::new())).unwrap();
        say(&mut text, &Word::Outcomes(Ok(vec![Outcome::Answered]))).unwrap();
        let seen = Word::Seen {
            drops: Vec::new(),
            bytes: 3,
        };
        say(&mut text, &seen).unwrap();
        text.extend(b"abc");
        assert_eq!(said(&text), Ok(vec![0, 0, 3]));
        text.pop();
        assert!(said(&text).unwrap_err().contains("breaks off"));
        assert!(
            said(b"Last login: today\n")
                .unwrap_err()
                .contains("nonsense")
        );
        let huge = br#"{"seen": {"drops": [], "bytes": 18446744073709551615}}"#;
        assert!(said(&[huge, &b"\n"[..]].concat()).is_err());
    }
}
