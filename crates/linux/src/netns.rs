//! Network namespaces: made and named as `ip netns` does, entered, and given to child processes.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{panic, thread};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;

/// Where named namespaces are mounted.
pub const NETNS_DIR: &str = "/run/netns";
/// The calling thread's namespace.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

/// Asks which kind of namespace a descriptor stands for.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Why a call on a network namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name can't be a file name.
    #[error("{name:?} can't name a network namespace: use a file name without '/'")]
    BadName {
        /// The name given.
        name: String,
    },
    /// The name is taken.
    #[error("network namespace {name:?} exists already; delete it or choose another name")]
    Exists {
        /// The name given.
        name: String,
    },
    /// There is nothing of that name.
    #[error("no network namespace at {}", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is not a namespace, for example because its mount is gone after a restart.
    #[error("{} is not a network namespace; if it is a leftover, remove the file", .path.display())]
    NotNamespace {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{call} {}: {source}", .path.display())]
    Call {
        /// The call.
        call: &'static str,
        /// The file it was about.
        path: PathBuf,
        /// What it returned.
        source: io::Error,
    },
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Exists { .. } => Some(libc::EEXIST),
            Self::Missing { .. } => Some(libc::ENOENT),
            Self::Call { source, .. } => source.raw_os_error(),
            Self::BadName { .. } | Self::NotNamespace { .. } => None,
        }
    }

    fn call(call: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Call {
            call,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// A network namespace, kept alive as long as this value or any other reference lives.
///
/// Dropping the value leaves a named namespace in place; see [`NetNs::delete_on_drop`].
#[derive(Debug, Clone)]
pub struct NetNs {
    // Shared, so that commands can hold it without a call that may fail.
    file: Arc<OwnedFd>,
    path: PathBuf,
}

impl NetNs {
    /// Makes a new namespace under a name, with nothing in it but a loopback that is down.
    pub fn create(name: &str) -> Result<Self, Error> {
        let path = named(name)?;
        prepare_directory()?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o000)
            .open(&path);
        if let Err(source) = made {
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists => Error::Exists {
                    name: name.to_owned(),
                },
                _ => Error::call("create", &path, source),
            });
        }
        // The new namespace belongs to a thread of its own, which ends with the mount in place.
        let target = path.clone();
        let mounted = on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::call("unshare(CLONE_NEWNET) for", &target, errno))?;
            mount(
                Some(THREAD_NETNS),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|errno| Error::call("mount", &target, errno))
        });
        mounted
            .and_then(|()| Self::from_path(&path))
            .inspect_err(|_| {
                let _ = remove(&path);
            })
    }

    /// Makes a new namespace without a name: it ends with this value and what was begun in it, however
    /// this process ends. Other programs reach it by [`NetNs::path`] while the value lives.
    pub fn anonymous() -> Result<Self, Error> {
        let mut namespace = on_thread(|| {
            let path = Path::new(THREAD_NETNS);
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::call("unshare(CLONE_NEWNET) for", path, errno))?;
            Self::current()
        })?;
        let descriptor = namespace.file.as_raw_fd();
        namespace.path = format!("/proc/{}/fd/{descriptor}", std::process::id()).into();
        Ok(namespace)
    }

    /// Opens a named namespace.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::from_path(named(name)?)
    }

    /// Opens the namespace a process is in.
    pub fn from_pid(pid: u32) -> Result<Self, Error> {
        Self::from_path(format!("/proc/{pid}/ns/net"))
    }

    /// Opens the calling thread's namespace.
    pub fn current() -> Result<Self, Error> {
        Self::from_path(THREAD_NETNS)
    }

    /// Opens a namespace by any path that leads to one.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                path: path.to_owned(),
            },
            _ => Error::call("open", path, source),
        })?;
        // SAFETY: the request takes no argument; on files that are no namespace it fails.
        if unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } != libc::CLONE_NEWNET {
            return Err(Error::NotNamespace {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            file: Arc::new(file.into()),
            path: path.to_owned(),
        })
    }

    /// Names all namespaces under [`NETNS_DIR`], sorted.
    pub fn list() -> Result<Vec<String>, Error> {
        let path = Path::new(NETNS_DIR);
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::call("readdir", path, source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::call("readdir", path, source))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Takes a namespace's name away; it ends once no process, socket or value holds it.
    pub fn delete(name: &str) -> Result<(), Error> {
        remove(&named(name)?)
    }

    /// Gives the namespace to a guard that takes its name away when dropped.
    ///
    /// Meant for values from [`NetNs::create`]; processes still inside keep the namespace alive.
    pub fn delete_on_drop(self) -> Temporary {
        Temporary(self)
    }

    /// The path the namespace was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of the path: the name of a named namespace.
    pub fn name(&self) -> Option<&str> {
        self.path.strip_prefix(NETNS_DIR).ok()?.to_str()
    }

    /// A number that is the same for two values if they are the same namespace.
    pub fn id(&self) -> Result<u64, Error> {
        let stat = fstat(&self.file).map_err(|errno| Error::call("fstat", &self.path, errno))?;
        Ok(stat.st_ino)
    }

    /// Moves the calling thread into the namespace until the guard is dropped.
    ///
    /// Guards must be dropped in the reverse order of their making, as scopes do.
    pub fn enter(&self) -> Result<Guard, Error> {
        let before = Self::current()?;
        self.set()?;
        Ok(Guard {
            before,
            not_send: PhantomData,
        })
    }

    /// Runs `work` on a fresh thread in the namespace and waits for its result.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_thread(|| {
            self.set()?;
            Ok(work())
        })
    }

    /// Prepares a program to run in the namespace.
    ///
    /// Unlike `ip netns exec`, nothing else changes: `/sys` keeps showing the host's devices, and
    /// the BPF file system stays where it is.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    fn set(&self) -> Result<(), Error> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns to", &self.path, errno))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Keeps the calling thread in a namespace; going back happens on drop.
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<pointsman_linux::netns::Guard>();
/// ```
#[derive(Debug)]
#[must_use = "the thread returns to its namespace as soon as the guard is dropped"]
pub struct Guard {
    before: NetNs,
    // The guard speaks of one thread.
    not_send: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Only losing CAP_SYS_ADMIN in between can make this fail. A thread that goes on in the
        // wrong namespace would do its next work to the wrong network.
        if let Err(error) = self.before.set()
            && !thread::panicking()
        {
            panic!("can't leave a network namespace: {error}");
        }
    }
}

