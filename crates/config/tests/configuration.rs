//! What a keepalived.conf means, and what is said about it.

use std::time::Duration;

use pointsman_config::keepalived::model::{Check, Members, ServiceKey, Target};
use pointsman_config::keepalived::{
    Act, Alone, Change, Configuration, Diagnostic, Severity, build, configure, keywords,
};
use pointsman_director::model::{
    ForwardingMethod, Protocol, ServiceId, TunnelChecksum, TunnelType,
};
use pointsman_ha::health::ServiceHealth;
use pointsman_ha::vrrp::Peers;
use proptest::prelude::*;

fn read(text: &str) -> (Configuration, Vec<Diagnostic>) {
    let (configuration, _, diagnostics) = configure("k.conf", text, "west", &mut Alone);
    (configuration, diagnostics)
}

/// What a text without anything to say about means.
fn clean(text: &str) -> Configuration {
    let (configuration, diagnostics) = read(text);
    assert_eq!(diagnostics, [], "{text}");
    configuration
}

/// What is said, `LINE:COLUMN: severity: text` up to its first colon or semicolon and space.
fn said(text: &str) -> Vec<String> {
    let (_, diagnostics) = read(text);
    let short = |d: &Diagnostic| {
        let text = d.text.split(": ").next().unwrap_or_default();
        let text = text.split("; ").next().unwrap_or_default();
        format!("{}:{}: {}: {text}", d.line, d.column, d.severity)
    };
    diagnostics.iter().map(short).collect()
}

fn instance(lines: &str) -> String {
    format!(
        "vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {{\n  10.0.0.1/24\n }}\n{lines}\n}}\n"
    )
}

fn service(lines: &str) -> String {
    format!(
        "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n{lines}\n real_server 10.0.0.2 8080 {{\n TCP_CHECK {{\n }}\n }}\n}}\n"
    )
}

#[test]
fn an_instance_has_keepalived_s_defaults() {
    let configuration = clean(&instance(""));
    let [one] = &configuration.instances[..] else {
        panic!("one instance");
    };
    assert_eq!((one.vrid, one.priority, one.version), (5, 100, 2));
    assert_eq!(one.interval, Duration::from_secs(1));
    assert_eq!(
        (one.preempt, one.begins_as_master, one.down_adverts),
        (true, false, 3)
    );
    assert_eq!(one.addresses[0].prefix, 24);
    assert_eq!(one.announce.lower_delay, Duration::from_secs(5));
    let (configuration, _) = read(&instance("state MASTER"));
    assert_eq!(configuration.instances[0].priority, 255);
    let (configuration, _) = read(&instance("priority 255"));
    assert!(configuration.instances[0].begins_as_master);
}

#[test]
fn what_is_global_holds_for_every_instance_wherever_it_stands() {
    let text = instance("garp_master_delay 7")
        + "global_defs {\n vrrp_version 3\n vrrp_garp_master_repeat 2\n vrrp_garp_master_delay 9\n}\n";
    let one = &clean(&text).instances[0];
    assert_eq!(one.version, 3);
    assert_eq!(one.announce.repeat, 2);
    assert_eq!(one.announce.delay, Duration::from_secs(7));
}

#[test]
fn a_service_takes_what_it_does_not_say_from_defaults() {
    let configuration = clean(&service(" delay_loop 6\n retry 4\n connect_timeout 2.5"));
    let [service] = &configuration.services[..] else {
        panic!("one service");
    };
    assert_eq!(service.protocol, Protocol::Tcp);
    assert_eq!((service.quorum, service.hysteresis), (1, 0));
    let server = &service.servers[0];
    assert_eq!((server.weight, server.port), (1, 8080));
    assert_eq!(server.method.method, ForwardingMethod::Masquerade);
    let checker = &server.checkers[0];
    assert_eq!(checker.timing.delay_loop, Duration::from_secs(6));
    assert_eq!(checker.timing.warmup, Duration::from_secs(6));
    assert_eq!(checker.timing.retry, 4);
    let Check::Tcp(binding) = &checker.check else {
        panic!("{checker:?}");
    };
    assert_eq!(binding.timeout, Duration::from_millis(2500));
    assert_eq!((binding.address, binding.port), (server.address, 8080));
}

