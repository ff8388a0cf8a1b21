//! Neighbours: which hardware address answers for an IP address on a link.

use std::net::IpAddr;

use super::message::{Message, Request, family, ip, u16_at, u32_at};
use super::{Error, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Netlink};

/// Bytes of `struct ndmsg`.
const HEADER_LEN: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
const NTF_USE: u8 = 1;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;

/// Neighbour states (`NUD_*`), one bit each.
pub mod nud {
    /// Being resolved, no hardware address yet.
    pub const INCOMPLETE: u16 = 0x01;
    /// Confirmed lately.
    pub const REACHABLE: u16 = 0x02;
    /// Valid, but not confirmed for a while.
    pub const STALE: u16 = 0x04;
    /// In use while stale; a probe follows soon.
    pub const DELAY: u16 = 0x08;
    /// Being confirmed by probes.
    pub const PROBE: u16 = 0x10;
    /// Did not answer.
    pub const FAILED: u16 = 0x20;
    /// On a link without resolution.
    pub const NOARP: u16 = 0x40;
    /// Set by the administrator, never probed.
    pub const PERMANENT: u16 = 0x80;
    /// The states whose hardware address may be used.
    pub const VALID: u16 = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT;
}

/// One entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's number.
    pub index: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address, once known.
    pub mac: Option<[u8; 6]>,
    /// State bits, see [`nud`]; zero is an entry that was never used.
    pub state: u16,
    /// Whether the kernel itself keeps it resolved (`NTF_EXT_MANAGED`).
    pub managed: bool,
}

impl Neighbour {
    /// The hardware address, unless the state forbids its use.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state & nud::VALID != 0)
    }

    /// Reads a `RTM_NEWNEIGH` or `RTM_DELNEIGH` message; bridge entries give nothing.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let family = i32::from(*message.payload.first()?);
        if family != libc::AF_INET && family != libc::AF_INET6 {
            return None;
        }
        let (mut address, mut mac, mut extended) = (None, None, 0);
        for (kind, value) in message.attributes(HEADER_LEN) {
            match kind {
                NDA_DST => address = ip(value),
                NDA_LLADDR => mac = value.try_into().ok(),
                NDA_FLAGS_EXT => extended = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(Self {
            index: u32_at(message.payload, 4)?,
            address: address?,
            mac,
            state: u16_at(message.payload, 8)?,
            managed: extended & NTF_EXT_MANAGED != 0,
        })
    }
}

/// What [`Netlink::neighbour_add_managed`] could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourAdded {
    /// The kernel keeps the neighbour resolved from now on.
    Managed,
    /// This kernel (before 5.16) only resolves it once: ask again before it goes stale.
    Probed,
    /// The administrator has set it; it was left alone, as managing it would undo that.
    Permanent,
}

impl Netlink {
    /// Lists the IPv4 and IPv6 neighbours of all interfaces.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let request = Request::new(
            libc::RTM_GETNEIGH,
            NLM_F_REQUEST | NLM_F_DUMP,
            &[0; HEADER_LEN],
        );
        self.dump("RTM_GETNEIGH", &request, |message| {
            (message.kind == libc::RTM_NEWNEIGH).then(|| Neighbour::read(message))?
        })
    }

    /// Looks one neighbour up.
    pub fn neighbour(&mut self, index: u32, address: IpAddr) -> Result<Option<Neighbour>, Error> {
        let request = request(
            libc::RTM_GETNEIGH,
            NLM_F_REQUEST | NLM_F_ACK,
            index,
            address,
            0,
        );
        let mut found = None;
        let what = about("RTM_GETNEIGH", index, address);
        match self.exchange(&what, &request, |message| found = Neighbour::read(message)) {
            Ok(_) => Ok(found),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel resolve a neighbour and keep it resolved, as far as it can.
    ///
    /// Returns once the request is made: the hardware address follows as an event.
    pub fn neighbour_add_managed(
        &mut self,
        index: u32,
        address: IpAddr,
    ) -> Result<NeighbourAdded, Error> {
        if let Some(found) = self.neighbour(index, address)?
            && found.state & nud::PERMANENT != 0
        {
            return Ok(NeighbourAdded::Permanent);
        }
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let request = request(libc::RTM_NEWNEIGH, flags, index, address, NTF_USE)
            .attribute(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
        let what = about("RTM_NEWNEIGH managed", index, address);
        match self.exchange(&what, &request, |_| {}) {
            Ok(_) => {}
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                self.neighbour_probe(index, address)?;
                return Ok(NeighbourAdded::Probed);
            }
            Err(error) => return Err(error),
        }
        // Old kernels pass over an attribute they do not know without a word.
        let managed = self
            .neighbour(index, address)?
            .is_some_and(|found| found.managed);
        Ok(if managed {
            NeighbourAdded::Managed
        } else {
            NeighbourAdded::Probed
        })
    }

    /// Makes the kernel resolve a neighbour once, as sending a packet to it would.
    ///
    /// A managed entry stops being managed; a permanent one stops being permanent.
    pub fn neighbour_probe(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let request = request(libc::RTM_NEWNEIGH, flags, index, address, NTF_USE);
        self.exchange(&about("RTM_NEWNEIGH", index, address), &request, |_| {})
            .map(|_| ())
    }

    /// Removes a neighbour entry; false when there was none.
    pub fn neighbour_delete(&mut self, index: u32, address: IpAddr) -> Result<bool, Error> {
        let request = request(
            libc::RTM_DELNEIGH,
            NLM_F_REQUEST | NLM_F_ACK,
            index,
            address,
            0,
        );
        match self.exchange(&about("RTM_DELNEIGH", index, address), &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn request(kind: u16, flags: u16, index: u32, address: IpAddr, neighbour_flags: u8) -> Request {
    let mut header = [0; HEADER_LEN];
    header[0] = family(address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[10] = neighbour_flags;
    Request::new(kind, flags, &header).address(NDA_DST, address)
}

fn about(request: &str, index: u32, address: IpAddr) -> String {
    format!("{} on interface #{index}", super::about(request, address))
}
