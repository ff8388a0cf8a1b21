//! Which programs to ask about a node: plain commands that change nothing.
//!
//! Programs are asked twice. What the first round says decides what the second may ask: programs of
//! iptables and ebtables create tables, or have modules loaded, where nothing is there to list, and
//! `ebtables -L` zeroes the counter of a rule that it creates anew.

use std::net::IpAddr;

use serde_json::Value;

use crate::json;
use crate::snapshot::Part;

/// Seconds after which an answer is given up.
pub const PATIENCE: u64 = 10;
/// Bytes of the longest answer.
pub const ANSWER_LIMIT: usize = 16 << 20;
/// How many domains, filters and bindings of libvirt are asked about.
const DEFINITIONS: usize = 512;
/// How many daemons of Pointsman are asked.
const DAEMONS: usize = 16;
/// The socket of Pointsman's daemon.
const SOCKET: &str = "/run/pointsman/api.sock";

/// Kernel parameters that matter, by the last part of their path below `/proc/sys/net`.
const SYSCTLS: &[&str] = &[
    "accept_dad",
    "accept_local",
    "arp_accept",
    "arp_announce",
    "arp_filter",
    "arp_ignore",
    "bridge-nf-*",
    "conn_reuse_mode",
    "conntrack",
    "disable_ipv6",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "forwarding",
    "gc_thresh*",
    "icmp_ignore_bogus_error_responses",
    "ip_default_ttl",
    "ip_forward",
    "ip_nonlocal_bind",
    "ip_no_pmtu_disc",
    "log_martians",
    "nf_conntrack_count",
    "nf_conntrack_max",
    "nf_conntrack_tcp_be_liberal",
    "nf_conntrack_tcp_loose",
    "pmtu_disc",
    "proxy_arp",
    "route_localnet",
    "rp_filter",
    "schedule_icmp",
    "send_redirects",
    "sloppy_tcp",
    "src_valid_mark",
    "tcp_mtu_probing",
    "tcp_timestamps",
    "tcp_tw_reuse",
];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Name of kernel and host.
    Kernel,
    /// Links with addresses, details and statistics.
    Links,
    /// Routes of IPv4.
    Routes4,
    /// Routes of IPv6.
    Routes6,
    /// Routing rules of IPv4.
    RoutingRules4,
    /// Routing rules of IPv6.
    RoutingRules6,
    /// Neighbours.
    Neighbours,
    /// Forwarding database of bridges.
    Forwarding,
    /// VLANs of ports.
    Vlans,
    /// Groups joined behind ports of bridges.
    Multicast,
    /// Numbers of other namespaces.
    Namespaces,
    /// Kernel parameters.
    Sysctls,
    /// Offloads.
    Offloads,
    /// Rules of nftables.
    Nft,
    /// Names of iptables' tables from before nftables.
    LegacyTables4,
    /// Those of ip6tables.
    LegacyTables6,
    /// Modules of the kernel.
    Modules,
    /// Rules of iptables, of nftables' kind.
    Iptables,
    /// Rules of iptables from before nftables.
    LegacyIptables,
    /// Rules of ip6tables, of nftables' kind.
    Ip6tables,
    /// Rules of ip6tables from before nftables.
    LegacyIp6tables,
    /// Rules of ebtables, of nftables' kind.
    Ebtables,
    /// Rules of ebtables from before nftables.
    LegacyEbtables,
    /// Tracked connections of the virtual service.
    Connections,
    /// Sockets that listen.
    Sockets,
    /// Unix sockets that listen, to find daemons.
    UnixSockets,
    /// Counters of the network stack.
    Counters,
    /// Services of the kernel's IPVS.
    Ipvs,
    /// Services of Pointsman.
    Pointsman,
    /// Settings of Pointsman.
    Settings,
    /// Identifiers of libvirt domains.
    DomainNames,
    /// A libvirt domain.
    Domain,
    /// Identifiers of network filters.
    FilterNames,
    /// A network filter.
    Filter,
    /// Ports with bound filters.
    BindingNames,
    /// A binding.
    Binding,
    /// Command lines of kube-proxy.
    KubeProxy,
}

