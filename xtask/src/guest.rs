//! Runs programs under Debian 12's kernel 6.1, the oldest supported, in qemu without hardware
//! virtualisation: real `ip_vs`, `ipip` and `8021q`, and an instruction count as clock.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub(crate) mod cost;
mod cpio;
mod faults;
mod filters;
pub(crate) mod golden;
mod initramfs;
mod kernel;
mod qemu;
mod side_by_side;
mod sync;
pub(crate) mod test;

/// The Debian packages this needs on the host.
pub(crate) const PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "busybox-static",
    "kmod",
    "apt",
    "dpkg",
    "libc-bin",
    "util-linux",
    "xz-utils",
];

const USAGE: &str = "\
usage: cargo xtask guest [OPTIONS] -- PROGRAM [ARGS...]

Boots Debian's kernel in qemu, runs PROGRAM there as root, passes on what it prints and its exit
status. PROGRAM is a path on this machine (copied with its shared libraries to the same path), a
program of busybox (`sh -c '...'`), or one of this machine's by name. Modules load on demand.

options:
  --with PROGRAM      take along a program, by path or name; repeatable
  --file HOST[:GUEST] take along a file or directory; repeatable
  --env NAME=VALUE    set a variable for PROGRAM; repeatable
  --module NAME       load a kernel module first; repeatable
  --icount            one CPU, and guest time counts instructions (1 instruction = 1 ns)
  --cpus N            default 2, with --icount always 1
  --memory MIB        default 1024
  --append WORDS      more words for the kernel command line
  --timeout SECONDS   kill the guest after this time, default 300
  --refresh           ask apt for a newer kernel than the one at hand
";

/// A program to run in the guest, and the guest to run it in.
#[derive(Debug, Clone)]
pub(crate) struct GuestCommand {
    /// The program: a host path, a busybox applet, or a host program's name.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Further programs to take along with their libraries, by path or name.
    pub(crate) with: Vec<String>,
    /// Files and directories to take along: host path, guest path.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// Environment variables of the program.
    pub(crate) env: Vec<(String, String)>,
    /// Kernel modules to load first; most load on demand.
    pub(crate) modules: Vec<String>,
    /// One CPU whose clock counts instructions, one a nanosecond.
    pub(crate) icount: bool,
    /// Emulated CPUs, when `icount` is off.
    pub(crate) cpus: u32,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// More words for the kernel command line.
    pub(crate) append: String,
    /// The guest is killed after this time.
    pub(crate) timeout: Duration,
    /// Ask apt for a newer kernel than the cached one.
    pub(crate) refresh: bool,
    /// Copy the program's output to ours as it comes.
    pub(crate) stream: bool,
}

impl GuestCommand {
    /// A command with every option at its default.
    pub(crate) fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            with: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            modules: Vec::new(),
            icount: false,
            cpus: 2,
            memory_mib: 1024,
            append: String::new(),
            timeout: Duration::from_secs(300),
            refresh: false,
            stream: true,
        }
    }
}

/// How the program in the guest ended.
#[derive(Debug, Clone)]
pub(crate) struct GuestOutput {
    /// Its exit status, 128 and the signal's number if a signal ended it.
    pub(crate) status: u8,
    /// What it printed, standard output and error in one stream.
    pub(crate) output: Vec<u8>,
}

/// Boots the guest, runs the program, waits for the end of both.
pub(crate) fn run(command: &GuestCommand) -> Result<GuestOutput> {
    let cache = cache_directory();
    let kernel = kernel::Kernel::fetch(&cache, command.refresh)?;
    let mut tree = initramfs::Initramfs::new(&kernel)?;
    for program in &command.with {
        tree.program(program, &cache)?;
    }
    for (host, guest) in &command.files {
        tree.copy(host, guest)?;
    }
    let program = if !command.program.contains('/') && tree.has_applet(&command.program) {
        command.program.clone()
    } else {
        tree.program(&command.program, &cache)?
            .display()
            .to_string()
    };
    tree.bytes("/job/run", 0o755, &job_script(&program, command));
    tree.bytes("/job/modules", 0o644, &command.modules.join("\n"));

    let directory = RunDirectory::create(&cache)?;
    let initrd = directory.0.join("initrd");
    let console = directory.0.join("console");
    tree.write(&initrd)?;
    let machine = qemu::Machine {
        kernel: &kernel.image,
        initrd: &initrd,
        console: &console,
        memory_mib: command.memory_mib,
        cpus: if command.icount { 1 } else { command.cpus },
        icount: command.icount,
        append: &command.append,
    };
    let ended = machine.run(command.timeout, command.stream)?;
    Ok(GuestOutput {
        status: ended.status,
        output: ended.output,
    })
}

