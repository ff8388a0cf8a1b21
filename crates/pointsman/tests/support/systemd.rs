//! A systemd of its own as process 1 of namespaces, with the host's programs and our unit.
//!
//! Its root is an overlay of the host's, its network that of a namespace that the test made, its cgroups, bpffs,
//! `/run` and `/etc/systemd` are its own. All of it goes with its process 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pointsman_linux::netns::NetNs;

use crate::segment::wait;

/// The unit under test.
pub(crate) const UNIT: &str = "pointsman.service";

/// Enters a cgroup of its own; the namespace then has it as its root. `$0` names it, `$1` is the folder.
const PLACE: &str = "set -e
mount --make-rprivate /
mkdir $1/cgroup
mount -t cgroup2 none $1/cgroup
mkdir $1/cgroup/$0
echo $$ > $1/cgroup/$0/cgroup.procs
exec unshare --pid --fork --kill-child --cgroup --ipc --uts --mount sh -c \"$2\" $1 $3";

/// Makes the root and becomes systemd. `$0` is the folder, `$1` the program. Targets are empty: what the
/// host would start is not meant.
const BOOT: &str = "set -e
mkdir $0/over $0/root
mount -t tmpfs none $0/over
mkdir $0/over/upper $0/over/work
root=$0/root
mount -t overlay -o lowerdir=/,upperdir=$0/over/upper,workdir=$0/over/work overlay $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t cgroup2 none $root/sys/fs/cgroup
mount -t bpf bpf $root/sys/fs/bpf
mount --rbind /dev $root/dev
for place in run tmp etc/systemd; do mount -t tmpfs none $root/$place; done
mkdir -p $root/etc/systemd/system $root/run/systemd $root/etc/default $root/etc/pointsman $root/var/log
touch $root/usr/bin/pointsman
mount --bind $1 $root/usr/bin/pointsman
cp $0/units/* $root/etc/systemd/system
mkdir $root/etc/systemd/system/pointsman.service.d
mv $root/etc/systemd/system/test.conf $root/etc/systemd/system/pointsman.service.d
for target in sysinit basic multi-user shutdown network-online umount; do
  printf '[Unit]\\nDefaultDependencies=no\\n' > $root/etc/systemd/system/$target.target
done
hostname pointsman-test
cd $root
mkdir -p old
pivot_root . old
umount -l /old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=pointsman-test SYSTEMD_UNIT_PATH=/etc/systemd/system \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false";

/// A running systemd; ends with all that it started when dropped.
pub(crate) struct Systemd {
    outer: Child,
    /// Its process, as the test sees it.
    init: u32,
    cgroup: String,
    folder: tempfile::TempDir,
}

/// What a program said and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) good: bool,
}

impl Systemd {
    /// Boots in a network namespace; `drop_in` stands in the unit's section `[Service]`. None without systemd,
    /// and says so.
    pub(crate) fn boot(namespace: &NetNs, program: &str, drop_in: &str) -> Option<Self> {
        if !Path::new("/lib/systemd/systemd").exists() {
            println!("skipped: there is no systemd");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let units = folder.path().join("units");
        fs::create_dir(&units).expect("mkdir");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
        for name in [UNIT, "pointsman-give-back.service"] {
            fs::copy(ours.join(name), units.join(name)).expect("the unit");
        }
        let log = "append:/var/log/pointsman";
        let drop_in = format!("[Service]\nStandardOutput={log}\nStandardError={log}\n{drop_in}\n");
        fs::write(units.join("test.conf"), drop_in).expect("write");
        let said = fs::File::create(folder.path().join("said")).expect("a file");
        let name = namespace.name().expect("a name");
        let cgroup = format!("pointsman-{name}");
        let outer = namespace
            .command("unshare")
            .args(["--mount", "sh", "-c", PLACE, &cgroup])
            .arg(folder.path())
            .args([BOOT, program])
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            .spawn()
            .expect("run unshare");
        let mut this = Self {
            outer,
            init: 0,
            cgroup,
            folder,
        };
        wait("systemd to begin", || this.find_init().is_some());
        this.init = this.find_init().expect("a process");
        wait("systemd to be up", || {
            let said = this.systemctl("is-active multi-user.target");
            said.text == "active\n"
        });
        Some(this)
    }

    /// Process 1 of the namespace, once it is systemd.
    fn find_init(&self) -> Option<u32> {
        let id = self.outer.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let init: u32 = children.trim().parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name == "systemd\n").then_some(init)
    }

    /// A file as systemd and its services see it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Writes a file at once.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.file(path);
        let new = file.with_extension("new");
        fs::write(&new, text).expect("write");
        fs::rename(&new, &file).expect("rename");
    }

    /// Runs a program beside the services, to its end.
    pub(crate) fn run(&self, words: &str) -> Said {
        let init = self.init.to_string();
        let output = Command::new("nsenter")
            .args(["--target", &init, "--all", "--wd=/", "timeout", "30"])
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("run nsenter");
        let said = [output.stdout, output.stderr].concat();
        Said {
            text: String::from_utf8_lossy(&said).into_owned(),
            good: output.status.success(),
        }
    }

    pub(crate) fn systemctl(&self, words: &str) -> Said {
        self.run(&format!("systemctl {words}"))
    }

    /// Does something with the unit, which has to succeed.
    pub(crate) fn do_with_unit(&self, verb: &str) {
        let said = self.systemctl(&format!("{verb} {UNIT}"));
        assert!(said.good, "{verb}: {}\n{}", said.text, self.log());
    }

    /// A property of the unit.
    pub(crate) fn property(&self, name: &str) -> String {
        let said = self.systemctl(&format!("show --property {name} --value {UNIT}"));
        said.text.trim().to_owned()
    }

    /// Sends a signal to the daemon itself, unnoticed by systemd.
    pub(crate) fn kill(&self, signal: &str) {
        let id = self.property("MainPID");
        assert_ne!(id, "0", "no daemon: {}", self.log());
        let said = self.run(&format!("kill -{signal} {id}"));
        assert!(said.good, "{}", said.text);
    }

    /// What the daemon and what ends it said, and systemd.
    pub(crate) fn log(&self) -> String {
        let of_unit = fs::read_to_string(self.file("/var/log/pointsman")).unwrap_or_default();
        let said = fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
        of_unit + &said
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // With process 1 of a namespace go all others, and mounts with the last.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let remove = "mount -t cgroup2 none $1 && cd $1 || exit 1
for turn in 1 2 3 4 5 6 7 8 9 10; do
  find $0 -depth -type d -exec rmdir {} + 2> /dev/null
  test -d $0 || exit 0
  sleep 0.1
done";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", remove, &self.cgroup]);
        let _ = command.arg(self.folder.path().join("units")).status();
    }
}
