//! Network interfaces.

use super::message::{Attributes, Message, Request, string, u16_at, u32_at};
use super::{Error, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Netlink};

/// Bytes of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// Longest name `IFLA_IFNAME` takes, without the NUL; longer ones are alternative names.
const NAME_MAX: usize = 15;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// `XDP_ATTACHED_SKB` of `<linux/if_link.h>`.
const ATTACHED_GENERIC: u8 = 2;

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The interface's number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where that has the six bytes of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Largest layer-3 packet, in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`); see [`Link::has_carrier`] for the wire.
    pub up: bool,
    /// Kind of a virtual interface (`veth`, `bridge`, `tun`, `vlan`, ...); hardware has none.
    pub kind: Option<String>,
    /// The bridge, bond or VRF this interface is a port of.
    pub master: Option<u32>,
    /// The interface below (VLAN, macvlan) or at the other end (veth).
    pub lower: Option<u32>,
    /// The namespace [`Link::lower`] is in, as this namespace numbers others; `None` is this one.
    pub lower_netns: Option<i32>,
    /// The tag of a VLAN interface.
    pub vlan_id: Option<u16>,
    /// `IFF_*` flags.
    pub flags: u32,
    /// `ARPHRD_*`: what kind of link layer its frames have.
    pub hardware: u16,
    /// The XDP program attached to it: its id, and whether it runs in the driver.
    pub xdp: Option<(u32, bool)>,
}

/// Reads which XDP program is attached; 0 says that none is.
fn read_xdp(info: &[u8]) -> Option<(u32, bool)> {
    let find = |wanted| Attributes(info).find(|(kind, _)| *kind == wanted);
    let (_, attached) = find(IFLA_XDP_ATTACHED)?;
    let attached = attached.first().copied().filter(|mode| *mode != 0)?;
    let id = find(IFLA_XDP_PROG_ID).and_then(|(_, id)| u32_at(id, 0));
    Some((id.unwrap_or(0), attached != ATTACHED_GENERIC))
}

impl Link {
    /// Whether the interface is up and its wire works (`IFF_RUNNING`).
    pub fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_RUNNING as u32 != 0
    }

    /// Reads a `RTM_NEWLINK` or `RTM_DELLINK` message.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let flags = u32_at(message.payload, 8)?;
        let mut link = Self {
            index: u32_at(message.payload, 4)?,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags & libc::IFF_UP as u32 != 0,
            kind: None,
            master: None,
            lower: None,
            lower_netns: None,
            vlan_id: None,
            flags,
            hardware: u16_at(message.payload, 2)?,
            xdp: None,
        };
        for (kind, value) in message.attributes(HEADER_LEN) {
            match kind {
                IFLA_IFNAME => link.name = string(value),
                IFLA_ADDRESS => link.mac = value.try_into().ok(),
                IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
                IFLA_MASTER => link.master = u32_at(value, 0),
                IFLA_LINK => link.lower = u32_at(value, 0).filter(|index| *index != 0),
                IFLA_LINK_NETNSID => link.lower_netns = u32_at(value, 0).map(u32::cast_signed),
                IFLA_LINKINFO => link.read_info(value),
                IFLA_XDP => link.xdp = read_xdp(value),
                _ => {}
            }
        }
        Some(link)
    }

    fn read_info(&mut self, info: &[u8]) {
        for (kind, value) in Attributes(info) {
            match kind {
                IFLA_INFO_KIND => self.kind = Some(string(value)),
                // The kernel sends the kind first; the data's meaning depends on it.
                IFLA_INFO_DATA if self.kind.as_deref() == Some("vlan") => {
                    self.vlan_id = Attributes(value)
                        .find(|(kind, _)| *kind == IFLA_VLAN_ID)
                        .and_then(|(_, id)| u16_at(id, 0));
                }
                _ => {}
            }
        }
    }
}

impl Netlink {
    /// Lists the interfaces of this network namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let request = request(NLM_F_REQUEST | NLM_F_DUMP, 0);
        self.dump("RTM_GETLINK", &request, |message| {
            (message.kind == libc::RTM_NEWLINK).then(|| Link::read(message))?
        })
    }

    /// Finds one interface by its name or one of its alternative names.
    pub fn link_by_name(&mut self, name: &str) -> Result<Link, Error> {
        let attribute = if name.len() > NAME_MAX {
            IFLA_ALT_IFNAME
        } else {
            IFLA_IFNAME
        };
        let missing = || Error::NoSuchLink {
            name: name.to_owned(),
        };
        if name.is_empty() || name.len() > 127 || name.contains('\0') {
            return Err(missing());
        }
        let request = request(NLM_F_REQUEST | NLM_F_ACK, 0)
            .attribute(attribute, format!("{name}\0").as_bytes());
        self.one(&format!("RTM_GETLINK {name}"), &request, missing)
    }

    /// Finds one interface by its number.
    pub fn link_by_index(&mut self, index: u32) -> Result<Link, Error> {
        let request = request(NLM_F_REQUEST | NLM_F_ACK, index);
        self.one(&format!("RTM_GETLINK {index}"), &request, || {
            Error::NoSuchLink {
                name: format!("#{index}"),
            }
        })
    }

    fn one(
        &mut self,
        what: &str,
        request: &Request,
        missing: impl Fn() -> Error,
    ) -> Result<Link, Error> {
        let mut found = None;
        match self.exchange(what, request, |message| {
            found = found.take().or(Link::read(message))
        }) {
            Ok(_) => found.ok_or_else(|| Error::Malformed {
                request: what.to_owned(),
            }),
            Err(error) if error.errno() == Some(libc::ENODEV) => Err(missing()),
            Err(error) => Err(error),
        }
    }
}

fn request(flags: u16, index: u32) -> Request {
    let mut header = [0; HEADER_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(libc::RTM_GETLINK, flags, &header)
        .attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
}
