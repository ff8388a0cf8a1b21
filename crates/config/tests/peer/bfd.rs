//! `bfd_instance` and those who depend on it, as the real keepalived reads them.

use std::collections::BTreeSet;

use pointsman_config::keepalived::model::BfdInstance;

use super::{Keepalived, compare, errors, read};

/// What can't be, beside what can; each line that keepalived names is one of ours.
const WRONG: &str = "\
bfd_instance A {
 neighbor_ip 10.0.0.1
 min_rx 20.0001
 idle_tx 200
 weight 300
}
bfd_instance A {
 neighbor_ip 10.0.0.2
}
bfd_instance B {
 neighbor_ip 10.0.0.3
 checker
}
bfd_instance C {
 neighbor_ip 10.0.0.4
 vrrp
 max_hops 200
 ttl 100
 weight 5 foo
}
bfd_instance D {
 neighbor_ip 10.0.0.4
}
bfd_instance E {
 passive
}
bfd_instance F {
 neighbor_ip 10.0.0.5
 source_ip fd00::5
}
bfd_instance G {
 neighbor_ip 10.0.0.500
}
bfd_instance H {
 neighbor_ip 10.0.0.6
 source_ip x
}
bfd_instance abcdefghijklmnopqrstuvwxyzabcdef {
 neighbor_ip 10.0.0.7
}
vrrp_instance V {
 interface eth0
 virtual_router_id 5
 virtual_ipaddress {
  10.0.0.77
 }
 track_bfd {
  A weight 254
  C weight 3 foo
  B
  C
  I
  NONE
 }
}
virtual_server 10.0.0.1 80 {
 protocol TCP
 lvs_sched rr
 lvs_method NAT
 real_server 10.0.0.2 80 {
  BFD_CHECK {
  }
  BFD_CHECK {
   name C
  }
  BFD_CHECK {
   name B
   alpha maybe
  }
  BFD_CHECK {
   name B
  }
  BFD_CHECK {
   name I
  }
 }
}
bfd_instance I {
 neighbor_ip 10.0.0.9
}
";

/// Sessions that keepalived takes, some of them mended; the last tells that the others are complete.
const SESSIONS: &str = "\
bfd_instance A {
 neighbor_ip 10.0.0.1
}
bfd_instance B {
 neighbour_ip 10.0.0.2
 source_ip 10.0.0.9
 min_rx 50.5
 min_tx 1
 idle_tx 1000.001
 multiplier 255
 ttl 3
 max_hops 3
 passive
 vrrp
}
bfd_instance C {
 neighbor_ip fd00::3
 max_hops -1
 min_tx 0.5
 idle_tx 999
 multiplier 256
 checker
}
bfd_instance D {
 neighbor_ip fd00::4
 hoplimit 255
 max_hops 255
 vrrp
 checker
}
bfd_instance E {
 neighbor_ip 10.0.0.5
 ttl 90
 max_hops 255
 min_rx 4294967
}
bfd_instance Z {
 neighbor_ip 10.0.0.99
}
";

#[test]
fn both_name_the_same_lines_of_sessions_and_who_depends_on_them() {
    let Some(peer) = Keepalived::new("bfdlines") else {
        return;
    };
    let verdict = peer.test(&peer.file(WRONG));
    let theirs: BTreeSet<u32> = verdict.lines.iter().copied().collect();
    let ours = errors(&read(WRONG).1);
    let lines: Vec<&str> = WRONG.lines().collect();
    // What keepalived says of a block as a whole it says of its end, and we of its beginning or its cause.
    let block = |line: u32| {
        let before = &lines[..line as usize];
        before
            .iter()
            .rposition(|line| line.ends_with('{'))
            .map_or(0, |at| at as u32 + 1)
    };
    let is_end = |line: u32| lines[line as usize - 1].trim() == "}";
    let of_blocks = |set: &BTreeSet<u32>| -> BTreeSet<u32> {
        let named = set.iter().copied();
        named
            .map(|line| if is_end(line) { block(line) } else { line })
            .collect()
    };
    let (theirs, ours) = (of_blocks(&theirs), of_blocks(&ours));
    let in_block =
        |line: &u32, set: &BTreeSet<u32>| set.iter().any(|one| block(*one) == block(*line));
    for line in theirs.symmetric_difference(&ours) {
        let both = in_block(line, &theirs) && in_block(line, &ours);
        assert!(
            both,
            "{line}: {}\nours: {ours:?}\n{}",
            lines[*line as usize - 1],
            verdict.text
        );
    }
    assert!(ours.len() > 15, "{ours:?}");
}

