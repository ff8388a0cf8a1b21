//! `sh` (`ip_vs_sh.c`) and `mh` (`ip_vs_mh.c`): the client's address chooses. `dh` (`ip_vs_dh.c`): the
//! packet's destination chooses.

use super::{Scheduler, is_usable, slot};
use crate::{
    headers::Headers,
    record::{Address, ENTRIES_PER_LINE, NONE, ServiceRecord, service_flag},
    tables::{Env, Tables},
};

/// Entries of a `dh` table.
const DESTINATION_SIZE: usize = 256;
/// Entries of an `sh` table.
pub(super) const SOURCE_SIZE: usize = 256;
/// Entries of an `mh` table, the kernel's default of its list of primes.
pub(super) const MAGLEV_SIZE: usize = 4093;

/// Kernel keys of the two Maglev hashes (`ip_vs_mh.c`, `ip_vs_mh_init_svc`).
const HASH1: u64 = 2_654_435_761;
#[cfg(feature = "std")]
const HASH2: u64 = 2_654_446_892;

/// An address as one host-order word: IPv6 words are combined by exclusive or.
#[inline(always)]
fn folded(address: &Address) -> u32 {
    u32::from_be(address[0])
        ^ u32::from_be(address[1])
        ^ u32::from_be(address[2])
        ^ u32::from_be(address[3])
}

/// The golden-ratio hash onto 256 entries.
#[inline(always)]
fn golden(key: u32) -> u32 {
    key.wrapping_mul(0x61c8_8647) >> 24
}

macro_rules! sip_round {
    ($a:ident, $b:ident, $c:ident, $d:ident) => {
        $a = $a.wrapping_add($b);
        $b = $b.rotate_left(13) ^ $a;
        $a = $a.rotate_left(32);
        $c = $c.wrapping_add($d);
        $d = $d.rotate_left(16) ^ $c;
        $a = $a.wrapping_add($d);
        $d = $d.rotate_left(21) ^ $a;
        $c = $c.wrapping_add($b);
        $b = $b.rotate_left(17) ^ $c;
        $c = $c.rotate_left(32);
    };
}

/// SipHash-1-3 of one 32-bit word with both key halves `key` (`hsiphash_1u32` on 64-bit kernels).
#[inline(always)]
fn sip(word: u32, key: u64) -> u32 {
    let mut a = 0x736f_6d65_7073_6575 ^ key;
    let mut b = 0x646f_7261_6e64_6f6d ^ key;
    let mut c = 0x6c79_6765_6e65_7261 ^ key;
    let mut d = 0x7465_6462_7974_6573 ^ key;
    let block = (4u64 << 56) | word as u64;
    d ^= block;
    sip_round!(a, b, c, d);
    a ^= block;
    c ^= 0xff;
    sip_round!(a, b, c, d);
    sip_round!(a, b, c, d);
    sip_round!(a, b, c, d);
    (a ^ b ^ c ^ d) as u32
}

#[inline(always)]
fn maglev_hash(address: &Address, port: u32, key: u64, offset: u32) -> u32 {
    sip(offset.wrapping_add(port).wrapping_add(folded(address)), key)
}

/// The server at `entry` of the service's table, if usable.
#[inline(always)]
fn at<T: Tables>(tables: &T, service: &ServiceRecord, entry: u32) -> u32 {
    let line = service.table.wrapping_add(entry / ENTRIES_PER_LINE as u32);
    let Some(line) = tables.table(line) else {
        return NONE;
    };
    let position = line[entry as usize % ENTRIES_PER_LINE] as u32;
    if position >= service.count {
        return NONE;
    }
    let slot = slot(tables, service, position);
    if is_usable(tables, &slot) {
        slot.server
    } else {
        NONE
    }
}

#[inline(always)]
fn client_port(service: &ServiceRecord, h: &Headers) -> u32 {
    if service.flags & service_flag::SCHED2 != 0 {
        u16::from_be(h.flow.source_port) as u32
    } else {
        0
    }
}

