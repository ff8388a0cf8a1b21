//! Filters as libvirt's nftables backend installs them.
//!
//! Rules are made as nft would list them: what nft implies is left out, neighbouring payloads are joined.

use serde_json::{Value, json};

use super::document::{Act, Sense};
use super::ebiptables::network;
use super::element::{Kind, STP_RANGES};
use super::instance::{Instance, Learning};
use crate::address;
use crate::diagnostic::Diagnostic;
use crate::model::{Base, Chain, End, Engine, Family, Hook, Origin, Ruleset, Table};
use crate::names;
use crate::nft;

/// The table for frames.
const ETHERNET: &str = "libvirt_nwfilter_ethernet";
/// The table for packets.
const INET: &str = "libvirt_nwfilter_inet";

/// Compiles rules in their final order.
pub(super) fn compile(port: &str, instances: &[Instance<'_>]) -> Result<Ruleset, Diagnostic> {
    let mut builder = Builder::new(port);
    // Sub-chains in the order of their priority, with the directions that they have.
    let mut subs: Vec<(&str, i32, [bool; 2])> = Vec::new();
    for one in instances.iter().filter(|one| one.chain != "root") {
        let there = [Sense::In, Sense::Out].map(|sense| one.is_ethernet() && one.goes(sense));
        match subs.iter_mut().find(|(chain, ..)| *chain == one.chain) {
            Some((.., known)) => *known = [known[0] | there[0], known[1] | there[1]],
            None => subs.push((one.chain, one.chain_priority, there)),
        }
    }
    subs.sort_by_key(|&(_, priority, _)| priority);
    let is_root = |one: &&Instance<'_>| one.chain == "root" && one.is_ethernet();
    let mut roots = instances.iter().filter(is_root).peekable();
    for (chain, priority, there) in subs {
        while let Some(one) = roots.next_if(|one| one.priority < priority) {
            builder.rules(one)?;
        }
        builder.enter(chain, there);
    }
    for one in roots {
        builder.rules(one)?;
    }
    for one in instances.iter().filter(|one| !is_root(one)) {
        builder.rules(one)?;
    }
    Ok(builder.done())
}

/// The rules while an address is learned.
pub(super) fn learn(
    port: &str,
    mac: &str,
    learning: Learning,
    servers: &[String],
) -> Result<Ruleset, String> {
    let mut builder = Builder::new(port);
    let ip = || equal("ether", "type", json!("ip"), false);
    let ports = |source: u16, destination: u16| {
        [
            equal("udp", "sport", json!(source), false),
            equal("udp", "dport", json!(destination), false),
        ]
    };
    let accept = || json!({"accept": null});
    match learning {
        Learning::Any => {
            let own = equal("ether", "saddr", json!(mac), true);
            builder.push(
                ETHERNET,
                "out",
                vec![own, json!({"drop": null})],
                Origin::Frame,
            );
            for carried in ["ip", "arp"] {
                let test = equal("ether", "type", json!(carried), false);
                builder.push(ETHERNET, "out", vec![test, accept()], Origin::Frame);
            }
            // Where the other backend drops.
            builder.push(ETHERNET, "out", vec![accept()], Origin::Frame);
        }
        Learning::Dhcp => {
            let mut asks = vec![equal("ether", "saddr", json!(mac), false), ip()];
            asks.extend(ports(68, 67));
            asks.push(accept());
            builder.push(ETHERNET, "out", asks, Origin::Frame);
            builder.push(ETHERNET, "out", vec![json!({"drop": null})], Origin::Frame);
            let none = [String::new()];
            let servers = if servers.is_empty() { &none } else { servers };
            for server in servers {
                for to in [mac, "ff:ff:ff:ff:ff:ff"] {
                    let from = match server.as_str() {
                        "" => ip(),
                        server => equal("ip", "saddr", json!(server), false),
                    };
                    let mut answer = vec![equal("ether", "daddr", json!(to), false), from];
                    answer.extend(ports(67, 68));
                    answer.push(accept());
                    builder.push(ETHERNET, "in", answer, Origin::Frame);
                }
            }
            builder.push(ETHERNET, "in", vec![json!({"drop": null})], Origin::Frame);
        }
    }
    Ok(builder.done())
}

struct Builder<'p> {
    port: &'p str,
    tables: [Table; 2],
    sets: nft::Sets,
}

