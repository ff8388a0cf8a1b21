//! A lab is a topology carried out: namespaces with links, addresses, routes and processes.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::error::{LabError, Result};
use crate::process::{Process, wait_until};
use crate::tag::{fresh_tag, namespace_name, namespaces_of};
use crate::topology::{Kind, Options, Role, Topology, WirePort, check_tag};
use crate::{cleanup, construction, decapsulate, namespace};

/// How long links may take to have carrier.
const LINK_LIMIT: Duration = Duration::from_secs(60);

/// What `ip link set lo alias` of the switch begins with; the lab's description follows, so that
/// another process can find out what it looks at, and nothing is left when it is gone.
const ALIAS: &str = "pointsman-lab";

/// How to start a helper process of the lab: a program that understands `serve` and `decapsulate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Words before the subcommand, such as `lab`.
    pub words: Vec<String>,
}

impl Program {
    /// A program that takes the subcommands directly.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            words: Vec::new(),
        }
    }

    /// The running program, with words before the subcommand.
    pub fn current(words: &[&str]) -> Result<Self> {
        let path = std::env::current_exe().map_err(LabError::io("cannot find this program"))?;
        Ok(Self {
            path,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        })
    }

    /// The program with words before the subcommand.
    #[must_use]
    pub fn behind(self, words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..self
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.words);
        command
    }
}

/// A running laboratory; dropping it deletes everything.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    tag: String,
    owned: bool,
    silent: bool,
    processes: Mutex<Vec<Process>>,
}

impl Topology {
    /// Plans a lab and builds it.
    pub fn build(kind: Kind, options: &Options) -> Result<Lab> {
        Lab::build(Self::new(kind, options)?)
    }
}

impl Lab {
    /// Carries out a plan and waits until every link is up.
    pub fn build(topology: Topology) -> Result<Self> {
        let tag = topology.options.tag.clone().unwrap_or_else(fresh_tag);
        let taken = namespaces_of(&tag)?;
        if !taken.is_empty() {
            return Err(LabError::Usage(format!(
                "the lab {tag} is up already ({}); take it down or use another tag",
                taken.join(", ")
            )));
        }
        let lab = Self {
            topology,
            tag,
            owned: true,
            silent: false,
            processes: Mutex::default(),
        };
        // From here on an error or a panic drops `lab`, which deletes what is there.
        construction::create(&lab)?;
        lab.wait_ready()?;
        Ok(lab)
    }

