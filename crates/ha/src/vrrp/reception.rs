//! What a received advertisement has to be before it counts.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_wire::advert::{
    Advert, AdvertError, Authentication, ChecksumStyle, Form, checksum_style,
};
use pointsman_wire::build::Addresses;
use pointsman_wire::vrrp;
use thiserror::Error;

use super::config::{AddressCheck, OldChecksum, Peers, RouterConfig, Version};
use super::output::Datagram;

/// Why an advertisement does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// It is no advertisement.
    #[error("{0}")]
    Malformed(#[from] AdvertError),
    /// It came through a router, or from somewhere else altogether.
    #[error("hop limit {found} instead of {least}..={most}")]
    HopLimit {
        /// As received.
        found: u8,
        /// The smallest allowed.
        least: u8,
        /// The largest allowed.
        most: u8,
    },
    /// It is of the other version; there is no mixed operation.
    #[error("VRRP version {found} instead of {own}: configure the same version on all routers")]
    Version {
        /// As received.
        found: u8,
        /// Our own.
        own: u8,
    },
    /// It is authenticated in another way.
    #[error("authentication type {found} instead of {own}")]
    AuthenticationType {
        /// As received.
        found: u8,
        /// Our own.
        own: u8,
    },
    /// It has another password.
    #[error("another password than ours")]
    Password,
    /// Version 2: its sender has another interval, and both would be master in turns.
    #[error("interval of {found} s instead of {own} s: configure the same on all routers")]
    Interval {
        /// As received, seconds.
        found: u8,
        /// Our own, seconds.
        own: u8,
    },
    /// Its interval is zero, so that its silence could not be told.
    #[error("an interval of 0")]
    NoInterval,
    /// Its checksum is wrong in every style.
    #[error("a wrong checksum")]
    Checksum,
    /// It came to a group while we have unicast peers, or the other way round.
    #[error("sent to {found}, which is not how this virtual router talks")]
    Destination {
        /// Where it was sent to.
        found: IpAddr,
    },
    /// It is for other addresses.
    #[error("{found} virtual addresses instead of {own}")]
    AddressCount {
        /// As received.
        found: usize,
        /// Our own.
        own: usize,
    },
    /// It lacks one of ours.
    #[error("virtual address {missing} is not in it")]
    Addresses {
        /// What it lacks.
        missing: IpAddr,
    },
    /// Its sender is no configured peer.
    #[error("{source_address} is not a configured peer")]
    Peer {
        /// The sender.
        source_address: IpAddr,
    },
    /// It came from our own address: a loop, or a second host with it.
    #[error(
        "sent from our own address {source_address}: a loop in the network, or two hosts with it"
    )]
    OwnAddress {
        /// The sender.
        source_address: IpAddr,
    },
}

impl Rejection {
    /// A name for counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(AdvertError::Kind(_)) => "type",
            Self::Malformed(AdvertError::Version(_)) | Self::Version { .. } => "version",
            Self::Malformed(_) => "length",
            Self::HopLimit { .. } => "hop-limit",
            Self::AuthenticationType { .. } => "authentication-type",
            Self::Password => "password",
            Self::Interval { .. } | Self::NoInterval => "interval",
            Self::Checksum => "checksum",
            Self::Destination { .. } => "destination",
            Self::AddressCount { .. } | Self::Addresses { .. } => "addresses",
            Self::Peer { .. } => "peer",
            Self::OwnAddress { .. } => "own-address",
        }
    }
}

/// An advertisement that counts.
pub(super) struct Received {
    pub(super) advert: Advert,
    /// Which checksum style the sender uses.
    pub(super) style: ChecksumStyle,
    /// True when its checksum is about the group, though it came to us alone.
    pub(super) old: bool,
    /// Why its addresses would not do, where that is only counted.
    pub(super) other_addresses: Option<Rejection>,
}

