//! Makes a snapshot of programs' answers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json;
use crate::question::{Answer, Outcome, Subject};
use crate::snapshot::{
    Balancer, ForwardingEntry, Gap, Link, Neighbour, Origin, Part, PortVlans, Route, RoutingRule,
    SCHEMA, SavedRules, Service, Snapshot, Socket,
};

/// How many tracked connections are kept.
const CONNECTIONS: usize = 4096;

/// What programs do not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What the node is called; the host's own name when not told.
    pub node: Option<String>,
    /// How it was reached.
    pub origin: Origin,
    /// When, milliseconds since 1970.
    pub taken: u64,
    /// Name and version of this program.
    pub tool: String,
}

/// Makes a snapshot of all answers of both rounds.
pub fn read(about: &About, answers: &[Answer]) -> Snapshot {
    let mut snapshot = Snapshot {
        schema: SCHEMA.to_owned(),
        tool: about.tool.clone(),
        node: about.node.clone().unwrap_or_default(),
        origin: about.origin.clone(),
        taken: about.taken,
        ..Snapshot::default()
    };
    for answer in answers {
        let Some(part) = answer.subject.part() else {
            continue;
        };
        let because = match &answer.outcome {
            Outcome::Failed { because } => Some(because.clone()),
            Outcome::Ended {
                code,
                output,
                complaint,
            } => {
                // grep ends with 2 when one of its files could not be read, pgrep with 1 for none.
                if *code != 0 && output.is_empty() && !answer.subject.may_be_missing() {
                    Some(refusal(*code, complaint))
                } else {
                    let text = String::from_utf8_lossy(output);
                    take(&mut snapshot, answer, &text).err()
                }
            }
        };
        match because {
            None => {
                snapshot.parts.insert(part);
            }
            Some(because) => snapshot.gaps.push(Gap {
                part,
                command: answer.command.join(" "),
                because,
            }),
        }
    }
    // Half of a part is not the part.
    for gap in &snapshot.gaps {
        snapshot.parts.remove(&gap.part);
    }
    infer_rules(&mut snapshot);
    snapshot
}

/// No program was asked for rules where there are no tables: that is known, too.
fn infer_rules(snapshot: &mut Snapshot) {
    if !snapshot.has(Part::Nft) {
        return;
    }
    for part in [Part::Iptables, Part::Ip6tables, Part::Ebtables] {
        if !snapshot.gaps.iter().any(|gap| gap.part == part) {
            snapshot.parts.insert(part);
        }
    }
}

fn take(snapshot: &mut Snapshot, answer: &Answer, text: &str) -> Result<(), String> {
    match answer.subject {
        Subject::Kernel => {
            // `uname -s -n -r`
            let words: Vec<&str> = text.split_whitespace().collect();
            let [system, host, release] = words[..] else {
                return Err("not what uname prints".to_owned());
            };
            snapshot.kernel = Some(format!("{system} {release}"));
            if snapshot.node.is_empty() {
                snapshot.node = host.to_owned();
            }
        }
        Subject::Links => snapshot.links = members(text, Link::read)?,
        Subject::Routes4 => snapshot
            .routes
            .extend(members(text, |value| Route::read(value, false))?),
        Subject::Routes6 => snapshot
            .routes
            .extend(members(text, |value| Route::read(value, true))?),
        Subject::RoutingRules4 => {
            let rules = members(text, |value| RoutingRule::read(value, false))?;
            snapshot.routing_rules.extend(rules);
        }
        Subject::RoutingRules6 => {
            let rules = members(text, |value| RoutingRule::read(value, true))?;
            snapshot.routing_rules.extend(rules);
        }
        Subject::Neighbours => snapshot.neighbours = members(text, Neighbour::read)?,
        Subject::Forwarding => snapshot.forwarding = members(text, ForwardingEntry::read)?,
        Subject::Vlans => snapshot.vlans = members(text, PortVlans::read)?,
        Subject::Multicast => {
            for value in members(text, |value| Some(value.clone()))? {
                snapshot.multicast.extend(&value);
            }
        }
        Subject::Namespaces => {
            let named = |value: &Value| {
                let number = value.get("nsid")?.as_i64()?;
                Some((number, json::text(value, "name")?))
            };
            snapshot.namespaces = members(text, named)?.into_iter().collect();
        }
        Subject::Sysctls => snapshot.sysctls = sysctls(text),
        Subject::Offloads => snapshot.offloads = members(text, offloads)?.into_iter().collect(),
        Subject::Nft => {
            snapshot.rules.nft =
                Some(serde_json::from_str(text).map_err(|error| error.to_string())?);
        }
        Subject::Iptables | Subject::LegacyIptables => {
            snapshot.rules.iptables.push(saved(answer, text)?);
        }
        Subject::Ip6tables | Subject::LegacyIp6tables => {
            snapshot.rules.ip6tables.push(saved(answer, text)?);
        }
        Subject::Ebtables | Subject::LegacyEbtables => {
            snapshot.rules.ebtables.push(saved(answer, text)?);
        }
        Subject::Connections => {
            let lines = text.lines().take(CONNECTIONS).map(str::to_owned);
            snapshot.connections = lines.collect();
        }
        Subject::Sockets => {
            snapshot.sockets = text.lines().filter_map(Socket::read).collect();
        }
        Subject::Counters => snapshot.counters = counters(text),
        Subject::Ipvs => snapshot.services.extend(Service::read_proc(text)?),
        Subject::Pointsman => {
            let services = Service::read_saved(Balancer::Pointsman, text)?;
            snapshot.services.extend(services);
        }
        Subject::Settings => {
            let named =
                |value: &Value| Some((json::text(value, "name")?, value.get("value")?.as_i64()?));
            snapshot.settings.extend(members(text, named)?);
        }
        Subject::Domain => snapshot.domains.push(network_part(text)?),
        Subject::Filter => snapshot.network_filters.push(text.to_owned()),
        Subject::Binding => snapshot.filter_bindings.push(text.to_owned()),
        Subject::KubeProxy => {
            // A process number comes first.
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            snapshot.kube_proxy = lines.map(|(_, words)| known_flags(words)).collect();
        }
        Subject::LegacyTables4
        | Subject::LegacyTables6
        | Subject::Modules
        | Subject::UnixSockets
        | Subject::DomainNames
        | Subject::FilterNames
        | Subject::BindingNames => {}
    }
    Ok(())
}

