//! The scheduler flags of `-b`, by name.

use pointsman_director::model::SchedulerFlags;

/// Why a flag name was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No scheduler has such a flag.
    #[error("invalid scheduler flag `{0}'")]
    Unknown(String),
    /// Another scheduler has such a flag.
    #[error("incompatible scheduler flag `{0}'")]
    OtherScheduler(String),
}

/// Schedulers with names of their own for flags 1 and 2.
const NAMED: [(&str, [&str; 2]); 2] = [
    ("sh", ["sh-fallback", "sh-port"]),
    ("mh", ["mh-fallback", "mh-port"]),
];

const COMMON: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

/// Reads a comma list; empty entries are skipped.
///
/// ipvsadm crashes on a list of commas alone; here it is a list of no flags.
pub fn parse(list: &str, scheduler: &str) -> Result<SchedulerFlags, FlagError> {
    let mut flags = SchedulerFlags::default();
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let position = match COMMON.iter().position(|common| *common == name) {
            Some(position) => position,
            None => named_position(name, scheduler)?,
        };
        *[&mut flags.flag1, &mut flags.flag2, &mut flags.flag3][position] = true;
    }
    Ok(flags)
}

fn named_position(name: &str, scheduler: &str) -> Result<usize, FlagError> {
    for (owner, names) in NAMED {
        if let Some(position) = names.iter().position(|candidate| *candidate == name) {
            return match owner == scheduler {
                true => Ok(position),
                false => Err(FlagError::OtherScheduler(name.to_owned())),
            };
        }
    }
    Err(FlagError::Unknown(name.to_owned()))
}

/// Prints the flags as a comma list, `None` when there are none.
///
/// Schedulers with names of their own have none for flag 3: alone, it prints as nothing.
pub fn text(flags: SchedulerFlags, scheduler: &str) -> Option<String> {
    if flags == SchedulerFlags::default() {
        return None;
    }
    let own = NAMED
        .iter()
        .find(|(owner, _)| *owner == scheduler)
        .map(|(_, names)| &names[..]);
    let names = own.unwrap_or(&COMMON[..]);
    let set = [flags.flag1, flags.flag2, flags.flag3];
    let named: Vec<&str> = names
        .iter()
        .zip(set)
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| *name)
        .collect();
    Some(named.join(","))
}
