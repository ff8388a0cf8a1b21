//! A rule that lets one kind of frame through, made of a frame of that kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::{ethernet, protocol};

use crate::address;
use crate::field::Field;
use crate::frame::{Frame, Sight};

/// What is known about a guest and its virtual addresses: a rule is about these values, and open for all
/// others.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The guest's link-layer address.
    pub(super) mac: u128,
    /// Link-layer addresses of virtual routers.
    pub(super) virtual_macs: Vec<u128>,
    /// Its own addresses.
    pub(super) own: Vec<IpAddr>,
    /// Virtual addresses.
    pub(super) vips: Vec<IpAddr>,
    /// Real servers.
    pub(super) servers: Vec<Server>,
    /// Ports of virtual services.
    pub(super) ports: Vec<u16>,
    /// Addresses that nobody told: no rule may name them.
    pub(super) assumed: Vec<IpAddr>,
}

impl Known {
    /// What a rule names and nobody told.
    pub(super) fn assumed_in(&self, rule: &Exemption) -> Option<IpAddr> {
        self.assumed.iter().copied().find(|address| {
            let text = address.to_string();
            rule.attributes.iter().any(|(_, value)| *value == text)
        })
    }
}

/// A real server as a rule names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) mac: Option<u128>,
    pub(super) address: Option<IpAddr>,
}

/// How narrow a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Width {
    /// Also for fragments, which have no ports.
    pub(super) fragments: bool,
    /// Towards real servers' link-layer addresses only.
    pub(super) tight: bool,
    /// From the guest's link-layer address only, even if the filter has looked at it already.
    pub(super) own_mac: bool,
}

/// On which of libvirt's two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Frames: `ebtables`, `nft bridge libvirt_nwfilter_ethernet`.
    Frames,
    /// Packets, with connections: `iptables`, `nft bridge libvirt_nwfilter_inet`.
    Packets,
}

/// A rule of a filter that accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exemption {
    /// `out` or `in`.
    pub(super) direction: &'static str,
    /// Its place in the root chain.
    pub(super) priority: i32,
    /// The protocol element.
    pub(super) element: &'static str,
    /// Its attributes.
    pub(super) attributes: Vec<(&'static str, String)>,
    /// What it is for.
    pub(super) purpose: String,
}

impl Exemption {
    /// Rules for frames like this one; none if nothing in it is known, so that a rule would be about
    /// everything.
    pub(super) fn of(
        bytes: &[u8],
        out: bool,
        layer: Layer,
        priority: i32,
        known: &Known,
        width: Width,
        purpose: &str,
    ) -> Vec<Self> {
        let Ok(frame) = Frame::parse(bytes) else {
            return Vec::new();
        };
        if frame.is_tagged() {
            return Vec::new();
        }
        let maker = Maker {
            frame: &frame,
            out,
            known,
            width,
        };
        let made = match (frame.ethertype(), layer) {
            (ethernet::ARP, Layer::Frames) => maker.arp(),
            (ethernet::IPV4 | ethernet::IPV6, Layer::Frames) => maker.ip(),
            (ethernet::IPV4 | ethernet::IPV6, Layer::Packets) => maker.packet(),
            _ => None,
        };
        let Some((element, attributes)) = made else {
            return Vec::new();
        };
        let one = Self {
            direction: if out { "out" } else { "in" },
            priority,
            element,
            attributes,
            purpose: purpose.to_owned(),
        };
        match maker.servers() {
            Some(servers) if layer == Layer::Frames => servers
                .into_iter()
                .map(|mac| {
                    let mut one = one.clone();
                    let mac = ("dstmacaddr", address::mac_text(mac));
                    one.attributes.insert(0, mac);
                    one
                })
                .collect(),
            _ => vec![one],
        }
    }

