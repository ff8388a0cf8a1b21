//! Addresses of interfaces.

use std::net::IpAddr;

use super::message::{Message, Request, family, ip, u32_at};
use super::{Error, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Netlink, about};

/// Bytes of `struct ifaddrmsg`.
const HEADER_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// A lifetime without end.
const FOREVER: u32 = u32::MAX;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub index: u32,
    /// The host's own address (on point-to-point links not the other end's).
    pub address: IpAddr,
    /// Length of the network part, in bits.
    pub prefix: u8,
    /// `IFA_F_*` flags, such as `IFA_F_TENTATIVE` while IPv6 checks for duplicates.
    pub flags: u32,
}

impl Address {
    /// Reads a `RTM_NEWADDR` or `RTM_DELADDR` message; other families than IP give nothing.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let mut flags = u32::from(*message.payload.get(2)?);
        let (mut address, mut local) = (None, None);
        for (kind, value) in message.attributes(HEADER_LEN) {
            match kind {
                IFA_ADDRESS => address = ip(value),
                IFA_LOCAL => local = ip(value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(Self {
            index: u32_at(message.payload, 4)?,
            address: local.or(address)?,
            prefix: *message.payload.get(1)?,
            flags,
        })
    }
}

/// An address to be given to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The interface's number.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The other end's address, if the link has two ends only; the network is then around that.
    pub peer: Option<IpAddr>,
    /// Length of the network part, in bits.
    pub prefix: u8,
    /// The broadcast address, with IPv4.
    pub broadcast: Option<std::net::Ipv4Addr>,
    /// `RT_SCOPE_*`: 0 is everywhere, 253 the link, 254 the host.
    pub scope: u8,
    /// The label, with IPv4; begins with the interface's name.
    pub label: Option<String>,
    /// `IFA_F_*` flags, such as `IFA_F_NODAD`.
    pub flags: u32,
    /// For how many seconds what is new may be sent from it without being asked to; none has no end.
    pub preferred_seconds: Option<u32>,
}

impl Netlink {
    /// Gives an interface an address, or changes the one it has.
    pub fn address_add(&mut self, new: &NewAddress) -> Result<(), Error> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let header = header(new.index, new.address, new.prefix, new.scope);
        let mut request = Request::new(libc::RTM_NEWADDR, flags, &header)
            .address(IFA_LOCAL, new.address)
            .address(IFA_ADDRESS, new.peer.unwrap_or(new.address))
            .attribute(IFA_FLAGS, &new.flags.to_ne_bytes());
        if let Some(broadcast) = new.broadcast {
            request = request.address(IFA_BROADCAST, broadcast.into());
        }
        if let Some(label) = &new.label {
            request = request.attribute(IFA_LABEL, format!("{label}\0").as_bytes());
        }
        if let Some(seconds) = new.preferred_seconds {
            // `struct ifa_cacheinfo`: preferred and valid lifetime, two times of day.
            let mut cache = [0; 16];
            cache[..4].copy_from_slice(&seconds.to_ne_bytes());
            cache[4..8].copy_from_slice(&FOREVER.to_ne_bytes());
            request = request.attribute(IFA_CACHEINFO, &cache);
        }
        self.exchange(&about("RTM_NEWADDR", new.address), &request, |_| {})
            .map(|_| ())
    }

    /// Takes an address from an interface; false when it did not have it.
    pub fn address_delete(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<bool, Error> {
        self.address_delete_to(index, address, None, prefix)
    }

    /// The same of an address that has a peer: IPv4 looks for both.
    pub fn address_delete_to(
        &mut self,
        index: u32,
        address: IpAddr,
        peer: Option<IpAddr>,
        prefix: u8,
    ) -> Result<bool, Error> {
        let header = header(index, address, prefix, 0);
        let request = Request::new(libc::RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, &header)
            .address(IFA_LOCAL, address)
            .address(IFA_ADDRESS, peer.unwrap_or(address));
        match self.exchange(&about("RTM_DELADDR", address), &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.errno(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lists the IPv4 and IPv6 addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let request = Request::new(
            libc::RTM_GETADDR,
            NLM_F_REQUEST | NLM_F_DUMP,
            &[0; HEADER_LEN],
        );
        self.dump("RTM_GETADDR", &request, |message| {
            (message.kind == libc::RTM_NEWADDR).then(|| Address::read(message))?
        })
    }
}

fn header(index: u32, address: IpAddr, prefix: u8, scope: u8) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = family(address);
    header[1] = prefix;
    header[3] = scope;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}
