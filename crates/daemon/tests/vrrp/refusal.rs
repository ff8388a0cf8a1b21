//! Masters that accept nothing at their addresses, beside a keepalived that does not either.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;

use pointsman_daemon::vrrp::{Board, Vrrp};
use pointsman_ha::vrrp::Version;
use tokio::sync::mpsc::unbounded_channel;

use super::keepalived::Keepalived;
use super::segment::{self, Segment, ip, wait};
use super::{Manner, PLAIN, V4, V6, begin, who_has};

const LINK: &str = "fe80::77:100";

/// Whether the client, host 2, gets an answer from an address.
fn answers(segment: &Segment, address: &str) -> bool {
    let mut command = segment.hosts[2].command("ping");
    command.args(["-c", "1", "-W", "1", "-I", "eth0", address]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.expect("ping").success()
}

/// What a host drops, in nft's words: hook, and addresses of sets.
fn drops(segment: &Segment, host: usize) -> (Vec<String>, BTreeSet<String>) {
    let listed = segment::run(&segment.hosts[host], "nft", "list ruleset");
    let hooks = listed.lines().filter(|line| line.contains("hook "));
    let words = listed.split([' ', '\n', '\t', ',']);
    let addresses = words.filter(|word| word.parse::<IpAddr>().is_ok());
    (
        hooks
            .map(|line| line.trim().to_owned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        addresses.map(str::to_owned).collect(),
    )
}

fn nothing_is_accepted(v6: bool) {
    let Some(segment) = Segment::new(3) else {
        return;
    };
    let manner = Manner {
        version: Version::V3,
        centiseconds: 10,
        v6,
        ..PLAIN
    };
    let vips: &[&str] = if v6 { &[V6, LINK] } else { &[V4] };
    let own = if v6 {
        ["fd77::1", "fd77::2"]
    } else {
        ["10.77.0.1", "10.77.0.2"]
    };
    let mut config = manner.ours(150, 0, 1);
    config.instances[0].refuses = true;
    // Left by a daemon that was killed: with its address, and by another name.
    let left = "table ip pm_left {\n comment \"pointsman: no_accept mode\"\n}\n";
    segment.hosts[0]
        .run_in(|| pointsman_linux::nft::load(left))
        .expect("enter")
        .expect("load");
    let theirs = manner
        .theirs(100, 1, 0)
        .replace("version", "no_accept\n version");
    let theirs = Keepalived::start(&segment.hosts[1], &theirs);
    wait("keepalived to be master", || segment.has(1, vips[0]));
    let of_theirs = drops(&segment, 1);
    assert_eq!(of_theirs.1.len(), vips.len(), "{of_theirs:?}");
    let (ours, _) = begin(&segment, 0, &config);
    segment.wait_for_owner(0, &[0, 1], vips[0]);
    // The same, at the same place among others' rules.
    assert_eq!(drops(&segment, 0), of_theirs);
    wait("keepalived to drop nothing any more", || {
        drops(&segment, 1).1.is_empty()
    });
    ip(&segment.hosts[2], "neighbour flush all");
    wait("the client to reach the host itself", || {
        answers(&segment, own[0])
    });
    for vip in vips {
        assert!(!answers(&segment, vip), "{vip} answers");
        wait("the client to find the address all the same", || {
            !who_has(&segment, 2, vip).is_empty()
        });
    }
    // A reload: it accepts, and refuses again, by another table. It stays master.
    let (tell, mut told) = unbounded_channel();
    let mut accepts = config.clone();
    accepts.instances[0].refuses = false;
    ours.set_config(&accepts, tell.clone()).expect("it can be");
    assert_eq!(drops(&segment, 0), Default::default());
    wait("an answer", || answers(&segment, vips[0]));
    config.refusal.table = "pm_other".to_owned();
    config.refusal.priority = 7;
    config.refusal.counts = true;
    ours.set_config(&config, tell.clone()).expect("it can be");
    assert!(!answers(&segment, vips[0]));
    config.refusal.table = "pm_again".to_owned();
    ours.set_config(&config, tell).expect("it can be");
    let listed = segment::run(&segment.hosts[0], "nft", "list ruleset");
    assert!(
        listed.contains("filter + 7") && listed.contains("counter packets"),
        "{listed}"
    );
    assert!(
        listed.contains("pm_again") && !listed.contains("pm_other"),
        "{listed}"
    );
    assert!(!listed.contains("pm_left"), "{listed}");
    assert!(told.try_recv().is_err(), "nobody was elected");
    // A restart: what is left drops on, and whoever goes on takes it over.
    let left = {
        let _inside = segment.hosts[0].enter().expect("enter");
        ours.leave()
    };
    assert!(left.refuses);
    assert_eq!(drops(&segment, 0).1, of_theirs.1);
    let (sender, _notices) = unbounded_channel();
    let ours = {
        let _inside = segment.hosts[0].enter().expect("enter");
        Vrrp::start(&config, &left.masters, sender, Board::default()).expect("begin")
    };
    wait("it to be master still", || {
        ours.status()[0].state == "MASTER"
    });
    assert_eq!(drops(&segment, 0).1, of_theirs.1);
    ours.stop();
    assert_eq!(drops(&segment, 0), Default::default());
    segment.wait_for_owner(1, &[0, 1], vips[0]);
    assert!(!answers(&segment, vips[0]));
    theirs.assert_content();
    let listed = segment::run(&segment.hosts[0], "nft", "list ruleset");
    assert_eq!(listed, "");
}

#[test]
fn what_is_not_accepted_is_dropped_as_by_keepalived() {
    std::thread::scope(|scope| {
        for v6 in [false, true] {
            scope.spawn(move || nothing_is_accepted(v6));
        }
    });
}
