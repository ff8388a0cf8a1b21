//! Filters as libvirt installs them with ebtables, iptables and ip6tables.
//!
//! Rules are written as libvirt writes them and read again as the tools would: what libvirt's text
//! means to a tool by mistake, it means here.

use super::document::{Act, Sense};
use super::element::Kind;
use super::instance::{Instance, Learning};
use crate::diagnostic::Diagnostic;
use crate::ebtables;
use crate::iptables::{self, Version};
use crate::model::{Chain, End, Engine, Family, Origin, Rule, Ruleset, Table};
use crate::names;

/// The bridge group address, where spanning-tree frames go.
const BRIDGE_GROUP: &str = "01:80:c2:00:00:00";

/// The two chains of a port, by the host's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What the guest sends.
    I,
    /// What goes to the guest.
    O,
}

impl Way {
    fn letter(self) -> &'static str {
        match self {
            Self::I => "I",
            Self::O => "O",
        }
    }

    fn sense(self) -> Sense {
        match self {
            Self::I => Sense::Out,
            Self::O => Sense::In,
        }
    }
}

/// Compiles rules in their final order.
pub(super) fn compile(port: &str, instances: &[Instance<'_>]) -> Result<Ruleset, Diagnostic> {
    let mut ruleset = Ruleset::default();
    let ethernet: Vec<&Instance<'_>> = instances.iter().filter(|one| one.is_ethernet()).collect();
    if !ethernet.is_empty() {
        ruleset.tables.push(bridge(port, &ethernet)?);
    }
    for version in [Version::V4, Version::V6] {
        let own: Vec<&Instance<'_>> = instances
            .iter()
            .filter(|one| {
                !one.is_ethernet()
                    && one.kind().is_some_and(Kind::is_v6) == (version == Version::V6)
            })
            .collect();
        if !own.is_empty() {
            ruleset.tables.push(packets(version, port, &own)?);
        }
    }
    Ok(ruleset)
}

/// The rules while an address is learned.
pub(super) fn learn(
    port: &str,
    mac: &str,
    learning: Learning,
    servers: &[String],
) -> Result<Ruleset, String> {
    let dhcp = |to: &str, server: &str| {
        let server = match server {
            "" => String::new(),
            server => format!("--ip-src {server} "),
        };
        format!("-p IPv4 -d {to} {server}--ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT")
    };
    let (mut out, mut into) = (Vec::new(), Vec::new());
    match learning {
        Learning::Any => {
            out.push(format!("! -s {mac} -j DROP"));
            out.push("-p IPv4 -j ACCEPT".to_owned());
            out.push("-p ARP -j ACCEPT".to_owned());
        }
        Learning::Dhcp => {
            out.push(format!(
                "-p IPv4 -s {mac} --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT"
            ));
            let none = [String::new()];
            let servers = if servers.is_empty() { &none } else { servers };
            for server in servers {
                into.extend([mac, "Broadcast"].map(|to| dhcp(to, server)));
            }
            into.push("-j DROP".to_owned());
        }
    }
    out.push("-j DROP".to_owned());
    let mut table = bridge_table(
        port,
        &[Way::I, Way::O].map(|way| way == Way::I || !into.is_empty()),
    );
    for (way, rules) in [(Way::I, out), (Way::O, into)] {
        for text in rules {
            let rule = ebtables::read_rule("libvirt", &text).map_err(|error| error.text)?;
            push(&mut table, &root(way, port), rule, Origin::Frame);
        }
    }
    Ok(table_only(table))
}

fn table_only(table: Table) -> Ruleset {
    Ruleset {
        tables: vec![table],
    }
}

fn root(way: Way, port: &str) -> String {
    format!("libvirt-{}-{port}", way.letter())
}

/// The table with its hooks and root chains.
fn bridge_table(port: &str, roots: &[bool; 2]) -> Table {
    let mut table = Table::new(Engine::Ebtables, Family::Bridge, "nat");
    for name in ["PREROUTING", "OUTPUT", "POSTROUTING"] {
        let mut chain = Chain::new(name, End::Accept);
        chain.base = ebtables::base("nat", name);
        table.add(chain);
    }
    let hooks = [(Way::I, "PREROUTING", "-i"), (Way::O, "POSTROUTING", "-o")];
    for ((way, hook, option), &there) in hooks.into_iter().zip(roots) {
        if !there {
            continue;
        }
        let name = root(way, port);
        let jump = format!("{option} {port} -j {name}");
        if let Ok(rule) = ebtables::read_rule("libvirt", &jump) {
            push(&mut table, hook, rule, Origin::Frame);
        }
        // libvirt never sets the policy of its chains: what comes to their end is accepted.
        table.add(Chain::new(&name, End::Accept));
    }
    table
}

fn push(table: &mut Table, chain: &str, mut rule: Rule, origin: Origin) {
    rule.origin = origin;
    if let Some(chain) = table.chain_mut(chain) {
        chain.rules.push(rule);
    }
}

/// A sub-chain of one direction, with the priority of its jump.
struct Sub<'a> {
    chain: &'a str,
    priority: i32,
    way: Way,
}

