//! Static addresses, routes and rules of a configuration, with the host's names for numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pointsman_config::keepalived::model::{
    Hop, Id, Instance, Route, RouteKind, Rule, RuleAction, Statics,
};
use pointsman_linux::netlink::{self, NewHop, NewRoute, NewRule};

use super::routers::holding;
use crate::vrrp::{Item, RouteItem, RuleItem};

/// `RTPROT_KEEPALIVED`.
const KEEPALIVED: u8 = 18;
/// `RTAX_LOCK`: the bits of metrics that don't change.
const LOCK: u16 = 1;
/// Where distributions and administrators have files of names.
const FOLDERS: [&str; 2] = ["/usr/share/iproute2", "/etc/iproute2"];

/// Names that the host has for numbers: those of tables, of who makes routes, and so on.
pub(super) struct Names {
    files: BTreeMap<&'static str, BTreeMap<String, u32>>,
}

impl Names {
    /// Reads the files that iproute2 reads.
    pub(super) fn read() -> Self {
        let files = ["rt_tables", "rt_protos", "rt_dsfield", "rt_realms", "group"];
        let files = files.map(|name| (name, names(name)));
        Self {
            files: files.into(),
        }
    }

    /// Static things in the order in which they come.
    pub(super) fn statics(&self, statics: &Statics, faults: &mut Vec<String>) -> Vec<Item> {
        let mut items = Vec::new();
        for address in &statics.addresses {
            match holding(address) {
                Ok(holding) => items.push(Item::Address(holding)),
                Err(problem) => {
                    faults.push(format!("static_ipaddress: {}: {problem}", address.address))
                }
            }
        }
        let routes = statics.routes.iter();
        let routes = routes.map(|route| (route.name(), self.route(route)));
        let rules = statics.rules.iter();
        let rules = rules.map(|rule| (format!("rule {}", rule.preference), self.rule(rule)));
        items.extend(sound("static", routes.chain(rules), faults));
        items
    }

    /// Routes and rules of a virtual router, in the order in which they come.
    pub(super) fn items(&self, instance: &Instance, faults: &mut Vec<String>) -> Vec<Item> {
        let routes = instance.routes.iter();
        let routes = routes.map(|route| (route.name(), self.route(route)));
        let rules = instance.rules.iter();
        let rules = rules.map(|rule| (format!("rule {}", rule.preference), self.rule(rule)));
        let whose = format!("vrrp_instance {}", instance.name);
        sound(&whose, routes.chain(rules), faults)
    }

    fn route(&self, route: &Route) -> Result<Item, String> {
        let (destination, prefix) = route.destination;
        let mut metrics = Vec::new();
        if route.locked != 0 {
            metrics.push((LOCK, route.locked));
        }
        metrics.extend(route.metrics.iter().map(|one| (one.kind, one.value)));
        let hops: Result<Vec<NewHop>, String> =
            route.hops.iter().map(|hop| self.hop(hop)).collect();
        let protocol = match &route.protocol {
            Some(protocol) => self.small("rt_protos", protocol)?,
            None => KEEPALIVED,
        };
        Ok(Item::Route(RouteItem {
            route: NewRoute {
                destination,
                prefix,
                kind: kind(route.kind),
                gateway: route.gateway,
                on_link: route.on_link,
                index: None,
                source: route.source,
                table: self.number("rt_tables", &route.table)?,
                metric: route.metric,
                scope: Some(route.scope),
                protocol,
                tos: self.small("rt_dsfield", &route.tos)?,
                metrics,
                congestion: route.congestion.clone(),
                from: route.from,
                hops: hops?,
                realms: self.realms(route.realms.as_ref())?,
                expires: route.expires,
                preference: route.preference,
            },
            device: route.device.clone(),
            hop_devices: route.hops.iter().map(|hop| hop.device.clone()).collect(),
            append: route.append,
            tracked: route.tracking.tracked,
        }))
    }

    fn hop(&self, hop: &Hop) -> Result<NewHop, String> {
        Ok(NewHop {
            gateway: hop.gateway,
            index: None,
            weight: hop.weight,
            on_link: hop.on_link,
            realms: self.realms(hop.realms.as_ref())?,
        })
    }

