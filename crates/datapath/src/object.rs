//! The eBPF object: its maps and programs, loaded or taken over from pins.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError, RawTracePoint, SchedClassifier, Xdp},
};
use pointsman_director::record::{
    ConnectionRecord, FlowKey, FlowKey4, LAYOUT, LINKS, LinkRecord, LocalityKey, LocalityRecord,
    MarkRuleRecord, ReplyRecord, SchedulerState, ServerCounts, ServerRecord, ServerStats,
    ServiceKey, ServiceRecord, Settings, SlotLine, TableLine,
};
use pointsman_linux::bpffs;
use pointsman_wire::Mac;

use crate::{Options, error::Error, map::TypedMap};

/// The object as built by this crate's build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/director.o"));

/// Maps that outlive the daemon.
pub(crate) const PINNED: &[&str] = &[
    "CONN4",
    "CONN6",
    "REPLY4",
    "REPLY6",
    "SERVICES",
    "SCHEDULERS",
    "SLOTS",
    "TABLES",
    "LOCALITY",
    "SERVERS",
    "COUNTS",
    "STATS",
    "LINKS",
    "SETTINGS",
    "MARK_RULES",
    "REASON_COUNTS",
    "EVENTS",
];

/// All maps, typed.
#[derive(Debug)]
pub struct Maps {
    pub(crate) conn4: TypedMap<FlowKey4, ConnectionRecord>,
    pub(crate) conn6: TypedMap<FlowKey, ConnectionRecord>,
    pub(crate) reply4: TypedMap<FlowKey4, ReplyRecord>,
    pub(crate) reply6: TypedMap<FlowKey, ReplyRecord>,
    pub(crate) services: TypedMap<ServiceKey, ServiceRecord>,
    pub(crate) schedulers: TypedMap<u32, SchedulerState>,
    pub(crate) slots: TypedMap<u32, SlotLine>,
    pub(crate) tables: TypedMap<u32, TableLine>,
    pub(crate) localities: TypedMap<LocalityKey, LocalityRecord>,
    pub(crate) servers: TypedMap<u32, ServerRecord>,
    pub(crate) counts: TypedMap<u32, ServerCounts>,
    pub(crate) stats: TypedMap<u32, ServerStats>,
    pub(crate) links: TypedMap<u32, LinkRecord>,
    pub(crate) settings: TypedMap<u32, Settings>,
    pub(crate) mark_rules: TypedMap<u32, MarkRuleRecord>,
    pub(crate) reasons: TypedMap<u32, u64>,
    pub(crate) clock: TypedMap<u32, u64>,
    pub(crate) test: TypedMap<u32, u64>,
}

/// The loaded object.
pub(crate) struct Object {
    pub(crate) maps: Maps,
    pub(crate) events: RingBuf<MapData>,
    ebpf: Ebpf,
}

/// Whether maps were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// New, empty maps.
    Fresh,
    /// Maps of a daemon before, with services and connections.
    TakenOver,
}

/// Where the maps of this layout are pinned.
pub(crate) fn layout_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("layout-{LAYOUT}"))
}

/// Makes the pin directory ready, mounting a bpffs at /sys/fs/bpf if none is there.
pub(crate) fn prepare(pin_dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::PinDirectory {
        path: pin_dir.to_owned(),
        source,
    };
    let standard = Path::new("/sys/fs/bpf");
    if pin_dir.starts_with(standard) && !bpffs::is_bpffs(standard).unwrap_or(false) {
        bpffs::mount(standard)
            .map_err(|error| failed(io::Error::other(format!("mounting a bpffs: {error}"))))?;
    }
    fs::create_dir_all(pin_dir).map_err(failed)?;
    if !bpffs::is_bpffs(pin_dir).unwrap_or(false) {
        // Not ours to keep: an empty directory on an ordinary file system.
        let _ = fs::remove_dir(pin_dir);
        return Err(Error::NotBpffs {
            path: pin_dir.to_owned(),
        });
    }
    check(pin_dir)?;
    fs::create_dir_all(layout_dir(pin_dir)).map_err(failed)
}

