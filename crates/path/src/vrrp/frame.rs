//! Advertisements in frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::advert::{AdvertError, ChecksumStyle, checksum_style};
use pointsman_wire::build::Addresses;
use pointsman_wire::{Advert, Mac, ethernet, protocol};

use crate::observation::Observation;

/// An advertisement as it was seen at one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertFrame {
    /// The frame's source.
    pub mac: Mac,
    /// Its sender.
    pub source: IpAddr,
    /// A group, or a peer.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Virtual router id.
    pub vrid: u8,
    /// What it says; the error says why that is nothing.
    pub advert: Result<Advert, AdvertError>,
    /// How its checksum is right; none if it is wrong in every way.
    pub style: Option<ChecksumStyle>,
}

/// The type of what is in a frame, and where that begins; VLAN tags are passed.
fn payload(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    loop {
        let bytes: [u8; 2] = frame.get(at..at + 2)?.try_into().ok()?;
        match u16::from_be_bytes(bytes) {
            ethernet::VLAN | ethernet::QINQ if at < 20 => at += 4,
            kind => return Some((kind, at + 2)),
        }
    }
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let bytes: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(bytes.into())
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes).into())
}

/// Whether a frame tells of virtual routers: VRRP, ARP, neighbor discovery.
pub fn is_about_routers(frame: &[u8]) -> bool {
    match payload(frame) {
        Some((ethernet::ARP, _)) => true,
        Some((ethernet::IPV4, at)) => frame.get(at + 9) == Some(&protocol::VRRP),
        Some((ethernet::IPV6, at)) => match frame.get(at + 6) {
            Some(&protocol::VRRP) => true,
            Some(58) => matches!(frame.get(at + 40), Some(135 | 136)),
            _ => false,
        },
        _ => false,
    }
}

/// An ARP message: whether it is a request, its sender, and whom it asks for.
pub(super) fn arp(frame: &[u8]) -> Option<(bool, IpAddr, IpAddr)> {
    let (ethernet::ARP, at) = payload(frame)? else {
        return None;
    };
    let request = length(frame, at + 6)? == 1;
    Some((
        request,
        v4(frame, at + 14)?.into(),
        v4(frame, at + 24)?.into(),
    ))
}

impl AdvertFrame {
    /// Reads it of a frame, if there is one in it.
    pub fn read(seen: &Observation) -> Option<Self> {
        let frame = &seen.bytes;
        let (kind, at) = payload(frame)?;
        let (source, destination, hop_limit, message): (IpAddr, IpAddr, u8, &[u8]) = match kind {
            ethernet::IPV4 if frame.get(at + 9) == Some(&protocol::VRRP) => {
                let header = usize::from(frame.get(at)? & 0xf) * 4;
                let end = at + length(frame, at + 2)?;
                (
                    v4(frame, at + 12)?.into(),
                    v4(frame, at + 16)?.into(),
                    *frame.get(at + 8)?,
                    frame.get(at + header..end)?,
                )
            }
            ethernet::IPV6 if frame.get(at + 6) == Some(&protocol::VRRP) => {
                let end = at + 40 + length(frame, at + 4)?;
                (
                    v6(frame, at + 8)?.into(),
                    v6(frame, at + 24)?.into(),
                    *frame.get(at + 7)?,
                    frame.get(at + 40..end)?,
                )
            }
            _ => return None,
        };
        let between = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6(source, destination),
            _ => return None,
        };
        Some(Self {
            mac: Mac(frame.get(6..12)?.try_into().ok()?),
            source,
            destination,
            hop_limit,
            vrid: *message.get(1)?,
            advert: Advert::parse(message, source.is_ipv6()),
            // A sender's card may complete it behind the capture.
            style: match checksum_style(message, &between) {
                None if seen.checksum_pending => Some(ChecksumStyle::PseudoHeader),
                style => style,
            },
        })
    }
}
