//! Filters of libvirt for tests, made from a number: every element and attribute, valid and not.

use crate::frames::Maker;

/// The guest's link-layer address.
pub const MAC: &str = "02:00:73:b6:53:c8";

/// What a filter may hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// For libvirt's nftables backend: no rules that test connections, which the kernel may lack on a bridge,
    /// and less of what nft is bound to refuse.
    pub nftables: bool,
    /// No sets of addresses: there are none to name.
    pub no_sets: bool,
}

/// A filter with those that it refers to, and the values of its variables.
#[derive(Debug)]
pub struct Case {
    /// Documents, those that are referred to first.
    pub filters: Vec<String>,
    /// Name of the outermost.
    pub name: String,
    /// Names and values.
    pub parameters: Vec<(&'static str, String)>,
}

impl Case {
    /// The document that binds it to a port.
    pub fn binding(&self, port: &str) -> String {
        format!(
            "<filterbinding><owner><name>guest</name>\
             <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\
             <portdev name='{port}'/><mac address='{MAC}'/>\
             <filterref filter='{}'>{}</filterref></filterbinding>",
            self.name,
            parameters(&self.parameters)
        )
    }
}

fn parameters(list: &[(&str, String)]) -> String {
    list.iter()
        .map(|(name, value)| format!("<parameter name='{name}' value='{value}'/>"))
        .collect()
}

/// Kinds of values.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    Mac,
    MacMask,
    Ip,
    IpMask,
    Ip6,
    Ip6Mask,
    /// A number up to this.
    Number(u32),
    Ethernet,
    Opcode,
    /// Only with a protocol that has ports.
    Port,
    Protocol,
    Protocol6,
    Boolean,
    Dscp,
    Limit,
    State,
    Set,
    SetFlags,
    Flags,
    Text,
}

use Value::*;

const ETHER: &[(&str, Value)] = &[
    ("srcmacaddr", Mac),
    ("srcmacmask", MacMask),
    ("dstmacaddr", Mac),
    ("dstmacmask", MacMask),
];
const VLAN: &[(&str, Value)] = &[("vlanid", Number(4095)), ("encap-protocol", Ethernet)];
const STP: &[(&str, Value)] = &[
    ("srcmacaddr", Mac),
    ("srcmacmask", MacMask),
    ("type", Number(255)),
    ("flags", Number(255)),
    ("root-priority", Number(65535)),
    ("root-priority-hi", Number(65535)),
    ("root-address", Mac),
    ("root-address-mask", MacMask),
    ("root-cost", Number(u32::MAX)),
    ("root-cost-hi", Number(u32::MAX)),
    ("sender-priority", Number(65535)),
    ("sender-priority-hi", Number(65535)),
    ("sender-address", Mac),
    ("sender-address-mask", MacMask),
    ("port", Number(65535)),
    ("port-hi", Number(65535)),
    ("age", Number(65535)),
    ("age-hi", Number(65535)),
    ("max-age", Number(65535)),
    ("max-age-hi", Number(65535)),
    ("hello-time", Number(65535)),
    ("hello-time-hi", Number(65535)),
    ("forward-delay", Number(65535)),
    ("forward-delay-hi", Number(65535)),
];
const ARP: &[(&str, Value)] = &[
    ("hwtype", Number(65535)),
    ("protocoltype", Number(65535)),
    ("opcode", Opcode),
    ("arpsrcmacaddr", Mac),
    ("arpdstmacaddr", Mac),
    ("arpsrcipaddr", Ip),
    ("arpsrcipmask", IpMask),
    ("arpdstipaddr", Ip),
    ("arpdstipmask", IpMask),
    ("gratuitous", Boolean),
];
const ADDRESSES: &[(&str, Value)] = &[
    ("srcipaddr", Ip),
    ("srcipmask", IpMask),
    ("dstipaddr", Ip),
    ("dstipmask", IpMask),
];
const ADDRESSES6: &[(&str, Value)] = &[
    ("srcipaddr", Ip6),
    ("srcipmask", Ip6Mask),
    ("dstipaddr", Ip6),
    ("dstipmask", Ip6Mask),
];
const PORTS: &[(&str, Value)] = &[
    ("srcportstart", Port),
    ("srcportend", Port),
    ("dstportstart", Port),
    ("dstportend", Port),
];
const PACKET: &[(&str, Value)] = &[
    ("srcmacaddr", Mac),
    ("dscp", Dscp),
    ("connlimit-above", Limit),
    ("state", State),
    ("ipset", Set),
    ("ipsetflags", SetFlags),
];
const RANGES: &[(&str, Value)] = &[
    ("srcipfrom", Ip),
    ("srcipto", Ip),
    ("dstipfrom", Ip),
    ("dstipto", Ip),
];
const RANGES6: &[(&str, Value)] = &[
    ("srcipfrom", Ip6),
    ("srcipto", Ip6),
    ("dstipfrom", Ip6),
    ("dstipto", Ip),
];
const ICMP: &[(&str, Value)] = &[("type", Number(255)), ("code", Number(255))];
const ICMP6: &[(&str, Value)] = &[
    ("type", Number(255)),
    ("typeend", Number(255)),
    ("code", Number(255)),
    ("codeend", Number(255)),
];

