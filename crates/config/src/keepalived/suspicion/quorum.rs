//! `track_virtual_server`: which virtual service is meant. Not keepalived's.

use std::collections::HashSet;
use std::net::IpAddr;

use pointsman_director::model::Protocol;

use super::super::model::{Service, Target, Track, Tracked};
use super::super::reader::Reader;

/// Names what is tracked by the keys of virtual services; takes out what is none, or one twice.
pub(super) fn resolve(reader: &mut Reader<'_>, tracked: &mut Vec<Track>, services: &[Service]) {
    let mut seen = HashSet::new();
    tracked.retain_mut(|track| {
        if track.kind != Tracked::Service {
            return true;
        }
        let place = track.places.begin();
        let meant = services.iter().filter(|service| is_meant(&track.name, service));
        let mut keys: Vec<String> = meant.map(|service| service.key().to_string()).collect();
        keys.dedup();
        match &keys[..] {
            [] => {
                let text = format!("there is no virtual_server `{}`: it is not tracked", track.name);
                reader.error(place, text);
                false
            }
            [key] if seen.insert(key.clone()) => {
                track.name.clone_from(key);
                true
            }
            [_] => {
                let text = format!("`{}` is tracked already; this line is left out", track.name);
                reader.error(place, text);
                false
            }
            [first, ..] => {
                let text = format!(
                    "`{}` are several virtual services: say the protocol and the family too, as in `{first}`; \
                     it is not tracked",
                    track.name
                );
                reader.error(place, text);
                false
            }
        }
    });
}

/// Whether these words mean a service: `ADDRESS [PORT]`, `fwmark NUMBER` or `group NAME`, then perhaps its
/// protocol and `inet` or `inet6`.
fn is_meant(words: &str, service: &Service) -> bool {
    let words: Vec<&str> = words.split_whitespace().collect();
    let rest = match (&service.target, &words[..]) {
        (Target::Mark(mark), ["fwmark", number, rest @ ..]) if number.parse() == Ok(*mark) => rest,
        (Target::Group(name), ["group", group, rest @ ..]) if name == group => rest,
        (Target::Address(address, port), [first, rest @ ..])
            if first.parse::<IpAddr>() == Ok(*address) =>
        {
            match rest.split_first() {
                Some((number, rest)) if number.parse() == Ok(*port) => rest,
                Some((number, _)) if number.parse::<u16>().is_ok() => return false,
                _ if *port == 0 => rest,
                _ => return false,
            }
        }
        _ => return false,
    };
    let protocol = match service.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let family = if service.is_ipv6 { "inet6" } else { "inet" };
    let has_protocol = !matches!(service.target, Target::Mark(_));
    rest.iter()
        .all(|word| *word == family || has_protocol && word.eq_ignore_ascii_case(protocol))
}
