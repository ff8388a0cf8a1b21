//! `pointsman config`: what a keepalived.conf says, before anything runs it.

mod files;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use pointsman_config::keepalived::{Configuration, Diagnostic, Severity, configure};
use pointsman_daemon::availability::Source;
use serde_json::{Value, json};

use files::Files;

pub(crate) const LONG_ABOUT: &str = "\
Check a keepalived.conf: what is wrong, what Pointsman does not do, what is suspicious

Every such line is named with file, line and column, and with what becomes different. `error` is what \
`keepalived -t` complains of too, `unsupported` what Pointsman does not do, `warning` what is seldom \
meant so, `note` what is accepted and changes nothing. Then comes what would run. The language is that of \
keepalived 2.2.7. Interfaces, users and scripts are not looked for.

`pointsman run --keepalived FILE` runs it. Exit codes: 0 nothing but warnings and notes, 1 errors \
or something unsupported, 2 wrong usage.";

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Check a keepalived.conf
    #[command(long_about = LONG_ABOUT)]
    Check {
        /// The file; what it includes is read too
        file: PathBuf,
        /// What conditions (`@id`) compare with [default: the host's name up to its first dot]
        #[arg(short = 'i', long, value_name = "ID")]
        config_id: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A keepalived.conf for the daemon to run, read anew whenever it asks. What is wrong or not done is told
/// each time; unless `lenient`, it keeps the file from being used.
pub(crate) fn source(file: PathBuf, config_id: Option<String>, lenient: bool) -> Source {
    let name = file.display().to_string();
    let read = move || {
        let name = file.display().to_string();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {name}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let id = config_id.clone().map_or_else(host_name, Ok)?;
        let (configuration, _, diagnostics) = configure(&name, &text, &id, &mut Files::default());
        let mut faults = Vec::new();
        for diagnostic in diagnostics {
            match diagnostic.severity {
                Severity::Error | Severity::Unsupported if !lenient => {
                    faults.push(diagnostic.to_string());
                }
                _ => tracing::warn!("{diagnostic}"),
            }
        }
        if !faults.is_empty() {
            bail!(
                "{}\n--lenient runs {name} without these lines",
                faults.join("\n")
            );
        }
        // Half written, most likely; who wants nothing to run stops the daemon.
        if configuration.instances.is_empty()
            && configuration.services.is_empty()
            && configuration.statics == Default::default()
        {
            bail!("{name} has neither a vrrp_instance nor a virtual_server");
        }
        Ok(configuration)
    };
    Source {
        name,
        read: Arc::new(read),
    }
}

pub(crate) fn run(verb: ConfigVerb) -> Result<ExitCode> {
    let ConfigVerb::Check {
        file,
        config_id,
        json,
    } = verb;
    let name = file.display().to_string();
    let bytes = fs::read(&file).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let id = config_id.map_or_else(host_name, Ok)?;
    let (configuration, _, diagnostics) = configure(&name, &text, &id, &mut Files::default());
    if json {
        println!("{:#}", as_json(&configuration, &diagnostics));
    } else {
        print(&configuration, &diagnostics);
    }
    let is_bad = |d: &Diagnostic| d.severity >= Severity::Unsupported;
    Ok(match diagnostics.iter().any(is_bad) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The host's name up to its first dot, keepalived's default.
fn host_name() -> Result<String> {
    let file = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    Ok(name.trim().split('.').next().unwrap_or_default().to_owned())
}

fn print(configuration: &Configuration, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        println!("{diagnostic}");
    }
    if !diagnostics.is_empty() {
        println!();
    }
    let lines = configuration.summary();
    match lines.is_empty() {
        true => println!("Nothing would run."),
        false => println!("`pointsman run --keepalived` would run:"),
    }
    for line in lines {
        println!("  {line}");
    }
    let count = |severity| {
        diagnostics
            .iter()
            .filter(|d| d.severity == severity)
            .count()
    };
    println!(
        "{} errors, {} unsupported, {} warnings, {} notes",
        count(Severity::Error),
        count(Severity::Unsupported),
        count(Severity::Warning),
        count(Severity::Note)
    );
}

fn as_json(configuration: &Configuration, diagnostics: &[Diagnostic]) -> Value {
    let diagnostics: Vec<Value> = diagnostics
        .iter()
        .map(|d| {
            json!({
                "severity": d.severity.name(),
                "file": d.file,
                "line": d.line,
                "column": d.column,
                "text": d.text,
            })
        })
        .collect();
    let statics = &configuration.statics;
    let address = |a: &pointsman_config::keepalived::model::VirtualAddress| a.address.to_string();
    let routers: Vec<Value> = configuration
        .instances
        .iter()
        .map(|instance| {
            json!({
                "name": instance.name,
                "interface": instance.interface,
                "virtual_router_id": instance.vrid,
                "priority": instance.priority,
                "version": instance.version,
                "advert_int": instance.interval.as_secs_f64(),
                "addresses": instance.addresses.iter().map(address).collect::<Vec<_>>(),
                "excluded": instance.excluded.iter().map(address).collect::<Vec<_>>(),
                "routes": instance.routes.iter().map(|route| route.name()).collect::<Vec<_>>(),
                "rules": instance.rules.iter().map(|rule| rule.preference).collect::<Vec<_>>(),
            })
        })
        .collect();
    let sessions: Vec<Value> = configuration
        .bfd_instances
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "neighbor": one.neighbor,
                "source": one.source,
                "min_rx_ms": one.min_rx.as_secs_f64() * 1000.0,
                "min_tx_ms": one.min_tx.as_secs_f64() * 1000.0,
                "idle_tx_ms": one.idle_tx.as_secs_f64() * 1000.0,
                "multiplier": one.multiplier,
                "passive": one.passive,
            })
        })
        .collect();
    let services: Vec<Value> = configuration
        .virtual_services()
        .iter()
        .map(|derived| {
            json!({
                "service": derived.service,
                "servers": derived.servers,
                "sorry_server": derived.sorry,
                "quorum": derived.origin.quorum,
                "hysteresis": derived.origin.hysteresis,
                "checks": derived.origin.servers.iter().map(|s| s.checkers.len()).sum::<usize>(),
            })
        })
        .collect();
    let groups: Vec<Value> = configuration
        .sync_groups
        .iter()
        .map(|group| json!({"name": group.name, "members": group.members}))
        .collect();
    json!({
        "schema": 1,
        "diagnostics": diagnostics,
        "would_run": {
            "static": {
                "addresses": statics.addresses.iter().map(address).collect::<Vec<_>>(),
                "routes": statics.routes.iter().map(|route| route.name()).collect::<Vec<_>>(),
                "rules": statics.rules.iter().map(|rule| rule.preference).collect::<Vec<_>>(),
            },
            "virtual_routers": routers,
            "sync_groups": groups,
            "bfd_sessions": sessions,
            "virtual_services": services,
        },
    })
}
