//! Changes carried out together come to the same as one by one.

mod bench;
#[path = "bench/history.rs"]
mod history;

use bench::{Bench, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, VIP, VIP6, real, rs, web};
use history::{bench_of, change};
use pointsman_director::{
    control::{Capacity, ServerEntry},
    model::{Change, ControlError, ForwardingMethod},
};
use pointsman_wire::{Frame, tcp::SYN};
use proptest::prelude::*;

/// Everything configured, with all that connections go by but the place in the tables.
fn configured(bench: &Bench) -> String {
    let server = |server: ServerEntry<'_>| (server.config().clone(), *server.record());
    let services = bench.director.services().map(|service| {
        let record = service.record();
        (
            service.config().clone(),
            (record.plan, record.start, record.top, record.step),
            service.servers().map(server).collect::<Vec<_>>(),
        )
    });
    format!("{:#?}", services.collect::<Vec<_>>())
}

/// What becomes of connections to every service.
fn traffic(bench: &mut Bench) -> Vec<String> {
    // Changes of the bench look up next hops.
    let nothing = Change::SetTimeouts {
        tcp: 0,
        tcp_fin: 0,
        udp: 0,
    };
    bench.apply(&nothing).expect("nothing to refuse");
    let v4 = || Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    let v6 = || Frame::ipv6(CLIENT6, VIP6).macs(CLIENT_MAC, DIRECTOR_MAC);
    let frames = (1000..1006).flat_map(|port| {
        [
            v4().tcp(port, 80).flags(SYN).build(),
            v4().udp(port, 53).build(),
            v6().tcp(port, 80).flags(SYN).build(),
            v6().udp(port, 53).build(),
        ]
    });
    frames
        .map(|frame| format!("{:?}", bench.send(&frame)))
        .collect()
}

fn apply_all(bench: &mut Bench, changes: &[Change]) -> Vec<(usize, ControlError)> {
    let mut refused = Vec::new();
    let Bench {
        director, tables, ..
    } = bench;
    director.apply_all(changes, tables, |index, error| {
        refused.push((index, error));
        true
    });
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn together_is_as_one_by_one(
        changes in prop::collection::vec(change(), 1..80),
        parts in 1..4_usize,
    ) {
        let mut single = Bench::new();
        let mut many = Bench::new();
        for part in changes.chunks(changes.len().div_ceil(parts)) {
            let mut refused = Vec::new();
            for (index, change) in part.iter().enumerate() {
                if let Err(error) = single.director.apply(change, &mut single.tables) {
                    refused.push((index, error));
                }
            }
            prop_assert_eq!(apply_all(&mut many, part), refused);
            prop_assert_eq!(configured(&single), configured(&many));
            for bench in [&mut single, &mut many] {
                bench.director.collect_removed(&mut bench.tables).expect("native tables");
            }
        }
        let compared = [&mut single, &mut many].map(traffic);
        prop_assert_eq!(&compared[0], &compared[1]);
    }
}

fn servers(numbers: std::ops::Range<u8>) -> Vec<Change> {
    let server = |number| Change::AddServer {
        id: web(),
        server: real(rs(number), 80, ForwardingMethod::Direct, 1),
    };
    numbers.map(server).collect()
}

#[test]
fn what_has_no_room_together_gets_what_room_there_is() {
    let mut bench = bench_of(Capacity {
        services: 1,
        servers: 3,
        slot_lines: 8,
        table_lines: 0,
    });
    bench.add(web(), "rr");
    let refused = apply_all(&mut bench, &servers(1..6));
    let indices: Vec<usize> = refused.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [3, 4]);
    assert!(matches!(refused[0].1, ControlError::NoMemory(_)));
    let service = bench.director.service(&web()).expect("there");
    assert_eq!(service.servers().count(), 3);
}

#[test]
fn a_refusal_ends_it_when_asked() {
    let mut bench = Bench::balanced("rr", &[1]);
    let mut changes = servers(2..4);
    changes.extend(servers(1..2));
    changes.extend(servers(5..9));
    let mut refused = Vec::new();
    let Bench {
        director, tables, ..
    } = &mut bench;
    director.apply_all(&changes, tables, |index, error| {
        refused.push((index, error));
        false
    });
    assert_eq!(refused, [(2, ControlError::DestinationExists)]);
    let service = bench.director.service(&web()).expect("there");
    assert_eq!(service.servers().count(), 3);
}