#[test]
fn tunnels_and_direct_routing_keep_the_service_s_port_and_checks_their_own() {
    let text = service("").replace("NAT", "TUN type gue port 6080 csum");
    let (configuration, diagnostics) = read(&text);
    assert_eq!(diagnostics.len(), 2, "{diagnostics:?}");
    let server = &configuration.services[0].servers[0];
    assert_eq!(server.port, 80);
    let gue = TunnelType::Gue {
        port: 6080,
        checksum: TunnelChecksum::Full,
    };
    assert_eq!(server.method.tunnel, gue);
    let Check::Tcp(binding) = &server.checkers[0].check else {
        panic!("{server:?}");
    };
    assert_eq!(binding.port, 8080);
}

#[test]
fn groups_become_a_service_each() {
    let text = "virtual_server_group G {\n 10.1.0.1 80\n 10.1.0.254-10.1.1.1 90\n 10.2.0.4/31 1\n fwmark 7\n fd00::fe-100 5\n}\n".to_owned()
        + &service("").replace("10.0.0.1 80", "group G");
    let configuration = clean(&text);
    assert_eq!(configuration.services[0].target, Target::Group("G".into()));
    assert!(matches!(
        configuration.service_groups[0].members[3],
        Members::Mark(7, None)
    ));
    let ids: Vec<String> = configuration
        .virtual_services()
        .iter()
        .map(|derived| match derived.service.id {
            ServiceId::Address { address, port, .. } => format!("{address} {port}"),
            ServiceId::Mark { mark, .. } => format!("mark {mark}"),
        })
        .collect();
    assert_eq!(
        ids,
        [
            "10.1.0.1 80",
            "10.1.0.254 90",
            "10.1.0.255 90",
            "10.1.1.0 90",
            "10.1.1.1 90",
            "10.2.0.4 1",
            "10.2.0.5 1",
            "mark 7",
            "fd00::fe 5",
            "fd00::ff 5",
            "fd00::100 5"
        ]
    );
}

