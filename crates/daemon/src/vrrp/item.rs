//! Something that the host has because of a configuration: a static address, a route, a rule.

use std::net::IpAddr;

use pointsman_linux::netlink::{Error, Netlink, NewRoute, NewRule};
use serde::{Deserialize, Serialize};

use super::Holding;

/// Finds the number of an interface.
pub(super) type Index<'a> = dyn Fn(&str) -> Option<u32> + 'a;

/// An address, a route or a rule, and the interfaces by name: their numbers change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// An address; its interface is named.
    Address(Holding),
    /// A route.
    Route(RouteItem),
    /// A rule.
    Rule(RuleItem),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteItem {
    /// The route, without numbers of interfaces.
    pub route: NewRoute,
    /// Its interface.
    pub device: Option<String>,
    /// The interfaces of its ways, if it has several.
    pub hop_devices: Vec<Option<String>>,
    /// True when it comes behind others of the same key.
    pub append: bool,
    /// False when it is left away if somebody removes it.
    pub tracked: bool,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleItem {
    /// The rule.
    pub rule: NewRule,
    /// False when it is left away if somebody removes it.
    pub tracked: bool,
}

/// Why something is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    /// Its interface is not there.
    #[error("no interface {0:?}")]
    Device(String),
    /// The kernel does not want it.
    #[error(transparent)]
    Refused(#[from] Error),
}

impl RouteItem {
    /// What the kernel is asked for.
    fn resolved(&self, index: &Index<'_>) -> Result<NewRoute, Missing> {
        let number = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match index(name) {
                Some(index) => Ok(Some(index)),
                None => Err(Missing::Device(name.clone())),
            },
        };
        let mut route = self.route.clone();
        route.index = number(&self.device)?;
        for (hop, name) in route.hops.iter_mut().zip(&self.hop_devices) {
            hop.index = number(name)?;
        }
        Ok(route)
    }
}

impl Item {
    /// Whether it comes back when somebody removes it.
    pub(super) fn is_tracked(&self) -> bool {
        match self {
            Self::Address(holding) => holding.tracked,
            // What goes by itself is not to come back.
            Self::Route(item) => item.tracked && item.route.expires.is_none(),
            Self::Rule(item) => item.tracked,
        }
    }

    pub(super) fn is_address(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// Whether it is a route to this network.
    pub(super) fn goes_to(&self, network: (IpAddr, u8)) -> bool {
        match self {
            Self::Route(item) => (item.route.destination, item.route.prefix) == network,
            _ => false,
        }
    }

    pub(super) fn is_rule(&self) -> bool {
        matches!(self, Self::Rule(_))
    }

    /// The interfaces that it needs.
    pub(super) fn devices(&self) -> impl Iterator<Item = &str> {
        let (one, more): (Option<&String>, &[Option<String>]) = match self {
            Self::Address(holding) => (holding.device.as_ref(), &[]),
            Self::Route(item) => (item.device.as_ref(), &item.hop_devices),
            // The kernel takes rules about interfaces that are not there.
            Self::Rule(_) => (None, &[]),
        };
        one.into_iter()
            .chain(more.iter().flatten())
            .map(String::as_str)
    }

    /// Has the host have it; false when it has it already.
    pub(super) fn add(&self, netlink: &mut Netlink, index: &Index<'_>) -> Result<bool, Missing> {
        match self {
            Self::Address(holding) => {
                let index = device(holding, index)?;
                netlink.address_add(&holding.on(index))?;
                Ok(true)
            }
            Self::Route(item) => Ok(netlink.route_insert(&item.resolved(index)?, item.append)?),
            Self::Rule(item) => Ok(netlink.rule_add(&item.rule)?),
        }
    }

    /// Takes it from the host; false when it is not there, as without its interface.
    pub(super) fn remove(&self, netlink: &mut Netlink, index: &Index<'_>) -> Result<bool, Error> {
        let removed = match self {
            Self::Address(holding) => device(holding, index).and_then(|index| {
                let Holding {
                    address,
                    peer,
                    prefix,
                    ..
                } = holding;
                Ok(netlink.address_delete_to(index, *address, *peer, *prefix)?)
            }),
            Self::Route(item) => item
                .resolved(index)
                .and_then(|route| Ok(netlink.route_delete(&route)?)),
            Self::Rule(item) => Ok(netlink.rule_delete(&item.rule)?),
        };
        match removed {
            Ok(was_there) => Ok(was_there),
            Err(Missing::Device(_)) => Ok(false),
            Err(Missing::Refused(error)) => Err(error),
        }
    }

    /// Takes it from the host when nobody has looked at its interfaces.
    pub fn take_away(&self, netlink: &mut Netlink) -> Result<bool, Error> {
        let links = netlink.links()?;
        let index = |name: &str| {
            let found = links.iter().find(|link| link.name == name);
            found.map(|link| link.index)
        };
        self.remove(netlink, &index)
    }
}

fn device(holding: &Holding, index: &Index<'_>) -> Result<u32, Missing> {
    let name = holding.device.as_deref().unwrap_or_default();
    index(name).ok_or_else(|| Missing::Device(name.to_owned()))
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(holding) => {
                let device = holding.device.as_deref().unwrap_or_default();
                write!(
                    f,
                    "address {}/{} dev {device}",
                    holding.address, holding.prefix
                )
            }
            Self::Route(item) => {
                let NewRoute {
                    destination,
                    prefix,
                    table,
                    ..
                } = item.route;
                write!(f, "route {destination}/{prefix} in table {table}")
            }
            Self::Rule(item) => {
                let family = if item.rule.ipv6 { " of IPv6" } else { "" };
                write!(f, "rule {}{family}", item.rule.preference)
            }
        }
    }
}
