//! Frames that the director's programs receive, and what they make of them.
//!
//! What XDP sends on or drops, nothing else on the host sees. The programs tell of it while somebody
//! asks, from [`Records::watch`] until the value is dropped, or a few seconds after its process is gone.
//! Whoever asks need not be the daemon: the programs are found at their devices.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::maps::{Map, MapData, RingBuf};
use pointsman_director::{
    Action, Reason,
    record::{LINKS, LinkRecord},
    recording::{FRAME_BYTES, FRAME_HEAD, FrameRecord, RecordingRecord, frame_flag},
};
use pointsman_wire::Mac;
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    bpf::{self, ATTACH_TCX_INGRESS, ProgramFacts},
    object::{TCX, XDP},
};

/// `BPF_PROG_TYPE_SCHED_CLS` of `enum bpf_prog_type`.
const CLASSIFIER: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
const XDP_PROGRAM: u32 = 6;

/// How long the programs go on when nobody renews, nanoseconds.
const LEASE: u64 = 5_000_000_000;
/// After how long [`Records::renew`] does something, nanoseconds.
const RENEWAL: u64 = 1_000_000_000;
/// Most addresses that are told apart; with more of them all frames are told.
const ADDRESSES: usize = 64;

/// Why the director's frames can't be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The kernel does not let this process see programs.
    #[error("needs root (CAP_SYS_ADMIN)")]
    NotPermitted,
    /// Somebody else records.
    #[error("another capture records there; it ends with that, at the latest after {0} s")]
    Busy(u64),
    /// The programs are of another version.
    #[error("program {0} is of another version of Pointsman")]
    Version(u32),
    /// A call failed.
    #[error("{what}: {source}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The ring can't be read.
    #[error("the ring of records: {0}")]
    Ring(String),
}

impl RecordsError {
    fn call(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            _ => Self::Call { what, source },
        }
    }
}

/// A device, and the XDP program there, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub ifindex: u32,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// Number of its XDP program.
    pub xdp: Option<u32>,
}

/// Numbers of the director's programs at a device of the calling thread's network namespace, whoever
/// attached them.
///
/// Kernels before 6.6 do not say where classifiers are: there it is those of directors that know a device
/// of this number and address.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn attached(device: Device) -> Result<HashSet<u32>, RecordsError> {
    let mut found = HashSet::new();
    if let Some(id) = device.xdp
        && is_director(id, XDP_PROGRAM, XDP)?
    {
        found.insert(id);
    }
    match bpf::programs_at(device.ifindex, ATTACH_TCX_INGRESS) {
        Ok(programs) => {
            for id in programs {
                if is_director(id, CLASSIFIER, TCX)? {
                    found.insert(id);
                }
            }
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            found.extend(classifiers(device)?);
        }
        // Captures see what classifiers do; only their words are missing then.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && device.xdp.is_none() => {}
        // The device went away.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
        Err(error) => return Err(RecordsError::call("asking for programs at devices")(error)),
    }
    Ok(found)
}

/// Classifiers of directors that know a device.
fn classifiers(device: Device) -> Result<Vec<u32>, RecordsError> {
    let mut found = Vec::new();
    let mut id = 0;
    while let Some(next) = bpf::next_program(id).map_err(RecordsError::call("listing programs"))? {
        id = next;
        let Some(facts) = facts(id)? else { continue };
        let is_classifier = facts.kind == CLASSIFIER && facts.name == TCX;
        if !is_classifier {
            continue;
        }
        let size = size_of::<LinkRecord>();
        let Some(links) = map_of(&facts, "LINKS", (4, size))? else {
            continue;
        };
        let mut link = LinkRecord::default();
        let place = (device.ifindex % LINKS).to_ne_bytes();
        bpf::lookup(links.as_fd(), &place, link.as_mut_bytes())
            .map_err(RecordsError::call("reading a map"))?;
        if link.ifindex == device.ifindex && Some(link.mac) == device.mac {
            found.push(id);
        }
    }
    Ok(found)
}

fn is_director(id: u32, kind: u32, name: &str) -> Result<bool, RecordsError> {
    let facts = facts(id)?;
    Ok(facts.is_some_and(|facts| facts.kind == kind && facts.name == name))
}

/// What a program is; none when it is gone.
fn facts(id: u32) -> Result<Option<ProgramFacts>, RecordsError> {
    let program = match bpf::program_by_id(id) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        program => program.map_err(RecordsError::call("opening a program"))?,
    };
    let facts = bpf::program_facts(program.as_fd());
    facts
        .map(Some)
        .map_err(RecordsError::call("asking about a program"))
}

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Outermost addresses one of which a frame must have, as it comes or as it goes; none is all.
    pub addresses: Vec<IpAddr>,
    /// Most bytes of a frame; above 2048 it is that.
    pub snaplen: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            snaplen: FRAME_BYTES,
        }
    }
}

