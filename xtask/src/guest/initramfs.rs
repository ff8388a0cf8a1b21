//! The guest's only file system: busybox, kernel modules, and the programs to run with their
//! shared libraries, all at the paths they have on the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::cpio;
use super::kernel::{Kernel, Package, run};

const INIT: &str = include_str!("init.sh");

/// Module folders (or single modules, without `.ko`) to take; what they need comes along.
const MODULES: &[&str] = &[
    "crypto",
    "drivers/net/bonding",
    "drivers/net/dummy",
    "drivers/net/geneve",
    "drivers/net/ifb",
    "drivers/net/ipvlan",
    "drivers/net/macvlan",
    "drivers/net/macvtap",
    "drivers/net/nlmon",
    "drivers/net/tap",
    "drivers/net/tun",
    "drivers/net/veth",
    "drivers/net/virtio_net",
    "drivers/net/vrf",
    "drivers/net/vxlan",
    "net/802",
    "net/8021q",
    "net/bridge",
    "net/core",
    "net/ipv4",
    "net/ipv6",
    "net/llc",
    "net/netfilter",
    "net/netlink",
    "net/packet",
    "net/sched",
    "net/sctp",
    "net/unix",
    "net/xfrm",
];

/// Directories that are links into `/usr`, as in Debian.
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// Programs that need not be on the host: the packages to unpack for each.
const PROGRAM_PACKAGES: &[(&str, &[&str])] = &[
    ("ipvsadm", IPVSADM_PACKAGES),
    ("ipvsadm-save", IPVSADM_PACKAGES),
    ("ipvsadm-restore", IPVSADM_PACKAGES),
];

const IPVSADM_PACKAGES: &[&str] = &["ipvsadm", "libnl-3-200", "libnl-genl-3-200", "libpopt0"];

const SEARCH_PATH: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

#[derive(Debug)]
enum Node {
    Directory,
    Symlink(String),
    Bytes { permissions: u32, data: Vec<u8> },
    HostFile(PathBuf),
}

/// The tree being collected, by absolute guest path.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    nodes: BTreeMap<PathBuf, Node>,
    applets: Vec<PathBuf>,
}

