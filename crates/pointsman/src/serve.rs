//! `pointsman run`, `pointsman reload` and `pointsman detach`.

use std::{
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use pointsman_daemon::{
    config::{Config, DEFAULT_SOCKET},
    state::DEFAULT_FILE,
};
use pointsman_datapath::Options;
use pointsman_director::control::Capacity;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, RunOptions},
    config,
    report::connect,
};

/// The environment variable that chooses what is logged.
const LOG_VARIABLE: &str = "POINTSMAN_LOG";

pub(crate) fn run(options: RunOptions, socket: PathBuf) -> Result<()> {
    need_root("run")?;
    start_log();
    // A laboratory's daemon must not find the host's services.
    let is_usual = socket == Path::new(DEFAULT_SOCKET);
    let usual = (is_usual && !options.no_state).then(|| DEFAULT_FILE.into());
    let state = options.state.or(usual);
    let availability = options
        .keepalived
        .map(|file| config::source(file, options.config_id, options.lenient));
    let config = Config {
        availability,
        interfaces: options.interfaces,
        hook: options.hook,
        datapath: Options {
            pin_dir: options.pin_dir,
            connections: options.connections,
            capacity: Capacity {
                services: options.services,
                servers: options.servers,
                slot_lines: options.slot_lines,
                table_lines: options.table_lines,
            },
        },
        socket,
        metrics: options.metrics,
        keep: options.keep,
        state,
        settings: options.settings.given,
    };
    pointsman_daemon::run(&config)
}

pub(crate) fn reload(socket: PathBuf, of_run: &[OsString]) -> Result<()> {
    let (_, socket) = place((PathBuf::new(), socket), of_run);
    println!("{}", connect(&socket)?.reload()?);
    Ok(())
}

pub(crate) fn detach(
    told: (PathBuf, PathBuf),
    of_run: &[OsString],
    unit: Option<&str>,
    routers: bool,
) -> Result<()> {
    need_root("detach")?;
    start_log();
    let (pin_dir, socket) = &place(told, of_run);
    // It was master until now; one that hung before was silent for longer.
    if unit.is_some() && matches!(result().as_str(), "signal" | "core-dump" | "oom-kill") {
        pointsman_daemon::note_sudden_end(socket)?;
    }
    if let Some(why) = unit.and_then(restarts) {
        println!("everything stays as it is: {why}");
        return Ok(());
    }
    if routers {
        say_given_back(pointsman_daemon::give_back_addresses(socket)?);
        return Ok(());
    }
    let detached = pointsman_daemon::detach(pin_dir, socket)?;
    let report = &detached.datapath;
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    println!(
        "removed {}, {}, {} and {}",
        count(report.links.len(), "link"),
        count(report.qdiscs.len(), "qdisc"),
        count(report.maps, "map"),
        count(detached.neighbours, "neighbour"),
    );
    say_given_back(detached.addresses);
    Ok(())
}

/// Pins and socket of a daemon, as told, or as the options of its `run` tell. A unit's last command must not
/// fail because somebody has made a mistake in those meanwhile.
fn place(told: (PathBuf, PathBuf), of_run: &[OsString]) -> (PathBuf, PathBuf) {
    if of_run.is_empty() {
        return told;
    }
    match Cli::place(of_run) {
        Ok((pin_dir, socket)) => (pin_dir, socket.unwrap_or(told.1)),
        Err(error) => {
            eprintln!(
                "pointsman: options of run are not understood, the usual places count: {error}"
            );
            told
        }
    }
}

fn say_given_back(addresses: usize) {
    if addresses != 0 {
        let plural = if addresses == 1 { "" } else { "es" };
        println!("gave back {addresses} virtual address{plural}");
    }
}

/// Why a unit that has ended begins again, or may; none if it was stopped for good.
///
/// systemd tells a unit's last command how the service ended, but not what comes next: that is asked for.
/// Whoever stops a unit means it, also if it has to be killed or crashes just then.
fn restarts(unit: &str) -> Option<String> {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["list-jobs", "--no-legend", "--no-pager", "--plain"]);
    let jobs = match systemctl.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => return Some(format!("systemctl list-jobs ended with {}", output.status)),
        Err(error) => return Some(format!("can't run systemctl: {error}")),
    };
    let jobs = String::from_utf8_lossy(&jobs);
    let mut jobs = jobs.lines().map(|line| line.split_whitespace().skip(1));
    let job =
        jobs.find_map(|mut words| words.next().filter(|name| *name == unit).and(words.next()));
    let result = result();
    match job {
        Some("stop") => None,
        Some(_) => Some(format!("{unit} begins again")),
        None if result == "success" => None,
        None => Some(format!("{unit} failed ({result}), and may begin again")),
    }
}

/// How systemd says that the service ended.
fn result() -> String {
    std::env::var("SERVICE_RESULT").unwrap_or_default()
}

fn need_root(verb: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("`pointsman {verb}` loads programs into the kernel and must be run as root")
}

fn start_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
