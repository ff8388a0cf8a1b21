//! A line of `static_routes` or `virtual_routes`.

use super::super::document::{Statement, Word};
use super::super::model::{
    Hop, Id, MADE_BY_KEEPALIVED, MAIN_TABLE, Metric, Places, Route, RouteKind, Tracking,
};
use super::super::reader::Reader;
use super::host_words::{Family, Refusal, Words, settle_tracking, track_group};

/// `RTAX_*` by keyword, and whether `lock` may follow.
const METRICS: [(&str, u16, bool); 10] = [
    ("mtu", 2, true),
    ("window", 3, false),
    ("ssthresh", 6, true),
    ("cwnd", 7, true),
    ("advmss", 8, true),
    ("reordering", 9, true),
    ("hoplimit", 10, false),
    ("initcwnd", 11, false),
    ("initrwnd", 14, false),
    ("quickack", 15, false),
];
const FASTOPEN: u16 = 17;
const FEATURES: u16 = 12;
/// Bit of `features`: explicit congestion notification.
const ECN: u32 = 1;
const CONGESTION: u16 = 16;
/// Times: keyword, number, parts of a millisecond in which the kernel counts.
const TIMES: [(&str, u16, u32); 3] = [("rtt", 4, 8), ("rttvar", 5, 4), ("rto_min", 13, 1)];
/// Shorter round trips can't be told to the kernel, milliseconds.
const SHORTEST: f64 = 200.0;

/// Tables that have a name everywhere.
pub(super) const TABLES: [(&str, u32); 3] = [("default", 253), ("main", 254), ("local", 255)];
/// Who makes routes, by names that are known everywhere.
const PROTOCOLS: [(&str, u32); 17] = [
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("gated", 8),
    ("ra", 9),
    ("mrt", 10),
    ("zebra", 11),
    ("bird", 12),
    ("dnrouted", 13),
    ("xorp", 14),
    ("ntk", 15),
    ("dhcp", 16),
    ("keepalived", 18),
    ("babel", 42),
    ("bgp", 186),
    ("ospf", 188),
];

/// A route while its words are read.
struct Draft {
    route: Route,
    family: Family,
    destination: Option<Option<(std::net::IpAddr, u8)>>,
}

/// Reads a route; `groups` are the track groups that a static one may name.
pub(super) fn read(
    reader: &mut Reader<'_>,
    statement: &Statement,
    groups: Option<&[String]>,
) -> Option<Route> {
    let words = Words::new(statement);
    match draft(reader, words, groups).and_then(|draft| draft.finish(reader)) {
        Ok(route) => Some(route),
        Err(refusal) => {
            refusal.report(reader);
            None
        }
    }
}

fn draft(
    reader: &mut Reader<'_>,
    mut words: Words<'_>,
    groups: Option<&[String]>,
) -> Result<Draft, Refusal> {
    let place = words.peek().map(|word| word.place).unwrap_or_default();
    let mut draft = Draft {
        route: Route {
            places: Places::new(place),
            kind: RouteKind::Unicast,
            destination: Family::default().everybody(),
            from: None,
            gateway: None,
            device: None,
            source: None,
            on_link: false,
            table: MAIN_TABLE,
            metric: None,
            scope: 0,
            protocol: None,
            tos: Id::Number(0),
            metrics: Vec::new(),
            locked: 0,
            congestion: None,
            realms: None,
            expires: None,
            preference: None,
            hops: Vec::new(),
            append: false,
            tracking: Tracking::default(),
        },
        family: Family::default(),
        destination: None,
    };
    while let Some(word) = words.next() {
        if word.text == "nexthop" {
            draft.hops(word, &mut words)?;
            continue;
        }
        if let ("track_group", Some(groups)) = (word.text.as_str(), groups) {
            let name = words.value(word)?;
            track_group(reader, name, groups, &mut draft.route.tracking);
            continue;
        }
        let taken = draft.way(reader, word, &mut words)?
            || draft.property(word, &mut words)?
            || draft.identity(reader, word, &mut words)?;
        if !taken {
            draft.to(reader, word, &mut words)?;
        }
    }
    Ok(draft)
}