fn bridge(port: &str, instances: &[&Instance<'_>]) -> Result<Table, Diagnostic> {
    let ways = [Way::I, Way::O];
    let roots = ways.map(|way| instances.iter().any(|one| one.goes(way.sense())));
    let mut table = bridge_table(port, &roots);
    let mut subs: Vec<Sub<'_>> = Vec::new();
    for way in ways {
        let own = instances.iter().filter(|one| one.goes(way.sense()));
        for one in own.filter(|one| one.chain != "root") {
            let (chain, priority) = (one.chain, one.chain_priority);
            let is_same = |sub: &&mut Sub<'_>| sub.chain == chain && sub.way == way;
            match subs.iter_mut().find(is_same) {
                // Of several filters with the chain the last one's priority counts.
                Some(sub) => sub.priority = priority,
                None => subs.push(Sub {
                    chain,
                    priority,
                    way,
                }),
            }
        }
    }
    subs.sort_by_key(|sub| sub.priority);
    let mut next = 0;
    for one in instances {
        while let Some(sub) = subs.get(next).filter(|sub| sub.priority <= one.priority) {
            enter(&mut table, port, sub);
            next += 1;
        }
        for way in ways {
            if !one.goes(way.sense()) {
                continue;
            }
            let chain = if one.chain == "root" {
                root(way, port)
            } else {
                format!("{}-{port}-{}", way.letter(), one.chain)
            };
            let place = &one.rule.place;
            if table.chain(&chain).is_none() {
                return Err(place.error(format!(
                    "libvirt can't install this rule of priority {}: another filter gives the chain \
                     `{}` a higher priority, and the chain is not there yet",
                    one.priority, one.chain
                )));
            }
            refused(one)?;
            // What is for both directions is written for the one towards the guest.
            let turned = way == Way::I && one.rule.sense == Sense::InOut;
            let text = frame_rule(one, turned)?;
            let rule = ebtables::read_rule("libvirt", &text).map_err(|error| {
                place.error(format!("ebtables refuses `{text}`: {}", error.text))
            })?;
            push(&mut table, &chain, rule, Origin::Filter(one.origin.clone()));
        }
    }
    for sub in &subs[next..] {
        enter(&mut table, port, sub);
    }
    Ok(table)
}

/// Makes a sub-chain and the jump to it.
fn enter(table: &mut Table, port: &str, sub: &Sub<'_>) {
    let test = match sub.chain {
        chain if chain.starts_with("mac") => "",
        chain if chain.starts_with("stp") => "-d BGA ",
        chain if chain.starts_with("vlan") => "-p 802_1Q ",
        chain if chain.starts_with("arp") => "-p ARP ",
        chain if chain.starts_with("rarp") => "-p RARP ",
        chain if chain.starts_with("ipv4") => "-p IPv4 ",
        _ => "-p IPv6 ",
    };
    let name = format!("{}-{port}-{}", sub.way.letter(), sub.chain);
    if let Ok(rule) = ebtables::read_rule("libvirt", &format!("{test}-j {name}")) {
        push(table, &root(sub.way, port), rule, Origin::Frame);
    }
    table.add(Chain::new(&name, End::Accept));
}

/// What the kernel or ebtables refuse though libvirt asks for it.
fn refused(one: &Instance<'_>) -> Result<(), Diagnostic> {
    let fail = |text: &str| Err(one.rule.place.error(text));
    let has = |names: &[&str]| names.iter().any(|name| one.get(name).is_some());
    for (address, mask) in [("srcmacaddr", "srcmacmask"), ("dstmacaddr", "dstmacmask")] {
        if one.get(address).is_some() && one.get(mask) == Some("00:00:00:00:00:00") {
            return fail("ebtables refuses a link-layer mask without bits");
        }
    }
    let protocol = match one.kind() {
        Some(Kind::Vlan) if one.number("vlanid")? == Some(4095) => {
            return fail("ebtables refuses VLAN 4095");
        }
        Some(Kind::Ip | Kind::Ipv6) => one.number("protocol")?,
        _ => return Ok(()),
    };
    let negated = one.is_negated("protocol");
    if has(&["srcportstart", "dstportstart"])
        && (negated || !matches!(protocol, Some(6 | 17 | 33 | 132 | 136)))
    {
        return fail("the kernel tests ports only of a protocol that has some, not of all others");
    }
    if has(&["type", "typeend", "code", "codeend"])
        && one.kind() == Some(Kind::Ipv6)
        && (negated || protocol != Some(58))
    {
        return fail("the kernel tests ICMPv6 types only of protocol icmpv6");
    }
    Ok(())
}

/// Options of a rule, as they are collected.
struct Options<'i> {
    one: &'i Instance<'i>,
    words: Vec<String>,
}

