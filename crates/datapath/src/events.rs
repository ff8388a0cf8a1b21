//! Packets that the programs hand to the daemon.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use pointsman_director::{Reason, record::EventRecord};
use zerocopy::FromBytes;

/// A packet that the daemon has to deal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Device it came in by.
    pub ifindex: u32,
    /// Largest packet that would have fitted, bytes; for `too-big` and `needs-fragmenting`.
    pub mtu: u32,
    /// Bytes of the frame; `frame` may hold fewer.
    pub length: u32,
    /// Index of the real server it was meant for, for [`Reason::NeedsFragmenting`] and
    /// [`Reason::NoNextHop`].
    pub server: u32,
    /// Port of that server for the packet's connection, network order.
    pub port: u16,
    /// Why it is here.
    pub reason: Reason,
    /// The frame from its Ethernet header on.
    pub frame: Vec<u8>,
}

/// The descriptor that becomes readable when there is an event.
pub(crate) fn descriptor(ring: &RingBuf<MapData>) -> RawFd {
    ring.as_raw_fd()
}

/// The oldest event, if there is one.
pub(crate) fn next(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let item = ring.next()?;
        // What does not read as an event of ours is skipped.
        let Ok((record, _)) = EventRecord::ref_from_prefix(&item) else {
            continue;
        };
        let Some(reason) = Reason::from_number(record.reason) else {
            continue;
        };
        let captured = (record.captured as usize).min(record.data.len());
        return Some(Event {
            ifindex: record.ifindex,
            mtu: record.mtu,
            length: record.length,
            server: record.server,
            port: record.port,
            reason,
            frame: record.data[..captured].to_vec(),
        });
    }
}