#[test]
fn every_line_that_counts_otherwise_is_named_with_its_place() {
    for (text, expected) in [
        (
            instance(" strict_mode\n preempt_delay 5"),
            "8:2: error: `preempt_delay` is not the RFC's",
        ),
        (
            instance(" strict_mode\n accept"),
            "8:2: error: `accept` with version 2 is not the RFC's",
        ),
        (
            instance(" strict_mode"),
            "7:2: warning: in strict mode a master that was paused and comes back is not answered",
        ),
        (
            instance(" strict_mode\n use_vmac x 02:00:00:00:00:07"),
            "8:2: error: a link-layer address behind `use_vmac` is not the RFC's",
        ),
        (
            "global_defs {\n nftables a b\n}\n".to_owned(),
            "2:13: warning: `b` behind `nftables` is ignored",
        ),
        (
            instance(" prioriti 5"),
            "7:2: error: unknown keyword `prioriti` in vrrp_instance",
        ),
        (instance(" priority 300"), "7:11: error: `priority 300`"),
        (
            instance(" priority"),
            "7:2: error: `priority` needs a number from 1 to 255",
        ),
        (
            instance(" lb_algo rr"),
            "7:2: error: unknown keyword `lb_algo` in vrrp_instance",
        ),
        (
            instance(" use_vmac_addr"),
            "7:2: unsupported: `use_vmac_addr`",
        ),
        (
            instance(" use_vmac /dev/null"),
            "7:11: error: `/dev/null` is no name of an interface and no link-layer address",
        ),
        (
            instance(" verify_vip 5 ask 10.0.0.1 step_down"),
            "7:2: note: `verify_vip` is not keepalived's, which would name this line and leave it out",
        ),
        (
            instance(" verify_vip ask me"),
            "7:17: error: `me` is no address to ask",
        ),
        (instance(" debug 3"), "7:2: note: `debug` has no effect"),
        (
            instance(" priority 5 6"),
            "7:13: warning: `6` behind `priority` is ignored",
        ),
        (
            instance(" state MASTER\n priority 9\n nopreempt"),
            "9:2: error: `nopreempt` has no effect with `state MASTER`",
        ),
        (
            instance(" state MASTER\n priority 9"),
            "7:2: warning: `state MASTER` makes nobody master",
        ),
        (
            instance(" advert_int 0.5"),
            "7:2: error: version 2 has whole seconds",
        ),
        (
            instance(" authentication {\n auth_type PASS\n auth_pass 123456789\n }"),
            "9:12: error: a password has eight characters, what is behind them does not count",
        ),
        (
            instance(" authentication {\n auth_type AH\n auth_pass 1\n }"),
            "8:2: unsupported: `auth_type AH`",
        ),
        (
            instance(" track_script {\n  s\n }"),
            "8:3: error: there is no vrrp_script `s`",
        ),
        (
            instance(" virtual_ipaddress {\n  fd00::1\n }"),
            "8:3: error: `fd00::1` is of another family than `10.0.0.1`, and is left out",
        ),
        (
            instance(" virtual_ipaddress {\n  10.0.0.1\n }"),
            "8:3: warning: `10.0.0.1` is there already",
        ),
        (
            instance("") + &instance("").replace("instance V", "instance W"),
            "11:2: error: virtual_router_id 5 is `V`'s on this interface",
        ),
        (
            instance("")
                + &instance("")
                    .replace("instance V", "instance W")
                    .replace("id 5", "id 6"),
            "13:3: warning: `10.0.0.1` is an address of `V` too",
        ),
        (
            instance(" unicast_src_ip 10.0.0.9"),
            "7:2: error: unicast without peers",
        ),
        (
            service(" quorum 5"),
            "5:2: error: quorum 5 is more than the weight of all real servers, 1",
        ),
        (service(" delay_loop 0"), "5:13: error: `delay_loop 0`"),
        (
            service(" alpha off"),
            "5:8: warning: `off` behind `alpha` is ignored",
        ),
        (service(" smtp_alert on"), "5:2: warning: `smtp_alert`"),
        (
            service(" persistence_granularity x"),
            "5:26: error: `x` is no netmask, as in 255.255.255.0",
        ),
        (
            service(" sorry_server fd00::9 80"),
            "5:2: error: sorry server `fd00::9` is of another family than the service, and is left out",
        ),
        (
            service(" real_server 10.0.0.2 8080 {\n TCP_CHECK {\n }\n }"),
            "9:2: error: real server `10.0.0.2` port 8080 is there already",
        ),
        (
            service(" real_server 10.0.0.3 80 {\n }"),
            "5:2: warning: real server `10.0.0.3` is not checked",
        ),
        (
            service("").replace("10.0.0.1 80", "10.0.0.1"),
            "1:1: error: every port is served by persistent services alone",
        ),
        (
            "bfd_instance B {\n neighbor_ip 10.0.0.1\n idle_tx 200\n}\n".to_owned(),
            "3:10: error: `idle_tx 200`",
        ),
        (
            "bfd_instance B {\n neighbor_ip 10.0.0.1\n min_tx 50\n}\n".to_owned(),
            "3:2: warning: after 250ms of silence the session is down",
        ),
        (
            "bfd_instance B {\n neighbor_ip fd00::1\n}\n".to_owned(),
            "1:1: warning: without `hoplimit 255` packets leave with 64, as keepalived's",
        ),
        (
            "bfd_instance B {\n neighbor_ip 10.0.0.1\n foo\n}\n".to_owned(),
            "3:2: error: unknown keyword `foo` in bfd_instance",
        ),
        (
            "vrrp_instance V {\n".to_owned(),
            "1:17: error: `{` without a `}`",
        ),
        (
            "global_defs {\n smtp_alert off\n enable_dbus\n}\n".to_owned(),
            "3:2: unsupported: `enable_dbus`",
        ),
    ] {
        let said = said(&text);
        assert!(
            said.iter().any(|line| line == expected),
            "{expected}: {said:#?}"
        );
    }
    assert_eq!(said("global_defs {\n smtp_alert off\n}\n"), [""; 0]);
}

#[test]
fn an_unknown_word_is_told_where_it_belongs_or_what_it_may_be() {
    let (_, diagnostics) = read("vrrp_instance V {\n prioriyt 5\n}\nadvert_int 1\n");
    assert!(
        diagnostics
            .iter()
            .any(|d| d.text.ends_with("is it `priority`?")),
        "{diagnostics:?}"
    );
    assert!(
        diagnostics
            .iter()
            .any(|d| d.text.ends_with("it belongs into vrrp_instance"))
    );
}

