//! Interfaces with a link-layer address of their own on top of another: macvlan.

use super::message::{Request, attribute};
use super::{Error, NLM_F_ACK, NLM_F_REQUEST, Netlink};

/// Bytes of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
/// `MACVLAN_MODE_BRIDGE`.
const MODE_BRIDGE: u32 = 4;

impl Netlink {
    /// Makes a macvlan on the interface `lower`, down and without addresses.
    ///
    /// Its mode is `bridge`: what others send with the same link-layer address still reaches `lower`.
    pub fn macvlan_add(&mut self, name: &str, lower: u32, mac: [u8; 6]) -> Result<(), Error> {
        let data = attribute(IFLA_MACVLAN_MODE, &MODE_BRIDGE.to_ne_bytes());
        let mut info = attribute(IFLA_INFO_KIND, b"macvlan");
        info.extend(attribute(IFLA_INFO_DATA, &data));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = Request::new(libc::RTM_NEWLINK, flags, &[0; HEADER_LEN])
            .attribute(IFLA_IFNAME, format!("{name}\0").as_bytes())
            .attribute(IFLA_LINK, &lower.to_ne_bytes())
            .attribute(IFLA_ADDRESS, &mac)
            .attribute(IFLA_LINKINFO, &info);
        self.exchange(&format!("RTM_NEWLINK {name}"), &request, |_| {})
            .map(|_| ())
    }

    /// Takes an interface up or down.
    pub fn link_set_up(&mut self, index: u32, up: bool) -> Result<(), Error> {
        let bit = libc::IFF_UP as u32;
        let mut header = header(index);
        header[8..12].copy_from_slice(&(if up { bit } else { 0 }).to_ne_bytes());
        header[12..16].copy_from_slice(&bit.to_ne_bytes());
        let request = Request::new(libc::RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &header);
        self.exchange(&format!("RTM_NEWLINK #{index}"), &request, |_| {})
            .map(|_| ())
    }

    /// Removes an interface; false when there is none.
    pub fn link_delete(&mut self, index: u32) -> Result<bool, Error> {
        let request = Request::new(libc::RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, &header(index));
        match self.exchange(&format!("RTM_DELLINK #{index}"), &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn header(index: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}
