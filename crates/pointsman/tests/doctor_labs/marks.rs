//! What a doctor could leave behind in a lab.

use std::process::Command;

use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_linux::netns::NetNs;

/// Rules, links, addresses, promiscuity and programs of a lab's nodes, and the lab's namespaces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    lines: Vec<String>,
}

impl Marks {
    /// As they are now.
    pub(crate) fn of(lab: &FaultLab) -> Self {
        let all = NetNs::list().unwrap_or_default();
        let mut lines: Vec<String> = all
            .into_iter()
            .filter(|name| name.starts_with(&lab.namespace("")))
            .collect();
        for namespace in lab.namespaces() {
            let mut add = |words: &[&str], plain: fn(&str) -> Option<String>| {
                let output = Command::new("ip")
                    .args(["netns", "exec", &namespace])
                    .args(words)
                    .output();
                let text = output.map(|output| output.stdout).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                lines.extend(
                    text.lines()
                        .filter_map(plain)
                        .map(|line| format!("{namespace}: {line}")),
                );
            };
            add(&["ip", "-details", "-oneline", "link"], link);
            add(&["ip", "-oneline", "address"], whole);
            // Without what counts.
            add(&["nft", "--stateless", "list", "ruleset"], whole);
            add(&["ebtables-save"], rule);
            add(&["iptables-save"], rule);
            add(
                &["sysctl", "--all", "--pattern", "arp_|rp_filter|forward"],
                whole,
            );
        }
        Self { lines }
    }

    /// Says what is there that was not, or is not any more.
    pub(crate) fn compare(&self, later: &Self) -> Result<(), String> {
        let only = |one: &Self, other: &Self, sign: char| -> Vec<String> {
            let lines = one.lines.iter().filter(|line| !other.lines.contains(line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        let changed = [only(later, self, '+'), only(self, later, '-')].concat();
        match changed.is_empty() {
            true => Ok(()),
            false => Err(format!("left behind:\n{}", changed.join("\n"))),
        }
    }
}

fn whole(line: &str) -> Option<String> {
    Some(line.to_owned())
}

/// A rule, without comments and what chains have counted.
fn rule(line: &str) -> Option<String> {
    let line = (!line.starts_with('#')).then_some(line)?;
    Some(line.split(" [").next().unwrap_or_default().to_owned())
}

/// Name, promiscuity and program of a link.
fn link(line: &str) -> Option<String> {
    let word = |after: &str| {
        let rest = line.split(after).nth(1).unwrap_or_default();
        rest.split(' ').next().unwrap_or_default().to_owned()
    };
    let name = line.split(':').nth(1)?;
    Some(format!(
        "{name} promiscuity {} program {}",
        word("promiscuity "),
        word("prog/xdp id ")
    ))
}
