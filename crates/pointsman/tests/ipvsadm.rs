//! ipvsadm against a running daemon: texts, lists and exit codes.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::net::UdpSocket;

use host::{Host, SERVER_MAC, can_run, eventually};

const HEADER: &str = "\
IP Virtual Server version 1.2.1 (size=1024)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

#[test]
fn services_and_servers_live_and_die() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    assert_eq!(host.call("ipvsadm -Ln").out, HEADER);

    host.ipvsadm("-A -t 10.9.0.100:80 -s rr");
    host.ipvsadm("-a -t 10.9.0.100:80 -r 10.9.0.2 -w 3");
    host.ipvsadm("-a -t 10.9.0.100:80 -r 10.9.0.3:8080 -m");
    host.ipvsadm("-A -u [fd09::100]:53");
    host.ipvsadm("-a -u [fd09::100]:53 -r 10.9.0.2:53 -i -x 7");
    let list = "\
TCP  10.9.0.100:80 rr
  -> 10.9.0.2:80                  Route   3      0          0         
  -> 10.9.0.3:8080                Masq    1      0          0         
UDP  [fd09::100]:53 wlc
  -> 10.9.0.2:53                  Tunnel  1      0          0         
";
    assert_eq!(host.call("ipvsadm -Ln").out, format!("{HEADER}{list}"));
    assert_eq!(host.call("ipvsadm -l -n").out, format!("{HEADER}{list}"));

    host.ipvsadm("-E -t 10.9.0.100:80 -s wrr");
    host.ipvsadm("-e -t 10.9.0.100:80 -r 10.9.0.2 -w 5");
    host.ipvsadm("-d -t 10.9.0.100:80 -r 10.9.0.3:8080");
    host.ipvsadm("-D -u [fd09::100]:53");
    let list = "\
TCP  10.9.0.100:80 wrr
  -> 10.9.0.2:80                  Route   5      0          0         
";
    assert_eq!(host.call("ipvsadm").code, 0);
    assert_eq!(host.call("ipvsadm -Ln").out, format!("{HEADER}{list}"));
    let headers = HEADER.split_once('\n').expect("lines").1;
    assert_eq!(
        host.call("ipvsadm -Ln -t 10.9.0.100:80").out,
        format!("{headers}{list}"),
        "one service has no first line"
    );
    host.ipvsadm("-C");
    assert_eq!(host.call("ipvsadm -Ln").out, HEADER);
}

#[test]
fn refusals_have_the_kernels_words_and_codes() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.100:80");
    host.ipvsadm("-a -t 10.9.0.100:80 -r 10.9.0.2");
    for (arguments, code, err) in [
        ("-A -t 10.9.0.100:80", 255, "Service already exists\n"),
        ("-E -t 10.9.0.100:81", 255, "No such service\n"),
        ("-D -t 10.9.0.100:81", 255, "No such service\n"),
        (
            "-a -t 10.9.0.100:81 -r 10.9.0.2",
            255,
            "Service not defined\n",
        ),
        (
            "-a -t 10.9.0.100:80 -r 10.9.0.2",
            255,
            "Destination already exists\n",
        ),
        (
            "-e -t 10.9.0.100:80 -r 10.9.0.3",
            255,
            "No such destination\n",
        ),
        (
            "-d -t 10.9.0.100:80 -r 10.9.0.3",
            255,
            "No such destination\n",
        ),
        ("-Z -t 10.9.0.100:81", 255, "No such service\n"),
        (
            "-A -t 10.9.0.100:82 -s nosuch",
            255,
            "Scheduler or persistence engine not found\n",
        ),
        (
            "-a -t 10.9.0.100:80 -r 224.0.0.1",
            255,
            "Invalid operation.  Possibly wrong module version, address not unicast, ...\n",
        ),
        (
            "-a -t 10.9.0.100:80 -r 10.9.0.3 -x 1 -y 2",
            255,
            "Numerical result out of range\n",
        ),
        ("-L -t 10.9.0.100:81", 1, "No such service\n"),
        (
            "--start-daemon master --mcast-interface nosuch",
            255,
            "No such device\n",
        ),
        ("--stop-daemon master", 255, "No daemon is running\n"),
        (
            "-A -t 10.9.0.100",
            2,
            "Zero port specified for non-persistent service\n",
        ),
        (
            "-X",
            255,
            "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n",
        ),
    ] {
        let said = host.call(&format!("ipvsadm {arguments}"));
        assert_eq!((said.code, said.err.as_str()), (code, err), "{arguments}");
        assert_eq!(said.out, "", "{arguments}");
    }
}

