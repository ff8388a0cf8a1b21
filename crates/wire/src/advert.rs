//! A VRRP advertisement as a value: read from a message, written to one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use zerocopy::IntoBytes;

use crate::build::{Addresses, Frame, Segment};
use crate::bytes::Be16;
use crate::checksum;
use crate::layers::view;
use crate::protocol;
use crate::segment::fill;
use crate::vrrp::{self, Vrrp};

/// What a virtual router says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Advert {
    /// Version, and what only that version has.
    pub form: Form,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority, [`vrrp::STOP`] and [`vrrp::OWNER`] among them.
    pub priority: u8,
    /// The virtual router's addresses, all of one family.
    pub addresses: Vec<IpAddr>,
}

/// The version of an advertisement, and what only that version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Version 2.
    V2 {
        /// Authentication.
        authentication: Authentication,
        /// Interval, seconds.
        seconds: u8,
    },
    /// Version 3.
    V3 {
        /// Interval, centiseconds, at most 4095.
        centiseconds: u16,
    },
}

impl Form {
    /// The version's number.
    pub const fn version(&self) -> u8 {
        match self {
            Self::V2 { .. } => 2,
            Self::V3 { .. } => 3,
        }
    }
}

/// How a message of version 2 is authenticated; over IPv6 it has no data and can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By a password in clear text, padded with zeros.
    Password([u8; vrrp::AUTH_DATA]),
    /// By another type.
    Other(u8),
}

impl Authentication {
    /// The type as messages have it.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::None => vrrp::AUTH_NONE,
            Self::Password(_) => vrrp::AUTH_PASS,
            Self::Other(kind) => *kind,
        }
    }

    const fn data(&self) -> [u8; vrrp::AUTH_DATA] {
        match self {
            Self::Password(password) => *password,
            _ => [0; vrrp::AUTH_DATA],
        }
    }
}

/// What the checksum of a version 3 message over IPv4 covers; vendors and RFCs disagree.
///
/// Version 2 over IPv4 never has the pseudo header, IPv6 always has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChecksumStyle {
    /// Pseudo header and message: keepalived, FRR.
    #[default]
    PseudoHeader,
    /// The message alone: RFC 9568.
    Message,
}

/// Why bytes are no advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AdvertError {
    /// Shorter than the header.
    #[error("{found} bytes are no VRRP header")]
    Cut {
        /// Bytes there are.
        found: usize,
    },
    /// Of another version than 2 and 3.
    #[error("VRRP version {0} is neither 2 nor 3")]
    Version(u8),
    /// No advertisement.
    #[error("VRRP type {0} is not an advertisement (1)")]
    Kind(u8),
    /// Longer or shorter than its count of addresses makes it.
    #[error("a VRRP message of {found} bytes, which its {count} addresses make {expected}")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
        /// Addresses announced.
        count: u8,
    },
}

impl Advert {
    /// Reads the bytes behind the IP header; `v6` says of which. The checksum is not looked at, see
    /// [`checksum_style`].
    pub fn parse(message: &[u8], v6: bool) -> Result<Self, AdvertError> {
        let found = message.len();
        let (header, rest) =
            view::<Vrrp>(message, "vrrp").map_err(|_| AdvertError::Cut { found })?;
        if !matches!(header.version(), 2 | 3) {
            return Err(AdvertError::Version(header.version()));
        }
        if header.kind() != vrrp::ADVERTISEMENT {
            return Err(AdvertError::Kind(header.kind()));
        }
        let list = usize::from(header.count) * if v6 { 16 } else { 4 };
        let behind = if header.version() == 2 && !v6 {
            vrrp::AUTH_DATA
        } else {
            0
        };
        let expected = Vrrp::LEN as usize + list + behind;
        let length = AdvertError::Length {
            found,
            expected,
            count: header.count,
        };
        if found != expected {
            return Err(length);
        }
        let (list, data) = rest.split_at_checked(list).ok_or(length)?;
        let form = if header.version() == 3 {
            Form::V3 {
                centiseconds: header.centiseconds(),
            }
        } else {
            let authentication = match (header.authentication(), data.first_chunk()) {
                (vrrp::AUTH_NONE, _) => Authentication::None,
                (vrrp::AUTH_PASS, Some(data)) => Authentication::Password(*data),
                (kind, _) => Authentication::Other(kind),
            };
            Form::V2 {
                authentication,
                seconds: header.seconds(),
            }
        };
        Ok(Self {
            form,
            vrid: header.vrid,
            priority: header.priority,
            addresses: addresses(list, v6),
        })
    }

