//! To whom a bridge passes groups on that somebody has joined.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{address, list, number, text};

/// What a bridge with snooping knows of groups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Multicast {
    /// Who joined what.
    pub members: Vec<Member>,
    /// Ports with routers behind, which get every group.
    pub routers: Vec<String>,
}

/// A port behind which somebody joined a group, or the bridge itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// The group; none for one of the link layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<IpAddr>,
    /// The port.
    pub port: String,
    /// The bridge.
    pub bridge: String,
    /// The VLAN that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// `permanent` for what somebody typed, `temp` for what was heard.
    pub state: String,
}

impl Multicast {
    /// Whether the list of a bridge is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a member of `bridge -details -json mdb show` tells.
    pub(crate) fn extend(&mut self, value: &Value) {
        let entries = list(value, "mdb").iter();
        self.members.extend(entries.filter_map(Member::read));
        let bridges = value.get("router").and_then(Value::as_object);
        for ports in bridges.into_iter().flat_map(|all| all.values()) {
            let ports = ports.as_array().into_iter().flatten();
            self.routers
                .extend(ports.filter_map(|port| text(port, "port")));
        }
    }
}

impl Member {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            group: address(value, "grp"),
            port: text(value, "port")?,
            bridge: text(value, "dev")?,
            vlan: number(value, "vid"),
            state: text(value, "state").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_routers_are_read() {
        let printed = serde_json::json!({
            "mdb": [
                {"index": 2, "dev": "br0", "port": "p1", "grp": "ff02::12", "state": "temp", "flags": []},
                {"index": 2, "dev": "br0", "port": "p2", "grp": "224.0.1.18", "vid": 7,
                 "state": "permanent", "protocol": "static", "flags": []},
                {"index": 2, "dev": "br0", "port": "p2", "grp": "01:00:5e:00:01:12", "state": "permanent"},
            ],
            "router": {"br0": [{"port": "p3", "timer": "  12.00", "type": "temp"}]},
        });
        let mut read = Multicast::default();
        assert!(read.is_empty());
        read.extend(&printed);
        assert_eq!(read.routers, ["p3"]);
        let [one, two, three] = read.members.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(one.group, Some("ff02::12".parse().unwrap()));
        assert_eq!((two.vlan, two.port.as_str()), (Some(7), "p2"));
        assert_eq!(three.group, None);
    }
}
