//! Where to collect: this host, network namespaces beside it, hosts that ssh reaches.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_linux::netns::NetNs;
use pointsman_path::question::{self, ANSWER_LIMIT, Answer, Outcome, PATIENCE, Question, Wish};
use pointsman_path::reading::{self, About};
use pointsman_path::remote::{self, Place};
use pointsman_path::snapshot::{self, Origin, Snapshot};

use super::program;

/// Programs of administrators, which not every path has.
const ADMINISTRATORS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Seconds for a whole round of questions by ssh.
const ROUND: u64 = 60;

/// Flags that say which nodes are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeFlags {
    /// A network namespace, as `ip netns` names it, or all whose names begin as NAME* says; may be
    /// repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) netns: Vec<String>,
    /// A host that ssh reaches without a password, or a network namespace of it; nothing is installed
    /// there. May be repeated
    #[arg(long = "host", value_name = "USER@HOST[/NETNS]")]
    pub(crate) hosts: Vec<String>,
    /// This host too, when namespaces or other hosts are named
    #[arg(long)]
    pub(crate) here: bool,
    /// On hosts that ssh reaches, ask as root by sudo, which must not want a password
    #[arg(long)]
    pub(crate) sudo: bool,
    /// The program that is called instead of ssh
    #[arg(long, value_name = "PROGRAM", default_value = "ssh", hide = true)]
    pub(crate) ssh: PathBuf,
}

/// Asks questions somewhere.
type Ask<'a> = dyn Fn(&[Question]) -> Result<Vec<Answer>> + 'a;

/// A node to collect from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Here,
    Netns(String),
    Host(String),
}

impl Node {
    /// The node that a topology tells of.
    pub(crate) fn of(origin: &Origin) -> Self {
        match origin {
            Origin::Here => Self::Here,
            Origin::Netns(name) => Self::Netns(name.clone()),
            Origin::Host(host) => Self::Host(host.clone()),
        }
    }
}

impl NodeFlags {
    /// Whether any node is named.
    pub(crate) fn is_told(&self) -> bool {
        self.here || !self.netns.is_empty() || !self.hosts.is_empty()
    }

    /// The nodes meant: this host if nothing is named.
    pub(crate) fn nodes(&self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for name in &self.netns {
            let Some(beginning) = name.strip_suffix('*') else {
                nodes.push(Node::Netns(name.clone()));
                continue;
            };
            let known = NetNs::list().context("cannot list network namespaces")?;
            let named: Vec<_> = known
                .into_iter()
                .filter(|name| name.starts_with(beginning))
                .collect();
            if named.is_empty() {
                bail!("no network namespace is called {name}; `ip netns list` shows them");
            }
            nodes.extend(named.into_iter().map(Node::Netns));
        }
        nodes.extend(self.hosts.iter().cloned().map(Node::Host));
        if self.here || nodes.is_empty() {
            nodes.push(Node::Here);
        }
        nodes.dedup();
        Ok(nodes)
    }

    /// Asks a node everything.
    pub(crate) fn collect(&self, node: &Node, wish: &Wish) -> Result<Snapshot> {
        let mut wish = Wish {
            is_namespace: matches!(node, Node::Netns(_)),
            ..wish.clone()
        };
        let taken = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let mut about = About {
            node: None,
            origin: Origin::Here,
            taken: u64::try_from(taken.as_millis())?,
            tool: concat!("pointsman ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let ask: Box<Ask<'_>> = match node {
            Node::Host(host) => {
                about.origin = Origin::Host(host.clone());
                if let Some(netns) = Place::parse(host)?.netns {
                    wish.is_namespace = true;
                    about.node = Some(netns.to_owned());
                }
                Box::new(|questions| self.ask_host(host, questions))
            }
            Node::Here | Node::Netns(_) => {
                let program = env::current_exe().ok();
                wish.program = program.and_then(|path| path.into_os_string().into_string().ok());
                let netns = match node {
                    Node::Netns(name) => {
                        about.origin = Origin::Netns(name.clone());
                        about.node = Some(name.clone());
                        Some(NetNs::open(name)?)
                    }
                    _ => None,
                };
                Box::new(move |questions| Ok(ask_here(netns.as_ref(), questions)))
            }
        };
        let mut answers = ask(&question::first(&wish))?;
        answers.extend(ask(&question::second(&wish, &answers))?);
        Ok(reading::read(&about, &answers))
    }

    fn ask_host(&self, host: &str, questions: &[Question]) -> Result<Vec<Answer>> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let place = Place::parse(host)?;
        let mark = mark().context("cannot read /dev/urandom")?;
        let mut command = Command::new(&self.ssh);
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--"]);
        command.arg(place.login);
        command.arg(shell(place, self.sudo));
        let script = remote::script(questions, &mark).into_bytes();
        let patience = Duration::from_secs(ROUND);
        let ended = program::run(command, Some(script), patience, snapshot::LIMIT)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("{} {host}", self.ssh.display()))?;
        // ssh's own failures, and those of a shell that did not begin.
        let begun = ended
            .output
            .windows(mark.len())
            .any(|part| part == mark.as_bytes());
        if !begun {
            bail!(
                "{} {host}: {}: {}",
                self.ssh.display(),
                ended.status,
                ended.complaint
            );
        }
        Ok(remote::answers(
            questions,
            &mark,
            &ended.output,
            &ended.complaint,
        ))
    }
}

/// The command that runs a shell at a place, which reads its script from standard input.
fn shell(place: Place<'_>, sudo: bool) -> String {
    let sudo = if sudo { "sudo -n " } else { "" };
    let Some(netns) = place.netns else {
        return format!("{sudo}sh -s");
    };
    // The path of a plain user may lack the folder of `ip`.
    let script = format!(
        "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; exec {sudo}ip netns exec {} sh -s",
        remote::quoted(netns)
    );
    format!("sh -c {}", remote::quoted(&script))
}

/// Asks programs of this host, in a network namespace if one is given.
fn ask_here(netns: Option<&NetNs>, questions: &[Question]) -> Vec<Answer> {
    let ask = |question: &Question| {
        let found = question
            .commands
            .iter()
            .find_map(|command| Some((command, find(command.first()?)?)));
        let Some((command, path)) = found else {
            return Answer {
                subject: question.subject,
                command: question.commands.first().cloned().unwrap_or_default(),
                outcome: Outcome::Failed {
                    because: remote::missing(question),
                },
            };
        };
        let mut process = match netns {
            Some(netns) => netns.command(path),
            None => Command::new(path),
        };
        process.args(&command[1..]);
        let ended = program::run(process, None, Duration::from_secs(PATIENCE), ANSWER_LIMIT);
        Answer {
            subject: question.subject,
            command: command.clone(),
            outcome: match ended {
                Ok(ended) => Outcome::Ended {
                    code: ended.status.code().unwrap_or(-1),
                    output: ended.output,
                    complaint: ended.complaint,
                },
                Err(because) => Outcome::Failed { because },
            },
        }
    };
    questions.iter().map(ask).collect()
}

/// Where a program is.
fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMINISTRATORS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A text that nobody can guess.
fn mark() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("pm-{:032x}", u128::from_be_bytes(bytes)))
}
