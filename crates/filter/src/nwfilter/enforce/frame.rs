//! Rules for frames, as tests of nft.

use serde_json::{Value, json};

use super::tests::Tests;
use super::{SAME, compare, payload};
use crate::address;
use crate::diagnostic::Diagnostic;
use crate::nwfilter::element::{Kind, STP_RANGES};
use crate::nwfilter::instance::Instance;

/// The bridge group address, where spanning-tree frames go.
pub(super) const BRIDGE_GROUP: &str = "01:80:c2:00:00:00";

/// The tests of a rule, with source and destination changed over if it is turned.
pub(super) fn statements(one: &Instance<'_>, turned: bool) -> Result<Vec<Value>, Diagnostic> {
    let Some(kind) = one.kind() else {
        return Ok(Vec::new());
    };
    let mut tests = Tests::new(one, turned);
    let carried = match kind {
        Kind::Vlan => Some(json!("8021q")),
        Kind::Arp => Some(json!("arp")),
        Kind::Rarp => Some(json!(0x8035)),
        Kind::Ip => Some(json!("ip")),
        Kind::Ipv6 => Some(json!("ip6")),
        _ => None,
    };
    if let Some(carried) = carried {
        tests.equal("ether", "type", carried);
    }
    tests.ether()?;
    match kind {
        Kind::Mac => tests.compare_number(payload("ether", "type"), "protocolid", 0xffff)?,
        Kind::Vlan => {
            tests.compare_number(payload("vlan", "id"), "vlanid", 0xfff)?;
            tests.compare_number(payload("vlan", "type"), "encap-protocol", 0xffff)?;
        }
        Kind::Stp => tests.stp()?,
        Kind::Arp => tests.arp()?,
        Kind::Rarp => tests.rarp()?,
        Kind::Ip | Kind::Ipv6 => tests.packet(kind == Kind::Ipv6)?,
        _ => {}
    }
    if one.get("gratuitous") == Some("1") && !one.is_negated("gratuitous") {
        tests.list.extend(gratuitous());
    }
    Ok(tests.list)
}

/// Sender and target have the same address: octet by octet, for nft can't compare fields with each other.
pub(super) fn gratuitous() -> Vec<Value> {
    ["255.0.0.0", "0.255.0.0", "0.0.255.0", "0.0.0.255"]
        .map(|mask| {
            let part = |field| json!({"&": [payload("arp", field), mask]});
            let both = json!({"concat": [part("saddr ip"), part("daddr ip")]});
            compare(both, json!(SAME), false)
        })
        .into()
}

/// Bits of what follows the Ethernet header.
fn raw(offset: u32, bits: u32) -> Value {
    json!({"payload": {"base": "nh", "offset": offset, "len": bits}})
}

fn hex(number: u128) -> Value {
    json!(format!("{number:#x}"))
}

