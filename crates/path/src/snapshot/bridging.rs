//! What bridges know: which address is behind which port, and which VLANs a port carries.

use pointsman_wire::Mac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mac_text;
use crate::json::{list, number, text, texts};

/// An entry of a bridge's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardingEntry {
    /// The address.
    #[serde(with = "mac_text")]
    pub mac: Option<Mac>,
    /// The port that it is behind.
    pub port: String,
    /// The bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The VLAN that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// `permanent` for own addresses, `static`; empty for learned ones.
    pub state: String,
}

/// The VLANs of a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortVlans {
    /// The port, or the bridge itself.
    pub port: String,
    /// Its VLANs.
    pub vlans: Vec<PortVlan>,
}

/// A VLAN, or several in a row, of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortVlan {
    /// The first one's number.
    pub first: u16,
    /// The last one's number.
    pub last: u16,
    /// Whether frames without tag are taken for this one.
    pub pvid: bool,
    /// Whether its frames leave without tag.
    pub untagged: bool,
}

impl ForwardingEntry {
    /// Whether a frame told the bridge.
    pub fn is_learned(&self) -> bool {
        self.state.is_empty() || self.state == "stale"
    }

    /// Reads one member of `bridge -json fdb show`; entries of devices' own filters are left out.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let entry = Self {
            mac: text(value, "mac").and_then(|text| text.parse().ok()),
            port: text(value, "ifname")?,
            bridge: text(value, "master"),
            vlan: number(value, "vlan"),
            state: text(value, "state").unwrap_or_default(),
        };
        let of_device = texts(value, "flags").iter().any(|flag| flag == "self");
        (entry.bridge.is_some() && !of_device).then_some(entry)
    }
}

impl PortVlans {
    /// Reads one member of `bridge -json vlan show`.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let vlans = list(value, "vlans").iter().filter_map(|vlan| {
            let first = number(vlan, "vlan")?;
            let flags = texts(vlan, "flags");
            let has = |name: &str| flags.iter().any(|flag| flag == name);
            Some(PortVlan {
                first,
                last: number(vlan, "vlanEnd").unwrap_or(first),
                pvid: has("PVID"),
                untagged: has("Egress Untagged"),
            })
        });
        Some(Self {
            port: text(value, "ifname")?,
            vlans: vlans.collect(),
        })
    }

    /// The VLAN of a port that has but one, and that without tags.
    pub fn access(&self) -> Option<u16> {
        match self.vlans.as_slice() {
            [one] if one.pvid && one.untagged && one.first == one.last => Some(one.first),
            _ => None,
        }
    }

    /// Whether it carries a VLAN.
    pub fn carries(&self, id: u16) -> bool {
        self.vlans
            .iter()
            .any(|vlan| (vlan.first..=vlan.last).contains(&id))
    }

    /// The VLAN of frames without tag.
    pub fn pvid(&self) -> Option<u16> {
        self.vlans
            .iter()
            .find(|vlan| vlan.pvid)
            .map(|vlan| vlan.first)
    }
}
