//! The demonstration works, says what it does, and leaves nothing.

use std::process::Command;

use pointsman_lab::{lab, tag};

#[test]
fn the_demonstration_is_answered_and_ends_clean() {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return;
    }
    let demo = Command::new(env!("CARGO_BIN_EXE_pointsman-lab"))
        .arg("demo")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = demo.id();
    let output = demo.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}\n{text}");
    assert!(!text.contains('\x1b'), "colour in a pipe");
    for part in [
        "1. Direct routing\n",
        "2. Tunnel\n",
        "3. Masquerade\n",
        "4. Direct routing, IPv6\n",
        "eth0: tcx (veth ",
        "director# pointsman ipvsadm -a -t 192.168.7.33:80 -r 192.168.99.13:80 -i\n",
        "destination 192.168.7.33 -> 192.168.88.1",
        "destination MAC -> rs",
        "     10 rs3  #",
        "TCP  [fd00:7::33]:80",
        "every request was answered",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let prefix = format!("t{id}x");
    let left = tag::tags().unwrap();
    assert!(!left.iter().any(|tag| tag.starts_with(&prefix)), "{left:?}");
    let pins = std::fs::read_dir("/sys/fs/bpf").unwrap();
    let prefix = format!("pm-t{id}x");
    for pin in pins {
        let name = pin.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(&prefix), "{name} is left");
    }
}
