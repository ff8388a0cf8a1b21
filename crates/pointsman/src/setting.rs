//! `pointsman setting`, and the settings of `pointsman run`.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use pointsman_daemon::{
    client::Client,
    settings::{Given, SettingView},
};
use pointsman_director::setting::{Setting, SettingError};

use crate::report::connect;

/// Wrong usage.
const USAGE: u8 = 2;

pub(crate) const LONG_ABOUT: &str = "\
Show or change settings of the running daemon, those of the kernel's net.ipv4.vs.*

`pointsman setting` shows all, `pointsman setting NAME` one, `pointsman setting NAME=VALUE ...` changes \
some, all of them or none. Names are the kernel's; net.ipv4.vs. before them may be there.

What is changed so is remembered in the state file and holds for later runs, too, unless their \
command line says otherwise. `pointsman run --help` says what each setting means.";

/// The settings among the flags of `pointsman run`.
#[derive(Debug, Default)]
pub(crate) struct SettingFlags {
    /// Those given.
    pub(crate) given: Given,
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |setting: Setting| {
            let (least, most) = setting.range().into_inner();
            let default = setting.default_value();
            let meaning = setting.meaning().trim_end_matches('.');
            let arg = Arg::new(setting.name())
                .long(setting.name().replace('_', "-"))
                .help(format!("{meaning} [default: {default}]"))
                .help_heading(
                    "Settings (as net.ipv4.vs.*, without flag as `pointsman setting` left them)",
                )
                .value_parser(value_parser!(u32).range(i64::from(least)..=i64::from(most)));
            match setting.is_switch() {
                true => arg
                    .value_name("0|1")
                    .num_args(0..=1)
                    .default_missing_value("1"),
                false => arg.value_name("N"),
            }
        };
        command.args(Setting::ALL.map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |setting: Setting| {
            let value = matches.get_one::<u32>(setting.name());
            value.map(|value| (setting, *value))
        };
        let given = Setting::ALL.into_iter().filter_map(value).collect();
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What to show and what to change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    shown: Vec<Setting>,
    given: Given,
}

impl Wish {
    fn read(words: &[String]) -> Result<Self, SettingError> {
        let mut wish = Self::default();
        for word in words {
            match word.split_once('=') {
                None => wish.shown.push(word.parse()?),
                Some((name, value)) => {
                    let setting: Setting = name.trim().parse()?;
                    wish.given.insert(setting, setting.read(value.trim())?);
                }
            }
        }
        if words.is_empty() {
            wish.shown = Setting::ALL.to_vec();
        }
        Ok(wish)
    }
}

pub(crate) fn obey(socket: &Path, words: &[String], json: bool) -> Result<ExitCode> {
    let wish = match Wish::read(words) {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("pointsman: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let mut client: Client = connect(socket)?;
    let views = match wish.given.is_empty() {
        true => client.settings()?,
        false => client.set(&wish.given)?,
    };
    // As with sysctl, what was changed is shown, too.
    let is_meant = |view: &SettingView| {
        view.name
            .parse()
            .is_ok_and(|setting| wish.shown.contains(&setting) || wish.given.contains_key(&setting))
    };
    let meant: Vec<SettingView> = views.into_iter().filter(is_meant).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&meant)?);
    } else {
        for view in meant {
            println!("{} = {}", view.name, view.value);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Wish, SettingError> {
        Wish::read(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn flags(words: &[&str]) -> Given {
        let command = SettingFlags::augment_args(Command::new("run"));
        let matches = command
            .try_get_matches_from([&["run"], words].concat())
            .unwrap();
        SettingFlags::from_arg_matches(&matches).unwrap().given
    }

    #[test]
    fn words_show_or_change() {
        assert_eq!(read(&[]).unwrap().shown, Setting::ALL);
        let wish = read(&["drop_entry", "net.ipv4.vs.sloppy_tcp=1", "amemthresh = 7"]).unwrap();
        let given = Given::from([(Setting::SloppyTcp, 1), (Setting::Amemthresh, 7)]);
        let shown = vec![Setting::DropEntry];
        assert_eq!(wish, Wish { shown, given });
        for words in [["fly"], ["drop_entry=4"], ["drop_entry="], ["="]] {
            assert!(read(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn switches_need_no_value_and_what_is_not_given_is_open() {
        assert_eq!(flags(&[]), Given::new());
        let on = Given::from([(Setting::SloppyTcp, 1)]);
        assert_eq!(flags(&["--sloppy-tcp"]), on);
        assert_eq!(flags(&["--sloppy-tcp", "1"]), on);
        let several = Given::from([(Setting::SloppyTcp, 1), (Setting::PmtuDisc, 0)]);
        assert_eq!(flags(&["--sloppy-tcp", "--pmtu-disc=0"]), several);
    }
}
