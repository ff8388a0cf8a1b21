//! Writes the seed corpora that the fuzz targets start from, `corpus/<target>/seed-<name>`.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use pointsman_director::native::generate::Generator;
use pointsman_wire::build::{SOURCE_MAC, arp_reply, arp_request};
use pointsman_wire::{Frame, Mac, icmp, tcp};

/// One frame of each kind that the reader tells apart.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let [client, vip] = [[192, 168, 7, 2], [192, 168, 7, 33]];
    let v4 = || Frame::ipv4(client, vip);
    let [a, b] = [1, 2].map(|last| Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    let v6 = || Frame::ipv6(a, b);
    let outer = || Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let syn = v4()
        .tcp(40000, 80)
        .flags(tcp::SYN)
        .mss(1460)
        .timestamps(1, 0);
    let inner = syn.build_packet();
    let inner_v6 = v6().udp(1, 2).payload(b"payload").build_packet();
    let piece = v4().udp(1, 2).payload(&[0; 100]).fragments(84).remove(1);
    let piece_v6 = v6().udp(1, 2).payload(&[0; 100]).fragments(120).remove(0);
    vec![
        (
            "arp-request",
            arp_request(SOURCE_MAC, client.into(), vip.into()),
        ),
        (
            "arp-reply",
            arp_reply(SOURCE_MAC, vip.into(), Mac::BROADCAST, client.into()),
        ),
        ("tcp", syn.build()),
        ("tcp-two-tags", syn.service_vlan(10).vlan(178).build()),
        (
            "tcp-ip-options",
            v4().ip_options(&[7, 7, 4, 0, 0, 0, 0]).tcp(1, 2).build(),
        ),
        ("udp-padded", v4().udp(1, 2).padded(60).build()),
        (
            "udp6-extensions",
            v6().hop_by_hop().destination_options().udp(1, 2).build(),
        ),
        (
            "udp6-routing",
            v6().routing(1, Ipv6Addr::LOCALHOST).udp(1, 2).build(),
        ),
        (
            "sctp",
            v4().sctp(1, 2, 0)
                .payload(&[1, 0, 0, 8, 0, 0, 0, 1])
                .build(),
        ),
        ("echo", v4().echo_request(1, 2).payload(b"payload").build()),
        (
            "neighbor6",
            v6().icmp(135, 0, 0).payload(&b.octets()).build(),
        ),
        (
            "icmp-too-big",
            v4().icmp_error(icmp::V4_UNREACHABLE, 4, 1400, &inner)
                .build(),
        ),
        (
            "icmp6-too-big",
            v6().icmp_error(icmp::V6_TOO_BIG, 0, 1280, &inner_v6)
                .build(),
        ),
        ("ipip", outer().ip_in_ip(&inner).build()),
        ("ipip-6in4", outer().ip_in_ip(&inner_v6).build()),
        ("gre", outer().gre(&inner, true).build()),
        ("gue", outer().udp(1, 6080).gue(&inner).build()),
        ("fragment", piece),
        ("fragment6", piece_v6),
    ]
}

/// Frames of one run, each behind its length, as `director_process` reads them.
fn history(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend((frame.len() as u16).to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}

fn folder(target: &str) -> std::io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn main() -> std::io::Result<()> {
    let wire = folder("wire_text")?;
    let parse = folder("director_parse")?;
    for (name, frame) in frames() {
        std::fs::write(wire.join(format!("seed-{name}")), &frame)?;
        std::fs::write(parse.join(format!("seed-{name}")), &frame)?;
        // The target reads packets without link layer, too.
        if name == "ipip" {
            std::fs::write(wire.join("seed-packet"), &frame[14..])?;
        }
    }
    let process = folder("director_process")?;
    for seed in 1..=12 {
        let short = Generator::new(seed).filter(|frame| frame.len() < 120);
        let frames: Vec<Vec<u8>> = short.take(24).collect();
        std::fs::write(process.join(format!("seed-{seed}")), history(&frames))?;
    }
    let bundle = folder("path_bundle")?;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/path/tests/golden");
    std::fs::copy(golden.join("direct.json"), bundle.join("seed-direct"))?;
    let text = "global_defs {\n router_id R\n}\n$PORT=80\nvrrp_instance V {\n interface eth0\n \
                virtual_router_id 5\n virtual_ipaddress {\n  10.0.0.1/24 dev eth0\n }\n \
                track_interface {\n  eth1 weight -5\n }\n}\nvirtual_server_group G {\n 10.0.1.1-9 $PORT\n \
                fwmark 7\n}\nvirtual_server group G {\n lvs_sched rr\n lvs_method TUN\n protocol TCP\n quorum 2\n \
                real_server 10.0.2.1 80 {\n HTTP_GET {\n url {\n path /\n }\n }\n }\n \
                ~SEQ(N,2,3) weight $N\n}\n";
    std::fs::write(folder("config_keepalived")?.join("seed-both"), text)?;
    recordings()
}

/// Texts of the filter's recordings.
fn recordings() -> std::io::Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/filter/tests/golden");
    for (target, name, file) in [
        (
            "filter_ebtables",
            "saved",
            "clean-traffic/ebtables-save.txt",
        ),
        ("filter_ebtables", "listed", "svc-web/ebtables-nat-L.txt"),
        ("filter_iptables", "mixed", "l4-mix/iptables-save.txt"),
        (
            "filter_nft",
            "frames",
            "no-ip-spoofing/libvirt12-nftables/nft-ruleset.json",
        ),
        ("filter_nwfilter", "binding", "clean-traffic/binding.xml"),
        (
            "filter_nwfilter",
            "references",
            "nova-nodhcp-listing/filters/nova-nodhcp-grizzly.xml",
        ),
    ] {
        let text = std::fs::read(golden.join(file))?;
        std::fs::write(folder(target)?.join(format!("seed-{name}")), text)?;
    }
    let rules = [
        (
            "frames",
            "<ip srcipaddr='$IP[@1]' protocol='tcp' dstportstart='$A'/>",
        ),
        (
            "arp",
            "<arp opcode='Reply' match='no' arpsrcipaddr='10.9.0.0' arpsrcipmask='24'/>",
        ),
        (
            "stp",
            "<stp root-priority='1' root-priority-hi='9' root-address='2:0:0:0:0:1'/>",
        ),
        (
            "tcp",
            "<tcp srcipaddr='$IP' flags='SYN/SYN' state='NEW' connlimit-above='3'/>",
        ),
        (
            "icmp",
            "<icmpv6 type='134' code='0' srcipaddr='fe80::' srcipmask='10'/>",
        ),
    ];
    for (name, rule) in rules {
        let text = format!(
            "<filter name='x' chain='root'><rule action='accept' direction='inout' \
             priority='-3'>{rule}</rule></filter>"
        );
        std::fs::write(
            folder("filter_nwfilter")?.join(format!("seed-{name}")),
            text,
        )?;
    }
    Ok(())
}
