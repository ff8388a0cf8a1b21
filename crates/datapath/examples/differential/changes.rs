//! Changes of the configuration between packets.

use std::net::IpAddr;

use pointsman_datapath::trial::LOOPBACK;
use pointsman_director::{
    control::{Director, HopRequest, Mirror},
    model::{Change, ForwardingMethod, RealServer},
    native::{
        generate::Chance,
        marks,
        services::{Service, TUNNEL_SOURCE, TUNNEL_SOURCE6, hop, services},
    },
    record::{NextHop, Settings, hop_flag, settings_flag},
    schedule::Scheduler,
};

/// A device other than the one that frames come in by; a test run does not send.
const OTHER: u32 = 7;

/// What happens to both directors.
#[derive(Debug, Clone)]
pub enum Step {
    /// Changes, in this order.
    Apply(Vec<Change>),
    /// Settings.
    Set(Settings),
    /// Removed servers without connections are forgotten.
    Collect,
}

/// A step that chance decides on; `settings` are those of now.
pub fn choose(chance: &mut Chance, settings: &Settings, tight: bool) -> Step {
    let all: Vec<Service> = services().collect();
    let service = *chance.one(&all);
    let id = service.id();
    let servers: Vec<RealServer> = service.servers().collect();
    let server = chance.one(&servers).clone();
    match chance.below(11) {
        0 | 1 => Step::Apply(vec![Change::EditServer {
            id,
            server: RealServer {
                weight: chance.below(6) as i32,
                upper: *chance.one(&[0, 0, 2, 30]),
                lower: chance.below(2) as u32,
                ..server
            },
        }]),
        // Of several services, so that packets meet connections whose server is gone.
        2 | 3 => {
            let removal = |service: &Service, at: usize| {
                let server = service.servers().nth(at)?;
                Some(Change::DeleteServer {
                    id: service.id(),
                    address: server.address,
                    port: server.port,
                })
            };
            let chosen = (0..8).map(|_| (*chance.one(&all), chance.below(4) as usize));
            let chosen: Vec<_> = chosen.collect();
            let changes = chosen
                .iter()
                .filter_map(|(service, at)| removal(service, *at));
            Step::Apply(changes.collect())
        }
        4 | 5 => Step::Apply(vec![Change::AddServer { id, server }]),
        6 => {
            let mut changes = vec![
                Change::DeleteService { id },
                Change::AddService {
                    service: service.config(),
                },
            ];
            let servers = servers.into_iter();
            changes.extend(servers.map(|server| Change::AddServer { id, server }));
            Step::Apply(changes)
        }
        7 => {
            let mut config = service.config();
            config.scheduler = chance.one(Scheduler::ALL).name().to_owned();
            Step::Apply(vec![Change::EditService { service: config }])
        }
        8 => Step::Collect,
        9 => Step::Apply(vec![Change::SetMarkRules {
            rules: marks::rules(chance),
        }]),
        _ => {
            let mut settings = *settings;
            settings.epoch += 1;
            settings.lblcr_expiration = *chance.one(&[0, 1, 60]);
            settings.reuse_mode = chance.below(4) as u32;
            settings.mss_clamp = *chance.one(&[0, 0, 1000, 1300]);
            let known = settings_flag::PMTU_DISC | settings_flag::SLOPPY_TCP;
            let seldom = settings_flag::EXPIRE_NODEST
                | settings_flag::EXPIRE_QUIESCENT
                | settings_flag::DROP_ENTRY;
            settings.flags &= !(known | seldom | settings_flag::TABLE_FULL);
            settings.flags |= chance.word() as u32 & known;
            if chance.percent(25) {
                settings.flags |= chance.word() as u32 & seldom;
            }
            if tight && chance.percent(50) {
                settings.flags |= settings_flag::TABLE_FULL;
            }
            Step::Set(settings)
        }
    }
}

/// Carries a step out, and tells the director all next hops anew. What it answered is returned.
pub fn carry_out<M: Mirror>(director: &mut Director, mirror: &mut M, step: &Step) -> Vec<String> {
    let mut answers = Vec::new();
    match step {
        Step::Apply(changes) => {
            for change in changes {
                answers.push(format!("{:?}", director.apply(change, mirror)));
            }
        }
        Step::Set(settings) => {
            answers.push(format!("{:?}", director.set_settings(*settings, mirror)));
        }
        Step::Collect => answers.push(format!("{:?}", director.collect_removed(mirror))),
    }
    let requests: Vec<HopRequest> = director.hops().collect();
    for request in requests {
        let source: IpAddr = if request.address.is_ipv6() {
            TUNNEL_SOURCE6.into()
        } else {
            TUNNEL_SOURCE.into()
        };
        let source = (request.method == ForwardingMethod::Tunnel).then_some(source);
        let hop = next_hop(&request);
        let answer = director.set_hop(request.server, hop, request.address, source, mirror);
        if answer.is_err() {
            answers.push(format!("{answer:?}"));
        }
    }
    answers
}

/// Next hops by both devices; of those without a link-layer address some are for tcx to resolve.
fn next_hop(request: &HopRequest) -> NextHop {
    let ifindex = if request.server.is_multiple_of(2) {
        LOOPBACK
    } else {
        OTHER
    };
    let found = hop(request, ifindex);
    let unknown = found.flags & (hop_flag::RESOLVED | hop_flag::LOCAL) == 0;
    if unknown && request.server.is_multiple_of(3) {
        return NextHop {
            ifindex,
            mtu: 1500,
            ..found
        };
    }
    found
}