impl Options<'_> {
    fn add(&mut self, option: &str, value: &str, negated: bool) {
        if negated {
            self.words.push("!".into());
        }
        self.words.push(option.into());
        self.words.push(value.into());
    }

    /// An attribute as it is.
    fn plain(&mut self, option: &str, name: &str) {
        if let Some(value) = self.one.get(name) {
            let value = value.to_owned();
            self.add(option, &value, self.one.is_negated(name));
        }
    }

    /// An attribute that is a number, shown by a name or in hexadecimal.
    fn number(
        &mut self,
        option: &str,
        name: &str,
        shown: impl Fn(u64) -> String,
    ) -> Result<(), Diagnostic> {
        if let Some(number) = self.one.number(name)? {
            self.add(option, &shown(number), self.one.is_negated(name));
        }
        Ok(())
    }

    /// A number, or a range to the second attribute.
    fn range(&mut self, option: &str, low: &str, high: &str) {
        if let Some(low_value) = self.one.get(low) {
            let value = match self.one.get(high) {
                Some(high) if high != low_value => format!("{low_value}:{high}"),
                _ => low_value.to_owned(),
            };
            self.add(option, &value, self.one.is_negated(low));
        }
    }

    /// An address with its mask.
    fn address(&mut self, option: &str, address: &str, mask: &str) {
        if let Some(value) = self.one.get(address) {
            let value = match self.one.get(mask) {
                Some(mask) => format!("{value}/{mask}"),
                None => value.to_owned(),
            };
            self.add(option, &value, self.one.is_negated(address));
        }
    }
}

/// Source and destination of an attribute's name, changed over if the rule is turned.
fn pair<'n>(turned: bool, source: &'n str, destination: &'n str) -> (&'n str, &'n str) {
    if turned {
        (destination, source)
    } else {
        (source, destination)
    }
}

