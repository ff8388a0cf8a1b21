//! `lvs_sync_daemon`, and an instance's `lvs_sync_daemon_interface`.

use std::net::IpAddr;

use super::super::document::Word;
use super::super::model::{Configuration, Synchronisation};
use super::super::reader::{Entry, Reader};
use super::super::values;
use super::small;

/// Longest name of an interface, bytes.
const NAME: usize = 15;
/// Longest message: what UDP over IPv4 carries, bytes.
const LONGEST: i64 = 65_507;
/// What may follow interface and instance, each with a value.
const OPTIONS: [&str; 5] = ["id", "maxlen", "port", "ttl", "group"];

/// `lvs_sync_daemon INTERFACE [[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: &Entry<'_>,
    words: &[Word],
) -> Option<Synchronisation> {
    let Some((interface, mut rest)) = words.split_first() else {
        let text = "`lvs_sync_daemon` needs an interface".to_owned();
        reader.error(entry.place, text);
        return None;
    };
    if interface.text.len() > NAME {
        let text = format!(
            "`{}`: names of interfaces have 15 bytes at most",
            interface.text
        );
        reader.error(interface.place, text);
        return None;
    }
    let mut read = Synchronisation {
        interface: interface.text.clone(),
        ..Synchronisation::default()
    };
    if let [inst, name, more @ ..] = rest
        && inst.text == "inst"
    {
        read.instance = Some(name.text.clone());
        rest = more;
    } else if let [name, more @ ..] = rest
        && !OPTIONS.contains(&name.text.as_str())
    {
        read.instance = Some(name.text.clone());
        rest = more;
        // Before there was `id`.
        if let [id, more @ ..] = rest
            && id.text.starts_with(|first: char| first.is_ascii_digit())
        {
            option(reader, &mut read, "id", id);
            rest = more;
        }
    }
    for pair in rest.chunks(2) {
        let name = pair[0].text.as_str();
        if !OPTIONS.contains(&name) {
            let text = format!("`{name}`: options are {}", OPTIONS.join(", "));
            reader.error(pair[0].place, text);
            continue;
        }
        match pair.get(1) {
            Some(value) => option(reader, &mut read, name, value),
            None => reader.error(pair[0].place, format!("`{name}` needs a value")),
        }
    }
    Some(read)
}

fn option(reader: &mut Reader<'_>, to: &mut Synchronisation, name: &str, value: &Word) {
    let range = match name {
        "id" => (0, 255),
        "maxlen" => (1, LONGEST),
        "port" => (1, 65_535),
        "ttl" => (1, 255),
        _ => {
            match value.text.parse::<IpAddr>() {
                Ok(group) if group.is_multicast() => to.group = Some(group),
                _ => {
                    let text = format!("`group {}`: this is no multicast group", value.text);
                    reader.error(value.place, text);
                }
            }
            return;
        }
    };
    let number = match values::whole(value, name, range.0, range.1) {
        Ok(number) => number,
        Err(fault) => return reader.fault(fault),
    };
    match name {
        "id" => to.id = Some(small(number)),
        "maxlen" => to.max_length = Some(small(number)),
        "port" => to.port = Some(small(number)),
        _ => to.ttl = Some(small(number)),
    }
}

/// What follows from instances: the old form, and whether the instance named is there.
pub(super) fn settle(reader: &mut Reader<'_>, configuration: &mut Configuration) {
    let global = &mut configuration.global;
    for instance in &configuration.instances {
        let Some(interface) = &instance.sync_interface else {
            continue;
        };
        if global.synchronisation.is_some() {
            let text = "there is a sync daemon already; this one is left out".to_owned();
            reader.error(instance.places.near("lvs_sync_daemon_interface"), text);
            continue;
        }
        global.synchronisation = Some(Synchronisation {
            interface: interface.clone(),
            instance: Some(instance.name.clone()),
            ..Synchronisation::default()
        });
    }
    let named = global.synchronisation.as_ref();
    let named = named.and_then(|synchronisation| synchronisation.instance.as_ref());
    if let Some(name) = named
        && !configuration.instances.iter().any(|one| one.name == *name)
    {
        let text = format!("`lvs_sync_daemon` follows vrrp_instance `{name}`, which is not there");
        reader.error(global.places.near("lvs_sync_daemon"), text);
    }
}