impl Initramfs {
    /// Starts with busybox, the modules of `kernel` and the init script.
    pub(crate) fn new(kernel: &Kernel) -> Result<Self> {
        let mut tree = Self::default();
        for directory in [
            "dev", "proc", "sys", "tmp", "run", "root", "job", "etc", "var/lib",
        ] {
            tree.insert(Path::new("/").join(directory), Node::Directory);
        }
        for link in MERGED {
            tree.nodes.insert(
                Path::new("/").join(link),
                Node::Symlink(format!("usr/{link}")),
            );
        }
        tree.insert("/var/run".into(), Node::Symlink("/run".into()));
        tree.bytes("/init", 0o755, INIT);
        tree.bytes("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
        tree.bytes("/etc/group", 0o644, "root:x:0:\n");
        tree.bytes(
            "/etc/hosts",
            0o644,
            "127.0.0.1 localhost guest\n::1 localhost\n",
        );
        for file in ["/etc/protocols", "/etc/services"] {
            if Path::new(file).exists() {
                tree.insert(file.into(), Node::HostFile(file.into()));
            }
        }
        let busybox = find_program("busybox")
            .context("`busybox` is missing; install the package busybox-static")?;
        ensure!(
            libraries(&busybox, Path::new("/"))?.is_empty(),
            "{} is not static; install the package busybox-static",
            busybox.display()
        );
        for applet in run(Command::new(&busybox).arg("--list-full"))?.lines() {
            tree.applets.push(Path::new("/").join(applet));
        }
        tree.insert("/bin/busybox".into(), Node::HostFile(busybox));
        // busybox's own shell would prefer its applets to the programs taken along.
        tree.program("sh", Path::new("/"))?;
        tree.modules(kernel)?;
        Ok(tree)
    }

    /// Adds text (or a script) made here.
    pub(crate) fn bytes(&mut self, path: &str, permissions: u32, data: &str) {
        self.insert(
            path.into(),
            Node::Bytes {
                permissions,
                data: data.as_bytes().to_vec(),
            },
        );
    }

    /// Adds a program with its libraries, by path or by name, and gives its path in the guest.
    pub(crate) fn program(&mut self, name: &str, cache: &Path) -> Result<PathBuf> {
        let (path, root) = if name.contains('/') {
            let path = std::path::absolute(name)?;
            ensure!(path.is_file(), "there is no program {name} on this machine");
            (path, PathBuf::from("/"))
        } else if let Some(path) = find_program(name) {
            (path, PathBuf::from("/"))
        } else if let Some((_, packages)) =
            PROGRAM_PACKAGES.iter().find(|(known, _)| *known == name)
        {
            let root = unpacked_packages(packages, cache)?;
            let path = SEARCH_PATH
                .iter()
                .map(|directory| root.join(directory.trim_start_matches('/')).join(name))
                .find(|path| path.exists())
                .with_context(|| format!("the package of {name} does not hold it"))?;
            (path, root)
        } else {
            bail!("there is no program `{name}` on this machine; install it or give its path");
        };
        for library in libraries(&path, &root)? {
            self.insert(inside(&library, &root), Node::HostFile(library));
        }
        let guest = inside(&path, &root);
        self.insert(guest.clone(), Node::HostFile(path));
        Ok(guest)
    }

    /// Whether busybox offers `name`.
    pub(crate) fn has_applet(&self, name: &str) -> bool {
        name == "busybox"
            || self
                .applets
                .iter()
                .any(|path| path.file_name().is_some_and(|found| found == name))
    }

    /// Copies a file, or a directory with all in it.
    pub(crate) fn copy(&mut self, host: &Path, guest: &Path) -> Result<()> {
        ensure!(
            guest.is_absolute(),
            "{} is not an absolute guest path",
            guest.display()
        );
        let metadata =
            fs::metadata(host).with_context(|| format!("cannot read {}", host.display()))?;
        if !metadata.is_dir() {
            self.insert(guest.to_owned(), Node::HostFile(std::path::absolute(host)?));
            return Ok(());
        }
        self.insert(guest.to_owned(), Node::Directory);
        for entry in fs::read_dir(host)? {
            let entry = entry?;
            self.copy(&entry.path(), &guest.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Writes the archive, uncompressed: emulated decompression costs more than it saves.
    pub(crate) fn write(mut self, path: &Path) -> Result<()> {
        // A real program found by name must not be shadowed by busybox's idea of it.
        let taken: Vec<_> = self
            .nodes
            .keys()
            .filter_map(|path| Some(path.file_name()?.to_owned()))
            .collect();
        for applet in std::mem::take(&mut self.applets) {
            if applet
                .file_name()
                .is_some_and(|name| !taken.iter().any(|other| other == name))
            {
                self.insert(applet, Node::Symlink("/bin/busybox".into()));
            }
        }
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut writer = cpio::Writer::new(BufWriter::new(file));
        for (name, node) in &self.nodes {
            let name = name.to_str().context("a path that is not UTF-8")?;
            match node {
                Node::Directory => writer.directory(name)?,
                Node::Symlink(target) => writer.symlink(name, target)?,
                Node::Bytes { permissions, data } => writer.file(name, *permissions, data)?,
                Node::HostFile(host) => {
                    let context = || format!("cannot read {}", host.display());
                    let permissions = fs::metadata(host).with_context(context)?.permissions();
                    let data = fs::read(host).with_context(context)?;
                    writer.file(name, permissions.mode(), &data)?;
                }
            }
        }
        writer.finish()?;
        Ok(())
    }

    fn insert(&mut self, mut path: PathBuf, node: Node) {
        if MERGED
            .iter()
            .any(|link| path.starts_with(Path::new("/").join(link)))
        {
            path = Path::new("/usr").join(path.strip_prefix("/").unwrap_or(&path));
        }
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|parent| *parent != Path::new("/"))
        {
            self.nodes
                .entry(parent.to_owned())
                .or_insert(Node::Directory);
        }
        // An explicit directory must not replace, nor be replaced by, what is in the way of it.
        match (self.nodes.get(&path), &node) {
            (Some(_), Node::Directory) => {}
            _ => {
                self.nodes.insert(path, node);
            }
        }
    }

    /// Adds the chosen modules and index files of just these, so that the kernel can ask for them.
    fn modules(&mut self, kernel: &Kernel) -> Result<()> {
        let guest = Path::new("/lib/modules").join(&kernel.release);
        let index = fs::read_to_string(kernel.modules.join("modules.dep"))?;
        let needs: BTreeMap<&str, Vec<&str>> = index
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(module, rest)| (module, rest.split_whitespace().collect()))
            .collect();
        let mut chosen: BTreeMap<&str, &[&str]> = BTreeMap::new();
        for (module, needed) in &needs {
            let wanted = MODULES.iter().any(|prefix| {
                module
                    .strip_prefix("kernel/")
                    .and_then(|path| path.strip_prefix(prefix))
                    .is_some_and(|rest| rest.starts_with('/') || rest == ".ko")
            });
            if wanted {
                // modules.dep lists needs of needs too.
                for name in needed.iter().chain([module]) {
                    chosen.insert(name, needs.get(name).map_or(&[], Vec::as_slice));
                }
            }
        }
        let mut dependencies = String::new();
        let mut names = Vec::new();
        for (module, needed) in chosen {
            dependencies.push_str(&format!("{module}: {}\n", needed.join(" ")));
            names.extend(
                Path::new(module)
                    .file_stem()
                    .map(|n| n.to_string_lossy().replace('-', "_")),
            );
            self.insert(
                guest.join(module),
                Node::HostFile(kernel.modules.join(module)),
            );
        }
        ensure!(
            !names.is_empty(),
            "no module found in {}",
            kernel.modules.display()
        );
        let aliases = fs::read_to_string(kernel.modules.join("modules.alias"))?;
        let aliases: String = aliases
            .lines()
            .filter(|line| {
                let module = line.rsplit(' ').next().unwrap_or_default();
                names.iter().any(|name| name == &module.replace('-', "_"))
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let guest = guest.to_str().context("a path that is not UTF-8")?;
        self.bytes(&format!("{guest}/modules.dep"), 0o644, &dependencies);
        self.bytes(&format!("{guest}/modules.alias"), 0o644, &aliases);
        Ok(())
    }
}

/// The path a file below `root` has when `root` is `/`.
fn inside(path: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(root)
        .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SEARCH_PATH.iter().map(PathBuf::from));
    directories
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The shared libraries (and the loader) of a program, as `ldd` finds them; none for a static
/// program or a script.
fn libraries(program: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("ldd");
    command.arg(program).env("LC_ALL", "C");
    if root != Path::new("/") {
        let below = |directory: &str| root.join(directory).display().to_string();
        let paths = [
            "usr/lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu",
            "usr/lib",
        ]
        .map(below);
        command.env("LD_LIBRARY_PATH", paths.join(":"));
    }
    let output = command
        .output()
        .context("cannot run `ldd`; install the package libc-bin")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        ensure!(
            !line.ends_with("not found"),
            "{}: {line}",
            program.display()
        );
        let target = line
            .split_once("=>")
            .map_or(line, |(_, target)| target.trim());
        if target.starts_with('/')
            && let Some((path, _)) = target.split_once(" (")
        {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

fn unpacked_packages(packages: &[&str], cache: &Path) -> Result<PathBuf> {
    let name = packages.first().context("a program of no package")?;
    let root = cache.join("program").join(name);
    if root.exists() {
        return Ok(root);
    }
    let parts = cache
        .join("program")
        .join(format!(".{name}-{}", std::process::id()));
    let merged = parts.join("merged");
    fs::create_dir_all(&merged)?;
    let result = packages
        .iter()
        .try_for_each(|package| {
            let part = parts.join(package);
            Package::find(package)?.unpack(&part, |_| Ok(()))?;
            run(Command::new("cp")
                .arg("--archive")
                .arg(part.join("."))
                .arg(&merged))?;
            Ok(())
        })
        .and_then(|()| match fs::rename(&merged, &root) {
            Err(_) if root.exists() => Ok(()),
            other => other.with_context(|| format!("cannot create {}", root.display())),
        });
    let _ = fs::remove_dir_all(&parts);
    result.map(|()| root)
}
