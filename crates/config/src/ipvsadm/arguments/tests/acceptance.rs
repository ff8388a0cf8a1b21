//! Every command against every option, and every tunnel type against every tunnel option.

use super::read;

/// An option with a value that is fine, and its name in messages.
const OPTIONS: &[(&str, &str)] = &[
    ("-n", "numeric"),
    ("-c", "connection"),
    ("-t 10.0.0.1:80", "service-address"),
    ("-s rr", "scheduler"),
    ("-p 5", "persistent"),
    ("-M 255.0.0.0", "netmask"),
    ("-r 10.1.0.1:80", "real-server"),
    ("-i", "forwarding-method"),
    ("-w 3", "weight"),
    ("-x 3", "u-threshold"),
    ("-y 3", "l-threshold"),
    ("--mcast-interface eth1", "mcast-interface"),
    ("--timeout", "timeout"),
    ("--daemon", "daemon"),
    ("--stats", "stats"),
    ("--rate", "rate"),
    ("--thresholds", "thresholds"),
    ("--persistent-conn", "persistent-conn"),
    ("--nosort", "nosort"),
    ("--syncid 3", "syncid"),
    ("-X", "exact"),
    ("-o", "ops"),
    ("--pe sip", "pe"),
    ("-b flag-1", "sched-flags"),
    ("--mcast-group 224.0.0.81", "mcast-group"),
    ("--mcast-port 8848", "mcast-port"),
    ("--mcast-ttl 1", "mcast-ttl"),
    ("--sync-maxlen 1472", "sync-maxlen"),
    ("--tun-info", "tun-info"),
    ("--tun-type ipip", "tun-type"),
    ("--tun-port 6080", "tun-port"),
    ("--tun-nocsum", "tun-nocsum"),
    ("--tun-csum", "tun-csum"),
    ("--tun-remcsum", "tun-remcsum"),
];

/// A command with what it needs, its name, and the options it may have besides, by name.
const COMMANDS: &[(&str, &str, &[&str])] = &[
    ("-A -u 10.0.0.1:80", "add-service", SERVICE),
    ("-E -u 10.0.0.1:80", "edit-service", SERVICE),
    ("-D -u 10.0.0.1:80", "delete-service", &[]),
    ("-C", "flush", &[]),
    ("-R", "restore", &[]),
    ("-S", "save", &["numeric"]),
    ("-a -u 10.0.0.1:80 -r 10.1.0.2:80", "add-server", SERVER),
    ("-e -u 10.0.0.1:80 -r 10.1.0.2:80", "edit-server", SERVER),
    ("-d -u 10.0.0.1:80 -r 10.1.0.2:80", "delete-server", &[]),
    ("-L", "list", LIST),
    ("-Z", "zero", &["service-address"]),
    ("--set 1 2 3", "set", &[]),
    ("--start-daemon master", "start-daemon", DAEMON),
    ("--stop-daemon master", "stop-daemon", &["syncid"]),
];

const SERVICE: &[&str] = &[
    "scheduler",
    "persistent",
    "netmask",
    "ops",
    "pe",
    "sched-flags",
];

const SERVER: &[&str] = &[
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
];

const LIST: &[&str] = &[
    "numeric",
    "connection",
    "service-address",
    "timeout",
    "daemon",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "nosort",
    "syncid",
    "exact",
    "tun-info",
];

const DAEMON: &[&str] = &[
    "mcast-interface",
    "syncid",
    "mcast-group",
    "mcast-port",
    "mcast-ttl",
    "sync-maxlen",
];

#[test]
fn every_command_takes_its_options_and_no_other() {
    for (command, name, allowed) in COMMANDS {
        for (option, option_name) in OPTIONS {
            let line = format!("{command} {option}");
            let message = read(&line)
                .err()
                .map(|error| error.message)
                .unwrap_or_default();
            let is_there = matches!((*option_name, *command), ("service-address", c) if c.contains(" -u "))
                || matches!((*option_name, *command), ("real-server", c) if c.contains(" -r "));
            if is_there {
                assert_eq!(
                    message,
                    format!("multiple '{option_name}' options specified\n")
                );
            } else if !allowed.contains(option_name) {
                let illegal = format!("Illegal '{option_name}' option with the '{name}' command\n");
                assert_eq!(message, illegal, "{line}");
            } else if option_name.starts_with("tun-") && *name != "list" {
                // These need `-i` too; the tunnel types have their own test.
                assert_eq!(
                    message, "Tunnel options conflict with forward method\n",
                    "{line}"
                );
            } else {
                assert_eq!(message, "", "{line}");
            }
        }
    }
}