/// Whether what is pinned, if anything, can be taken over by this program. Changes nothing.
pub(crate) fn check(pin_dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::PinDirectory {
        path: pin_dir.to_owned(),
        source,
    };
    let names = |directory: &Path| -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(failed)
    };
    for name in names(pin_dir)? {
        if let Some(found) = name.strip_prefix("layout-")
            && found != LAYOUT.to_string()
        {
            return Err(Error::Layout {
                path: pin_dir.to_owned(),
                found: found.to_owned(),
                expected: LAYOUT,
            });
        }
    }
    // Of a start that was cut short no program is attached.
    let there = names(&layout_dir(pin_dir))?;
    if there.iter().any(|name| name.starts_with("link-"))
        && let Some(map) = PINNED
            .iter()
            .find(|map| !there.iter().any(|name| name == *map))
    {
        return Err(Error::Incomplete {
            path: pin_dir.to_owned(),
            map,
        });
    }
    Ok(())
}

impl Object {
    /// Loads the object; its maps are pinned below `pins`, or taken from there. Without pins, and
    /// with time and chance from the test map, for [`crate::trial`].
    pub(crate) fn load(options: &Options, pins: Option<&Path>) -> Result<(Self, Origin), Error> {
        let mut loader = EbpfLoader::new();
        // The default loads again with a full log on failure, which can take minutes; see
        // `examples/load.rs`.
        loader.verifier_log_level(if std::env::var_os("POINTSMAN_VERIFIER_LOG").is_some() {
            VerifierLogLevel::default()
        } else {
            VerifierLogLevel::STATS
        });
        set_sizes(&mut loader, options);
        let mut origin = Origin::Fresh;
        let tick = tick();
        loader.override_global("TICK", &tick, true);
        if let Some(pins) = pins {
            let there = PINNED
                .iter()
                .filter(|name| pins.join(name).exists())
                .count();
            if there == PINNED.len() {
                origin = Origin::TakenOver;
            } else {
                // A start that was cut short: nothing refers to these yet.
                for name in PINNED {
                    let _ = fs::remove_file(pins.join(name));
                }
            }
            for name in PINNED {
                loader.map_pin_path(name, pins.join(name));
            }
        } else {
            loader.override_global("TESTING", &1u32, true);
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|error| Error::Load(text_of(&error)))?;
        let events = ebpf
            .take_map("EVENTS")
            .ok_or_else(|| Error::Load("the object has no map EVENTS".to_owned()))?;
        let events = RingBuf::try_from(events).map_err(|error| Error::Events(text_of(&error)))?;
        let maps = Maps::of(&ebpf)?;
        let mut object = Self { maps, events, ebpf };
        object.load_programs()?;
        Ok((object, origin))
    }

    fn load_programs(&mut self) -> Result<(), Error> {
        fn loaded(name: &'static str, result: Result<(), ProgramError>) -> Result<(), Error> {
            result.map_err(|error| Error::Program {
                name,
                reason: text_of(&error),
            })
        }
        loaded(XDP, program::<Xdp>(&mut self.ebpf, XDP)?.load())?;
        loaded(TCX, program::<SchedClassifier>(&mut self.ebpf, TCX)?.load())?;
        loaded(
            SWEEP,
            program::<RawTracePoint>(&mut self.ebpf, SWEEP)?.load(),
        )
    }

    /// The tc program, for attaching by netlink.
    pub(crate) fn classifier(&mut self) -> Result<&mut SchedClassifier, Error> {
        program(&mut self.ebpf, TCX)
    }

    /// A descriptor of the program `name`.
    pub(crate) fn program_fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, Error> {
        program_fd(&self.ebpf, name)
    }
}

impl Object {
    /// What the kernel made of the program `name`.
    pub(crate) fn describe(&self, name: &'static str) -> String {
        let info = match self.ebpf.program(name) {
            Some(Program::Xdp(program)) => program.info(),
            Some(Program::SchedClassifier(program)) => program.info(),
            Some(Program::RawTracePoint(program)) => program.info(),
            _ => return "missing".to_owned(),
        };
        match info {
            Ok(info) => format!(
                "{} instructions verified, {} bytes translated, {} bytes of machine code",
                info.verified_instruction_count().unwrap_or(0),
                info.size_translated().unwrap_or(0),
                info.size_jitted(),
            ),
            Err(error) => text_of(&error),
        }
    }
}

