//! `virtual_server_group`.

use std::net::IpAddr;

use super::super::derivation::MOST;
use super::super::document::Statement;
use super::super::model::{Configuration, Members, ServiceGroup};
use super::super::reader::Reader;
use super::super::values;
use super::service::port;
use super::{Opened, small};

/// `virtual_server_group`.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let Some(word) = at.words.first() else {
        let text = "`virtual_server_group` needs a name".to_owned();
        return reader.error(at.place, text);
    };
    let lines = at.block.iter();
    let group = ServiceGroup {
        name: word.text.clone(),
        places: at.places(),
        members: lines.filter_map(|line| members(reader, line)).collect(),
    };
    if group.members.is_empty() {
        let text = format!(
            "virtual_server_group `{}` is empty and is left out",
            group.name
        );
        return reader.error(at.place, text);
    }
    let groups = &configuration.service_groups;
    if groups.iter().any(|other| other.name == group.name) {
        let text = format!(
            "virtual_server_group `{}` is there already; the first one counts",
            group.name
        );
        return reader.warning(at.place, text);
    }
    configuration.service_groups.push(group);
}

/// `ADDRESS[-END|/LENGTH] [PORT]` or `fwmark MARK [inet|inet6]`.
fn members(reader: &mut Reader<'_>, line: &Statement) -> Option<Members> {
    let (word, rest) = line.words.split_first()?;
    if word.text == "fwmark" {
        let Some((mark, rest)) = rest.split_first() else {
            reader.error(word.place, "`fwmark` needs a mark".to_owned());
            return None;
        };
        let mark = match values::whole(mark, "fwmark", 0, u32::MAX.into()) {
            Ok(mark) => small(mark),
            Err(fault) => {
                reader.fault(fault);
                return None;
            }
        };
        let family = match rest.first() {
            None => None,
            Some(word) if word.text == "inet" => Some(false),
            Some(word) if word.text == "inet6" => Some(true),
            Some(word) => {
                let text = format!("`{}`: a family is inet or inet6", word.text);
                reader.error(word.place, text);
                return None;
            }
        };
        return Some(Members::Mark(mark, family));
    }
    match range(&word.text) {
        Ok((first, last)) if number(last) - number(first) >= MOST => {
            let text = format!(
                "`{}` has more than {MOST} addresses, and is left out",
                word.text
            );
            reader.unsupported(word.place, text);
            None
        }
        Ok((first, last)) => Some(Members::Addresses(first, last, port(reader, rest)?)),
        Err(text) => {
            reader.error(word.place, text);
            None
        }
    }
}

/// The first and the last address of `A`, `A-B`, `A-N` and `A/LENGTH`.
fn range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("`{text}` is no IP address"))
    };
    if let Some((first, length)) = text.split_once('/') {
        let first = address(first)?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let length: u32 = length
            .parse()
            .ok()
            .filter(|length| (1..=bits).contains(length))
            .ok_or_else(|| format!("`{text}`: a prefix has 1 to {bits} bits"))?;
        let host = (bits > length).then(|| u128::MAX >> (128 - (bits - length)));
        let host = host.unwrap_or(0);
        if number(first) & host != 0 {
            return Err(format!("`{text}`: the address has bits behind its prefix"));
        }
        return Ok((first, with_number(first, number(first) | host)));
    }
    let Some((first, last)) = text.split_once('-') else {
        let one = address(text)?;
        return Ok((one, one));
    };
    let first = address(first)?;
    let last = match last.parse::<IpAddr>() {
        Ok(last) => last,
        Err(_) => {
            let (radix, unit) = if first.is_ipv4() {
                (10, 256)
            } else {
                (16, 65536)
            };
            let end = u128::from_str_radix(last, radix)
                .ok()
                .filter(|end| *end < unit);
            let end = end.ok_or_else(|| format!("`{text}`: the range ends nowhere"))?;
            with_number(first, number(first) / unit * unit + end)
        }
    };
    if first.is_ipv4() != last.is_ipv4() {
        return Err(format!("`{text}`: both ends are of one family"));
    }
    if number(last) <= number(first) {
        return Err(format!(
            "`{text}`: the end does not come behind the beginning"
        ));
    }
    Ok((first, last))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// An address of the same family with this number.
fn with_number(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}