#[test]
fn a_sync_group_has_members_that_exist_and_are_in_one_group() {
    let text = instance("")
        + "vrrp_sync_group G {\n group {\n  V\n  X\n }\n}\nvrrp_sync_group H {\n group { V }\n}\n";
    let (configuration, diagnostics) = read(&text);
    assert_eq!(configuration.sync_groups.len(), 1);
    assert_eq!(configuration.sync_groups[0].members, ["V"]);
    assert_eq!(diagnostics.len(), 4, "{diagnostics:#?}");
}

#[test]
fn what_means_the_same_is_equal_wherever_it_stands() {
    let one = clean(&(instance("") + &service("")));
    let other = clean(&("# Moved.\n\n".to_owned() + &instance("") + "\n" + &service("")));
    assert_eq!(one, other);
    assert_ne!(one, clean(&(instance(" priority 101") + &service(""))));
}

#[test]
fn no_keyword_stands_twice_in_a_block() {
    let mut seen = std::collections::HashSet::new();
    for keyword in keywords::all() {
        assert!(seen.insert((keyword.block, keyword.name)), "{keyword:?}");
    }
    assert!(seen.len() > 300, "{}", seen.len());
}

#[test]
fn a_virtual_router_may_have_its_own_link_layer_address() {
    let router = |name: &str, words: &str, address: &str| {
        format!(
            "vrrp_instance {name} {{\n interface eth0\n virtual_router_id 51\n {words}\n \
             virtual_ipaddress {{\n {address}\n }}\n}}\n"
        )
    };
    let text = router("A", "use_vmac", "10.0.0.1")
        + &router("B", "use_vmac\n vmac_xmit_base", "fd00::1")
        + &router("C", "use_vmac mine 02:00:00:00:00:07", "10.0.0.2")
        + &router("D", "", "10.0.0.3")
        + &router("E", "use_vmac\n unicast_peer {\n 10.0.0.9\n }", "10.0.0.4")
        + &router(
            "F",
            "strict_mode\n use_vmac s 02:00:00:00:00:08\n vmac_xmit_base",
            "10.0.0.5",
        );
    let (configuration, _) = read(&text);
    let vmacs: Vec<_> = configuration
        .instances
        .iter()
        .map(|one| {
            let vmac = one.vmac.as_ref()?;
            Some(format!(
                "{} {} {}",
                vmac.name, vmac.mac, vmac.advertise_below
            ))
        })
        .collect();
    let vmacs: Vec<_> = vmacs
        .iter()
        .map(|vmac| vmac.as_deref().unwrap_or("none"))
        .collect();
    assert_eq!(
        vmacs,
        [
            "vrrp.51 00:00:5e:00:01:33 false",
            "vrrp6.51 00:00:5e:00:02:33 true",
            "mine 02:00:00:00:00:07 false",
            "none",
            "vrrp4.51 00:00:5e:00:01:33 true",
            "s 00:00:5e:00:01:33 false",
        ]
    );
}

#[test]
fn compatibility_md_has_the_table_of_keywords() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../COMPATIBILITY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = keywords::markdown();
    assert!(
        text.contains(&table),
        "COMPATIBILITY.md should have:\n{table}"
    );
}

proptest! {
    /// Whatever the words, there is an answer.
    #[test]
    fn any_statements_are_read(picks in prop::collection::vec((0..600_usize, 0..12_usize), 0..60)) {
        let all: Vec<_> = keywords::all().collect();
        let arguments = ["", "1", "-1", "300", "10.0.0.1 80", "fd00::1", "{", "}", "} }", "fwmark 5 {", "on", "a b c {"];
        let text: String = picks
            .iter()
            .map(|(at, with)| format!("{} {}\n", all[at % all.len()].name, arguments[*with]))
            .collect();
        let (configuration, diagnostics) = read(&text);
        configuration.summary();
        for d in &diagnostics {
            prop_assert!(d.line > 0 && d.column > 0 && d.severity >= Severity::Note);
        }
    }
}

#[test]
fn an_empty_document_means_nothing() {
    let (configuration, diagnostics) = build(&Default::default());
    assert_eq!(configuration, Configuration::default());
    assert_eq!(diagnostics, []);
}

