//! The native director and the loaded programs, side by side.

use std::{collections::BTreeMap, fmt, time::Instant};

use pointsman_datapath::{
    Event, Options,
    trial::{LOOPBACK, Program, Trial},
};
use pointsman_director::{
    Action, Reason, Scratch, Verdict,
    control::{Director, Mirror},
    expiry::expire,
    native::{
        NativeEnv, NativeFrame, NativeTables,
        generate::{Chance, Generator},
        services::{CAPACITY, DIRECTOR_MAC, configure, link},
    },
    process,
    record::{FlowKey, Settings},
    tables::Tables,
};
use pointsman_wire::text::Line;

use crate::{
    changes::{self, Step},
    handmade,
    skb::NativeSkb,
    surroundings,
};

/// Packets between two changes of the configuration.
const CHANGE: u64 = 200;
/// Packets between two sweeps.
const SWEEP: u64 = 250;
/// The most bytes of a frame in an event.
const CAPTURED: usize = 2048;

/// The seed to use: `POINTSMAN_SEED`, else one of this moment.
pub fn seed() -> u64 {
    let given = std::env::var("POINTSMAN_SEED").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(1, |now| now.as_micros() as u64 % 1_000_000_007)
    })
}

/// What was compared.
pub struct Report {
    seed: u64,
    packets: [u64; 2],
    skipped: u64,
    changes: u64,
    ended: u64,
    events: u64,
    reasons: BTreeMap<&'static str, u64>,
    programs: Vec<(&'static str, String)>,
    seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, info) in &self.programs {
            writeln!(f, "{name}: {info}")?;
        }
        writeln!(
            f,
            "seed {}: {} packets through XDP, {} through tcx, {} too short for a test run",
            self.seed, self.packets[0], self.packets[1], self.skipped
        )?;
        for (reason, count) in &self.reasons {
            writeln!(f, "{count:>9} {reason}")?;
        }
        write!(
            f,
            "{} changes, {} connections expired, {} events: all the same, in {:.1} s",
            self.changes, self.ended, self.events, self.seconds
        )
    }
}

impl Report {
    /// How often a verdict had this reason.
    #[allow(dead_code, reason = "for the test alone")]
    pub fn count(&self, reason: Reason) -> u64 {
        self.reasons.get(reason.name()).copied().unwrap_or(0)
    }
}

/// Sends `packets` of `seed` through both, with room for `room` connections of each family, and
/// compares all there is to see. An error tells what differed, and how to see it again.
pub fn run(seed: u64, packets: u64, room: u32) -> Result<Report, String> {
    surroundings::pin()?;
    surroundings::enter_namespace()?;
    let started = Instant::now();
    let mut pair = Pair::new(seed, room)?;
    let handmade = handmade::frames();
    let all = packets + handmade.len() as u64;
    for (index, bytes) in (0..all).zip(handmade.into_iter().chain(Generator::new(seed))) {
        pair.packet(&bytes).map_err(|difference| {
            format!(
                "seed {seed}, room {room}, packet {index}, {:?}, {} bytes\n{:#}\n{bytes:02x?}\n{difference}",
                pair.program,
                bytes.len(),
                Line(&bytes),
            )
        })?;
        pair.between(index)
            .map_err(|difference| format!("seed {seed}, behind packet {index}: {difference}"))?;
    }
    pair.tables()
        .map_err(|difference| format!("seed {seed}, at the end: {difference}"))?;
    pair.report.seconds = started.elapsed().as_secs_f64();
    Ok(pair.report)
}

struct Pair {
    trial: Trial,
    native: NativeTables,
    env: NativeEnv,
    scratch: Scratch,
    /// The native director, and the programs'.
    directors: [Director; 2],
    chance: Chance,
    program: Program,
    verdicts: Vec<u64>,
    out: Vec<u8>,
    tight: bool,
    report: Report,
}

