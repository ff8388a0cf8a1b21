//! Which way kernels say that they send the service's packets.

use std::net::IpAddr;

use super::{Observed, Witness, witnessed};
use crate::bundle::Bundle;
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};
use crate::snapshot::Origin;

/// A way that a kernel is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteWish {
    /// The node.
    pub node: String,
    /// Where to.
    pub to: IpAddr,
    /// From which of the node's addresses, if that matters.
    pub from: Option<IpAddr>,
}

/// What a kernel said of a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTold {
    /// What was asked.
    pub asked: RouteWish,
    /// `blackhole`, `unreachable`, `prohibit` or `no route` for a dead end; nothing for a way.
    pub dead_end: Option<String>,
    /// The router, if there is one.
    pub via: Option<IpAddr>,
    /// The device.
    pub device: Option<String>,
}

impl RouteTold {
    fn words(&self) -> String {
        let device = self.device.as_deref().unwrap_or("no device");
        match (&self.dead_end, self.via) {
            (Some(kind), _) => kind.clone(),
            (None, Some(via)) => format!("via {via} on {device}"),
            (None, None) => format!("on {device}"),
        }
    }

    fn command(&self) -> String {
        let from = self.asked.from;
        let from = from.map_or_else(String::new, |from| format!(" from {from}"));
        format!("ip route get {}{from}", self.asked.to)
    }
}

/// The ways that matter for a service: from every local node to it, and from those that have its address
/// back to the client, by that address and by any.
pub(super) fn wishes(bundle: &Bundle, vip: IpAddr, client: Option<IpAddr>) -> Vec<RouteWish> {
    let mut wishes = Vec::new();
    for node in &bundle.nodes {
        if matches!(node.origin, Origin::Host(_)) {
            continue;
        }
        let mut wish = |to, from| {
            wishes.push(RouteWish {
                node: node.node.clone(),
                to,
                from,
            });
        };
        let has = |address| node.owner_of(address).is_some();
        if !has(vip) {
            wish(vip, None);
        }
        if let Some(client) = client.filter(|client| has(vip) && !has(*client)) {
            wish(client, Some(vip));
            wish(client, None);
        }
    }
    wishes
}

/// A kernel confirms what the finding says of its routes.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let told = |to: IpAddr, from: Option<IpAddr>| {
        observed.routes.iter().find(|told| {
            told.asked.node == finding.node && told.asked.to == to && told.asked.from == from
        })
    };
    let vip = observed.service.ip();
    let (told, fact) = match finding.code {
        Code::NotRouted => {
            let way = told(vip, None).filter(|told| told.dead_end.is_some())?;
            (way, format!("its way to {vip}: {}", way.words()))
        }
        Code::PolicyRoute => {
            let client = observed.client?;
            let (bound, free) = (told(client, Some(vip))?, told(client, None)?);
            let differs = (&bound.dead_end, bound.via, &bound.device)
                != (&free.dead_end, free.via, &free.device);
            if !differs {
                return None;
            }
            let fact = format!(
                "its way to {client} from {vip}: {}, and from other addresses: {}",
                bound.words(),
                free.words()
            );
            (bound, fact)
        }
        _ => return None,
    };
    let fact = format!("the kernel of {} tells {fact}", finding.node);
    Some(witnessed(Witness::Route, fact, told.command()))
}
