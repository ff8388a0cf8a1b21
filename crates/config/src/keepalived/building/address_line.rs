//! A line of `virtual_ipaddress`, `virtual_ipaddress_excluded` or `static_ipaddress`.

use std::net::IpAddr;

use super::super::document::{Statement, Word};
use super::super::model::{Places, Tracking, VirtualAddress};
use super::super::reader::Reader;
use super::super::values;
use super::host_words::{SCOPES, prefix, scope, settle_tracking, track_group};

/// The longest label, the kernel's.
const LABEL: usize = 15;
/// With longer prefixes there is nobody else whom a broadcast would reach, bits.
const BROADCAST_PREFIX: u8 = 30;

/// Reads `ADDRESS[/LENGTH]` and what is said of it; `groups` are the track groups that a static one may name.
pub(super) fn read(
    reader: &mut Reader<'_>,
    statement: &Statement,
    groups: Option<&[String]>,
) -> Option<VirtualAddress> {
    let (first, rest) = statement.words.split_first()?;
    let (address, length) = match first.text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (first.text.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let text = format!("`{}` is no IP address, and is left out", first.text);
        reader.error(first.place, text);
        return None;
    };
    let prefix = prefix(reader, first, address, length);
    let mut virtual_address = VirtualAddress {
        address,
        prefix,
        device: None,
        broadcast: None,
        scope: None,
        label: None,
        peer: None,
        home: false,
        dad: false,
        manages_temporary: false,
        no_prefix_route: false,
        autojoin: false,
        preferred_seconds: None,
        tracking: Tracking::default(),
        places: Places::new(first.place),
    };
    let mut lifetime = None;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let name = word.text.as_str();
        if flag(&mut virtual_address, name) {
            continue;
        }
        if name == "use_vmac" {
            let text = "`use_vmac`: the address stays on the interface's own MAC";
            reader.unsupported(word.place, text.to_owned());
            continue;
        }
        let known = [
            "dev",
            "brd",
            "broadcast",
            "scope",
            "label",
            "peer",
            "preferred_lft",
            "track_group",
        ];
        if !known.contains(&name) {
            let text = format!("`{name}`: nothing that is said of an address");
            reader.error(word.place, text);
            continue;
        }
        let Some(value) = words.next() else {
            reader.error(word.place, format!("`{name}` needs a value"));
            continue;
        };
        match (name, groups) {
            ("peer", _) => peer(reader, value, length.is_some(), &mut virtual_address),
            ("preferred_lft", _) if value.text == "forever" => lifetime = Some(None),
            ("preferred_lft", _) => match values::whole(value, name, 0, u32::MAX.into()) {
                Ok(seconds) => lifetime = Some(u32::try_from(seconds).ok()),
                Err(fault) => reader.fault(fault),
            },
            ("track_group", Some(groups)) => {
                track_group(reader, value, groups, &mut virtual_address.tracking);
            }
            ("track_group", None) => {
                let text = "`track_group` is for static addresses".to_owned();
                reader.error(word.place, text);
            }
            ("label", _) if value.text.len() > LABEL => {
                let text = format!(
                    "label `{}` has more than {LABEL} characters; the address is left out",
                    value.text
                );
                reader.error(value.place, text);
                return None;
            }
            _ => named(reader, name, value, &mut virtual_address),
        }
    }
    // Nothing new is sent from a host address of IPv6 unless it is asked for; IPv4 knows no such thing.
    virtual_address.preferred_seconds = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => lifetime.unwrap_or((virtual_address.prefix == 128).then_some(0)),
    };
    settle_tracking(reader, first.place, true, &mut virtual_address.tracking);
    Some(virtual_address)
}

/// Takes a word that says something by itself.
fn flag(address: &mut VirtualAddress, word: &str) -> bool {
    match word {
        "home" => address.home = true,
        "-nodad" => address.dad = true,
        "mngtmpaddr" => address.manages_temporary = true,
        "noprefixroute" => address.no_prefix_route = true,
        "autojoin" => address.autojoin = true,
        "no_track" => address.tracking.tracked = false,
        _ => return false,
    }
    true
}

/// `peer ADDRESS`: both ends are without a network.
fn peer(
    reader: &mut Reader<'_>,
    value: &Word,
    has_prefix: bool,
    virtual_address: &mut VirtualAddress,
) {
    let address = virtual_address.address;
    match value.text.parse::<IpAddr>() {
        Ok(peer) if peer.is_ipv4() == address.is_ipv4() => {
            virtual_address.peer = Some(peer);
            virtual_address.prefix = if peer.is_ipv4() { 32 } else { 128 };
            if has_prefix {
                let text = format!("`{address}` has a peer, and so no prefix; it is left out");
                reader.error(virtual_address.places.begin(), text);
            }
        }
        _ => {
            let text = format!(
                "`peer {}`: no address of {address}'s family; it is left out",
                value.text
            );
            reader.error(value.place, text);
        }
    }
}

/// Takes a word and its value.
fn named(reader: &mut Reader<'_>, name: &str, value: &Word, to: &mut VirtualAddress) {
    let text = value.text.clone();
    match name {
        "dev" => to.device = Some(text),
        "label" => to.label = Some(text),
        "scope" if to.address.is_ipv6() => {
            let text = format!("`{}`: IPv6 has no `scope`; it is left out", to.address);
            reader.error(value.place, text);
        }
        "scope" => {
            if scope(&text).is_none() {
                let names: Vec<&str> = SCOPES.iter().map(|(name, _)| *name).collect();
                let text = format!("`scope {text}`: it is one of {}", names.join(", "));
                return reader.error(value.place, text);
            }
            to.scope = Some(text);
        }
        _ if to.address.is_ipv6() => {
            let text = format!(
                "`{}`: IPv6 has no broadcasts; `{name}` is left out",
                to.address
            );
            reader.error(value.place, text);
        }
        _ if text == "+" && to.prefix > BROADCAST_PREFIX => {
            let text = format!(
                "`{name} +`: a network of {} bits has no broadcasts; it is left out",
                to.prefix
            );
            reader.error(value.place, text);
        }
        _ => to.broadcast = Some(text),
    }
}