/// What a test run takes as a socket buffer: newer kernels want the whole IP header.
fn shortest_skb(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => 34,
        [0x86, 0xdd] => 54,
        _ => 15,
    }
}

fn text<E: fmt::Display>(error: E) -> String {
    error.to_string()
}

/// An error that shows both when they differ.
fn same<T: PartialEq + fmt::Debug>(what: &str, native: &T, program: &T) -> Result<(), String> {
    if native == program {
        return Ok(());
    }
    Err(format!(
        "{what} differs\nnative  {native:x?}\nprogram {program:x?}"
    ))
}

impl Pair {
    fn new(seed: u64, room: u32) -> Result<Self, String> {
        let trial = Trial::new(&Options {
            connections: room,
            capacity: CAPACITY,
            ..Options::default()
        })
        .map_err(text)?;
        let mut native = NativeTables::new(CAPACITY);
        native.connection_limit = room as usize;
        native.reply_limit = room as usize;
        let directors = [
            configure(&mut native, LOOPBACK).map_err(text)?,
            configure(&mut trial.mirror(), LOOPBACK).map_err(text)?,
        ];
        native.links.insert(LOOPBACK, link());
        trial.set_link(LOOPBACK, DIRECTOR_MAC).map_err(text)?;
        let mut env = NativeEnv::default();
        env.now.set(1 << 40);
        surroundings::add_routes(&mut env)?;
        let programs = trial.programs();
        let mut pair = Self {
            trial,
            native,
            env,
            scratch: Scratch::default(),
            directors,
            chance: Chance::new(!seed),
            program: Program::Xdp,
            verdicts: vec![0; Reason::ALL.len()],
            out: Vec::new(),
            tight: room < 1024,
            report: Report {
                seed,
                packets: [0; 2],
                skipped: 0,
                changes: 0,
                ended: 0,
                events: 0,
                reasons: BTreeMap::new(),
                programs,
                seconds: 0.0,
            },
        };
        pair.change(&Step::Set(Settings::DEFAULT))?;
        Ok(pair)
    }

    /// One packet through both.
    fn packet(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() < 14 {
            self.report.skipped += 1;
            return Ok(());
        }
        self.pass_time()?;
        let xdp = self.chance.percent(50) || bytes.len() < shortest_skb(bytes);
        self.program = if xdp { Program::Xdp } else { Program::Tcx };
        self.report.packets[usize::from(!xdp)] += 1;

        let ran = self.trial.run(self.program, bytes, &mut self.out, 1);
        let code = ran.map_err(text)?.result;
        let (verdict, left) = self.run_native(bytes);

        self.compare_reason(verdict)?;
        same("return code", &self.expected_code(verdict), &code)?;
        if left != self.out {
            return Err(format!(
                "{verdict:?}, but the frame differs\nnative  {:#}\nprogram {:#}\n{left:02x?}\n{:02x?}",
                Line(&left),
                Line(&self.out),
                self.out,
            ));
        }
        self.compare_event(verdict, left)?;
        self.compare_flow(verdict)
    }

    fn run_native(&mut self, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        match self.program {
            Program::Xdp => {
                let mut frame = NativeFrame::new(bytes.to_vec(), LOOPBACK);
                let verdict = process(&mut frame, &self.native, &self.env, &mut self.scratch);
                (verdict, frame.bytes)
            }
            Program::Tcx => {
                let mut frame = NativeSkb::new(bytes.to_vec(), LOOPBACK);
                let verdict = process(&mut frame, &self.native, &self.env, &mut self.scratch);
                (verdict, frame.frame.bytes)
            }
        }
    }

