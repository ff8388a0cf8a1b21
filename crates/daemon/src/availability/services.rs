//! Virtual services of a configuration, and the checks of their real servers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pointsman_config::keepalived::Configuration;
use pointsman_config::keepalived::model::{
    self, Binding, Checker, HttpProtocol, Probe, Server, Service, UrlCheck,
};
use pointsman_director::model::{ForwardingMethod, RealServer, ServiceId, VirtualService};
use pointsman_ha::health::CheckerConfig;
use regex::bytes::RegexBuilder;

use super::command::Commands;
use crate::checks::{
    Check, DnsCheck, FileCheck, HttpCheck, HttpVersion, Identity, Pattern, Payload, RecordType,
    SmtpCheck, Target, Through, Tls, UdpCheck, Url,
};
use crate::child::Script;
use crate::minding::{Minded, TimedCheck};
use crate::vrrp::track;

/// What a `virtual_server` says: one virtual service or, with a group, many that are minded as one.
#[derive(Debug, Clone)]
pub struct PlannedService {
    /// The virtual services.
    pub placed: Vec<Placed>,
    /// Quorum and checks.
    pub minded: Minded,
    /// Scripts that are run.
    pub scripts: ServiceScripts,
    /// What it was made of: the same means that nothing has changed.
    pub origin: Service,
}

impl PlannedService {
    /// The addresses of its virtual services; firewall marks have none.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let ids = self.placed.iter().map(|placed| placed.service.id);
        ids.filter_map(|id| match id {
            ServiceId::Address { address, .. } => Some(address),
            ServiceId::Mark { .. } => None,
        })
        .collect()
    }
}

/// One virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The service.
    pub service: VirtualService,
    /// Its real servers with the weights that they have when they are up.
    pub servers: Vec<RealServer>,
    /// Who serves without a quorum.
    pub sorry: Option<RealServer>,
}

/// Scripts of a virtual service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceScripts {
    /// `quorum_up`.
    pub quorum_up: Option<Script>,
    /// `quorum_down`.
    pub quorum_down: Option<Script>,
    /// `notify_up` and `notify_down` of each real server.
    pub servers: Vec<(Option<Script>, Option<Script>)>,
}

/// All virtual services.
pub(super) fn plan(
    configuration: &Configuration,
    commands: &Commands,
    faults: &mut Vec<String>,
) -> Vec<PlannedService> {
    let around = Around {
        configuration,
        commands,
        identity: identity(configuration, faults),
    };
    let mut planned: Vec<PlannedService> = Vec::new();
    for derived in configuration.virtual_services() {
        let placed = Placed {
            service: derived.service,
            servers: derived.servers,
            sorry: derived.sorry,
        };
        // Those of one group follow each other.
        match planned
            .last_mut()
            .filter(|last| last.origin == *derived.origin)
        {
            Some(last) => last.placed.push(placed),
            None => planned.push(one(
                derived.origin,
                configuration.global.init_notifies,
                placed,
                &around,
                faults,
            )),
        }
    }
    planned
}

/// What checks refer to beside their own words.
struct Around<'a> {
    configuration: &'a Configuration,
    commands: &'a Commands,
    identity: Option<Arc<Identity>>,
}

/// Who this host says it is to those who ask for a certificate (`SSL`).
fn identity(configuration: &Configuration, faults: &mut Vec<String>) -> Option<Arc<Identity>> {
    let files = configuration.tls.as_ref()?;
    match Identity::read(Path::new(&files.certificate), Path::new(&files.key)) {
        Ok(identity) => Some(Arc::new(identity)),
        Err(problem) => {
            faults.push(format!("SSL: {problem}"));
            None
        }
    }
}

fn one(
    origin: &Service,
    told: bool,
    placed: Placed,
    around: &Around<'_>,
    faults: &mut Vec<String>,
) -> PlannedService {
    let health = origin.health();
    let name = &health.name;
    let checks = origin.servers.iter().map(|server| {
        let mut checks = Vec::new();
        for checker in &server.checkers {
            match check(origin, server, checker, around, faults) {
                Ok(check) => checks.push(TimedCheck {
                    timing: match &check {
                        // It is looked at as often as files that virtual routers track.
                        Check::File(_) => CheckerConfig {
                            delay_loop: track::LOOK,
                            retry: 0,
                            warmup: Duration::ZERO,
                            ..CheckerConfig::default()
                        },
                        _ => checker.timing.checker(),
                    },
                    check,
                    log_all: checker.timing.log_all_failures,
                }),
                Err(problem) => faults.push(format!(
                    "virtual_server {name}: real_server {}: {problem}",
                    server.address
                )),
            }
        }
        checks
    });
    let checks = checks.collect();
    let mut minded = Minded::new(health, checks);
    minded.told.fill(told);
    let mut optional =
        |command: &Option<model::Command>| around.commands.optional(command.as_ref(), faults);
    PlannedService {
        placed: vec![placed],
        minded,
        scripts: ServiceScripts {
            quorum_up: optional(&origin.quorum_up),
            quorum_down: optional(&origin.quorum_down),
            servers: origin
                .servers
                .iter()
                .map(|server| (optional(&server.notify_up), optional(&server.notify_down)))
                .collect(),
        },
        origin: origin.clone(),
    }
}

