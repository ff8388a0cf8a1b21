//! Who is the director of a scenario: Pointsman, or the kernel's IPVS with the real ipvsadm.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::director::Director;
use crate::error::{LabError, Result};
use crate::namespace;
use crate::oracle::site::Site;
use crate::topology::Role;

/// How long next hops may take to be found; a scenario may name real servers that do not exist.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);

/// How long the daemon may take to start, once it is its turn.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The kernel checks the programs at each start, which takes a processor: one after the other.
static START: Mutex<()> = Mutex::new(());

/// The directors that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `pointsman run` and `pointsman ipvsadm`.
    #[default]
    Pointsman,
    /// `ip_vs` of the running kernel and the `ipvsadm` of its distribution.
    Kernel,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pointsman => "pointsman",
            Self::Kernel => "kernel",
        })
    }
}

impl FromStr for Kind {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "pointsman" => Ok(Self::Pointsman),
            "kernel" => Ok(Self::Kernel),
            other => Err(LabError::Usage(format!(
                "no director is called {other:?}; there are pointsman and kernel"
            ))),
        }
    }
}

/// A load balancer in the director's namespace, and its operator.
pub(crate) trait Balancer {
    /// Runs ipvsadm with these words.
    fn ipvsadm(&mut self, words: &[&str]) -> Result<Output>;

    /// Runs a shell command as the director's administrator.
    fn shell(&mut self, command: &str) -> Result<Output>;

    /// Waits, after changes and before packets, until the director can forward.
    fn settle(&mut self) -> Result<()>;
}

/// Starts a director in a site.
pub(crate) fn start(kind: Kind, site: &Site) -> Result<Box<dyn Balancer + '_>> {
    Ok(match kind {
        Kind::Pointsman => Box::new(Pointsman::start(site)?),
        Kind::Kernel => Box::new(Kernel {
            namespace: site.namespace(Role::Director),
        }),
    })
}

/// The kernel's IPVS; it needs no process, and its state goes with the namespace.
struct Kernel {
    namespace: String,
}

impl Balancer for Kernel {
    fn ipvsadm(&mut self, words: &[&str]) -> Result<Output> {
        namespace::output_in(&self.namespace, Command::new("ipvsadm").args(words))
    }

    fn shell(&mut self, command: &str) -> Result<Output> {
        namespace::output_in(&self.namespace, Command::new("sh").args(["-c", command]))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A daemon of its own for each scenario.
struct Pointsman<'a> {
    director: Director<'a>,
    namespace: String,
    /// Programs that stand before those of the system in `sh` steps.
    stand_ins: PathBuf,
    changed: bool,
}

/// Settings of IPVS are not the kernel's here: they go to the daemon.
const SYSCTL: &str = r#"#!/bin/sh
# sysctl, with net.ipv4.vs.* set and read in the daemon.
theirs=no
for word; do
    case $word in
    net.ipv4.vs.*) pointsman setting "${word#net.ipv4.vs.}" || exit; theirs=yes ;;
    net/ipv4/vs/*) pointsman setting "${word#net/ipv4/vs/}" || exit; theirs=yes ;;
    -*) ;;
    *) rest=yes ;;
    esac
done
[ "$theirs" = yes ] && [ -z "$rest" ] && exit 0
[ "$theirs" = no ] || { echo "sysctl: settings of IPVS and others in one command" >&2; exit 1; }
PATH=${PATH#*:} exec sysctl "$@"
"#;

/// The daemon makes its own marks, by the rules that netfilter has.
const NETFILTER: &str = r#"#!/bin/sh
# iptables, ip6tables or nft; their marks are then imported.
name=${0##*/} own=${0%/*}
theirs=${PATH#*:}
(PATH=$theirs exec "$name" "$@") || exit
if [ "$name" = nft ]; then
    PATH=$theirs nft -j list ruleset | pointsman mark import > "$own/said"
    exit
fi
set --
for save in iptables-save ip6tables-save; do
    PATH=$theirs $save -t mangle > "$own/$save" 2> /dev/null
    [ -s "$own/$save" ] && set -- "$@" "$own/$save"
done
[ $# = 0 ] || pointsman mark import "$@" > "$own/said"
"#;

impl<'a> Pointsman<'a> {
    fn start(site: &'a Site) -> Result<Self> {
        let what = "cannot make programs for `sh` steps";
        let director = {
            let _turn = START.lock().unwrap_or_else(PoisonError::into_inner);
            Director::start_in(site.tag(), &[], START_LIMIT)?
        };
        let (program, socket) = director.program();
        // In the director's own directory, which goes with it.
        let stand_ins = socket.with_file_name("bin");
        fs::create_dir(&stand_ins).map_err(LabError::io(what))?;
        let pointsman = format!(
            "#!/bin/sh\nexec '{}' --socket '{}' \"$@\"\n",
            program.display(),
            socket.display()
        );
        for (name, text) in [
            ("sysctl", SYSCTL),
            ("iptables", NETFILTER),
            ("ip6tables", NETFILTER),
            ("nft", NETFILTER),
            ("pointsman", &pointsman),
        ] {
            let path = stand_ins.join(name);
            fs::write(&path, text).map_err(LabError::io(what))?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, executable).map_err(LabError::io(what))?;
        }
        Ok(Self {
            director,
            namespace: site.namespace(Role::Director),
            stand_ins,
            changed: true,
        })
    }
}

impl Balancer for Pointsman<'_> {
    fn ipvsadm(&mut self, words: &[&str]) -> Result<Output> {
        self.changed = true;
        self.director.output(&[&["ipvsadm"], words].concat())
    }

    fn shell(&mut self, command: &str) -> Result<Output> {
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.stand_ins.display();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        shell.env("PATH", format!("{own}:{path}"));
        namespace::output_in(&self.namespace, &mut shell)
    }

    fn settle(&mut self) -> Result<()> {
        if std::mem::take(&mut self.changed) {
            match self.director.wait_resolved_within(RESOLVE_LIMIT) {
                // What is not found by now is not there.
                Ok(()) | Err(LabError::Deadline { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