#[test]
fn what_is_saved_can_be_restored() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    let saved = "\
-A -t 10.9.0.100:80 -s rr
-a -t 10.9.0.100:80 -r 10.9.0.2:80 -g -w 1
-a -t 10.9.0.100:80 -r 10.9.0.3:8080 -m -w 0
-A -u 10.9.0.100:53 -s wlc
-a -u 10.9.0.100:53 -r 10.9.0.2:53 -i -w 1 --tun-type ipip
";
    let said = host.call_with("ipvsadm -R", saved);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(host.call("ipvsadm -Sn").out, saved);

    // A refused line is said and passed over, one that can't be read ends the restore.
    let more = "-A -t 10.9.0.100:80\n-A -t 10.9.0.100:81\n-Y\n-A -t 10.9.0.100:82\n";
    let said = host.call_with("ipvsadm -R", more);
    assert_eq!(said.code, 255);
    assert_eq!(
        said.err,
        "Service already exists\nTry `ipvsadm -h' or 'ipvsadm --help' for more information.\n"
    );
    let saved = host.call("ipvsadm -Sn").out;
    assert!(saved.contains("10.9.0.100:81") && !saved.contains("10.9.0.100:82"));
    let said = host.call_with(
        "ipvsadm -R",
        "-C\n-A -t 10.9.0.100:80\n-A -t 10.9.0.100:80\n",
    );
    assert_eq!(said.code, 255, "the last line's code");
    assert_eq!(host.call("ipvsadm -Sn").out, "-A -t 10.9.0.100:80 -s wlc\n");
}

#[test]
fn a_port_that_is_not_used_is_warned_of() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.100:80");
    let said = host.call("ipvsadm -a -t 10.9.0.100:80 -r 10.9.0.2:10 -g");
    let warning = "direct routing does not change ports, so port 80 is used";
    assert!(said.err.starts_with("Warning: ") && said.err.contains(warning));
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    let said = host.call_with(
        "ipvsadm -R",
        "-Z\n-a -t 10.9.0.100:80 -r 10.9.0.3:10 -i -w 1 --tun-type ipip\n",
    );
    let warning = "a tunnel does not change ports, so port 80 is used";
    assert!(said.err.starts_with("Warning: line 2: ") && said.err.contains(warning));
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    host.ipvsadm("-a -t 10.9.0.100:80 -r 10.9.0.4:10 -m");
    let list = "\
-A -t 10.9.0.100:80 -s wlc
-a -t 10.9.0.100:80 -r 10.9.0.2:80 -g -w 1
-a -t 10.9.0.100:80 -r 10.9.0.3:80 -i -w 1 --tun-type ipip
-a -t 10.9.0.100:80 -r 10.9.0.4:10 -m -w 1
";
    assert_eq!(host.call("ipvsadm -Sn").out, list);
}

#[test]
fn timeouts_are_set_and_shown() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    let shown = || host.call("ipvsadm -L --timeout").out;
    assert_eq!(shown(), "Timeout (tcp tcpfin udp): 900 120 300\n");
    host.ipvsadm("--set 0 60 5");
    assert_eq!(shown(), "Timeout (tcp tcpfin udp): 900 60 5\n");
    assert_eq!(
        host.call("ipvsadm -Lnc").out,
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n"
    );
    assert_eq!(host.call("ipvsadm -L --daemon").out, "");
}

