//! Packets that the kernel drops, whichever part of it and in whichever network namespace.
//!
//! A program on the tracepoint `kfree_skb` sees every packet that the kernel lets go without use, and
//! tells of those from or to one address. Others see frames that XDP programs send and that devices do
//! not take, of whatever address. Nothing is seen of what XDP programs drop themselves, and of what
//! hardware loses. That costs a fraction of a microsecond for each packet dropped, and nothing else.
//! Where it is wanted, packets of the address are told too as they come in and go out. Everything that is
//! needed for it goes with the value.

use std::{fs, io, net::IpAddr, os::fd::RawFd};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, RingBuf},
    programs::RawTracePoint,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::btf::Btf;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/drops.o"));

/// Bytes of a packet that are told, from its network header on.
const BYTES: usize = 80;

/// Bytes of an Ethernet header.
const LINK: usize = 14;

/// Why dropped packets can't be seen.
#[derive(Debug, thiserror::Error)]
pub enum DropsError {
    /// The kernel's structures are not known.
    #[error("reading the kernel's type information: {0}")]
    Types(#[from] io::Error),
    /// The kernel has no such member.
    #[error("this kernel's {0} has no member {1}")]
    Member(&'static str, &'static str),
    /// The program can't be used.
    #[error("{what}: {text}")]
    Program {
        /// What was being done.
        what: &'static str,
        /// What the kernel says.
        text: String,
    },
}

/// `witness::Layout` of the program.
#[derive(Clone, Copy)]
#[repr(C)]
struct Layout([u32; 10]);

// SAFETY: plain words, without padding.
unsafe impl aya::Pod for Layout {}

/// `witness::Drop` of the program.
#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct DropRecord {
    time: u64,
    location: u64,
    netns: u32,
    ifindex: u32,
    reason: u32,
    length: u32,
    protocol: u16,
    kind: u16,
    error: i32,
    name: [u8; 16],
    bytes: [u8; BYTES],
}

/// `witness::SENT_BACK` of the program.
const SENT_BACK: u16 = 1;
/// `witness::REDIRECTED` of the program.
const REDIRECTED: u16 = 2;
/// `witness::RECEIVED` of the program.
const RECEIVED: u16 = 3;
/// `witness::QUEUED` of the program.
const QUEUED: u16 = 4;

/// A packet that was seen on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Nanoseconds since the machine started.
    pub time: u64,
    /// Inode of the network namespace of the device.
    pub netns: u32,
    /// Name of the device.
    pub device: String,
    /// True for what the device received, false for what it was given to send.
    pub received: bool,
    /// EtherType, host order.
    pub protocol: u16,
    /// Bytes of the packet from its network header on, all of them.
    pub length: usize,
    /// The frame, at most 80 bytes; the first 14 mean nothing where a device has no Ethernet header.
    pub frame: Vec<u8>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A packet was dropped.
    Dropped(Dropped),
    /// A packet came in or went out.
    Passed(Passed),
}

/// A packet that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Nanoseconds since the machine started.
    pub time: u64,
    /// Inode of the network namespace of its device, 0 if the kernel had forgotten the device.
    pub netns: u32,
    /// Name of its device, empty if forgotten.
    pub device: String,
    /// Number of its device.
    pub ifindex: u32,
    /// The kernel's reason, such as `NETFILTER_DROP`; the error for frames that a device did not take.
    pub reason: String,
    /// The kernel's function, such as `nft_do_chain`; an address where the kernel hides names. The
    /// tracepoint for frames that a device did not take: `xdp_bulk_tx`, `xdp_devmap_xmit`.
    pub location: String,
    /// How many; more than one only for frames that a device did not take.
    pub count: u32,
    /// EtherType, host order; 0 for frames of unknown content.
    pub protocol: u16,
    /// The packet from its network header on, at most 80 bytes; nothing for frames of unknown content.
    pub packet: Vec<u8>,
}

