//! `pointsman mark`: the rules that make firewall marks.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use pointsman_config::marks::{Import, Source, import};
use pointsman_daemon::client::Client;
use pointsman_director::model::{
    Change, Family, MarkAction, MarkMatch, MarkRule, MarkRuleView, PortRange, Prefix, Protocol,
};

use crate::report::connect;

pub(crate) const LONG_ABOUT: &str = "\
Rules that make firewall marks, for services known by marks (`ipvsadm -f`)

The director sees packets before netfilter does, so marks of iptables and nft don't exist yet. It has \
rules of its own. A packet that may begin a connection has mark 0 first and meets all rules in \
their order; each that matches changes the mark, and the next one goes on with it. `mark import` makes \
these rules from those of iptables or nft.";

#[derive(Debug, Subcommand)]
pub(crate) enum MarkVerb {
    /// Add a rule
    Add(Box<RuleFlags>),
    /// Delete the rule with a number, as `list` shows it
    Delete {
        /// Its number, from 1
        number: usize,
    },
    /// Show the rules in their order, as the arguments of `add`
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete all rules
    Clear,
    /// Replace all rules by those of iptables or nft that set marks
    #[command(long_about = IMPORT)]
    Import {
        /// What `iptables-save`, `ip6tables-save` or `nft -j list ruleset` wrote; standard input
        /// when none is named. Several are read as one host's
        files: Vec<PathBuf>,
        /// Show the rules, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Leave out what can't be imported, and import the rest
        #[arg(long)]
        partial: bool,
        /// The text is of ip6tables, though nothing in it says so
        #[arg(long)]
        ipv6: bool,
    },
}

const IMPORT: &str = "\
Replace all rules by those of iptables or nft that set marks

Read are rules of the hooks that a packet passes before IPVS sees it: prerouting, then input, tables by \
their priority. Chains are followed, marks that add up add up. A rule that can't be said in mark \
rules (a match on a connection's state, say) is named with its line and why; then nothing is \
changed, unless --partial says so.

    iptables-save | pointsman mark import
    nft -j list ruleset | pointsman mark import --dry-run";

#[derive(Debug, Args)]
pub(crate) struct RuleFlags {
    /// Where packets go: an address or a prefix
    #[arg(long, short, value_name = "PREFIX")]
    destination: Option<Prefix>,
    /// Where they come from
    #[arg(long, short, value_name = "PREFIX")]
    source: Option<Prefix>,
    /// Their protocol: tcp, udp or sctp
    #[arg(long, short, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<Protocol>,
    /// Their destination port is one of these, as in 80,443,8000-8100
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    ports: Vec<PortRange>,
    /// Their source port is one of these
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    source_ports: Vec<PortRange>,
    /// The interface they come in by, its exact name
    #[arg(long, short, value_name = "IF")]
    interface: Option<String>,
    /// IPv4 packets only
    #[arg(long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// IPv6 packets only
    #[arg(long)]
    ipv6: bool,
    /// Packets that have this mark so far; with a mask only its bits count
    #[arg(long, value_name = "VALUE[/MASK]", value_parser = mark_match)]
    mark: Option<MarkMatch>,
    #[command(flatten)]
    action: ActionFlags,
    /// Number of the new rule; the others move. The last when absent
    #[arg(long, value_name = "N")]
    at: Option<usize>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ActionFlags {
    /// Make the mark VALUE; with a mask, clear its bits and set those of VALUE
    #[arg(long, value_name = "VALUE[/MASK]", value_parser = pair)]
    set: Option<Pair>,
    /// Clear the bits of the mask, then flip those of VALUE
    #[arg(long, value_name = "VALUE/MASK", value_parser = pair)]
    set_xmark: Option<Pair>,
    /// Set bits
    #[arg(long, value_name = "VALUE", value_parser = number)]
    or: Option<u32>,
    /// Keep these bits only
    #[arg(long, value_name = "VALUE", value_parser = number)]
    and: Option<u32>,
    /// Flip bits
    #[arg(long, value_name = "VALUE", value_parser = number)]
    xor: Option<u32>,
    /// Pass over the next N rules
    #[arg(long, value_name = "N")]
    skip: Option<u32>,
    /// Look at no more rules
    #[arg(long)]
    stop: bool,
}

/// A value and a mask.
#[derive(Debug, Clone, Copy)]
struct Pair {
    value: u32,
    mask: Option<u32>,
}

fn number(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("`{text}` is no number from 0 to 0xffffffff"))
}

fn pair(text: &str) -> Result<Pair, String> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (value, Some(number(mask)?)),
        None => (text, None),
    };
    let value = number(value)?;
    Ok(Pair { value, mask })
}

fn mark_match(text: &str) -> Result<MarkMatch, String> {
    let Pair { value, mask } = pair(text)?;
    let mask = mask.unwrap_or(u32::MAX);
    Ok(MarkMatch { value, mask })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err("it is tcp, udp or sctp".to_owned()),
    }
}

impl ActionFlags {
    fn action(&self) -> MarkAction {
        let set = |value, mask| MarkAction::Set { value, mask };
        match *self {
            Self {
                set: Some(Pair { value, mask }),
                ..
            } => set(value, mask.map_or(u32::MAX, |mask| mask | value)),
            Self {
                set_xmark: Some(Pair { value, mask }),
                ..
            } => set(value, mask.unwrap_or(u32::MAX)),
            Self {
                or: Some(value), ..
            } => set(value, value),
            Self {
                and: Some(value), ..
            } => set(0, !value),
            Self {
                xor: Some(value), ..
            } => set(value, 0),
            Self {
                skip: Some(rules), ..
            } => MarkAction::Skip { rules },
            _ => MarkAction::STOP,
        }
    }
}