/// An ebtables rule.
fn frame_rule(one: &Instance<'_>, turned: bool) -> Result<String, Diagnostic> {
    let mut options = Options {
        one,
        words: Vec::new(),
    };
    let (source, destination) = pair(turned, "-s", "-d");
    match one.kind() {
        Some(Kind::Mac) => {
            options.number("-p", "protocolid", |id| names::ethertype_name(id as u16))?;
        }
        Some(Kind::Vlan) => options.add("-p", "802_1Q", false),
        Some(Kind::Arp) => options.add("-p", "ARP", false),
        Some(Kind::Rarp) => options.add("-p", "RARP", false),
        Some(Kind::Ip) => options.add("-p", "IPv4", false),
        Some(Kind::Ipv6) => options.add("-p", "IPv6", false),
        _ => {}
    }
    // As ebtables prints it: source before destination.
    let ether = [
        (source, "srcmacaddr", "srcmacmask"),
        (destination, "dstmacaddr", "dstmacmask"),
    ];
    for wanted in ["-s", "-d"] {
        for (option, address, mask) in ether {
            if option == wanted {
                link_address(&mut options, option, address, mask);
            }
        }
    }
    match one.kind() {
        Some(Kind::Vlan) => {
            options.plain("--vlan-id", "vlanid");
            // Decimal, as libvirt writes it; ebtables reads hexadecimal.
            options.plain("--vlan-encap", "encap-protocol");
        }
        Some(Kind::Stp) => {
            if turned && one.get("srcmacaddr").is_some() {
                return Err(one
                    .rule
                    .place
                    .error("libvirt refuses <stp> with srcmacaddr in a rule for both directions"));
            }
            options.add("-d", BRIDGE_GROUP, false);
            stp(&mut options);
        }
        Some(Kind::Arp | Kind::Rarp) => arp(&mut options, turned)?,
        Some(Kind::Ip) => {
            let (source, destination) = pair(turned, "--ip-src", "--ip-dst");
            options.address(source, "srcipaddr", "srcipmask");
            options.address(destination, "dstipaddr", "dstipmask");
            // The code point becomes the whole byte.
            options.number("--ip-tos", "dscp", |tos| format!("{tos:#x}"))?;
            options.number("--ip-proto", "protocol", |n| names::protocol_name(n as u8))?;
            let (source, destination) = pair(turned, "--ip-sport", "--ip-dport");
            options.range(source, "srcportstart", "srcportend");
            options.range(destination, "dstportstart", "dstportend");
        }
        Some(Kind::Ipv6) => {
            let (source, destination) = pair(turned, "--ip6-src", "--ip6-dst");
            options.address(source, "srcipaddr", "srcipmask");
            options.address(destination, "dstipaddr", "dstipmask");
            options.number("--ip6-proto", "protocol", |n| names::protocol_name(n as u8))?;
            let (source, destination) = pair(turned, "--ip6-sport", "--ip6-dport");
            options.range(source, "srcportstart", "srcportend");
            options.range(destination, "dstportstart", "dstportend");
            icmp6(&mut options);
        }
        _ => {}
    }
    let target = match one.rule.act {
        Act::Accept => "ACCEPT",
        Act::Drop | Act::Reject => "DROP",
        Act::Return => "RETURN",
        Act::Continue => "CONTINUE",
    };
    options.add("-j", target, false);
    Ok(options.words.join(" "))
}

fn link_address(options: &mut Options<'_>, option: &str, address: &str, mask: &str) {
    if let Some(value) = options.one.get(address) {
        let mut value = value.to_owned();
        if let Some(mask) = options.one.get(mask) {
            value = format!("{value}/{mask}");
        }
        if value == "ff:ff:ff:ff:ff:ff" {
            value = "Broadcast".into();
        }
        options.add(option, &value, options.one.is_negated(address));
    }
}

fn arp(options: &mut Options<'_>, turned: bool) -> Result<(), Diagnostic> {
    let one = options.one;
    options.number("--arp-op", "opcode", |op| {
        names::arp_operation_name(op as u16)
    })?;
    options.plain("--arp-htype", "hwtype");
    options.number("--arp-ptype", "protocoltype", |kind| format!("{kind:#x}"))?;
    let (source, destination) = pair(turned, "--arp-ip-src", "--arp-ip-dst");
    // Once there was a mask, it stays: libvirt's slip.
    let mut mask = None;
    for (option, address, own_mask) in [
        (source, "arpsrcipaddr", "arpsrcipmask"),
        (destination, "arpdstipaddr", "arpdstipmask"),
    ] {
        if let Some(value) = one.get(address) {
            mask = one.get(own_mask).or(mask);
            options.add(option, &network(value, mask), one.is_negated(address));
        }
    }
    let (source, destination) = pair(turned, "--arp-mac-src", "--arp-mac-dst");
    options.plain(source, "arpsrcmacaddr");
    options.plain(destination, "arpdstmacaddr");
    if one.get("gratuitous") == Some("1") {
        if one.is_negated("gratuitous") {
            options.words.push("!".into());
        }
        options.words.push("--arp-gratuitous".into());
    }
    Ok(())
}

