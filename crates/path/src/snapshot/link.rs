//! Links: network devices, what they are, and which addresses they have.

use std::net::IpAddr;

use pointsman_wire::Mac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mac_text;
use super::prefix::Prefix;
use crate::json::{address, flag, list, number, text, texts};

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is to the kernel (`bridge`, `veth`, `tun`); empty for hardware and `lo`.
    pub kind: String,
    /// Its link-layer address, if it has one of Ethernet.
    #[serde(with = "mac_text", skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Flags as `ip link` names them: `UP`, `LOWER_UP`, `NOARP`, ...
    pub flags: Vec<String>,
    /// How many want it to receive everything.
    pub promiscuity: u32,
    /// The bridge or bond that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The other end of a veth, or the device below a VLAN or macvlan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherLink>,
    /// Its addresses.
    pub addresses: Vec<LinkAddress>,
    /// For bridges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// For ports of a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// For VLAN devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// For tunnels: the outer addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// For macvlan and macvtap: `bridge`, `vepa`, `private`, `passthru`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Where an XDP program is attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp: Option<Xdp>,
    /// Virtual functions of a network card.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<VirtualFunction>,
    /// What it counted.
    pub counters: LinkCounters,
}

/// A link known by its number, perhaps in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherLink {
    /// Its number there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its name, if it is in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The other namespace, by the number that this one has for it: see
    /// [`Snapshot::namespaces`](super::Snapshot::namespaces).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<i64>,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAddress {
    /// The address and the length of its network.
    pub prefix: Prefix,
    /// `global`, `link`, `host`.
    #[serde(default)]
    pub scope: String,
    /// `secondary`, `tentative`, `dadfailed`, `deprecated`, `nodad`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// What a bridge is set to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    /// Whether it tells VLANs apart.
    pub vlan_filtering: bool,
    /// Whether it runs the spanning-tree protocol.
    pub stp: bool,
    /// Whether it calls iptables, whatever the sysctl says.
    pub call_iptables: bool,
    /// Whether it calls ip6tables.
    pub call_ip6tables: bool,
    /// Whether it calls arptables.
    pub call_arptables: bool,
    /// Whether it listens who joins which group; unknown to earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snooping: Option<bool>,
    /// Whether it asks who has joined.
    pub querier: bool,
    /// Others that ask, of both families.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_queriers: Vec<IpAddr>,
}

/// What a port of a bridge is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgePort {
    /// `forwarding`, `disabled`, `blocking`, `learning`, `listening`.
    pub state: String,
    /// Whether a frame may leave by the port that it came in by.
    pub hairpin: bool,
    /// Whether it is cut off from other isolated ports.
    pub isolated: bool,
    /// Whether it learns addresses.
    pub learning: bool,
    /// Whether it gets frames to addresses that nobody knows.
    pub flood: bool,
    /// Whether only known addresses may send.
    pub locked: bool,
    /// Whether ARP is answered by the bridge.
    pub neigh_suppress: bool,
    /// Whether it gets groups that nobody is known to have joined.
    pub multicast_flood: bool,
    /// Whether it gets broadcasts.
    pub broadcast_flood: bool,
}

impl Default for BridgePort {
    fn default() -> Self {
        Self {
            state: "forwarding".to_owned(),
            hairpin: false,
            isolated: false,
            learning: true,
            flood: true,
            locked: false,
            neigh_suppress: false,
            multicast_flood: true,
            broadcast_flood: true,
        }
    }
}

/// The outer addresses of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// The own one; none for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The other one; none for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

/// Which hook of XDP a link runs a program at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xdp {
    /// The driver's.
    Driver,
    /// The generic one.
    Generic,
    /// The network card itself.
    Offload,
    /// More than one.
    Several,
}

/// A virtual function of a network card.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VirtualFunction {
    /// Its number.
    pub number: u32,
    /// Its address.
    #[serde(with = "mac_text", skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Whether it may send from its own address only.
    pub spoof_check: bool,
    /// Whether the guest may change address and receive more.
    pub trust: bool,
}

/// What a link counted, packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkCounters {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Received and dropped.
    pub receive_dropped: u64,
    /// Received with errors.
    pub receive_errors: u64,
    /// Not sent.
    pub send_dropped: u64,
    /// Errors of sending.
    pub send_errors: u64,
}

impl Link {
    /// Whether it is switched on.
    pub fn is_up(&self) -> bool {
        self.has_flag("UP")
    }

    /// Whether it is a loopback.
    pub fn is_loopback(&self) -> bool {
        self.has_flag("LOOPBACK")
    }

    /// Whether it has a flag of `ip link`.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    /// The entry of an address that it has.
    pub fn address(&self, address: IpAddr) -> Option<&LinkAddress> {
        self.addresses
            .iter()
            .find(|own| own.prefix.address == address)
    }

