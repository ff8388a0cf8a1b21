//! The state file: what outlives the daemon and the host's boot.
//!
//! A JSON document with a version and a checksum:
//!
//! ```text
//! {
//! "format": "pointsman-state",
//! "version": 1,
//! "crc32": "89abcdef",
//! "state": {...}
//! }
//! ```
//!
//! The checksum (CRC-32 of IEEE 802.3) is over the bytes of `state`'s value. Whatever is not exactly
//! as written is refused, so a file is read as a whole or not at all.

mod file;
#[cfg(test)]
mod tests;

use pointsman_director::{
    control::Ledger,
    model::{Change, MarkRule, RealServer, TimeoutsView, VirtualService},
    setting::SettingValues,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use file::{FileError, StateFile};

use crate::{settings::Given, sync::Request};

/// Where the state is kept unless told.
pub const DEFAULT_FILE: &str = "/var/lib/pointsman/state.json";

const FORMAT: &str = "pointsman-state";
/// Raised when an older Pointsman would misread what is written; fields that it would miss need no
/// new version, for it refuses what it does not know.
const VERSION: u32 = 1;
/// Lines before the value of `state`.
const HEAD_LINES: usize = 4;

/// What outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    /// Timeouts of `ipvsadm --set`; the kernel's when absent.
    #[serde(default)]
    pub timeouts: Option<TimeoutsView>,
    /// Settings given while the daemon ran.
    #[serde(default)]
    pub settings: Given,
    /// Rules that make firewall marks.
    #[serde(default)]
    pub mark_rules: Vec<MarkRule>,
    /// Virtual services with their real servers.
    #[serde(default)]
    pub services: Vec<SavedService>,
    /// Sync daemons of the operator.
    #[serde(default)]
    pub sync: Vec<Request>,
    /// Which data plane the ledger belongs to.
    #[serde(default)]
    pub plane: Option<PlaneId>,
    /// Counters that the data plane does not hold.
    #[serde(default)]
    pub ledger: Ledger,
}

/// A virtual service with its real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedService {
    /// As configured.
    pub service: VirtualService,
    /// As configured, oldest first.
    pub servers: Vec<RealServer>,
}

/// Pinned maps of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneId {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The kernel's number of the map of settings, which no other map of this boot gets.
    pub map: u32,
}

/// Why a state file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is no text.
    #[error("byte {0} is no UTF-8")]
    Text(usize),
    /// It is no JSON, or ends too early.
    #[error("{0}")]
    Json(String),
    /// It is JSON of somebody else.
    #[error("its format is {0:?}, not {FORMAT:?}")]
    Format(String),
    /// It was written by another Pointsman.
    #[error("it is of version {0}; this Pointsman reads version {VERSION}")]
    Version(u32),
    /// Its contents have changed since they were written.
    #[error("its checksum is {said}, but that of its contents {found}: damaged, or edited")]
    Checksum {
        /// In the file.
        said: String,
        /// Computed.
        found: String,
    },
    /// Something around its contents has changed.
    #[error("line {0} is not as Pointsman writes it")]
    Frame(usize),
    /// A field is unknown or impossible.
    #[error("{0}")]
    Field(String),
}

/// What is read first.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u32,
    crc32: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

