//! A fault carried out: its site in network namespaces, then broken, cured and broken again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use pointsman_linux::netns::NetNs;
use pointsman_linux::sysctl;

use super::action::Action;
use super::site::{Node, Site};
use super::{Fault, Request, Witness};
use crate::bpf::{self, Hook};
use crate::director::Director;
use crate::error::{LabError, Result};
use crate::lab::{Program, wait_links};
use crate::process::{Process, READY_LIMIT, wait_until};
use crate::tag::{fresh_tag, namespaces_of};
use crate::topology::check_tag;
use crate::{cleanup, client, namespace, tag};

/// What `ip link set lo alias` of the first node begins with; the fault's name follows.
pub(crate) const ALIAS: &str = "pointsman-fault:";

/// How long a request of a lab that should fail may take.
const FAILING: Duration = Duration::from_millis(1200);
/// How long one of a lab that should work may take.
const WORKING: Duration = Duration::from_secs(3);
/// How long the network may take to become what a change makes of it.
const SETTLED: Duration = Duration::from_secs(12);
/// How long links may take to have carrier.
const LINKS: Duration = Duration::from_secs(60);

/// A standing fault lab; dropping it deletes everything.
#[derive(Debug)]
pub struct FaultLab {
    fault: Fault,
    tag: String,
    program: Program,
    // Before the namespaces go, so go these.
    director: Option<Director<'static>>,
    processes: BTreeMap<&'static str, Process>,
    owned: bool,
    silent: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code of `curl`; for a datagram 0 or 28.
    pub exit: i32,
    /// What was answered, or `curl`'s complaint.
    pub text: String,
}

impl FaultLab {
    /// Builds the site and breaks it.
    pub fn build(fault: Fault, program: &Program, tag: Option<String>) -> Result<Self> {
        let mut lab = Self::build_working(fault, program, tag, false)?;
        lab.break_all()?;
        Ok(lab)
    }

    /// Builds the site as planned, with nothing broken yet.
    ///
    /// `kept` says that it shall outlive this process by [`Self::keep`].
    pub fn build_working(
        fault: Fault,
        program: &Program,
        tag: Option<String>,
        kept: bool,
    ) -> Result<Self> {
        let tag = tag.unwrap_or_else(fresh_tag);
        check_tag(&tag)?;
        let taken = namespaces_of(&tag)?;
        if !taken.is_empty() {
            return Err(LabError::Usage(format!(
                "the lab {tag} is up already ({}); take it down or use another tag",
                taken.join(", ")
            )));
        }
        let missing = fault.missing();
        if !missing.is_empty() {
            return Err(LabError::Usage(format!(
                "{} needs {}, which is not here; `cargo xtask guest-test` builds it in a guest",
                fault.name,
                missing.join(" and ")
            )));
        }
        let mut lab = Self {
            fault,
            tag,
            program: program.clone(),
            director: None,
            processes: BTreeMap::new(),
            owned: true,
            silent: kept,
        };
        // From here on an error or a panic drops `lab`, which deletes what is there.
        lab.create()?;
        lab.populate()?;
        Ok(lab)
    }

    /// The fault.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Name of a node's namespace.
    pub fn namespace(&self, node: &str) -> String {
        namespace_name(&self.tag, node)
    }

