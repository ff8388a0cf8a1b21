//! What holds for a port while its address is not known.
//!
//! The set `known` holds the port's name as soon as the address is known, and `learned-ip` the address.
//! In the mode `any` the kernel itself fills both with the first IPv4 source that the guest sends; both
//! take one element, so it stays. In the mode `dhcp` somebody who reads DHCP fills them, for as long as
//! the lease lasts.

use serde_json::{Value, json};

use super::{Builder, KNOWN, LEARNED, compare, equal, escaped, first, payload};
use crate::model::Origin;
use crate::nwfilter::Parameters;
use crate::nwfilter::instance::Learning;

/// The chain of a way for the time before.
pub(super) fn chain(port: &str, into: bool) -> String {
    let letter = if into { "O" } else { "I" };
    format!("learning-{letter}-{}", escaped(port))
}

/// Adds the chains, or says what can't be learned.
pub(super) fn add(
    builder: &mut Builder,
    learning: Learning,
    parameters: &Parameters,
) -> Result<(), String> {
    builder.made.learning = Some(learning);
    let mac = first(parameters, "MAC").unwrap_or_default().to_owned();
    if !super::frame::is_mac(&mac) {
        return Err(format!(
            "IP has no value, and to learn it takes the guest's MAC, which is `{mac}`"
        ));
    }
    let out = chain(&builder.made.port, false);
    let into = chain(&builder.made.port, true);
    let mut push = |chain: &str, mut statements: Vec<Value>, verdict: &str| {
        statements.push(json!({verdict: null}));
        builder.push(chain, statements, Origin::Frame);
    };
    let from = |negated| equal("ether", "saddr", json!(mac), negated);
    let ether = |carried| equal("ether", "type", json!(carried), false);
    match learning {
        Learning::Any => {
            push(&out, vec![from(true)], "drop");
            push(&out, vec![ether("arp")], "accept");
            let source = |operator: &str, address: &str| {
                let left = payload("ip", "saddr");
                json!({"match": {"op": operator, "left": left, "right": address}})
            };
            let add = |element: Value, set: &str| json!({"set": {"op": "add", "elem": element, "set": set}});
            let learn = vec![
                ether("ip"),
                source("!=", "0.0.0.0"),
                source("<", "224.0.0.0"),
                add(payload("ip", "saddr"), LEARNED),
                add(json!({"meta": {"key": "iifname"}}), KNOWN),
            ];
            push(&out, learn, "return");
            push(&out, vec![ether("ip")], "return");
            push(&out, Vec::new(), "drop");
        }
        Learning::Dhcp => {
            let ports = |from: u16, to: u16| {
                [("sport", from), ("dport", to)]
                    .map(|(field, port)| equal("udp", field, json!(port), false))
            };
            let mut asks = vec![from(false), ether("ip")];
            asks.extend(ports(68, 67));
            push(&out, asks, "accept");
            push(&out, Vec::new(), "drop");
            let servers = parameters.get("DHCPSERVER").unwrap_or_default();
            if let Some(bad) = servers.iter().find(|text| !super::packet::is_ip4(text)) {
                return Err(format!("DHCPSERVER: `{bad}` is not an IPv4 address"));
            }
            for to in [mac.as_str(), "ff:ff:ff:ff:ff:ff"] {
                let mut answer = vec![ether("ip"), equal("ether", "daddr", json!(to), false)];
                if !servers.is_empty() {
                    let set = json!({"set": servers});
                    answer.push(compare(payload("ip", "saddr"), set, false));
                }
                answer.extend(ports(67, 68));
                push(&into, answer, "accept");
            }
            push(&into, Vec::new(), "drop");
        }
    }
    Ok(())
}