#[test]
fn the_machines_of_availability_are_told_what_the_file_says() {
    let text = "vrrp_script S {\n script /bin/true\n weight 5\n}\ntrack_file F {\n file /tmp/f\n}\n\
                global_defs {\n vrrp_garp_interval 0.5\n}\n\
                garp_group {\n garp_interval 0.25\n interface eth0\n}\n\
                vrrp_sync_group G {\n group { V W }\n track_interface {\n eth7\n }\n sync_group_tracking_weight\n}\n"
        .to_owned()
        + &instance(" priority 120\n nopreempt\n track_script {\n S\n }\n track_file {\n F weight 3 reverse\n }\n \
                     authentication {\n auth_type PASS\n auth_pass abc\n }\n unicast_peer {\n 192.168.0.7 max_ttl 9\n }")
        + &instance(" version 3\n advert_int 0.1\n lower_prio_no_advert")
            .replace("instance V", "instance W")
            .replace("eth0", "eth1")
            .replace("10.0.0.1", "10.0.0.2");
    let configuration = clean(&text);
    let routers = configuration.routers();
    for router in &routers {
        assert_eq!(router.check(), Ok(()));
    }
    let [v, w] = &routers[..] else {
        panic!("{routers:?}");
    };
    assert_eq!(v.password, Some(*b"abc\0\0\0\0\0"));
    assert_eq!((v.priority, v.preempt, v.answer_lower), (120, false, true));
    assert_eq!(v.announce.spacing, Duration::from_millis(250));
    assert_eq!(w.announce.spacing, Duration::from_millis(500));
    assert_eq!(
        (w.interval, w.answer_lower),
        (Duration::from_millis(100), false)
    );
    let trackers: Vec<String> = v
        .trackers
        .iter()
        .map(|t| format!("{} {} {}", t.name, t.weight, t.reverse))
        .collect();
    assert_eq!(
        trackers,
        [
            "script S 5 false",
            "file F 3 true",
            "interface eth7 0 false"
        ]
    );
    let Peers::Unicast {
        peers,
        hop_limit,
        only_peers,
    } = &v.peers
    else {
        panic!("{v:?}");
    };
    assert_eq!(
        (peers[0].hop_limits.clone(), *hop_limit, *only_peers),
        (0..=9, 255, true)
    );
    assert_eq!(w.peers, Peers::Multicast("224.0.0.18".parse().unwrap()));
    assert_eq!(configuration.sync_groups[0].name, "G");
}

#[test]
fn health_is_minded_as_the_file_says() {
    let text = service(
        " quorum 2\n hysteresis 1\n sorry_server 10.0.0.9 80\n sorry_server_inhibit\n weight 2",
    );
    let text = text.replace("TCP_CHECK {", "TCP_CHECK {\n alpha on");
    let configuration = clean(&text);
    let config = configuration.services[0].health();
    assert_eq!(config.name, "[10.0.0.1]:tcp:80");
    assert_eq!(config.servers[0].name, "[10.0.0.2]:tcp:8080");
    assert_eq!(config.servers[0].checkers, [false]);
    let mut health = ServiceHealth::new(config);
    assert!(health.is_sorry());
    health.handle_checker(0, 0, true);
    assert_eq!(health.live_weight(), 2);
    let timing = configuration.services[0].servers[0].checkers[0].timing;
    assert!(timing.checker().alpha);
}

#[test]
fn a_reload_changes_what_differs_and_nothing_else() {
    let base = instance("") + &service("");
    let old = clean(&base);
    let changes = |text: &str| old.changes_to(&read(text).0);
    assert_eq!(changes(&("\n# moved\n".to_owned() + &base)), []);
    let target = old.services[0].key();
    let udp = ServiceKey {
        protocol: Protocol::Udp,
        ..target.clone()
    };
    let server = "10.0.0.2".parse().unwrap();
    for (text, expected) in [
        (
            instance(" priority 7") + &service(""),
            vec![Change::Instance(Act::Edit, "V".into())],
        ),
        (service(""), vec![Change::Instance(Act::Remove, "V".into())]),
        (
            base.clone() + "global_defs {\n vrrp_mcast_group4 224.0.0.19\n}\n",
            vec![Change::Global, Change::Instance(Act::Edit, "V".into())],
        ),
        (
            instance("") + &service(" quorum_up /bin/true"),
            vec![Change::Service(Act::Edit, target.clone())],
        ),
        (
            base.replace("protocol TCP", "protocol UDP"),
            vec![
                Change::Service(Act::Remove, target.clone()),
                Change::Service(Act::Add, udp),
            ],
        ),
        (
            instance("") + &service(" real_server 10.0.0.7 80 {\n PING_CHECK {\n }\n }"),
            vec![Change::Server(
                Act::Add,
                target.clone(),
                "10.0.0.7".parse().unwrap(),
                80,
            )],
        ),
        (
            base.replace("TCP_CHECK {", "TCP_CHECK {\n retry 5"),
            vec![Change::Checkers(target.clone(), server, 8080)],
        ),
        (
            base.replace("TCP_CHECK {", "weight 5\n TCP_CHECK {"),
            vec![Change::Server(Act::Edit, target.clone(), server, 8080)],
        ),
    ] {
        assert_eq!(changes(&text), expected, "{text}");
    }
}