impl RuleFlags {
    fn rule(self) -> (MarkRule, Option<usize>) {
        let rule = MarkRule {
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::Ipv4,
                (_, true) => Family::Ipv6,
                _ => Family::Any,
            },
            destination: self.destination,
            source: self.source,
            protocol: self.protocol,
            ports: self.ports,
            source_ports: self.source_ports,
            interface: self.interface,
            mark: self.mark,
            action: self.action.action(),
        };
        (rule, self.at)
    }
}

/// `pointsman mark ...`
pub(crate) fn run(socket: &Path, verb: MarkVerb) -> Result<ExitCode> {
    match verb {
        MarkVerb::Add(flags) => {
            let (rule, number) = flags.rule();
            change(&mut connect(socket)?, Change::AddMarkRule { rule, number })?;
        }
        MarkVerb::Delete { number } => {
            change(&mut connect(socket)?, Change::DeleteMarkRule { number })?;
        }
        MarkVerb::Clear => {
            let rules = Vec::new();
            change(&mut connect(socket)?, Change::SetMarkRules { rules })?;
        }
        MarkVerb::List { json } => list(socket, json)?,
        MarkVerb::Import {
            files,
            dry_run,
            partial,
            ipv6,
        } => {
            let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
            let import = read(&files, family)?;
            for obstacle in &import.obstacles {
                eprintln!("{obstacle}");
            }
            if !import.obstacles.is_empty() && !partial {
                let count = import.obstacles.len();
                bail!(
                    "{count} rule{} can't be imported, so nothing is changed; --partial leaves \
                     {} out",
                    if count == 1 { "" } else { "s" },
                    if count == 1 { "it" } else { "them" },
                );
            }
            if dry_run {
                print!("{}", text(&import.rules));
            } else {
                let rules = import.rules;
                change(&mut connect(socket)?, Change::SetMarkRules { rules })?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn change(client: &mut Client, change: Change) -> Result<()> {
    match client.apply(&[change])?.first() {
        None => Ok(()),
        Some(refusal) => bail!("{}", refusal.error),
    }
}

fn read(files: &[PathBuf], family: Family) -> Result<Import> {
    let mut texts = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        texts.push((path.display().to_string(), text));
    }
    if files.is_empty() {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.context("standard input")?;
        texts.push(("standard input".to_owned(), text));
    }
    let sources: Vec<Source<'_>> = texts
        .iter()
        .map(|(name, text)| Source { name, text })
        .collect();
    Ok(import(&sources, family)?)
}

fn list(socket: &Path, json: bool) -> Result<()> {
    let mut client = connect(socket)?;
    let views = client.mark_rules()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&views)?);
        return Ok(());
    }
    let attached = client.status()?.interfaces;
    let attached: HashSet<String> = attached.into_iter().map(|found| found.name).collect();
    let rules: Vec<MarkRule> = views.iter().map(|view| view.rule.clone()).collect();
    for (line, view) in text(&rules).lines().zip(&views) {
        println!("{line}{}", note(view, &attached));
    }
    Ok(())
}

/// Why a rule matches nothing.
fn note(view: &MarkRuleView, attached: &HashSet<String>) -> &'static str {
    match &view.rule.interface {
        Some(_) if !view.interface_exists => "    (no such interface)",
        Some(name) if !attached.contains(name) => "    (not an interface of the director)",
        _ => "",
    }
}

/// Rules with their numbers.
fn text(rules: &[MarkRule]) -> String {
    let width = rules.len().to_string().len();
    let lines = (1..).zip(rules);
    lines
        .map(|(number, rule)| format!("{number:>width$}  {rule}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(subcommand)]
        verb: MarkVerb,
    }

    fn rule(arguments: &str) -> Result<MarkRule, clap::Error> {
        let words = ["mark", "add"].into_iter().chain(arguments.split(' '));
        match Only::try_parse_from(words)?.verb {
            MarkVerb::Add(flags) => Ok(flags.rule().0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_listed_can_be_added() {
        for arguments in [
            "--destination 10.99.0.0/24 --protocol tcp --ports 80,443,8000-8100 --set 0x1",
            "--source fd00::/8 --source-ports 1-5 --interface eth0 --mark 0x1/0x3 --set 0x4/0xc",
            "--ipv6 --set-xmark 0x3/0x1",
            "--skip 3",
            "--stop",
        ] {
            assert_eq!(rule(arguments).unwrap().to_string(), arguments);
        }
        for (arguments, same) in [
            ("--or 6", "--set 0x6/0x6"),
            ("--and 0xff", "--set 0x0/0xffffff00"),
            ("--xor 1", "--set-xmark 0x1/0x0"),
            ("--set 5/2", "--set 0x5/0x7"),
        ] {
            assert_eq!(rule(arguments).unwrap().to_string(), same);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for arguments in [
            "--destination 10.0.0.1",
            "--set 1 --or 2",
            "--set one",
            "--protocol icmp --set 1",
            "--ports 80- --set 1",
            "--ipv4 --ipv6 --set 1",
            "--destination host --set 1",
        ] {
            assert_eq!(rule(arguments).unwrap_err().exit_code(), 2, "{arguments}");
        }
    }
}