/// A frame as it came to the director, or as the director sends it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, nanoseconds since 1970.
    pub at_ns: u64,
    /// Device that it came in by, or goes out by.
    pub ifindex: u32,
    /// True for a frame that is sent on.
    pub sent: bool,
    /// The frame with its VLAN tag; it may be cut.
    pub bytes: Vec<u8>,
    /// Its length before it was cut.
    pub length: usize,
    /// One frame that stands for several on the wire.
    pub gso: bool,
    /// Seen by tcx, where checksums may be pending; else by XDP.
    pub tcx: bool,
    /// Why the director does with it what it does.
    pub reason: Reason,
}

/// The programs of one director, which share their maps.
pub struct Records {
    recording: OwnedFd,
    lost: OwnedFd,
    ring: RingBuf<MapData>,
    settings: RecordingRecord,
    snaplen: usize,
    /// How far the kernel's atomic time is ahead of civil time, nanoseconds.
    ahead: u64,
}

impl Records {
    /// Begins to record what a director does that has these programs, as [`attached`] finds them: for
    /// each director one recording, with the number of one of its programs.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or somebody else records.
    pub fn watch(
        programs: &HashSet<u32>,
        options: &Options,
    ) -> Result<Vec<(u32, Self)>, RecordsError> {
        let mut directors: BTreeMap<u32, (u32, ProgramMaps)> = BTreeMap::new();
        for id in programs {
            // One that is gone does nothing that could be recorded.
            if let Some(facts) = facts(*id)? {
                let maps = ProgramMaps::of(&facts)?;
                let ring = bpf::map_id(maps.ring.as_fd());
                let ring = ring.map_err(RecordsError::call("asking about a map"))?;
                directors.entry(ring).or_insert((*id, maps));
            }
        }
        let begun = directors.into_values();
        begun
            .map(|(id, maps)| Ok((id, Self::begin(maps, options)?)))
            .collect()
    }