const ELEMENTS: &[&str] = &[
    "mac",
    "vlan",
    "stp",
    "arp",
    "rarp",
    "ip",
    "ipv6",
    "tcp",
    "udp",
    "sctp",
    "udplite",
    "esp",
    "ah",
    "icmp",
    "igmp",
    "all",
    "tcp-ipv6",
    "udp-ipv6",
    "sctp-ipv6",
    "udplite-ipv6",
    "esp-ipv6",
    "ah-ipv6",
    "icmpv6",
    "all-ipv6",
];
/// How many of them are about frames.
const FRAMES: usize = 7;

const CHAINS: &[&str] = &[
    "mac", "mac-x", "stp", "vlan", "vlan-z", "arp", "arp-a", "rarp", "rarp-r", "ipv4", "ipv4-b",
    "ipv4.c", "ipv6", "ipv6_d",
];

/// A filter made from a number.
pub fn case(seed: u64, limits: Limits) -> Case {
    let mut maker = Filters {
        draw: Maker::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
        limits,
        odd: seed % 5 == 4,
    };
    maker.case(seed)
}

struct Filters {
    draw: Maker,
    limits: Limits,
    /// Values and combinations that libvirt or its tools may refuse.
    odd: bool,
}

impl Filters {
    fn one_in(&mut self, count: usize) -> bool {
        self.draw.below(count) == 0
    }

    fn case(&mut self, seed: u64) -> Case {
        let count = 1 + self.draw.below(4);
        let name = |at: usize| format!("pm-{seed}-{at}");
        // Chains of one priority would stand in no certain order.
        let mut free: Vec<i32> = (-99..100).map(|number| number * 10 + 3).collect();
        let mut filters = Vec::new();
        let mut used: Vec<(String, String)> = Vec::new();
        for at in (0..count).rev() {
            let chain = match at {
                0 if !self.one_in(4) => "root",
                _ if self.one_in(5) => "root",
                _ => self.draw.of(CHAINS),
            };
            let place = self.draw.below(free.len());
            let priority = free.swap_remove(place);
            let before = used.iter().find(|(known, _)| known == chain);
            let priority = match (chain, before) {
                // Two priorities of one chain are refused unless rules come late enough.
                (_, Some((_, priority))) if !self.odd => priority.clone(),
                // The default of its own.
                ("mac" | "vlan" | "arp" | "rarp" | "ipv4" | "ipv6", None) if self.one_in(2) => {
                    String::new()
                }
                _ => format!(" priority='{priority}'"),
            };
            used.push((chain.to_owned(), priority.clone()));
            let chain = match chain {
                "root" if self.one_in(2) => String::new(),
                chain => format!(" chain='{chain}'"),
            };
            let mut text = format!("<filter name='{}'{chain}{priority}>\n", name(at));
            let mut entries: Vec<String> =
                (0..1 + self.draw.below(5)).map(|_| self.rule()).collect();
            for other in at + 1..count {
                // Each is referred to at least once.
                if other == at + 1 || self.one_in(3) {
                    let reference = self.reference(&name(other));
                    let place = self.draw.below(entries.len() + 1);
                    entries.insert(place, reference);
                }
            }
            text += &entries.concat();
            text += "</filter>";
            filters.push(text);
        }
        Case {
            filters,
            name: name(0),
            parameters: self.parameters(),
        }
    }