#[inline(always)]
pub(super) fn destination<T: Tables>(tables: &T, service: &ServiceRecord, h: &Headers) -> u32 {
    at(tables, service, golden(folded(&h.flow.destination)))
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn source<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    h: &Headers,
) -> u32 {
    let first = golden(folded(&h.flow.source).wrapping_add(client_port(service, h)));
    let server = at(tables, service, first);
    if server != NONE || service.flags & service_flag::SCHED1 == 0 {
        return server;
    }
    let mut found = env.opaque(NONE);
    env.repeat(SOURCE_SIZE as u32, |offset| {
        let rotated = (offset + first) % SOURCE_SIZE as u32;
        found = at(tables, service, (rotated + first) % SOURCE_SIZE as u32);
        found == NONE
    });
    found
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn maglev<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    h: &Headers,
) -> u32 {
    const SIZE: u32 = MAGLEV_SIZE as u32;
    let port = client_port(service, h);
    let first = maglev_hash(&h.flow.source, port, HASH1, 0) % SIZE;
    let server = at(tables, service, first);
    if server != NONE || service.flags & service_flag::SCHED1 == 0 {
        return server;
    }
    let mut found = env.opaque(NONE);
    env.repeat(SIZE, |offset| {
        let rotated = (offset + first) % SIZE;
        let entry = maglev_hash(&h.flow.source, port, HASH1, rotated) % SIZE;
        found = at(tables, service, entry);
        found == NONE
    });
    found
}

/// Fills a `dh` table: `servers` take turns, whatever they weigh.
#[cfg(feature = "std")]
pub fn destination_table(servers: usize) -> Vec<u16> {
    (0..servers)
        .map(|position| position as u16)
        .cycle()
        .take(DESTINATION_SIZE)
        .collect()
}

/// Fills an `sh` table: each server takes as many entries in a row as it weighs, at least one,
/// again from the first until the table is full.
#[cfg(feature = "std")]
pub fn source_table(weights: &[i32]) -> Vec<u16> {
    let mut table = Vec::with_capacity(SOURCE_SIZE);
    while table.len() < SOURCE_SIZE && !weights.is_empty() {
        for (position, weight) in weights.iter().enumerate() {
            for _ in 0..(*weight).max(1) {
                if table.len() == SOURCE_SIZE {
                    break;
                }
                table.push(position as u16);
            }
        }
    }
    table
}

/// Fills an `mh` table from address, port (network order) and last non-zero weight of each server,
/// newest first. Empty when no server ever had a weight.
#[cfg(feature = "std")]
pub fn maglev_table(servers: &[(Address, u16, i32)]) -> Vec<u16> {
    let divisor = servers
        .iter()
        .map(|s| s.2)
        .filter(|w| *w > 0)
        .fold(0, greatest_common_divisor);
    if divisor == 0 {
        return Vec::new();
    }
    let heaviest = servers.iter().map(|s| s.2).max().unwrap_or(0) / divisor;
    let bits = 32 - (heaviest as u32).leading_zeros();
    // Weights are scaled down to at most six bits.
    let shift = bits.saturating_sub(6);
    const SIZE: u32 = MAGLEV_SIZE as u32;
    let mut walks: Vec<(u32, u32, i32)> = servers
        .iter()
        .map(|(address, port, weight)| {
            let port = u16::from_be(*port) as u32;
            let start = maglev_hash(address, port, HASH1, 0) % SIZE;
            let skip = maglev_hash(address, port, HASH2, 0) % (SIZE - 1) + 1;
            let turns = (weight / divisor) >> shift;
            (start, skip, if *weight > 0 { turns.max(1) } else { 0 })
        })
        .collect();
    const FREE: u16 = u16::MAX;
    let mut table = vec![FREE; MAGLEV_SIZE];
    let mut filled = 0;
    loop {
        for (position, (at, skip, turns)) in walks.iter_mut().enumerate() {
            for _ in 0..*turns {
                while table[*at as usize] != FREE {
                    *at = (*at + *skip) % SIZE;
                }
                table[*at as usize] = position as u16;
                filled += 1;
                if filled == MAGLEV_SIZE {
                    return table;
                }
            }
        }
    }
}

#[cfg(feature = "std")]
fn greatest_common_divisor(a: i32, b: i32) -> i32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

impl Scheduler {
    /// Entries of this scheduler's lookup table, 0 when it has none.
    pub const fn table_size(self) -> usize {
        match self {
            Self::DestinationHash => DESTINATION_SIZE,
            Self::SourceHash => SOURCE_SIZE,
            Self::MaglevHash => MAGLEV_SIZE,
            _ => 0,
        }
    }
}
