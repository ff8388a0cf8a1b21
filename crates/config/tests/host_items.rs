//! Addresses, routes and rules of the host: what they mean, and where they are wrong.

use pointsman_config::keepalived::model::{Id, Metric, RouteKind, RuleAction, Tracking};
use pointsman_config::keepalived::{Alone, Configuration, Diagnostic, Severity, configure};

fn read(text: &str) -> (Configuration, Vec<Diagnostic>) {
    let (configuration, _, diagnostics) = configure("k", text, "west", &mut Alone);
    (configuration, diagnostics)
}

fn sound(text: &str) -> Configuration {
    let (configuration, diagnostics) = read(text);
    let worse = diagnostics.iter().find(|d| d.severity > Severity::Note);
    assert!(worse.is_none(), "{worse:?}");
    configuration
}

/// Severity, line and column of what is said.
fn said(text: &str) -> Vec<(Severity, u32, u32)> {
    let all = read(text).1;
    let all = all.iter().map(|d| (d.severity, d.line, d.column));
    all.filter(|(severity, ..)| *severity > Severity::Note)
        .collect()
}

const INSTANCE: &str = "vrrp_instance V {
 interface eth0
 virtual_router_id 5
 virtual_ipaddress {
  10.0.0.1
 }
 virtual_ipaddress_excluded {
  10.0.0.2 peer 10.0.0.3
  10.0.0.4/24 dev eth1 no_track noprefixroute
  fd00::1 preferred_lft forever
  fd00::2
  fd00::3/64 dev eth2 -nodad home
 }
 virtual_routes {
  10.5.0.0/24 dev eth3
  10.6.0.0/24 dev eth4 no_track
 }
 virtual_rules {
  from 10.5.0.0/24 table 5
  iif eth5 table 5 preference 5
  fd00::/8 table 5
 }
}
";

#[test]
fn addresses_say_how_they_are_held() {
    let (configuration, diagnostics) = read(INSTANCE);
    let instance = &configuration.instances[0];
    let held = &instance.excluded;
    assert_eq!(held[0].peer, Some("10.0.0.3".parse().unwrap()));
    assert!(held[1].no_prefix_route && !held[1].tracking.tracked);
    let lives: Vec<_> = held.iter().map(|one| one.preferred_seconds).collect();
    assert_eq!(lives, [None, None, None, Some(0), None]);
    assert!(held[4].dad && held[4].home && !held[3].dad);
    // Numbers are given to rules from above; what can't be gets none.
    let preferences: Vec<u32> = instance.rules.iter().map(|rule| rule.preference).collect();
    assert_eq!(preferences, [16384, 5]);
    let places: Vec<_> = diagnostics
        .iter()
        .map(|d| (d.severity, d.line, d.column))
        .collect();
    assert_eq!(
        places,
        [(Severity::Warning, 19, 3), (Severity::Error, 21, 3)]
    );
    // It is in fault while an interface of these is down.
    let router = &configuration.routers()[0];
    let names: Vec<&str> = router
        .trackers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let expected = ["interface eth2", "interface eth3", "interface eth5"];
    assert_eq!(names, expected);
}

