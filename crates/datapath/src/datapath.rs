//! The data plane as the daemon holds it.

use std::{
    os::fd::RawFd,
    path::{Path, PathBuf},
};

use pointsman_director::{
    Reason,
    adopt::Adopted,
    control::{Capacity, Records},
    record::{ConnectionRecord, FlowKey, FlowKey4, ServerCounts, ServerStats, Settings},
};
use pointsman_linux::netlink::{Link, Netlink};
use pointsman_wire::Mac;

use crate::{
    Options,
    adopt::Adopter,
    attach::{self, Attachment, DetachReport},
    bpf,
    error::Error,
    events::{self, Event},
    hook::{self, HookChoice, Traits},
    map::Position,
    mirror::MapMirror,
    object::{self, Maps, Object, Origin, SWEEP},
};

/// The loaded programs and their maps.
pub struct Datapath {
    object: Object,
    pins: PathBuf,
    attachments: Vec<Attachment>,
    processors: usize,
    adopter: Adopter,
}

impl Datapath {
    /// Whether [`Datapath::open`] could take over what is pinned, if anything; changes nothing.
    ///
    /// # Errors
    ///
    /// When it is of another layout, or of a program with other maps.
    pub fn check(pin_dir: &Path) -> Result<(), Error> {
        object::check(pin_dir)
    }

    /// Loads the programs; maps are created and pinned, or taken over from their pins.
    ///
    /// Maps taken over keep their sizes; [`Datapath::capacity`] tells them.
    ///
    /// # Errors
    ///
    /// When the pin directory can't be used, holds another layout, or the kernel refuses.
    pub fn open(options: &Options) -> Result<(Self, Origin), Error> {
        object::prepare(&options.pin_dir)?;
        let pins = object::layout_dir(&options.pin_dir);
        let (object, origin) = Object::load(options, Some(&pins))?;
        let processors = bpf::processors().map_err(|source| Error::Map {
            map: "STATS",
            call: "processors",
            source,
        })?;
        let datapath = Self {
            object,
            pins,
            attachments: Vec::new(),
            processors,
            adopter: Adopter::default(),
        };
        if origin == Origin::Fresh {
            datapath.object.maps.settings.set(0, Settings::DEFAULT)?;
        }
        Ok((datapath, origin))
    }

    /// Room in the maps as they are.
    pub fn capacity(&self) -> Capacity {
        let maps = &self.object.maps;
        Capacity {
            services: maps.schedulers.room(),
            servers: maps.servers.room(),
            slot_lines: maps.slots.room(),
            table_lines: maps.tables.room(),
        }
    }