#[test]
fn both_understand_the_same_of_sessions() {
    let Some(peer) = Keepalived::new("bfddump") else {
        return;
    };
    let said = peer.sessions(&peer.file(SESSIONS), "BFD Instance = Z");
    let begin = said.iter().position(|line| line.contains("BFD Topology"));
    let begin = begin.expect("a dump") + 1;
    let theirs: Vec<&str> = said[begin..said.len() - 1]
        .iter()
        .map(|line| line.trim())
        .collect();
    let (configuration, _) = read(SESSIONS);
    let sessions = configuration.bfd_instances.iter();
    let ours: Vec<String> = sessions
        .filter(|one| one.name != "Z")
        .flat_map(facts)
        .collect();
    assert_eq!(theirs, ours);
    assert!(ours.len() > 50);
}

/// A session in the words of keepalived's dump.
fn facts(one: &BfdInstance) -> Vec<String> {
    let kind = if one.neighbor.is_ipv6() {
        "hoplimit"
    } else {
        "TTL"
    };
    let yes = |yes| if yes { "Yes" } else { "No" };
    let mut facts = vec![
        format!("BFD Instance = {}", one.name),
        format!("Neighbor IP = {}", one.neighbor),
    ];
    facts.extend(one.source.map(|source| format!("Source IP = {source}")));
    for (what, time) in [
        ("Required min RX", one.min_rx),
        ("Desired min TX", one.min_tx),
        ("Desired idle TX", one.idle_tx),
    ] {
        facts.push(format!("{what} interval = {} us", time.as_micros()));
    }
    facts.extend([
        format!("Detection multiplier = {}", one.multiplier),
        format!("{kind} = {}", one.hop_limit),
        format!("max_hops = {}", one.max_hops),
        format!("passive = {}", one.passive),
        format!("send event to VRRP process = {}", yes(one.for_routers)),
        format!("send event to checker process = {}", yes(one.for_servers)),
    ]);
    facts
}

#[test]
fn both_derive_the_same_from_who_depends_on_sessions() {
    let Some(peer) = Keepalived::new("bfdusers") else {
        return;
    };
    let text = "\
bfd_instance A {\n neighbor_ip 10.0.0.1\n weight 20 reverse\n}\n\
bfd_instance B {\n neighbor_ip fd00::1\n hoplimit 255\n}\n\
virtual_server 10.0.0.1 80 {\n protocol TCP\n lvs_sched rr\n lvs_method NAT\n \
real_server 10.0.0.2 80 {\n  BFD_CHECK {\n   name A\n  }\n  BFD_CHECK {\n   name B\n   alpha\n  }\n }\n \
real_server 10.0.0.3 80 {\n  alpha\n  BFD_CHECK {\n   name A\n  }\n }\n}\n\
vrrp_instance V {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n  10.0.0.77\n }\n \
track_bfd {\n  A\n  B weight -30\n }\n}\n";
    compare(&peer, &peer.file(text), text);
    let (configuration, said) = read(text);
    assert_eq!(errors(&said), BTreeSet::new(), "{said:?}");
    let router = &configuration.routers()[0];
    let tracked = router.trackers.iter();
    let tracked: Vec<_> = tracked
        .map(|t| (t.name.as_str(), t.weight, t.reverse))
        .collect();
    assert_eq!(tracked, [("bfd A", 20, true), ("bfd B", -30, false)]);
    let dump = peer.dump(&peer.file(text), false, true).join("\n");
    for fact in ["B: weight -30", "A: weight 20 reverse"] {
        assert!(dump.contains(fact), "{fact}: {dump}");
    }
}
