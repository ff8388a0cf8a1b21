//! The exact words and exit code of every refusal, as ipvsadm 1.31 says them.

use super::read;

const TRY_HELP: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
const BAD_SERVICE: &str = "illegal virtual server address[:port] specified";
const BAD_SERVER: &str = "illegal real server address[:port] specified";

#[track_caller]
fn refuse(cases: &[(&str, &str)], exit_code: u8) {
    for (line, message) in cases {
        let error = read(line).expect_err(line);
        let expected = (format!("{message}\n"), exit_code);
        assert_eq!((error.message, error.exit_code), expected, "{line}");
    }
}

#[test]
fn lines_without_a_command_point_to_the_help() {
    for line in [
        "-t 10.0.0.1:80 -A",
        "-n",
        "-c",
        "-p",
        "-p -A",
        "-q",
        "-foo",
        "--foo",
        "--weight",
        "-t",
        "--list=3",
        "-- -A",
        "-",
        "''",
        "foo",
        "--set=1 2 3",
        "--start-daemon",
        "--start-daemonx",
        "--stop-daemon",
    ] {
        refuse(&[(line, TRY_HELP)], 255);
    }
}

#[test]
fn what_cannot_be_split_is_refused_in_popts_words() {
    refuse(
        &[
            ("-A -t", "-t: missing argument"),
            ("-A --weight", "--weight: missing argument"),
            ("-Lt", "-Lt: missing argument"),
            ("-A -nt", "-nt: missing argument"),
            ("-A -q", "-q: unknown option"),
            ("-Aq", "-Aq: unknown option"),
            ("-A --foo extra", "--foo: unknown option"),
            (
                "-A --tcp-serv=10.0.0.1:80",
                "--tcp-serv=10.0.0.1:80: unknown option",
            ),
            ("-A ---tcp-service x", "---tcp-service: unknown option"),
            ("-A --=3", "--=3: unknown option"),
            ("-A -=3", "-=3: unknown option"),
            ("-A --ops=", "--ops=: option does not take an argument"),
            ("-A -t 10.0.0.1:80 -p -1", "-1: unknown option"),
            ("--set 1 2 -1", "-1: unknown option"),
        ],
        255,
    );
}

#[test]
fn a_line_has_one_command_and_no_spare_word() {
    refuse(
        &[
            ("-A -L", "invalid option `-L'"),
            ("-A -Lq", "invalid option `-Lq'"),
            ("-Ah", "invalid option `-Ah'"),
            ("-L --zero", "invalid option `--zero'"),
            ("-A --start-daemon master", "invalid option `master'"),
            (
                "-A --start-daemon=master",
                "invalid option `--start-daemon=master'",
            ),
            ("-A -t 10.0.0.1:80 extra more", "unexpected argument extra"),
            ("extra -A -n", "unexpected argument extra"),
            ("-A -t 10.0.0.1:80 -- -s", "unexpected argument -s"),
            ("-A -t 10.0.0.1:80 -", "unexpected argument -"),
            ("-A -t 10.0.0.1:80 -p 5 7", "unexpected argument 7"),
            ("--set 1 2 3 4 -n", "unexpected argument 4"),
            ("-L -b foo x", "unexpected argument x"),
        ],
        2,
    );
}

#[test]
fn an_option_stands_once() {
    refuse(
        &[
            (
                "-A -t 10.0.0.1:80 -u x",
                "multiple 'service-address' options specified",
            ),
            (
                "-A -f 1 -f 0",
                "multiple 'service-address' options specified",
            ),
            ("-a -m -i", "multiple 'forwarding-method' options specified"),
            ("-L -nn", "multiple 'numeric' options specified"),
            ("-L -w 1 -w x", "multiple 'weight' options specified"),
            ("-L --exact -X", "multiple 'exact' options specified"),
        ],
        2,
    );
}

#[test]
fn bad_services_and_servers_are_refused() {
    for value in [
        "''",
        "80",
        ":80",
        "0",
        "167772161",
        "http",
        "10.0.0.1:",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:https",
        "10.0.0.1:80:90",
        "10.0.0.256:80",
        "nohost:80",
        "[fd00::1]",
        "[fd00::1]:",
        "[fd00::1]x:80",
        "[fd00::1]:80:90",
        "[fd00::1]]:80",
        "[fe80::1%eth0]:80",
        "[fd00::1",
        "fd00::1]",
        "[",
        "]",
        "[]:80",
        "[:80",
        "[10.0.0.1]",
    ] {
        refuse(&[(&format!("-A -t {value} -p"), BAD_SERVICE)], 2);
        refuse(&[(&format!("-a -t 10.0.0.1:80 -r {value}"), BAD_SERVER)], 2);
    }
    // The port name's protocol is the service's, which must be known before.
    refuse(&[("-a -r 10.1.0.1:http -t 10.0.0.1:80", BAD_SERVER)], 2);
    refuse(&[("-a -t 10.0.0.1:80 -r 10.1.0.1:tftp", BAD_SERVER)], 2);
}