#[test]
fn what_is_static_stands_beside_virtual_routers() {
    let text = format!(
        "track_group T {{\n group {{\n V\n }}\n}}
static_ipaddress {{\n 10.1.0.1/24 track_group T dev eth7\n 10.1.0.2/24\n}}
static_routes {{
 blackhole 10.2.0.0/24
 10.3.0.0/24 via 10.1.0.9 dev eth8 table office metric 5 mtu lock 1400 rtt 250ms
 default nexthop via 10.1.0.1 weight 2 nexthop via 10.1.0.2
}}
static_rules {{\n to 10.3.0.0/24 table office preference 7\n}}
{INSTANCE}"
    );
    let configuration = read(&text).0;
    let statics = &configuration.statics;
    let devices: Vec<_> = statics
        .addresses
        .iter()
        .map(|one| one.device.as_deref())
        .collect();
    assert_eq!(devices, [Some("eth7"), Some("eth0")]);
    assert_eq!(statics.routes[0].kind, RouteKind::Blackhole);
    let route = &statics.routes[1];
    assert_eq!(route.table, Id::Name("office".to_owned()));
    let value = |kind, value| Metric { kind, value };
    assert_eq!(route.metrics, [value(2, 1400), value(4, 2000)]);
    assert_eq!(route.locked, 1 << 2);
    let weights: Vec<u16> = statics.routes[2]
        .hops
        .iter()
        .map(|hop| hop.weight)
        .collect();
    assert_eq!(weights, [2, 1]);
    let table = RuleAction::Table(Id::Name("office".to_owned()));
    assert_eq!(statics.rules[0].action, table);
    let tracking = Tracking {
        tracked: true,
        group: Some("T".to_owned()),
    };
    assert_eq!(statics.addresses[0].tracking, tracking);
    let trackers = &configuration.routers()[0].trackers;
    assert!(trackers.iter().any(|one| one.name == "interface eth7"));
    assert!(trackers.iter().all(|one| one.name != "interface eth8"));
    let summary = configuration.summary();
    for line in [
        "static address 10.1.0.1/24 dev eth7",
        "static route blackhole 10.2.0.0/24",
        "static route 0.0.0.0/0",
        "static rule with preference 7",
    ] {
        assert!(summary.iter().any(|found| found == line), "{summary:#?}");
    }
    assert!(
        summary
            .iter()
            .any(|line| line.ends_with("route 10.6.0.0/24 rule 16384 rule 5"))
    );
}

#[test]
fn a_reload_names_what_is_another() {
    let before = sound(
        "static_ipaddress {\n 10.1.0.1/24 dev eth0\n}\nstatic_routes {\n 10.2.0.0/24 dev eth0\n 10.3.0.0/24 dev eth0 metric 5\n}\n",
    );
    let after = sound(
        "static_ipaddress {\n 10.1.0.2/24 dev eth0\n}\nstatic_routes {\n 10.2.0.0/24 dev eth0 mtu 1400\n}\nstatic_rules {\n table 5 preference 5\n}\n",
    );
    let changes: Vec<String> = before
        .changes_to(&after)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changes,
        [
            "static_ipaddress 10.1.0.1/24 dev eth0 removed",
            "static_ipaddress 10.1.0.2/24 dev eth0 added",
            "static_routes 10.3.0.0/24 metric 5 removed",
            "static_routes 10.2.0.0/24 changed",
            "static_rules preference 5 added",
        ]
    );
    assert!(after.changes_to(&after).is_empty());
}

#[test]
fn what_is_not_done_is_named_with_its_place() {
    let text = "static_routes {
 10.2.0.0/24 dev eth0 encap ip id 5 dst 10.0.0.1
 10.3.0.0/24 dev eth0 vrf blue
 10.4.0.0/24 dev eth0 ttl-propagate enabled
 10.5.0.0/24 dev eth0 as to 5
 nat 10.6.0.0/24 dev eth0
 10.7.0.0/24 nexthop via 10.0.0.1 encap ip id 5 dst 10.0.0.1
 10.8.0.0/24 gw 10.0.0.1 or 10.0.0.2
 10.9.0.0/24 dev eth0 protocol static
 10.10.0.0/24 dev eth0 track_group T
}
";
    let (unsupported, warning) = (Severity::Unsupported, Severity::Warning);
    assert_eq!(
        said(text),
        [
            (unsupported, 2, 23),
            (unsupported, 3, 23),
            (unsupported, 4, 23),
            (unsupported, 5, 23),
            (unsupported, 6, 2),
            (unsupported, 7, 35),
            (warning, 8, 14),
            (warning, 8, 26),
            (warning, 9, 2),
            (Severity::Error, 10, 36),
        ]
    );
    // Nothing of a line that is left out is there.
    assert_eq!(read(text).0.statics.routes.len(), 3);
}