/// A watch over dropped packets of one address.
pub struct Drops {
    ring: RingBuf<MapData>,
    types: Btf,
    symbols: Vec<(u64, String)>,
    missing: Vec<&'static str>,
    /// Detaches the program when dropped.
    _object: Ebpf,
}

impl Drops {
    /// Begins to watch packets from and to `address`, and ARP about it, that are dropped.
    pub fn watch(address: IpAddr) -> Result<Self, DropsError> {
        Self::begin(address, false)
    }

    /// Begins to watch the same packets, those too that come in and go out anywhere.
    pub fn watch_all(address: IpAddr) -> Result<Self, DropsError> {
        Self::begin(address, true)
    }

    fn begin(address: IpAddr, passing: bool) -> Result<Self, DropsError> {
        let types = Btf::kernel()?;
        let member = |name: &'static str, member: &'static str| {
            let offset = types.offset(name, member);
            offset.ok_or(DropsError::Member(name, member))
        };
        let layout = Layout([
            member("sk_buff", "head")?,
            member("sk_buff", "network_header")?,
            member("sk_buff", "protocol")?,
            member("sk_buff", "len")?,
            member("sk_buff", "dev")?,
            member("net_device", "ifindex")?,
            member("net_device", "name")?,
            member("net_device", "nd_net")?,
            member("net", "ns")? + member("ns_common", "inum")?,
            0,
        ]);
        let socket = types.offset("sk_buff", "sk");
        let socket = socket.zip(types.offset("sock_common", "skc_net"));
        let socket = socket.map_or([0; 2], |(member, net)| [member, net]);
        let (words, ipv6): ([u32; 4], u32) = match address {
            IpAddr::V4(address) => ([u32::from_ne_bytes(address.octets()), 0, 0, 0], 0),
            IpAddr::V6(address) => {
                let octets = address.octets();
                let word = |at: usize| {
                    let four = [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
                    u32::from_ne_bytes(four)
                };
                ([word(0), word(4), word(8), word(12)], 1)
            }
        };
        let failed = |what: &'static str| {
            move |error: &dyn std::error::Error| DropsError::Program {
                what,
                text: whole(error),
            }
        };
        let mut object = EbpfLoader::new()
            .override_global("LAYOUT", &layout, true)
            .override_global("ADDRESS", &words, true)
            .override_global("IPV6", &ipv6, true)
            .override_global("SOCKET", &socket, false)
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .load(OBJECT)
            .map_err(|error| failed("loading the program")(&error))?;
        let ring = object.take_map("DROPS").and_then(|map| map.try_into().ok());
        let Some(ring): Option<RingBuf<MapData>> = ring else {
            return Err(DropsError::Program {
                what: "looking into the object",
                text: "the ring is missing".into(),
            });
        };
        attach(&mut object, "dropped", "kfree_skb")?;
        let mut others = vec![
            ("sent_back", "xdp_bulk_tx"),
            ("redirected", "xdp_devmap_xmit"),
        ];
        if passing {
            others.extend([
                ("received", "netif_receive_skb"),
                ("queued", "net_dev_queue"),
            ]);
        }
        // Kernels without them tell less.
        let missing = others.into_iter().filter_map(|(program, tracepoint)| {
            attach(&mut object, program, tracepoint)
                .err()
                .map(|_| tracepoint)
        });
        let missing = missing.collect();
        Ok(Self {
            ring,
            types,
            symbols: symbols(),
            missing,
            _object: object,
        })
    }

