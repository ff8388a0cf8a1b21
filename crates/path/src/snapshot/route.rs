//! Routes, the rules that choose their table, and neighbours.

use std::net::IpAddr;

use pointsman_wire::Mac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mac_text;
use super::prefix::Prefix;
use crate::json::{address, list, number, text, texts};

/// The table of routes that are looked up when nothing else is said.
pub const MAIN: &str = "main";

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub to: Prefix,
    /// `unicast`, `local`, `broadcast`, `multicast`, `blackhole`, `unreachable`, `prohibit`.
    #[serde(default)]
    pub kind: String,
    /// The table that it is in: `main`, `local`, or a number.
    #[serde(default)]
    pub table: String,
    /// The gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The source address that it prefers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The lower one wins.
    #[serde(default)]
    pub metric: u32,
    /// Bytes of the largest packet, where it differs from the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size told to peers, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_segment: Option<u32>,
    /// More ways, when it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<RouteHop>,
    /// `linkdown`, `dead`, `onlink`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// One of a route's several ways.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteHop {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The device.
    pub device: Option<String>,
}

/// A rule that chooses a table of routes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutingRule {
    /// The lower one is asked first.
    pub priority: u32,
    /// Whether it is IPv6's.
    pub v6: bool,
    /// Sources that it is for; all when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Prefix>,
    /// Destinations that it is for; all when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Prefix>,
    /// The device that packets come in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The mark, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The table; nothing when the rule does something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// What is known of a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// The device that it is behind.
    pub device: String,
    /// Its link-layer address, when known.
    #[serde(default, with = "mac_text", skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// `REACHABLE`, `STALE`, `FAILED`, `PERMANENT`, ...
    #[serde(default)]
    pub states: Vec<String>,
}

impl Route {
    /// Reads one member of `ip -json route show table all`; `v6` says which family.
    pub(crate) fn read(value: &Value, v6: bool) -> Option<Self> {
        let to = match text(value, "dst")?.as_str() {
            "default" if v6 => "::/0".parse().ok()?,
            "default" => "0.0.0.0/0".parse().ok()?,
            other => other.parse().ok()?,
        };
        let gateway = |value: &Value| {
            let via = value.get("via").and_then(|via| address(via, "host"));
            address(value, "gateway").or(via)
        };
        let metrics = list(value, "metrics").first().unwrap_or(&Value::Null);
        let hops = list(value, "nexthops").iter();
        Some(Self {
            to,
            kind: text(value, "type").unwrap_or_else(|| "unicast".to_owned()),
            table: text(value, "table").unwrap_or_else(|| MAIN.to_owned()),
            via: gateway(value),
            device: text(value, "dev"),
            source: address(value, "prefsrc"),
            metric: number(value, "metric").unwrap_or_default(),
            mtu: number(metrics, "mtu"),
            advertised_segment: number(metrics, "advmss"),
            hops: hops
                .map(|hop| RouteHop {
                    via: gateway(hop),
                    device: text(hop, "dev"),
                })
                .collect(),
            flags: texts(value, "flags"),
        })
    }
}

impl RoutingRule {
    /// Reads one member of `ip -json rule show`.
    pub(crate) fn read(value: &Value, v6: bool) -> Option<Self> {
        let prefix = |name, length| {
            let address = address(value, name)?;
            let length = number(value, length).unwrap_or(Prefix::width(address));
            (length <= Prefix::width(address)).then_some(Prefix { address, length })
        };
        Some(Self {
            priority: number(value, "priority")?,
            v6,
            from: prefix("src", "srclen"),
            to: prefix("dst", "dstlen"),
            input: text(value, "iif"),
            mark: text(value, "fwmark"),
            table: text(value, "table"),
        })
    }
}

impl Neighbour {
    /// Reads one member of `ip -json neighbour show`.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        Some(Self {
            address: address(value, "dst")?,
            device: text(value, "dev")?,
            mac: text(value, "lladdr").and_then(|text| text.parse().ok()),
            states: texts(value, "state"),
        })
    }
}
