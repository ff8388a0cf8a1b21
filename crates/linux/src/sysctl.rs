//! Kernel parameters under `/proc/sys`.
//!
//! `net.*` parameters are those of the calling thread's network namespace.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

const PROC_SYS: &str = "/proc/sys";

/// Why a kernel parameter could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is not the name of a parameter.
    #[error("{key:?} is not the name of a kernel parameter, such as net.ipv4.ip_forward")]
    BadKey {
        /// The key given.
        key: String,
    },
    /// This kernel has no such parameter.
    #[error("kernel parameter {key} does not exist (is its module loaded, its interface there?)")]
    Missing {
        /// The key given.
        key: String,
    },
    /// Reading failed.
    #[error("reading kernel parameter {key}: {source}")]
    Read {
        /// The key given.
        key: String,
        /// What the call returned.
        source: io::Error,
    },
    /// Writing failed.
    #[error("setting kernel parameter {key} to {value:?}: {source}")]
    Write {
        /// The key given.
        key: String,
        /// The value given.
        value: String,
        /// What the call returned.
        source: io::Error,
    },
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::BadKey { .. } => None,
            Self::Missing { .. } => Some(libc::ENOENT),
            Self::Read { source, .. } | Self::Write { source, .. } => source.raw_os_error(),
        }
    }
}

/// Reads a parameter, without the newline at its end.
///
/// A key is written as `sysctl` takes it. Whichever of `.` and `/` comes first separates; the
/// other stands for a dot within a name: `net.ipv4.conf.eth0/7.rp_filter` and
/// `net/ipv4/conf/eth0.7/rp_filter` are the same.
pub fn read(key: &str) -> Result<String, Error> {
    match fs::read_to_string(path(key)?) {
        Ok(mut text) => {
            text.truncate(text.trim_end().len());
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing {
            key: key.to_owned(),
        }),
        Err(source) => Err(Error::Read {
            key: key.to_owned(),
            source,
        }),
    }
}

/// Sets a parameter; keys are as for [`read`].
pub fn write(key: &str, value: &str) -> Result<(), Error> {
    let path = path(key)?;
    // One write: the kernel takes each as a value of its own.
    let result = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing {
            key: key.to_owned(),
        }),
        Err(source) => Err(Error::Write {
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        }),
    }
}

/// Turns a key into the path of its file.
fn path(key: &str) -> Result<PathBuf, Error> {
    let bare = key.strip_prefix("/proc/sys/").unwrap_or(key);
    let separator = bare.chars().find(|c| matches!(c, '.' | '/')).unwrap_or('.');
    let mut path = PathBuf::from(PROC_SYS);
    for part in bare.split(separator) {
        let part = if separator == '.' {
            part.replace('/', ".")
        } else {
            part.to_owned()
        };
        if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
            return Err(Error::BadKey {
                key: key.to_owned(),
            });
        }
        path.push(part);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_the_same_file() {
        let expected = PathBuf::from("/proc/sys/net/ipv4/conf/eth0.7/rp_filter");
        for key in [
            "net.ipv4.conf.eth0/7.rp_filter",
            "net/ipv4/conf/eth0.7/rp_filter",
            "/proc/sys/net/ipv4/conf/eth0.7/rp_filter",
        ] {
            assert_eq!(path(key).expect(key), expected);
        }
        assert_eq!(path("vm").expect("one part"), PathBuf::from("/proc/sys/vm"));
    }

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for key in [
            "",
            ".",
            "/etc/passwd",
            "net/../../../etc/passwd",
            "net..ipv4",
            "net.//",
            "a.",
        ] {
            assert!(matches!(path(key), Err(Error::BadKey { .. })), "{key:?}");
        }
    }
}
