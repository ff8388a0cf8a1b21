//! `static_ipaddress`, `static_routes`, `static_rules`, `track_group`.

use super::super::document::Statement;
use super::super::keywords::Block;
use super::super::model::{Configuration, TrackGroup};
use super::super::reader::Reader;
use super::super::values::Value;
use super::rule_line::Preferences;
use super::{Opened, address_line, is_new, names, route_line, rule_line};

/// The interface of static addresses that name none, without `default_interface`.
const DEFAULT_INTERFACE: &str = "eth0";

/// A block of static things.
pub(super) fn read(
    reader: &mut Reader<'_>,
    configuration: &mut Configuration,
    preferences: &mut Preferences,
    keyword: &str,
    block: &[Statement],
) {
    let groups: Vec<String> = configuration
        .track_groups
        .iter()
        .map(|group| group.name.clone())
        .collect();
    let statics = &mut configuration.statics;
    let usual = configuration.global.default_interface.as_deref();
    for line in block {
        match keyword {
            "static_ipaddress" => {
                if let Some(mut address) = address_line::read(reader, line, Some(&groups)) {
                    address
                        .device
                        .get_or_insert_with(|| usual.unwrap_or(DEFAULT_INTERFACE).to_owned());
                    statics.addresses.push(address);
                }
            }
            "static_routes" => statics
                .routes
                .extend(route_line::read(reader, line, Some(&groups))),
            _ => {
                let rule = rule_line::read(reader, line, preferences, Some(&groups));
                statics.rules.extend(rule);
            }
        }
    }
}

/// `track_group`.
pub(super) fn group(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let mut group = TrackGroup {
        name: at.name(),
        places: at.places(),
        members: Vec::new(),
    };
    if group.name.is_empty() {
        let text = "a track_group needs a name, and is left out".to_owned();
        return reader.error(at.place, text);
    }
    for entry in reader.entries(Block::TrackGroup, at.block) {
        if let Value::Block(_, block) = entry.value {
            let members = names(block).map(|word| word.text.clone());
            group.members.extend(members);
        }
    }
    let all = configuration.track_groups.iter().map(|g| g.name.as_str());
    if is_new(reader, "track_group", at, all) {
        configuration.track_groups.push(group);
    }
}