#[test]
fn needed_options_are_asked_for_in_table_order() {
    for (line, option, command) in [
        ("-A", "service-address", "add-service"),
        ("-E -s rr", "service-address", "edit-service"),
        ("-D", "service-address", "delete-service"),
        ("-a -r 10.1.0.1", "service-address", "add-server"),
        ("-a -t 10.0.0.1:80", "real-server", "add-server"),
        ("-e -t 10.0.0.1:80 -m", "real-server", "edit-server"),
        ("-d", "service-address", "delete-server"),
        ("-d -f 1", "real-server", "delete-server"),
    ] {
        let message = read(line).expect_err(line).message;
        let expected =
            format!("You need to supply the '{option}' option for the '{command}' command\n");
        assert_eq!(message, expected, "{line}");
    }
}

#[test]
fn a_list_has_one_subject() {
    let subjects = ["-c", "-t 10.0.0.1:80", "--timeout", "--daemon"];
    let names = ["connection", "service-address", "timeout", "daemon"];
    for (i, earlier) in subjects.iter().enumerate() {
        for (j, later) in subjects.iter().enumerate().skip(i + 1) {
            let expected = format!(
                "The option '{}' conflicts with the '{}' option in the 'list' command\n",
                names[j], names[i]
            );
            for line in [
                format!("-L {earlier} {later}"),
                format!("-L {later} {earlier}"),
            ] {
                assert_eq!(read(&line).expect_err(&line).message, expected, "{line}");
            }
        }
    }
    for subject in ["-c", "--timeout", "--daemon"] {
        for view in ["--stats", "--rate", "--thresholds", "--persistent-conn"] {
            let line = format!("-L {subject} {view}");
            let message = read(&line)
                .err()
                .map(|error| error.message)
                .unwrap_or_default();
            let is_fine = (subject, view) == ("-c", "--persistent-conn");
            let expected = if is_fine {
                ""
            } else {
                "options conflicts in the list command\n"
            };
            assert_eq!(message, expected, "{line}");
        }
        assert!(read(&format!("-L {subject} --tun-info --nosort -X -n")).is_ok());
    }
}

#[test]
fn every_tunnel_type_takes_its_options_and_no_other() {
    let options = [
        "--tun-port 6080",
        "--tun-nocsum",
        "--tun-csum",
        "--tun-remcsum",
    ];
    let names = ["tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"];
    for (kind, allowed) in [("ipip", "...."), ("gue", "pncr"), ("gre", ".nc.")] {
        for set in 0..16usize {
            let chosen: Vec<usize> = (0..4).filter(|i| set & (1 << i) != 0).collect();
            let mut line = format!("-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type {kind}");
            chosen
                .iter()
                .for_each(|i| line += &format!(" {}", options[*i]));
            let message = read(&line)
                .err()
                .map(|error| error.message)
                .unwrap_or_default();
            assert_eq!(
                message,
                tunnel_message(kind, allowed, &names, &chosen),
                "{line}"
            );
        }
    }
}

/// What must be said to a set of tunnel options, worked out from left to right.
fn tunnel_message(kind: &str, allowed: &str, names: &[&str; 4], chosen: &[usize]) -> String {
    if kind == "gue" && !chosen.contains(&0) {
        return "You need to supply the 'tun-port' option for the 'gue' tunnel type\n".to_owned();
    }
    let mut earlier: Option<usize> = None;
    for &i in chosen {
        if allowed.as_bytes()[i] == b'.' {
            return format!(
                "Illegal '{}' option with the '{kind}' tunnel type\n",
                names[i]
            );
        }
        match earlier {
            Some(other) if i > 0 => {
                return format!(
                    "The option '{}' conflicts with the '{}' option in the '{kind}' tunnel type\n",
                    names[i], names[other]
                );
            }
            _ if i > 0 => earlier = Some(i),
            _ => {}
        }
    }
    String::new()
}
