//! The settings of a running daemon: where their values come from, and how they are shown.

use std::collections::BTreeMap;

use pointsman_director::setting::{Setting, SettingError, SettingValues};
use serde::{Deserialize, Serialize};

/// Settings by name.
pub type Given = BTreeMap<Setting, u32>;

/// The values, and which of them were given while running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningSettings {
    values: SettingValues,
    given: Given,
}

impl RunningSettings {
    /// The kernel's values, above them those `given` to an earlier run while it ran, above them those
    /// on the command line.
    ///
    /// # Errors
    ///
    /// When a setting does not take its value.
    pub fn new(given: Given, command_line: &Given) -> Result<Self, SettingError> {
        let mut values = SettingValues::default();
        for (setting, value) in given.iter().chain(command_line) {
            values.set(*setting, *value)?;
        }
        Ok(Self { values, given })
    }

    /// The values.
    pub fn values(&self) -> &SettingValues {
        &self.values
    }

    /// What was given while running: what the next run shall know.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// These with `more`, given while running.
    ///
    /// # Errors
    ///
    /// When a setting does not take its value.
    pub fn with(&self, more: &Given) -> Result<Self, SettingError> {
        let mut changed = self.clone();
        for (setting, value) in more {
            changed.values.set(*setting, *value)?;
            changed.given.insert(*setting, *value);
        }
        Ok(changed)
    }

    /// These with a value that followed from how things are, and is nobody's wish.
    pub(crate) fn following(&self, setting: Setting, value: u32) -> Result<Self, SettingError> {
        let mut changed = self.clone();
        changed.values.set(setting, value)?;
        Ok(changed)
    }

    /// For people and programs.
    pub fn views(&self) -> Vec<SettingView> {
        let view = |setting: Setting| SettingView {
            name: setting.name().to_owned(),
            value: self.values.get(setting),
            default: setting.default_value(),
            least: *setting.range().start(),
            most: *setting.range().end(),
            meaning: setting.meaning().to_owned(),
        };
        Setting::ALL.map(view).to_vec()
    }
}

/// A setting, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u32,
    /// Its value unless told.
    pub default: u32,
    /// Smallest value it takes.
    pub least: u32,
    /// Largest value it takes.
    pub most: u32,
    /// What it means.
    pub meaning: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_what_was_given_earlier() {
        let earlier = Given::from([(Setting::SloppyTcp, 1), (Setting::DropEntry, 3)]);
        let flags = Given::from([(Setting::SloppyTcp, 0), (Setting::Amemthresh, 9)]);
        let settings = RunningSettings::new(earlier.clone(), &flags).unwrap();
        let get = |setting| settings.values().get(setting);
        assert_eq!(get(Setting::SloppyTcp), 0);
        assert_eq!(get(Setting::DropEntry), 3);
        assert_eq!(get(Setting::Amemthresh), 9);
        assert_eq!(get(Setting::PmtuDisc), 1);
        assert_eq!(*settings.given(), earlier, "a flag holds for its run only");
    }

    #[test]
    fn all_are_set_or_none() {
        let settings = RunningSettings::default();
        let more = Given::from([(Setting::SloppyTcp, 1), (Setting::DropEntry, 4)]);
        assert!(settings.with(&more).is_err());
        let more = Given::from([(Setting::SloppyTcp, 1), (Setting::DropEntry, 1)]);
        let settings = settings.with(&more).unwrap();
        assert_eq!(*settings.given(), more);
        let active = settings.following(Setting::DropEntry, 2).unwrap();
        assert_eq!(active.values().get(Setting::DropEntry), 2);
        assert_eq!(active.given()[&Setting::DropEntry], 1);
    }
}
