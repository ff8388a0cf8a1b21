//! What is tracked, and `garp_group`.

use std::time::Duration;

use super::super::document::{Place, Statement, Word};
use super::super::keywords::Block;
use super::super::model::Places;
use super::super::model::{
    Command, Configuration, GarpGroup, Track, TrackFile, TrackProcess, TrackScript, Tracked, Weight,
};
use super::super::reader::Reader;
use super::super::values::{self, Value};
use super::{Opened, is_new, names, small};

/// `vrrp_script`.
pub(super) fn script(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut script = TrackScript {
        name: at.name(),
        places: at.places(),
        command: Command {
            line: String::new(),
            user: None,
        },
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
        weight: Weight::default(),
        rise: 1,
        fall: 1,
        init_fail: false,
    };
    for entry in reader.entries(Block::Script, at.block) {
        script.places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("script", Value::Word(word)) => script.command.line = word.text.clone(),
            ("interval", Value::Whole(s)) => script.interval = Duration::from_secs(small(s)),
            ("timeout", Value::Whole(s)) => script.timeout = Duration::from_secs(small(s)),
            ("weight", Value::Words(words)) => {
                script.weight = weight(reader, entry.place, words, 253);
            }
            ("rise", Value::Whole(n)) => script.rise = small(n),
            ("fall", Value::Whole(n)) => script.fall = small(n),
            ("user", Value::Words(words)) => script.command.user = values::user(words),
            ("init_fail", _) => script.init_fail = true,
            _ => {}
        }
    }
    if script.timeout.is_zero() {
        script.timeout = script.interval;
    }
    if script.command.line.is_empty() {
        let text = format!(
            "vrrp_script `{}` has no `script` and is left out",
            script.name
        );
        return reader.error(at.place, text);
    }
    if configuration.scripts.iter().any(|s| s.name == script.name) {
        let text = format!(
            "vrrp_script `{}` is there already; the first one counts",
            script.name
        );
        return reader.warning(at.place, text);
    }
    configuration.scripts.push(script);
}

/// `track_file`.
pub(super) fn file(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut file = TrackFile {
        name: at.name(),
        places: at.places(),
        path: String::new(),
        weight: Weight {
            weight: 1,
            reverse: false,
        },
        initial: None,
    };
    for entry in reader.entries(Block::TrackFile, at.block) {
        file.places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("file", Value::Word(word)) => file.path = word.text.clone(),
            ("weight", Value::Words(words)) => {
                file.weight = weight(reader, entry.place, words, 254);
            }
            ("init_file", Value::Words(words)) => file.initial = Some(initial(reader, words)),
            _ => {}
        }
    }
    if file.path.is_empty() {
        let text = format!("track_file `{}` names no `file` and is left out", file.name);
        return reader.error(at.place, text);
    }
    let all = configuration.track_files.iter().map(|f| f.name.as_str());
    if is_new(reader, "track_file", at, all) {
        configuration.track_files.push(file);
    }
}

/// `[VALUE] [overwrite]`.
fn initial(reader: &mut Reader<'_>, words: &[Word]) -> (i64, bool) {
    let mut value = 0;
    let mut overwrite = false;
    for word in words {
        if word.text == "overwrite" {
            overwrite = true;
            continue;
        }
        match values::whole(word, "init_file", i64::from(i32::MIN), i64::from(i32::MAX)) {
            Ok(number) => value = number,
            Err(fault) => reader.fault(fault),
        }
    }
    (value, overwrite)
}

/// `vrrp_track_process`.
pub(super) fn process(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut process = TrackProcess {
        name: at.name(),
        places: at.places(),
        command: Vec::new(),
        matching: None,
        weight: Weight::default(),
        least: 1,
        most: None,
        rise_delay: Duration::ZERO,
        fall_delay: Duration::ZERO,
        full_command: false,
    };
    for entry in reader.entries(Block::TrackProcess, at.block) {
        process.places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("process", Value::Words(words)) => {
                process.command = words.iter().map(|w| w.text.clone()).collect();
            }
            ("param_match", Value::Word(word)) => process.matching = Some(word.text.clone()),
            ("weight", Value::Words(words)) => {
                process.weight = weight(reader, entry.place, words, 254);
            }
            ("quorum", Value::Whole(n)) => process.least = small(n),
            ("quorum_max", Value::Whole(n)) => process.most = Some(small(n)),
            ("delay", Value::Time(time)) => {
                process.rise_delay = time;
                process.fall_delay = time;
            }
            ("fork_delay", Value::Time(time)) => process.rise_delay = time,
            ("terminate_delay", Value::Time(time)) => process.fall_delay = time,
            ("full_command", _) => process.full_command = true,
            _ => {}
        }
    }
    // Having none at all is then what is wanted.
    if process.most == Some(0) && process.places.of("quorum").is_none() {
        process.least = 0;
    }
    if let Some(most) = process.most
        && most < process.least
    {
        let text = format!("quorum_max {most} is less than quorum {}", process.least);
        reader.error(process.places.near("quorum_max"), text);
    }
    if process.command.is_empty() {
        let text = format!(
            "vrrp_track_process `{}` names no `process` and is left out",
            process.name
        );
        return reader.error(at.place, text);
    }
    let all = configuration
        .track_processes
        .iter()
        .map(|p| p.name.as_str());
    if is_new(reader, "vrrp_track_process", at, all) {
        configuration.track_processes.push(process);
    }
}