    /// Opens a lab that another process built and keeps; dropping it leaves it up.
    pub fn open(tag: &str) -> Result<Self> {
        check_tag(tag)?;
        let switch = namespace_name(tag, Role::Switch);
        if !namespace::path(&switch).exists() {
            return Err(LabError::Usage(format!(
                "no lab {tag} is up; see `lab list`"
            )));
        }
        let text = namespace::ip(&["-n", &switch, "-j", "link", "show", "dev", "lo"], None)?;
        let alias = parse(&text)?
            .pointer("/0/ifalias")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| LabError::Answer(format!("{switch} does not say which lab it is of")))?;
        let (kind, options) = from_alias(&alias, tag)?;
        let topology = Topology::new(kind, &options)?;
        Ok(Self {
            topology,
            tag: tag.to_owned(),
            owned: false,
            silent: false,
            processes: Mutex::default(),
        })
    }

    /// The plan.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Every part of this lab, the switch first.
    pub fn roles(&self) -> Vec<Role> {
        std::iter::once(Role::Switch)
            .chain(self.topology.nodes.iter().map(|node| node.role))
            .collect()
    }

    /// Name of a node's namespace.
    pub fn namespace(&self, role: Role) -> String {
        namespace_name(&self.tag, role)
    }

    /// Names of all namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        self.roles()
            .into_iter()
            .map(|role| self.namespace(role))
            .collect()
    }

    /// Runs `work` on a thread inside a node.
    pub fn run_in<T: Send>(&self, role: Role, work: impl FnOnce() -> T + Send) -> Result<T> {
        namespace::run_in(&self.namespace(role), work)
    }

    /// Runs a command inside a node to its end, good or bad.
    pub fn output(&self, role: Role, command: &mut Command) -> Result<Output> {
        namespace::output_in(&self.namespace(role), command)
    }

    /// Runs a command inside a node and returns what it said; a bad end is an error.
    pub fn check(&self, role: Role, command: &mut Command) -> Result<String> {
        namespace::check_in(&self.namespace(role), command)
    }

    /// Starts a process in a node that says `ready` when it is; the lab ends it. The director's
    /// own program is started this way.
    pub fn start(&self, role: Role, command: &mut Command, ready: &str) -> Result<()> {
        let process = Process::start(&self.namespace(role), command, ready)?;
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(process);
        Ok(())
    }

    /// Starts a responder on every real server, and waits until all are ready.
    pub fn start_servers(&self, program: &Program, ports: &[u16]) -> Result<()> {
        for number in 1..=self.topology.options.real_servers {
            let role = Role::RealServer(number);
            let mut command = program.command();
            command.args(["serve", "--name", &role.to_string()]);
            for port in ports {
                command.args(["--port", &port.to_string()]);
            }
            self.start_detachable(role, &mut command)?;
        }
        Ok(())
    }

    /// Starts a decapsulator on every real server of a tunnel lab: the kernel's own tunnel devices
    /// where it has them, ours otherwise.
    pub fn start_decapsulators(&self, program: &Program) -> Result<()> {
        for number in 1..=self.topology.options.real_servers {
            let role = Role::RealServer(number);
            let mut command = program.command();
            command.args([
                "decapsulate",
                "--interface",
                "eth0",
                "--tun",
                decapsulate::TUN,
            ]);
            self.start_detachable(role, &mut command)?;
        }
        Ok(())
    }

    fn start_detachable(&self, role: Role, command: &mut Command) -> Result<()> {
        use std::os::unix::process::CommandExt;
        if self.silent {
            command.stderr(Stdio::null());
        }
        // In a process group of its own, so that Ctrl-C reaches the lab first, which ends it.
        self.start(role, command.process_group(0), "ready ")
    }

    /// Has servers and decapsulators started from now on complain to nobody: a lab that is to be
    /// kept must not hold the terminal or pipe of the process that built it.
    pub fn silence(&mut self) {
        self.silent = true;
    }

    /// Leaves namespaces and processes behind when this process ends.
    pub fn keep(mut self) {
        self.owned = false;
        cleanup::forget(&self.tag);
        let processes = std::mem::take(self.processes.get_mut().unwrap_or_else(|e| e.into_inner()));
        processes.into_iter().for_each(Process::release);
    }

    /// Waits until every interface is up and has carrier, and no address is tentative.
    fn wait_ready(&self) -> Result<()> {
        self.namespaces()
            .iter()
            .try_for_each(|name| wait_links(name, LINK_LIMIT))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.processes
            .get_mut()
            .unwrap_or_else(|poison| poison.into_inner())
            .clear();
        if !self.owned {
            return;
        }
        if let Err(error) = namespace::delete(&self.namespaces()) {
            eprintln!(
                "pointsman-lab: the lab {} is not wholly gone: {error}",
                self.tag
            );
        }
        cleanup::forget(&self.tag);
    }
}

/// Why no lab can be built here, if so; tests that need one say it and pass.
pub fn why_not() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("labs need root".to_owned());
    }
    let missing: Vec<&str> = ["ip", "curl", "ping"]
        .into_iter()
        .filter(|name| {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&paths).any(|directory| directory.join(name).is_file())
        })
        .collect();
    (!missing.is_empty()).then(|| format!("labs need the programs {}", missing.join(", ")))
}

/// Waits until every interface of a namespace is up and has carrier, and no address is tentative.
pub(crate) fn wait_links(name: &str, limit: Duration) -> Result<()> {
    wait_until(&format!("{name} was not ready"), limit, || {
        let text = namespace::ip(&["-n", name, "-j", "address", "show"], None)?;
        Ok(first_unready(&parse(&text)?).is_none())
    })
}