    /// Names of all namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        let nodes = self.fault.site.nodes.iter();
        nodes.map(|node| self.namespace(node.name)).collect()
    }

    /// The director, if there is one.
    pub fn director(&self) -> Option<&Director<'static>> {
        self.director.as_ref()
    }

    /// Runs a command in a node and returns what it said; a bad end is an error.
    pub fn check(&self, node: &str, words: &str) -> Result<String> {
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        namespace::check_in(&self.namespace(node), command.args(words))
    }

    /// What a witness says, or an error if its command fails.
    pub fn hear(&self, witness: &Witness) -> Result<String> {
        match witness.command.strip_prefix("pointsman ") {
            Some(words) => {
                let words: Vec<&str> = words.split_whitespace().collect();
                self.director_or_error()?.call(&words)
            }
            None => self.check(witness.node, witness.command),
        }
    }

    /// Breaks everything that the fault names.
    pub fn break_all(&mut self) -> Result<()> {
        let steps: Vec<Action> = self.steps(|blocker| &blocker.breaks);
        self.carry_out(&steps)
    }

    /// Cures everything.
    pub fn cure_all(&mut self) -> Result<()> {
        let steps = self.steps(|blocker| &blocker.cure);
        self.carry_out(&steps)
    }

    /// Takes every cure back.
    pub fn undo_all(&mut self) -> Result<()> {
        let steps = self.steps(|blocker| &blocker.undo);
        self.carry_out(&steps)
    }

    /// Cures one of the blockers.
    pub fn cure(&mut self, number: usize) -> Result<()> {
        let steps = self.fault.blockers[number].cure.clone();
        self.carry_out(&steps)
    }

    /// Takes the cure of one of the blockers back.
    pub fn undo(&mut self, number: usize) -> Result<()> {
        let steps = self.fault.blockers[number].undo.clone();
        self.carry_out(&steps)
    }

    fn steps(&self, which: impl Fn(&super::Blocker) -> &Vec<Action>) -> Vec<Action> {
        let lists = self.fault.blockers.iter().map(which);
        lists.flatten().cloned().collect()
    }

    /// Does these steps one after the other.
    pub fn carry_out(&mut self, steps: &[Action]) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Action) -> Result<()> {
        match step {
            Action::Run { node, words, input } => {
                let mut command = Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1));
                let namespace = self.namespace(node);
                let input = input.as_deref().unwrap_or_default();
                let output = namespace::output_with(&namespace, &mut command, input.as_bytes())?;
                if !output.status.success() {
                    return Err(LabError::Command {
                        command: format!("{step} (in {namespace})"),
                        status: output.status,
                        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                    });
                }
            }
            Action::Director { words } => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.director_or_error()?.call(&words)?;
            }
            Action::Start { node, key, words } => self.start(node, key, words)?,
            Action::Spawn { node, key, words } => self.spawn(node, key, words)?,
            Action::Write { name, text } => {
                let path = self.files()?.join(name);
                fs::write(&path, text)
                    .map_err(LabError::io(format!("cannot write {}", path.display())))?;
            }
            Action::Stop { key } => drop(self.processes.remove(key)),
            Action::Halt { key, halted } => {
                if let Some(process) = self.processes.get(key) {
                    process.signal(if *halted {
                        Signal::SIGSTOP
                    } else {
                        Signal::SIGCONT
                    })?;
                }
            }
            Action::Tag {
                node,
                device,
                sent,
                vlan,
            } => {
                let hook = if *sent {
                    Hook::TcxEgress
                } else {
                    Hook::TcxIngress
                };
                let program = vlan.map_or(bpf::POP_TAG.to_vec(), bpf::push_tag);
                namespace::run_in(&self.namespace(node), || {
                    bpf::attach_traffic_control(device, hook, &program)
                })??;
            }
            Action::PassXdp { node, device } => {
                namespace::run_in(&self.namespace(node), || {
                    bpf::attach_for_good(device, &bpf::XDP_PASS)
                })??;
            }
            Action::Ask { times } => {
                for _ in 0..*times {
                    self.ask_once(Duration::from_millis(250))?;
                }
            }
        }
        Ok(())
    }

    fn director_or_error(&self) -> Result<&Director<'static>> {
        let none = || LabError::Usage(format!("{} has no director", self.fault.name));
        self.director.as_ref().ok_or_else(none)
    }

    /// The directory of this lab's files; it goes with the lab.
    fn files(&self) -> Result<PathBuf> {
        let name = format!("{}files", tag::directory_prefix(&self.tag));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)
            .map_err(LabError::io(format!("cannot make {}", path.display())))?;
        let tag = self.tag.clone();
        cleanup::before_end(
            &tag.clone(),
            Box::new(move || tag::remove_directories(&tag)),
        );
        Ok(path)
    }

    fn start(&mut self, node: &str, key: &'static str, words: &[String]) -> Result<()> {
        let mut command = self.program.command();
        command.args(words);
        self.launch(node, key, &mut command)
    }

    /// Starts a program that does not say when it is ready.
    fn spawn(&mut self, node: &str, key: &'static str, words: &[String]) -> Result<()> {
        let files = self.files()?.display().to_string();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo ready to start; exec \"$@\" >/dev/null 2>&1",
            "sh",
        ]);
        command.args(words.iter().map(|word| word.replace("@files", &files)));
        self.launch(node, key, &mut command)
    }

    fn launch(&mut self, node: &str, key: &'static str, command: &mut Command) -> Result<()> {
        use std::os::unix::process::CommandExt;
        self.processes.remove(key);
        if self.silent {
            command.stderr(Stdio::null());
        }
        // In a session of its own, so that Ctrl-C reaches the lab first, which ends it. A process group
        // of this session would lose its halted processes to SIGHUP when a kept lab's parent ends.
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
        }
        let process = Process::start(&self.namespace(node), command, "ready ")?;
        self.processes.insert(key, process);
        Ok(())
    }

    /// Asks the virtual service once, after what must come before a request.
    pub fn ask(&mut self, limit: Duration) -> Result<Outcome> {
        let before = self.fault.before.clone();
        self.carry_out(&before)?;
        self.ask_once(limit)
    }

    fn ask_once(&self, limit: Duration) -> Result<Outcome> {
        let namespace = self.namespace(self.fault.site.asker);
        let vip = SocketAddr::from(self.fault.vip());
        let Request::Post(length) = self.fault.request else {
            if self.fault.request == Request::Udp {
                return udp(&namespace, vip, limit);
            }
            return curl(&namespace, limit, &[format!("http://{vip}/")]);
        };
        // Of one segment if it fits: larger ones leave in super-frames that no bridge measures.
        let body = "q".repeat(length);
        let words = ["--header", "Expect:", "--data-binary", &body].map(str::to_owned);
        let url = format!("http://{vip}/echo");
        curl(&namespace, limit, &[words.as_slice(), &[url]].concat())
    }

    /// Waits until a request fails as the fault says.
    pub fn expect_failure(&mut self) -> Result<Outcome> {
        let exit = self.fault.exit;
        self.expect(&format!("curl exit code {exit}"), FAILING, |outcome| {
            outcome.exit == exit
        })
    }

    /// Waits until a request fails, however.
    pub fn expect_any_failure(&mut self) -> Result<Outcome> {
        self.expect("a failure", FAILING, |outcome| outcome.exit != 0)
    }

    /// Waits until a request is answered.
    pub fn expect_answer(&mut self) -> Result<Outcome> {
        self.expect("an answer", WORKING, |outcome| outcome.exit == 0)
    }

    fn expect(
        &mut self,
        what: &str,
        limit: Duration,
        fits: impl Fn(&Outcome) -> bool,
    ) -> Result<Outcome> {
        let mut last = None;
        let settled = wait_until("", SETTLED, || {
            let outcome = self.ask(limit)?;
            let good = fits(&outcome);
            last = Some(outcome);
            Ok(good)
        });
        match (settled, last) {
            (Ok(()), Some(outcome)) => Ok(outcome),
            (Err(LabError::Deadline { .. }), Some(outcome)) => Err(LabError::Answer(format!(
                "{}: {what} was expected, and the request ended with {}: {}",
                self.fault.name, outcome.exit, outcome.text
            ))),
            (result, _) => Err(result.err().unwrap_or(LabError::Failed)),
        }
    }

    /// Leaves namespaces and processes behind when this process ends.
    pub fn keep(mut self) {
        self.owned = false;
        cleanup::forget(&self.tag);
        cleanup::forget_end(&self.tag);
        if let Some(director) = self.director.take() {
            director.release();
        }
        let processes = std::mem::take(&mut self.processes);
        processes.into_values().for_each(Process::release);
    }

    /// Makes namespaces, cables, addresses and routes.
    fn create(&self) -> Result<()> {
        cleanup::register(&self.tag, self.namespaces(), |names| {
            names
                .iter()
                .try_for_each(|name| NetNs::create(name).map(drop))
        })?;
        let site = &self.fault.site;
        for node in &site.nodes {
            namespace::run_in(&self.namespace(node.name), quieten)??;
        }
        let alias = format!("link set dev lo alias {ALIAS}{}\n", self.fault.name);
        for (number, node) in site.nodes.iter().enumerate() {
            let mut batch = self.cable_batch(site, node);
            if number == 0 {
                batch.insert_str(0, &alias);
            }
            self.ip(node, &batch)?;
        }
        for node in &site.nodes {
            namespace::run_in(&self.namespace(node.name), || set(&node.sysctls))??;
            self.ip(node, &self.node_batch(site, node))?;
        }
        self.namespaces()
            .iter()
            .try_for_each(|name| wait_links(name, LINKS))
    }

    fn ip(&self, node: &Node, batch: &str) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace(node.name);
        namespace::ip(&["-n", &namespace, "-batch", "-"], Some(batch)).map(drop)
    }

    /// Bridges of a node, and the cables that begin there.
    fn cable_batch(&self, site: &Site, node: &Node) -> String {
        let mut batch = String::new();
        for bridge in &node.bridges {
            let _ = writeln!(
                batch,
                "link add dev {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
            );
        }
        for [near, far] in &site.cables {
            if near.node == node.name {
                let _ = writeln!(
                    batch,
                    "link add dev {} address {} type veth peer name {} netns {} address {}",
                    near.port,
                    near.mac,
                    far.port,
                    self.namespace(far.node),
                    far.mac
                );
            }
        }
        batch
    }

    /// Ports into bridges, everything up, addresses and routes.
    fn node_batch(&self, site: &Site, node: &Node) -> String {
        let mut batch = String::from("link set dev lo up\n");
        for bridge in &node.bridges {
            let _ = writeln!(batch, "link set dev {bridge} up");
        }
        for end in site.cables.iter().flatten() {
            if end.node != node.name {
                continue;
            }
            if let Some(bridge) = end.bridge {
                let _ = writeln!(batch, "link set dev {} master {bridge}", end.port);
            }
            let _ = writeln!(batch, "link set dev {} up", end.port);
        }
        for line in &node.lines {
            let _ = writeln!(batch, "{}", self.named(line));
        }
        batch
    }

    /// A line in which `@node` stands for the namespace of a node.
    fn named(&self, line: &str) -> String {
        match line.split_once('@') {
            None => line.to_owned(),
            Some((before, rest)) => {
                let (node, after) = rest.split_once(' ').unwrap_or((rest, ""));
                format!("{before}{} {after}", self.namespace(node))
            }
        }
    }

    /// Starts servers, then the director with its services, and waits until it knows every way.
    fn populate(&mut self) -> Result<()> {
        let site = self.fault.site.clone();
        self.carry_out(&site.processes)?;
        if let Some(arguments) = &site.director {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let director = Director::start_in(&self.tag, &arguments, READY_LIMIT)?;
            for service in &site.services {
                director.ipvsadm(service)?;
            }
            director.wait_resolved()?;
            self.director = Some(director);
        }
        self.carry_out(&site.last)
    }
}

