//! `ipvsadm`, spoken to the daemon.

mod batch;
mod sync;

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use pointsman_config::ipvsadm::{
    arguments::{Command, ListOptions, ListSubject, UsageError, parse},
    listing,
    save::{self, Line},
    usage,
};
use pointsman_daemon::client::{Client, ClientError};
use pointsman_director::model::{Change, ServiceView};

use crate::names::SystemNames;
use batch::Batch;

/// What the kernel refused, in ipvsadm's exit code.
const REFUSED: u8 = 255;
/// The daemon can't be reached.
const NO_DIRECTOR: u8 = 2;

/// How a command failed: what goes to stderr, and the exit code.
#[derive(Debug)]
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(code: u8, text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            code,
        }
    }

    /// A line that can't be obeyed; it brings its own line end.
    fn usage(error: UsageError) -> Self {
        let text = error.message.strip_suffix('\n').unwrap_or(&error.message);
        Self::new(error.exit_code, text)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect { path, source } => {
                let why = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "Permission denied (you must be root)".to_owned()
                    }
                    _ => format!("no director on {}: {source}", path.display()),
                };
                let text = format!(
                    "Can't initialize ipvs: {why}\nIs `pointsman run` running? With another \
                     --socket, name it in POINTSMAN_SOCKET."
                );
                Self::new(NO_DIRECTOR, text)
            }
            other => Self::new(REFUSED, other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(1, format!("ipvsadm: {error}"))
    }
}

/// `ipvsadm ARGUMENTS...`
pub(crate) fn run(socket: &Path, arguments: &[OsString]) -> ExitCode {
    finish(Session::new(socket).run(arguments))
}

/// `ipvsadm-save [-n]`
pub(crate) fn save(socket: &Path, arguments: &[OsString]) -> ExitCode {
    // As in Debian's script, words that are no options mean nothing.
    let mut options = arguments
        .iter()
        .filter(|word| word.to_string_lossy().starts_with('-'));
    if options.any(|option| option != "-n") {
        return finish(Err(Failure::new(1, "Usage: ipvsadm-save [-n]")));
    }
    let numeric = arguments.iter().any(|word| word == "-n");
    finish(Session::new(socket).save(numeric))
}

