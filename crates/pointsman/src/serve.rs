//! `pointsman run` and `pointsman detach`.

use std::{
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

use crate::{cli::RunOptions, config};

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

pub(crate) fn detach(pin_dir: &Path, socket: &Path, unit: Option<&str>) -> Result<()> {
    need_root("detach")?;
    start_log();
    if let Some(why) = unit.and_then(restarts) {
        println!("everything stays as it is: {why}");
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
    if detached.addresses != 0 {
        let plural = if detached.addresses == 1 { "" } else { "es" };
        println!("gave back {} virtual address{plural}", detached.addresses);
    }
    Ok(())
}

/// Why a unit that has ended begins again, or may; none if it was stopped for good.
///
/// systemd tells a unit's last command how the service ended, but not what comes next: that is asked for.
fn restarts(unit: &str) -> Option<String> {
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    if result != "success" {
        return Some(format!("{unit} failed ({result}), and may begin again"));
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["list-jobs", "--no-legend", "--no-pager", "--plain"]);
    let jobs = match systemctl.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => return Some(format!("systemctl list-jobs ended with {}", output.status)),
        Err(error) => return Some(format!("can't run systemctl: {error}")),
    };
    let jobs = String::from_utf8_lossy(&jobs);
    let mut jobs = jobs.lines().map(|line| line.split_whitespace().skip(1));
    let begins = jobs.any(|mut words| {
        words.next() == Some(unit) && words.next().is_some_and(|job| job != "stop")
    });
    begins.then(|| format!("{unit} begins again"))
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