impl Drop for FaultLab {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        self.processes.clear();
        self.director = None;
        if let Err(error) = namespace::delete(&self.namespaces()) {
            eprintln!(
                "pointsman-lab: the lab {} is not wholly gone: {error}",
                self.tag
            );
        }
        tag::remove_directories(&self.tag);
        cleanup::forget(&self.tag);
        cleanup::forget_end(&self.tag);
    }
}

/// The name of the fault that the lab with this tag shows, if it is a fault lab.
pub(crate) fn standing(tag: &str) -> Option<String> {
    namespaces_of(tag).ok()?.iter().find_map(|name| {
        let text = namespace::ip(&["-n", name, "-j", "link", "show", "dev", "lo"], None).ok()?;
        let links: serde_json::Value = serde_json::from_str(&text).ok()?;
        let alias = links.pointer("/0/ifalias")?.as_str()?;
        alias.strip_prefix(ALIAS).map(str::to_owned)
    })
}

/// Name of a node's namespace.
pub(crate) fn namespace_name(tag: &str, node: &str) -> String {
    format!("pm{tag}-{node}")
}

/// What a host starts with, whatever the host of the lab has set. No IPv6: these labs ask by IPv4,
/// and what the kernel says by itself would be noise.
fn quieten() -> Result<()> {
    for (key, value) in [
        ("rp_filter", "0"),
        ("arp_ignore", "0"),
        ("arp_announce", "0"),
    ] {
        for scope in ["all", "default"] {
            sysctl::write(&format!("net/ipv4/conf/{scope}/{key}"), value)?;
        }
    }
    for scope in ["all", "default"] {
        match sysctl::write(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1") {
            Ok(()) | Err(sysctl::Error::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set(sysctls: &[(String, String)]) -> Result<()> {
    for (key, value) in sysctls {
        match sysctl::write(key, value) {
            // A kernel without br_netfilter filters no bridged packets anyway.
            Err(sysctl::Error::Missing { .. }) if key.starts_with("net/bridge/") => {}
            other => other?,
        }
    }
    Ok(())
}

/// Runs `curl` in the namespace.
fn curl(namespace: &str, limit: Duration, words: &[String]) -> Result<Outcome> {
    let mut command = client::plain_curl(limit);
    let output = namespace::output_in(namespace, command.arg("--fail").args(words))?;
    let exit = output.status.code().unwrap_or(-1);
    let said = if exit == 0 {
        &output.stdout
    } else {
        &output.stderr
    };
    Ok(Outcome {
        exit,
        text: String::from_utf8_lossy(said).trim().to_owned(),
    })
}

/// Asks by one datagram.
fn udp(namespace: &str, vip: SocketAddr, limit: Duration) -> Result<Outcome> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let answer = namespace::run_in(namespace, || {
        client::ask_by_udp(any, vip, b"question", limit)
    })?;
    Ok(match answer {
        Ok(answer) if answer.from == vip => Outcome {
            exit: 0,
            text: answer.name,
        },
        // A client that connected its socket would not even see it.
        Ok(answer) => Outcome {
            exit: super::TIMED_OUT,
            text: format!("{} answered, not {vip}", answer.from),
        },
        Err(error) => Outcome {
            exit: super::TIMED_OUT,
            text: error.to_string(),
        },
    })
}