    /// What tells these maps from all others of this boot.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn id(&self) -> Result<u32, Error> {
        self.object.maps.settings.id()
    }

    /// What holds for every service.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn settings(&self) -> Result<Settings, Error> {
        Ok(self.object.maps.settings.get(0)?.unwrap_or_default())
    }

    /// Room for connections of one family.
    pub fn connection_room(&self) -> u32 {
        self.object.maps.conn4.room()
    }

    /// Attaches to all of `interfaces`, by the hook that suits them together; a link pinned before
    /// gets the new program. Links to other devices are removed.
    ///
    /// # Errors
    ///
    /// When an interface does not exist or the kernel refuses; then nothing new stays attached.
    pub fn attach(
        &mut self,
        interfaces: &[String],
        choice: HookChoice,
    ) -> Result<&[Attachment], Error> {
        let mut links = Vec::new();
        for name in interfaces {
            let link = find_link(name)?;
            if link.mac.is_none() {
                return Err(Error::Interface(
                    name.clone(),
                    "not an Ethernet device".to_owned(),
                ));
            }
            links.push(link);
        }
        let traits: Vec<Traits> = links.iter().map(Traits::of).collect();
        let choices = hook::choose(&traits, choice);
        for (link, (hook, why)) in links.iter().zip(choices) {
            self.set_link(link.index, Mac(link.mac.unwrap_or_default()))?;
            let hook = attach::attach(&mut self.object, &self.pins, link, hook)?;
            self.attachments.push(Attachment {
                interface: link.name.clone(),
                ifindex: link.index,
                hook,
                why,
            });
        }
        Ok(&self.attachments)
    }

    /// Where the programs are attached.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Removes links, qdiscs and pins of a data plane pinned at `pin_dir`, loaded here or by another
    /// process. Forwarding stops, connections are lost.
    ///
    /// # Errors
    ///
    /// When something is there that can't be removed.
    pub fn detach(pin_dir: &Path) -> Result<DetachReport, Error> {
        let links = Netlink::new()
            .and_then(|mut netlink| netlink.links())
            .map_err(|error| Error::Interface("all".to_owned(), error.to_string()))?;
        attach::detach(pin_dir, &links)
    }

    /// Tells the programs the address of a device: only frames to it are the director's.
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

    /// The director's records as they are in the maps.
    ///
    /// # Errors
    ///
    /// When a map can't be read.
    pub fn records(&self) -> Result<Records, Error> {
        self.mirror().records()
    }

    /// Counts of many real servers' connections, by index; see [`MapMirror::all_counts`].
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn all_counts(&self, servers: &[u32]) -> Result<Vec<ServerCounts>, Error> {
        self.mirror().all_counts(servers)
    }

    /// Counters of many real servers, by index; see [`MapMirror::all_stats`].
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn all_stats(&self, servers: &[u32]) -> Result<Vec<ServerStats>, Error> {
        self.mirror().all_stats(servers)
    }

    /// How often each verdict was given.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn verdicts(&self) -> Result<Vec<(Reason, u64)>, Error> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let each = self
                    .object
                    .maps
                    .reasons
                    .get_each(*reason as u32, self.processors)?;
                Ok((*reason, each.into_iter().sum()))
            })
            .collect()
    }

    /// The connections behind `position`, IPv4 first, some at a time and none at the end; those that
    /// come and go meanwhile may be missed or seen.
    ///
    /// # Errors
    ///
    /// When a map can't be read.
    pub fn read_connections(
        &self,
        position: &mut ConnectionsPosition,
    ) -> Result<Vec<(FlowKey, ConnectionRecord)>, Error> {
        let maps = &self.object.maps;
        let four = maps.conn4.read_on(&mut position.four)?;
        if !four.is_empty() {
            let expand = |(key, record): (FlowKey4, _)| (key.expand(), record);
            return Ok(four.into_iter().map(expand).collect());
        }
        maps.conn6.read_on(&mut position.six)
    }

    /// Takes connections of another director into the tables; what became of each. When one ends follows
    /// from its timeout.
    ///
    /// # Errors
    ///
    /// When the program can't be loaded or run.
    pub fn adopt(&self, told: &[(FlowKey, ConnectionRecord)]) -> Result<Vec<Adopted>, Error> {
        self.adopter.adopt(&self.pins, told)
    }

    /// Ends connections whose time is over, with `dropping` also those that `drop_entry` may end; returns
    /// how many.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    pub fn sweep(&self, dropping: bool) -> Result<u32, Error> {
        let program = self.object.program_fd(SWEEP)?;
        bpf::run_with_arguments(program, [if dropping { 3 } else { 1 }, 0]).map_err(|source| {
            Error::Run {
                name: SWEEP,
                source,
            }
        })
    }

    /// The time by the programs' clock, nanoseconds: what [`ConnectionRecord::expires`] is compared
    /// with. It moves once a tick.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    pub fn now(&self) -> Result<u64, Error> {
        let program = self.object.program_fd(SWEEP)?;
        bpf::run_with_arguments(program, [0, 0]).map_err(|source| Error::Run {
            name: SWEEP,
            source,
        })?;
        Ok(self.object.maps.clock.get(0)?.unwrap_or(0))
    }

    /// The descriptor that becomes readable when [`Datapath::next_event`] has something.
    pub fn event_descriptor(&self) -> RawFd {
        events::descriptor(&self.object.events)
    }

    /// The oldest packet handed to the daemon.
    pub fn next_event(&mut self) -> Option<Event> {
        events::next(&mut self.object.events)
    }
}

fn find_link(name: &str) -> Result<Link, Error> {
    let failed = |text: String| Error::Interface(name.to_owned(), text);
    Netlink::new()
        .and_then(|mut netlink| netlink.link_by_name(name))
        .map_err(|error| failed(error.to_string()))
}

/// Where reading connections has come to.
#[derive(Debug, Clone, Default)]
pub struct ConnectionsPosition {
    four: Position,
    six: Position,
}

/// Connections, read in batches.
pub struct Connections<'a> {
    elements: Box<dyn Iterator<Item = Result<(FlowKey, ConnectionRecord), Error>> + Send + 'a>,
}

impl<'a> Connections<'a> {
    pub(crate) fn of(maps: &'a Maps) -> Self {
        let four = maps
            .conn4
            .iter()
            .map(|e| e.map(|(key, record)| (key.expand(), record)));
        Self {
            elements: Box::new(four.chain(maps.conn6.iter())),
        }
    }
}

impl Iterator for Connections<'_> {
    type Item = Result<(FlowKey, ConnectionRecord), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.elements.next()
    }
}