#[test]
fn a_check_of_the_virtual_address_is_known_as_ours_and_its_limits_are_named() {
    let said = |target: &str, method: &str, check: &str| {
        let text = format!(
            "virtual_server_group G {{\n10.0.0.1 80\n}}\nvirtual_server {target} {{\nprotocol TCP\nlvs_sched rr\n\
             lvs_method {method}\nreal_server 10.0.0.2 80 {{\n{check}\n}}\n}}\n"
        );
        let (configuration, diagnostics) = read(&text);
        let check = configuration.services[0].servers[0].checkers[0]
            .check
            .clone();
        assert!(check.binding().is_some_and(|binding| binding.vip_check));
        let about = diagnostics.into_iter().map(|d| d.to_string());
        about
            .filter(|text| text.contains("vip_check"))
            .collect::<Vec<_>>()
    };
    let ours = |said: Vec<String>| {
        assert!(
            said[0].contains("note: `vip_check` is not keepalived's"),
            "{said:?}"
        );
        said[1..].join("\n")
    };
    let plain = "TCP_CHECK {\nvip_check\n}";
    for method in ["DR", "TUN"] {
        assert_eq!(ours(said("10.0.0.1 80", method, plain)), "");
    }
    for (target, method, check, wanted) in [
        (
            "10.0.0.1 80",
            "NAT",
            plain,
            "warning: `vip_check` with NAT is the usual check",
        ),
        (
            "fwmark 3",
            "DR",
            plain,
            "error: `vip_check` needs a virtual_server with one address",
        ),
        (
            "group G",
            "DR",
            plain,
            "error: `vip_check` needs a virtual_server with one address",
        ),
        (
            "fd00::1 80",
            "TUN",
            plain,
            "unsupported: `vip_check` through a tunnel of the other family",
        ),
        (
            "10.0.0.1 80",
            "DR",
            "TCP_CHECK {\nvip_check\nconnect_ip 10.0.0.9\n}",
            "error: `connect_ip` beside `vip_check`",
        ),
        (
            "10.0.0.1 80",
            "DR",
            "UDP_CHECK {\nvip_check\n}",
            "warning: `vip_check` without `require_reply`",
        ),
    ] {
        let more = ours(said(target, method, check));
        assert!(more.contains(wanted), "{target} {method}: {more}");
    }
}

