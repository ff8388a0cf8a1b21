//! What virtual routers can't be.

#[path = "stage/stage.rs"]
mod stage;

use std::time::Duration;

use pointsman_ha::vrrp::{Peers, RouterConfig, Version};

use stage::{GROUP, VIP};

#[test]
fn what_cannot_be_is_said_in_words() {
    let faulty = |change: fn(&mut RouterConfig)| {
        let mut config = RouterConfig::new("VI_1", "eth0", 51, &[VIP]);
        change(&mut config);
        config.check().expect_err("a fault").to_string()
    };
    for (change, says) in [
        (
            (|c| c.vrid = 0) as fn(&mut RouterConfig),
            "virtual router VI_1: virtual_router_id 0; it goes from 1 to 255",
        ),
        (
            |c| c.priority = 0,
            "priority 0, which means that a master stops",
        ),
        (|c| c.addresses.clear(), "no virtual_ipaddress"),
        (|c| c.addresses = vec![VIP; 256], "256 virtual addresses"),
        (
            |c| c.addresses.push("fd99::1".parse().expect("an address")),
            "virtual address fd99::1 is of another family than 10.99.0.100",
        ),
        (
            |c| c.interval = Duration::from_millis(1500),
            "advert_int 1.5s; version 2 has 1s to 255s in steps of 1s",
        ),
        (
            |c| {
                c.version = Version::V3;
                c.interval = Duration::from_secs(41);
            },
            "advert_int 41s; version 3 has 10ms to 40.95s in steps of 10ms",
        ),
        (
            |c| {
                c.version = Version::V3;
                c.password = Some([0; 8]);
            },
            "a password, which only version 2 over IPv4 has",
        ),
        (
            |c| c.down_adverts = 0,
            "down_timer_adverts 0; it goes from 1 to 100",
        ),
        (
            |c| c.peers = Peers::Multicast(VIP),
            "10.99.0.100 is no multicast group of its family",
        ),
        (
            |c| {
                c.peers = Peers::Unicast {
                    peers: vec![GROUP.into()],
                    hop_limit: 255,
                    only_peers: false,
                }
            },
            "224.0.0.18 is no unicast address of its family",
        ),
    ] {
        let said = faulty(change);
        assert!(said.contains(says), "{said}");
    }
}