impl Draft {
    /// Where packets go.
    fn way(
        &mut self,
        reader: &mut Reader<'_>,
        word: &Word,
        words: &mut Words<'_>,
    ) -> Result<bool, Refusal> {
        let route = &mut self.route;
        match word.text.as_str() {
            "inet" => self.family.note(word, false)?,
            "inet6" => self.family.note(word, true)?,
            "via" | "gw" => {
                if word.text == "gw" {
                    let text = "`gw` is an old word for `via`".to_owned();
                    reader.warning(word.place, text);
                }
                let (address, said) = via(word, words)?;
                if said.is_some_and(|ipv6| ipv6 != address.is_ipv6()) {
                    let text = format!("`{address}` is of another family");
                    return Err(Refusal::wrong(word, text));
                }
                self.family.note(word, address.is_ipv6())?;
                route.gateway = Some(address);
            }
            "or" => {
                let text = "`or` is an old word for `nexthop`".to_owned();
                reader.warning(word.place, text);
                let address = words.address(word)?;
                self.family.note(word, address.is_ipv6())?;
                if !route.hops.is_empty() {
                    let text = "a second `or` does not count".to_owned();
                    reader.error(word.place, text);
                    return Ok(true);
                }
                for gateway in [route.gateway.take(), Some(address)] {
                    route.hops.push(Hop {
                        gateway,
                        device: None,
                        weight: 1,
                        on_link: false,
                        realms: None,
                    });
                }
            }
            "dev" | "oif" => route.device = Some(words.value(word)?.text.clone()),
            "onlink" => route.on_link = true,
            "src" => {
                let address = words.address(word)?;
                self.family.note(word, address.is_ipv6())?;
                route.source = Some(address);
            }
            "from" => {
                let value = words.value(word)?;
                route.from = self.family.network(reader, value)?;
                if self.family.known() == Some(false) {
                    let text = "`from`: only routes of IPv6 are for certain sources".to_owned();
                    return Err(Refusal::wrong(word, text));
                }
            }
            "encap" => return Err(Refusal::unsupported(word, "packets are not wrapped")),
            "as" | "ttl-propagate" => {
                return Err(Refusal::unsupported(word, "MPLS is not done"));
            }
            "vrf" => {
                let why = "VRFs are not looked up; name its table by `table`";
                return Err(Refusal::unsupported(word, why));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What connections on it are like.
    fn property(&mut self, word: &Word, words: &mut Words<'_>) -> Result<bool, Refusal> {
        let route = &mut self.route;
        let keyword = word.text.as_str();
        let locked = |words: &mut Words<'_>| {
            let locked = words.peek().is_some_and(|next| next.text == "lock");
            if locked {
                words.next();
            }
            locked
        };
        if let Some((_, kind, may_lock)) = METRICS.iter().find(|(name, ..)| *name == keyword) {
            if *may_lock && locked(words) {
                route.locked |= 1 << kind;
            }
            let most = match keyword {
                "hoplimit" => 255,
                "quickack" => 1,
                _ => u32::MAX,
            };
            let value = words.decimal(word, most)?;
            set(&mut route.metrics, *kind, value);
            return Ok(true);
        }
        if let Some((_, kind, parts)) = TIMES.iter().find(|(name, ..)| *name == keyword) {
            if locked(words) {
                route.locked |= 1 << kind;
            }
            let value = words.value(word)?;
            let Some(milliseconds) = milliseconds(&value.text) else {
                let text = format!("`{keyword} {}`: a time such as 300ms or 2s", value.text);
                return Err(Refusal::wrong(value, text));
            };
            let value = milliseconds.max(SHORTEST) * f64::from(*parts);
            set(&mut route.metrics, *kind, value as u32);
            return Ok(true);
        }
        match keyword {
            "fastopen_no_cookie" => {
                let value = words.decimal(word, 1)?;
                set(&mut route.metrics, FASTOPEN, value);
            }
            "features" => {
                let value = words.value(word)?;
                if value.text != "ecn" {
                    let text = format!("`features {}`: there is only ecn", value.text);
                    return Err(Refusal::wrong(value, text));
                }
                set(&mut route.metrics, FEATURES, ECN);
            }
            "congctl" => {
                if locked(words) {
                    route.locked |= 1 << CONGESTION;
                }
                route.congestion = Some(words.value(word)?.text.clone());
            }
            "expires" => {
                self.family.note(word, true)?;
                self.route.expires = Some(words.decimal(word, u32::MAX)?);
            }
            "pref" => {
                self.family.note(word, true)?;
                let value = words.value(word)?;
                self.route.preference = Some(match value.text.as_str() {
                    "medium" => 0,
                    "high" => 1,
                    "low" => 3,
                    text => text.parse().map_err(|_| {
                        let text = format!("`pref {text}`: it is low, medium or high");
                        Refusal::wrong(value, text)
                    })?,
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Which route it is among others.
    fn identity(
        &mut self,
        reader: &mut Reader<'_>,
        word: &Word,
        words: &mut Words<'_>,
    ) -> Result<bool, Refusal> {
        let route = &mut self.route;
        match word.text.as_str() {
            "table" => {
                // 0 is none, which is the main one.
                route.table = match words.id(word, u32::MAX, &TABLES)? {
                    Id::Number(0) => MAIN_TABLE,
                    id => id,
                };
            }
            "metric" | "priority" | "preference" => {
                route.metric = Some(words.decimal(word, u32::MAX)?);
            }
            "scope" => route.scope = words.scope(word)?,
            "protocol" => {
                route.protocol = Some(words.id(word, 255, &PROTOCOLS)?);
            }
            "tos" | "dsfield" => route.tos = words.id(word, 255, &[])?,
            "realms" => {
                self.family.note(word, false)?;
                self.route.realms = Some(words.realms(word)?);
            }
            "append" => route.append = true,
            // That is how it is done anyway.
            "add" | "prepend" => {}
            "no_track" => route.tracking.tracked = false,
            "track_group" => {
                let text = "`track_group` is for static routes".to_owned();
                reader.error(word.place, text);
                words.next();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `[to] [KIND] NETWORK`.
    fn to(
        &mut self,
        reader: &mut Reader<'_>,
        word: &Word,
        words: &mut Words<'_>,
    ) -> Result<(), Refusal> {
        let mut word = word;
        if word.text == "to" {
            word = words.value(word)?;
        } else if let "nat" | "xresolve" = word.text.as_str() {
            return Err(Refusal::unsupported(word, "the kernel has no such routes"));
        } else if let Some((_, kind)) = RouteKind::ALL.iter().find(|(name, _)| *name == word.text) {
            self.route.kind = *kind;
            word = words.value(word)?;
        }
        self.destination = Some(self.family.network(reader, word)?);
        Ok(())
    }

    /// `nexthop [via ADDRESS] [dev IF] [weight N] [onlink] [realms R]`, once or more; nothing else follows.
    fn hops(&mut self, word: &Word, words: &mut Words<'_>) -> Result<(), Refusal> {
        if !self.route.hops.is_empty() {
            let text = "`nexthop` and `or` in one route".to_owned();
            return Err(Refusal::wrong(word, text));
        }
        let mut hop = None::<Hop>;
        let mut next = Some(word);
        while let Some(word) = next {
            if word.text == "nexthop" {
                self.route.hops.extend(hop.replace(Hop {
                    gateway: None,
                    device: None,
                    weight: 1,
                    on_link: false,
                    realms: None,
                }));
            } else if let Some(hop) = &mut hop {
                self.hop(hop, word, words)?;
            }
            next = words.next();
        }
        self.route.hops.extend(hop);
        Ok(())
    }

    fn hop(&mut self, hop: &mut Hop, word: &Word, words: &mut Words<'_>) -> Result<(), Refusal> {
        match word.text.as_str() {
            "via" => {
                let (address, _) = via(word, words)?;
                self.family.note(word, address.is_ipv6())?;
                hop.gateway = Some(address);
            }
            "dev" | "oif" => hop.device = Some(words.value(word)?.text.clone()),
            "weight" => {
                let weight = words.decimal(word, 256)?;
                hop.weight = u16::try_from(weight).unwrap_or_default();
                if weight == 0 {
                    let text = "`weight 0`: it is 1 to 256".to_owned();
                    return Err(Refusal::wrong(word, text));
                }
            }
            "onlink" => hop.on_link = true,
            "realms" => {
                self.family.note(word, false)?;
                hop.realms = Some(words.realms(word)?);
            }
            "encap" => return Err(Refusal::unsupported(word, "packets are not wrapped")),
            "as" => return Err(Refusal::unsupported(word, "MPLS is not done")),
            other => {
                let text = format!("`{other}`: nothing that is said of a nexthop");
                return Err(Refusal::wrong(word, text));
            }
        }
        Ok(())
    }

    fn finish(mut self, reader: &mut Reader<'_>) -> Result<Route, Refusal> {
        let place = self.route.places.begin();
        let Some(destination) = self.destination else {
            let text = "a route without a destination; `default` is everywhere".to_owned();
            return Err(Refusal::Wrong((place, text)));
        };
        self.route.destination = destination.unwrap_or_else(|| self.family.everybody());
        let route = &mut self.route;
        if route.tracking.tracked {
            if route
                .protocol
                .as_ref()
                .is_some_and(|protocol| *protocol != MADE_BY_KEEPALIVED)
            {
                let text = "`protocol` is keepalived's with a route that is tracked; add `no_track`, or leave it out";
                reader.warning(place, text.to_owned());
            }
            route.protocol = Some(MADE_BY_KEEPALIVED);
        }
        settle_tracking(reader, place, route.device.is_some(), &mut route.tracking);
        Ok(self.route)
    }
}

/// `via [inet|inet6] ADDRESS`: the address, and the family that was named.
fn via(word: &Word, words: &mut Words<'_>) -> Result<(std::net::IpAddr, Option<bool>), Refusal> {
    let said = match words.peek().map(|next| next.text.as_str()) {
        Some("inet") => Some(false),
        Some("inet6") => Some(true),
        _ => None,
    };
    if said.is_some() {
        words.next();
    }
    Ok((words.address(word)?, said))
}

fn set(metrics: &mut Vec<Metric>, kind: u16, value: u32) {
    metrics.retain(|metric| metric.kind != kind);
    metrics.push(Metric { kind, value });
}

/// A time such as `300ms`, `2s` or `1.5s`; without a unit it is in milliseconds.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => match text.strip_suffix('s') {
            Some(number) => (number, 1000.0),
            None => (text, 1.0),
        },
    };
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let milliseconds = number * factor;
    (milliseconds < f64::from(u32::MAX / 8)).then_some(milliseconds)
}