    fn rule(&self, rule: &Rule) -> Result<Item, String> {
        let action = match &rule.action {
            RuleAction::Table(table) => {
                netlink::RuleAction::Table(self.number("rt_tables", table)?)
            }
            RuleAction::Vrf => netlink::RuleAction::Vrf,
            RuleAction::Goto(preference) => netlink::RuleAction::Goto(*preference),
            RuleAction::Nothing => netlink::RuleAction::Nothing,
            RuleAction::Blackhole => netlink::RuleAction::Blackhole,
            RuleAction::Unreachable => netlink::RuleAction::Unreachable,
            RuleAction::Prohibit => netlink::RuleAction::Prohibit,
        };
        let group = rule.suppress_group.as_ref();
        let group = group.map(|group| self.number("group", group)).transpose()?;
        Ok(Item::Rule(RuleItem {
            rule: NewRule {
                ipv6: rule.ipv6,
                preference: rule.preference,
                action,
                from: rule.from,
                to: rule.to,
                not: rule.not,
                tos: self.small("rt_dsfield", &rule.tos)?,
                mark: rule.mark,
                incoming: rule.incoming.clone(),
                outgoing: rule.outgoing.clone(),
                realms: self.realms(rule.realms.as_ref())?,
                suppress_prefix: rule.suppress_prefix,
                suppress_group: group,
                tunnel: rule.tunnel,
                users: rule.users,
                protocol: rule.protocol,
                source_ports: rule.source_ports,
                destination_ports: rule.destination_ports,
                made_by: rule.made_by.unwrap_or(0),
            },
            tracked: rule.tracking.tracked,
        }))
    }

    fn realms(&self, realms: Option<&(Id, Id)>) -> Result<Option<u32>, String> {
        let Some((from, to)) = realms else {
            return Ok(None);
        };
        let from = self.number("rt_realms", from)?;
        Ok(Some(from << 16 | self.number("rt_realms", to)?))
    }

    fn number(&self, file: &str, id: &Id) -> Result<u32, String> {
        match id {
            Id::Number(number) => Ok(*number),
            Id::Name(name) => self
                .files
                .get(file)
                .and_then(|names| names.get(name))
                .copied()
                .ok_or_else(|| format!("{name} is not in /etc/iproute2/{file}; name the number")),
        }
    }

    fn small(&self, file: &str, id: &Id) -> Result<u8, String> {
        let number = self.number(file, id)?;
        u8::try_from(number).map_err(|_| format!("{number} is more than 255"))
    }
}

/// Those that can be; what is wrong with others is told.
fn sound(
    whose: &str,
    items: impl Iterator<Item = (String, Result<Item, String>)>,
    faults: &mut Vec<String>,
) -> Vec<Item> {
    let mut sound = Vec::new();
    for (name, item) in items {
        match item {
            Ok(item) => sound.push(item),
            Err(problem) => faults.push(format!("{whose}: {name}: {problem}")),
        }
    }
    sound
}

/// The names of a file, of its folder `FILE.d` too; later ones replace earlier ones.
fn names(file: &str) -> BTreeMap<String, u32> {
    let mut names = BTreeMap::new();
    for folder in FOLDERS {
        let folder = Path::new(folder);
        take(&folder.join(file), &mut names);
        let more = fs::read_dir(folder.join(format!("{file}.d")));
        let mut more: Vec<_> = more
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        more.sort();
        more.retain(|path| path.extension().is_some_and(|end| end == "conf"));
        for path in more {
            take(&path, &mut names);
        }
    }
    names
}

/// Lines of `NUMBER NAME`.
fn take(path: &Path, names: &mut BTreeMap<String, u32>) {
    let text = fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let (Some(number), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let number = match number.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        if let Ok(number) = number {
            names.insert(name.to_owned(), number);
        }
    }
}

/// `RTN_*`.
fn kind(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        RouteKind::Anycast => 4,
        RouteKind::Multicast => 5,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => 9,
    }
}