/// An address with a mask as ebtables prints it: bits that do not count are zero.
pub(super) fn network(address: &str, mask: Option<&str>) -> String {
    let bits = mask.and_then(|mask| mask.parse::<u32>().ok()).unwrap_or(32);
    let masked = crate::address::ip4(address)
        .map(|value| value & crate::address::prefix_mask(bits, 32))
        .and_then(|value| u32::try_from(value).ok());
    match masked {
        Some(value) if bits < 32 => format!("{}/{bits}", std::net::Ipv4Addr::from(value)),
        _ => address.to_owned(),
    }
}

fn stp(options: &mut Options<'_>) {
    options.plain("--stp-type", "type");
    options.plain("--stp-flags", "flags");
    options.range("--stp-root-prio", "root-priority", "root-priority-hi");
    options.address("--stp-root-addr", "root-address", "root-address-mask");
    options.range("--stp-root-cost", "root-cost", "root-cost-hi");
    options.range("--stp-sender-prio", "sender-priority", "sender-priority-hi");
    options.address("--stp-sender-addr", "sender-address", "sender-address-mask");
    options.range("--stp-port", "port", "port-hi");
    options.range("--stp-msg-age", "age", "age-hi");
    options.range("--stp-max-age", "max-age", "max-age-hi");
    options.range("--stp-hello-time", "hello-time", "hello-time-hi");
    options.range("--stp-forward-delay", "forward-delay", "forward-delay-hi");
}

fn icmp6(options: &mut Options<'_>) {
    let one = options.one;
    let names = ["type", "typeend", "code", "codeend"];
    if names.iter().all(|name| one.get(name).is_none()) {
        return;
    }
    let range = |low: &str, high: &str| match (one.get(low), one.get(high)) {
        (Some(low), Some(high)) => format!("{low}:{high}"),
        (Some(low), None) => format!("{low}:{low}"),
        (None, Some(high)) => format!("0:{high}"),
        (None, None) => "0:255".to_owned(),
    };
    let value = format!("{}/{}", range("type", "typeend"), range("code", "codeend"));
    options.add("--ip6-icmp-type", &value, one.is_negated("type"));
}

