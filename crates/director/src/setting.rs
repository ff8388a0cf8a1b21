//! The settings that hold for every service, under the names that the kernel's IPVS gives them.
//!
//! One table: a setting's entry makes it known to `pointsman run`, `pointsman setting`, the API and the
//! state file.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::record::{Settings, settings_flag};

/// Declares the settings: variant, name, default and range, and how the record for the programs follows.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $default:literal in $range:expr,
       $follow:expr;)+) => {
        /// A setting.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Setting {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Setting {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name, that of `net.ipv4.vs.*` where the kernel has it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Its value unless told: the kernel's.
            pub const fn default_value(self) -> u32 {
                match self { $(Self::$variant => $default),+ }
            }

            /// The values it takes.
            pub const fn range(self) -> RangeInclusive<u32> {
                match self { $(Self::$variant => $range),+ }
            }

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start()),+ }
            }

            /// Has the record for the programs follow `value`.
            fn follow(self, value: u32, record: &mut Settings) {
                let follow: fn(u32, &mut Settings) = match self { $(Self::$variant => $follow),+ };
                follow(value, record);
            }
        }
    };
}

/// Seconds and pages go as far as the kernel's signed integers.
const MOST: u32 = i32::MAX as u32;

settings! {
    /// Connections that are closing and meet a SYN: 0 goes on with them, 1 begins anew, 2 and 3 also
    /// in FIN_WAIT when replies do not pass here.
    ConnReuseMode = "conn_reuse_mode", 1 in 0..=3,
        |value, record| record.reuse_mode = value;
    /// 1: any TCP packet but RST begins a connection.
    SloppyTcp = "sloppy_tcp", 0 in 0..=1,
        |value, record| raise(record, settings_flag::SLOPPY_TCP, value != 0);
    /// 1: any SCTP packet but an abort begins a connection.
    SloppySctp = "sloppy_sctp", 0 in 0..=1,
        |value, record| raise(record, settings_flag::SLOPPY_SCTP, value != 0);
    /// 1: tunnelled packets keep DF, and clients are told of a smaller MTU.
    PmtuDisc = "pmtu_disc", 1 in 0..=1,
        |value, record| raise(record, settings_flag::PMTU_DISC, value != 0);
    /// 1: connections of a removed real server end with their next packet, so that the client's next
    /// try gets another server.
    ExpireNodestConn = "expire_nodest_conn", 0 in 0..=1,
        |value, record| raise(record, settings_flag::EXPIRE_NODEST, value != 0);
    /// 1: persistence does not hold clients at a real server with weight 0.
    ExpireQuiescentTemplate = "expire_quiescent_template", 0 in 0..=1,
        |value, record| raise(record, settings_flag::EXPIRE_QUIESCENT, value != 0);
    /// Ends half-open and little used connections at random: 0 never, 1 when memory is short
    /// (it is 2 while it does), 3 always.
    DropEntry = "drop_entry", 0 in 0..=3,
        |value, record| raise(record, settings_flag::DROP_ENTRY, value >= 2);
    /// Memory is short when fewer pages than this are free or in buffers.
    Amemthresh = "amemthresh", 1024 in 0..=MOST, |_, _| ();
    /// 1: rates of services and real servers are estimated; 0: they are 0.
    RunEstimation = "run_estimation", 1 in 0..=1, |_, _| ();
    /// Unused entries of `lblc` caches are forgotten after this many seconds.
    LblcExpiration = "lblc_expiration", 86_400 in 0..=MOST,
        |value, record| record.lblc_expiration = value;
    /// Unused entries of `lblcr` caches are forgotten after this many seconds; when a set of real
    /// servers has not changed for so long, the most loaded one leaves it.
    LblcrExpiration = "lblcr_expiration", 86_400 in 0..=MOST,
        |value, record| record.lblcr_expiration = value;
    /// Packets of a connection after which a master sync daemon tells other directors of it.
    SyncThreshold = "sync_threshold", 3 in 0..=MOST, |_, _| ();
    /// It is told again every so many packets; 0: never. IPVS has this as the second number of
    /// `sync_threshold`, which has to be the smaller one.
    SyncPeriod = "sync_period", 50 in 0..=MOST, |_, _| ();
    /// It is told again when the time at which it ends has moved by so many seconds; 0: whenever.
    SyncRefreshPeriod = "sync_refresh_period", 0 in 0..=MOST, |_, _| ();
    /// How often it is repeated within `sync_refresh_period`.
    SyncRetries = "sync_retries", 0 in 0..=3, |_, _| ();
    /// 1: of persistent services templates are told, connections are not.
    SyncPersistMode = "sync_persist_mode", 0 in 0..=1, |_, _| ();
    /// Lowers the segment size that SYNs announce, through tunnels and with address translation, to
    /// this many bytes; 0 leaves them alone. Only sizes that pass the director can be lowered: with a
    /// tunnel the client's, with translation both. IPVS has no such setting.
    MssClamp = "mss_clamp", 0 in 0..=0xffff,
        |value, record| record.mss_clamp = value;
}