    /// What the program has to return: the actions of `<linux/bpf.h>` and `<linux/pkt_cls.h>`.
    fn expected_code(&self, verdict: Verdict) -> u32 {
        match (self.program, verdict.action()) {
            (Program::Xdp, Action::Pass) => 2,
            (Program::Xdp, Action::Drop) => 1,
            (Program::Xdp, Action::Forward) if verdict.ifindex == LOOPBACK => 3,
            (Program::Xdp, Action::Forward) => 4,
            (Program::Tcx, Action::Pass) => u32::MAX,
            (Program::Tcx, Action::Drop) => 2,
            (Program::Tcx, Action::Forward) => 7,
        }
    }

    /// Each packet has one reason: if the counter of the native one rose, it is that.
    fn compare_reason(&mut self, verdict: Verdict) -> Result<(), String> {
        let reason = verdict.reason;
        let count = self.trial.verdicts(reason).map_err(text)?;
        let seen = &mut self.verdicts[reason as usize];
        *seen += 1;
        *self.report.reasons.entry(reason.name()).or_default() += 1;
        if count == *seen {
            return Ok(());
        }
        *seen -= 1;
        for other in Reason::ALL {
            if self.trial.verdicts(*other).map_err(text)? != self.verdicts[*other as usize] {
                return same("reason", &reason, other);
            }
        }
        Err(format!("{reason:?}, but the program counted nothing"))
    }

    fn compare_event(&mut self, verdict: Verdict, mut left: Vec<u8>) -> Result<(), String> {
        let event = verdict.reason.needs_daemon().then(|| {
            let length = left.len() as u32;
            left.truncate(CAPTURED);
            Event {
                ifindex: LOOPBACK,
                mtu: self.scratch.mtu,
                length,
                server: self.scratch.server,
                port: self.scratch.port as u16,
                reason: verdict.reason,
                frame: left,
            }
        });
        self.report.events += u64::from(event.is_some());
        same("event", &event, &self.trial.next_event())
    }

    /// The records of the packet's flow, or of a flow before.
    fn compare_flow(&self, verdict: Verdict) -> Result<(), String> {
        for key in [self.scratch.headers.flow, self.scratch.key] {
            let ours = self.native.connection(&key).map(|record| (*record).clone());
            let theirs = self.trial.connection(&key).map_err(text)?;
            if ours != theirs {
                return same(&format!("{verdict:?}, connection {key:x?}"), &ours, &theirs);
            }
            if let Some(connection) = ours {
                self.compare_server(connection.server)?;
            }
            let ours = self.native.reply(&key).map(|record| *record);
            let theirs = self.trial.reply(&key).map_err(text)?;
            if ours != theirs {
                return same(&format!("{verdict:?}, reply {key:x?}"), &ours, &theirs);
            }
        }
        Ok(())
    }

    fn compare_server(&self, server: u32) -> Result<(), String> {
        let ours = self.native.counts(server).cloned().unwrap_or_default();
        let theirs = self.trial.mirror().counts(server).map_err(text)?;
        if ours != theirs {
            return same(&format!("counts of server {server}"), &ours, &theirs);
        }
        Ok(())
    }

    /// Mostly a moment, sometimes long enough for connections to end.
    fn pass_time(&mut self) -> Result<(), String> {
        let by = match self.chance.below(100) {
            0 => self.chance.below(60_000_000_000),
            1..10 => self.chance.below(1_000_000_000),
            _ => self.chance.below(20_000_000),
        };
        self.env.now.set(self.env.now.get() + by);
        self.env.random.set(self.chance.word() as u32);
        self.trial
            .set_world(self.env.now.get(), self.env.random.get())
            .map_err(text)
    }