    /// The message, to be sent between `addresses`; their family is that of the virtual addresses.
    pub fn message(&self, addresses: &Addresses, style: ChecksumStyle) -> Vec<u8> {
        let (version, word) = match self.form {
            Form::V2 {
                authentication,
                seconds,
            } => (2, u16::from_be_bytes([authentication.kind(), seconds])),
            Form::V3 { centiseconds } => (3, centiseconds & Vrrp::CENTISECONDS),
        };
        let header = Vrrp {
            version_kind: version << 4 | vrrp::ADVERTISEMENT,
            vrid: self.vrid,
            priority: self.priority,
            count: self.addresses.len() as u8,
            word: Be16::new(word),
            checksum: Be16::new(0),
        };
        let mut bytes = header.as_bytes().to_vec();
        for address in self.addresses.iter().take(usize::from(header.count)) {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        if let (Form::V2 { authentication, .. }, Addresses::V4(..)) = (&self.form, addresses) {
            bytes.extend(authentication.data());
        }
        let plain = match addresses {
            Addresses::V4(..) => version == 2 || style == ChecksumStyle::Message,
            Addresses::V6(..) => false,
        };
        let sum = if plain {
            0
        } else {
            addresses.pseudo_header(protocol::VRRP, bytes.len())
        };
        fill(&mut bytes, sum, Vrrp::CHECKSUM);
        bytes
    }
}

/// The style in which a message's checksum is right, none if it is wrong in all that its version
/// and family allow.
pub fn checksum_style(message: &[u8], addresses: &Addresses) -> Option<ChecksumStyle> {
    let version = message.first()? >> 4;
    let right = |sum| checksum::fold(checksum::add(sum, message)) == 0xffff;
    let v4 = matches!(addresses, Addresses::V4(..));
    if (version != 2 || !v4) && right(addresses.pseudo_header(protocol::VRRP, message.len())) {
        return Some(ChecksumStyle::PseudoHeader);
    }
    (v4 && right(0)).then_some(ChecksumStyle::Message)
}

fn addresses(list: &[u8], v6: bool) -> Vec<IpAddr> {
    if v6 {
        let (chunks, _) = list.as_chunks::<16>();
        return chunks.iter().map(|b| Ipv6Addr::from(*b).into()).collect();
    }
    let (chunks, _) = list.as_chunks::<4>();
    chunks.iter().map(|b| Ipv4Addr::from(*b).into()).collect()
}

/// An advertisement in a [`Frame`].
#[derive(Debug, Clone)]
pub struct AdvertPart {
    advert: Advert,
    style: ChecksumStyle,
}

impl Segment for AdvertPart {
    fn protocol(&self, _: &Addresses) -> u8 {
        protocol::VRRP
    }

    fn bytes(&self, addresses: &Addresses, _: &[u8]) -> Vec<u8> {
        self.advert.message(addresses, self.style)
    }
}

impl Frame {
    /// Puts an advertisement behind IP, with the hop limit and the class that go with it.
    pub fn vrrp(self, advert: &Advert, style: ChecksumStyle) -> Frame<AdvertPart> {
        let part = AdvertPart {
            advert: advert.clone(),
            style,
        };
        self.carry(part).ttl(vrrp::HOP_LIMIT).tos(vrrp::TOS)
    }
}
