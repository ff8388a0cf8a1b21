//! Checks of servers that ask who is there.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_daemon::checks::{Check, HttpCheck, HttpVersion, Identity, Tls, Url};
use tokio::net::TcpStream;

use super::{PATIENCE, inside, local, target};

async fn openssl(folder: &Path, arguments: &str) {
    let made = tokio::process::Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .await
        .expect("openssl");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
}

#[test]
fn a_certificate_is_shown_to_those_who_ask_for_it() {
    inside("identity", || async {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["server", "client"] {
            let text = format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            );
            openssl(folder.path(), &text).await;
        }
        let mut server = tokio::process::Command::new("openssl")
            .args("s_server -quiet -accept 443 -www -key server.key -cert server.pem".split(' '))
            .args("-Verify 1 -verify_return_error -CAfile client.pem".split(' '))
            .current_dir(folder.path())
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .spawn()
            .expect("openssl");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(local(443)).await.is_err() {
            assert!(Instant::now() < deadline, "openssl does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let path = |name: &str| folder.path().join(name);
        let check = |identity| {
            Check::Http(Box::new(HttpCheck {
                target: target(443),
                tls: Some(Tls {
                    name: None,
                    identity,
                }),
                version: HttpVersion::V10,
                urls: vec![Url::new("/")],
            }))
        };
        let made = check(None).make().await;
        made.expect_err("nobody is let in without a certificate");
        let read = |pem, key| Identity::read(&path(pem), &path(key));
        let other = read("server.pem", "server.key").expect("files");
        let made = check(Some(Arc::new(other))).make().await;
        made.expect_err("of another authority");
        let identity = read("client.pem", "client.key").expect("files");
        let made = check(Some(Arc::new(identity))).make().await;
        made.expect("let in");
        // What can't be used is told before anything is checked.
        read("client.pem", "server.key").expect_err("they do not belong together");
        read("missing", "client.key").expect_err("no file");
        read("client.key", "client.key").expect_err("no certificate");
        server.kill().await.expect("killed");
    });
}