    fn between(&mut self, index: u64) -> Result<(), String> {
        if index % SWEEP == SWEEP - 1 {
            self.sweep()?;
        }
        if index % CHANGE == CHANGE - 1 {
            let settings = *self.directors[0].settings();
            let step = changes::choose(&mut self.chance, &settings, self.tight);
            self.change(&step)
                .map_err(|difference| format!("{step:?}\n{difference}"))?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), String> {
        // In the order in which the program meets them: a connection that ends first takes its
        // template's time away.
        let keys: Vec<FlowKey> = self
            .trial
            .connections()
            .map(|connection| connection.map(|(key, _)| key).map_err(text))
            .collect::<Result<_, _>>()?;
        let now = self.env.now.get();
        let flags = self.native.settings.flags;
        let mut ended = 0_u32;
        for key in keys {
            if let Some(record) = self.native.connection(&key) {
                let over = expire(&self.native, &self.env, flags, &key, &record, now);
                ended += u32::from(over);
            }
        }
        self.report.ended += u64::from(ended);
        same(
            "number of connections ended",
            &ended,
            &self.trial.sweep().map_err(text)?,
        )
    }

    fn change(&mut self, step: &Step) -> Result<(), String> {
        self.report.changes += 1;
        let [native, program] = &mut self.directors;
        let ours = changes::carry_out(native, &mut self.native, step);
        let theirs = changes::carry_out(program, &mut self.trial.mirror(), step);
        same("answer", &ours, &theirs)
    }

    /// All of the tables.
    fn tables(&mut self) -> Result<(), String> {
        let theirs: BTreeMap<FlowKey, _> = self
            .trial
            .connections()
            .collect::<Result<_, _>>()
            .map_err(text)?;
        let ours = self.native.connections.borrow();
        same("number of connections", &ours.len(), &theirs.len())?;
        for (key, record) in ours.iter() {
            let theirs = theirs.get(key);
            same(&format!("connection {key:x?}"), &Some(&**record), &theirs)?;
        }
        let theirs: BTreeMap<FlowKey, _> = self
            .trial
            .replies()
            .collect::<Result<_, _>>()
            .map_err(text)?;
        drop(ours);
        let ours = self.native.replies.borrow();
        same("number of replies", &ours.len(), &theirs.len())?;
        for (key, record) in ours.iter() {
            let theirs = theirs.get(key);
            same(&format!("reply {key:x?}"), &Some(&**record), &theirs)?;
        }
        drop(ours);
        let mut theirs = self.trial.mirror().localities().map_err(text)?;
        theirs.sort_by_key(|(key, _)| *key);
        let ours = self.native.localities().map_err(text)?;
        same("caches", &ours, &theirs)?;
        for server in 0..CAPACITY.servers {
            self.compare_server(server)?;
            let theirs = self.trial.mirror().stats(server).map_err(text)?;
            let ours = self.native.stats(server).map_err(text)?;
            same(&format!("counters of server {server}"), &ours, &theirs)?;
        }
        for service in 0..CAPACITY.services {
            let theirs = self.trial.mirror().scheduler_state(service).map_err(text)?;
            let ours = Mirror::scheduler_state(&mut self.native, service).map_err(text)?;
            same(&format!("scheduler {service}"), &ours, &theirs)?;
        }
        for reason in Reason::ALL {
            let theirs = self.trial.verdicts(*reason).map_err(text)?;
            same(reason.name(), &self.native.verdicts(*reason), &theirs)?;
        }
        let (ours, theirs) = (self.native.records(), self.trial.mirror().records());
        let mut theirs = theirs.map_err(text)?;
        theirs.services.sort_by_key(|(key, _)| *key);
        same("settings", &ours.settings, &theirs.settings)?;
        same(
            "number of services",
            &ours.services.len(),
            &theirs.services.len(),
        )?;
        for (native, program) in ours.services.iter().zip(&theirs.services) {
            same("service", native, program)?;
            // Lines that no service has used are of any content.
            for line in (native.1.slots as usize..).take(native.1.count.div_ceil(8) as usize) {
                same("slots", &ours.slots[line], &theirs.slots[line])?;
            }
        }
        same(
            "number of servers",
            &ours.servers.len(),
            &theirs.servers.len(),
        )?;
        for (native, program) in ours.servers.iter().zip(&theirs.servers) {
            same("server", native, program)?;
        }
        Ok(())
    }
}