impl<'p> Builder<'p> {
    fn new(port: &'p str) -> Self {
        let mut sets = nft::Sets::default();
        for table in [ETHERNET, INET] {
            for (map, way) in [("vmap-iif", "out"), ("vmap-oif", "in")] {
                let entry = json!([port, {"jump": {"target": format!("{port}-{way}")}}]);
                sets.insert(Family::Bridge, table, map, vec![entry]);
            }
        }
        // 1024 pairs of equal octets.
        sets.insert(Family::Bridge, ETHERNET, "same-ip-set", vec![Value::Null]);
        let mut builder = Self {
            port,
            tables: [(ETHERNET, 0), (INET, 1)].map(|(name, priority)| {
                let mut table = Table::new(Engine::Nftables, Family::Bridge, name);
                for (chain, hook) in [
                    ("postrouting", Hook::Postrouting),
                    ("prerouting", Hook::Prerouting),
                ] {
                    let mut chain = Chain::new(chain, End::Accept);
                    chain.base = Some(Base {
                        hook,
                        priority,
                        devices: Vec::new(),
                        translation: false,
                    });
                    table.add(chain);
                }
                for way in ["in", "out"] {
                    table.add(Chain::new(&format!("{port}-{way}"), End::Return));
                }
                table
            }),
            sets,
        };
        for table in [ETHERNET, INET] {
            for (chain, key) in [("postrouting", "oif"), ("prerouting", "iif")] {
                let map = format!("@vmap-{key}");
                let jump = json!({"vmap": {"key": {"meta": {"key": key}}, "data": map}});
                builder.push_at(table, chain, vec![jump], Origin::Frame);
            }
        }
        builder
    }

    fn done(self) -> Ruleset {
        Ruleset {
            tables: self.tables.into(),
        }
    }

    /// Adds a rule to a chain of the port.
    fn push(&mut self, table: &str, chain: &str, statements: Vec<Value>, origin: Origin) {
        let chain = format!("{}-{chain}", self.port);
        self.push_at(table, &chain, statements, origin);
    }

    fn push_at(&mut self, table: &str, chain: &str, statements: Vec<Value>, origin: Origin) {
        let mut rule = nft::rule(Family::Bridge, table, &self.sets, &statements);
        rule.origin = origin;
        let found = self.tables.iter_mut().find(|one| one.name == table);
        if let Some(chain) = found.and_then(|table| table.chain_mut(chain)) {
            chain.rules.push(rule);
        }
    }

    /// Makes a sub-chain, and the jumps to it.
    fn enter(&mut self, chain: &str, there: [bool; 2]) {
        let test = match chain {
            name if name.starts_with("mac") => None,
            name if name.starts_with("stp") => {
                Some(equal("ether", "daddr", json!("01:80:c2:00:00:00"), false))
            }
            name => {
                let carried = match name {
                    name if name.starts_with("vlan") => json!("8021q"),
                    name if name.starts_with("arp") => json!("arp"),
                    name if name.starts_with("rarp") => json!(0x8035),
                    name if name.starts_with("ipv4") => json!("ip"),
                    _ => json!("ip6"),
                };
                Some(equal("ether", "type", carried, false))
            }
        };
        for (way, there) in ["in", "out"].into_iter().zip(there) {
            if !there {
                continue;
            }
            let name = format!("{}-{chain}-{way}", self.port);
            self.tables[0].add(Chain::new(&name, End::Return));
            let mut statements: Vec<Value> = test.clone().into_iter().collect();
            statements.push(json!({"jump": {"target": name}}));
            self.push(ETHERNET, way, statements, Origin::Frame);
        }
    }

