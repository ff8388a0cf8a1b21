//! Installs what building, testing and demonstrating need and this machine lacks.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, find, run, say};

/// The linker of the eBPF object. Later ones need a newer LLVM than the pinned compiler has.
const LINKER_VERSION: &str = "0.10.4";

/// What the machine is made ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// To build the programs.
    Build,
    /// To build them and run the demonstration.
    Demo,
    /// To build them and replay scenarios.
    Oracle,
    /// To run every test and check.
    Test,
}

/// A program, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: Purpose,
    why: &'static str,
}

const fn tool(
    program: &'static str,
    package: &'static str,
    purpose: Purpose,
    why: &'static str,
) -> Tool {
    Tool {
        program,
        package,
        purpose,
        why,
    }
}

const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", Purpose::Demo, "builds network namespaces"),
    tool("curl", "curl", Purpose::Demo, "is the client"),
    tool("ping", "iputils-ping", Purpose::Demo, "tries the paths"),
    tool("tc", "iproute2", Purpose::Test, "shows attached programs"),
    tool(
        "nft",
        "nftables",
        Purpose::Test,
        "drops packets for the tests",
    ),
    tool(
        "ebtables",
        "ebtables",
        Purpose::Test,
        "filters frames as libvirt has it do",
    ),
    tool(
        "keepalived",
        "keepalived",
        Purpose::Test,
        "shares segments with our virtual routers",
    ),
    // Process 1 of namespaces, never of the host.
    tool(
        "systemctl",
        "systemd",
        Purpose::Test,
        "runs our unit as a real service manager does",
    ),
    tool(
        "openssl",
        "openssl",
        Purpose::Test,
        "is the TLS server that checks talk to",
    ),
    tool(
        "conntrack",
        "conntrack",
        Purpose::Test,
        "shows what a host of a fault lab remembers",
    ),
    tool(
        "ethtool",
        "ethtool",
        Purpose::Test,
        "confirms that offloads stay on",
    ),
    tool(
        "cpio",
        "cpio",
        Purpose::Test,
        "reads the guest's file system back",
    ),
    tool(
        "sysctl",
        "procps",
        Purpose::Oracle,
        "reads and sets kernel settings",
    ),
    tool(
        "iptables",
        "iptables",
        Purpose::Oracle,
        "marks packets in scenarios",
    ),
    tool(
        "tcpdump",
        "tcpdump",
        Purpose::Test,
        "is compared with the packet display",
    ),
    // Its service does not start without a /etc/keepalived/keepalived.conf, and the package brings none.
    tool(
        "keepalived",
        "keepalived",
        Purpose::Test,
        "reads the same configurations, to be compared",
    ),
    tool(
        "tshark",
        "tshark",
        Purpose::Test,
        "reads the capture files back",
    ),
    tool(
        "ssh",
        "openssh-client",
        Purpose::Test,
        "reaches hosts, here namespaces",
    ),
    tool(
        "dropbear",
        "dropbear-bin",
        Purpose::Test,
        "is the ssh server of such hosts, without a service of the system",
    ),
    tool(
        "chromium",
        "chromium",
        Purpose::Test,
        "shows the doctor's page as a browser does",
    ),
];

/// The verb `setup`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let purpose = match args {
        [] => Purpose::Test,
        [word] if word == "--demo" => Purpose::Demo,
        _ => return Err(crate::Usage("usage: cargo xtask setup [--demo]".into()).into()),
    };
    prepare(purpose)?;
    say("everything is there");
    Ok(())
}

/// Makes the machine ready; says what it installs and why, nothing if nothing is missing.
pub(crate) fn prepare(purpose: Purpose) -> Result<()> {
    components(purpose)?;
    linker()?;
    packages(purpose)?;
    if purpose == Purpose::Test
        && !(crate::libvirt::has_daemon() && crate::libvirt::filters().is_some())
        && let Err(error) = crate::libvirt::fetch()
    {
        // Tests that need them say so and are skipped.
        say(&format!("{error:#}"));
    }
    if purpose == Purpose::Test
        && !crate::frr::is_there()
        && let Err(error) = crate::frr::fetch()
    {
        say(&format!("{error:#}"));
    }
    Ok(())
}

