//! A line of `virtual_ipaddress`.

use std::net::IpAddr;

use super::super::document::Statement;
use super::super::model::{Places, VirtualAddress};
use super::super::reader::Reader;
use super::super::values;

/// The longest label, the kernel's.
const LABEL: usize = 15;
const SCOPES: [&str; 5] = ["site", "link", "host", "nowhere", "global"];

/// Reads `ADDRESS[/LENGTH]` and what is said of it.
pub(super) fn read(reader: &mut Reader<'_>, statement: &Statement) -> Option<VirtualAddress> {
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
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match length.map(str::parse::<u8>) {
        None => most,
        Some(Ok(length)) if length <= most => length,
        Some(_) => {
            let text = format!(
                "`{}`: a prefix of {address} has 0 to {most} bits",
                first.text
            );
            reader.error(first.place, text);
            most
        }
    };
    let mut virtual_address = VirtualAddress {
        address,
        prefix,
        device: None,
        broadcast: None,
        scope: None,
        label: None,
        peer: None,
        flags: Vec::new(),
        places: Places::new(first.place),
    };
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let name = word.text.as_str();
        if let "home" | "-nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "no_track" = name {
            virtual_address.flags.push(name.to_owned());
            continue;
        }
        if name == "use_vmac" {
            let text = "`use_vmac`: the address stays on the interface's own MAC";
            reader.unsupported(word.place, text.to_owned());
            continue;
        }
        let slot = match name {
            "dev" => &mut virtual_address.device,
            "brd" | "broadcast" => &mut virtual_address.broadcast,
            "scope" => &mut virtual_address.scope,
            "label" => &mut virtual_address.label,
            "peer" => &mut virtual_address.peer,
            "preferred_lft" => {
                match words.next() {
                    Some(value) if value.text == "forever" => {}
                    Some(value) => {
                        if let Err(fault) = values::whole(value, name, 0, u32::MAX.into()) {
                            reader.fault(fault);
                        }
                    }
                    None => reader.error(word.place, format!("`{name}` needs a value")),
                }
                virtual_address.flags.push(name.to_owned());
                continue;
            }
            "track_group" => {
                // Of static addresses alone.
                words.next();
                let text = "`track_group` is for static addresses".to_owned();
                reader.error(word.place, text);
                continue;
            }
            _ => {
                let text = format!("`{name}`: nothing that is said of an address");
                reader.error(word.place, text);
                continue;
            }
        };
        let Some(value) = words.next() else {
            reader.error(word.place, format!("`{name}` needs a value"));
            continue;
        };
        if name == "peer" {
            let text = "`peer`: the address has no other end; use `dev` or a route";
            reader.unsupported(word.place, text.to_owned());
            continue;
        }
        *slot = Some(value.text.clone());
        if name == "scope" && !SCOPES.contains(&&*value.text) && value.text.parse::<u8>().is_err() {
            let text = format!("`scope {}`: it is one of {}", value.text, SCOPES.join(", "));
            reader.error(value.place, text);
        }
        if name == "label" && value.text.len() > LABEL {
            let text = format!(
                "label `{}` has more than {LABEL} characters; the address is left out",
                value.text
            );
            reader.error(value.place, text);
            return None;
        }
    }
    Some(virtual_address)
}