/// The filter table of IPv4 or IPv6.
fn packets(version: Version, port: &str, instances: &[&Instance<'_>]) -> Result<Table, Diagnostic> {
    let (engine, family) = match version {
        Version::V4 => (Engine::Iptables, Family::Ip),
        Version::V6 => (Engine::Ip6tables, Family::Ip6),
    };
    let mut table = Table::new(engine, family, "filter");
    for name in ["INPUT", "FORWARD", "OUTPUT"] {
        let mut chain = Chain::new(name, End::Accept);
        chain.base = iptables::base("filter", name);
        table.add(chain);
    }
    for name in [
        "libvirt-host-in",
        "libvirt-in",
        "libvirt-in-post",
        "libvirt-out",
    ] {
        table.add(Chain::new(name, End::Return));
    }
    for prefix in ["FI", "FO", "HI"] {
        table.add(Chain::new(&format!("{prefix}-{port}"), End::Return));
    }
    let bridged = format!("-m physdev --physdev-out {port} --physdev-is-bridged -g FO-{port}");
    for (chain, text) in [
        ("INPUT", "-j libvirt-host-in".to_owned()),
        ("FORWARD", "-j libvirt-in".to_owned()),
        ("FORWARD", "-j libvirt-out".to_owned()),
        ("FORWARD", "-j libvirt-in-post".to_owned()),
        (
            "libvirt-host-in",
            format!("-m physdev --physdev-in {port} -g HI-{port}"),
        ),
        (
            "libvirt-in",
            format!("-m physdev --physdev-in {port} -g FI-{port}"),
        ),
        (
            "libvirt-in-post",
            format!("-m physdev --physdev-in {port} -j ACCEPT"),
        ),
        ("libvirt-out", bridged),
    ] {
        if let Ok(rule) = iptables::read_rule(version, "libvirt", &text) {
            push(&mut table, chain, rule, Origin::Frame);
        }
    }
    for one in instances {
        for (prefix, turned) in [
            ("FI", one.rule.sense != Sense::Out),
            ("FO", one.rule.sense == Sense::Out),
            ("HI", one.rule.sense != Sense::Out),
        ] {
            let Some(text) = packet_rule(version, one, prefix, turned)? else {
                continue;
            };
            let rule = iptables::read_rule(version, "libvirt", &text).map_err(|error| {
                let place = &one.rule.place;
                place.error(format!("iptables refuses `{text}`: {}", error.text))
            })?;
            let origin = Origin::Filter(one.origin.clone());
            push(&mut table, &format!("{prefix}-{port}"), rule, origin);
        }
    }
    Ok(table)
}

/// The rule for one of the three chains, if it has one; `turned` where packets go against the rule's
/// direction.
fn packet_rule(
    version: Version,
    one: &Instance<'_>,
    prefix: &str,
    turned: bool,
) -> Result<Option<String>, Diagnostic> {
    let states = one.get("state");
    // Explicit states are for the named direction only.
    if states.is_some() {
        let own = match one.rule.sense {
            Sense::In => prefix == "FO",
            Sense::Out => prefix != "FO",
            Sense::InOut => true,
        };
        if !own {
            return Ok(None);
        }
    }
    let has_type =
        matches!(one.kind(), Some(Kind::Icmp | Kind::Icmpv6)) && one.get("type").is_some();
    if has_type && (turned || one.rule.sense == Sense::InOut) {
        return Ok(None);
    }
    if one.get("connlimit-above").is_some() && turned {
        return Ok(None);
    }
    let mut options = Options {
        one,
        words: Vec::new(),
    };
    let (source, destination) = pair(turned, "-s", "-d");
    let suffix = if version == Version::V6 { "128" } else { "32" };
    let all = [
        (source, "srcipaddr", "srcipmask"),
        (destination, "dstipaddr", "dstipmask"),
    ];
    let mut empty = true;
    for wanted in ["-s", "-d"] {
        for (option, address, mask) in all {
            if let Some(value) = one.get(address).filter(|_| option == wanted) {
                let bits = one.get(mask).unwrap_or(suffix);
                empty = false;
                if bits != "0" {
                    let value = format!("{value}/{bits}");
                    options.add(option, &value, one.is_negated(address));
                } else if one.is_negated(address) {
                    let place = &one.rule.place;
                    return Err(place.error("iptables refuses a test for no address at all"));
                }
            }
        }
    }
    let protocol = one.kind().map_or("all", Kind::protocol);
    if protocol != "all" {
        options.add("-p", protocol, false);
    }
    let start = options.words.len();
    let mac_left_out = turned && one.get("srcmacaddr").is_some();
    modules(&mut options, protocol, turned)?;
    empty &= options.words.len() == start;
    if mac_left_out && empty {
        return Ok(None);
    }
    let limit = one.get("connlimit-above").map(str::to_owned);
    // A limit takes the place of states where the rule accepts.
    if (limit.is_none() || one.rule.act != Act::Accept)
        && let Some((states, direction)) = state(one, turned)
    {
        options
            .words
            .push(format!("-m conntrack --ctstate {states}"));
        if let Some(direction) = direction.filter(|_| !has_type) {
            options
                .words
                .push(format!("-m conntrack --ctdir {direction}"));
        }
    }
    set(&mut options, turned)?;
    if let Some(limit) = limit {
        options.words.push("-m connlimit".into());
        options.add(
            "--connlimit-above",
            &limit,
            one.is_negated("connlimit-above"),
        );
        options
            .words
            .push(format!("--connlimit-mask {suffix} --connlimit-saddr"));
    }
    if one.is_variable("comment") {
        let place = &one.rule.place;
        return Err(place.error("libvirt can't fill a variable into a comment"));
    }
    if let Some(comment) = one.get("comment") {
        options.words.push(format!(
            "-m comment --comment \"{}\"",
            comment.replace(['"', '\\'], "'")
        ));
    }
    options.words.push(
        match (one.rule.act, prefix) {
            (Act::Accept, "FO") => "-j ACCEPT",
            (Act::Accept | Act::Return, _) => "-j RETURN",
            (Act::Drop, _) => "-j DROP",
            (Act::Reject, _) if version == Version::V6 => {
                "-j REJECT --reject-with icmp6-port-unreachable"
            }
            (Act::Reject, _) => "-j REJECT --reject-with icmp-port-unreachable",
            (Act::Continue, _) => {
                return Err(one
                    .rule
                    .place
                    .error("iptables has no target CONTINUE: libvirt fails to install this rule"));
            }
        }
        .to_owned(),
    );
    Ok(Some(options.words.join(" ")))
}

/// What modules of iptables test.
fn modules(options: &mut Options<'_>, protocol: &str, turned: bool) -> Result<(), Diagnostic> {
    let one = options.one;
    if !turned && one.get("srcmacaddr").is_some() {
        options.words.push("-m mac".into());
        options.plain("--mac-source", "srcmacaddr");
    }
    let (source, destination) = pair(turned, "--src-range", "--dst-range");
    for (option, address, from, to) in [
        (source, "srcipaddr", "srcipfrom", "srcipto"),
        (destination, "dstipaddr", "dstipfrom", "dstipto"),
    ] {
        if let Some(first) = one.get(from).filter(|_| one.get(address).is_none()) {
            let last = one.get(to).unwrap_or(first);
            options.words.push("-m iprange".into());
            options.add(option, &format!("{first}-{last}"), one.is_negated(from));
        }
    }
    if one.get("dscp").is_some() {
        options.words.push("-m dscp".into());
        options.number("--dscp", "dscp", |code| format!("{code:#04x}"))?;
    }
    let start = options.words.len();
    let (source, destination) = pair(turned, "--sport", "--dport");
    for wanted in ["--sport", "--dport"] {
        for (option, low, high) in [
            (source, "srcportstart", "srcportend"),
            (destination, "dstportstart", "dstportend"),
        ] {
            if option == wanted {
                options.range(option, low, high);
            }
        }
    }
    if let Some((mask, flags)) = one.get("flags").and_then(|flags| flags.split_once('/')) {
        let value = format!("{mask} {flags}");
        let negated = one.is_negated("flags");
        // What always holds is not shown.
        if value != "NONE NONE" || negated {
            options.add("--tcp-flags", &value, negated);
        }
    }
    if one.number("option")? == Some(0) {
        let place = &one.rule.place;
        return Err(place.error("iptables refuses TCP option 0"));
    }
    options.plain("--tcp-option", "option");
    if let Some(kind) = one.get("type").filter(|_| protocol.ends_with("icmp")) {
        let value = match one.get("code") {
            Some(code) => format!("{kind}/{code}"),
            None => kind.to_owned(),
        };
        let option = if protocol == "icmp" {
            "--icmp-type"
        } else {
            "--icmpv6-type"
        };
        options.add(option, &value, one.is_negated("type"));
    }
    if options.words.len() > start {
        let module = if protocol == "ipv6-icmp" {
            "icmp6"
        } else {
            protocol
        };
        options.words.insert(start, format!("-m {module}"));
    }
    Ok(())
}

/// The test for a set of addresses, whose flags change over with the rule. Its sign is lost, and where
/// libvirt loses more, so is the test.
fn set(options: &mut Options<'_>, turned: bool) -> Result<(), Diagnostic> {
    let one = options.one;
    let is_all = matches!(one.kind(), Some(Kind::All | Kind::AllIpv6));
    match (one.get("ipset"), one.get("ipsetflags")) {
        (Some(set), Some(flags)) if is_all => {
            let flag = |flag: &str| {
                if (flag == "src") == turned {
                    "dst"
                } else {
                    "src"
                }
            };
            let flags: Vec<&str> = flags.split(',').map(flag).collect();
            let text = format!("-m set --match-set {set} {}", flags.join(","));
            options.words.push(text);
        }
        (Some(_), None) if !is_all => {
            let place = &one.rule.place;
            return Err(place.error(
                "libvirt fails to install ipset without ipsetflags on an element other than <all>",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// States and direction that a rule gets.
fn state(one: &Instance<'_>, turned: bool) -> Option<(String, Option<&'static str>)> {
    if let Some(states) = one.get("state") {
        let is_none = states.split(',').any(|state| state == "NONE");
        return (!is_none).then(|| (states.to_owned(), None));
    }
    if one.rule.act != Act::Accept || !one.rule.state_match || one.rule.sense == Sense::InOut {
        return None;
    }
    Some(if turned {
        ("ESTABLISHED".into(), Some("REPLY"))
    } else {
        ("NEW,ESTABLISHED".into(), Some("ORIGINAL"))
    })
}