    fn reference(&mut self, name: &str) -> String {
        let inner = match self.draw.below(6) {
            0 => "<parameter name='A' value='10.1.1.9'/>",
            1 => "<parameter name='R' value='10.1.1.2'/>",
            2 if self.odd => {
                "<parameter name='Q' value='10.1.1.2'/><parameter name='Q' value='10.1.1.3'/>"
            }
            _ => "",
        };
        format!("  <filterref filter='{name}'>{inner}</filterref>\n")
    }

    fn parameters(&mut self) -> Vec<(&'static str, String)> {
        let mut list = Vec::new();
        let ips = [
            "10.9.0.200",
            "10.1.1.1",
            "172.16.1.1",
            "10.9.0.1",
            "10.9.0.200",
        ];
        let ports = ["22", "67", "80", "80", "137"];
        // Equally long, so that they may have one iterator.
        let length = 1 + self.draw.below(3);
        for (name, values) in [("IP", &ips), ("A", &ips), ("C", &ports)] {
            for _ in 0..length {
                list.push((name, self.draw.of(values).to_owned()));
            }
        }
        for _ in 0..1 + self.draw.below(3) {
            list.push(("B", self.draw.of(&ports).to_owned()));
        }
        for value in ["fe80::1", "2001::1"] {
            list.push(("V6", value.to_owned()));
        }
        list.push(("M", "06:aa:bb:cc:dd:ee".to_owned()));
        if self.one_in(8) {
            list.push(("MAC", "02:00:73:b6:53:99".to_owned()));
        }
        list.push(("Q", "192.0.2.9".to_owned()));
        list.push(("R", "192.0.2.10".to_owned()));
        if self.one_in(6) {
            list.push(("BAD", "10.0.0.0/8".to_owned()));
        }
        list
    }

    fn rule(&mut self) -> String {
        let element = match self.draw.below(20) {
            0 => "",
            1..=10 => self.draw.of(&ELEMENTS[..FRAMES]),
            _ => self.draw.of(&ELEMENTS[FRAMES..]),
        };
        let is_packet = ELEMENTS[FRAMES..].contains(&element);
        let action = match self.draw.below(12) {
            0..=4 => "accept",
            5..=7 => "drop",
            8 => "reject",
            9 if !is_packet => "continue",
            _ => "return",
        };
        let direction = self.draw.of(&["in", "out", "inout"]);
        let priority = match self.draw.below(8) {
            0..=3 => String::new(),
            4 => format!(" priority='{}'", self.draw.of(&[1001i32, -1001, 500])),
            _ => format!(" priority='{}'", self.draw.below(2001) as i32 - 1000),
        };
        let mut state = match self.draw.below(5) {
            0 => format!(" statematch='{}'", self.draw.of(&["0", "false", "FALSE"])),
            1 => format!(" statematch='{}'", self.draw.of(&["1", "true", "no"])),
            _ => String::new(),
        };
        if self.limits.nftables {
            state = " statematch='0'".to_owned();
        }
        let mut body = String::new();
        if !element.is_empty() {
            body = self.element(element);
            if self.one_in(12) {
                body += &self.element(element);
            }
        }
        format!(
            "  <rule action='{action}' direction='{direction}'{priority}{state}>{body}</rule>\n"
        )
    }