/// `garp_group`.
pub(super) fn garp_group(
    reader: &mut Reader<'_>,
    configuration: &mut Configuration,
    at: Opened<'_>,
) {
    let mut group = GarpGroup {
        places: at.places(),
        garp_interval: None,
        gna_interval: None,
        interfaces: Vec::new(),
    };
    for entry in reader.entries(Block::GarpGroup, at.block) {
        group.places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("garp_interval", Value::Time(time)) => group.garp_interval = Some(time),
            ("gna_interval", Value::Time(time)) => group.gna_interval = Some(time),
            ("interface", Value::Word(word)) => group.interfaces.push(word.text.clone()),
            ("interfaces", Value::Block(_, block)) => {
                group
                    .interfaces
                    .extend(names(block).map(|word| word.text.clone()));
            }
            _ => {}
        }
    }
    if group.garp_interval.is_none() && group.gna_interval.is_none() {
        let text = "garp_group without garp_interval and gna_interval changes nothing";
        return reader.error(at.place, text.to_owned());
    }
    if group.interfaces.is_empty() {
        let text = "garp_group without interface or interfaces changes nothing";
        return reader.warning(at.place, text.to_owned());
    }
    configuration.garp_groups.push(group);
}

/// `NUMBER [reverse]`.
pub(super) fn weight(reader: &mut Reader<'_>, place: Place, words: &[Word], most: i64) -> Weight {
    let Some((number, rest)) = words.split_first() else {
        reader.error(place, "`weight` needs a number".to_owned());
        return Weight::default();
    };
    let mut weight = Weight::default();
    match values::whole(number, "weight", -most, most) {
        Ok(number) => weight.weight = small(number),
        Err(fault) => reader.fault(fault),
    }
    if let Some(word) = rest.first() {
        match &*word.text {
            "reverse" => weight.reverse = true,
            "noreverse" => {}
            other => {
                let text = format!("`{other}` behind a weight: it is `reverse` or nothing");
                reader.error(word.place, text);
            }
        }
    }
    weight
}

/// The lines of `track_interface` and its like: `NAME [weight NUMBER [reverse]]`. A virtual service is named
/// as in its own line.
pub(super) fn tracks(
    reader: &mut Reader<'_>,
    kind: Tracked,
    block: &[Statement],
    tracked: &mut Vec<Track>,
) {
    let most = match kind {
        Tracked::Interface | Tracked::Script | Tracked::Bfd | Tracked::Service => 253,
        Tracked::File | Tracked::Process => 254,
    };
    for statement in block {
        let words = &statement.words;
        let Some(name) = words.first() else {
            continue;
        };
        let length = match kind {
            // It is known by several words.
            Tracked::Service => words.iter().position(|word| word.text == "weight"),
            _ => Some(1),
        };
        let (named, rest) = words.split_at(length.unwrap_or(words.len()));
        let named: Vec<&str> = named.iter().map(|word| word.text.as_str()).collect();
        let mut track = Track {
            kind,
            name: named.join(" "),
            weight: Weight::default(),
            places: Places::new(name.place),
        };
        match rest.split_first() {
            None => {}
            Some((word, number)) if word.text == "weight" => {
                track.places.note("weight", word.place);
                track.weight = weight(reader, word.place, number, most);
            }
            Some((word, _)) => {
                let text = format!("`{}`: behind a name stands `weight` or nothing", word.text);
                reader.error(word.place, text);
            }
        }
        if tracked
            .iter()
            .any(|t| t.kind == kind && t.name == track.name)
        {
            let text = format!("`{}` is tracked already; this line is left out", track.name);
            reader.error(name.place, text);
            continue;
        }
        tracked.push(track);
    }
}
