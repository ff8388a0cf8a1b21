//! `virtual_server`.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_director::model::{ForwardingMethod, Protocol, SchedulerFlags};

use super::super::document::Word;
use super::super::keywords::Block;
use super::super::model::{
    Check, Checker, Configuration, Members, Method, Places, Server, Service, Sorry, Target,
};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::{Opened, checker, mail, method, settling, small};
use crate::ipvsadm::number::inet_aton;

/// Seconds of a bare `persistence_timeout`.
const PERSISTENCE: u32 = crate::ipvsadm::DEFAULT_PERSISTENCE;

/// What real servers and checkers take from what they are in.
#[derive(Debug, Clone, Default)]
pub(super) struct Inherited {
    pub(super) delay_loop: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) retry: Option<u32>,
    pub(super) delay_before_retry: Option<Duration>,
    pub(super) warmup: Option<Duration>,
    pub(super) alpha: bool,
    pub(super) virtualhost: Option<String>,
    pub(super) log_all_failures: bool,
}

impl Inherited {
    /// Takes a keyword that checks inherit.
    fn read(&mut self, entry: &Entry<'_>) {
        match (entry.keyword.name, entry.value) {
            ("delay_loop", Value::Time(time)) => self.delay_loop = Some(time),
            ("connect_timeout", Value::Time(time)) => self.connect_timeout = Some(time),
            ("retry", Value::Whole(n)) => self.retry = Some(small(n)),
            ("delay_before_retry", Value::Time(time)) => self.delay_before_retry = Some(time),
            ("warmup", Value::Time(time)) => self.warmup = Some(time),
            ("alpha", Value::Nothing) => self.alpha = true,
            ("alpha", Value::Switch(on)) => self.alpha = on,
            ("virtualhost", Value::Word(word)) => self.virtualhost = Some(word.text.clone()),
            _ => {}
        }
    }
}

/// What is said once for all real servers.
#[derive(Debug, Default)]
struct Defaults {
    checks: Inherited,
    method: Option<Method>,
    weight: Option<u32>,
    inhibit: bool,
}

/// `virtual_server`.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let Some(target) = target(reader, at.words) else {
        // Its lines are looked at all the same.
        for entry in reader.entries(Block::Service, at.block) {
            if let ("real_server", Value::Block(_, block)) = (entry.keyword.name, entry.value) {
                reader.entries(Block::Server, block);
            }
        }
        return;
    };
    let mut draft = Draft::new(target, at);
    draft.defaults.checks.log_all_failures = configuration.global.log_all_failures;
    let mut alert = None;
    let entries = reader.entries(Block::Service, at.block);
    for entry in &entries {
        draft.service.places.note(entry.keyword.name, entry.place);
        draft.defaults.checks.read(entry);
        draft.scheduling(reader, entry);
        draft.quorum(entry);
        draft.sorry(reader, entry);
        mail::own(entry, &mut alert);
    }
    draft.service.alert = configuration.global.mail.about_service(alert);
    // The service's own words count for real servers that stand before them, too.
    for entry in &entries {
        if let ("real_server", Value::Block(words, block)) = (entry.keyword.name, entry.value) {
            let at = Opened {
                words,
                block,
                place: entry.place,
            };
            draft.server(reader, configuration, at);
        }
    }
    if let Some(service) = draft.finish(reader, configuration) {
        configuration.services.push(service);
    }
}

/// `ADDRESS [PORT]`, `fwmark MARK`, `group NAME`.
fn target(reader: &mut Reader<'_>, words: &[Word]) -> Option<Target> {
    let (first, rest) = words.split_first()?;
    let needs = |reader: &mut Reader<'_>, what: &str| {
        reader.error(first.place, format!("`{}` needs {what}", first.text));
        None
    };
    match &*first.text {
        "fwmark" => {
            let Some(word) = rest.first() else {
                return needs(reader, "a mark");
            };
            match values::whole(word, "fwmark", 1, u32::MAX.into()) {
                Ok(mark) => Some(Target::Mark(small(mark))),
                Err(fault) => {
                    reader.fault(fault);
                    None
                }
            }
        }
        "group" => match rest.first() {
            Some(word) => Some(Target::Group(word.text.clone())),
            None => needs(reader, "the name of a virtual_server_group"),
        },
        _ => {
            let (address, port) = endpoint(reader, words)?;
            Some(Target::Address(address, port))
        }
    }
}