    /// Reads one member of `ip -details -statistics -json address show`.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let info = value.get("linkinfo");
        let of = |name| info.and_then(|info| info.get(name));
        let data = of("info_data").unwrap_or(&Value::Null);
        let kind = of("info_kind").and_then(Value::as_str).unwrap_or_default();
        let slave = (of("info_slave_kind").and_then(Value::as_str) == Some("bridge"))
            .then(|| of("info_slave_data").unwrap_or(&Value::Null));
        let other = OtherLink {
            index: number(value, "link_index"),
            name: text(value, "link"),
            namespace: value.get("link_netnsid").and_then(Value::as_i64),
        };
        let is_tunnel = ["ipip", "gre", "sit", "ip6tnl", "vxlan", "ip6gre"].contains(&kind);
        Some(Self {
            index: number(value, "ifindex")?,
            name: text(value, "ifname")?,
            kind: kind.to_owned(),
            mac: text(value, "link_type")
                .filter(|kind| kind == "ether")
                .and_then(|_| text(value, "address")?.parse().ok()),
            mtu: number(value, "mtu").unwrap_or_default(),
            flags: texts(value, "flags"),
            promiscuity: number(value, "promiscuity").unwrap_or_default(),
            master: text(value, "master"),
            other: (other != OtherLink::default()).then_some(other),
            addresses: list(value, "addr_info")
                .iter()
                .filter_map(LinkAddress::read)
                .collect(),
            bridge: (kind == "bridge").then(|| Bridge::read(data)),
            port: slave.map(BridgePort::read),
            vlan: (kind == "vlan").then(|| number(data, "id")).flatten(),
            tunnel: is_tunnel.then(|| Tunnel {
                local: address(data, "local").filter(|own| !own.is_unspecified()),
                remote: address(data, "remote").filter(|own| !own.is_unspecified()),
            }),
            mode: (kind == "macvlan" || kind == "macvtap")
                .then(|| text(data, "mode"))
                .flatten(),
            xdp: value.get("xdp").and_then(|xdp| match number(xdp, "mode")? {
                1u8 => Some(Xdp::Driver),
                2 => Some(Xdp::Generic),
                3 => Some(Xdp::Offload),
                4 => Some(Xdp::Several),
                _ => None,
            }),
            functions: list(value, "vfinfo_list")
                .iter()
                .filter_map(VirtualFunction::read)
                .collect(),
            counters: value
                .get("stats64")
                .map(LinkCounters::read)
                .unwrap_or_default(),
        })
    }
}

impl LinkAddress {
    fn read(value: &Value) -> Option<Self> {
        // The kernel's flags are members that are true.
        let flags = value
            .as_object()?
            .iter()
            .filter(|(_, value)| **value == Value::Bool(true))
            .map(|(name, _)| name.clone())
            .collect();
        Some(Self {
            prefix: Prefix {
                address: address(value, "local")?,
                length: number(value, "prefixlen")?,
            },
            scope: text(value, "scope").unwrap_or_default(),
            flags,
        })
    }
}

impl Bridge {
    fn read(data: &Value) -> Self {
        let is = |name| flag(data, name).unwrap_or_default();
        Self {
            vlan_filtering: is("vlan_filtering"),
            stp: is("stp_state"),
            call_iptables: is("nf_call_iptables"),
            call_ip6tables: is("nf_call_ip6tables"),
            call_arptables: is("nf_call_arptables"),
            snooping: flag(data, "mcast_snooping"),
            querier: is("mcast_querier"),
            other_queriers: ["mcast_querier_ipv4_addr", "mcast_querier_ipv6_addr"]
                .iter()
                .filter_map(|name| address(data, name))
                .collect(),
        }
    }
}

impl BridgePort {
    fn read(data: &Value) -> Self {
        let is = |name, otherwise| flag(data, name).unwrap_or(otherwise);
        let usual = Self::default();
        Self {
            state: text(data, "state").unwrap_or(usual.state),
            hairpin: is("hairpin", usual.hairpin),
            isolated: is("isolated", usual.isolated),
            learning: is("learning", usual.learning),
            flood: is("flood", usual.flood),
            locked: is("locked", usual.locked),
            neigh_suppress: is("neigh_suppress", usual.neigh_suppress),
            multicast_flood: is("mcast_flood", usual.multicast_flood),
            broadcast_flood: is("bcast_flood", usual.broadcast_flood),
        }
    }
}

impl VirtualFunction {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            number: number(value, "vf")?,
            mac: text(value, "address").and_then(|text| text.parse().ok()),
            spoof_check: flag(value, "spoofchk").unwrap_or_default(),
            trust: flag(value, "trust").unwrap_or_default(),
        })
    }
}

impl LinkCounters {
    fn read(value: &Value) -> Self {
        let of = |direction: &str, name| {
            let counted = value.get(direction);
            counted
                .and_then(|counted| number(counted, name))
                .unwrap_or_default()
        };
        Self {
            received: of("rx", "packets"),
            sent: of("tx", "packets"),
            receive_dropped: of("rx", "dropped"),
            receive_errors: of("rx", "errors"),
            send_dropped: of("tx", "dropped"),
            send_errors: of("tx", "errors"),
        }
    }
}
