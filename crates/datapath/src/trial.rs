//! The programs on frames of one's own making, without any device: `BPF_PROG_TEST_RUN`.
//!
//! Maps are private and unpinned; time and chance are what the caller sets. The differential test
//! and the bench run on this.

use std::collections::HashSet;

use pointsman_director::{
    Reason,
    record::{ConnectionRecord, FlowKey, ReplyRecord},
};
use pointsman_wire::Mac;

use crate::{
    Options, bpf,
    datapath::Connections,
    error::Error,
    events::{self, Event},
    mirror::MapMirror,
    object::{Object, SWEEP, TCX, XDP},
};

pub use crate::bpf::Run;

/// Which program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The director under XDP.
    Xdp,
    /// The director under tcx.
    Tcx,
}

/// Loaded programs with maps of their own.
pub struct Trial {
    object: Object,
    processors: usize,
}

/// The device a test run's frame comes in by: the loopback of the caller's namespace.
pub const LOOPBACK: u32 = 1;

/// The head of `struct __sk_buff`, up to `ingress_ifindex`; without it a test run has none.
const SKB_CONTEXT: [u32; 10] = [0, 0, 0, 0, 0, 0, 0, 0, 0, LOOPBACK];

impl Trial {
    /// Loads the programs with maps of their own.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let (object, _) = Object::load(options, None)?;
        let processors = bpf::processors().map_err(|source| Error::Map {
            map: "STATS",
            call: "processors",
            source,
        })?;
        Ok(Self { object, processors })
    }

    /// The programs, with what the kernel made of them: instructions verified, translated bytes,
    /// machine code bytes.
    pub fn programs(&self) -> Vec<(&'static str, String)> {
        [XDP, TCX, SWEEP]
            .map(|name| (name, self.object.describe(name)))
            .to_vec()
    }

    /// The kernel's numbers of the director's programs.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn numbers(&self) -> Result<HashSet<u32>, Error> {
        let number = |name| {
            let facts = bpf::program_facts(self.object.program_fd(name)?);
            let facts = facts.map_err(|source| Error::Run { name, source })?;
            Ok(facts.id)
        };
        [XDP, TCX].into_iter().map(number).collect()
    }

    /// Sets the time (nanoseconds) and the random word that the programs see.
    ///
    /// # Errors
    ///
    /// When the map can't be written.
    pub fn set_world(&self, now: u64, random: u32) -> Result<(), Error> {
        let mut world = [now, u64::from(random)];
        self.object.maps.test.set_range(0, &mut world)
    }

    /// Tells the programs the address of a device.
    ///
    /// # Errors
    ///
    /// When the map can't be written.
    pub fn set_link(&self, ifindex: u32, mac: Mac) -> Result<(), Error> {
        crate::object::set_link(&self.object.maps, ifindex, mac)
    }

    /// Where the director's records go.
    pub fn mirror(&self) -> MapMirror<'_> {
        MapMirror::new(&self.object.maps, self.processors)
    }

    /// Runs `program` `repeat` times on `frame`; what it left of the frame goes to `out`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, e.g. a frame shorter than 14 bytes.
    pub fn run(
        &self,
        program: Program,
        frame: &[u8],
        out: &mut Vec<u8>,
        repeat: u32,
    ) -> Result<Run, Error> {
        let (name, context) = match program {
            Program::Xdp => (XDP, &[][..]),
            Program::Tcx => (TCX, &SKB_CONTEXT[..]),
        };
        out.resize(frame.len() + 256, 0);
        let run = bpf::run_on_frame(self.object.program_fd(name)?, frame, context, out, repeat)
            .map_err(|source| Error::Run { name, source })?;
        out.truncate(run.length as usize);
        Ok(run)
    }

    /// Ends connections whose time is over at the time set, with `drop_entry` at its turn; returns how
    /// many.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    pub fn sweep(&self) -> Result<u32, Error> {
        bpf::run_with_arguments(self.object.program_fd(SWEEP)?, [3, 0]).map_err(|source| {
            Error::Run {
                name: SWEEP,
                source,
            }
        })
    }

    /// The connection of a flow.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn connection(&self, key: &FlowKey) -> Result<Option<ConnectionRecord>, Error> {
        if key.ipv6 != 0 {
            self.object.maps.conn6.get(*key)
        } else {
            self.object.maps.conn4.get(key.compact())
        }
    }

    /// The reply entry of a flow from real server to client.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn reply(&self, key: &FlowKey) -> Result<Option<ReplyRecord>, Error> {
        if key.ipv6 != 0 {
            self.object.maps.reply6.get(*key)
        } else {
            self.object.maps.reply4.get(key.compact())
        }
    }

    /// All connections.
    pub fn connections(&self) -> Connections<'_> {
        Connections::of(&self.object.maps)
    }

    /// All reply entries, IPv4 first.
    pub fn replies(&self) -> impl Iterator<Item = Result<(FlowKey, ReplyRecord), Error>> + '_ {
        let four = self.object.maps.reply4.iter();
        four.map(|e| e.map(|(key, record)| (key.expand(), record)))
            .chain(self.object.maps.reply6.iter())
    }

    /// The oldest packet handed to the daemon.
    pub fn next_event(&mut self) -> Option<Event> {
        events::next(&mut self.object.events)
    }

    /// How often the verdict `reason` was given.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn verdicts(&self, reason: Reason) -> Result<u64, Error> {
        let each = self
            .object
            .maps
            .reasons
            .get_each(reason as u32, self.processors)?;
        Ok(each.into_iter().sum())
    }
}
