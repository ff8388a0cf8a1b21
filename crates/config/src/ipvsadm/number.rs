//! Numbers and IPv4 addresses as the C library reads them.
//!
//! Scripts depend on what `strtol` and `inet_aton` let through, so Rust's stricter parsers won't do.

use std::net::Ipv4Addr;

/// True for the characters that C's `isspace` accepts.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads a sign and decimal digits after blanks; returns the saturated value and what follows.
fn leading_decimal(text: &str) -> Option<(i128, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let (negative, digits) = match rest.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let value = digits[..end].bytes().fold(0i128, |sum, b| {
        (sum * 10 + i128::from(b - b'0')).min(i128::from(u64::MAX))
    });
    Some((if negative { -value } else { value }, &digits[end..]))
}

/// Reads a decimal number that fills the text and lies in `min..=max`, as `strtol` would.
///
/// Leading blanks, a plus sign and leading zeros are fine; anything after the digits is not.
pub(crate) fn decimal(text: &str, min: u32, max: u32) -> Option<u32> {
    match leading_decimal(text)? {
        (value, "") if (i128::from(min)..=i128::from(max)).contains(&value) => {
            u32::try_from(value).ok()
        }
        _ => None,
    }
}

/// Reads what `atoi` reads: the leading number, 0 without one, cut to 32 bits.
pub(crate) fn leading_integer(text: &str) -> i32 {
    let value = leading_decimal(text).map_or(0, |(value, _)| value);
    // Cutting to the low 32 bits is what the C library does on 64-bit machines.
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i32
}

/// Reads an IPv4 address in any form of `inet_aton`: one to four parts, each decimal, octal or
/// hexadecimal, and anything at all after a blank.
pub(crate) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let mut rest = text.as_bytes();
    let mut high = Vec::with_capacity(3);
    loop {
        let (value, after) = c_number(rest)?;
        match after.first() {
            Some(b'.') if high.len() < 3 && value <= 0xff => high.push(value),
            None => return join_parts(&high, value),
            Some(&byte) if is_space(byte) => return join_parts(&high, value),
            Some(_) => return None,
        }
        rest = &after[1..];
    }
}

/// Reads digits with C's prefixes for octal and hexadecimal; the text must start with a digit.
fn c_number(text: &[u8]) -> Option<(u32, &[u8])> {
    let first = text.first().filter(|b| b.is_ascii_digit())?;
    let is_hex = *first == b'0'
        && matches!(text.get(1), Some(b'x' | b'X'))
        && text.get(2).is_some_and(u8::is_ascii_hexdigit);
    let (radix, digits) = match (is_hex, *first) {
        (true, _) => (16, &text[2..]),
        (false, b'0') => (8, text),
        (false, _) => (10, text),
    };
    let mut value = 0u32;
    let mut length = 0;
    for digit in digits.iter().map_while(|b| (*b as char).to_digit(radix)) {
        value = value.checked_mul(radix)?.checked_add(digit)?;
        length += 1;
    }
    Some((value, &digits[length..]))
}

/// Puts the dotted parts before the last one above it.
fn join_parts(high: &[u32], last: u32) -> Option<Ipv4Addr> {
    let limit = u32::MAX >> (8 * high.len());
    if last > limit {
        return None;
    }
    let address = high
        .iter()
        .enumerate()
        .fold(last, |sum, (i, part)| sum | part << (24 - 8 * i));
    Some(Ipv4Addr::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_by_strtol() {
        for (text, value) in [
            ("5", 5),
            ("+5", 5),
            (" \t5", 5),
            ("007", 7),
            ("65535", 65535),
        ] {
            assert_eq!(decimal(text, 0, 65535), Some(value), "{text:?}");
        }
        for text in [
            "",
            "5 ",
            "0x10",
            "-1",
            "65536",
            "x",
            "+",
            "99999999999999999999999999",
            "５",
        ] {
            assert_eq!(decimal(text, 0, 65535), None, "{text:?}");
        }
        assert_eq!(decimal("0", 1, 9), None);
    }

    #[test]
    fn leading_integers_are_cut_as_by_atoi() {
        for (text, value) in [
            ("64", 64),
            ("64x", 64),
            ("x", 0),
            ("-1", -1),
            ("4294967360", 64),
            ("99999999999999999999999", -1),
        ] {
            assert_eq!(leading_integer(text), value, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_read_as_by_inet_aton() {
        for (text, address) in [
            ("10.0.0.1", [10, 0, 0, 1]),
            ("10.1", [10, 0, 0, 1]),
            ("24", [0, 0, 0, 24]),
            ("0x0a000001", [10, 0, 0, 1]),
            ("0X0A.1", [10, 0, 0, 1]),
            ("010.0.0.1", [8, 0, 0, 1]),
            ("255.255.0", [255, 255, 0, 0]),
            ("4294967295", [255, 255, 255, 255]),
            ("10.0.0.1 junk", [10, 0, 0, 1]),
            ("10.0.0.1\t", [10, 0, 0, 1]),
            ("0", [0, 0, 0, 0]),
        ] {
            assert_eq!(inet_aton(text), Some(Ipv4Addr::from(address)), "{text:?}");
        }
        for text in [
            "",
            " 10.0.0.1",
            "10.0.0.256",
            "1.2.3.4.5",
            "1.2.3.",
            "1..3",
            "0x",
            "0xg",
            "08",
            "4294967296",
            "1.16777216",
            "1.2.65536",
            "256.1",
            "10.0.0.1a",
            "-1",
            ".1",
        ] {
            assert_eq!(inet_aton(text), None, "{text:?}");
        }
    }
}