/// The numbers of the row that starts with `name`.
fn numbers(list: &str, name: &str) -> Vec<u64> {
    let row = list.lines().find_map(|line| line.strip_prefix(name));
    let words = row.unwrap_or_default().split_whitespace();
    words.map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn rates_are_shown_and_reset() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    host.ipvsadm("-A -u 10.9.0.1:5353 -s rr");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2");
    let list = host.call("ipvsadm -Ln --rate").out;
    let (service, server) = ("UDP  10.9.0.1:5353", "  -> 10.9.0.2:5353");
    let zero = format!(
        "IP Virtual Server version 1.2.1 (size=1024)\n\
         Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
         -> RemoteAddress:Port\n\
         {service:<33}        0        0        0        0        0\n\
         {server:<33}        0        0        0        0        0\n"
    );
    assert_eq!(list, zero);
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    host.server
        .run_in(|| {
            for _ in 0..100 {
                let socket = UdpSocket::bind("10.9.0.2:0").expect("bind");
                for _ in 0..10 {
                    socket.send_to(b"?", "10.9.0.1:5353").expect("send");
                }
            }
        })
        .expect("a thread");
    // A thousand packets of 29 bytes: seen by one step or by two.
    let list = eventually(
        || host.call("ipvsadm -Ln --rate").out,
        |list| numbers(list, service)[1] >= 90,
    );
    let rates = numbers(&list, service);
    let packets = rates[1];
    assert!((9..=13).contains(&rates[0]), "{list}");
    assert!(packets <= 125 && rates[2] == 0, "{list}");
    assert!(rates[3].abs_diff(packets * 29) <= 29, "{list}");
    assert_eq!(rates, numbers(&list, server), "{list}");
    host.ipvsadm("-Z");
    assert_eq!(host.call("ipvsadm -Ln --rate").out, zero);
    assert_eq!(
        numbers(&host.call("ipvsadm -Ln --stats").out, service),
        [0; 5]
    );
}

#[test]
fn without_estimation_there_are_no_rates() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&["--run-estimation", "0"]);
    host.ipvsadm("-A -u 10.9.0.1:5353 -s rr");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2");
    let send = || {
        let socket = UdpSocket::bind("10.9.0.2:0").expect("bind");
        socket.send_to(&[0; 1000], "10.9.0.1:5353").expect("send");
    };
    // For longer than a step takes.
    let start = std::time::Instant::now();
    eventually(
        || host.server.run_in(send).expect("a thread"),
        |()| start.elapsed() > std::time::Duration::from_millis(2200),
    );
    let service = "UDP  10.9.0.1:5353";
    let list = host.call("ipvsadm -Ln --rate").out;
    assert_eq!(numbers(&list, service), [0; 5]);
    let list = host.call("ipvsadm -Ln --stats").out;
    assert!(numbers(&list, service)[3] > 1000, "{list}");
    // While it runs, too; at its end rates do not stay, but are 0.
    for (value, fits) in [("1", true), ("0", false)] {
        let said = host.call(&format!("setting run_estimation={value}"));
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        let list = || {
            host.server.run_in(send).expect("a thread");
            host.call("ipvsadm -Ln --rate").out
        };
        eventually(list, |list| (numbers(list, service)[3] > 0) == fits);
    }
}

#[test]
fn without_a_daemon_nothing_is_pretended() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .env("POINTSMAN_SOCKET", directory.path().join("none.sock"))
        .args(["ipvsadm", "-L", "-n"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(
        err.starts_with("Can't initialize ipvs: no director on"),
        "{err}"
    );
    assert!(err.contains("Is `pointsman run` running?"), "{err}");

    // Called by another name it is another program.
    let link = directory.path().join("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pointsman"), &link).expect("a link");
    let output = std::process::Command::new(&link)
        .arg("-v")
        .output()
        .expect("run");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("ipvsadm v1.31"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["run", "--no-such-flag"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(2));
}
