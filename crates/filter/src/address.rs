//! Addresses and masks as text.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::field::ones;

/// A link-layer address; groups may lack leading zeros.
pub(crate) fn mac(text: &str) -> Option<u128> {
    let mut value = 0;
    let mut groups = 0;
    for group in text.split(':') {
        if group.is_empty() || group.len() > 2 {
            return None;
        }
        value = value << 8 | u128::from_str_radix(group, 16).ok()?;
        groups += 1;
    }
    (groups == 6).then_some(value)
}

/// A link-layer address with two digits a group.
pub(crate) fn mac_text(value: u128) -> String {
    let bytes = (value as u64).to_be_bytes();
    let groups: Vec<String> = bytes[2..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    groups.join(":")
}

/// An IPv4 address.
pub(crate) fn ip4(text: &str) -> Option<u128> {
    text.parse::<Ipv4Addr>()
        .ok()
        .map(|address| u128::from(u32::from(address)))
}

/// An IPv6 address.
pub(crate) fn ip6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(u128::from)
}

/// An address as it is usually written.
pub(crate) fn uniform(text: &str, v6: bool) -> Option<String> {
    if v6 {
        text.parse()
            .ok()
            .map(|address: Ipv6Addr| address.to_string())
    } else {
        text.parse()
            .ok()
            .map(|address: Ipv4Addr| address.to_string())
    }
}

/// An address of either version, alone or with `/mask`: value and mask.
pub(crate) fn with_mask(text: &str, v6: bool) -> Option<(u128, u128)> {
    let width = if v6 { 128 } else { 32 };
    let parse = |text: &str| if v6 { ip6(text) } else { ip4(text) };
    match text.split_once('/') {
        None => Some((parse(text)?, ones(width))),
        Some((address, mask)) => {
            let mask = match mask.parse::<u32>() {
                Ok(bits) if bits <= width => prefix_mask(bits, width),
                Ok(_) => return None,
                Err(_) => parse(mask)?,
            };
            Some((parse(address)?, mask))
        }
    }
}

/// The mask with so many leading ones.
pub(crate) fn prefix_mask(bits: u32, width: u32) -> u128 {
    ones(width) & !ones(width - bits.min(width))
}

/// How many leading ones a mask has, if nothing but zeros follows.
pub(crate) fn prefix_length(mask: u128, width: u32) -> Option<u32> {
    (0..=width).find(|&bits| prefix_mask(bits, width) == mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_layer_addresses_may_lack_zeros() {
        assert_eq!(mac("2:0:73:b6:53:c8"), Some(0x0200_73b6_53c8));
        assert_eq!(mac_text(0x0200_73b6_53c8), "02:00:73:b6:53:c8");
        for bad in ["2:0:73:b6:53", "002:0:73:b6:53:c8", "2:0:73:b6:53:g8", ""] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn masks_come_as_length_or_address() {
        let net = Some((0x0a00_0000, 0xff00_0000));
        assert_eq!(with_mask("10.0.0.0/8", false), net);
        assert_eq!(with_mask("10.0.0.0/255.0.0.0", false), net);
        assert_eq!(with_mask("10.0.0.0/33", false), None);
        assert_eq!(prefix_length(0xff00_0000, 32), Some(8));
        assert_eq!(prefix_length(0xff00_ff00, 32), None);
    }
}
