//! The commands of `lab`, each a plain function; the words of the command line come last.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pointsman_path::ladder::Style;

use crate::address::{self, Family};
use crate::error::{LabError, Result};
use crate::lab::{Lab, Program};
use crate::ladder;
use crate::namespace::command_line;
use crate::oracle::folder;
use crate::recorder::{Recorder, write_pcapng};
use crate::server::Manner;
use crate::topology::{Kind, Options, Role, Topology};
use crate::{decapsulate, demo, fault, server, tag};

/// Port of the servers that `up` starts.
pub const PORT: u16 = 80;

const HELP: &str = "\
pointsman-lab: network-namespace laboratories for a load balancer

  up KIND [--tag T] [--servers N] [--mtu N] [--fabric-mtu N] [--complete-checksums] [--no-vip]
          [--clients N] [--backup] [--foreground]
                                 build a lab with servers on port 80, and leave it up; in the
                                 foreground, until a signal comes
                                 KIND: two-bridge, one-leg, tunnel, nat
  down TAG | --stale | --all     take down one lab, those of dead processes, or every lab
  list                           show the labs that are up
  ladder TAG [--pcapng FILE] [COMMAND...]
                                 capture everywhere while COMMAND runs in the client (without:
                                 curl to the VIP), then show its connection hop by hop
  demo                           show the director at work in one lab after the other
  oracle [--director WHICH] [--jobs N] [--recordings DIR] [--record DIR] [--slack SECONDS] DIR...
                                 replay the scenarios of folders (NAME.json) and compare with what
                                 the kernel's IPVS did (NAME.tsv beside them, or in another folder)
                                 WHICH: pointsman, or kernel for ip_vs and ipvsadm
                                 --record writes recordings instead of comparing
  generate [--first SEED] [--seeds N] DIR
                                 write the scenarios of N seeds (default 10, from 1) to a folder
  fault CODE | --list            build a fault, show it fail, cure it, undo the cure
                                 (see `fault --help`)
  serve --name NAME --port N [--only ADDRESS] [--careless]
                                 be a real server (in its namespace); listen for TCP on one address
                                 alone; let the kernel choose the source of answers by UDP
  decapsulate --interface I --tun NAME
                                 be the tunnel end of a real server (in its namespace)
";

/// Builds a lab with servers (and decapsulators in a tunnel lab); dropping it takes it down.
///
/// The text describes it. `kept` says that it shall outlive this process by [`Lab::keep`].
pub fn up(kind: Kind, options: &Options, program: &Program, kept: bool) -> Result<(Lab, String)> {
    let mut lab = Topology::build(kind, options)?;
    if kept {
        lab.silence();
    }
    if kind == Kind::Tunnel {
        lab.start_decapsulators(program)?;
    }
    lab.start_servers(program, &[PORT])?;
    let text = format!(
        "lab {} is up: {kind}, namespaces {}\n{}VIP {} and {}, port {PORT}\n",
        lab.tag(),
        lab.namespaces().join(" "),
        lab.topology().table(),
        address::vip(Family::V4),
        address::vip(Family::V6),
    );
    Ok((lab, text))
}

/// Takes one lab down.
pub fn down(tag: &str) -> Result<()> {
    tag::take_down(tag)
}

/// One line for each lab that is up.
pub fn list() -> Result<String> {
    let mut text = String::new();
    for tag in tag::tags()? {
        let what = match Lab::open(&tag) {
            Ok(lab) => {
                let servers = lab.topology().options.real_servers;
                format!("{} with {servers} real servers", lab.topology().kind)
            }
            Err(error) => match fault::fault_lab::standing(&tag) {
                Some(name) => format!("fault {name}"),
                None => format!("not whole: {error}"),
            },
        };
        text += &format!("{tag:12} {what}\n");
    }
    Ok(text)
}

