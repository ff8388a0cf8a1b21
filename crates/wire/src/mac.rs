//! Link-layer addresses as text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::bytes::Mac;

/// Why a text is no link-layer address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no MAC address: write six hexadecimal bytes, as in 02:00:00:00:00:01")]
pub struct MacError {
    /// What was read.
    pub text: String,
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Reads six bytes of one or two hexadecimal digits, separated by colons or by dashes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .and_then(hexadecimal)
                .ok_or_else(|| error(text))?;
        }
        if parts.next().is_some() {
            return Err(error(text));
        }
        Ok(Self(bytes))
    }
}

/// `from_str_radix` alone would take a sign.
fn hexadecimal(part: &str) -> Option<u8> {
    let fits = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits {
        u8::from_str_radix(part, 16).ok()
    } else {
        None
    }
}

fn error(text: &str) -> MacError {
    MacError {
        text: text.to_owned(),
    }
}
