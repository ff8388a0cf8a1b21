//! `pointsman nwfilter list`: which ports have rules of ours, and what these counted.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use pointsman_filter::nwfilter::{Installed, Learned};
use pointsman_linux::sysctl;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// Only this port
    #[arg(long, value_name = "PORT", value_parser = super::port)]
    port: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: &ListFlags) -> Result<ExitCode> {
    let mut installed = super::installed()?;
    if let Some(port) = &flags.port {
        installed.retain(|one| one.port == *port);
        if installed.is_empty() {
            bail!("{port} has no rules of ours");
        }
    }
    installed.sort_by(|one, other| one.port.cmp(&other.port));
    if flags.json {
        let ports: Vec<Value> = installed.iter().map(as_json).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({"ports": ports}))?
        );
    } else {
        for one in &installed {
            print!("{}", as_text(one));
        }
    }
    if installed.iter().any(|one| one.by_marks) {
        for version in ["ip", "ip6"] {
            let key = format!("net.bridge.bridge-nf-call-{version}tables");
            if !sysctl::read(&key).is_ok_and(|value| value == "1") {
                eprintln!(
                    "pointsman: rules ask for the state of connections, but {key} is not 1: packets \
                     have none of the states"
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(one: &Installed) -> String {
    let mut text = format!("{}: {}", one.port, one.filter);
    for (name, value) in &one.parameters {
        let _ = write!(text, " {name}={value}");
    }
    text.push('\n');
    if let Some(learning) = &one.learning {
        let shown = |learned: &Learned| match learned.expires_seconds {
            Some(seconds) => format!("{} for {seconds} s", learned.address),
            None => learned.address.clone(),
        };
        let learned: Vec<String> = one.learned.iter().map(shown).collect();
        let learned = match learned.as_slice() {
            [] => "nothing yet".to_owned(),
            some => some.join(", "),
        };
        let _ = writeln!(text, "  learned ({learning}): {learned}");
    }
    let _ = writeln!(text, "{:>12} {:>14}  rule", "packets", "bytes");
    for rule in one.rules.iter().filter(|rule| rule.chain != "about") {
        let from = match (&rule.filter, rule.number) {
            (Some(filter), Some(number)) => format!("   # {filter}, rule {}", number + 1),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{:>12} {:>14}  {}: {}{from}",
            rule.packets, rule.bytes, rule.chain, rule.text
        );
    }
    text
}

fn as_json(one: &Installed) -> Value {
    let rules: Vec<Value> = one
        .rules
        .iter()
        .filter(|rule| rule.chain != "about")
        .map(|rule| {
            json!({
                "chain": rule.chain, "rule": rule.text, "packets": rule.packets, "bytes": rule.bytes,
                "filter": rule.filter, "number": rule.number,
            })
        })
        .collect();
    let learned: Vec<Value> = one
        .learned
        .iter()
        .map(|one| json!({"address": one.address, "expires_seconds": one.expires_seconds}))
        .collect();
    let parameters: Vec<Value> = one
        .parameters
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({
        "port": one.port, "filter": one.filter, "parameters": parameters, "learning": one.learning,
        "learned": learned, "state_by_marks": one.by_marks, "digest": one.digest, "rules": rules,
    })
}
