//! Packets that the kernel drops, whichever part of it and in whichever network namespace.
//!
//! A program on the tracepoint `kfree_skb` sees every packet that the kernel lets go without use, and
//! tells of those from or to one address. It sees nothing of what XDP drops, of hairpins, and of what
//! hardware loses. It costs a fraction of a microsecond for each packet dropped, and nothing else.
//! Everything it needs goes with the value.

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
    pad: [u16; 3],
    name: [u8; 16],
    bytes: [u8; BYTES],
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
    /// The kernel's reason, such as `NETFILTER_DROP`.
    pub reason: String,
    /// The kernel's function, such as `nft_do_chain`; an address where the kernel hides names.
    pub location: String,
    /// EtherType, host order.
    pub protocol: u16,
    /// The packet from its network header on, at most 80 bytes.
    pub packet: Vec<u8>,
}

/// A watch over dropped packets of one address.
pub struct Drops {
    ring: RingBuf<MapData>,
    types: Btf,
    symbols: Vec<(u64, String)>,
    /// Detaches the program when dropped.
    _object: Ebpf,
}

impl Drops {
    /// Begins to watch packets from and to `address`, and ARP about it.
    pub fn watch(address: IpAddr) -> Result<Self, DropsError> {
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
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .load(OBJECT)
            .map_err(|error| failed("loading the program")(&error))?;
        let ring = object.take_map("DROPS").and_then(|map| map.try_into().ok());
        let program = object
            .program_mut("dropped")
            .and_then(|p| p.try_into().ok());
        let (Some(ring), Some(program)): (Option<RingBuf<MapData>>, Option<&mut RawTracePoint>) =
            (ring, program)
        else {
            return Err(DropsError::Program {
                what: "looking into the object",
                text: "the program or its ring is missing".into(),
            });
        };
        program
            .load()
            .map_err(|error| failed("loading the program")(&error))?;
        program
            .attach("kfree_skb")
            .map_err(|error| failed("attaching to kfree_skb")(&error))?;
        Ok(Self {
            ring,
            types,
            symbols: symbols(),
            _object: object,
        })
    }

    /// A descriptor that becomes readable when there is a packet.
    pub fn descriptor(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.ring)
    }

    /// The next packet dropped, if there is one.
    pub fn next_drop(&mut self) -> Option<Dropped> {
        loop {
            let item = self.ring.next()?;
            let Ok((record, _)) = DropRecord::read_from_prefix(&item) else {
                continue;
            };
            drop(item);
            return Some(self.tell(&record));
        }
    }

    fn tell(&self, record: &DropRecord) -> Dropped {
        let end = record.name.iter().position(|byte| *byte == 0);
        let name = &record.name[..end.unwrap_or(record.name.len())];
        let reason = self.types.enumerator("skb_drop_reason", record.reason);
        Dropped {
            time: record.time,
            netns: record.netns,
            device: String::from_utf8_lossy(name).into_owned(),
            ifindex: record.ifindex,
            reason: match reason {
                Some(name) => name.trim_start_matches("SKB_DROP_REASON_").to_owned(),
                None => format!("reason {}", record.reason),
            },
            location: self.symbol(record.location),
            protocol: u16::from_be(record.protocol),
            packet: record.bytes[..length_of(record).min(BYTES)].to_vec(),
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

/// Bytes of the packet, as it says itself: the kernel's own length may leave out headers it has read.
fn length_of(record: &DropRecord) -> usize {
    let word =
        |at: usize| usize::from(u16::from_be_bytes([record.bytes[at], record.bytes[at + 1]]));
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