    /// Adds the rules of an instance, for each direction.
    fn rules(&mut self, one: &Instance<'_>) -> Result<(), Diagnostic> {
        let ethernet = one.is_ethernet();
        match one.rule.sense {
            Sense::InOut => {
                self.rule(one, true, false)?;
                // What is for both directions is written for the one towards the guest; packet rules
                // are not changed over.
                self.rule(one, false, ethernet)
            }
            sense => {
                let into = sense == Sense::In;
                self.rule(one, into, false)?;
                if needs_state(one) && one.rule.act == Act::Accept {
                    self.rule(one, !into, true)?;
                }
                Ok(())
            }
        }
    }

    fn rule(&mut self, one: &Instance<'_>, into: bool, turned: bool) -> Result<(), Diagnostic> {
        let way = if into { "in" } else { "out" };
        let (table, chain) = match one.chain {
            chain if one.is_ethernet() && chain != "root" => (ETHERNET, format!("{chain}-{way}")),
            _ if one.is_ethernet() => (ETHERNET, way.to_owned()),
            _ => (INET, way.to_owned()),
        };
        let mut tests = Tests {
            one,
            turned,
            list: Vec::new(),
        };
        if one.is_ethernet() {
            tests.frame()?;
        } else {
            tests.packet(into)?;
        }
        let mut list = tests.list;
        let verdict = match one.rule.act {
            Act::Accept => "accept",
            Act::Drop | Act::Reject => "drop",
            Act::Return => "return",
            Act::Continue => "continue",
        };
        list.push(json!({verdict: null}));
        self.push(table, &chain, list, Origin::Filter(one.origin.clone()));
        Ok(())
    }
}

fn needs_state(one: &Instance<'_>) -> bool {
    !one.is_ethernet()
        && one.rule.state_match
        && (one.get("state").is_some() || one.rule.act == Act::Accept)
}

fn backwards(one: &Instance<'_>) -> Diagnostic {
    let place = &one.rule.place;
    place.error("nft refuses a range that runs backwards")
}

/// What nft refuses of tests of packets, as libvirt writes them.
fn refused(one: &Instance<'_>, v6: bool) -> Result<(), Diagnostic> {
    let fail = |text: &str| Err(one.rule.place.error(text));
    let addresses = ["srcipaddr", "dstipaddr", "srcipfrom", "dstipfrom"];
    // A range counts only without an address.
    let used = |name: &&str| match *name {
        "srcipfrom" => one.get("srcipaddr").is_none(),
        "dstipfrom" => one.get("dstipaddr").is_none(),
        _ => true,
    };
    let used: Vec<&str> = addresses.into_iter().filter(used).collect();
    if used
        .iter()
        .chain(&["dscp"])
        .any(|name| one.is_negated(name))
    {
        return fail(
            "libvirt's nftables backend writes a negated address or dscp so that nft refuses it",
        );
    }
    // What comes of a variable it takes for an IPv4 address.
    let last = used.iter().filter(|name| one.get(name).is_some());
    let of_variable = |name: &str| one.is_variable(name);
    if v6 && last.clone().any(|name| of_variable(name)) {
        return fail("libvirt's nftables backend takes a variable for an IPv4 address");
    }
    if v6 && one.get("dscp").is_some() && last.count() == 0 {
        return fail("libvirt's nftables backend takes dscp without an address for IPv4's");
    }
    Ok(())
}

fn equal(protocol: &str, field: &str, value: Value, negated: bool) -> Value {
    compare(
        json!({"payload": {"protocol": protocol, "field": field}}),
        value,
        negated,
    )
}

fn compare(left: Value, value: Value, negated: bool) -> Value {
    let operator = if negated { "!=" } else { "==" };
    json!({"match": {"op": operator, "left": left, "right": value}})
}

