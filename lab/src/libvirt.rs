//! A real libvirtd with a network namespace, a file system and filters of its own.
//!
//! Nothing of it is installed on the machine: its packages are unpacked in a folder, laid over the
//! machine's files where only the daemon and the programs beside it see them. It has the driver for
//! network filters and no other, and needs neither D-Bus nor a hypervisor.

use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pointsman_filter::nwfilter::Backend;
use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use crate::cleanup;
use crate::error::{LabError, Result};
use crate::namespace;
use crate::process::{READY_LIMIT, wait_until};
use crate::tag::{fresh_tag, namespace_name};
use crate::topology::Role;

/// How `virsh` finds the driver for network filters.
const URI: &str = "nwfilter:///system";

/// Where the daemon listens, below its root.
const SOCKET: &str = "run/libvirt/libvirt-sock";

/// Lays the packages over the machine's files and starts the daemon there. The arguments: an empty folder,
/// the folder with the packages, and whether that is a whole system.
const START: &str = r#"
set -e
mount -t tmpfs -o mode=755 lab "$1"
mkdir "$1/root" "$1/upper" "$1/work"
if [ "$3" = whole ]; then
    mount --rbind "$2" "$1/root"
    mount -t tmpfs -o mode=755 lab "$1/work"
    mkdir "$1/work/libvirt"
    cp -a "$2/etc/libvirt/." "$1/work/libvirt"
    mount --bind "$1/work/libvirt" "$1/root/etc/libvirt"
else
    cp -a "$2/." "$1/upper"
    mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" lab "$1/root"