fn check(
    service: &Service,
    server: &Server,
    checker: &Checker,
    around: &Around<'_>,
    faults: &mut Vec<String>,
) -> Result<Check, String> {
    let target = |binding| target(service, server, checker, binding);
    Ok(match &checker.check {
        model::Check::Tcp(binding) => Check::Tcp(target(binding)),
        model::Check::Ping(binding) => Check::Ping(target(binding)),
        model::Check::Http(http) => {
            let mut urls = Vec::new();
            for url in &http.urls {
                urls.push(self::url(url)?);
            }
            let name = http.urls.iter().find_map(|url| url.host.clone());
            Check::Http(Box::new(HttpCheck {
                target: target(&http.binding),
                tls: http.tls.then(|| Tls {
                    name: name.filter(|_| http.sni),
                    identity: around.identity.clone(),
                }),
                version: match http.protocol {
                    HttpProtocol::V1 => HttpVersion::V10,
                    HttpProtocol::V1Close => HttpVersion::V10Close,
                    HttpProtocol::V1_1 => HttpVersion::V11,
                },
                urls,
            }))
        }
        model::Check::Smtp(binding, helo) => Check::Smtp(SmtpCheck {
            target: target(binding),
            helo_name: helo.clone(),
        }),
        model::Check::Dns(binding, record, name) => Check::Dns(DnsCheck {
            target: target(binding),
            record: record_type(record)?,
            name: name.clone(),
        }),
        model::Check::Udp(binding, probe) => Check::Udp(udp(target(binding), probe)),
        model::Check::Misc {
            command,
            timeout,
            dynamic,
        } => {
            let Some(script) = around.commands.script(command, faults) else {
                return Err("MISC_CHECK can't be run".into());
            };
            Check::Script {
                script,
                limit: timeout.unwrap_or(server.delay_loop),
                dynamic: *dynamic,
            }
        }
        model::Check::Bfd(session) => Check::Bfd(session.clone()),
        model::Check::File { file, weight } => {
            let mut files = around.configuration.track_files.iter();
            let Some(known) = files.find(|known| known.name == *file) else {
                return Err(format!("FILE_CHECK of {file}, which is not defined"));
            };
            let weight = weight.unwrap_or(known.weight);
            Check::File(FileCheck {
                path: known.path.clone().into(),
                weight: weight.weight,
                reverse: weight.reverse,
                initial: known.initial,
            })
        }
    })
}

fn target(service: &Service, server: &Server, checker: &Checker, binding: &Binding) -> Target {
    let from = binding.source.map(|source| {
        let port = binding.source_port.unwrap_or(0);
        SocketAddr::new(source, port)
    });
    let any = || match binding.address {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let from = from.or_else(|| Some(SocketAddr::new(any(), binding.source_port?)));
    let (to, through) = match &service.target {
        // With NAT the real server's own address is what it gets.
        model::Target::Address(vip, port)
            if binding.vip_check && server.method.method != ForwardingMethod::Masquerade =>
        {
            let named = checker.places.of("connect_port").is_some() || *port == 0;
            let port = if named { binding.port } else { *port };
            let through = Through {
                server: server.address,
                is_tunnel: server.method.method == ForwardingMethod::Tunnel,
            };
            (SocketAddr::new(*vip, port), Some(through))
        }
        _ => (SocketAddr::new(binding.address, binding.port), None),
    };
    Target {
        to,
        from,
        device: binding.interface.clone(),
        mark: binding.mark,
        timeout: binding.timeout,
        through,
    }
}

fn url(url: &UrlCheck) -> Result<Url, String> {
    let pattern = match &url.regex {
        None => None,
        Some((pattern, options)) => Some(self::pattern(pattern, options, url)?),
    };
    Ok(Url {
        path: url.path.clone(),
        host: url.host.clone(),
        codes: url.status.iter().map(|(from, to)| *from..=*to).collect(),
        digest: url.digest,
        pattern,
    })
}

fn pattern(pattern: &str, options: &[String], url: &UrlCheck) -> Result<Pattern, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false);
    for option in options {
        match option.as_str() {
            "caseless" => builder.case_insensitive(true),
            "multiline" => builder.multi_line(true),
            "dotall" => builder.dot_matches_new_line(true),
            "extended" => builder.ignore_whitespace(true),
            "ungreedy" => builder.swap_greed(true),
            "utf" | "ucp" => builder.unicode(true),
            other => return Err(format!("regex_options {other} is not done")),
        };
    }
    let regex = builder
        .build()
        .map_err(|error| format!("regex {pattern}: {error}"))?;
    Ok(Pattern {
        regex,
        absent: url.no_match,
        least: url.least_offset as usize,
        most: url.most_offset.map(|most| most as usize),
    })
}

fn record_type(name: &str) -> Result<RecordType, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "A" => RecordType::A,
        "NS" => RecordType::Ns,
        "CNAME" => RecordType::Cname,
        "SOA" => RecordType::Soa,
        "MX" => RecordType::Mx,
        "TXT" => RecordType::Txt,
        "AAAA" => RecordType::Aaaa,
        _ => return Err(format!("DNS_CHECK type {name} is not done")),
    })
}

fn udp(target: Target, probe: &Probe) -> UdpCheck {
    let reply = probe.reply.as_ref().map(|reply| Payload {
        bytes: reply.iter().map(|(byte, _)| *byte).collect(),
        mask: reply.iter().map(|(_, mask)| *mask).collect(),
    });
    UdpCheck {
        target,
        payload: probe.payload.clone(),
        reply,
        min_length: probe.least.into(),
        max_length: probe.most.into(),
    }
}