impl Subject {
    /// The part of a snapshot that the answer is for, if it is for one.
    pub const fn part(self) -> Option<Part> {
        Some(match self {
            Self::Kernel => Part::Kernel,
            Self::Links => Part::Links,
            Self::Routes4 | Self::Routes6 => Part::Routes,
            Self::RoutingRules4 | Self::RoutingRules6 => Part::RoutingRules,
            Self::Neighbours => Part::Neighbours,
            Self::Forwarding => Part::Forwarding,
            Self::Vlans => Part::Vlans,
            Self::Multicast => Part::Multicast,
            Self::Namespaces => Part::Namespaces,
            Self::Sysctls => Part::Sysctls,
            Self::Offloads => Part::Offloads,
            Self::Nft => Part::Nft,
            Self::LegacyTables4 | Self::LegacyTables6 | Self::Modules => return None,
            Self::Iptables | Self::LegacyIptables => Part::Iptables,
            Self::Ip6tables | Self::LegacyIp6tables => Part::Ip6tables,
            Self::Ebtables | Self::LegacyEbtables => Part::Ebtables,
            Self::Connections => Part::Connections,
            Self::Sockets => Part::Sockets,
            Self::UnixSockets | Self::Pointsman => Part::Pointsman,
            Self::Settings => Part::Settings,
            Self::Counters => Part::Counters,
            Self::Ipvs => Part::Ipvs,
            Self::DomainNames | Self::Domain => Part::Domains,
            Self::FilterNames | Self::Filter => Part::NetworkFilters,
            Self::BindingNames | Self::Binding => Part::FilterBindings,
            Self::KubeProxy => Part::KubeProxy,
        })
    }

    /// Whether the answer is none when the file that it is in does not exist.
    pub(crate) const fn may_be_missing(self) -> bool {
        matches!(
            self,
            Self::LegacyTables4
                | Self::LegacyTables6
                | Self::Modules
                | Self::Ipvs
                | Self::KubeProxy
        )
    }
}

/// A question: programs that can answer it, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub subject: Subject,
    /// Commands, each a program and its arguments; the first is run whose program is there.
    pub commands: Vec<Vec<String>>,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub subject: Subject,
    /// The command that was run, or would have been.
    pub command: Vec<String>,
    /// What it did.
    pub outcome: Outcome,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end.
    Ended {
        /// Its exit code.
        code: i32,
        /// What it printed.
        output: Vec<u8>,
        /// What it complained about.
        complaint: String,
    },
    /// It did not run, was stopped, or said too much.
    Failed {
        /// Why.
        because: String,
    },
}

/// What to ask about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The virtual address whose connections are wanted.
    pub address: Option<IpAddr>,
    /// How Pointsman itself is called there; `pointsman` when not known better.
    pub program: Option<String>,
    /// Whether the node is a network namespace: what is the host's is left out.
    pub is_namespace: bool,
}

fn question(subject: Subject, commands: &[&str]) -> Question {
    let words = |command: &&str| command.split(' ').map(str::to_owned).collect();
    Question {
        subject,
        commands: commands.iter().map(words).collect(),
    }
}

/// The first round.
pub fn first(wish: &Wish) -> Vec<Question> {
    let mut questions = vec![
        question(Subject::Kernel, &["uname -s -n -r"]),
        question(
            Subject::Links,
            &["ip -details -statistics -json address show"],
        ),
        question(Subject::Routes4, &["ip -4 -json route show table all"]),
        question(Subject::Routes6, &["ip -6 -json route show table all"]),
        question(Subject::RoutingRules4, &["ip -4 -json rule show"]),
        question(Subject::RoutingRules6, &["ip -6 -json rule show"]),
        question(Subject::Neighbours, &["ip -json neighbour show"]),
        question(Subject::Forwarding, &["bridge -json fdb show"]),
        question(Subject::Vlans, &["bridge -json vlan show"]),
        question(Subject::Multicast, &["bridge -details -json mdb show"]),
        question(Subject::Namespaces, &["ip -json netns list-id"]),
        question(Subject::Offloads, &["ethtool --json --show-features *"]),
        question(Subject::Nft, &["nft --json --handle list ruleset"]),
        question(Subject::LegacyTables4, &["cat /proc/net/ip_tables_names"]),
        question(Subject::LegacyTables6, &["cat /proc/net/ip6_tables_names"]),
        question(Subject::Modules, &["cat /proc/modules"]),
        question(
            Subject::Sockets,
            &["ss --no-header --numeric --listening --tcp --udp --processes"],
        ),
        question(
            Subject::UnixSockets,
            &["ss --no-header --listening --unix --processes"],
        ),
        question(Subject::Counters, &["cat /proc/net/snmp /proc/net/netstat"]),
        question(Subject::Ipvs, &["cat /proc/net/ip_vs"]),
    ];
    let mut sysctls: Vec<String> = ["grep", "-r", "-s"].map(str::to_owned).into();
    sysctls.extend(SYSCTLS.iter().map(|name| format!("--include={name}")));
    sysctls.extend(["-e", "", "/proc/sys/net"].map(str::to_owned));
    questions.push(Question {
        subject: Subject::Sysctls,
        commands: vec![sysctls],
    });
    if !wish.is_namespace {
        questions.extend([
            question(
                Subject::DomainNames,
                &["virsh --readonly --quiet list --uuid"],
            ),
            question(
                Subject::FilterNames,
                &["virsh --readonly --quiet nwfilter-list"],
            ),
            question(
                Subject::BindingNames,
                &["virsh --readonly --quiet nwfilter-binding-list"],
            ),
            question(
                Subject::KubeProxy,
                &["pgrep --list-full kube-proxy|k3s|rke2"],
            ),
        ]);
    }
    questions
}

