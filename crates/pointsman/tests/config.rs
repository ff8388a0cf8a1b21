//! `pointsman config check`, as people and scripts see it.

use std::fs;
use std::process::Command;

/// What it prints for a file, and its exit code.
fn check(text: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keepalived.conf"), text).unwrap();
    fs::write(
        folder.path().join("more.conf"),
        "global_defs {\n enable_dbus\n}\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .current_dir(folder.path())
        .args(["config", "check", "keepalived.conf"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.code())
}

const SERVICE: &str = "virtual_server 10.0.0.1 80 {\n lvs_sched rr\n lvs_method DR\n protocol TCP\n \
                       real_server 10.0.0.2 80 {\n TCP_CHECK {\n }\n }\n}\n";

#[test]
fn lines_are_named_and_what_would_run_is_shown() {
    let (text, code) = check(SERVICE, &[]);
    assert_eq!(
        text,
        "`pointsman run --keepalived` would run:\n  \
         virtual service tcp 10.0.0.1:80, rr, quorum 1: 10.0.0.2:80 (direct, weight 1, 1 check)\n\
         0 errors, 0 unsupported, 0 warnings, 0 notes\n"
    );
    assert_eq!(code, Some(0));
    let faulty = "include more.conf\n@east foo\n@west bar\n".to_owned() + SERVICE;
    let (text, code) = check(&faulty, &["-i", "west"]);
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    assert!(
        next().starts_with("keepalived.conf:3:7: error: unknown keyword `bar`"),
        "{text}"
    );
    assert!(
        next().starts_with("more.conf:2:2: unsupported: `enable_dbus`"),
        "{text}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn json_says_the_same_and_wrong_usage_is_told_apart() {
    let (text, code) = check(&("foo\n".to_owned() + SERVICE), &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["diagnostics"][0]["line"], 1);
    assert_eq!(json["diagnostics"][0]["severity"], "error");
    assert_eq!(json["would_run"]["virtual_services"][0]["quorum"], 1);
    assert_eq!(code, Some(1));
    let (_, code) = check(SERVICE, &["--yaml"]);
    assert_eq!(code, Some(2));
}

#[test]
fn the_configuration_in_the_readme_is_fine() {
    let readme = include_str!("../../../README.md");
    let mut blocks = readme.split("```");
    let text = blocks
        .find(|block| block.contains("vrrp_instance"))
        .expect("a configuration");
    let (said, code) = check(text, &[]);
    assert!(said.contains("virtual router WEB: id 51"), "{said}");
    assert!(
        said.contains("0 errors, 0 unsupported, 0 warnings"),
        "{said}"
    );
    assert_eq!(code, Some(0), "{said}");
}
