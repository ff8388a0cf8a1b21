//! `pointsman capture` as people call it, on a lab.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::address::{Family, vip};
use pointsman_lab::director;
use pointsman_lab::lab::Lab;
use serde_json::Value;

/// A capture that runs; killed if the test fails.
pub struct Capturing {
    child: Option<Child>,
    stderr: thread::JoinHandle<String>,
}

impl Capturing {
    /// Starts it and waits until it says that it captures.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(director::program().unwrap())
            .arg("capture")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready: ") {
            let length = stderr.read_line(&mut said).unwrap();
            assert!(length > 0, "capture {arguments:?} ended: {said}");
        }
        let stderr = thread::spawn(move || {
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        Self {
            child: Some(child),
            stderr,
        }
    }

    pub fn id(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().cast_signed())
    }

    /// Ends it by a signal: what it printed, what it said, its exit code.
    pub fn end(mut self, signal: Signal) -> (String, String, Option<i32>) {
        kill(self.id(), signal).unwrap();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let stderr = std::mem::replace(&mut self.stderr, thread::spawn(String::new));
        let said = stderr.join().unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            said,
            output.status.code(),
        )
    }

    /// Ends it as Ctrl-C does and reads its JSON.
    pub fn json(self) -> Value {
        let (out, said, code) = self.end(Signal::SIGINT);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {said}"))
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The lab's namespaces, as a pattern.
pub fn spaces(lab: &Lab) -> String {
    format!("pm{}-*", lab.tag())
}

/// A conversation with the service.
pub fn to_service(json: &Value) -> &Value {
    let at = SocketAddr::new(vip(Family::V4), 80).to_string();
    let all = json["conversations"].as_array().unwrap();
    let found = all.iter().find(|one| one["service"] == at.as_str());
    found.unwrap_or_else(|| panic!("nothing to {at} in {json:#}"))
}
