//! Addresses of interfaces.

use std::net::IpAddr;

use super::message::{Message, Request, ip, u32_at};
use super::{Error, NLM_F_DUMP, NLM_F_REQUEST, Netlink};

/// Bytes of `struct ifaddrmsg`.
const HEADER_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

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

impl Netlink {
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
