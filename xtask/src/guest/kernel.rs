//! Debian packages unpacked beside the build, above all the guest's kernel; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The metapackage whose dependency is the current kernel: the "cloud" flavour is a third of the
/// size, is packed with LZ4 (seconds faster to boot in emulation) and lacks no network module.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel unpacked in the cache.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` will say.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`, with uncompressed modules and `modules.dep`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// Takes the kernel from the cache, or downloads it; `refresh` asks apt for a newer one first.
    pub(crate) fn fetch(cache: &Path, refresh: bool) -> Result<Self> {
        if !refresh && let Some(kernel) = Self::cached(cache)? {
            return Ok(kernel);
        }
        let package = Package::dependency_of(METAPACKAGE)?;
        let root = cache.join("kernel").join(package.file_stem());
        if !root.exists() {
            package.unpack(&root, prepare_modules)?;
        }
        let kernel = Self::open(&root)?;
        if !kernel.release.starts_with("6.1.") {
            eprintln!(
                "guest: note: this is {}, not Debian 12's 6.1, the oldest kernel supported",
                kernel.release
            );
        }
        Ok(kernel)
    }

    fn cached(cache: &Path) -> Result<Option<Self>> {
        let Ok(entries) = fs::read_dir(cache.join("kernel")) else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Names with a dot first are downloads under way.
            if !entry.file_name().to_string_lossy().starts_with('.') {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort();
        found.last().map(|(_, root)| Self::open(root)).transpose()
    }

    fn open(root: &Path) -> Result<Self> {
        let modules = only_entry(&root.join("lib/modules"))?;
        let release = modules
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        ensure!(
            image.exists() && modules.join("modules.dep").exists(),
            "{} holds no complete kernel; remove it and run again",
            root.display()
        );
        Ok(Self {
            release,
            image,
            modules,
        })
    }
}

/// A binary package in the archive apt knows.
#[derive(Debug)]
pub(crate) struct Package {
    name: String,
    version: String,
}

impl Package {
    /// Asks apt for its candidate of the package `name`.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let text = apt(&["apt-cache", "show", "--no-all-versions", name])?;
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .with_context(|| format!("apt knows no version of {name}; run `apt-get update`"))?;
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Asks apt what the metapackage `name` stands for at present.
    fn dependency_of(name: &str) -> Result<Self> {
        let text = apt(&["apt-cache", "depends", name])?;
        let target = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .with_context(|| format!("{name} depends on no kernel; run `apt-get update`"))?;
        Self::find(target)
    }

    fn file_stem(&self) -> String {
        format!("{}_{}", self.name, self.version.replace(':', "%3a"))
    }

    /// Downloads the package and unpacks it as the directory `root`, which appears only when
    /// complete; `finish` gets the unpacked directory before that.
    pub(crate) fn unpack(&self, root: &Path, finish: fn(&Path) -> Result<()>) -> Result<()> {
        let parent = root.parent().context("a cache directory without parent")?;
        let work = parent.join(format!(".{}-{}", self.name, std::process::id()));
        let result = self.unpack_in(&work, finish).and_then(|unpacked| {
            match fs::rename(&unpacked, root) {
                // Somebody else was faster: theirs is as good.
                Err(_) if root.exists() => Ok(()),
                other => other.with_context(|| format!("cannot create {}", root.display())),
            }
        });
        let _ = fs::remove_dir_all(&work);
        result
    }

    fn unpack_in(&self, work: &Path, finish: fn(&Path) -> Result<()>) -> Result<PathBuf> {
        fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
        eprintln!(
            "guest: downloading Debian package {} {}",
            self.name, self.version
        );
        let wanted = format!("{}={}", self.name, self.version);
        // The sandbox user could not write here, and apt would warn about it.
        let mut download = Command::new("apt-get");
        download
            .args([
                "--quiet",
                "--option",
                "APT::Sandbox::User=root",
                "download",
                &wanted,
            ])
            .current_dir(work);
        run(&mut download).context("if the lists are old, run `apt-get update`")?;
        let archive = only_entry(work)?;
        let unpacked = work.join("root");
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&unpacked))?;
        finish(&unpacked)?;
        Ok(unpacked)
    }
}

/// Decompresses the modules, if they are, and writes `modules.dep`, which packages lack.
fn prepare_modules(root: &Path) -> Result<()> {
    let modules = only_entry(&root.join("lib/modules"))?;
    let compressed = files_with_extension(&modules, "xz")?;
    if !compressed.is_empty() {
        run(Command::new("xz").arg("--decompress").args(&compressed))?;
    }
    let release = modules.file_name().unwrap_or_default();
    run(Command::new("depmod")
        .arg("--basedir")
        .arg(root)
        .arg(release))?;
    Ok(())
}

/// All files below `directory` whose names end in `extension`.
fn files_with_extension(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else if entry
                .path()
                .extension()
                .is_some_and(|found| found == extension)
            {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let mut entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.path()),
        _ => bail!("{} should hold exactly one entry", directory.display()),
    }
}

fn apt(words: &[&str]) -> Result<String> {
    run(Command::new(words[0]).args(&words[1..]).env("LC_ALL", "C"))
        .context("the guest's kernel comes from Debian's archive through apt")
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!(
            "cannot run `{name}`; install the packages: {}",
            super::PACKAGES.join(" ")
        )
    })?;
    if !output.status.success() {
        let line: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        bail!(
            "`{name} {}` failed ({}): {}",
            line.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