/// The second round, by the answers to the first.
pub fn second(wish: &Wish, answers: &[Answer]) -> Vec<Question> {
    let output = |subject| {
        let mut own = answers.iter().filter(move |own| own.subject == subject);
        own.find_map(Answer::text)
    };
    let mut questions = Vec::new();
    let nft = output(Subject::Nft).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    for (family, subject, programs) in [
        (
            "ip",
            Subject::Iptables,
            ["iptables-nft-save -c", "iptables-save -c"],
        ),
        (
            "ip6",
            Subject::Ip6tables,
            ["ip6tables-nft-save -c", "ip6tables-save -c"],
        ),
        (
            "bridge",
            Subject::Ebtables,
            ["ebtables-nft-save -c", "ebtables-save -c"],
        ),
    ] {
        // Who can't be asked about nftables may have tables.
        if nft
            .as_ref()
            .is_none_or(|nft| has_compatible_table(nft, family))
        {
            questions.push(question(subject, &programs));
        }
    }
    for (tables, subject, programs) in [
        (
            Subject::LegacyTables4,
            Subject::LegacyIptables,
            ["iptables-legacy-save -c", "iptables-save -c"],
        ),
        (
            Subject::LegacyTables6,
            Subject::LegacyIp6tables,
            ["ip6tables-legacy-save -c", "ip6tables-save -c"],
        ),
    ] {
        if output(tables).is_some_and(|text| !text.trim().is_empty()) {
            questions.push(question(subject, &programs));
        }
    }
    let modules = output(Subject::Modules).unwrap_or_default();
    if modules.lines().any(|line| line.starts_with("ebtable_")) {
        let programs = ["ebtables-legacy-save -c", "ebtables-save -c"];
        questions.push(question(Subject::LegacyEbtables, &programs));
    }
    let sysctls = output(Subject::Sysctls).unwrap_or_default();
    if let Some(address) = wish.address
        && sysctls.contains("/nf_conntrack_count:")
    {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let by_program = format!("conntrack --dump --family {family} --orig-dst {address}");
        // Addresses of IPv6 are written out in the file.
        let text = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address
                .segments()
                .map(|part| format!("{part:04x}"))
                .join(":"),
        };
        let by_file = format!("grep --fixed-strings dst={text} /proc/net/nf_conntrack");
        questions.push(question(Subject::Connections, &[&by_program, &by_file]));
    }
    let program = wish.program.as_deref().unwrap_or("pointsman");
    for socket in daemons(&output(Subject::UnixSockets).unwrap_or_default()) {
        for (subject, verb) in [
            (
                Subject::Pointsman,
                ["ipvsadm", "--save", "--numeric"].as_slice(),
            ),
            (Subject::Settings, ["setting", "--json"].as_slice()),
        ] {
            let words = [&[program, "--socket", &socket], verb].concat();
            questions.push(Question {
                subject,
                commands: vec![words.into_iter().map(str::to_owned).collect()],
            });
        }
    }
    for (names, subject, verb) in [
        (Subject::DomainNames, Subject::Domain, "dumpxml"),
        (Subject::FilterNames, Subject::Filter, "nwfilter-dumpxml"),
        (
            Subject::BindingNames,
            Subject::Binding,
            "nwfilter-binding-dumpxml",
        ),
    ] {
        let text = output(names).unwrap_or_default();
        let first_words = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        for name in first_words.filter(|name| is_name(name)).take(DEFINITIONS) {
            let command = format!("virsh --readonly --quiet {verb} {name}");
            questions.push(question(subject, &[&command]));
        }
    }
    questions
}