fi
cd "$1/root"
# Temporary files, wherever they are.
mkdir -p ".${1%/*}"
mount --bind "${1%/*}" ".${1%/*}"
mount --rbind /proc proc
mount --rbind /dev dev
mount -t sysfs lab sys
mount -t tmpfs -o mode=755 lab run
mkdir -p run/lock etc/libvirt/nwfilter var/lib/libvirt var/log/libvirt var/cache/libvirt
if [ -d usr/share/libvirt/nwfilter ]; then
    cp -n usr/share/libvirt/nwfilter/*.xml etc/libvirt/nwfilter/
fi
printf '%s\n' 'auth_unix_ro = "none"' 'auth_unix_rw = "none"' 'unix_sock_group = "root"' \
    > etc/libvirt/libvirtd.conf
if [ -n "$4" ]; then
    printf 'firewall_backend = "%s"\nenable_counters = 1\n' "$4" > etc/libvirt/nwfilter.conf
fi
exec chroot . "$5" --config /etc/libvirt/libvirtd.conf
"#;

/// Where libvirt is, and how it installs filters.
#[derive(Debug, Clone)]
pub struct Installation {
    /// A folder with unpacked packages, or a whole system.
    pub root: PathBuf,
    /// What to write into the configuration as `firewall_backend`; libvirt before 12 has no choice.
    pub backend: Option<String>,
}

impl Installation {
    /// The one that tests use: named by `POINTSMAN_LIBVIRT` (and `POINTSMAN_LIBVIRT_BACKEND`), or unpacked by
    /// `cargo xtask setup`, if it did.
    pub fn for_tests() -> Option<Self> {
        if let Some(root) = std::env::var_os("POINTSMAN_LIBVIRT") {
            return Some(Self {
                root: root.into(),
                backend: std::env::var("POINTSMAN_LIBVIRT_BACKEND").ok(),
            });
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/libvirt");
        let installation = Self {
            root: root.canonicalize().ok()?,
            backend: None,
        };
        installation.daemon().map(|_| installation)
    }

    fn daemon(&self) -> Option<&'static str> {
        // The smaller daemon is newer.
        ["/usr/sbin/virtnwfilterd", "/usr/sbin/libvirtd"]
            .into_iter()
            .find(|path| self.root.join(&path[1..]).is_file())
    }
}

/// A running libvirtd; it ends, with everything in its namespace, when dropped.
#[derive(Debug)]
pub struct Libvirt {
    tag: String,
    namespace: String,
    daemon: u32,
    socket: &'static str,
    folder: TempDir,
}

impl Libvirt {
    /// Starts the daemon in a new network namespace and waits until it listens.
    pub fn start(installation: &Installation) -> Result<Self> {
        let Some(daemon) = installation.daemon() else {
            let root = installation.root.display();
            return Err(LabError::Usage(format!("{root} has no libvirtd")));
        };
        let socket = match daemon {
            "/usr/sbin/libvirtd" => SOCKET,
            _ => "run/libvirt/virtnwfilterd-sock",
        };
        let folder = TempDir::new().map_err(LabError::io("cannot make a temporary folder"))?;
        let tag = fresh_tag();
        let namespace = namespace_name(&tag, Role::Director);
        cleanup::register(&tag, vec![namespace.clone()], |names| {
            names
                .iter()
                .try_for_each(|name| NetNs::create(name).map(drop))
        })?;
        let mut libvirt = Self {
            tag,
            namespace,
            daemon: 0,
            socket,
            folder,
        };
        libvirt.spawn(installation, daemon)?;
        Ok(libvirt)
    }

    fn spawn(&mut self, installation: &Installation, daemon: &str) -> Result<()> {
        let whole = installation.root.join("usr/bin/sh").exists();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", START, "sh"])
            .arg(self.folder.path())
            .arg(&installation.root)
            .arg(if whole { "whole" } else { "packages" })
            .arg(installation.backend.as_deref().unwrap_or_default())
            .arg(daemon)
            .env("LIBVIRT_LOG_OUTPUTS", "3:stderr")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = namespace::spawn_in(&self.namespace, &mut command)?;
        self.daemon = child.id();
        let socket = PathBuf::from(format!("/proc/{}/root/{}", child.id(), self.socket));
        let ready = wait_until("libvirtd does not listen", READY_LIMIT, || {
            if let Ok(Some(status)) = child.try_wait() {
                let mut said = String::new();
                if let Some(stderr) = &mut child.stderr {
                    use std::io::Read;
                    let _ = stderr.read_to_string(&mut said);
                }
                return Err(LabError::Answer(format!(
                    "libvirtd ended early, {status}: {said}"
                )));
            }
            Ok(UnixStream::connect(&socket).is_ok())
        });
        // Its complaints are read by nobody from here on, and reaped it is with the namespace.
        std::thread::spawn(move || {
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            let _ = child.wait();
        });
        ready
    }

    /// The installation for tests with a guest's port in its namespace, and the backend that it has; none,
    /// and said so, where tests can't have it.
    pub fn with_port(port: &str) -> Result<Option<(Self, Backend)>> {
        let Some(installation) = Installation::for_tests() else {
            println!("skipped: needs libvirt's packages; `cargo xtask setup` gets them");
            return Ok(None);
        };
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return Ok(None);
        }
        let backend = match installation.backend.as_deref() {
            Some("nftables") => Backend::Nftables,
            _ => Backend::Ebiptables,
        };
        let libvirt = Self::start(&installation)?;
        let veth = ["link", "add", port, "type", "veth", "peer", "name", "guest"];
        namespace::run_in(libvirt.namespace(), || namespace::ip(&veth, None))??;
        Ok(Some((libvirt, backend)))
    }

    /// The name of its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The daemon's file system, as seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.daemon))
    }

    /// Prepares a program to run beside the daemon, in its namespaces and with its files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.daemon.to_string()])
            .args(["--mount", "--net", "--root", "--wd"])
            .arg(program)
            // For `virsh`.
            .env("LIBVIRT_DEFAULT_URI", URI);
        command
    }

    /// Runs a program beside the daemon and returns what it printed; a bad end is an error.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        namespace::run(self.command(program).args(arguments), None)
    }

    /// Runs a command of `virsh` with this text as its file, `/dev/stdin`.
    pub fn virsh(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.command("virsh");
        command.arg("--quiet").args(arguments);
        namespace::run(&mut command, Some(input))
    }

    /// Defines a filter, or defines it anew.
    pub fn define(&self, filter: &str) -> Result<()> {
        self.virsh(&["nwfilter-define", "/dev/stdin"], filter)
            .map(drop)
    }

    /// Has a filter installed at a port; the document is a `<filterbinding>`.
    pub fn bind(&self, binding: &str) -> Result<()> {
        self.virsh(&["nwfilter-binding-create", "/dev/stdin"], binding)
            .map(drop)
    }

    /// Removes what [`Self::bind`] installed.
    pub fn unbind(&self, port: &str) -> Result<()> {
        self.virsh(&["nwfilter-binding-delete", port], "").map(drop)
    }

    /// What one of the tools that save rules prints.
    pub fn save(&self, tool: &str) -> Result<String> {
        self.run(tool, &[])
    }

    /// What a program says, good or bad.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(LabError::io(format!("cannot run {program}")))
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        if let Err(error) = namespace::delete(std::slice::from_ref(&self.namespace)) {
            eprintln!("pointsman-lab: {error}");
        }
        cleanup::forget(&self.tag);
    }
}
