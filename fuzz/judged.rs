//! A frame, judged by whatever rules were read.

use pointsman_filter::explain::explain;
use pointsman_filter::judge::judge;
use pointsman_filter::model::Ruleset;
use pointsman_filter::route::{Direction, Host, Port};

/// TCP from 192.0.2.1:1024 to 192.0.2.2:80.
const FRAME: &[u8] = &[
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2,
    1, 192, 0, 2, 2, 4, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
];

/// Judges the frame in both directions; the deciding step has to be one of the path,
/// and has words.
pub fn judged(rules: &Ruleset) {
    let port = Port {
        name: "vnet0",
        bridge: Some("br0"),
        peer: None,
    };
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        ..Host::default()
    };
    for direction in [Direction::Out, Direction::In] {
        let judgement = judge(FRAME, port, direction, rules, &host).expect("a whole frame");
        assert!(
            judgement
                .deciding
                .is_none_or(|at| at < judgement.path.len())
        );
        let explanation = explain(&judgement, FRAME, rules, &[]);
        assert!(!explanation.to_string().is_empty());
    }
}