#[test]
fn bad_values_are_refused() {
    let server = "-a -t 10.0.0.1:80 -r 10.1.0.1";
    for value in [
        "''",
        "-1",
        "5_",
        "0x10",
        "2147483648",
        "99999999999999999999",
    ] {
        refuse(
            &[(&format!("{server} -w {value}"), "illegal weight specified")],
            2,
        );
        refuse(
            &[(
                &format!("{server} -x {value}"),
                "illegal u_threshold specified",
            )],
            2,
        );
        refuse(
            &[(
                &format!("{server} -y {value}"),
                "illegal l_threshold specified",
            )],
            2,
        );
    }
    refuse(
        &[
            ("-A -f 0", "invalid fwmark value `0' specified"),
            ("-A -f 0x1", "invalid fwmark value `0x1' specified"),
            (
                "-A -f 4294967296",
                "invalid fwmark value `4294967296' specified",
            ),
            (
                "-A -t 10.0.0.1:80 -p 0",
                "invalid timeout value `0' specified",
            ),
            (
                "-A -t 10.0.0.1:80 -p ''",
                "invalid timeout value `' specified",
            ),
            (
                "-A -t 10.0.0.1:80 -p 2678401",
                "invalid timeout value `2678401' specified",
            ),
            ("-Lpn", "invalid timeout value `n' specified"),
            ("--set x 2 3", "invalid timeout value `x' specified"),
            ("--set -- 1 2 -1", "invalid timeout value `-1' specified"),
            ("--set 1 2 -n", "--set option requires 3 timeout values"),
            (
                "-A -t 10.0.0.1:80 -M foo",
                "illegal virtual server persistent mask specified",
            ),
            (
                "-A -t 10.0.0.1:80 -M ''",
                "illegal virtual server persistent mask specified",
            ),
            ("-A -t [fd00::1]:80 -M 0", "illegal ipv6 netmask specified"),
            (
                "-A -t [fd00::1]:80 -M 129",
                "illegal ipv6 netmask specified",
            ),
            ("-a --tun-type GUE", "illegal tunnel type specified"),
            ("-a --tun-port 0", "illegal tunnel port specified"),
            ("-L --syncid 256", "illegal syncid specified"),
            (
                "--start-daemon Master --foo",
                "illegal start-daemon parameter specified",
            ),
            ("--stop-daemon x", "illegal start_daemon specified"),
            (
                "--start-daemon master --mcast-port 0",
                "illegal mcast-port specified",
            ),
            (
                "--start-daemon master --mcast-ttl 256",
                "illegal mcast-ttl specified",
            ),
            (
                "--start-daemon master --sync-maxlen 65508",
                "illegal sync-maxlen specified",
            ),
            (
                "--start-daemon master --mcast-group 10.0.0.1",
                "invalid IPv4 mcast-group `10.0.0.1'",
            ),
            (
                "--start-daemon master --mcast-group fd00::1",
                "invalid IPv6 mcast-group `fd00::1'",
            ),
        ],
        2,
    );
}

#[test]
fn bad_flags_are_refused() {
    refuse(
        &[
            (
                "-A -t 10.0.0.1:80 -b sh-port",
                "incompatible scheduler flag `sh-port'",
            ),
            (
                "-A -t 10.0.0.1:80 -s sh -b mh-port,x",
                "incompatible scheduler flag `mh-port'",
            ),
            (
                "-A -t 10.0.0.1:80 -s sh -b x,mh-port",
                "invalid scheduler flag `x'",
            ),
            (
                "-A -t 10.0.0.1:80 -b flag-4",
                "invalid scheduler flag `flag-4'",
            ),
            ("-L -b foo", "invalid scheduler flag `foo'"),
            ("-A -b foo", "invalid scheduler flag `foo'"),
        ],
        2,
    );
}

#[test]
fn options_must_make_sense_together() {
    let family = "Different address family is allowed only for tunneling servers";
    refuse(
        &[
            (
                "-A -t 10.0.0.1 -o",
                "Zero port specified for non-persistent service",
            ),
            (
                "-E -u [10.0.0.1]:80",
                "Zero port specified for non-persistent service",
            ),
            (
                "-A -t 10.0.0.1:80 -o",
                "One-Packet Scheduling is only for UDP virtual services",
            ),
            ("-A -6", "-6 used before -f\n"),
            ("-A -t 10.0.0.1:80 -6", "-6 used before -f\n"),
            ("-a -t 10.0.0.1:80 -r [fd00::1]:80", family),
            ("-a -t 10.0.0.1:80 -r [fd00::1]:80 --tun-type gue", family),
            ("-a -f 1 -r fd00::2", family),
            ("-a -f 1 -6 -r 10.1.0.1 -m", family),
            (
                "-a -t 10.0.0.1:80 -r 10.1.0.1 --tun-csum",
                "Tunnel options conflict with forward method",
            ),
        ],
        2,
    );
}