/// Captures everywhere while `command` runs in the client, then gives the ladder of each connection
/// to the VIP, or of the first connection when there is none.
pub fn ladder(
    tag: &str,
    command: &mut Command,
    pcapng: Option<&Path>,
    style: Style,
) -> Result<String> {
    let lab = Lab::open(tag)?;
    let recorder = Recorder::start(&lab)?;
    let output = lab.output(Role::Client, command)?;
    let recording = recorder.stop()?;
    if let Some(path) = pcapng {
        write_pcapng(&recording, path)?;
    }
    let ladder = ladder::join(lab.topology(), &recording);
    let vip = Family::BOTH.map(address::vip);
    let to_vip: Vec<_> = ladder
        .conversations
        .iter()
        .filter(|found| vip.contains(&found.service.ip()))
        .collect();
    let shown = if to_vip.is_empty() {
        ladder.conversations.iter().take(1).collect()
    } else {
        to_vip
    };
    let mut text = format!("`{}` ended with {}\n", command_line(command), output.status);
    for connection in &shown {
        text += &format!("\n{}", ladder.text(connection, style));
    }
    if shown.is_empty() {
        text += "no connection was seen\n";
    }
    Ok(text)
}

/// Serves in the namespace that this process is in, for ever.
pub fn serve(name: &str, ports: &[u16], manner: Manner) -> Result<()> {
    server::serve(name, ports, manner)
}

/// Decapsulates in the namespace that this process is in, for ever.
pub fn decapsulate(interface: &str, tun: &str) -> Result<()> {
    decapsulate::decapsulate(interface, tun)
}

/// Runs the command line without the program's name; exit code 1 for failures, 2 for usage.
pub fn main(words: &[String]) -> ExitCode {
    main_behind(&[], words)
}