impl Tests<'_> {
    fn arp(&mut self) -> Result<(), Diagnostic> {
        self.compare_number(payload("arp", "htype"), "hwtype", 0xffff)?;
        self.compare_number(payload("arp", "ptype"), "protocoltype", 0xffff)?;
        self.compare_number(payload("arp", "operation"), "opcode", 0xffff)?;
        for (source, name, mask) in [
            (true, "arpsrcipaddr", "arpsrcipmask"),
            (false, "arpdstipaddr", "arpdstipmask"),
        ] {
            let field = self.field(source, ["saddr ip", "daddr ip"]);
            self.compare_ip(payload("arp", field), name, mask, false)?;
        }
        for (source, name) in [(true, "arpsrcmacaddr"), (false, "arpdstmacaddr")] {
            let field = self.field(source, ["saddr ether", "daddr ether"]);
            self.compare_mac(payload("arp", field), name, "")?;
        }
        Ok(())
    }

    /// As ARP, but nft's words for ARP would ask for ARP's EtherType.
    fn rarp(&mut self) -> Result<(), Diagnostic> {
        if self.one.get("gratuitous") == Some("1") {
            return Err(self.error("gratuitous of <rarp> is not enforced: write it as <arp>"));
        }
        self.compare_number(raw(0, 16), "hwtype", 0xffff)?;
        self.compare_number(raw(16, 16), "protocoltype", 0xffff)?;
        self.compare_number(raw(48, 16), "opcode", 0xffff)?;
        for (source, name, mask) in [
            (true, "arpsrcipaddr", "arpsrcipmask"),
            (false, "arpdstipaddr", "arpdstipmask"),
        ] {
            let Some((value, bits)) = self.ip(name, mask, false)? else {
                continue;
            };
            let negated = self.one.is_negated(name);
            if bits == 0 {
                if negated {
                    return Err(self.error("this never matches: the mask is 0"));
                }
                continue;
            }
            let offset = if source == self.turned { 192 } else { 112 };
            let value = hex(value >> (32 - bits));
            self.list.push(compare(raw(offset, bits), value, negated));
        }
        for (source, name) in [(true, "arpsrcmacaddr"), (false, "arpdstmacaddr")] {
            if let Some(value) = self.mac(name)? {
                let offset = if source == self.turned { 144 } else { 64 };
                let negated = self.one.is_negated(name);
                self.list
                    .push(compare(raw(offset, 48), hex(value), negated));
            }
        }
        Ok(())
    }

    /// Offsets count from the LLC header, which 802.3 frames have there.
    fn stp(&mut self) -> Result<(), Diagnostic> {
        self.equal("ether", "daddr", json!(BRIDGE_GROUP));
        // LLC of the spanning tree, and its protocol identifier.
        self.list
            .push(compare(raw(0, 40), hex(0x42_4203_0000), false));
        self.compare_number(raw(48, 8), "type", 0xff)?;
        self.compare_number(raw(56, 8), "flags", 0xff)?;
        let start = self.list.len();
        for (offset, bits, low, high) in STP_RANGES {
            if bits != 48 {
                self.compare_range(raw(offset, bits), low, high, (1 << bits) - 1)?;
            } else if let Some(value) = self.mac(low)? {
                let negated = self.one.is_negated(low);
                let (left, value) = match self.mac(high)? {
                    None => (raw(offset, bits), value),
                    Some(mask) => (json!({"&": [raw(offset, bits), hex(mask)]}), value & mask),
                };
                self.list.push(compare(left, hex(value), negated));
            }
        }
        // A topology change says nothing of these: what stands there is padding.
        if self.list.len() > start {
            let other = compare(raw(48, 8), hex(0x80), true);
            self.list.insert(start, other);
        }
        Ok(())
    }

    /// `<ip>` and `<ipv6>`.
    fn packet(&mut self, v6: bool) -> Result<(), Diagnostic> {
        let header = Self::header(v6);
        for (source, name, mask) in [
            (true, "srcipaddr", "srcipmask"),
            (false, "dstipaddr", "dstipmask"),
        ] {
            let field = self.field(source, ["saddr", "daddr"]);
            self.compare_ip(payload(header, field), name, mask, v6)?;
        }
        let protocol = self.number("protocol", 0xff)?;
        let negated = self.one.is_negated("protocol");
        // Behind extension headers, where IPv6 has its protocol.
        let field = if v6 {
            json!({"meta": {"key": "l4proto"}})
        } else {
            payload(header, "protocol")
        };
        self.compare_number(field, "protocol", 0xff)?;
        let ports = match (protocol, negated) {
            (Some(6), false) => "tcp",
            (Some(17), false) => "udp",
            (Some(33), false) => "dccp",
            (Some(132), false) => "sctp",
            _ => "th",
        };
        self.ports(ports, v6)?;
        if v6 {
            if self.one.get("type").is_some()
                && protocol.is_some_and(|number| number != 58 || negated)
            {
                return Err(self.error("this never matches: only ICMPv6 has a type"));
            }
            self.icmp(true)?;
        } else {
            self.compare_number(payload("ip", "dscp"), "dscp", 63)?;
        }
        Ok(())
    }
}

/// Whether a text is a link-layer address, which nft takes.
pub(super) fn is_mac(text: &str) -> bool {
    address::mac(text).is_some()
}