    /// A descriptor that becomes readable when there is a packet.
    pub fn descriptor(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.ring)
    }

    /// Tracepoints that could not be used.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// The next packet dropped, if there is one; what only passed is passed over.
    pub fn next_drop(&mut self) -> Option<Dropped> {
        loop {
            if let Seen::Dropped(dropped) = self.next_seen()? {
                return Some(dropped);
            }
        }
    }

    /// What was seen next, if there is anything.
    pub fn next_seen(&mut self) -> Option<Seen> {
        loop {
            let item = self.ring.next()?;
            let Ok((record, _)) = DropRecord::read_from_prefix(&item) else {
                continue;
            };
            drop(item);
            return Some(match record.kind {
                RECEIVED | QUEUED => Seen::Passed(Passed {
                    time: record.time,
                    netns: record.netns,
                    device: name_of(&record),
                    received: record.kind == RECEIVED,
                    protocol: u16::from_be(record.protocol),
                    length: length_of(&record, LINK),
                    frame: record.bytes[..(LINK + length_of(&record, LINK)).min(BYTES)].to_vec(),
                }),
                _ => Seen::Dropped(self.tell(&record)),
            });
        }
    }

    fn tell(&self, record: &DropRecord) -> Dropped {
        let (reason, location) = match record.kind {
            SENT_BACK => (error_of(record), "xdp_bulk_tx".to_owned()),
            REDIRECTED => (error_of(record), "xdp_devmap_xmit".to_owned()),
            _ => {
                let reason = self.types.enumerator("skb_drop_reason", record.reason);
                let reason = match reason {
                    Some(name) => name.trim_start_matches("SKB_DROP_REASON_").to_owned(),
                    None => format!("reason {}", record.reason),
                };
                (reason, self.symbol(record.location))
            }
        };
        let is_packet = !matches!(record.kind, SENT_BACK | REDIRECTED);
        let length = if is_packet { length_of(record, 0) } else { 0 };
        Dropped {
            time: record.time,
            netns: record.netns,
            device: name_of(record),
            ifindex: record.ifindex,
            reason,
            location,
            count: if is_packet { 1 } else { record.length },
            protocol: u16::from_be(record.protocol),
            packet: record.bytes[..length.min(BYTES)].to_vec(),
        }
    }

    fn symbol(&self, address: u64) -> String {
        let behind = self.symbols.partition_point(|(start, _)| *start <= address);
        match behind.checked_sub(1).and_then(|at| self.symbols.get(at)) {
            Some((_, name)) => name.clone(),
            None => format!("{address:#x}"),
        }
    }
}

impl std::fmt::Debug for Drops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drops").finish_non_exhaustive()
    }
}

/// Puts a program to work.
fn attach(
    object: &mut Ebpf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<(), DropsError> {
    let failed = |error: &dyn std::error::Error| DropsError::Program {
        what: tracepoint,
        text: whole(error),
    };
    let program = object.program_mut(name).and_then(|p| p.try_into().ok());
    let Some(program): Option<&mut RawTracePoint> = program else {
        return Err(DropsError::Program {
            what: "looking into the object",
            text: format!("the program {name} is missing"),
        });
    };
    program.load().map_err(|error| failed(&error))?;
    program.attach(tracepoint).map_err(|error| failed(&error))?;
    Ok(())
}

/// The name of a record's device.
fn name_of(record: &DropRecord) -> String {
    let end = record.name.iter().position(|byte| *byte == 0);
    let name = &record.name[..end.unwrap_or(record.name.len())];
    String::from_utf8_lossy(name).into_owned()
}

/// Why a device did not take frames.
fn error_of(record: &DropRecord) -> String {
    match record.error {
        error if error < 0 => io::Error::from_raw_os_error(error.wrapping_neg()).to_string(),
        _ => "not taken".to_owned(),
    }
}

/// Bytes of the packet whose network header is at `start`, as it says itself: the kernel's own length may leave out headers it has read.
fn length_of(record: &DropRecord, start: usize) -> usize {
    let word = |at: usize| {
        let at = start + at;
        usize::from(u16::from_be_bytes([record.bytes[at], record.bytes[at + 1]]))
    };
    match u16::from_be(record.protocol) {
        0x0800 => word(2),
        0x86dd => 40 + word(4),
        _ => 28,
    }
}

/// The kernel's functions by address; none where it hides them.
fn symbols() -> Vec<(u64, String)> {
    let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let mut symbols: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
            (is_code && address != 0).then_some((address, words.next()?.to_owned()))
        })
        .collect();
    symbols.sort_unstable();
    symbols
}

/// An error and what is behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