/// What is not ready yet in the output of `ip -j address show`.
fn first_unready(links: &Value) -> Option<String> {
    links.as_array()?.iter().find_map(|link| {
        let name = link["ifname"].as_str().unwrap_or("?");
        let flags = link["flags"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        // The switch's own loopback stays down, and so do the tunnel devices that some kernels put
        // into every namespace; ours are set up before anybody waits.
        if name == "lo" || !flags.iter().any(|flag| flag == "UP") {
            return None;
        }
        if !flags.iter().any(|flag| flag == "LOWER_UP") {
            return Some(name.to_owned());
        }
        let addresses = link["addr_info"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        addresses
            .iter()
            .find(|address| address["tentative"] == Value::Bool(true))
            .map(|address| format!("{name} address {}", address["local"]))
    })
}

pub(crate) fn to_alias(topology: &Topology) -> String {
    let options = &topology.options;
    format!(
        "{ALIAS}:{}:{}:{}:{}:{}:{}:{}:{}",
        topology.kind,
        options.real_servers,
        options.mtu,
        options.fabric_mtu,
        u8::from(options.wire_port.complete_checksums),
        u8::from(options.vip_on_director),
        options.client_addresses,
        u8::from(options.backup),
    )
}

fn from_alias(alias: &str, tag: &str) -> Result<(Kind, Options)> {
    let wrong = || LabError::Answer(format!("the lab {tag} describes itself as {alias:?}"));
    let words: Vec<&str> = alias.split(':').collect();
    let [
        ALIAS,
        kind,
        servers,
        mtu,
        fabric_mtu,
        wire,
        vip,
        clients,
        backup,
    ] = words[..]
    else {
        return Err(wrong());
    };
    let options = Options {
        tag: Some(tag.to_owned()),
        real_servers: servers.parse().map_err(|_| wrong())?,
        mtu: mtu.parse().map_err(|_| wrong())?,
        fabric_mtu: fabric_mtu.parse().map_err(|_| wrong())?,
        wire_port: WirePort {
            complete_checksums: wire == "1",
        },
        backup: backup == "1",
        vip_on_director: vip == "1",
        client_addresses: clients.parse().map_err(|_| wrong())?,
    };
    Ok((kind.parse()?, options))
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| LabError::Answer(format!("`ip -j` answered no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_describes_itself_wholly() {
        let options = Options {
            tag: Some("x1".to_owned()),
            real_servers: 5,
            mtu: 1400,
            fabric_mtu: 1600,
            wire_port: WirePort {
                complete_checksums: true,
            },
            backup: true,
            vip_on_director: false,
            client_addresses: 7,
        };
        let topology = Topology::new(Kind::Tunnel, &options).unwrap();
        assert_eq!(
            from_alias(&to_alias(&topology), "x1").unwrap(),
            (Kind::Tunnel, options)
        );
        assert!(from_alias("pointsman-lab:nat:3", "x1").is_err());
    }

    #[test]
    fn a_link_without_carrier_or_a_tentative_address_is_not_ready() {
        let ready = r#"[{"ifname":"lo","flags":["LOOPBACK"]},
            {"ifname":"eth0","flags":["UP","LOWER_UP"],"addr_info":[{"local":"fd00::1"}]}]"#;
        assert_eq!(first_unready(&parse(ready).unwrap()), None);
        let down = ready.replace("\"LOWER_UP\"", "\"NO-CARRIER\"");
        assert_eq!(
            first_unready(&parse(&down).unwrap()).as_deref(),
            Some("eth0")
        );
        let fallback = r#"[{"ifname":"tunl0","flags":["NOARP"]}]"#;
        assert_eq!(first_unready(&parse(fallback).unwrap()), None);
        let tentative = ready.replace("\"fd00::1\"", "\"fd00::1\",\"tentative\":true");
        assert!(
            first_unready(&parse(&tentative).unwrap())
                .unwrap()
                .contains("fd00::1")
        );
    }
}