/// `ADDRESS [PORT]`; without a port, 0.
fn endpoint(reader: &mut Reader<'_>, words: &[Word]) -> Option<(IpAddr, u16)> {
    let (word, rest) = words.split_first()?;
    let address = match values::address(word) {
        Ok(address) => address,
        Err(fault) => {
            reader.fault(fault);
            return None;
        }
    };
    Some((address, port(reader, rest)?))
}

/// A port if there is one; 0 can be written too.
pub(super) fn port(reader: &mut Reader<'_>, words: &[Word]) -> Option<u16> {
    let Some((word, rest)) = words.split_first() else {
        return Some(0);
    };
    if let Some(word) = rest.first() {
        let text = format!("`{}` behind a port is ignored", word.text);
        reader.warning(word.place, text);
    }
    match values::whole(word, "port", 0, 65535) {
        Ok(port) => Some(small(port)),
        Err(fault) => {
            reader.fault(fault);
            None
        }
    }
}

struct Draft {
    service: Service,
    defaults: Defaults,
    protocol: Option<Protocol>,
    family: Option<bool>,
    sorry_method: Option<Method>,
}

impl Draft {
    fn new(target: Target, at: Opened<'_>) -> Self {
        let is_ipv6 = matches!(target, Target::Address(IpAddr::V6(_), _));
        let service = Service {
            places: at.places(),
            target,
            protocol: Protocol::Udp,
            is_ipv6,
            scheduler: String::new(),
            flags: SchedulerFlags::default(),
            one_packet: false,
            persistence: None,
            granularity: None,
            engine: None,
            method: Method::default(),
            quorum: 1,
            hysteresis: 0,
            omega: false,
            alpha: false,
            ha_suspend: false,
            quorum_up: None,
            quorum_down: None,
            alert: false,
            sorry: None,
            servers: Vec::new(),
        };
        Self {
            service,
            defaults: Defaults::default(),
            protocol: None,
            family: None,
            sorry_method: None,
        }
    }

