//! Metrics of a running daemon, asked for as Prometheus and people do.

#[path = "../../daemon/src/metrics/tests/exposition.rs"]
#[allow(dead_code)]
mod exposition;
#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::net::UdpSocket;

use exposition::Exposition;
use host::{Host, SERVER_MAC, Said, can_run, eventually};

const SERVICE: &str = r#"protocol="udp",address="10.9.0.1",port="5353""#;

/// Runs curl in the director's namespace.
fn curl(host: &Host, arguments: &[&str]) -> Said {
    let output = host
        .director
        .command("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(arguments)
        .output()
        .expect("run curl (package curl)");
    Said {
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
        code: output.status.code().expect("an exit code"),
    }
}

fn value(metrics: &Exposition, name: &str, labels: &str) -> f64 {
    *metrics[name]
        .values
        .get(labels)
        .unwrap_or_else(|| panic!("{name}{{{labels}}}: {:?}", metrics[name]))
}

#[test]
fn counters_rise_whatever_is_zeroed_or_removed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let daemon = host.run(&["--metrics", "127.0.0.1:0"]);
    let line = daemon
        .said
        .iter()
        .find_map(|line| line.strip_prefix("metrics: "));
    let url = line.expect("where metrics are");
    let read = || {
        let said = curl(&host, &["--fail", url]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        exposition::read(&said.out)
    };
    host.ipvsadm("-A -u 10.9.0.1:5353 -s rr");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2 -w 7");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    let send = || {
        host.server
            .run_in(|| {
                let socket = UdpSocket::bind("10.9.0.2:0").expect("bind");
                for _ in 0..5 {
                    socket.send_to(b"?", "10.9.0.1:5353").expect("send");
                }
            })
            .expect("a thread");
    };
    let packets = "pointsman_service_in_packets_total";
    let server = format!(r#"{SERVICE},server="10.9.0.2",server_port="5353""#);
    send();
    let metrics = eventually(read, |metrics| value(metrics, packets, SERVICE) == 5.0);
    for (name, expected) in [
        ("pointsman_server_in_packets_total", 5.0),
        ("pointsman_server_in_bytes_total", 145.0),
        ("pointsman_server_out_packets_total", 0.0),
        ("pointsman_server_connections_total", 1.0),
        ("pointsman_server_inactive_connections", 1.0),
        ("pointsman_server_weight", 7.0),
        ("pointsman_server_overloaded", 0.0),
        ("pointsman_server_next_hop_known", 1.0),
    ] {
        assert_eq!(value(&metrics, name, &server), expected, "{name}");
    }
    let direct = r#"action="forward",reason="direct""#;
    assert_eq!(value(&metrics, "pointsman_verdicts_total", direct), 5.0);
    assert_eq!(value(&metrics, "pointsman_connections", ""), 1.0);
    assert_eq!(value(&metrics, "pointsman_connection_room", ""), 1024.0);
    let info = format!(r#"{SERVICE},scheduler="rr""#);
    assert_eq!(value(&metrics, "pointsman_service_info", &info), 1.0);
    let swept = |metrics: &Exposition| {
        value(metrics, "pointsman_sweep_last_timestamp_seconds", "") > 1.7e9
            && value(metrics, "pointsman_estimate_last_timestamp_seconds", "") > 1.7e9
    };
    eventually(read, swept);

    host.ipvsadm("-Z");
    assert_eq!(value(&read(), packets, SERVICE), 5.0, "zeroed for -L only");
    host.ipvsadm("-d -u 10.9.0.1:5353 -r 10.9.0.2");
    let metrics = read();
    assert_eq!(value(&metrics, packets, SERVICE), 5.0, "remembered");
    let ready = "pointsman_service_ready_servers";
    assert_eq!(value(&metrics, ready, SERVICE), 0.0);
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    send();
    let metrics = eventually(read, |metrics| value(metrics, packets, SERVICE) == 10.0);
    assert_eq!(value(&metrics, ready, SERVICE), 1.0);
}

#[test]
fn tcp_shows_metrics_and_nothing_else() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&["--metrics", "[::1]:9108"]);
    let status = |arguments: &[&str]| {
        let told = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        curl(&host, &[&told[..], arguments].concat()).out
    };
    assert_eq!(status(&["http://[::1]:9108/metrics"]), "200");
    assert_eq!(
        status(&["--data", "[]", "http://[::1]:9108/metrics"]),
        "405"
    );
    for path in ["/", "/v1/services", "/v1/status", "/v1/changes"] {
        assert_eq!(status(&[&format!("http://[::1]:9108{path}")]), "404");
    }
    let change = ["--data", "[]", "http://[::1]:9108/v1/changes"];
    assert_eq!(status(&change), "404");

    // The API's socket has them, too, and says what they are.
    let path = host.socket();
    let socket = path.to_str().expect("a path of ours");
    let url = "http://localhost/metrics";
    let said = curl(&host, &["--include", "--unix-socket", socket, url]);
    let (head, body) = said.out.split_once("\r\n\r\n").expect("head and body");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    let metrics = exposition::read(body);
    assert_eq!(value(&metrics, "pointsman_services", ""), 0.0);

    // An address that is taken is said before anything is attached.
    let before = host.state();
    let other = path.with_file_name("other.sock");
    let other = other.display();
    let said = host.call(&format!("--socket {other} run --metrics [::1]:9108"));
    assert_eq!(said.code, 1);
    let words = "pointsman: listening for --metrics on [::1]:9108: Address already in use";
    assert!(said.err.starts_with(words), "{}", said.err);
    let said = host.call("run --metrics nowhere");
    assert_eq!(said.code, 2);
    assert_eq!(host.state(), before);
}
