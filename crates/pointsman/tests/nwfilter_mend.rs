//! `pointsman nwfilter mend` as people run it: files in, a change out.

use std::path::Path;
use std::process::{Command, Output};

const DOMAIN: &str = "<domain type='kvm'>
  <name>director</name>
  <devices>
    <interface type='bridge'>
      <mac address='02:00:73:b6:53:c8'/>
      <target dev='vnet0'/>
      <filterref filter='own-source'>
        <parameter name='IP' value='192.0.2.200'/>
      </filterref>
    </interface>
  </devices>
</domain>
";

/// The guest's own addresses only, in IPv4 and ARP.
const FILTERS: [(&str, &str); 3] = [
    (
        "own-source",
        "<filter name='own-source'><filterref filter='own-ip'/><filterref filter='own-arp'/></filter>",
    ),
    (
        "own-ip",
        "<filter name='own-ip' chain='ipv4-own'><rule action='return' direction='out'><ip \
         srcipaddr='$IP'/></rule><rule action='drop' direction='out' priority='1000'/></filter>",
    ),
    (
        "own-arp",
        "<filter name='own-arp' chain='arp-own'><rule action='return' direction='out'><arp \
         arpsrcipaddr='$IP'/></rule><rule action='drop' direction='out' \
         priority='1000'/></filter>",
    ),
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("director.xml"), DOMAIN).unwrap();
    let filters = folder.path().join("filters");
    std::fs::create_dir(&filters).unwrap();
    for (name, text) in FILTERS {
        std::fs::write(filters.join(format!("{name}.xml")), text).unwrap();
    }
    folder
}

fn mend(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .current_dir(folder)
        .args(["nwfilter", "mend", "--domain", "director.xml"])
        .args(["--filters", "filters"])
        .args(words)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const DIRECTOR: &[&str] = &["--role", "director", "--vip", "192.0.2.208:80"];

#[test]
fn a_change_is_told_and_written_with_the_way_back() {
    let folder = folder();
    let out = folder.path().join("out");
    let output = mend(folder.path(), &[DIRECTOR, &["--out", "out"]].concat());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "  filter own-ip (by way of own-source), rule `drop out`, priority 1000, drops:",
        "    source address 203.0.113.77 is not IP=192.0.2.200:",
        "+    <ip dstipaddr='192.0.2.208' protocol='tcp' dstportstart='80'/>",
        "+    <parameter name='IP' value='192.0.2.208'/>",
        "  virsh nwfilter-define pointsman-dr-director.xml",
        "  virsh update-device director director-interface.xml --live --config",
        "  openstack port set --allowed-address ip-address=192.0.2.208 \"$PORT\"",
        "  drop   drop   drop   pass   out should not pass: source address of a client, 203.0.113.77, \
         to 192.0.2.1, which is no VIP",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("pointsman-dr-director.xml").contains("priority='-701'"));
    let before = read("director-interface.before.xml");
    assert!(before.contains("own-source") && !before.contains("192.0.2.208"));
    assert_eq!(
        read("undo.sh"),
        "#!/bin/sh\nset -e\ncd \"$(dirname \"$0\")\"\nvirsh update-device director \
         director-interface.before.xml --live --config\nvirsh nwfilter-undefine \
         pointsman-dr-director\n"
    );
    // The way back is not overwritten.
    let again = mend(folder.path(), &[DIRECTOR, &["--out", "out"]].concat());
    assert_eq!(again.status.code(), Some(2));
    assert!(
        said(&again).contains("is there already"),
        "{}",
        said(&again)
    );
}

#[test]
fn what_is_mended_needs_no_mending() {
    let folder = folder();
    let output = mend(folder.path(), &[DIRECTOR, &["--out", "out"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let out = folder.path().join("out");
    let interface = std::fs::read_to_string(out.join("director-interface.xml")).unwrap();
    let domain = format!("<domain><name>director</name><devices>{interface}</devices></domain>");
    std::fs::write(folder.path().join("director.xml"), domain).unwrap();
    let filter = "pointsman-dr-director.xml";
    std::fs::copy(out.join(filter), folder.path().join("filters").join(filter)).unwrap();
    let again = mend(folder.path(), DIRECTOR);
    assert_eq!(again.status.code(), Some(0));
    assert!(said(&again).contains("nothing to mend"), "{}", said(&again));
}

#[test]
fn json_has_everything() {
    let folder = folder();
    let output = mend(folder.path(), &[DIRECTOR, &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["outcome"], "change");
    assert_eq!(json["documents"][0]["name"], "pointsman-dr-director");
    assert_eq!(json["virsh"]["undo"].as_array().unwrap().len(), 2);
    let frames = json["frames"].as_array().unwrap();
    let forwarded = frames
        .iter()
        .find(|frame| frame["id"] == "forward-open-out")
        .unwrap();
    assert_eq!(forwarded["now"]["nftables"], "drop");
    assert_eq!(forwarded["change"]["ebtables"], "pass");
    assert_eq!(forwarded["list"]["ebtables"], "drop");
}

#[test]
fn exit_codes_tell_no_change_from_no_answer() {
    let folder = folder();
    let nat = &["--method", "nat"];
    let output = mend(folder.path(), &[DIRECTOR, nat].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("say --address for the guest, --real-server"));
    let server = &["--real-server", "192.0.2.11:8080"];
    let output = mend(folder.path(), &[DIRECTOR, nat, server].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("<ip dstipaddr='192.0.2.11' protocol='tcp' dstportstart='8080'/>")
    );
    for (words, error) in [
        (&["--vmac"][..], "say --vrid"),
        (&["--tight"], "say --real-server MAC/ADDR"),
        (&["--mac", "02:00:00:00:00:09"], "02:00:73:b6:53:c8"),
    ] {
        let output = mend(folder.path(), &[DIRECTOR, words].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(error), "{}", said(&output));
    }
    std::fs::write(folder.path().join("filters/own-ip.xml"), "<filter").unwrap();
    let output = mend(folder.path(), DIRECTOR);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("own-ip.xml:1:"), "{}", said(&output));
}