fn raise(record: &mut Settings, flag: u32, up: bool) {
    record.flags &= !flag;
    if up {
        record.flags |= flag;
    }
}

impl Setting {
    /// True when it is 0 or 1.
    pub const fn is_switch(self) -> bool {
        *self.range().end() == 1
    }

    /// Refuses a value out of range.
    ///
    /// # Errors
    ///
    /// When it is.
    pub fn check(self, value: u32) -> Result<u32, SettingError> {
        if self.range().contains(&value) {
            return Ok(value);
        }
        let (least, most) = self.range().into_inner();
        Err(SettingError::Range {
            name: self.name(),
            value: value.to_string(),
            least,
            most,
        })
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When it is no number, or out of range.
    pub fn read(self, text: &str) -> Result<u32, SettingError> {
        let (least, most) = self.range().into_inner();
        let value = text.parse().map_err(|_| SettingError::Range {
            name: self.name(),
            value: text.to_owned(),
            least,
            most,
        })?;
        self.check(value)
    }
}

/// What is wrong about a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is none of this name.
    #[error("there is no setting {0:?}; `pointsman setting` lists them")]
    Unknown(String),
    /// It does not take this value.
    #[error("{name} is a number from {least} to {most}, not {value:?}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// Smallest value.
        least: u32,
        /// Largest value.
        most: u32,
    },
}

impl FromStr for Setting {
    type Err = SettingError;

    /// The name, also as sysctl writes it (`net.ipv4.vs.`) and with dashes.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let name = text.strip_prefix("net.ipv4.vs.").unwrap_or(text);
        let name = name.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|setting| setting.name() == name)
            .ok_or_else(|| SettingError::Unknown(text.to_owned()))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

/// A value for each setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingValues([u32; Setting::ALL.len()]);

impl Default for SettingValues {
    fn default() -> Self {
        Self(Setting::ALL.map(Setting::default_value))
    }
}

impl SettingValues {
    /// The value of a setting.
    pub const fn get(&self, setting: Setting) -> u32 {
        self.0[setting as usize]
    }

    /// Sets a value.
    ///
    /// # Errors
    ///
    /// When the setting does not take it.
    pub fn set(&mut self, setting: Setting, value: u32) -> Result<(), SettingError> {
        self.0[setting as usize] = setting.check(value)?;
        Ok(())
    }

    /// `record` with these values; what is no setting stays.
    pub fn apply(&self, mut record: Settings) -> Settings {
        for setting in Setting::ALL {
            setting.follow(self.get(setting), &mut record);
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_record() {
        let record = SettingValues::default().apply(Settings::DEFAULT);
        assert_eq!(record, Settings::DEFAULT);
        for setting in Setting::ALL {
            assert!(
                setting.check(setting.default_value()).is_ok(),
                "{setting} takes its default"
            );
            assert_eq!(setting.name().parse(), Ok(setting));
            assert!(setting.meaning().ends_with('.'), "{setting}");
        }
    }

    #[test]
    fn settings_leave_the_rest_alone() {
        let mut before = Settings::DEFAULT;
        before.flags |= settings_flag::TABLE_FULL;
        before.udp_timeout = 7;
        let mut values = SettingValues::default();
        for (setting, value) in [
            (Setting::ConnReuseMode, 0),
            (Setting::SloppyTcp, 1),
            (Setting::PmtuDisc, 0),
            (Setting::MssClamp, 1400),
            (Setting::DropEntry, 2),
        ] {
            values.set(setting, value).unwrap();
        }
        let after = values.apply(before);
        let flags =
            settings_flag::TABLE_FULL | settings_flag::SLOPPY_TCP | settings_flag::DROP_ENTRY;
        assert_eq!(after.flags, flags);
        assert_eq!(
            (after.reuse_mode, after.udp_timeout, after.mss_clamp),
            (0, 7, 1400)
        );
    }

    #[test]
    fn names_are_the_kernels_and_dashes_do() {
        for text in [
            "expire_nodest_conn",
            "net.ipv4.vs.expire_nodest_conn",
            "expire-nodest-conn",
        ] {
            assert_eq!(text.parse(), Ok(Setting::ExpireNodestConn), "{text}");
        }
        for text in ["", "expire", "net.ipv4.vs.", "net.ipv4.sloppy_tcp"] {
            let unknown = SettingError::Unknown(text.to_owned());
            assert_eq!(text.parse::<Setting>(), Err(unknown), "{text}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_and_change_nothing() {
        let mut values = SettingValues::default();
        let error = values.set(Setting::DropEntry, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "drop_entry is a number from 0 to 3, not \"4\""
        );
        assert_eq!(values, SettingValues::default());
        for text in ["", "-1", "x", "4294967296", "2147483648"] {
            assert!(Setting::Amemthresh.read(text).is_err(), "{text}");
        }
        assert_eq!(Setting::Amemthresh.read("2147483647"), Ok(MOST));
    }
}