impl SavedState {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.write(&mut body);
        let mut bytes = head(&checksum(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(TAIL.as_bytes());
        bytes
    }

    /// The value of `state`, with a line for each service.
    fn write(&self, out: &mut Vec<u8>) {
        put(out, "{\n\"timeouts\": ", &self.timeouts);
        put(out, ",\n\"settings\": ", &self.settings);
        put(out, ",\n\"mark_rules\": ", &self.mark_rules);
        out.extend_from_slice(b",\n\"services\": [");
        for (at, service) in self.services.iter().enumerate() {
            put(out, if at == 0 { "\n" } else { ",\n" }, service);
        }
        out.extend_from_slice(b"\n]");
        // Left out when there are none, so that a Pointsman that does not know them can read the rest.
        if !self.sync.is_empty() {
            put(out, ",\n\"sync\": ", &self.sync);
        }
        put(out, ",\n\"plane\": ", &self.plane);
        put(out, ",\n\"ledger\": ", &self.ledger);
        out.extend_from_slice(b"\n}");
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.is_empty() {
            return Err(Damage::Empty);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| Damage::Text(error.valid_up_to()))?;
        let json = |error: serde_json::Error| Damage::Json(error.to_string());
        let head: Head = serde_json::from_str(text).map_err(json)?;
        if head.format != FORMAT {
            return Err(Damage::Format(head.format));
        }
        if head.version != VERSION {
            return Err(Damage::Version(head.version));
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(json)?;
        let body = document.state.get();
        let found = checksum(body.as_bytes());
        if document.crc32 != found {
            let said = document.crc32;
            return Err(Damage::Checksum { said, found });
        }
        let expected = self::head(&found) + body + TAIL;
        if expected != text {
            let same = expected.lines().zip(text.lines());
            let line = same.take_while(|(expected, found)| expected == found);
            return Err(Damage::Frame(line.count() + 1));
        }
        let state = Self::read(body)?;
        state.check()?;
        Ok(state)
    }

    fn read(body: &str) -> Result<Self, Damage> {
        let mut unknown = None;
        let mut reader = serde_json::Deserializer::from_str(body);
        let state = serde_ignored::deserialize(&mut reader, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        let state = state.map_err(|error: serde_json::Error| {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            let (line, column) = (error.line() + HEAD_LINES, error.column());
            Damage::Field(format!("{what} at line {line} column {column}"))
        })?;
        match unknown {
            None => Ok(state),
            Some(path) => Err(Damage::Field(format!("unknown field {path}"))),
        }
    }

    /// Looks for values that can't be.
    fn check(&self) -> Result<(), Damage> {
        let mut values = SettingValues::default();
        for (setting, value) in &self.settings {
            values
                .set(*setting, *value)
                .map_err(|error| Damage::Field(format!("settings: {error}")))?;
        }
        if let Some(timeouts) = &self.timeouts {
            for (name, value) in [
                ("tcp", timeouts.tcp),
                ("tcp_fin", timeouts.tcp_fin),
                ("udp", timeouts.udp),
            ] {
                if value == 0 {
                    return Err(Damage::Field(format!("timeouts: {name} is 0")));
                }
            }
        }
        Ok(())
    }

    /// What makes an empty director such as was saved.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let timeouts = self.timeouts.map(|timeouts| Change::SetTimeouts {
            tcp: timeouts.tcp,
            tcp_fin: timeouts.tcp_fin,
            udp: timeouts.udp,
        });
        let rules = (!self.mark_rules.is_empty()).then(|| Change::SetMarkRules {
            rules: self.mark_rules.clone(),
        });
        let services = self.services.iter().flat_map(|saved| {
            let id = saved.service.id;
            let add = Change::AddService {
                service: saved.service.clone(),
            };
            let servers = saved.servers.iter().cloned();
            let servers = servers.map(move |server| Change::AddServer { id, server });
            std::iter::once(add).chain(servers)
        });
        timeouts.into_iter().chain(rules).chain(services)
    }
}

/// Writes `before` and a value.
fn put(out: &mut Vec<u8>, before: &str, value: &impl Serialize) {
    out.extend_from_slice(before.as_bytes());
    // Plain data, written to memory: this can't fail.
    let _ = serde_json::to_writer(out, value);
}

const TAIL: &str = "\n}\n";

fn head(checksum: &str) -> String {
    format!(
        "{{\n\"format\": \"{FORMAT}\",\n\"version\": {VERSION},\n\"crc32\": \"{checksum}\",\n\"state\": "
    )
}

fn checksum(body: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(body))
}