/// A namespace whose name is taken away when this value is dropped.
#[derive(Debug)]
pub struct Temporary(NetNs);

impl Deref for Temporary {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0.path)
            && !thread::panicking()
        {
            eprintln!("a network namespace stays behind: {error}");
        }
    }
}

/// Runs `work` on a thread of its own, passing its panic on.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

fn named(name: &str) -> Result<PathBuf, Error> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Error::BadName {
            name: name.to_owned(),
        });
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

/// Makes the directory a shared mount, so that namespaces are seen by all mount namespaces.
fn prepare_directory() -> Result<(), Error> {
    let path = Path::new(NETNS_DIR);
    let error = |call| move |errno| Error::call(call, path, errno);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| Error::call("mkdir", path, source))?;
    // `ip netns add` takes the same lock: two of us must not both stack a mount.
    let directory = File::open(path).map_err(|source| Error::call("open", path, source))?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::call("flock", path, errno))?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
    };
    match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(path), path, None::<&str>, flags, None::<&str>)
                .map_err(error("mount --bind"))?;
            share().map_err(error("mount --make-shared"))
        }
        shared => shared.map_err(error("mount --make-shared")),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // A file without a mount is a leftover; taking it away is what was asked for.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(Errno::ENOENT) => {
            return Err(Error::Missing {
                path: path.to_owned(),
            });
        }
        Err(errno) => return Err(Error::call("umount", path, errno)),
    }
    fs::remove_file(path).map_err(|source| Error::call("unlink", path, source))
}