/// `ipvsadm-restore`: clears everything first, and knows comments.
pub(crate) fn restore(socket: &Path, arguments: &[OsString]) -> ExitCode {
    if !arguments.is_empty() {
        return finish(Err(Failure::new(2, "Usage: ipvsadm-restore < file")));
    }
    let mut session = Session::new(socket);
    let restored = session
        .change(Change::Clear)
        .and_then(|()| session.restore(|line| !line.starts_with('#')));
    finish(restored)
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("{}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// A run of ipvsadm: connected when first needed.
struct Session {
    socket: PathBuf,
    client: Option<Client>,
    names: SystemNames,
}

impl Session {
    fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            client: None,
            names: SystemNames::default(),
        }
    }

    fn client(&mut self) -> Result<&mut Client, Failure> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(Client::connect(&self.socket)?)),
        }
    }

    fn run(&mut self, arguments: &[OsString]) -> Result<(), Failure> {
        let command = parse(arguments, &self.names).map_err(Failure::usage)?;
        self.obey(command)
    }

    fn obey(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Change { change, warnings } => {
                for warning in warnings {
                    eprintln!("Warning: {warning}");
                }
                self.change(change)
            }
            Command::List(options) => self.list(&options),
            Command::Save { numeric } => self.save(numeric),
            Command::Restore => self.restore(|_| true),
            Command::StartDaemon(asked) => {
                self.client()?.start_sync(&sync::request(asked))?;
                Ok(())
            }
            Command::StopDaemon(asked) => {
                self.client()?.stop_sync(sync::role(asked.role))?;
                Ok(())
            }
            Command::Help => {
                println!("{}", usage::VERSION);
                print!("{}", usage::TEXT);
                Ok(())
            }
            Command::Version => {
                println!("{}", usage::VERSION);
                Ok(())
            }
        }
    }

    fn change(&mut self, change: Change) -> Result<(), Failure> {
        match self.client()?.apply(&[change])?.first() {
            None => Ok(()),
            Some(refusal) => Err(Failure::new(REFUSED, &refusal.error)),
        }
    }

    fn list(&mut self, options: &ListOptions) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        match options.subject {
            ListSubject::Connections => {
                self.client()?;
                let Self { client, names, .. } = self;
                let Some(client) = client else {
                    return Ok(());
                };
                let mut broken = None;
                let connections = client
                    .connections()?
                    .map_while(|connection| connection.map_err(|error| broken = Some(error)).ok());
                listing::connections(&mut out, connections, options, names)?;
                out.flush()?;
                broken.map_or(Ok(()), |error| Err(error.into()))
            }
            ListSubject::Timeouts => {
                let timeouts = self.client()?.timeouts()?;
                listing::timeouts(&mut out, &timeouts)?;
                Ok(out.flush()?)
            }
            ListSubject::Daemons => {
                let daemons = self.client()?.sync_daemons()?;
                let views: Vec<_> = daemons.into_iter().map(sync::view).collect();
                listing::daemons(&mut out, &views)?;
                Ok(out.flush()?)
            }
            ListSubject::Services => {
                let client = self.client()?;
                let services = client.services()?;
                let size = client.status()?.connections.capacity.next_power_of_two();
                listing::services(&mut out, &services, size, options, &self.names)?;
                Ok(out.flush()?)
            }
            ListSubject::Service(id) => {
                let services = self.client()?.services()?;
                let only: Vec<ServiceView> = services
                    .into_iter()
                    .filter(|view| view.service.id == id)
                    .collect();
                if only.is_empty() {
                    return Err(Failure::new(1, "No such service"));
                }
                listing::services(&mut out, &only, 0, options, &self.names)?;
                Ok(out.flush()?)
            }
        }
    }

    fn save(&mut self, numeric: bool) -> Result<(), Failure> {
        let services = self.client()?.services()?;
        let mut out = BufWriter::new(io::stdout().lock());
        save::write(&mut out, &services, numeric, &self.names)?;
        Ok(out.flush()?)
    }

    /// Reads commands from stdin; a line that can't be read ends it, a refused one does not.
    fn restore(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), Failure> {
        let bytes = {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes)?;
            bytes
        };
        let text = String::from_utf8_lossy(&bytes);
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| keep(line))
            .collect();
        let mut batch = Batch::default();
        let mut last = Ok(());
        for line in save::lines(&kept) {
            last = match self.line(&line, &mut batch) {
                Ok(outcome) => outcome,
                Err(failure) => {
                    // What came before is carried out first, and its refusals are said first.
                    let _ = batch.send(self.client()?)?;
                    return Err(failure);
                }
            };
        }
        match batch.send(self.client()?)? {
            Some(outcome) => outcome,
            None => last,
        }
    }

    /// One line of a restore. The outer error ends it; the inner one is the line's own.
    fn line(&mut self, line: &Line<'_>, batch: &mut Batch) -> Result<Result<(), Failure>, Failure> {
        let command = line.command(&self.names).map_err(Failure::usage)?;
        if let Command::Change { change, warnings } = command {
            for warning in warnings {
                eprintln!("Warning: line {}: {warning}", line.number);
            }
            batch.add(change);
            if batch.is_full() {
                return Ok(batch.send(self.client()?)?.unwrap_or(Ok(())));
            }
            return Ok(Ok(()));
        }
        // Whatever looks at the configuration has to see the changes before it.
        let _ = batch.send(self.client()?)?;
        // ipvsadm leaves by itself after its version and where a list has nothing to show.
        let is_list = matches!(command, Command::List(_));
        let is_last = matches!(command, Command::Version);
        let outcome = self.obey(command);
        if is_last && outcome.is_ok() {
            return Err(Failure::new(0, ""));
        }
        if is_list {
            return outcome.map(Ok);
        }
        if let Err(failure) = &outcome {
            eprintln!("{}", failure.text);
        }
        Ok(outcome.map_err(|failure| Failure::new(failure.code, "")))
    }
}
