//! Which command and which tunnel type takes which options.

use super::option::{Given, Verb};

/// The options a command line had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GivenSet(u64);

impl GivenSet {
    /// Adds an option; false when it was there already.
    pub(crate) fn insert(&mut self, given: Given) -> bool {
        let bit = 1 << given as u32;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }

    pub(crate) fn has(self, given: Given) -> bool {
        self.0 & (1 << given as u32) != 0
    }

    pub(crate) fn has_any(self, list: &[Given]) -> bool {
        list.iter().any(|given| self.has(*given))
    }
}

/// What a line of options breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breach {
    Missing(Given),
    Illegal(Given),
    /// The later option of the table, then the earlier one.
    Conflict(Given, Given),
}

/// One letter for each option, in the order of [`Given`]: `x` not allowed, `.` free, `+` needed,
/// `1` at most one of these.
#[rustfmt::skip]
const COMMANDS: &[(Verb, &str)] = &[
    //                       n c svc s p M r fwd w x y mif tmo dmn st rt th pc ns sid X o pe b mgr mpt mtl mxl ti tt tp tn tc tr
    (Verb::AddService,    "x x + . . . x x x x x x x x x x x x x x x . . . x x x x x x x x x x"),
    (Verb::EditService,   "x x + . . . x x x x x x x x x x x x x x x . . . x x x x x x x x x x"),
    (Verb::DeleteService, "x x + x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::Flush,         "x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::Restore,       "x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::Save,          ". x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::AddServer,     "x x + x x x + . . . . x x x x x x x x x x x x x x x x x x . . . . ."),
    (Verb::EditServer,    "x x + x x x + . . . . x x x x x x x x x x x x x x x x x x . . . . ."),
    (Verb::DeleteServer,  "x x + x x x + x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::List,          ". 1 1 x x x x x x x x x 1 1 . . . . . . . x x x x x x x . x x x x x"),
    (Verb::Zero,          "x x . x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::Set,           "x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x"),
    (Verb::StartDaemon,   "x x x x x x x x x x x . x x x x x x x . x x x x . . . . x x x x x x"),
    (Verb::StopDaemon,    "x x x x x x x x x x x x x x x x x x x . x x x x x x x x x x x x x x"),
];

/// Checks a command's options; the first breach in table order counts.
pub(crate) fn check(verb: Verb, given: GivenSet) -> Result<(), Breach> {
    let row = COMMANDS.iter().find(|(candidate, _)| *candidate == verb);
    row.map_or(Ok(()), |(_, row)| check_row(row, &Given::ALL, given))
}

/// The options that only tunnels have, in checking order.
pub(crate) const TUNNEL_OPTIONS: [Given; 5] = [
    Given::TunType,
    Given::TunPort,
    Given::TunNocsum,
    Given::TunCsum,
    Given::TunRemcsum,
];

/// Checks the options of a tunnel of type `ipip`, `gue` or `gre`.
pub(crate) fn check_tunnel(kind: &str, given: GivenSet) -> Result<(), Breach> {
    let row = match kind {
        "gue" => ". + 1 1 1",
        "gre" => ". x 1 1 x",
        _ => ". x x x x",
    };
    check_row(row, &TUNNEL_OPTIONS, given)
}

fn check_row(row: &str, options: &[Given], given: GivenSet) -> Result<(), Breach> {
    let mut exclusive = None;
    for (rule, option) in row.split(' ').zip(options) {
        match (rule, given.has(*option)) {
            ("+", false) => return Err(Breach::Missing(*option)),
            ("x", true) => return Err(Breach::Illegal(*option)),
            ("1", true) => {
                if let Some(earlier) = exclusive.replace(*option) {
                    return Err(Breach::Conflict(*option, earlier));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