/// The verb `guest`.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    if matches!(args.first().map(String::as_str), Some("--help" | "-h")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let command = match parse(args) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("xtask guest: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&command) {
        Ok(output) => ExitCode::from(output.status),
        Err(error) => {
            eprintln!("xtask guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: Vec<String>) -> Result<GuestCommand> {
    let mut command = GuestCommand::new("");
    let mut args = args.into_iter();
    while let Some(option) = args.next() {
        if option == "--" {
            break;
        }
        if !option.starts_with('-') {
            bail!("`--` must stand before the program; found `{option}`");
        }
        let mut value = || {
            args.next()
                .with_context(|| format!("{option} needs a value"))
        };
        match option.as_str() {
            "--with" => command.with.push(value()?),
            "--file" => {
                let value = value()?;
                let (host, guest) = value.split_once(':').unwrap_or((&value, &value));
                let guest = std::path::absolute(guest)?;
                command.files.push((host.into(), guest));
            }
            "--env" => {
                let value = value()?;
                let (name, value) = value
                    .split_once('=')
                    .with_context(|| format!("--env takes NAME=VALUE, not `{value}`"))?;
                command.env.push((name.to_owned(), value.to_owned()));
            }
            "--module" => command.modules.push(value()?),
            "--icount" => command.icount = true,
            "--cpus" => command.cpus = number(&option, &value()?)?,
            "--memory" => command.memory_mib = number(&option, &value()?)?,
            "--append" => command.append = value()?,
            "--timeout" => {
                command.timeout = Duration::from_secs(number(&option, &value()?)?.into());
            }
            "--refresh" => command.refresh = true,
            _ => bail!("there is no option `{option}`"),
        }
    }
    command.program = args.next().context("no program to run")?;
    command.args = args.collect();
    Ok(command)
}

fn number(option: &str, text: &str) -> Result<u32> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => bail!("{option} takes a number from 1, not `{text}`"),
    }
}

fn job_script(program: &str, command: &GuestCommand) -> String {
    let mut script = String::from("#!/bin/sh\n");
    for (name, value) in &command.env {
        script.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    script.push_str(&format!("exec {}", quoted(program)));
    for arg in &command.args {
        script.push_str(&format!(" {}", quoted(arg)));
    }
    script.push('\n');
    script
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn cache_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    workspace.join("target/guest")
}

/// Files of one run, removed at its end.
struct RunDirectory(PathBuf);

impl RunDirectory {
    fn create(cache: &Path) -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = cache.join(format!("run-{}-{run}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_end_at_the_double_dash() {
        let command = parse(words("--icount --file a:/b --env X=1=2 -- ip --with link")).unwrap();
        assert!(command.icount);
        assert_eq!(command.files, [(PathBuf::from("a"), PathBuf::from("/b"))]);
        assert_eq!(command.env, [("X".to_owned(), "1=2".to_owned())]);
        assert_eq!(
            (command.program.as_str(), command.args),
            ("ip", words("--with link"))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("--icount", "no program"),
            ("ip link", "`--` must stand"),
            ("--cpus 0 -- ip", "from 1"),
            ("--quick -- ip", "--quick"),
            ("--env X -- ip", "NAME=VALUE"),
            ("--with", "needs a value"),
        ] {
            let error = parse(words(line)).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn any_argument_survives_the_shell() {
        let mut command = GuestCommand::new("");
        command.args = vec!["it's $HOME".into(), String::new(), "two\nlines".into()];
        let script = job_script("printf", &command).replace("exec 'printf'", "printf '<%s>'");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "<it's $HOME><><two\nlines>"
        );
    }
}