    /// Whether this rule is about all that the other is about.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let holds = |attribute| other.attributes.contains(attribute);
        self.direction == other.direction
            && self.element == other.element
            && self.priority <= other.priority
            && self.attributes.iter().all(holds)
    }

    /// As libvirt reads it.
    pub(super) fn xml(&self) -> String {
        let attributes: String = self
            .attributes
            .iter()
            .map(|(name, value)| format!(" {name}='{value}'"))
            .collect();
        let states = match self.element {
            "arp" | "ip" | "ipv6" | "mac" => "",
            _ if self.attributes.iter().any(|(name, _)| *name == "state") => "",
            // Half of the connection is all that this host sees.
            _ => " statematch='false'",
        };
        format!(
            "<rule action='accept' direction='{}' priority='{}'{states}>\n  <{}{attributes}/>\n</rule>",
            self.direction, self.priority, self.element
        )
    }

    /// What it is for, as XML has it.
    pub(super) fn comment(&self) -> String {
        format!("<!-- {} -->", self.purpose.replace("--", "-"))
    }

    /// In words: `out, ip: dstipaddr 192.0.2.1, protocol tcp`.
    pub(super) fn words(&self) -> String {
        let list: Vec<String> = self
            .attributes
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        format!(
            "accept {} <{}> {}",
            self.direction,
            self.element,
            list.join(", ")
        )
    }
}

/// Groups in which neighbour discovery asks for addresses: the first 104 bits.
const SOLICITED: [u8; 13] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];

type Element = (&'static str, Vec<(&'static str, String)>);

struct Maker<'a> {
    frame: &'a Frame<'a>,
    out: bool,
    known: &'a Known,
    width: Width,
}

