//! Configurations made by chance: most of them fine, some with what keepalived mends.

use std::fmt::Write;

/// Numbers that look like chance, the same for a seed.
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Each of these lines, perhaps.
    fn some(&mut self, lines: &[&str]) -> String {
        let mut text = String::new();
        for line in lines {
            if self.once_in(3) {
                text += line;
                text += "\n";
            }
        }
        text
    }
}

/// The configuration of a seed.
pub fn configuration(seed: u64) -> String {
    let mut chance = Chance(seed);
    let mut text = String::from("global_defs {\nrouter_id R\n");
    text += &chance.some(&[
        "vrrp_version 3",
        "vrrp_garp_master_delay 7",
        "vrrp_garp_master_repeat 3",
        "vrrp_garp_lower_prio_repeat 2",
        "vrrp_garp_master_refresh 60",
        "vrrp_lower_prio_no_advert",
        "vrrp_higher_prio_send_advert",
        "vrrp_down_timer_adverts 5",
        "vrrp_mcast_group4 224.0.0.20",
    ]);
    if chance.once_in(5) {
        text += "vrrp_strict\n";
    }
    text += "}\n";
    if chance.once_in(2) {
        text += "virtual_server_group G {\n10.7.0.1 80\n10.7.0.2-5 81\n10.7.1.0/30 82\n}\n";
        service(&mut chance, &mut text, "group G", false);
    }
    for number in 0..chance.below(4) {
        let is_ipv6 = chance.once_in(3);
        let target = match (chance.below(5), is_ipv6) {
            (0, _) => format!("fwmark {}", number + 1),
            (_, false) => format!("10.0.0.{} {}", number + 1, 80 + number),
            (_, true) => format!("fd00::{} {}", number + 1, 80 + number),
        };
        service(&mut chance, &mut text, &target, is_ipv6);
    }
    let instances = chance.below(3) + 1;
    for number in 0..instances {
        instance(&mut chance, &mut text, number + 1);
    }
    if instances > 1 && chance.once_in(2) {
        text += "vrrp_sync_group S {\ngroup {\nV1\nV2\n}\n}\n";
    }
    text
}

fn service(chance: &mut Chance, text: &mut String, target: &str, is_ipv6: bool) {
    let scheduler = chance.of(&["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "dh"]);
    let method = chance.of(&[
        "NAT",
        "DR",
        "TUN",
        "TUN type gue port 6080 csum",
        "TUN type gre",
    ]);
    let _ = writeln!(
        text,
        "virtual_server {target} {{\nlvs_sched {scheduler}\nlvs_method {method}"
    );
    if !target.starts_with("fwmark") {
        let protocol = chance.of(&["TCP", "UDP", "SCTP"]);
        let _ = writeln!(text, "protocol {protocol}");
    }
    *text += &chance.some(&[
        "delay_loop 7",
        "retry 4",
        "delay_before_retry 2.5",
        "warmup 3",
        "connect_timeout 1.25",
        "alpha",
        "omega",
        "quorum 2",
        "quorum 9\nhysteresis 4",
        "inhibit_on_failure",
        "weight 5",
        "persistence_timeout 77",
        "persistence_timeout",
        "virtualhost a.example",
        "ops",
    ]);
    let address = |number: u64| match is_ipv6 {
        false => format!("10.1.0.{number}"),
        true => format!("fd01::{number}"),
    };
    if chance.once_in(3) {
        let _ = writeln!(text, "sorry_server {} 99", address(200));
    }
    for number in 0..=chance.below(3) {
        let port = match chance.below(3) {
            0 => String::new(),
            n => (79 + n).to_string(),
        };
        let _ = writeln!(text, "real_server {} {port} {{", address(number + 1));
        *text += &chance.some(&[
            "weight 3",
            "uthreshold 100",
            "lthreshold 10",
            "lvs_method DR",
            "inhibit_on_failure off",
            "alpha on",
            "retry 6",
            "delay_loop 9",
            "warmup 0",
        ]);
        // Without any weight at all keepalived 2.2.7 computes a hysteresis of 2^32 - 1.
        if number > 0 && chance.once_in(4) {
            *text += "weight 0\n";
        }
        for _ in 0..chance.below(3) {
            checker(chance, text);
        }
        *text += "}\n";
    }
    *text += "}\n";
}

fn checker(chance: &mut Chance, text: &mut String) {
    let (kind, own): (&str, &[&str]) = match chance.below(6) {
        0 => ("TCP_CHECK", &[]),
        1 => ("PING_CHECK", &[]),
        2 => ("DNS_CHECK", &["type A", "type txt", "name www.example"]),
        3 => (
            "UDP_CHECK",
            &[
                "payload ab 1",
                "require_reply aXb 7",
                "require_reply",
                "max_reply_length 99",
            ],
        ),
        4 => ("SMTP_CHECK", &["helo_name me"]),
        _ => (
            "HTTP_GET",
            &[
                "http_protocol 1.1",
                "http_protocol 1.0c",
                "virtualhost b.example",
                "fast_recovery",
            ],
        ),
    };
    let _ = writeln!(text, "{kind} {{");
    *text += &chance.some(own);
    *text += &chance.some(&[
        "retry 2",
        "delay_before_retry 0.5",
        "delay_loop 2",
        "warmup 1",
        "alpha on",
        "alpha off",
        "connect_timeout 3",
        "connect_port 81",
    ]);
    if kind == "HTTP_GET" {
        *text += "url {\npath /a\nstatus_code 200-204 301\n}\nurl {\npath /b\ndigest 9b3a0c85a887a256d6939da88aabd8cd\n}\n";
    }
    *text += "}\n";
}

fn instance(chance: &mut Chance, text: &mut String, number: u64) {
    let interface = chance.of(&["eth0", "eth1"]);
    let _ = writeln!(
        text,
        "vrrp_instance V{number} {{\ninterface {interface}\nvirtual_router_id {number}"
    );
    let unicast = chance.once_in(3);
    let is_ipv6 = !unicast && chance.once_in(3);
    *text += &chance.some(&[
        "state MASTER",
        "priority 77",
        "priority 255",
        "nopreempt",
        "preempt_delay 4",
        "version 3\nadvert_int 0.25",
        "advert_int 2",
        "down_timer_adverts 7",
        "garp_master_delay 3",
        "garp_lower_prio_delay 2",
        "garp_lower_prio_repeat 9",
        "lower_prio_no_advert off",
        "higher_prio_send_advert on",
        "track_interface {\neth2\neth3 weight 5\n}",
        "authentication {\nauth_type PASS\nauth_pass abc\n}",
    ]);
    *text += match chance.below(6) {
        0 => "accept\n",
        1 => "no_accept\n",
        2 => "strict_mode\n",
        3 => "strict_mode\naccept\n",
        4 => "strict_mode off\n",
        _ => "",
    };
    if unicast {
        *text += "unicast_peer {\n192.168.250.77\n192.168.250.78 min_ttl 3\n}\n";
    }
    *text += match is_ipv6 {
        false => "virtual_ipaddress {\n10.9.0.1/24\n10.9.0.2 dev eth2\n}\n",
        true => "virtual_ipaddress {\nfe80::7\nfd09::1/64\n}\n",
    };
    *text += &chance.some(&["virtual_ipaddress_excluded {\nfd0a::1/64\n10.9.1.1\n}"]);
    *text += "}\n";
}
