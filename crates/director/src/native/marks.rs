//! Services known by firewall marks, and rules that give such marks to generated packets.

use std::net::IpAddr;

use super::{
    generate::Chance,
    services::{SERVICES, server},
};
use crate::model::{
    Change, Family, ForwardingMethod, MarkAction, MarkMatch, MarkRule, PortRange, Prefix, Protocol,
    RealServer, SchedulerFlags, ServiceId, TunnelType, VirtualService,
};

/// Marks that services are known by, from 1: one for each forwarding method.
pub const MARKS: u32 = 3;
/// Services known by marks, those of both families.
pub const MARK_SERVICES: usize = 2 * MARKS as usize;

/// Changes that set services of marks up, and rules that mark a few flows of the other services.
pub fn changes() -> Vec<Change> {
    let mut changes = Vec::new();
    for ipv6 in [false, true] {
        for (mark, method) in (1..=MARKS).zip([
            ForwardingMethod::Direct,
            ForwardingMethod::Tunnel,
            ForwardingMethod::Masquerade,
        ]) {
            let id = ServiceId::Mark { mark, ipv6 };
            changes.push(Change::AddService {
                service: VirtualService {
                    id,
                    scheduler: "wlc".to_owned(),
                    flags: SchedulerFlags::default(),
                    persistence: None,
                    one_packet: false,
                    engine: None,
                },
            });
            for (number, port) in [(0, 0), (1, 8080), (2, 80)] {
                changes.push(Change::AddServer {
                    id,
                    server: RealServer {
                        address: server(ipv6, number),
                        port,
                        method,
                        weight: 1 + number as i32,
                        upper: 0,
                        lower: 0,
                        tunnel: TunnelType::Ipip,
                    },
                });
            }
        }
    }
    let rules = (1..=MARKS)
        .map(|mark| {
            let low = 30_000 + mark as u16;
            MarkRule {
                ports: vec![PortRange { low: 80, high: 82 }],
                source_ports: vec![PortRange { low, high: low }],
                ..MarkRule::every(MarkAction::set(mark))
            }
        })
        .collect();
    changes.push(Change::SetMarkRules { rules });
    changes
}

/// Rules for generated packets, by chance.
pub fn rules(chance: &mut Chance) -> Vec<MarkRule> {
    (0..chance.below(9)).map(|_| rule(chance)).collect()
}

fn rule(chance: &mut Chance) -> MarkRule {
    let ipv6 = chance.percent(50);
    let prefix = |chance: &mut Chance, addresses: [IpAddr; 2]| Prefix {
        address: addresses[usize::from(ipv6)],
        length: match ipv6 {
            true => *chance.one(&[0, 64, 126, 127, 128]),
            false => *chance.one(&[0, 24, 30, 31, 32]),
        },
    };
    let ranges = |chance: &mut Chance, first: u16, several: u64| {
        let count = *chance.one(&[0, 0, 1, several]);
        let range = |_| {
            let low = first + chance.below(20) as u16;
            let high = low + chance.below(4) as u16;
            PortRange { low, high }
        };
        (0..count).map(range).collect()
    };
    let service = [
        IpAddr::V4(SERVICES),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    ];
    let client = [
        IpAddr::from([198, 51, 100, 4]),
        IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 4]),
    ];
    MarkRule {
        family: Family::Any,
        destination: chance.percent(60).then(|| prefix(chance, service)),
        source: chance.percent(25).then(|| prefix(chance, client)),
        protocol: chance
            .percent(40)
            .then(|| *chance.one(&[Protocol::Tcp, Protocol::Udp])),
        ports: ranges(chance, 74, 9),
        source_ports: ranges(chance, 30_000, 3),
        // Nothing comes in by another interface, and no interface has this name.
        interface: chance.percent(5).then(|| "absent0".to_owned()),
        mark: chance.percent(20).then(|| MarkMatch {
            value: chance.below(2) as u32,
            mask: 1,
        }),
        action: match chance.below(6) {
            0 => MarkAction::Skip {
                rules: chance.below(3) as u32,
            },
            1 => MarkAction::Set {
                value: chance.below(4) as u32,
                mask: chance.below(4) as u32,
            },
            _ => MarkAction::set(chance.below(u64::from(MARKS) + 2) as u32),
        },
    }
}