impl Maker<'_> {
    fn get(&self, field: Field) -> Option<u128> {
        self.frame.get(field, Sight::default())
    }

    /// Link-layer addresses of real servers, if the frame goes to one and rules are to be tight.
    fn servers(&self) -> Option<Vec<u128>> {
        let to = self.get(Field::EtherDestination)?;
        let all: Vec<u128> = self
            .known
            .servers
            .iter()
            .filter_map(|server| server.mac)
            .collect();
        (self.width.tight && self.out && all.contains(&to)).then_some(all)
    }

    /// The guest's side of the link layer: a virtual address, or the guest's own where that is wanted.
    fn link(&self) -> Vec<(&'static str, String)> {
        let (field, name) = if self.out {
            (Field::EtherSource, "srcmacaddr")
        } else {
            (Field::EtherDestination, "dstmacaddr")
        };
        let is_group = |mac: u128| mac >> 40 & 1 == 1;
        match self.get(field) {
            Some(mac) if mac == self.known.mac && self.out && self.width.own_mac => {
                vec![(name, "$MAC".into())]
            }
            Some(mac) if mac != self.known.mac && !is_group(mac) => {
                vec![(name, address::mac_text(mac))]
            }
            _ => Vec::new(),
        }
    }

    fn arp(&self) -> Option<Element> {
        let mut attributes = self.link();
        let start = attributes.len();
        let sender = self.get(Field::ArpSenderIp).map(ip4)?;
        let target = self.get(Field::ArpTargetIp).map(ip4)?;
        if self.out {
            // Who speaks for which address.
            let mac = self.get(Field::ArpSenderMac)?;
            attributes.push((
                "arpsrcmacaddr",
                if mac == self.known.mac {
                    "$MAC".into()
                } else {
                    address::mac_text(mac)
                },
            ));
        }
        let anchor = if self.out { sender } else { target };
        if self.is_ours(anchor) {
            let name = if self.out {
                "arpsrcipaddr"
            } else {
                "arpdstipaddr"
            };
            attributes.push((name, anchor.to_string()));
        } else if self.out && sender.is_unspecified() && self.is_ours(target) {
            attributes.push(("arpsrcipaddr", sender.to_string()));
            attributes.push(("arpdstipaddr", target.to_string()));
        }
        (attributes.len() > start + usize::from(self.out)).then_some(("arp", attributes))
    }

    fn ip(&self) -> Option<Element> {
        let mut attributes = self.link();
        let v6 = self.frame.ethertype() == ethernet::IPV6;
        self.addresses(&mut attributes)?;
        let number = self.get(Field::Transport)? as u8;
        let next = self.get(Field::Ip6NextHeader);
        if next.is_some_and(|next| next != u128::from(number)) {
            // Behind extension headers `nft ip6 nexthdr` does not look.
            return Some(("ipv6", attributes));
        }
        let name = match number {
            protocol::TCP => "tcp".into(),
            protocol::UDP => "udp".into(),
            protocol::ICMP => "icmp".into(),
            protocol::ICMPV6 => "icmpv6".into(),
            protocol::SCTP => "sctp".into(),
            number => number.to_string(),
        };
        attributes.push(("protocol", name));
        if matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP) {
            self.ports(&mut attributes);
        }
        if v6 && let Some(kind) = self.get(Field::Icmp6Type) {
            attributes.push(("type", kind.to_string()));
        }
        Some((if v6 { "ipv6" } else { "ip" }, attributes))
    }

    fn packet(&self) -> Option<Element> {
        // Rules for packets know no other link-layer address than the source.
        let mut attributes = if self.out { self.link() } else { Vec::new() };
        let v6 = self.frame.ethertype() == ethernet::IPV6;
        self.addresses(&mut attributes)?;
        let number = self.get(Field::Transport)? as u8;
        let element = match (number, v6) {
            (protocol::TCP, false) => "tcp",
            (protocol::TCP, true) => "tcp-ipv6",
            (protocol::UDP, false) => "udp",
            (protocol::UDP, true) => "udp-ipv6",
            (protocol::SCTP, false) => "sctp",
            (protocol::SCTP, true) => "sctp-ipv6",
            (protocol::ICMP, false) => "icmp",
            (protocol::ICMPV6, true) => "icmpv6",
            (_, false) => "all",
            (_, true) => "all-ipv6",
        };
        match number {
            protocol::TCP | protocol::UDP | protocol::SCTP => self.ports(&mut attributes),
            _ => {
                let kind = self.get(Field::IcmpType).or(self.get(Field::Icmp6Type));
                if let Some(kind) = kind.filter(|_| element.starts_with("icmp")) {
                    attributes.push(("type", kind.to_string()));
                }
            }
        }
        if self.width.own_mac {
            // Else the rule is also for the other direction, turned round, without link-layer address.
            attributes.push(("state", "NONE".into()));
        }
        Some((element, attributes))
    }

    /// Source and destination, where they are known. Nothing if neither is.
    fn addresses(&self, attributes: &mut Vec<(&'static str, String)>) -> Option<()> {
        let start = attributes.len();
        for (source, address) in [(true, self.source()?), (false, self.destination()?)] {
            let (name, mask) = if source {
                ("srcipaddr", "srcipmask")
            } else {
                ("dstipaddr", "dstipmask")
            };
            let (is_link_local, is_solicited) = match address {
                IpAddr::V4(_) => (false, false),
                IpAddr::V6(address) => (
                    address.segments()[0] & 0xffc0 == 0xfe80,
                    address.octets()[..13] == SOLICITED[..],
                ),
            };
            if is_solicited {
                // Each address is asked for in a group of its own.
                attributes.push((name, "ff02::1:ff00:0".into()));
                attributes.push((mask, "104".into()));
            } else if self.is_ours(address) || self.is_server(address) || address.is_multicast() {
                attributes.push((name, address.to_string()));
            } else if is_link_local {
                attributes.push((name, "fe80::".into()));
                attributes.push((mask, "10".into()));
            }
        }
        (attributes.len() > start).then_some(())
    }

    /// Ports of services, at the side that has the service.
    fn ports(&self, attributes: &mut Vec<(&'static str, String)>) {
        if self.width.fragments {
            return;
        }
        let serves = |address| self.is_ours(address) || self.is_server(address);
        for (address, field, name) in [
            (self.source(), Field::SourcePort(None), "srcportstart"),
            (
                self.destination(),
                Field::DestinationPort(None),
                "dstportstart",
            ),
        ] {
            let port = self.get(field).map(|port| port as u16);
            if let (Some(address), Some(port)) = (address, port)
                && serves(address)
                && self.known.ports.contains(&port)
            {
                attributes.push((name, port.to_string()));
            }
        }
    }

    fn source(&self) -> Option<IpAddr> {
        let v4 = self.get(Field::Ip4Source).map(ip4);
        v4.or_else(|| self.get(Field::Ip6Source).map(ip6))
    }

    fn destination(&self) -> Option<IpAddr> {
        let v4 = self.get(Field::Ip4Destination).map(ip4);
        v4.or_else(|| self.get(Field::Ip6Destination).map(ip6))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.known.own.contains(&address) || self.known.vips.contains(&address)
    }

    fn is_server(&self, address: IpAddr) -> bool {
        let mut servers = self.known.servers.iter();
        servers.any(|server| server.address == Some(address))
    }
}

pub(super) fn ip4(value: u128) -> IpAddr {
    Ipv4Addr::from(value as u32).into()
}

pub(super) fn ip6(value: u128) -> IpAddr {
    Ipv6Addr::from(value).into()
}