/// The members of an array that can be read; iproute2 prints nothing, or an empty object, for none.
fn members<T>(text: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let array = value.as_array().ok_or("no array of JSON")?;
    Ok(array.iter().filter_map(read).collect())
}

/// Lines `/proc/sys/net/ipv4/ip_forward:1` of grep. No name of a parameter has a colon.
fn sysctls(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| {
        let (path, value) = line.strip_prefix("/proc/sys/")?.split_once(':')?;
        Some((path.to_owned(), value.trim().to_owned()))
    });
    lines.collect()
}

/// One link of `ethtool --json --show-features`.
fn offloads(value: &Value) -> Option<(String, BTreeMap<String, bool>)> {
    let name = json::text(value, "ifname")?;
    let features = value
        .as_object()?
        .iter()
        .filter_map(|(feature, state)| Some((feature.clone(), state.get("active")?.as_bool()?)));
    // Hundreds of names that matter to nobody here.
    let wanted = features.filter(|(feature, _)| {
        !feature.contains("vlan-") && !feature.contains("macsec") && !feature.contains("esp-")
    });
    Some((name, wanted.collect()))
}

fn saved(answer: &Answer, text: &str) -> Result<SavedRules, String> {
    let mut program = answer.command.first().cloned().unwrap_or_default();
    let is_nft = text
        .lines()
        .next()
        .is_some_and(|line| line.contains("nf_tables"));
    let wants_legacy = matches!(
        answer.subject,
        Subject::LegacyIptables | Subject::LegacyIp6tables | Subject::LegacyEbtables
    );
    if wants_legacy && is_nft {
        return Err("the program that is there lists the tables of nftables only".to_owned());
    }
    if wants_legacy && !program.contains("legacy") {
        program += " (legacy)";
    }
    Ok(SavedRules {
        program,
        text: text.to_owned(),
    })
}

/// Name, identifier and interfaces of a domain: nothing else of it matters, and disks, consoles and
/// metadata are nobody's business.
fn network_part(text: &str) -> Result<String, String> {
    let document = roxmltree::Document::parse(text).map_err(|error| error.to_string())?;
    let root = document.root_element();
    let source = |node: roxmltree::Node<'_, '_>| text.get(node.range()).unwrap_or_default();
    let mut kept = String::from("<domain>");
    for node in root
        .children()
        .filter(|node| node.has_tag_name("name") || node.has_tag_name("uuid"))
    {
        kept += source(node);
    }
    kept += "<devices>";
    for devices in root.children().filter(|node| node.has_tag_name("devices")) {
        for node in devices
            .children()
            .filter(|node| node.has_tag_name("interface"))
        {
            kept += source(node);
        }
    }
    Ok(kept + "</devices></domain>")
}

/// The program and those of its flags that say how services are translated; others may be secrets.
fn known_flags(words: &str) -> String {
    const KNOWN: &[&str] = &[
        "--cluster-cidr",
        "--config",
        "--ipvs-",
        "--iptables-",
        "--kube-proxy-arg",
        "--masquerade-all",
        "--nftables-",
        "--proxy-mode",
    ];
    let mut kept: Vec<&str> = words.split(' ').take(1).collect();
    let mut wants_value = false;
    for word in words.split(' ').skip(1) {
        let known = KNOWN.iter().any(|flag| word.starts_with(flag));
        if known || wants_value && !word.starts_with('-') {
            kept.push(word);
        }
        wants_value = known && !word.contains('=');
    }
    kept.join(" ")
}