/// Debian packages that are missing, each with the reason.
fn missing(purpose: Purpose) -> Vec<(&'static str, String)> {
    let mut missing: Vec<(&'static str, String)> = Vec::new();
    let mut add = |package, why: String| {
        if !missing.iter().any(|(name, _)| *name == package) {
            missing.push((package, why));
        }
    };
    for tool in TOOLS {
        if tool.purpose <= purpose && find(tool.program).is_none() {
            add(tool.package, format!("`{}` {}", tool.program, tool.why));
        }
    }
    if purpose == Purpose::Test && find("dpkg-query").is_some() {
        for &package in crate::guest::PACKAGES {
            if !is_installed(package) {
                add(package, "runs tests on the kernel 6.1 in a guest".into());
            }
        }
    }
    missing
}

fn is_installed(package: &str) -> bool {
    let status = std::fs::read_to_string("/var/lib/dpkg/status").unwrap_or_default();
    has_package(&status, package)
}

/// Whether dpkg's status file says that the package is installed.
fn has_package(status: &str, package: &str) -> bool {
    status.split("\n\n").any(|entry| {
        let mut lines = entry.trim_start().lines();
        lines.next().and_then(|line| line.strip_prefix("Package: ")) == Some(package)
            && lines.any(|line| line == "Status: install ok installed")
    })
}

fn packages(purpose: Purpose) -> Result<()> {
    let missing = missing(purpose);
    if missing.is_empty() {
        if purpose == Purpose::Test && find("apt-get").is_some() && !has_lists() {
            say("fetching apt's package lists: the guest's kernel is a package");
            return apt(&["update"]);
        }
        return Ok(());
    }
    say("installing Debian packages:");
    for (package, why) in &missing {
        eprintln!("    {package:<20} {why}");
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    let by_hand = format!(
        "install them by hand: apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if find("apt-get").is_none() {
        bail!("there is no apt-get here; install the programs named above by other means");
    }
    apt(&["update"]).context(by_hand.clone())?;
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend(names);
    apt(&args).context(by_hand)
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = workspace::as_root("env")?;
    run(command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"])
        .args(args)
        .stdin(Stdio::null()))
}

/// Whether apt knows any package; images are often made without.
fn has_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

/// The parts of the pinned toolchain.
fn components(purpose: Purpose) -> Result<()> {
    let mut missing = Vec::new();
    let ready = env::var_os("POINTSMAN_BPF_OBJECTS").is_some();
    if !ready && !sysroot()?.join("lib/rustlib/src/rust/library").is_dir() {
        missing.push(("rust-src", "the eBPF programs need their own `core`"));
    }
    if purpose == Purpose::Test {
        for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
            if !answers(workspace::cargo().arg(subcommand).arg("--version")) {
                missing.push((component, "checks the code"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    say("adding to the Rust toolchain:");
    for (component, why) in &missing {
        eprintln!("    {component:<20} {why}");
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace::root());
    rustup.args(["component", "add"]);
    rustup.args(missing.iter().map(|(component, _)| *component));
    run(&mut rustup).context("without rustup, install these parts of rust 1.95 by other means")
}

fn sysroot() -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .current_dir(workspace::root())
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// The linker of the eBPF programs, where `crates/datapath/build.rs` looks for it.
fn linker() -> Result<()> {
    let tools = workspace::root().join("target/tools");
    if env::var_os("POINTSMAN_BPF_OBJECTS").is_some()
        || env::var_os("BPF_LINKER").is_some()
        || tools.join("bin/bpf-linker").exists()
        || find("bpf-linker").is_some_and(|path| fits(&path))
    {
        return Ok(());
    }
    say(&format!(
        "building bpf-linker {LINKER_VERSION} into target/tools: it links the eBPF programs \
         (two to three minutes)"
    ));
    run(workspace::cargo()
        .args(["install", "bpf-linker", "--version", LINKER_VERSION])
        .args(["--locked", "--quiet", "--root"])
        .arg(&tools)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS"))
    .context("or name a bpf-linker 0.10 by the variable BPF_LINKER")
}

/// Whether this bpf-linker goes with the pinned compiler.
fn fits(path: &std::path::Path) -> bool {
    Command::new(path)
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(" 0.10."))
}

fn answers(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_tells_installed_from_removed() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\n\n\
                      Package: b\nStatus: deinstall ok config-files\n\n\
                      Package: c-extra\nStatus: install ok installed\n";
        assert!(has_package(status, "a"));
        assert!(!has_package(status, "b"));
        assert!(!has_package(status, "c"));
        assert!(has_package(status, "c-extra"));
    }

    #[test]
    fn a_larger_purpose_needs_no_fewer_tools() {
        let count = |purpose| TOOLS.iter().filter(|tool| tool.purpose <= purpose).count();
        assert_eq!(count(Purpose::Build), 0);
        assert!(count(Purpose::Demo) > 0);
        assert!(count(Purpose::Oracle) > count(Purpose::Demo));
        assert_eq!(count(Purpose::Test), TOOLS.len());
    }
}