    fn begin(maps: ProgramMaps, options: &Options) -> Result<Self, RecordsError> {
        let failed = "asking about a recording";
        let mut settings = RecordingRecord::new_zeroed();
        bpf::lookup(maps.recording.as_fd(), &FIRST, settings.as_mut_bytes())
            .map_err(RecordsError::call(failed))?;
        let now = now(libc::CLOCK_MONOTONIC).cast_unsigned();
        if settings.until > now {
            let seconds = (settings.until - now).div_ceil(1_000_000_000);
            return Err(RecordsError::Busy(seconds));
        }
        let fits = options.addresses.len() <= ADDRESSES;
        let addresses = if fits { &options.addresses[..] } else { &[] };
        let failed = "writing addresses";
        let mut key = [0; 16];
        while bpf::any_key(maps.wanted.as_fd(), &mut key).map_err(RecordsError::call(failed))? {
            bpf::delete(maps.wanted.as_fd(), &key).map_err(RecordsError::call(failed))?;
        }
        for address in addresses {
            let key = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => *address,
            };
            bpf::update(maps.wanted.as_fd(), &key.octets(), &[1, 0, 0, 0])
                .map_err(RecordsError::call(failed))?;
        }
        let ring = MapData::from_fd(maps.ring).map_err(|error| error.to_string());
        let ring = ring.and_then(|ring| {
            RingBuf::try_from(Map::RingBuf(ring)).map_err(|error| error.to_string())
        });
        let mut ring = ring.map_err(RecordsError::Ring)?;
        // What a recording before left behind.
        while ring.next().is_some() {}
        let places: Vec<u8> = (0..LINKS).flat_map(u32::to_ne_bytes).collect();
        bpf::update_batch(maps.lost.as_fd(), LINKS, &places, &[0; 8 * LINKS as usize])
            .map_err(RecordsError::call("zeroing counters"))?;
        let snaplen = options.snaplen.min(FRAME_BYTES);
        let mut records = Self {
            recording: maps.recording,
            lost: maps.lost,
            ring,
            settings: RecordingRecord {
                until: 0,
                filter: u32::from(!addresses.is_empty()),
                bytes: snaplen as u32,
            },
            snaplen,
            ahead: ahead(),
        };
        records.write(now + LEASE)?;
        Ok(records)
    }

    fn write(&mut self, until: u64) -> Result<(), RecordsError> {
        self.settings.until = until;
        bpf::update(self.recording.as_fd(), &FIRST, self.settings.as_bytes())
            .map_err(RecordsError::call("writing what is to be recorded"))
    }

    /// Has the recording go on. To be called once a second; more often does no harm.
    ///
    /// # Errors
    ///
    /// When the map can't be written.
    pub fn renew(&mut self) -> Result<(), RecordsError> {
        let until = now(libc::CLOCK_MONOTONIC).cast_unsigned() + LEASE;
        if until > self.settings.until + RENEWAL {
            self.write(until)?;
        }
        Ok(())
    }

    /// The next record, if there is one.
    pub fn next_record(&mut self) -> Option<Record> {
        loop {
            let item = self.ring.next()?;
            if let Some(record) = read(&item, self.ahead, self.snaplen) {
                return Some(record);
            }
        }
    }

    /// Frames that came by a device, and were lost because nobody read them in time.
    pub fn lost(&self, ifindex: u32) -> u64 {
        let mut value = [0; 8];
        let place = (ifindex % LINKS).to_ne_bytes();
        match bpf::lookup(self.lost.as_fd(), &place, &mut value) {
            Ok(true) => u64::from_ne_bytes(value),
            _ => 0,
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // If this fails, it ends by itself.
        let _ = self.write(0);
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's, which lives as long as this value.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

/// The key of an array's only element.
const FIRST: [u8; 4] = [0; 4];

/// The maps of a director that recording needs.
struct ProgramMaps {
    recording: OwnedFd,
    wanted: OwnedFd,
    ring: OwnedFd,
    lost: OwnedFd,
}

impl ProgramMaps {
    /// Finds them by their names among those that a program has, if they are laid out as ours.
    fn of(facts: &ProgramFacts) -> Result<Self, RecordsError> {
        let take = |name, shape| {
            let map = map_of(facts, name, shape)?;
            map.ok_or(RecordsError::Version(facts.id))
        };
        // Its layout is that of what comes by the ring.
        take("SIDES", (4, size_of::<FrameRecord>()))?;
        Ok(Self {
            recording: take("RECORDING", (4, size_of::<RecordingRecord>()))?,
            wanted: take("WANTED", (16, 4))?,
            ring: take("RECORDS", (0, 0))?,
            lost: take("LOST", (4, 8))?,
        })
    }
}

/// The map of this name that a program has, if its keys and values have these sizes.
fn map_of(
    facts: &ProgramFacts,
    name: &str,
    shape: (usize, usize),
) -> Result<Option<OwnedFd>, RecordsError> {
    for id in &facts.maps {
        let map = match bpf::map_by_id(*id) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            map => map.map_err(RecordsError::call("opening a map"))?,
        };
        let failed = "asking about a map";
        if bpf::map_name(map.as_fd()).map_err(RecordsError::call(failed))? != name {
            continue;
        }
        let (key, value, _) = bpf::map_shape(map.as_fd()).map_err(RecordsError::call(failed))?;
        return Ok(((key as usize, value as usize) == shape).then_some(map));
    }
    Ok(None)
}

/// Reads what the programs tell; none for what says nothing that is not said elsewhere.
fn read(bytes: &[u8], ahead: u64, snaplen: usize) -> Option<Record> {
    let mut record = FrameRecord::new_zeroed();
    let there = bytes.len().min(size_of::<FrameRecord>());
    let (head, data) = bytes[..there].split_at_checked(FRAME_HEAD)?;
    record.as_mut_bytes()[..FRAME_HEAD].copy_from_slice(head);
    let has = |flag: u8| record.flags & flag != 0;
    let sent = has(frame_flag::SENT);
    // The kernel sends what it has to find the next hop for, and captures see it.
    if sent && has(frame_flag::UNRESOLVED) {
        return None;
    }
    let mut frame = data.get(..record.captured as usize)?.to_vec();
    let mut length = record.length as usize;
    if has(frame_flag::TAGGED) && frame.len() >= 12 {
        let mut tag = [0; 4];
        tag[..2].copy_from_slice(&record.vlan_protocol.to_ne_bytes());
        tag[2..].copy_from_slice(&record.vlan.to_be_bytes());
        frame.splice(12..12, tag);
        length += tag.len();
    }
    frame.truncate(snaplen);
    Some(Record {
        at_ns: record.time.wrapping_sub(ahead),
        ifindex: if sent { record.egress } else { record.ingress },
        sent,
        length: length.max(frame.len()),
        bytes: frame,
        gso: has(frame_flag::SUPER_FRAME),
        tcx: has(frame_flag::TCX),
        reason: Reason::from_number(record.reason)?,
    })
}

/// Whole seconds between the clocks of atomic and of civil time, as the kernel has them.
fn ahead() -> u64 {
    let (civil, atomic) = (now(libc::CLOCK_REALTIME), now(libc::CLOCK_TAI));
    let seconds = (atomic - civil + 500_000_000).div_euclid(1_000_000_000);
    (seconds * 1_000_000_000).cast_unsigned()
}

/// Nanoseconds of a clock.
fn now(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours to be written.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

impl Record {
    /// What the director does with the frame.
    pub fn action(&self) -> Action {
        self.reason.action()
    }
}