    fn element(&mut self, element: &str) -> String {
        let v6 = element.ends_with("v6");
        let mut attributes: Vec<(&str, Value)> = Vec::new();
        match element {
            "mac" => attributes.extend([ETHER, &[("protocolid", Ethernet)]].concat()),
            "vlan" => attributes.extend([ETHER, VLAN].concat()),
            "stp" => attributes.extend(STP),
            "arp" | "rarp" => attributes.extend([ETHER, ARP].concat()),
            "ip" => attributes.extend(
                [
                    ETHER,
                    ADDRESSES,
                    PORTS,
                    &[("protocol", Protocol), ("dscp", Dscp)],
                ]
                .concat(),
            ),
            "ipv6" => attributes
                .extend([ETHER, ADDRESSES6, PORTS, ICMP6, &[("protocol", Protocol6)]].concat()),
            _ => {
                attributes.extend(PACKET);
                attributes.extend(if v6 { ADDRESSES6 } else { ADDRESSES });
                attributes.extend(if v6 { RANGES6 } else { RANGES });
                match element {
                    "tcp" | "tcp-ipv6" | "udp" | "udp-ipv6" | "sctp" | "sctp-ipv6" => {
                        attributes.extend(PORTS);
                    }
                    "icmp" | "icmpv6" => attributes.extend(ICMP),
                    _ => {}
                }
                if element.starts_with("tcp") {
                    attributes.push(("option", Number(255)));
                }
                if element == "tcp" {
                    attributes.push(("flags", Flags));
                }
            }
        }
        attributes.push(("comment", Text));
        let keep = 2 + attributes.len() / 5;
        let mut written: Vec<(&str, String)> = Vec::new();
        for (name, value) in attributes {
            if !self.one_in(keep) {
                continue;
            }
            if self.limits.no_sets && matches!(value, Set | SetFlags)
                || self.limits.nftables && matches!(value, State | Limit)
            {
                continue;
            }
            written.push((name, self.value(value)));
        }
        self.fit(element, &mut written);
        let tests_protocol = written.iter().any(|(name, _)| *name == "protocol")
            && written.iter().any(|(name, _)| {
                ["port", "type", "code"]
                    .iter()
                    .any(|part| name.contains(part))
            });
        let is_packet = ELEMENTS[FRAMES..].contains(&element);
        let negated = match self.draw.below(10) {
            // Nobody tests ports of all other protocols.
            0 | 1 if self.odd || !(tests_protocol || self.limits.nftables && is_packet) => {
                " match='no'"
            }
            2 => " match='yes'",
            3 => " match='NO'",
            _ => "",
        };
        let text: String = written
            .iter()
            .map(|(name, value)| format!(" {name}='{value}'"))
            .collect();
        format!("<{element}{negated}{text}/>")
    }