struct Tests<'i> {
    one: &'i Instance<'i>,
    /// Source and destination change places.
    turned: bool,
    list: Vec<Value>,
}

impl Tests<'_> {
    /// The field's name, source or destination, as the rule is turned.
    fn field(&self, source: bool, names: [&'static str; 2]) -> &'static str {
        names[usize::from(source == self.turned)]
    }

    fn equal(&mut self, protocol: &str, field: &str, value: Value, negated: bool) {
        self.list.push(equal(protocol, field, value, negated));
    }

    /// Tests of a frame.
    fn frame(&mut self) -> Result<(), Diagnostic> {
        let one = self.one;
        let Some(kind) = one.kind() else {
            return Ok(());
        };
        if kind == Kind::Stp && self.turned && one.get("srcmacaddr").is_some() {
            return Err(one
                .rule
                .place
                .error("libvirt refuses <stp> with srcmacaddr in a rule for both directions"));
        }
        self.ether();
        match kind {
            Kind::Mac => {
                if let Some(id) = one.number("protocolid")? {
                    let negated = one.is_negated("protocolid");
                    self.equal("ether", "type", ethertype(id), negated);
                }
            }
            Kind::Vlan => {
                if one.get("vlanid").is_none() && one.get("encap-protocol").is_none() {
                    self.equal("ether", "type", json!("8021q"), false);
                }
                self.number("vlan", "id", "vlanid", |id| json!(id))?;
                self.number("vlan", "type", "encap-protocol", ethertype)?;
            }
            Kind::Stp => self.stp()?,
            Kind::Arp => self.arp()?,
            Kind::Rarp => self.rarp()?,
            Kind::Ip | Kind::Ipv6 => self.ip(kind == Kind::Ipv6)?,
            _ => {}
        }
        Ok(())
    }

    fn ether(&mut self) {
        let one = self.one;
        let mut tests = Vec::new();
        for (source, address, mask) in [
            (true, "srcmacaddr", "srcmacmask"),
            (false, "dstmacaddr", "dstmacmask"),
        ] {
            let Some(value) = one.get(address) else {
                continue;
            };
            let field = self.field(source, ["saddr", "daddr"]);
            let negated = one.is_negated(address);
            let payload = json!({"payload": {"protocol": "ether", "field": field}});
            tests.push((
                one.get(mask).is_none() && !negated,
                field,
                match one.get(mask) {
                    None => compare(payload, json!(value), negated),
                    Some(mask) => compare(json!({"&": [payload, mask]}), json!(value), negated),
                },
            ));
        }
        // Two plain comparisons are joined, and listed in the order of the header.
        if tests.iter().all(|(plain, ..)| *plain) {
            tests.sort_by_key(|&(_, field, _)| field);
        }
        self.list.extend(tests.into_iter().map(|(.., test)| test));
    }

    fn number(
        &mut self,
        protocol: &str,
        field: &str,
        name: &str,
        shown: impl Fn(u64) -> Value,
    ) -> Result<(), Diagnostic> {
        if let Some(number) = self.one.number(name)? {
            let negated = self.one.is_negated(name);
            self.equal(protocol, field, shown(number), negated);
        }
        Ok(())
    }

    fn address(
        &mut self,
        protocol: &str,
        source: bool,
        name: &str,
        mask: &str,
    ) -> Result<(), Diagnostic> {
        let one = self.one;
        let Some(value) = one.get(name) else {
            return Ok(());
        };
        let v6 = protocol == "ip6";
        let Some(value) = address::uniform(value, v6) else {
            return Err(one
                .rule
                .place
                .error(format!("nft refuses `{value}` as an address of {protocol}")));
        };
        let value = match one.get(mask) {
            None | Some("128") => json!(value),
            Some("32") if !v6 => json!(value),
            Some(bits) => {
                let bits: u32 = bits.parse().unwrap_or(32);
                let addr = if v6 {
                    let masked =
                        address::ip6(&value).unwrap_or_default() & address::prefix_mask(bits, 128);
                    std::net::Ipv6Addr::from(masked).to_string()
                } else {
                    let masked = network(&value, one.get(mask));
                    masked.split('/').next().unwrap_or_default().to_owned()
                };
                json!({"prefix": {"addr": addr, "len": bits}})
            }
        };
        let field = self.field(source, ["saddr", "daddr"]);
        self.equal(protocol, field, value, one.is_negated(name));
        Ok(())
    }

    fn ports(
        &mut self,
        protocol: &str,
        source: bool,
        low: &str,
        high: &str,
    ) -> Result<(), Diagnostic> {
        let one = self.one;
        let Some(first) = one.get(low).and_then(names::number) else {
            return Ok(());
        };
        let value = match one.get(high).and_then(names::number) {
            Some(last) if last < first => return Err(backwards(one)),
            Some(last) => json!({"range": [first, last]}),
            None => json!(first),
        };
        let field = self.field(source, ["sport", "dport"]);
        self.equal(protocol, field, value, one.is_negated(low));
        Ok(())
    }

    /// `<ip>` and `<ipv6>`.
    fn ip(&mut self, v6: bool) -> Result<(), Diagnostic> {
        let one = self.one;
        let (family, protocol_field) = if v6 {
            ("ip6", "nexthdr")
        } else {
            ("ip", "protocol")
        };
        let start = self.list.len();
        let negated = one.is_negated("protocol");
        if negated && !v6 {
            // libvirt negates the EtherType too, so that no frame can pass all tests.
            self.equal("ether", "type", json!("ip"), true);
        }
        self.address(family, true, "srcipaddr", "srcipmask")?;
        self.address(family, false, "dstipaddr", "dstipmask")?;
        let protocol = one.number("protocol")?;
        let name = protocol.map(|number| match number {
            0 => "ip".to_owned(),
            number => names::protocol_name(number as u8),
        });
        if let Some(name) = &name {
            self.equal(family, protocol_field, json!(name), negated);
        }
        let transport = name.filter(|_| !negated).unwrap_or_else(|| "th".into());
        self.ports(&transport, true, "srcportstart", "srcportend")?;
        self.ports(&transport, false, "dstportstart", "dstportend")?;
        if v6 {
            self.number("icmpv6", "type", "type", |kind| icmp_type(kind, true))?;
            self.number("icmpv6", "code", "code", |code| json!(code))?;
        } else {
            self.number("ip", "dscp", "dscp", |code| {
                json!(names::dscp_name(code as u8))
            })?;
        }
        if self.list.len() == start {
            self.equal("ether", "type", json!(family), false);
        }
        Ok(())
    }

    fn arp(&mut self) -> Result<(), Diagnostic> {
        let one = self.one;
        let start = self.list.len();
        self.number("arp", "htype", "hwtype", |kind| json!(kind))?;
        self.number("arp", "ptype", "protocoltype", ethertype)?;
        self.number("arp", "operation", "opcode", |op| match op {
            1 => json!("request"),
            2 => json!("reply"),
            3 => json!("rrequest"),
            4 => json!("rreply"),
            8 => json!("inrequest"),
            9 => json!("inreply"),
            10 => json!("nak"),
            op => json!(op),
        })?;
        // Once there was a mask, it stays: libvirt's slip.
        let mut mask = None;
        for (source, address, own_mask) in [
            (true, "arpsrcipaddr", "arpsrcipmask"),
            (false, "arpdstipaddr", "arpdstipmask"),
        ] {
            let Some(value) = one.get(address) else {
                continue;
            };
            if address::ip4(value).is_none() {
                let place = &one.rule.place;
                return Err(place.error(format!("nft refuses `{value}` as an IPv4 address")));
            }
            mask = one.get(own_mask).or(mask);
            let shown = network(value, mask);
            let value = match shown.split_once('/') {
                None => json!(shown),
                Some((addr, bits)) => {
                    let bits: u32 = bits.parse().unwrap_or(32);
                    json!({"prefix": {"addr": addr, "len": bits}})
                }
            };
            let field = self.field(source, ["saddr ip", "daddr ip"]);
            self.equal("arp", field, value, one.is_negated(address));
        }
        for (source, address) in [(true, "arpsrcmacaddr"), (false, "arpdstmacaddr")] {
            if let Some(value) = one.get(address) {
                let field = self.field(source, ["saddr ether", "daddr ether"]);
                self.equal("arp", field, json!(value), one.is_negated(address));
            }
        }
        self.gratuitous();
        if self.list.len() == start {
            self.equal("ether", "type", json!("arp"), false);
        }
        Ok(())
    }

    /// Octet by octet, for nft can't compare fields with each other.
    fn gratuitous(&mut self) {
        let one = self.one;
        if one.get("gratuitous") != Some("1") {
            return;
        }
        for mask in ["255.0.0.0", "0.255.0.0", "0.0.255.0", "0.0.0.255"] {
            let part =
                |field| json!({"&": [{"payload": {"protocol": "arp", "field": field}}, mask]});
            let both = json!({"concat": [part("saddr ip"), part("daddr ip")]});
            self.list.push(compare(
                both,
                json!("@same-ip-set"),
                one.is_negated("gratuitous"),
            ));
        }
    }

    fn rarp(&mut self) -> Result<(), Diagnostic> {
        let one = self.one;
        self.equal("ether", "type", json!(0x8035), false);
        let mut parts: Vec<Part> = Vec::new();
        // The second stands where no field begins: libvirt's slip.
        for (offset, name) in [(0, "hwtype"), (40, "protocoltype"), (48, "opcode")] {
            if let Some(number) = one.number(name)? {
                parts.push(Part::new(offset, 16, number.into(), one.is_negated(name)));
            }
        }
        for (offset, address, mask) in [
            (112, "arpsrcipaddr", "arpsrcipmask"),
            (192, "arpdstipaddr", "arpdstipmask"),
        ] {
            if let Some(value) = one.get(address) {
                let Some(value) = address::ip4(value) else {
                    let place = &one.rule.place;
                    return Err(place.error(format!("`{value}` is not an IPv4 address")));
                };
                let bits = one
                    .get(mask)
                    .and_then(|mask| mask.parse().ok())
                    .unwrap_or(32u32);
                // The whole masked address is compared with the first bits: only /32 is right.
                let value = value & address::prefix_mask(bits, 32);
                parts.push(Part::new(offset, bits, value, one.is_negated(address)));
            }
        }
        for (offset, address) in [(64, "arpsrcmacaddr"), (144, "arpdstmacaddr")] {
            if let Some(value) = one.get(address) {
                let Some(value) = address::mac(value) else {
                    let place = &one.rule.place;
                    return Err(place.error(format!("`{value}` is not a link-layer address")));
                };
                parts.push(Part::new(offset, 48, value, one.is_negated(address)));
            }
        }
        if parts.iter().any(|part| part.bits == 0) {
            return Err(one.rule.place.error("nft refuses to compare no bits"));
        }
        self.raw(parts);
        if one.get("gratuitous") == Some("1") {
            return Err(one.rule.place.error(
                "libvirt's nftables backend tests gratuitous in RARP so that nft refuses it",
            ));
        }
        Ok(())
    }

    /// Joins neighbouring payloads, as nft does, as long as they fit in a register.
    fn raw(&mut self, mut parts: Vec<Part>) {
        if parts.iter().all(|part| !part.negated && part.bits % 8 == 0) {
            parts.sort_by_key(|part| part.offset);
            let mut joined: Vec<Part> = Vec::new();
            for part in parts {
                match joined.last_mut() {
                    Some(last)
                        if last.offset + last.bits == part.offset
                            && last.bits + part.bits <= 128 =>
                    {
                        last.value = last.value << part.bits | part.value;
                        last.bits += part.bits;
                    }
                    _ => joined.push(part),
                }
            }
            parts = joined;
        }
        for part in parts.into_iter().filter(|part| part.bits > 0) {
            let payload =
                json!({"payload": {"base": "nh", "offset": part.offset, "len": part.bits}});
            let value = json!(format!("{:#x}", part.value));
            self.list.push(compare(payload, value, part.negated));
        }
    }

    fn stp(&mut self) -> Result<(), Diagnostic> {
        let one = self.one;
        self.equal("ether", "daddr", json!("01:80:c2:00:00:00"), false);
        let payload = |offset: u32, bits: u32| json!({"payload": {"base": "nh", "offset": offset, "len": bits}});
        let hex = |number: u128| json!(format!("{number:#x}"));
        for (offset, name) in [(48, "type"), (56, "flags")] {
            if let Some(number) = one.number(name)? {
                let test = compare(payload(offset, 8), hex(number.into()), one.is_negated(name));
                self.list.push(test);
            }
        }
        for (offset, bits, low, high) in STP_RANGES {
            let Some(text) = one.get(low) else { continue };
            let left = payload(offset, bits);
            let negated = one.is_negated(low);
            if bits == 48 {
                let Some(value) = address::mac(text) else {
                    continue;
                };
                // The address is its own mask: libvirt's slip.
                let left = match one.get(high) {
                    Some(_) => json!({"&": [left, format!("{value:#x}")]}),
                    None => left,
                };
                self.list.push(compare(left, hex(value), negated));
                continue;
            }
            let first: u128 = one.number(low)?.unwrap_or_default().into();
            let value = match one.number(high)? {
                Some(last) if u128::from(last) < first => return Err(backwards(one)),
                Some(last) => json!({"range": [hex(first), hex(last.into())]}),
                None => hex(first),
            };
            // The sign is the wrong way round: libvirt's slip.
            self.list.push(compare(left, value, !negated));
        }
        Ok(())
    }

    /// Tests of a packet.
    fn packet(&mut self, into: bool) -> Result<(), Diagnostic> {
        let one = self.one;
        let Some(kind) = one.kind() else {
            return Ok(());
        };
        let family = if kind.is_v6() { "ip6" } else { "ip" };
        refused(one, kind.is_v6())?;
        let protocol = kind.protocol();
        let is_icmp = matches!(kind, Kind::Icmp | Kind::Icmpv6);
        if is_icmp {
            let field = if kind.is_v6() { "nexthdr" } else { "protocol" };
            self.equal(family, field, json!(protocol), false);
        } else {
            self.equal("ether", "type", json!(family), false);
        }
        let has_ports = ["srcportstart", "dstportstart", "flags", "option"]
            .iter()
            .any(|name| one.get(name).is_some());
        if protocol != "all" && !is_icmp && !has_ports {
            self.list.push(compare(
                json!({"meta": {"key": "l4proto"}}),
                json!(protocol),
                false,
            ));
        }
        // Never turned: libvirt compares the source even of packets that go back.
        if let Some(mac) = one.get("srcmacaddr") {
            self.equal("ether", "saddr", json!(mac), one.is_negated("srcmacaddr"));
        }
        self.range(
            family,
            true,
            ["srcipaddr", "srcipmask", "srcipfrom", "srcipto"],
        )?;
        self.range(
            family,
            false,
            ["dstipaddr", "dstipmask", "dstipfrom", "dstipto"],
        )?;
        self.number(family, "dscp", "dscp", |code| {
            json!(names::dscp_name(code as u8))
        })?;
        if let Some((mask, flags)) = one.get("flags").and_then(|flags| flags.split_once('/')) {
            if mask.contains([',', 'A']) && mask != "ACK" || flags == "ALL" {
                return Err(one.rule.place.error(
                    "libvirt's nftables backend writes more than one TCP flag so that nft refuses it",
                ));
            }
            let name = |flag: &str| match flag {
                "NONE" => json!(0),
                flag => json!(flag.to_ascii_lowercase()),
            };
            let payload = json!({"payload": {"protocol": "tcp", "field": "flags"}});
            let left = json!({"&": [payload, name(mask)]});
            // Several flags become several elements: libvirt's slip.
            let set: Vec<Value> = flags.split(',').map(name).collect();
            self.list
                .push(compare(left, json!({"set": set}), one.is_negated("flags")));
        }
        if one.get("option").is_some() {
            return Err(one
                .rule
                .place
                .error("libvirt's nftables backend writes a TCP option so that nft refuses it"));
        }
        // Destination first, as libvirt writes them.
        self.ports(protocol, false, "dstportstart", "dstportend")?;
        self.ports(protocol, true, "srcportstart", "srcportend")?;
        if is_icmp {
            let v6 = kind.is_v6();
            let name = if v6 { "icmpv6" } else { "icmp" };
            self.number(name, "type", "type", |kind| icmp_type(kind, v6))?;
            if one.get("type").is_some() {
                self.number(name, "code", "code", |code| json!(code))?;
            }
        }
        // A set of addresses is complained about, and the rule installed without.
        let counted = one.get("connlimit-above").is_some() && !into;
        if counted && let Some(limit) = one.number("connlimit-above")? {
            self.list
                .push(json!({"ct count": {"val": limit, "inv": true}}));
        }
        if needs_state(one) {
            self.state(counted || is_icmp);
        }
        Ok(())
    }

    fn range(&mut self, family: &str, source: bool, names: [&str; 4]) -> Result<(), Diagnostic> {
        let one = self.one;
        let [address, mask, from, to] = names;
        if one.get(address).is_some() {
            return self.address(family, source, address, mask);
        }
        if let Some(first) = one.get(from) {
            let parse = if family == "ip6" {
                address::ip6
            } else {
                address::ip4
            };
            let value = match one.get(to) {
                Some(last) if parse(last) < parse(first) => return Err(backwards(one)),
                Some(last) => json!({"range": [first, last]}),
                None => json!(first),
            };
            let field = self.field(source, ["saddr", "daddr"]);
            self.equal(family, field, value, one.is_negated(from));
        }
        Ok(())
    }

    fn state(&mut self, without_direction: bool) {
        if !without_direction {
            let direction = if self.turned { "reply" } else { "original" };
            self.list.push(compare(
                json!({"ct": {"key": "direction"}}),
                json!(direction),
                false,
            ));
        }
        let written = self
            .one
            .get("state")
            .filter(|states| !states.split(',').any(|state| state == "NONE"));
        let states = match written {
            Some(states) => states.to_ascii_lowercase(),
            None if self.turned => "established".into(),
            None => "established,new".into(),
        };
        // As nft lists them.
        let order = ["invalid", "established", "related", "new"];
        let mut states: Vec<&str> = states.split(',').collect();
        states.sort_by_key(|state| order.iter().position(|known| known == state));
        self.list.push(json!({"match": {
            "op": "in", "left": {"ct": {"key": "state"}}, "right": states}}));
    }
}

/// Bits of a header, compared with a value.
struct Part {
    offset: u32,
    bits: u32,
    value: u128,
    negated: bool,
}

impl Part {
    fn new(offset: u32, bits: u32, value: u128, negated: bool) -> Self {
        Self {
            offset,
            bits,
            value,
            negated,
        }
    }
}

fn ethertype(number: u64) -> Value {
    match number {
        0x0800 => json!("ip"),
        0x0806 => json!("arp"),
        0x86dd => json!("ip6"),
        0x8100 => json!("8021q"),
        number => json!(number),
    }
}

fn icmp_type(kind: u64, v6: bool) -> Value {
    match u8::try_from(kind)
        .ok()
        .and_then(|kind| names::icmp_name(kind, v6))
    {
        Some(name) => json!(name),
        None => json!(kind),
    }
}
