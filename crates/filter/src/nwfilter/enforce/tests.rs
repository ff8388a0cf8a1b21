//! Attributes of a rule, as tests of nft.

use serde_json::{Value, json};

use super::{LEARNED, compare, payload};
use crate::address;
use crate::diagnostic::Diagnostic;
use crate::names;
use crate::nwfilter::instance::Instance;

/// The tests of a rule, as they are collected.
pub(super) struct Tests<'i> {
    pub(super) one: &'i Instance<'i>,
    /// Source and destination change places.
    pub(super) turned: bool,
    pub(super) list: Vec<Value>,
}

impl<'i> Tests<'i> {
    pub(super) fn new(one: &'i Instance<'i>, turned: bool) -> Self {
        Self {
            one,
            turned,
            list: Vec::new(),
        }
    }

    pub(super) fn error(&self, text: impl Into<String>) -> Diagnostic {
        self.one.rule.place.error(text)
    }

    /// The name of the source's field or the destination's, as the rule is turned.
    pub(super) fn field(&self, source: bool, names: [&'static str; 2]) -> &'static str {
        names[usize::from(source == self.turned)]
    }

    pub(super) fn equal(&mut self, protocol: &str, field: &str, value: Value) {
        self.list.push(super::equal(protocol, field, value, false));
    }

    /// An attribute that is a number, at most `max`.
    pub(super) fn number(&self, name: &str, max: u64) -> Result<Option<u64>, Diagnostic> {
        match self.one.number(name)? {
            Some(number) if number > max => {
                Err(self.error(format!("`{name}` is {number}; the largest is {max}")))
            }
            number => Ok(number),
        }
    }

    /// Compares a field with an attribute that is a number.
    pub(super) fn compare_number(
        &mut self,
        left: Value,
        name: &str,
        max: u64,
    ) -> Result<(), Diagnostic> {
        if let Some(number) = self.number(name, max)? {
            let negated = self.one.is_negated(name);
            self.list.push(compare(left, json!(number), negated));
        }
        Ok(())
    }

    /// Compares a field with a number, or the range up to a second attribute.
    pub(super) fn compare_range(
        &mut self,
        left: Value,
        low: &str,
        high: &str,
        max: u64,
    ) -> Result<(), Diagnostic> {
        let Some(first) = self.number(low, max)? else {
            return Ok(());
        };
        let value = match self.number(high, max)? {
            Some(last) if last < first => {
                return Err(self.error(format!("`{high}` {last} is below `{low}` {first}")));
            }
            Some(last) if last > first => json!({"range": [first, last]}),
            _ => json!(first),
        };
        let negated = self.one.is_negated(low);
        self.list.push(compare(left, value, negated));
        Ok(())
    }

    /// A link-layer address.
    pub(super) fn mac(&self, name: &str) -> Result<Option<u128>, Diagnostic> {
        let Some(text) = self.one.get(name) else {
            return Ok(None);
        };
        match address::mac(text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(format!("`{name}`: `{text}` is not a link-layer address"))),
        }
    }

    /// Compares a field with a link-layer address, under its mask if it has one.
    pub(super) fn compare_mac(
        &mut self,
        left: Value,
        name: &str,
        mask: &str,
    ) -> Result<(), Diagnostic> {
        if let Some(value) = self.mac(name)? {
            let (left, value) = match self.mac(mask)? {
                None => (left, value),
                Some(mask) => (json!({"&": [left, address::mac_text(mask)]}), value & mask),
            };
            let negated = self.one.is_negated(name);
            self.list
                .push(compare(left, json!(address::mac_text(value)), negated));
        }
        Ok(())
    }

    /// The Ethernet addresses.
    pub(super) fn ether(&mut self) -> Result<(), Diagnostic> {
        for (source, name, mask) in [
            (true, "srcmacaddr", "srcmacmask"),
            (false, "dstmacaddr", "dstmacmask"),
        ] {
            let field = self.field(source, ["saddr", "daddr"]);
            self.compare_mac(payload("ether", field), name, mask)?;
        }
        Ok(())
    }

    /// An IP address, and how many bits of it count. Nothing for the one that is learned.
    pub(super) fn ip(
        &self,
        name: &str,
        mask: &str,
        v6: bool,
    ) -> Result<Option<(u128, u32)>, Diagnostic> {
        let Some(text) = self.one.get(name) else {
            return Ok(None);
        };
        let (width, version) = if v6 { (128, "6") } else { (32, "4") };
        let parse = |text: &str| {
            if v6 {
                address::ip6(text)
            } else {
                address::ip4(text)
            }
        };
        let Some(value) = parse(text) else {
            return Err(self.error(if text == LEARNED {
                format!("`{name}` can't be an address that is learned: give IP a value")
            } else {
                format!("`{name}`: `{text}` is not an IPv{version} address")
            }));
        };
        let bits = match self.one.get(mask) {
            None => width,
            Some(text) => match text.parse() {
                Ok(bits) if bits <= width => bits,
                _ => parse(text)
                    .and_then(|mask| address::prefix_length(mask, width))
                    .ok_or_else(|| {
                        self.error(format!("`{mask}`: `{text}` is not a mask of IPv{version}"))
                    })?,
            },
        };
        Ok(Some((value & address::prefix_mask(bits, width), bits)))
    }

    /// Compares a field with an IP address, under its mask if it has one.
    pub(super) fn compare_ip(
        &mut self,
        left: Value,
        name: &str,
        mask: &str,
        v6: bool,
    ) -> Result<(), Diagnostic> {
        let negated = self.one.is_negated(name);
        if self.one.get(name) == Some(LEARNED) && self.one.get(mask).is_none() {
            self.list.push(compare(left, json!(LEARNED), negated));
            return Ok(());
        }
        let Some((value, bits)) = self.ip(name, mask, v6)? else {
            return Ok(());
        };
        let text = ip_text(value, v6);
        let value = match bits {
            0 if negated => {
                return Err(self.error(format!(
                    "this never matches: no address is outside {text}/0"
                )));
            }
            0 => return Ok(()),
            bits if bits == if v6 { 128 } else { 32 } => json!(text),
            bits => json!({"prefix": {"addr": text, "len": bits}}),
        };
        self.list.push(compare(left, value, negated));
        Ok(())
    }

    /// Ports of one of these headers; only the first fragment of an IPv4 packet has them.
    pub(super) fn ports(&mut self, header: &str, v6: bool) -> Result<(), Diagnostic> {
        let one = self.one;
        if one.get("srcportstart").is_none() && one.get("dstportstart").is_none() {
            return Ok(());
        }
        self.first_fragment(v6);
        for (source, low, high) in [
            (true, "srcportstart", "srcportend"),
            (false, "dstportstart", "dstportend"),
        ] {
            let field = self.field(source, ["sport", "dport"]);
            self.compare_range(payload(header, field), low, high, 0xffff)?;
        }
        Ok(())
    }

    /// Only the first fragment has a transport header. What nft reads of later ones is payload.
    pub(super) fn first_fragment(&mut self, v6: bool) {
        let offset = json!({"&": [payload("ip", "frag-off"), 0x1fff]});
        let test = compare(offset, json!(0), false);
        if !v6 && !self.list.contains(&test) {
            self.list.push(test);
        }
    }

    /// `$name` of both IP versions' headers: nft's word for the header.
    pub(super) fn header(v6: bool) -> &'static str {
        if v6 { "ip6" } else { "ip" }
    }

    /// Type and code of ICMP.
    pub(super) fn icmp(&mut self, v6: bool) -> Result<(), Diagnostic> {
        let header = if v6 { "icmpv6" } else { "icmp" };
        if self.one.get("type").is_none() && self.one.get("code").is_none() {
            return Ok(());
        }
        self.first_fragment(v6);
        self.compare_range(payload(header, "type"), "type", "typeend", 0xff)?;
        self.compare_range(payload(header, "code"), "code", "codeend", 0xff)
    }

    /// The protocol's number.
    pub(super) fn protocol_number(&self) -> Option<u8> {
        let kind = self.one.kind()?;
        names::protocol(kind.protocol())
    }
}

pub(super) fn ip_text(value: u128, v6: bool) -> String {
    if v6 {
        std::net::Ipv6Addr::from(value).to_string()
    } else {
        std::net::Ipv4Addr::from(value as u32).to_string()
    }
}