    fn scheduling(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) {
        let service = &mut self.service;
        match (entry.keyword.name, entry.value) {
            ("lvs_sched" | "lb_algo", Value::Word(word)) => service.scheduler = word.text.clone(),
            ("lvs_method" | "lb_kind", Value::Words(words)) => {
                if let Some(method) = method::read(reader, words) {
                    self.defaults.method = Some(method);
                }
            }
            ("flag-1", _) => service.flags.flag1 = true,
            ("flag-2", _) => service.flags.flag2 = true,
            ("flag-3", _) => service.flags.flag3 = true,
            (name @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "hashed"), _) => {
                if !["sh", "mh"].contains(&&*service.scheduler) {
                    let text = format!(
                        "`{name}` has no effect: it stands behind `lvs_sched sh` or `lvs_sched mh`"
                    );
                    return reader.error(entry.place, text);
                }
                match name {
                    "sh-fallback" | "mh-fallback" => service.flags.flag1 = true,
                    "hashed" => {}
                    _ => service.flags.flag2 = true,
                }
            }
            ("ops", _) => service.one_packet = true,
            ("persistence_timeout", Value::Words(words)) => match words.first() {
                None => service.persistence = Some(PERSISTENCE),
                Some(word) => match values::whole(word, "persistence_timeout", 1, 2_678_400) {
                    Ok(seconds) => service.persistence = Some(small(seconds)),
                    Err(fault) => reader.fault(fault),
                },
            },
            ("persistence_granularity", Value::Word(word)) => {
                service.granularity = granularity(reader, service.is_ipv6, word);
                if service.granularity.is_some() {
                    service.persistence.get_or_insert(PERSISTENCE);
                }
            }
            ("persistence_engine", Value::Word(word)) => {
                service.engine = Some(word.text.clone());
                let text =
                    "`persistence_engine`: clients are told apart by address, not by what they say";
                reader.unsupported(entry.place, text.to_owned());
            }
            ("protocol", Value::Word(word)) => {
                self.protocol = Some(match &*word.text {
                    "TCP" => Protocol::Tcp,
                    "SCTP" => Protocol::Sctp,
                    _ => Protocol::Udp,
                });
            }
            ("ip_family", Value::Word(word)) => {
                let v6 = word.text == "inet6";
                if matches!(service.target, Target::Address(..)) && v6 != service.is_ipv6 {
                    let text = "`ip_family` contradicts the service's address".to_owned();
                    return reader.error(word.place, text);
                }
                self.family = Some(v6);
            }
            _ => {}
        }
    }

    fn quorum(&mut self, entry: &Entry<'_>) {
        let service = &mut self.service;
        match (entry.keyword.name, entry.value) {
            ("quorum", Value::Whole(n)) => service.quorum = small(n),
            ("hysteresis", Value::Whole(n)) => service.hysteresis = small(n),
            ("omega", _) => service.omega = true,
            ("alpha", _) => service.alpha = true,
            ("ha_suspend", _) => service.ha_suspend = true,
            ("quorum_up", Value::Words(words)) => service.quorum_up = values::command(words),
            ("quorum_down", Value::Words(words)) => service.quorum_down = values::command(words),
            ("weight", Value::Whole(n)) => self.defaults.weight = Some(small(n)),
            ("inhibit_on_failure", _) => self.defaults.inhibit = true,
            _ => {}
        }
    }

    fn sorry(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) {
        let sorry = &mut self.service.sorry;
        match (entry.keyword.name, entry.value) {
            ("sorry_server", Value::Words(words)) => {
                let Some((address, port)) = endpoint(reader, words) else {
                    return;
                };
                *sorry = Some(Sorry {
                    address,
                    port,
                    method: Method::default(),
                    inhibit: false,
                });
            }
            ("sorry_server_inhibit", _) => match sorry {
                Some(sorry) => sorry.inhibit = true,
                None => {
                    let text = "`sorry_server_inhibit` stands behind `sorry_server`".to_owned();
                    reader.error(entry.place, text);
                }
            },
            ("sorry_server_lvs_method", Value::Words(words)) => {
                if sorry.is_none() {
                    let text = "`sorry_server_lvs_method` stands behind `sorry_server`".to_owned();
                    reader.error(entry.place, text);
                }
                self.sorry_method = method::read(reader, words);
            }
            _ => {}
        }
    }

    fn server(&mut self, reader: &mut Reader<'_>, configuration: &Configuration, at: Opened<'_>) {
        let endpoint = endpoint(reader, at.words);
        let mut checks = self.defaults.checks.clone();
        let mut places = Places::new(at.place);
        let mut method = None;
        let mut alert = None;
        let mut server = Server {
            places: Places::default(),
            address: IpAddr::from([0; 4]),
            port: 0,
            weight: self.defaults.weight.unwrap_or(1),
            method: Method::default(),
            upper: 0,
            lower: 0,
            inhibit: self.defaults.inhibit,
            alpha: false,
            delay_loop: Duration::ZERO,
            notify_up: None,
            notify_down: None,
            alert: false,
            checkers: Vec::new(),
        };
        let entries = reader.entries(Block::Server, at.block);
        for entry in &entries {
            places.note(entry.keyword.name, entry.place);
            checks.read(entry);
            mail::own(entry, &mut alert);
            match (entry.keyword.name, entry.value) {
                ("weight", Value::Whole(n)) => server.weight = small(n),
                ("lvs_method", Value::Words(words)) => method = method::read(reader, words),
                ("uthreshold", Value::Whole(n)) => server.upper = small(n),
                ("lthreshold", Value::Whole(n)) => server.lower = small(n),
                ("inhibit_on_failure", Value::Switch(on)) => server.inhibit = on,
                ("notify_up", Value::Words(words)) => server.notify_up = values::command(words),
                ("notify_down", Value::Words(words)) => server.notify_down = values::command(words),
                _ => {}
            }
        }
        if let Some((address, port)) = endpoint {
            server.address = address;
            server.port = port;
        }
        for entry in &entries {
            if let Value::Block(_, block) = entry.value {
                let at = Opened {
                    words: &[],
                    block,
                    place: entry.place,
                };
                let of = (server.address, server.port);
                let name = entry.keyword.name;
                let made: Vec<Checker> =
                    checker::read(reader, configuration, name, at, of, &checks);
                for checker in made {
                    // One event of a session is one, however often it is listened for.
                    let is_there = |one: &Checker| one.check == checker.check;
                    if let Check::Bfd(session) = &checker.check
                        && server.checkers.iter().any(is_there)
                    {
                        let text =
                            format!("the real server has a BFD_CHECK of `{session}` already");
                        reader.error(checker.places.near("name"), text);
                        continue;
                    }
                    server.checkers.push(checker);
                }
            }
        }
        if endpoint.is_none() {
            return;
        }
        server.places = places;
        server.method = method.or(self.defaults.method).unwrap_or_default();
        server.alpha = checks.alpha;
        server.alert = configuration.global.mail.about_server(alert);
        server.delay_loop = checks.delay_loop.unwrap_or(Duration::from_secs(60));
        self.service.servers.push(server);
    }

    fn finish(mut self, reader: &mut Reader<'_>, configuration: &Configuration) -> Option<Service> {
        let begin = self.service.places.begin();
        self.family(reader, configuration);
        if self.service.servers.is_empty() {
            let text = "a virtual_server without real servers is left out".to_owned();
            reader.error(begin, text);
            return None;
        }
        self.protocol(reader, configuration);
        let service = &mut self.service;
        if service.scheduler.is_empty() {
            let text = "no `lvs_sched`: it is wlc; say so".to_owned();
            reader.error(begin, text);
            service.scheduler = crate::ipvsadm::DEFAULT_SCHEDULER.to_owned();
        }
        match self.defaults.method {
            Some(method) => service.method = method,
            None => {
                let said = |server: &Server| server.places.of("lvs_method").is_some();
                if !service.servers.iter().all(said) {
                    let text = "no `lvs_method`: it is NAT; say so".to_owned();
                    reader.error(begin, text);
                }
            }
        }
        if let Some(sorry) = &mut service.sorry {
            sorry.method = self.sorry_method.unwrap_or(service.method);
        }
        settling::ports(reader, service, &configuration.service_groups);
        settling::duplicates(reader, service);
        settling::enough(reader, service);
        Some(self.service)
    }

    /// The family is that of the address, or of the real servers that are not reached by tunnel.
    fn family(&mut self, reader: &mut Reader<'_>, configuration: &Configuration) {
        let service = &mut self.service;
        let is_bound = |server: &&Server| server.method.method != ForwardingMethod::Tunnel;
        let group = match &service.target {
            Target::Group(name) => {
                let groups = &configuration.service_groups;
                groups.iter().find(|group| group.name == *name)
            }
            _ => None,
        };
        let addresses = group.into_iter().flat_map(|group| &group.members);
        let of_group = addresses.into_iter().find_map(|member| match member {
            Members::Addresses(first, ..) => Some(first.is_ipv6()),
            Members::Mark(_, family) => *family,
        });
        let of_servers = service.servers.iter().find(is_bound);
        let of_servers = of_servers.or(service.servers.first());
        let of_servers = of_servers.map(|server| server.address.is_ipv6());
        if !matches!(service.target, Target::Address(..)) {
            service.is_ipv6 = self.family.or(of_group).or(of_servers).unwrap_or(false);
        }
        let is_ipv6 = service.is_ipv6;
        service.servers.retain(|server| {
            let fits = !is_bound(&server) || server.address.is_ipv6() == is_ipv6;
            if !fits {
                let text = format!(
                    "real server `{}` is of another family than the service, and is left out; only \
                     tunnels may differ",
                    server.address
                );
                reader.error(server.places.begin(), text);
            }
            fits
        });
        let method = self
            .sorry_method
            .or(self.defaults.method)
            .unwrap_or_default();
        if let Some(sorry) = &service.sorry
            && method.method != ForwardingMethod::Tunnel
            && sorry.address.is_ipv6() != is_ipv6
        {
            let text = format!(
                "sorry server `{}` is of another family than the service, and is left out",
                sorry.address
            );
            reader.error(service.places.near("sorry_server"), text);
            service.sorry = None;
        }
    }

    fn protocol(&mut self, reader: &mut Reader<'_>, configuration: &Configuration) {
        let service = &mut self.service;
        let begin = service.places.begin();
        let members: &[Members] = match &service.target {
            Target::Group(name) => {
                let groups = &configuration.service_groups;
                let group = groups.iter().find(|group| group.name == *name);
                if group.is_none() {
                    let text =
                        format!("there is no virtual_server_group `{name}`: nothing is served");
                    reader.error(begin, text);
                }
                group.map_or(&[], |group| &group.members)
            }
            _ => &[],
        };
        let is_mark_member = |member: &Members| matches!(member, Members::Mark(..));
        let is_mark = matches!(service.target, Target::Mark(_))
            || (!members.is_empty() && members.iter().all(is_mark_member));
        let has_address = matches!(service.target, Target::Address(..))
            || members
                .iter()
                .any(|member| matches!(member, Members::Addresses(..)));
        if is_mark && let Some(place) = service.places.of("protocol") {
            let text =
                "a firewall mark has any protocol; `protocol` has no effect on it".to_owned();
            reader.error(place, text);
        }
        if has_address && self.protocol.is_none() {
            let text = "no `protocol`: it is UDP; say so, or say TCP".to_owned();
            reader.error(begin, text);
        }
        service.protocol = self.protocol.unwrap_or(Protocol::Udp);
        if service.one_packet && has_address && service.protocol != Protocol::Udp {
            let text = "`ops` is for UDP; it has no effect here".to_owned();
            reader.error(service.places.near("ops"), text);
            service.one_packet = false;
        }
        let zero = matches!(service.target, Target::Address(_, 0))
            || members
                .iter()
                .any(|m| matches!(m, Members::Addresses(_, _, 0)));
        if zero && service.persistence.is_none() {
            let text = format!(
                "every port is served by persistent services alone: persistence_timeout is {PERSISTENCE}"
            );
            reader.error(begin, text);
            service.persistence = Some(PERSISTENCE);
        }
    }
}

/// A netmask, or the length of an IPv6 prefix.
fn granularity(reader: &mut Reader<'_>, is_ipv6: bool, word: &Word) -> Option<u32> {
    let read = if is_ipv6 || word.text.parse::<u8>().is_ok_and(|n| n > 32) {
        let number = values::whole(word, "persistence_granularity", 1, 128);
        number.map(small)
    } else {
        inet_aton(&word.text).map(u32::from).ok_or_else(|| {
            let text = format!("`{}` is no netmask, as in 255.255.255.0", word.text);
            (word.place, text)
        })
    };
    match read {
        Ok(mask) => Some(mask),
        Err(fault) => {
            reader.fault(fault);
            None
        }
    }
}
