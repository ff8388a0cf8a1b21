//! `pointsman nwfilter check`: filters of a guest, rules as people paste them, rules of a host.

#[path = "nwfilter/live.rs"]
mod live;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a call said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn check(arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    said(command.args(["nwfilter", "check"]).args(arguments))
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn listing(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/listings");
    folder.join(name).display().to_string()
}

impl Said {
    #[track_caller]
    fn has(&self, text: &str) -> &Self {
        assert!(self.out.contains(text), "no `{text}` in\n{}", self.out);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }

    /// Frames of this name with their verdicts.
    fn verdicts(&self, id: &str) -> Vec<String> {
        let report = self.json();
        let frames = report["frames"].as_array().unwrap().iter();
        frames
            .filter(|frame| frame["id"] == id)
            .map(|frame| frame["verdict"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A guest and its filters in files.
struct Files {
    folder: tempfile::TempDir,
}

/// A filter of the built-in ones' kind: one MAC, one list of addresses.
const CLEAN: &str = "\
<filter name='clean'>
  <filterref filter='pin-mac'/>
  <filterref filter='pin-ip'/>
  <filterref filter='pin-arp'/>
</filter>
";
const PIN_MAC: &str = "\
<filter name='pin-mac' chain='mac' priority='-800'>
  <rule action='return' direction='out'><mac srcmacaddr='$MAC'/></rule>
  <rule action='drop' direction='out'/>
</filter>
";
const PIN_IP: &str = "\
<filter name='pin-ip' chain='ipv4-ip' priority='-710'>
  <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>
";
const PIN_ARP: &str = "\
<filter name='pin-arp' chain='arp-ip' priority='-510'>
  <rule action='return' direction='out' priority='400'><arp arpsrcipaddr='$IP'/></rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>
";

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, text) in [
            ("clean.xml", CLEAN),
            ("pin-mac.xml", PIN_MAC),
            ("pin-ip.xml", PIN_IP),
            ("pin-arp.xml", PIN_ARP),
        ] {
            files.write(&format!("filters/{name}"), text);
        }
        files.domain("clean", &["192.0.2.200"]);
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn domain(&self, filter: &str, addresses: &[&str]) {
        let parameters: String = addresses
            .iter()
            .map(|ip| format!("<parameter name='IP' value='{ip}'/>"))
            .collect();
        let text = format!(
            "<domain type='kvm'>\n<name>director</name>\n<devices>\n<interface type='bridge'>\n\
             <mac address='02:00:73:b6:53:c8'/>\n<target dev='vnet7'/>\n\
             <filterref filter='{filter}'>{parameters}</filterref>\n</interface>\n</devices>\n\
             </domain>\n"
        );
        self.write("director.xml", &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, arguments: &str) -> Said {
        let [domain, filters] = ["director.xml", "filters"].map(|name| self.path(name));
        let mut all = vec![
            "--domain",
            domain.to_str().unwrap(),
            "--filters",
            filters.to_str().unwrap(),
        ];
        all.extend(arguments.split_whitespace());
        check(&all)
    }
}

const DIRECTOR: &str = "--role director --vip 192.0.2.208:80";

#[test]
fn the_kvm_listing_pins_the_source_address() {
    let said = check(&[
        "--rules",
        &listing("kvm.txt"),
        "--role",
        "director",
        "--vip",
        "198.51.100.208:80",
    ]);
    assert_eq!(said.code, 1, "{}", said.err);
    said.has("port vnet0 (02:00:73:b6:53:c8)")
        .has("source address pinned by `I-vnet0-ipv4-ip`: 2 that must pass")
        .has("source address 203.0.113.77 is neither 0.0.0.0 with protocol udp nor 198.51.100.200")
        .has("ebtables nat, chain I-vnet0-ipv4-ip, rule 4: -j DROP")
        .has("by its name filter no-ip-spoofing");
}

#[test]
fn the_openstack_listing_pins_arp() {
    let said = |port: &str| {
        check(&[
            "--rules",
            &listing("openstack.txt"),
            "--port",
            port,
            "--bridge",
            "brq3eefcd79-07",
            "--role",
            "vrrp",
            "--vip",
            "10.16.0.200:80",
        ])
    };
    for (port, own, mac) in [
        ("tap0678bf1d-41", "10.16.0.111", "fa:16:3e:58:01:ac"),
        ("tap496fa038-9e", "10.16.0.112", "fa:16:3e:a6:5f:70"),
    ] {
        let said = said(port);
        assert_eq!(said.code, 1, "{}", said.err);
        said.has(&format!("port {port} ({mac})"))
            .has(&format!(
                "ARP pinned by `I-{port}-arp-ip`: 2 that must pass"
            ))
            .has(&format!("ARP sender address 10.16.0.200 is not {own}"))
            .has("the filter nova-instance-...");
    }
}

#[test]
fn nova_and_neutron_chains_are_named_as_their_owners() {
    // To the instance's own address nova's security groups are asked: port 80 is not allowed.
    let report = check(&[
        "--rules",
        &listing("openstack.txt"),
        "--port",
        "tap0678bf1d-41",
        "--bridge",
        "brq3eefcd79-07",
        "--role",
        "realserver",
        "--method",
        "nat",
        "--vip",
        "10.16.0.200:80",
        "--json",
    ])
    .json();
    let frames = report["frames"].as_array().unwrap();
    let handed = frames
        .iter()
        .find(|frame| frame["id"] == "handed-open-in")
        .unwrap();
    assert_eq!(handed["verdict"], "drop");
    assert_eq!(handed["rule"]["chain"], "nova-compute-sg-fallback");
    assert_eq!(handed["owner"]["program"], "OpenStack nova");

    let files = Files::new();
    files.write(
        "rules",
        "*filter\n:FORWARD ACCEPT [0:0]\n:neutron-linuxbri-s0678bf1d-4 - [0:0]\n\
         -A FORWARD -m physdev --physdev-in tap0678bf1d-41 --physdev-is-bridged -j \
         neutron-linuxbri-s0678bf1d-4\n\
         -A neutron-linuxbri-s0678bf1d-4 -s 10.16.0.111/32 -m mac --mac-source FA:16:3E:58:01:AC \
         -m comment --comment \"Allow traffic from defined IP/MAC pairs.\" -j RETURN\n\
         -A neutron-linuxbri-s0678bf1d-4 -m comment --comment \"Drop traffic without an IP/MAC \
         allow rule.\" -j DROP\nCOMMIT\n",
    );
    let said = check(&[
        "--rules",
        files.path("rules").to_str().unwrap(),
        "--port",
        "tap0678bf1d-41",
        "--role",
        "director",
        "--vip",
        "10.16.0.200:80",
    ]);
    assert_eq!(said.code, 1, "{}", said.err);
    said.has("source address pinned by `neutron-linuxbri-s0678bf1d-4`")
        .has("OpenStack neutron: addresses that the port may send from, port 0678bf1d-4...")
        .has("allowed-address");
    // Security groups see packets put together: a fragment alone tells nothing.
    files.write(
        "rules",
        "*filter\n:FORWARD ACCEPT [0:0]\n:neutron-linuxbri-i0678bf1d-4 - [0:0]\n\
         :neutron-linuxbri-sg-fallback - [0:0]\n\
         -A FORWARD -m physdev --physdev-out tap0678bf1d-41 -j neutron-linuxbri-i0678bf1d-4\n\
         -A neutron-linuxbri-i0678bf1d-4 -m state --state RELATED,ESTABLISHED -j RETURN\n\
         -A neutron-linuxbri-i0678bf1d-4 -p tcp -m tcp --dport 22 -j RETURN\n\
         -A neutron-linuxbri-i0678bf1d-4 -p udp -m udp --dport 53 -j RETURN\n\
         -A neutron-linuxbri-i0678bf1d-4 -j neutron-linuxbri-sg-fallback\n\
         -A neutron-linuxbri-sg-fallback -j DROP\nCOMMIT\n",
    );
    let ingress = |vip: &str, protocol: &str| {
        let rules = files.path("rules").display().to_string();
        let mut all = vec![
            "--rules",
            &rules,
            "--port",
            "tap0678bf1d-41",
            "--role",
            "vrrp",
        ];
        all.extend([
            "--mac",
            "fa:16:3e:58:1:ac",
            "--vip",
            vip,
            "--protocol",
            protocol,
        ]);
        check(&all)
    };
    let tcp = ingress("10.16.0.200:80", "tcp");
    assert_eq!(tcp.code, 1);
    tcp.has("dropped by `neutron-linuxbri-sg-fallback`, rule 1")
        .has("destination port 80 is neither 22 with protocol tcp")
        .has("(SG_INGRESS");
    let udp = ingress("10.16.0.200:53", "udp");
    udp.has("pass    in  must pass       request of client");
}

#[test]
fn a_guests_filter_is_judged_with_filter_rule_and_parameter_named() {
    let files = Files::new();
    for (backend, place) in [
        (
            "ebtables",
            "ebtables nat, chain I-vnet7-ipv4-ip, rule 2: -j DROP",
        ),
        (
            "nftables",
            "nft bridge libvirt_nwfilter_ethernet, chain vnet7-ipv4-ip-out, rule 2: drop",
        ),
    ] {
        let said = files.check(&format!("{DIRECTOR} --backend {backend}"));
        assert_eq!(said.code, 1, "{}", said.err);
        said.has("guest director, port vnet7 (02:00:73:b6:53:c8), filter clean IP=192.0.2.200")
            .has("filter pin-ip (by way of clean), rule `drop out`, priority 1000")
            .has("source address 203.0.113.77 is not IP=192.0.2.200")
            .has(place)
            .has("director.xml:7:1");
    }
}

#[test]
fn the_exit_code_says_whether_all_that_must_pass_does() {
    let files = Files::new();
    assert_eq!(
        files
            .check("--role director --vip 192.0.2.200:80 --method nat")
            .code,
        1
    );
    // A master with the VIP in its list has all it needs.
    files.domain("clean", &["192.0.2.200", "192.0.2.208"]);
    let said = files.check("--role vrrp --vip 192.0.2.208:80");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    said.has("frames that must pass do");
    // With a virtual MAC its advertisements die, and both are masters.
    let said = files.check("--role vrrp --vip 192.0.2.208:80 --vmac --vrid 7");
    assert_eq!(said.code, 1);
    said.has("source MAC 00:00:5e:00:01:07 is not MAC=02:00:73:b6:53:c8")
        .has("source MAC pinned by `I-vnet7-mac`");
    // The list is no help to a DR director.
    assert_eq!(files.check(DIRECTOR).code, 1);
}

#[test]
fn each_method_needs_other_frames() {
    let files = Files::new();
    files.domain("clean", &["192.0.2.200", "192.0.2.208"]);
    let verdict = |arguments: &str, id: &str| {
        let said = files.check(&format!("{arguments} --vip 192.0.2.208:80 --json"));
        said.verdicts(id)
    };
    for (arguments, id, expected) in [
        ("--role director --method dr", "forward-open-out", "drop"),
        ("--role director --method tun", "forward-open-out", "pass"),
        ("--role director --method nat", "forward-open-out", "drop"),
        ("--role director --method nat", "reply-out", "pass"),
        ("--role realserver --method dr", "server-reply-out", "pass"),
        // The price of the VIP in a real server's list.
        ("--role realserver --method dr", "vip-answer-out", "pass"),
        ("--role director --method dr", "foreign-source", "drop"),
    ] {
        assert_eq!(verdict(arguments, id), [expected], "{arguments} {id}");
    }
    // One frame for each real server.
    let servers = "--role director --real-server 2:0:0:0:0:b/192.0.2.11 --real-server 192.0.2.12";
    assert_eq!(verdict(servers, "check-out"), ["pass", "pass"]);
    let said = files.check(&format!("{servers} --vip 192.0.2.208:80"));
    said.has("handed on to the real server at 02:00:00:00:00:0b");
    said.has("health check of 192.0.2.12:80 by 192.0.2.200");
}

#[test]
fn libvirts_own_filters_do_what_the_field_reports() {
    let Some(filters) = builtin_filters() else {
        println!("skipped: needs libvirt's filters; `cargo xtask setup` gets them");
        return;
    };
    let files = Files::new();
    files.domain("clean-traffic", &["192.0.2.200"]);
    let domain = files.path("director.xml").display().to_string();
    let filters = filters.display().to_string();
    let said = |arguments: &str| {
        let mut all = vec!["--domain", &domain, "--filters", &filters];
        all.extend(arguments.split_whitespace());
        check(&all)
    };
    let director = said(DIRECTOR);
    assert_eq!(director.code, 1, "{}", director.err);
    director
        .has("filter no-ip-spoofing (by way of clean-traffic), rule `drop out`, priority 1000")
        .has("nor IP=192.0.2.200")
        .has("filter no-arp-ip-spoofing (by way of clean-traffic, no-arp-spoofing)")
        .has("4 of 15 frames that must pass don't");
    let six = said("--role director --vip [2001:db8::208]:80");
    assert_eq!(six.code, 1);
    // clean-traffic knows IPv4 and ARP only.
    six.has("dropped by `libvirt-I-vnet7`, rule 9");
    // The router's MAC is the parameter's.
    let gateway = "<filterref filter='clean-traffic-gateway'>\
                   <parameter name='GATEWAY_MAC' value='84:78:ac:27:6c:41'/>";
    let plain = fs::read_to_string(&domain).unwrap();
    fs::write(
        &domain,
        plain.replace("<filterref filter='clean-traffic'>", gateway),
    )
    .unwrap();
    let by_gateway = said(&format!("{DIRECTOR} --json"));
    assert_eq!(by_gateway.verdicts("client-open-in"), ["pass"]);
    assert_eq!(by_gateway.verdicts("check-answer-in"), ["drop"]);
    fs::write(&domain, plain).unwrap();
    let json = said(&format!("{DIRECTOR} --json")).json();
    assert_eq!(json["works"], false);
    assert_eq!(
        json["causes"][0]["cause"],
        "source address pinned by `I-vnet7-ipv4-ip`"
    );
    assert_eq!(
        json["causes"][0]["rule"]["filter"]["name"],
        "no-ip-spoofing"
    );
}

fn builtin_filters() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/libvirt");
    ["/", unpacked.to_str()?]
        .iter()
        .flat_map(|root| ["usr/share", "etc"].map(|part| Path::new(root).join(part)))
        .map(|folder| folder.join("libvirt/nwfilter"))
        .find(|folder| folder.join("clean-traffic.xml").is_file())
}

#[test]
fn causes_have_the_doctors_names() {
    let files = Files::new();
    let faults = |arguments: &str| -> Vec<String> {
        let said = files.check(&format!("{arguments} --vip 192.0.2.208:80 --json"));
        let report = said.json();
        let causes = report["causes"].as_array().unwrap().iter();
        let mut faults: Vec<String> = causes
            .flat_map(|cause| cause["faults"].as_array().unwrap())
            .map(|fault| fault.as_str().unwrap().to_owned())
            .collect();
        faults.sort();
        faults
    };
    let (dr, nat) = (
        "--role director --method dr",
        "--role director --method nat",
    );
    let all = ["HOST_ARP_SPOOF", "HOST_IP_SPOOF_DIR", "HOST_IP_SPOOF_VIP"];
    assert_eq!(faults(dr), all);
    assert_eq!(faults(nat), all);
    assert_eq!(faults("--role realserver"), ["HOST_IP_SPOOF_RS"]);
    assert_eq!(
        faults("--role vrrp --vmac"),
        ["HOST_IP_SPOOF_VIP", "HOST_MAC_SPOOF"]
    );
    let said = check(&[
        "--rules",
        &listing("openstack.txt"),
        "--port",
        "tap0678bf1d-41",
        "--bridge",
        "brq3eefcd79-07",
        "--role",
        "realserver",
        "--method",
        "nat",
        "--vip",
        "10.16.0.200:80",
    ]);
    said.has("(SG_INGRESS)");
}

#[test]
fn novas_instance_filters_are_novas() {
    let files = Files::new();
    // The parameters are inside, as nova writes them; the guest refers to the filter without any.
    files.write(
        "filters/nova-instance.xml",
        "<filter name='nova-instance-instance-0f-02000073b653c8'>\
         <filterref filter='nova-base'><parameter name='IP' value='192.0.2.200'/></filterref>\
         </filter>",
    );
    files.write(
        "filters/nova-base.xml",
        "<filter name='nova-base'><filterref filter='pin-mac'/><filterref filter='pin-ip'/>\
         <filterref filter='pin-arp'/></filter>",
    );
    files.domain("nova-instance-instance-0f-02000073b653c8", &[]);
    let said = files.check("--role vrrp --vip 192.0.2.208:80");
    assert_eq!(said.code, 1, "{}", said.err);
    said.has("a connection of the guest's own, from 192.0.2.200")
        .has("filter pin-arp (by way of nova-instance-instance-0f-02000073b653c8, nova-base)")
        .has("ARP sender address 192.0.2.208 is not IP=192.0.2.200")
        .has("the parameters in the filter nova-instance-instance-0f-02000073b653c8, which nova");
    let json = files
        .check("--role vrrp --vip 192.0.2.208:80 --json")
        .json();
    assert_eq!(json["causes"][0]["owner"]["program"], "OpenStack nova");
}

#[test]
fn where_libvirts_backends_differ_is_said() {
    let files = Files::new();
    // ebtables accepts at the end of a chain, nftables goes on with the next one.
    files.write(
        "filters/loose.xml",
        "<filter name='loose'><filterref filter='dns'/><filterref filter='pin-ip'/></filter>",
    );
    files.write(
        "filters/dns.xml",
        "<filter name='dns' chain='ipv4' priority='-720'>\
         <rule action='accept' direction='out'><ip protocol='udp' dstportstart='53'/></rule></filter>",
    );
    files.domain("loose", &["192.0.2.200"]);
    let both = files.check(DIRECTOR);
    assert_eq!(both.code, 0, "{}", both.out);
    both.has("libvirt's nftables backend (--backend nftables) says drop: SYN of client");
    assert_eq!(
        files.check(&format!("{DIRECTOR} --backend nftables")).code,
        1
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let files = Files::new();
    let refused = |arguments: &str, words: &str| {
        let said = files.check(arguments);
        assert_eq!(said.code, 2, "{arguments}: {}", said.out);
        assert!(said.err.contains(words), "no `{words}` in {}", said.err);
        assert_eq!(said.out, "");
    };
    refused("--role director", "--vip");
    refused("--role chief --vip 192.0.2.208:80", "chief");
    refused("--role director --vip 192.0.2.208", "192.0.2.208");
    refused(
        &format!("{DIRECTOR} --port vnet3"),
        "vnet7 (02:00:73:b6:53:c8)",
    );
    files.domain("clean", &[]);
    files.write(
        "filters/pin-ip.xml",
        "<filter name='pin-ip'>\n<rule action='fly'/></filter>",
    );
    refused(DIRECTOR, "pin-ip.xml:2:");
    files.domain("unknown", &["192.0.2.200"]);
    refused(DIRECTOR, "director.xml:7:1: there is no filter `unknown`");
    files.write("director.xml", "<domain>\n<devices></domain>");
    refused(DIRECTOR, "director.xml:2:");
    files.write("director.xml", "<domain><devices/></domain>");
    refused(DIRECTOR, "no interface has a <filterref>");
    let said = check(&["--role", "director", "--vip", "192.0.2.208:80"]);
    assert_eq!(said.code, 2);
    let none = files.path("nothing").display().to_string();
    let said = check(&[
        "--rules",
        &none,
        "--role",
        "director",
        "--vip",
        "192.0.2.208:80",
    ]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("cannot read"), "{}", said.err);
    files.write(
        "rules",
        "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -s 1:2 -j DROP\n",
    );
    let rules = files.path("rules").display().to_string();
    let said = check(&[
        "--rules",
        &rules,
        "--role",
        "director",
        "--vip",
        "192.0.2.208:80",
    ]);
    assert!(said.err.contains("rules:3:18:"), "{}", said.err);
}

#[test]
fn what_is_not_known_is_no_pass() {
    let files = Files::new();
    files.write(
        "rules",
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m physdev --physdev-in vnet0 -m set \
         --match-set spoofed src -j DROP\nCOMMIT\n",
    );
    let rules = files.path("rules").display().to_string();
    let said = |more: &[&str]| {
        let all = [
            &["--rules", &rules, "--port", "vnet0", "--mac", "2:0:0:0:0:1"],
            &["--role", "director", "--vip", "192.0.2.208:80"][..],
            more,
        ]
        .concat();
        check(&all)
    };
    assert_eq!(said(&[]).code, 1);
    said(&[]).has("`--match-set spoofed src` is not understood");
    // Rules for IP mean nothing where the bridge does not ask them.
    assert_eq!(said(&["--no-bridge-nf"]).code, 0);
}