/// Pairs of lines `Group: name...` and `Group: number...`.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    let mut lines = text.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((same, numbers))) =
            (names.split_once(':'), numbers.split_once(':'))
        else {
            continue;
        };
        if group != same {
            continue;
        }
        let pairs = names.split_whitespace().zip(numbers.split_whitespace());
        for (name, number) in pairs {
            if let Ok(number) = number.parse() {
                counters.insert(format!("{group}{name}"), number);
            }
        }
    }
    counters
}

/// Why a program told nothing, on one line.
fn refusal(code: i32, complaint: &str) -> String {
    const RIGHTS: [&str; 4] = [
        "must be root",
        "Operation not permitted",
        "Permission denied",
        "CAP_NET_ADMIN",
    ];
    // Each program says it with other words.
    if RIGHTS.iter().any(|words| complaint.contains(words)) {
        return "that needs root".to_owned();
    }
    let lines = complaint.lines().map(str::trim);
    let said: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    format!("ended with {code}: {}", said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(subject: Subject, code: i32, output: &str) -> Answer {
        Answer {
            subject,
            command: vec!["x".to_owned()],
            outcome: Outcome::Ended {
                code,
                output: output.into(),
                complaint: "no such thing\n".to_owned(),
            },
        }
    }

    #[test]
    fn a_part_is_there_or_its_gap_is() {
        let answers = [
            ended(Subject::Kernel, 0, "Linux n1 6.1.0\n"),
            ended(Subject::Routes4, 0, "[]"),
            ended(Subject::Routes6, 1, ""),
            ended(Subject::Neighbours, 0, "[{]"),
            ended(Subject::Ipvs, 1, ""),
            ended(Subject::KubeProxy, 1, ""),
            Answer {
                subject: Subject::Offloads,
                command: vec!["ethtool".to_owned()],
                outcome: Outcome::Failed {
                    because: "there is no program ethtool".to_owned(),
                },
            },
        ];
        let snapshot = read(&About::default(), &answers);
        assert_eq!(snapshot.node, "n1");
        let has: Vec<_> = snapshot.parts.iter().copied().collect();
        assert_eq!(has, [Part::Kernel, Part::Ipvs, Part::KubeProxy]);
        let because: Vec<_> = snapshot
            .gaps
            .iter()
            .map(|gap| (gap.part, gap.because.as_str()))
            .collect();
        assert_eq!(because[0], (Part::Routes, "ended with 1: no such thing"));
        assert_eq!(refusal(2, "a\n\n b\n"), "ended with 2: a; b");
        let nft =
            "Operation not permitted (you must be root)\nnetlink: Error: initialization failed\n";
        assert_eq!(refusal(1, nft), "that needs root");
        assert_eq!(because[1].0, Part::Neighbours);
        assert_eq!(because[2], (Part::Offloads, "there is no program ethtool"));
    }

    #[test]
    fn parameters_of_links_with_dots_keep_their_names() {
        let text =
            "/proc/sys/net/ipv4/conf/eth0.7/rp_filter:2\n/proc/sys/net/ipv4/ip_forward:1\njunk\n";
        let snapshot = read(&About::default(), &[ended(Subject::Sysctls, 2, text)]);
        assert_eq!(snapshot.number("net/ipv4/conf/eth0.7/rp_filter"), Some(2));
        assert_eq!(snapshot.number("net/ipv4/ip_forward"), Some(1));
        assert_eq!(snapshot.greater("eth0.7", "rp_filter"), None);
    }

    #[test]
    fn domains_and_kube_proxy_tell_no_secrets() {
        let domain = "<domain type='kvm'><name>a</name><metadata>x</metadata><devices><disk>secret</disk>\
                      <interface type='bridge'><mac address='52:54:00:00:00:01'/></interface></devices></domain>";
        let flags = "7 kube-proxy --cluster-cidr 10.42.0.0/16 --token secret --proxy-mode=ipvs\n";
        let answers = [
            ended(Subject::Domain, 0, domain),
            ended(Subject::KubeProxy, 0, flags),
        ];
        let snapshot = read(&About::default(), &answers);
        assert_eq!(
            snapshot.domains[0],
            "<domain><name>a</name><devices><interface type='bridge'>\
             <mac address='52:54:00:00:00:01'/></interface></devices></domain>"
        );
        assert_eq!(
            snapshot.kube_proxy,
            ["kube-proxy --cluster-cidr 10.42.0.0/16 --proxy-mode=ipvs"]
        );
    }

    #[test]
    fn counters_have_the_names_of_nstat() {
        let text = "Ip: Forwarding InReceives\nIp: 1 24\nTcpExt: ListenDrops\nTcpExt: 3\n";
        let counters = counters(text);
        assert_eq!(counters["TcpExtListenDrops"], 3);
        assert_eq!(counters["IpInReceives"], 24);
    }

    #[test]
    fn a_program_of_nftables_does_not_speak_for_older_tables() {
        let text = "# Generated by iptables-save v1.8.9 (nf_tables)\n*nat\nCOMMIT\n";
        let snapshot = read(
            &About::default(),
            &[ended(Subject::LegacyIptables, 0, text)],
        );
        assert!(snapshot.rules.iptables.is_empty());
        assert_eq!(snapshot.gaps.len(), 1);
    }
}
