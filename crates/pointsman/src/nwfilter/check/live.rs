//! The rules of this host as they are, and what else about it decides.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pointsman_filter::dump::{self, Dialect};
use pointsman_filter::model::Ruleset;
use pointsman_linux::{netlink::Netlink, sysctl};

/// Commands that print all rules and change none.
const COMMANDS: &[(&str, &[&str], Dialect)] = &[
    ("ebtables-save", &[], Dialect::Ebtables),
    ("iptables-save", &[], Dialect::Iptables),
    ("ip6tables-save", &[], Dialect::Ip6tables),
    ("nft", &["-j", "list", "ruleset"], Dialect::Nft),
];

/// What this network namespace has.
pub(super) struct Live {
    pub(super) rules: Ruleset,
    /// The port's bridge.
    pub(super) bridge: Option<String>,
    pub(super) call_iptables: bool,
    pub(super) call_ip6tables: bool,
    pub(super) filter_vlan_tagged: bool,
    /// The port's binding, `virsh nwfilter-binding-dumpxml`.
    pub(super) binding: Option<String>,
    /// What could not be asked.
    pub(super) notes: Vec<String>,
}

impl Live {
    /// Looks; a missing tool is noted, for there may be no rules of its kind.
    pub(super) fn look(port: &str) -> Result<Self> {
        let mut notes = Vec::new();
        let mut dumps = Vec::new();
        for (program, arguments, dialect) in COMMANDS {
            match output(program, arguments)? {
                Answer::Said(text) if is_empty(*dialect, &text) => dumps.push(Ruleset::default()),
                Answer::Said(text) => dumps.push(dump::read_as(*dialect, program, &text)?),
                Answer::Failed(why) => notes.push(format!("{program} failed: {why}")),
                Answer::Absent => {
                    notes.push(format!("{program} is not there; its rules are unseen"))
                }
            }
        }
        if dumps.is_empty() {
            bail!("no tool told any rules: {}", notes.join("; "));
        }
        let called = |family: &str| {
            let key = format!("net.bridge.bridge-nf-{family}");
            sysctl::read(&key).is_ok_and(|value| value.trim() != "0")
        };
        Ok(Self {
            rules: dump::merge(dumps),
            bridge: bridge(port)?,
            call_iptables: called("call-iptables"),
            call_ip6tables: called("call-ip6tables"),
            filter_vlan_tagged: called("filter-vlan-tagged"),
            binding: binding(port),
            notes,
        })
    }
}

enum Answer {
    Said(String),
    Failed(String),
    Absent,
}

fn output(program: &str, arguments: &[&str]) -> Result<Answer> {
    // Where no administrator's path is set.
    let places = ["", "/usr/sbin/", "/sbin/"].map(|folder| format!("{folder}{program}"));
    for place in places {
        if place.starts_with('/') && !Path::new(&place).exists() {
            continue;
        }
        let output = match Command::new(&place).args(arguments).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot run {place}"))?,
        };
        if output.status.success() {
            return Ok(Answer::Said(String::from_utf8(output.stdout)?));
        }
        let error = String::from_utf8_lossy(&output.stderr);
        let line = error.lines().next().unwrap_or("without a word").to_owned();
        return Ok(Answer::Failed(line));
    }
    Ok(Answer::Absent)
}

/// Whether a dump has no table, which is no error of a host that has no rules.
fn is_empty(dialect: Dialect, text: &str) -> bool {
    dialect != Dialect::Nft && !text.lines().any(|line| line.starts_with('*'))
}

/// The bridge that a port is a port of.
fn bridge(port: &str) -> Result<Option<String>> {
    let mut netlink = Netlink::new()?;
    let link = netlink
        .link_by_name(port)
        .with_context(|| format!("port {port}"))?;
    Ok(match link.master {
        Some(index) => Some(netlink.link_by_index(index)?.name),
        None => None,
    })
}

/// The port's filter as libvirt has it, if it is there and answers.
fn binding(port: &str) -> Option<String> {
    let arguments = ["--readonly", "--quiet", "nwfilter-binding-dumpxml", port];
    match output("virsh", &arguments) {
        Ok(Answer::Said(text)) => Some(text),
        _ => None,
    }
}
