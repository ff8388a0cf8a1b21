//! What the daemon is told at its start.

use std::path::{Path, PathBuf};

use pointsman_datapath::{HookChoice, Options};
use pointsman_director::record::{Settings, settings_flag};

/// Where the API's socket is unless told.
pub const DEFAULT_SOCKET: &str = "/run/pointsman/api.sock";

/// Everything the daemon is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces to attach to; every Ethernet interface that is up when empty.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub hook: HookChoice,
    /// Sizes and pins.
    pub datapath: Options,
    /// The API's socket.
    pub socket: PathBuf,
    /// Leave programs, maps and neighbours in place when stopped.
    pub keep: bool,
    /// What holds for every service.
    pub tuning: Tuning,
}

/// The part of [`Settings`] that the daemon is told; the rest is changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// `net.ipv4.vs.conn_reuse_mode`.
    pub conn_reuse_mode: u32,
    /// `net.ipv4.vs.sloppy_tcp`.
    pub sloppy_tcp: bool,
    /// `net.ipv4.vs.pmtu_disc`.
    pub pmtu_disc: bool,
    /// Largest TCP segment size that a tunnelled or translated SYN may announce, 0 for no limit.
    pub mss_clamp: u16,
}

impl Default for Tuning {
    /// The kernel's defaults.
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            sloppy_tcp: false,
            pmtu_disc: true,
            mss_clamp: 0,
        }
    }
}

impl Tuning {
    /// `settings` with this tuning.
    pub fn apply(&self, settings: Settings) -> Settings {
        let mut flags = settings.flags & !(settings_flag::PMTU_DISC | settings_flag::SLOPPY_TCP);
        if self.pmtu_disc {
            flags |= settings_flag::PMTU_DISC;
        }
        if self.sloppy_tcp {
            flags |= settings_flag::SLOPPY_TCP;
        }
        Settings {
            reuse_mode: self.conn_reuse_mode,
            mss_clamp: u32::from(self.mss_clamp),
            flags,
            ..settings
        }
    }
}

/// Where managed neighbours are remembered: beside the socket.
pub fn neighbours_file(socket: &Path) -> PathBuf {
    socket.with_extension("neighbours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuning_leaves_the_rest_alone() {
        let mut before = Settings::DEFAULT;
        before.flags |= settings_flag::TABLE_FULL;
        before.udp_timeout = 7;
        let tuning = Tuning {
            conn_reuse_mode: 0,
            sloppy_tcp: true,
            pmtu_disc: false,
            mss_clamp: 1400,
        };
        let after = tuning.apply(before);
        assert_eq!(
            after.flags,
            settings_flag::TABLE_FULL | settings_flag::SLOPPY_TCP
        );
        assert_eq!(
            (after.reuse_mode, after.udp_timeout, after.mss_clamp),
            (0, 7, 1400)
        );
        assert_eq!(
            Tuning::default().apply(Settings::DEFAULT),
            Settings::DEFAULT
        );
    }
}