/// Checks what came for the virtual router `config` on an interface with the address `own`; `master` is
/// the master it knows.
pub(super) fn check(
    config: &RouterConfig,
    own: IpAddr,
    master: Option<IpAddr>,
    datagram: &Datagram,
) -> Result<Received, Rejection> {
    let source_address = datagram.source;
    if source_address == own {
        return Err(Rejection::OwnAddress { source_address });
    }
    hop_limit_and_peer(config, datagram)?;
    let advert = Advert::parse(&datagram.message, config.is_ipv6())?;
    let (found, own) = (advert.form.version(), config.version.number());
    if found != own {
        return Err(Rejection::Version { found, own });
    }
    match advert.form {
        Form::V2 {
            authentication,
            seconds,
        } => {
            check_authentication(config, authentication)?;
            let own = config.seconds();
            if seconds != own {
                return Err(Rejection::Interval {
                    found: seconds,
                    own,
                });
            }
        }
        // keepalived takes it, and is master and backup in turns from then on.
        Form::V3 { centiseconds: 0 } => return Err(Rejection::NoInterval),
        Form::V3 { .. } => {}
    }
    let style = match (datagram.source, datagram.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            checksum_style(&datagram.message, &Addresses::V4(source, destination))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            checksum_style(&datagram.message, &Addresses::V6(source, destination))
        }
        _ => None,
    };
    let old = style.is_none() && has_old_checksum(config, datagram);
    let style = match style {
        None if old => ChecksumStyle::PseudoHeader,
        style => style.ok_or(Rejection::Checksum)?,
    };
    let trusted =
        config.address_check == AddressCheck::TrustMaster && master == Some(source_address);
    let mut other_addresses = None;
    if !trusted && let Err(rejection) = check_addresses(config, &advert) {
        if config.address_check != AddressCheck::Count {
            return Err(rejection);
        }
        other_addresses = Some(rejection);
    }
    Ok(Received {
        advert,
        style,
        old,
        other_addresses,
    })
}

/// Whether the checksum is what keepalived up to 1.3.6 would have sent to a peer.
fn has_old_checksum(config: &RouterConfig, datagram: &Datagram) -> bool {
    let (IpAddr::V4(source), Peers::Unicast { .. }, Version::V3) =
        (datagram.source, &config.peers, config.version)
    else {
        return false;
    };
    let between = Addresses::V4(source, Ipv4Addr::from(vrrp::GROUP_V4));
    config.old_checksum != OldChecksum::Never
        && checksum_style(&datagram.message, &between) == Some(ChecksumStyle::PseudoHeader)
}

fn hop_limit_and_peer(config: &RouterConfig, datagram: &Datagram) -> Result<(), Rejection> {
    let found = datagram.destination;
    let hop_limits = match &config.peers {
        Peers::Multicast(_) if !found.is_multicast() => {
            return Err(Rejection::Destination { found });
        }
        Peers::Unicast { .. } if found.is_multicast() => {
            return Err(Rejection::Destination { found });
        }
        Peers::Multicast(_) => vrrp::HOP_LIMIT..=vrrp::HOP_LIMIT,
        Peers::Unicast {
            peers, only_peers, ..
        } => {
            let source_address = datagram.source;
            match peers.iter().find(|peer| peer.address == source_address) {
                Some(peer) => peer.hop_limits.clone(),
                None if *only_peers => return Err(Rejection::Peer { source_address }),
                None => 0..=u8::MAX,
            }
        }
    };
    if hop_limits.contains(&datagram.hop_limit) {
        return Ok(());
    }
    Err(Rejection::HopLimit {
        found: datagram.hop_limit,
        least: *hop_limits.start(),
        most: *hop_limits.end(),
    })
}

fn check_authentication(
    config: &RouterConfig,
    authentication: Authentication,
) -> Result<(), Rejection> {
    let own = expected_authentication(config);
    match (authentication, own) {
        (found, own) if found == own => Ok(()),
        (Authentication::Password(_), Authentication::Password(_)) => Err(Rejection::Password),
        (found, own) => Err(Rejection::AuthenticationType {
            found: found.kind(),
            own: own.kind(),
        }),
    }
}

/// How this router authenticates what it sends.
pub(super) fn expected_authentication(config: &RouterConfig) -> Authentication {
    match config.password {
        Some(password) if config.version == Version::V2 => Authentication::Password(password),
        _ => Authentication::None,
    }
}

fn check_addresses(config: &RouterConfig, advert: &Advert) -> Result<(), Rejection> {
    let (found, own) = (advert.addresses.len(), config.addresses.len());
    if found != own {
        return Err(Rejection::AddressCount { found, own });
    }
    let missing = |address: &&IpAddr| !advert.addresses.contains(address);
    match config.addresses.iter().find(missing) {
        Some(missing) => Err(Rejection::Addresses { missing: *missing }),
        None => Ok(()),
    }
}
