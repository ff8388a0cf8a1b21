//! The one program: the director's daemon, `ipvsadm`, and what shows how things are.
//!
//! Called by the name `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore` it is those.

mod capture;
mod cli;
mod collect;
mod config;
mod doctor;
mod far;
mod ipvsadm;
mod mark;
mod names;
mod nwfilter;
mod report;
mod serve;
mod setting;
mod top;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use pointsman_daemon::config::DEFAULT_SOCKET;

use cli::{Cli, Verb};

/// The environment variable that names the daemon's socket.
const SOCKET_VARIABLE: &str = "POINTSMAN_SOCKET";

fn main() -> ExitCode {
    on_broken_pipe(libc::SIG_DFL);
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    match called.and_then(|name| name.to_str()) {
        Some("ipvsadm") => return ipvsadm::run(&socket(None), &arguments.split_off(1)),
        Some("ipvsadm-save") => return ipvsadm::save(&socket(None), &arguments.split_off(1)),
        Some("ipvsadm-restore") => return ipvsadm::restore(&socket(None), &arguments.split_off(1)),
        _ => {}
    }
    // Wrong usage and --help end here.
    let cli = Cli::read(arguments);
    match obey(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pointsman: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(cli: Cli) -> Result<ExitCode> {
    let socket = socket(cli.socket);
    match cli.verb {
        Verb::Run(options) => {
            // A client that goes in the middle of an answer must not end the daemon.
            on_broken_pipe(libc::SIG_IGN);
            serve::run(options, socket)?;
        }
        Verb::Ipvsadm { arguments } => return Ok(ipvsadm::run(&socket, &arguments)),
        Verb::Detach {
            pin_dir,
            unless_restarting,
            routers,
            of_run,
        } => {
            let place = (pin_dir, socket);
            serve::detach(place, &of_run, unless_restarting.as_deref(), routers)?;
        }
        Verb::Reload { of_run } => serve::reload(socket, &of_run)?,
        Verb::Lab { arguments } => {
            // A lab whose reader goes is taken down before the end.
            on_broken_pipe(libc::SIG_IGN);
            return Ok(pointsman_lab::command::main_behind(&["lab"], &arguments));
        }
        Verb::Collect(flags) => {
            // An ssh that ends early must not end us.
            on_broken_pipe(libc::SIG_IGN);
            return collect::run(&flags);
        }
        Verb::Doctor(flags) => {
            on_broken_pipe(libc::SIG_IGN);
            return Ok(doctor::run(&flags));
        }
        Verb::Capture(flags) => {
            // A capture whose reader goes ends as others do: hosts are told.
            on_broken_pipe(libc::SIG_IGN);
            return capture::run(&flags, &socket);
        }
        Verb::Setting { words, json } => return setting::obey(&socket, &words, json),
        Verb::Mark { verb } => return mark::run(&socket, verb),
        Verb::Nwfilter { verb } => return Ok(nwfilter::run(verb)),
        Verb::Config { verb } => return config::run(verb),
        Verb::Status { json } => report::status(&socket, json)?,
        Verb::Top { delay, once } => return top::run(&socket, delay, once),
        Verb::Verdicts { json } => report::verdicts(&socket, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The socket as told, or of the environment, or the usual one.
fn socket(told: Option<PathBuf>) -> PathBuf {
    let named = || env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    told.or_else(|| named().map(PathBuf::from))
        .unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// Says what writing to nobody does: the default lets `pointsman ... | head` end quietly, as programs
/// do that are not written in Rust.
fn on_broken_pipe(action: libc::sighandler_t) {
    // SAFETY: before any thread or handler of ours exists; both actions used are valid ones.
    unsafe { libc::signal(libc::SIGPIPE, action) };
}