/// Gives the maps the sizes that `options` ask for.
pub(crate) fn set_sizes(loader: &mut EbpfLoader<'_>, options: &Options) {
    let capacity = options.capacity;
    for (name, size) in [
        ("CONN4", options.connections),
        ("CONN6", options.connections),
        ("REPLY4", options.connections),
        ("REPLY6", options.connections),
        ("SERVICES", capacity.services),
        ("SCHEDULERS", capacity.services),
        ("SLOTS", capacity.slot_lines),
        ("TABLES", capacity.table_lines),
        ("SERVERS", capacity.servers),
        ("COUNTS", capacity.servers),
        ("STATS", capacity.servers),
    ] {
        loader.map_max_entries(name, size);
    }
}

/// The program `name`, by its type.
pub(crate) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::Load(format!("the object has no program {name}")))?;
    program.try_into().map_err(|error| Error::Program {
        name,
        reason: text_of(&error),
    })
}

/// A descriptor of the program `name`.
pub(crate) fn program_fd<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, Error> {
    let program = ebpf
        .program(name)
        .ok_or_else(|| Error::Load(format!("the object has no program {name}")))?;
    let fd = program.fd().map_err(|error| Error::Program {
        name,
        reason: text_of(&error),
    })?;
    Ok(fd.as_fd())
}

/// Gives a device its place. Two devices whose indices are the same modulo the table's size can't
/// both be attached to.
pub(crate) fn set_link(maps: &Maps, ifindex: u32, mac: Mac) -> Result<(), Error> {
    let place = ifindex % LINKS;
    let old = maps.links.get(place)?.unwrap_or_default();
    if old.ifindex != 0 && old.ifindex != ifindex {
        let text = format!("its place is taken by device {}, see LINKS", old.ifindex);
        let source = io::Error::new(io::ErrorKind::AlreadyExists, text);
        return Err(Error::Map {
            map: "LINKS",
            call: "place of a device",
            source,
        });
    }
    maps.links.set(
        place,
        LinkRecord {
            ifindex,
            mac,
            pad: 0,
        },
    )
}

/// Nanoseconds of a jiffy: the grain of the coarse clocks.
pub(crate) fn tick() -> u64 {
    let mut grain = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours to be written.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut grain) };
    grain.tv_nsec as u64
}

/// Name of the XDP program.
pub(crate) const XDP: &str = "director_xdp";
/// Name of the tc program.
pub(crate) const TCX: &str = "director_tcx";
/// Name of the expiry program.
pub(crate) const SWEEP: &str = "sweep";

/// An error with everything behind it, on one line.
pub(crate) fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.replace('\n', "; ")
}

impl Maps {
    pub(crate) fn of(ebpf: &Ebpf) -> Result<Self, Error> {
        Ok(Self {
            conn4: typed(ebpf, "CONN4")?,
            conn6: typed(ebpf, "CONN6")?,
            reply4: typed(ebpf, "REPLY4")?,
            reply6: typed(ebpf, "REPLY6")?,
            services: typed(ebpf, "SERVICES")?,
            schedulers: typed(ebpf, "SCHEDULERS")?,
            slots: typed(ebpf, "SLOTS")?,
            tables: typed(ebpf, "TABLES")?,
            localities: typed(ebpf, "LOCALITY")?,
            servers: typed(ebpf, "SERVERS")?,
            counts: typed(ebpf, "COUNTS")?,
            stats: typed(ebpf, "STATS")?,
            links: typed(ebpf, "LINKS")?,
            settings: typed(ebpf, "SETTINGS")?,
            mark_rules: typed(ebpf, "MARK_RULES")?,
            reasons: typed(ebpf, "REASON_COUNTS")?,
            clock: typed(ebpf, "CLOCK")?,
            test: typed(ebpf, "TEST")?,
        })
    }
}

fn typed<K: crate::map::Plain, V: crate::map::Plain>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<TypedMap<K, V>, Error> {
    let map = ebpf
        .map(name)
        .ok_or_else(|| Error::Load(format!("the object has no map {name}")))?;
    use aya::maps::Map;
    let data = match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) => data,
        _ => return Err(Error::Load(format!("map {name} is of another type"))),
    };
    let fd: OwnedFd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Map {
            map: name,
            call: "dup",
            source,
        })?;
    TypedMap::new(fd, name)
}