/// The same for a program that takes these commands behind words of its own, such as `lab`.
pub fn main_behind(before: &[&str], words: &[String]) -> ExitCode {
    let result =
        Program::current(before).and_then(|program| dispatch(&mut Words(words.to_vec()), &program));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Everything is said already.
        Err(LabError::Failed) => ExitCode::FAILURE,
        Err(LabError::Usage(text)) => {
            eprintln!("pointsman-lab: {text}\nsee pointsman-lab help");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("pointsman-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &mut Words, program: &Program) -> Result<()> {
    let command = words.next("a command")?;
    match command.as_str() {
        "up" => {
            let mut options = Options {
                tag: words.option("--tag")?,
                ..Options::default()
            };
            let foreground = words.flag("--foreground");
            if !foreground {
                // A tag that names a process would count as stale as soon as this one ends.
                options
                    .tag
                    .get_or_insert_with(|| format!("u{}", std::process::id()));
            }
            words.number("--servers", &mut options.real_servers)?;
            words.number("--mtu", &mut options.mtu)?;
            options.fabric_mtu = options.mtu;
            words.number("--fabric-mtu", &mut options.fabric_mtu)?;
            words.number("--clients", &mut options.client_addresses)?;
            options.wire_port.complete_checksums = words.flag("--complete-checksums");
            options.backup = words.flag("--backup");
            options.vip_on_director = !words.flag("--no-vip");
            let kind = words.next("a kind of lab")?.parse()?;
            words.end()?;
            let (lab, text) = up(kind, &options, program, !foreground)?;
            print!("{text}");
            if !foreground {
                lab.keep();
                return Ok(());
            }
            println!("press Ctrl-C to take it down");
            // The signal takes the lab down and ends this process.
            loop {
                std::thread::park();
            }
        }
        "down" => {
            let tags = if words.flag("--stale") {
                tag::stale_tags()?
            } else if words.flag("--all") {
                tag::tags()?
            } else {
                vec![words.next("the tag of a lab")?]
            };
            words.end()?;
            tags.iter().try_for_each(|tag| down(tag))?;
        }
        "list" => {
            words.end()?;
            print!("{}", list()?);
        }
        "ladder" => {
            let tag = words.next("the tag of a lab")?;
            let pcapng = words.leading_option("--pcapng")?.map(PathBuf::from);
            let vip = SocketAddr::new(address::vip(Family::V4), PORT);
            let mut command = match words.0.split_first() {
                Some((program, arguments)) => {
                    let mut command = Command::new(program);
                    command.args(arguments);
                    command
                }
                None => {
                    let mut command = Command::new("curl");
                    command.args(["--silent", "--max-time", "3", &format!("http://{vip}/")]);
                    command
                }
            };
            let style = Style {
                colour: std::io::stdout().is_terminal(),
                ..Style::default()
            };
            print!("{}", ladder(&tag, &mut command, pcapng.as_deref(), style)?);
        }
        "demo" => {
            words.end()?;
            let colour = std::io::stdout().is_terminal();
            if !demo::demo(program, &mut std::io::stdout(), colour)? {
                return Err(LabError::Answer(
                    "some requests were not answered".to_owned(),
                ));
            }
        }
        "oracle" => {
            let mut options = folder::Options::default();
            if let Some(director) = words.option("--director")? {
                options.director = director.parse()?;
            }
            words.number("--jobs", &mut options.jobs)?;
            words.number("--slack", &mut options.slack)?;
            options.recordings = words.option("--recordings")?.map(PathBuf::from);
            options.record = words.option("--record")?.map(PathBuf::from);
            let places: Vec<PathBuf> = words.rest()?.into_iter().map(PathBuf::from).collect();
            if places.is_empty() {
                return Err(LabError::Usage("oracle needs a folder of scenarios".into()));
            }
            let count = folder::run(&places, &options, program, &mut std::io::stdout())?;
            if count.failed > 0 {
                return Err(LabError::Failed);
            }
        }
        "generate" => {
            let (mut first, mut seeds) = (1_u64, 10_u64);
            words.number("--first", &mut first)?;
            words.number("--seeds", &mut seeds)?;
            let folder = PathBuf::from(words.next("a folder")?);
            words.end()?;
            folder::generate(&folder, first..first.saturating_add(seeds))?;
        }
        "fault" => fault::command::fault(words, program)?,
        "serve" => {
            let name = words.option("--name")?;
            let mut ports = Vec::new();
            while let Some(port) = words.option("--port")? {
                ports.push(number(&port, "--port")?);
            }
            let only = words.option("--only")?;
            let only = only.map(|text| number(&text, "--only")).transpose()?;
            let careless = words.flag("--careless");
            words.end()?;
            let name = name.ok_or_else(|| LabError::Usage("serve needs --name".to_owned()))?;
            serve(&name, &ports, Manner { only, careless })?;
        }
        "decapsulate" => {
            let interface = words
                .option("--interface")?
                .unwrap_or_else(|| "eth0".to_owned());
            let tun = words
                .option("--tun")?
                .unwrap_or_else(|| decapsulate::TUN.to_owned());
            words.end()?;
            decapsulate(&interface, &tun)?;
        }
        "help" | "--help" | "-h" => print!("{HELP}"),
        other => return Err(LabError::Usage(format!("no command {other:?}"))),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str, option: &str) -> Result<T> {
    text.parse()
        .map_err(|_| LabError::Usage(format!("{option} {text:?} is no fitting number")))
}

/// The words of a command line that are left.
pub(crate) struct Words(pub(crate) Vec<String>);

impl Words {
    pub(crate) fn next(&mut self, wanted: &str) -> Result<String> {
        if self.0.is_empty() {
            return Err(LabError::Usage(format!("{wanted} is missing")));
        }
        Ok(self.0.remove(0))
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    pub(crate) fn option(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(at);
        if at == self.0.len() {
            return Err(LabError::Usage(format!("{name} needs a value")));
        }
        Ok(Some(self.0.remove(at)))
    }

    /// An option that must come before the words of a command to run.
    fn leading_option(&mut self, name: &str) -> Result<Option<String>> {
        if self.0.first().is_some_and(|word| word == name) {
            self.option(name)
        } else {
            Ok(None)
        }
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, value: &mut T) -> Result<()> {
        if let Some(text) = self.option(name)? {
            *value = number(&text, name)?;
        }
        Ok(())
    }

    /// All words that are left, none of them an option.
    fn rest(&mut self) -> Result<Vec<String>> {
        match self.0.iter().find(|word| word.starts_with('-')) {
            Some(word) => Err(LabError::Usage(format!("{word:?} means nothing here"))),
            None => Ok(std::mem::take(&mut self.0)),
        }
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(LabError::Usage(format!("{word:?} is one word too many"))),
        }
    }
}