impl Answer {
    /// What was printed, if the program ended well or at least said something.
    pub fn text(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Ended { code, output, .. } if *code == 0 || !output.is_empty() => {
                Some(String::from_utf8_lossy(output).into_owned())
            }
            _ => None,
        }
    }
}

/// Whether nftables has a table of the kind that iptables and ebtables make.
fn has_compatible_table(nft: &Value, family: &str) -> bool {
    json::list(nft, "nftables").iter().any(|entry| {
        let table = entry.get("table").unwrap_or(&Value::Null);
        json::text(table, "family").as_deref() == Some(family)
            && json::text(table, "name").is_some_and(|name| is_compatible(&name))
    })
}

/// Whether iptables and ebtables have a table of this name.
pub(crate) fn is_compatible(table: &str) -> bool {
    ["filter", "nat", "mangle", "raw", "security", "broute"].contains(&table)
}

/// Sockets of Pointsman's daemons among the lines of `ss`.
fn daemons(text: &str) -> Vec<String> {
    let mut sockets = Vec::new();
    for line in text.lines() {
        let bound = line.split_whitespace().nth(4).unwrap_or_default();
        // The kernel keeps the name that the socket was bound by before it was moved to its place.
        let path = &match bound.strip_suffix(".new-sock") {
            Some(stem) => format!("{stem}.sock"),
            None => bound.to_owned(),
        };
        let ours = line.contains("((\"pointsman\"") || path == SOCKET;
        let known = sockets.contains(path);
        if ours && path.starts_with('/') && !known && sockets.len() < DAEMONS {
            sockets.push(path.clone());
        }
    }
    sockets
}

/// Whether a word may be an argument: what libvirt calls ports, filters and domains by.
fn is_name(word: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    !word.starts_with('-') && word.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(subject: Subject, output: &str) -> Answer {
        Answer {
            subject,
            command: Vec::new(),
            outcome: Outcome::Ended {
                code: 0,
                output: output.into(),
                complaint: String::new(),
            },
        }
    }

    fn commands(questions: &[Question]) -> Vec<String> {
        let first = |question: &Question| question.commands[0].join(" ");
        questions.iter().map(first).collect()
    }

    #[test]
    fn programs_that_create_tables_are_not_asked_without_need() {
        let nothing = [
            answer(
                Subject::Nft,
                r#"{"nftables": [{"table": {"family": "ip", "name": "own"}}]}"#,
            ),
            answer(Subject::LegacyTables4, "\n"),
            answer(Subject::Modules, "bridge 1 0\n"),
            answer(Subject::UnixSockets, "u_str LISTEN 0 5 /run/x.sock 3 * 0\n"),
            answer(Subject::Sysctls, "/proc/sys/net/ipv4/ip_forward:0\n"),
        ];
        let wish = Wish {
            address: Some("192.0.2.1".parse().unwrap()),
            ..Wish::default()
        };
        assert_eq!(commands(&second(&wish, &nothing)), [""; 0]);
    }

    #[test]
    fn what_is_there_is_asked_for() {
        let answers = [
            answer(
                Subject::Nft,
                r#"{"nftables": [{"table": {"family": "bridge", "name": "nat"}}]}"#,
            ),
            answer(Subject::LegacyTables4, "nat\n"),
            answer(Subject::Modules, "ebtable_nat 1 0\n"),
            answer(
                Subject::UnixSockets,
                "u_str LISTEN 0 5 /run/a/api.new-sock 3 * 0 users:((\"pointsman\",pid=1,fd=9))\n",
            ),
            answer(
                Subject::Sysctls,
                "/proc/sys/net/netfilter/nf_conntrack_count:0\n",
            ),
            answer(
                Subject::BindingNames,
                " vnet0   clean-traffic\n $(reboot) x\n -c y\n",
            ),
        ];
        let wish = Wish {
            address: Some("2001:db8::1".parse().unwrap()),
            ..Wish::default()
        };
        let asked = second(&wish, &answers);
        assert_eq!(
            commands(&asked),
            [
                "ebtables-nft-save -c",
                "iptables-legacy-save -c",
                "ebtables-legacy-save -c",
                "conntrack --dump --family ipv6 --orig-dst 2001:db8::1",
                "pointsman --socket /run/a/api.sock ipvsadm --save --numeric",
                "pointsman --socket /run/a/api.sock setting --json",
                "virsh --readonly --quiet nwfilter-binding-dumpxml vnet0",
            ]
        );
        let by_file = asked[3].commands[1].join(" ");
        assert!(by_file.contains("dst=2001:0db8:0000:"), "{by_file}");
    }
}
