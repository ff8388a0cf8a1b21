//! `lvs_sync_daemon`: what it means, and what is said about it.

use pointsman_config::keepalived::model::Synchronisation;
use pointsman_config::keepalived::{Alone, Change, Configuration, configure};

fn text(line: &str, more: &str) -> String {
    format!(
        "global_defs {{\n {line}\n}}\nvrrp_instance VI {{\n interface eth0\n virtual_router_id 5\n {more}\n \
         virtual_ipaddress {{\n  10.0.0.1/24\n }}\n}}\n"
    )
}

/// What is meant, and what is said about it.
fn read(line: &str, more: &str) -> (Configuration, Vec<String>) {
    let (configuration, _, diagnostics) =
        configure("k.conf", &text(line, more), "west", &mut Alone);
    let said = diagnostics.iter();
    let said = said.map(|d| format!("{}:{}: {}", d.line, d.column, d.text));
    (configuration, said.collect())
}

fn clean(line: &str, more: &str) -> Option<Synchronisation> {
    let (configuration, said) = read(line, more);
    assert_eq!(said, [""; 0], "{line}");
    configuration.global.synchronisation
}

#[test]
fn the_line_reads_as_keepalived_has_it() {
    let plain = Synchronisation {
        interface: "eth1".to_owned(),
        ..Synchronisation::default()
    };
    let follows = Synchronisation {
        instance: Some("VI".to_owned()),
        ..plain.clone()
    };
    assert_eq!(clean("", ""), None);
    assert_eq!(clean("lvs_sync_daemon eth1", ""), Some(plain.clone()));
    assert_eq!(clean("lvs_sync_daemon eth1 VI", ""), Some(follows.clone()));
    assert_eq!(
        clean("lvs_sync_daemon eth1 inst VI", ""),
        Some(follows.clone())
    );
    let id = |id, of: &Synchronisation| {
        let id = Some(id);
        Some(Synchronisation { id, ..of.clone() })
    };
    assert_eq!(clean("lvs_sync_daemon eth1 id 0", ""), id(0, &plain));
    assert_eq!(clean("lvs_sync_daemon eth1 VI 7", ""), id(7, &follows));
    let all = "lvs_sync_daemon eth1 VI id 255 maxlen 65507 port 65535 ttl 255 group ff02::81";
    let expected = Synchronisation {
        id: Some(255),
        max_length: Some(65_507),
        port: Some(65_535),
        ttl: Some(255),
        group: Some("ff02::81".parse().unwrap()),
        ..follows.clone()
    };
    assert_eq!(clean(all, ""), Some(expected));
    assert_eq!(clean("", "lvs_sync_daemon_interface eth1"), Some(follows));
}

#[test]
fn what_can_not_be_is_said() {
    for (line, more, expected) in [
        ("lvs_sync_daemon", "", "2:2: "),
        (
            "lvs_sync_daemon eth1 NO",
            "",
            "2:2: `lvs_sync_daemon` follows vrrp_instance `NO`",
        ),
        (
            "lvs_sync_daemon abcdefghijklmnop",
            "",
            "2:18: `abcdefghijklmnop`",
        ),
        (
            "lvs_sync_daemon eth1 id 256",
            "",
            "2:26: `id 256`: it goes from 0 to 255",
        ),
        ("lvs_sync_daemon eth1 maxlen 0", "", "2:30: `maxlen 0`"),
        (
            "lvs_sync_daemon eth1 maxlen 65508",
            "",
            "2:30: `maxlen 65508`",
        ),
        ("lvs_sync_daemon eth1 port 0", "", "2:28: `port 0`"),
        ("lvs_sync_daemon eth1 ttl 0", "", "2:27: `ttl 0`"),
        (
            "lvs_sync_daemon eth1 group 10.0.0.1",
            "",
            "2:29: `group 10.0.0.1`",
        ),
        (
            "lvs_sync_daemon eth1 group",
            "",
            "2:23: `group` needs a value",
        ),
        (
            "lvs_sync_daemon eth1 VI foo 3",
            "",
            "2:26: `foo`: options are",
        ),
        ("lvs_sync_daemon eth1\n lvs_sync_daemon eth2", "", "3:2: "),
        (
            "lvs_sync_daemon eth1",
            "lvs_sync_daemon_interface eth1",
            "7:2: there is a sync daemon already",
        ),
    ] {
        let (_, said) = read(line, more);
        let [said] = &said[..] else {
            panic!("{line}: {said:?}");
        };
        assert!(said.starts_with(expected), "{line}: {said}");
    }
}

#[test]
fn a_reload_sees_the_difference() {
    let (before, _) = read("lvs_sync_daemon eth1 VI", "");
    let (same, _) = read("lvs_sync_daemon eth1 inst VI", "");
    let (other, _) = read("lvs_sync_daemon eth1 VI id 3", "");
    assert_eq!(before.changes_to(&same), []);
    assert_eq!(before.changes_to(&other), [Change::Global]);
}