#[test]
fn mails_are_about_what_keepalived_s_are() {
    let globals = |lines: &str| {
        format!(
            "global_defs {{\n notification_email {{\n  a@b \"C <c@d>\"\n  e@f\n }}\n smtp_server mail.example.org 2525\n{lines}\n}}\n"
        )
    };
    let group = "vrrp_sync_group G {\n group {\n  V\n  W\n }\n}\n";
    let other = instance(" smtp_alert off")
        .replace("instance V", "instance W")
        .replace("id 5", "id 6")
        .replace("10.0.0.1", "10.0.0.9");
    // As `keepalived -d` shows: instance, group, service, real server.
    for (lines, wanted) in [
        ("", [false, false, false, true]),
        (" smtp_alert", [true; 4]),
        (" smtp_alert off", [false; 4]),
        (" smtp_alert_vrrp on", [true, true, false, true]),
        (" smtp_alert_checker yes", [false, false, true, true]),
        (" smtp_alert_checker off", [false; 4]),
        (
            " smtp_alert\n smtp_alert_vrrp off",
            [false, false, true, true],
        ),
    ] {
        let text = globals(lines) + &instance("") + &other + group + &service("");
        let configuration = clean(&text);
        let service = &configuration.services[0];
        let alerts = [
            configuration.instances[0].alert,
            configuration.sync_groups[0].alert,
            service.alert,
            service.servers[0].alert,
        ];
        assert_eq!(alerts, wanted, "{lines}");
        assert!(!configuration.instances[1].alert);
    }
    let mail = clean(&(globals(" no_checker_emails\n no_email_faults") + &service("")))
        .global
        .mail;
    assert_eq!(mail.recipients, ["a@b", "C <c@d>", "e@f"]);
    assert_eq!(mail.server, Some(("mail.example.org".to_owned(), 2525)));
    assert_eq!((mail.faults, mail.checkers), (false, false));
    assert_eq!(mail.timeout, Duration::from_secs(30));
    for (text, expected) in [
        (
            "global_defs {\n smtp_server 10.0.0.1 0\n}\n",
            "2:23: error: `port 0`",
        ),
        (
            "global_defs {\n notification_email {\n  a@b\n }\n}\n",
            "2:2: warning: `notification_email`",
        ),
        (
            "global_defs {\n smtp_alert\n}\n",
            "2:2: warning: `smtp_alert`",
        ),
    ] {
        let said = said(text);
        assert!(
            said.iter().any(|line| line == expected),
            "{expected}: {said:#?}"
        );
    }
    // A reload that changes who gets them changes that alone.
    let (before, after) = (globals(""), globals(" smtp_helo_name other"));
    let changes = |text: &str| clean(&(text.to_owned() + &service("")));
    let changes = changes(&before).changes_to(&changes(&after));
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[test]
fn a_virtual_router_may_track_the_quorum_of_a_virtual_service() {
    let virtual_server = |target: &str, more: &str| {
        format!(
            "virtual_server {target} {{\n lvs_sched rr\n lvs_method DR\n{more}\n real_server 10.0.0.9 80 {{\n \
             TCP_CHECK {{\n }}\n }}\n}}\n"
        )
    };
    let services = virtual_server("10.0.0.1 80", " protocol TCP")
        + &virtual_server("10.0.0.1 80", " protocol UDP")
        + "virtual_server_group G {\n 10.0.0.3 80\n}\n"
        + &virtual_server("fwmark 5", "")
        + &virtual_server("group G", " protocol TCP");
    let tracked = |lines: &str| {
        let text = instance(&format!(" track_virtual_server {{\n{lines}\n }}")) + &services;
        let (configuration, diagnostics) = read(&text);
        let trackers = configuration.routers().remove(0).trackers.into_iter();
        let trackers: Vec<String> = trackers
            .map(|one| format!("{} {} {}", one.name, one.weight, one.reverse))
            .collect();
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
        (trackers.join(", "), errors.count())
    };
    let key = "virtual_server 10.0.0.1 80 Tcp";
    for (lines, expected, errors) in [
        ("10.0.0.1 80 tcp weight -30", format!("{key} -30 false"), 0),
        (
            "\"10.0.0.1 80 tcp\" weight 5 reverse",
            format!("{key} 5 true"),
            0,
        ),
        ("10.0.0.1 80 TCP", format!("{key} 0 false"), 0),
        (
            "fwmark 5 weight 1",
            "virtual_server fwmark 5 inet 1 false".to_owned(),
            0,
        ),
        (
            "group G",
            "virtual_server group G Tcp inet 0 false".to_owned(),
            0,
        ),
        // One of two, none, and one twice.
        ("10.0.0.1 80", String::new(), 1),
        ("10.0.0.1 81 tcp", String::new(), 1),
        (
            "fwmark 5\nfwmark 5 inet",
            "virtual_server fwmark 5 inet 0 false".to_owned(),
            1,
        ),
    ] {
        assert_eq!(tracked(lines), (expected, errors), "{lines}");
    }
    let group =
        "vrrp_sync_group S {\n group {\n  V\n  W\n }\n track_virtual_server {\n fwmark 5\n }\n}\n";
    let other = instance("")
        .replace("instance V", "instance W")
        .replace("id 5", "id 6");
    let text = instance("") + &other.replace("10.0.0.1", "10.0.0.2") + group + &services;
    let (configuration, _) = read(&text);
    for router in configuration.routers() {
        assert_eq!(router.trackers[0].name, "virtual_server fwmark 5 inet");
    }
}
