//! What a device does to frames on its own: checksums, segmentation, merging (ethtool).

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a feature's name, padded with NUL.
const NAME_LEN: usize = 32;
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Why a device could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name can't be that of an interface.
    #[error("{name:?} can't be an interface: names have 1 to 15 bytes")]
    BadName {
        /// The name given.
        name: String,
    },
    /// A system call failed.
    #[error("{call} of interface {interface}: {source}")]
    Call {
        /// The call or ethtool command.
        call: &'static str,
        /// The interface.
        interface: String,
        /// What it returned.
        source: io::Error,
    },
    /// The device has no such offload, or it can't be changed.
    #[error("interface {interface} does not let {offload:?} be switched {}", if *.on { "on" } else { "off" })]
    Fixed {
        /// The interface.
        interface: String,
        /// The offload.
        offload: Offload,
        /// The wanted state.
        on: bool,
    },
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Call { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A group of features, named as `ethtool -K` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// The device completes the checksums of frames sent (`tx`).
    TxChecksum,
    /// The device verifies the checksums of frames received (`rx`).
    RxChecksum,
    /// The device cuts large TCP packets into segments (`tso`).
    Tso,
    /// The kernel cuts large packets just before the device (`gso`).
    Gso,
    /// The kernel merges packets received into large ones (`gro`).
    Gro,
}

impl Offload {
    fn holds(self, feature: &str) -> bool {
        match self {
            Self::TxChecksum => feature.starts_with("tx-checksum-"),
            Self::RxChecksum => feature == "rx-checksum",
            // tx-tcp-segmentation, tx-tcp-ecn-, tx-tcp6-, tx-tcp-mangleid-.
            Self::Tso => feature.starts_with("tx-tcp") && feature.ends_with("-segmentation"),
            Self::Gso => feature == "tx-generic-segmentation",
            Self::Gro => feature == "rx-gro",
        }
    }
}

/// One feature of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name, such as `tx-checksum-ip-generic`.
    pub name: String,
    /// Whether it is in force.
    pub active: bool,
    /// Whether it can be switched.
    pub changeable: bool,
}

/// All features of a device at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features(Vec<Feature>);

impl Features {
    /// One feature by its name; kernels differ in which they have.
    pub fn get(&self, name: &str) -> Option<&Feature> {
        self.0.iter().find(|feature| feature.name == name)
    }

    /// All features, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = &Feature> {
        self.0.iter()
    }

    /// Whether any feature of a group is in force.
    pub fn is_active(&self, offload: Offload) -> bool {
        self.0
            .iter()
            .any(|feature| feature.active && offload.holds(&feature.name))
    }
}

/// A device asked and told by ethtool ioctls, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Device {
    socket: OwnedFd,
    name: String,
}

impl Device {
    /// Gets ready to ask; whether the interface exists shows with the first question.
    pub fn open(name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(Error::BadName {
                name: name.to_owned(),
            });
        }
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::Call {
                call: "socket",
                interface: name.to_owned(),
                source: io::Error::last_os_error(),
            });
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            socket,
            name: name.to_owned(),
        })
    }

    /// The name of the driver, such as `veth`, `virtio_net` or `mlx5_core`.
    pub fn driver(&self) -> Result<String, Error> {
        // struct ethtool_drvinfo: command, then 32 bytes of driver name, and more.
        let mut words = vec![0; 196 / 4];
        words[0] = ETHTOOL_GDRVINFO;
        self.call("ETHTOOL_GDRVINFO", &mut words)?;
        Ok(text(&bytes(&words[1..9])))
    }

    /// The device's features.
    pub fn features(&self) -> Result<Features, Error> {
        let names = self.feature_names()?;
        let blocks = names.len().div_ceil(32);
        // struct ethtool_gfeatures: command, blocks; per block available, requested, active,
        // never_changed.
        let mut words = vec![0; 2 + 4 * blocks];
        words[0] = ETHTOOL_GFEATURES;
        words[1] = blocks as u32;
        self.call("ETHTOOL_GFEATURES", &mut words)?;
        let has = |number: usize, field: usize| {
            words[2 + 4 * (number / 32) + field] & (1 << (number % 32)) != 0
        };
        let features = names.into_iter().enumerate().map(|(number, name)| Feature {
            name,
            active: has(number, 2),
            changeable: has(number, 0) && !has(number, 3),
        });
        Ok(Features(
            features
                .filter(|feature| !feature.name.is_empty())
                .collect(),
        ))
    }

    /// Switches every changeable feature of a group; for labs, as real hosts are left as found.
    pub fn set(&self, offload: Offload, on: bool) -> Result<(), Error> {
        let names = self.feature_names()?;
        let before = self.features()?;
        let blocks = names.len().div_ceil(32);
        // struct ethtool_sfeatures: command, blocks; per block valid, requested.
        let mut words = vec![0; 2 + 2 * blocks];
        words[0] = ETHTOOL_SFEATURES;
        words[1] = blocks as u32;
        for (number, name) in names.iter().enumerate() {
            if offload.holds(name) && before.get(name).is_some_and(|feature| feature.changeable) {
                let bit = 1 << (number % 32);
                words[2 + 2 * (number / 32)] |= bit;
                words[3 + 2 * (number / 32)] |= if on { bit } else { 0 };
            }
        }
        self.call("ETHTOOL_SFEATURES", &mut words)?;
        // The call succeeds even where the device, or a feature this one needs, says no.
        if self.features()?.is_active(offload) == on {
            return Ok(());
        }
        Err(Error::Fixed {
            interface: self.name.clone(),
            offload,
            on,
        })
    }

    fn feature_names(&self) -> Result<Vec<String>, Error> {
        // struct ethtool_sset_info: command, reserved, 64 bits of mask, counts.
        let mut words = vec![0; 5];
        words[0] = ETHTOOL_GSSET_INFO;
        let mask = bytes_of_u64(1 << ETH_SS_FEATURES);
        words[2..4].copy_from_slice(&mask);
        self.call("ETHTOOL_GSSET_INFO", &mut words)?;
        let count = words[4] as usize;
        // struct ethtool_gstrings: command, set, count, names.
        let mut words = vec![0; 3 + count * NAME_LEN / 4];
        words[0] = ETHTOOL_GSTRINGS;
        words[1] = ETH_SS_FEATURES;
        words[2] = count as u32;
        self.call("ETHTOOL_GSTRINGS", &mut words)?;
        Ok(bytes(&words[3..])
            .chunks_exact(NAME_LEN)
            .map(text)
            .collect())
    }

    /// Runs one ethtool command in a buffer as long as the command's answer.
    fn call(&self, call: &'static str, words: &mut [u32]) -> Result<(), Error> {
        // SAFETY: all-zero bytes are a valid value of this plain C structure.
        let mut request = unsafe { zeroed::<libc::ifreq>() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the command reads and writes `words` only, whose length callers derive from the
        // command's structure and the counts the kernel gave.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result >= 0 {
            return Ok(());
        }
        Err(Error::Call {
            call,
            interface: self.name.clone(),
            source: io::Error::last_os_error(),
        })
    }
}

/// The two words a 64-bit number takes in memory.
fn bytes_of_u64(number: u64) -> [u32; 2] {
    let bytes = number.to_ne_bytes();
    let half = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    [u32::from_ne_bytes(half(0)), u32::from_ne_bytes(half(4))]
}

fn bytes(words: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(words));
    for word in words {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