    /// Adds what must be there for others, mostly.
    fn fit(&mut self, element: &str, written: &mut Vec<(&str, String)>) {
        let has = |written: &Vec<(&str, String)>, part: &str| {
            written.iter().any(|(name, _)| name.contains(part))
        };
        if matches!(element, "ip" | "ipv6") {
            if has(written, "port") {
                written.retain(|(name, _)| *name != "protocol");
                let protocol = self.draw.of(&["tcp", "17", "0x84", "6"]);
                written.push(("protocol", protocol.to_owned()));
            } else if has(written, "type") || has(written, "code") {
                written.retain(|(name, _)| *name != "protocol");
                written.push(("protocol", "icmpv6".to_owned()));
            }
        }
        if self.odd {
            return;
        }
        if element == "stp" {
            // Refused in rules for both directions.
            written.retain(|(name, _)| *name != "srcmacaddr");
        }
        if self.limits.nftables && ELEMENTS[FRAMES..].contains(&element) {
            written.retain(|(name, value)| match *name {
                "flags" => value.matches(',').count() == 0 && !value.contains("ALL"),
                "dscp" => !element.ends_with("v6"),
                _ => !(element.ends_with("v6") && value.contains("$V6")),
            });
        }
        if self.limits.nftables {
            // nft shows a test of some bits of a payload as another one, and knows no options.
            written.retain(|(name, _)| !name.ends_with("-address-mask") && *name != "option");
        }
        if self.limits.nftables && element == "rarp" {
            written.retain(|(name, value)| *name != "gratuitous" && value != "0");
        }
        if element == "ipv6" && has(written, "port") {
            written.retain(|(name, _)| !name.starts_with("type") && !name.starts_with("code"));
        }
        // Ranges that run the right way.
        for (low, high) in [
            ("srcportstart", "srcportend"),
            ("dstportstart", "dstportend"),
            ("type", "typeend"),
            ("code", "codeend"),
            ("root-priority", "root-priority-hi"),
            ("root-cost", "root-cost-hi"),
            ("sender-priority", "sender-priority-hi"),
            ("port", "port-hi"),
            ("age", "age-hi"),
            ("max-age", "max-age-hi"),
            ("hello-time", "hello-time-hi"),
            ("forward-delay", "forward-delay-hi"),
        ] {
            let number = |name: &str| {
                let found = written.iter().find(|(known, _)| *known == name);
                found.map(|(_, text)| match text.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16).unwrap_or(0),
                    None => text.parse().unwrap_or(0),
                })
            };
            let listed = |name: &str| {
                let found = written.iter().find(|(known, _)| *known == name);
                found.is_some_and(|(_, text)| text.starts_with('$'))
            };
            if let (Some(first), Some(last)) = (number(low), number(high))
                && (first > last || listed(low) || listed(high))
            {
                written.retain(|(name, _)| *name != high);
            }
        }
        for (from, to) in [("srcipfrom", "srcipto"), ("dstipfrom", "dstipto")] {
            if has(written, to) {
                written.retain(|(name, _)| *name != to && *name != from);
                if element.ends_with("v6") {
                    written.push((from, "2001::1".to_owned()));
                    if to == "srcipto" {
                        written.push((to, "2001::ff".to_owned()));
                    }
                } else {
                    written.push((from, "10.1.1.1".to_owned()));
                    written.push((to, "10.9.0.1".to_owned()));
                }
            }
        }
    }

    fn number(&mut self, most: u32) -> String {
        if self.odd && self.one_in(3) {
            let odd = [
                "ff", "0XFF", " 12", "+5", "010", "-1", "1e", "", "0x", "12 ", "256", "65536",
            ];
            return self.draw.of(&odd).to_owned();
        }
        // No VLAN has the last number.
        let most = if most == 4095 { 4094 } else { most };
        let small = self.draw.below(4) as u32;
        let number = match self.draw.below(4) {
            0 => most,
            1 => self.draw.of(&[22u32, 80, 100, 200]).min(most),
            _ => small.min(most),
        };
        if self.one_in(3) {
            format!("{number:#x}")
        } else {
            number.to_string()
        }
    }

    /// What may not be what it seems.
    fn oddity(&mut self, value: Value) -> String {
        let list: &[&str] = match value {
            Mac => &[
                "0x2:0:0:0:0:1",
                "002:0:0:0:0:1",
                "2-0-0-0-0-1",
                "2:0:0:0:0",
                "$MAC[1]",
                "",
            ],
            MacMask => &["ff:0:ff:0:0:0", "0:0:0:0:0:1", "ff:ff:ff:ff:ff:fe"],
            Ip => &[
                "10.257",
                "010.9.0.1",
                "0x0a090001",
                "10.9.0.1/24",
                "$IP",
                "$A",
                "$NOPE",
                "$IP[9]",
                "$A[ @1 ]",
                "$ A",
                "$A[@1001]",
                "$A[@1",
                "300.1.1.1",
                " 10.1.1.1",
                "fe80::1",
                "$Q",
            ],
            IpMask => &[
                "0x8",
                "33",
                "255.0.255.0",
                "0.0.0.0",
                "-1",
                "",
                "$B",
                "1.2.3.4",
            ],
            Ip6 => &[
                "10.9.0.1",
                "fe80::1%lo",
                ":",
                "1::2::3",
                "$A",
                "FE80::1",
                "0:0:0:0:0:0:0:1",
            ],
            Ip6Mask => &["129", "fff0::", "::", "ff00::1", "0x10"],
            Ethernet => &[
                "ip", "1535", "0x5ff", "60", "59", "86dd", "65536", "ARp", "$B",
            ],
            Opcode => &["RREQUEST", "65535", "65536", "ARP_Nak", "f", "$B"],
            Port => &["http", "65536", "$B", "0x10000", "ff", "$B[0]", "$B[7]"],
            Protocol => &[
                "gre", "256", "icmpv6", "ff", "dccp", "33", "0x11", "TCP", "$B",
            ],
            Protocol6 => &["icmp", "ICMPV6", "0x3A", "3a", "dccp", "$B"],
            Boolean => &["TRUE", "Yes", "0", "", "1 "],
            Dscp => &["64", "0x3f", "3f", "-1"],
            Limit => &["0", "0x3", "65536", "a", "$B"],
            State => &[
                "",
                "NEW,",
                "NEW;OLD",
                " NEW",
                "new, established",
                "none,NEW",
                "$A",
            ],
            Set => &["", "a b", "x/y", "0123456789012345678901234567890123"],
            SetFlags => &["src,", "SRC", "src,src,src,src,src,src,src", "in"],
            Flags => &[
                "SYN",
                "SYN/",
                "/SYN",
                "SYN,SYN/SYN",
                "syn/ECE",
                "SYN ,ACK/ACK",
                "ALL,SYN/SYN",
            ],
            Text => &["$IP", "$", ""],
            Number(_) => return self.number(0),
        };
        self.draw.of(list).to_owned()
    }

    fn value(&mut self, value: Value) -> String {
        if let Number(most) = value {
            return self.number(most);
        }
        if self.odd && self.one_in(6) {
            return self.oddity(value);
        }
        let list: &[&str] = match value {
            Mac => &[
                MAC,
                "$MAC",
                "$MAC",
                "$M",
                "02:00:73:B6:53:99",
                "84:78:ac:27:6c:41",
                "6:aa:bb:cc:dd:ee",
                "ff:ff:ff:ff:ff:ff",
                "33:33:00:00:00:00",
                "01:00:00:00:00:00",
            ],
            MacMask => &[
                "ff:ff:ff:ff:ff:ff",
                "ff:ff:ff:00:00:00",
                "ff:ff:00:00:00:00",
                "fe:00:00:00:00:00",
                "ff:ff:ff:ff:ff:f0",
            ],
            Ip => &[
                "10.9.0.200",
                "10.9.0.1",
                "$IP[@1]",
                "$IP[ @1]",
                "$A[@1]",
                "$A[@4]",
                "$IP[0]",
                "$Q",
                "$R[0]",
                "10.1.1.2",
                "172.16.1.1",
                "0.0.0.0",
                "224.0.0.0",
            ],
            IpMask => &["24", "32", "255.255.0.0", "8", "0", "255.255.255.255", "31"],
            Ip6 => &[
                "fe80::1",
                "2001::1",
                "FD00:0::1",
                "$V6",
                "ff02::1",
                "::",
                "::ffff:10.9.0.1",
            ],
            Ip6Mask => &["64", "128", "ffff::", "10", "0", "ffff:ffff:ffff:ffff::"],
            Ethernet => &[
                "arp", "IPv4", "ipv6", "vlan", "rarp", "0x88cc", "0x88f7", "34997", "0x601",
                "65535", "ARP", "2048",
            ],
            Opcode => &[
                "Request",
                "reply",
                "1",
                "0x2",
                "Request_Reverse",
                "reply_reverse",
                "DRARP_Request",
                "DRARP_Reply",
                "DRARP_Error",
                "InARP_Request",
                "ARP_NAK",
                "10",
                "77",
            ],
            Port => &[
                "22", "80", "1000", "0x50", "137", "$C[@1]", "$B[@2]", "65535", "0",
            ],
            Protocol => &[
                "tcp", "UDP", "1", "0x32", "igmp", "sctp", "ah", "255", "0", "udplite",
            ],
            Protocol6 => &["tcp", "udp", "58", "icmpv6", "0x32", "sctp", "0"],
            Boolean => &["true", "yes", "1", "false", "no", "True"],
            Dscp => &["0", "10", "46", "63", "0x12", "8", "34", "1"],
            Limit => &["1", "3", "65535"],
            State => &[
                "NEW",
                "ESTABLISHED,RELATED",
                "new,established",
                "NONE",
                "INVALID",
                "NEW,NONE",
                "RELATED,NEW",
            ],
            Set => &["pmset"],
            SetFlags => &["src", "dst", "src,dst", "dst,dst,src"],
            Flags => &[
                "SYN/SYN",
                "SYN,ACK/SYN",
                "ALL/NONE",
                "syn,rst/RST",
                "ALL/ALL",
                "SYN/NONE",
                "FIN,URG,PSH/FIN,PSH",
                "NONE/NONE",
            ],
            Text => &[
                "plain",
                "with blanks",
                "quote &quot;x&quot;",
                "it&apos;s",
                "a\\b `c`",
                "é",
            ],
            Number(_) => unreachable!("numbers are made above"),
        };
        self.draw.of(list).to_owned()
    }
}
