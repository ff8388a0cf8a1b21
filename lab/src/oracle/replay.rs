//! Carries a scenario out and records what happens.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use pointsman_linux::netns::NetNs;

use crate::error::{LabError, Result};
use crate::lab::Program;
use crate::namespace;
use crate::oracle::balancer::{self, Balancer, Kind};
use crate::oracle::client::{Client, Outcome};
use crate::oracle::listing;
use crate::oracle::recording::Recording;
use crate::oracle::scenario::Scenario;
use crate::oracle::servers::{Ends, Event, Servers};
use crate::oracle::site::Site;
use crate::oracle::step::{Flow, Step};
use crate::topology::Role;

/// How long a real server may take to tell of what reached it before the client's answer.
const EVENT_LIMIT: Duration = Duration::from_secs(1);
/// How long the end of a connection is waited for that may not reach its real server.
const END_LIMIT: Duration = Duration::from_millis(300);

/// Replays a scenario in a laboratory of its own. `program` is one that can decapsulate.
pub fn replay(scenario: &Scenario, kind: Kind, program: &Program) -> Result<Recording> {
    let site = Site::build(scenario.servers())?;
    if scenario.has_tunnels() {
        site.start_decapsulators(program)?;
    }
    let servers = Servers::start(&site, &scenario.all_ports())?;
    let balancer = balancer::start(kind, &site)?;
    // The client's sockets belong to the namespace of the thread that makes them.
    let home = NetNs::open(&site.namespace(Role::Client))?;
    let _inside = home.enter()?;
    let mut replay = Replay {
        site: &site,
        balancer,
        client: Client::new()?,
        servers,
        recording: Recording::default(),
        datagrams: 0,
    };
    for (index, step) in scenario.all_steps().iter().enumerate() {
        let number = index + 1;
        replay.step(number, step).map_err(|error| {
            LabError::Answer(format!("step {number} `{step}` cannot be done: {error}"))
        })?;
    }
    Ok(replay.recording)
}

struct Replay<'a> {
    site: &'a Site,
    balancer: Box<dyn Balancer + 'a>,
    client: Client,
    servers: Servers,
    recording: Recording,
    /// Datagrams sent, which tells them apart.
    datagrams: u32,
}

impl Replay<'_> {
    fn step(&mut self, number: usize, step: &Step) -> Result<()> {
        match step {
            Step::Ipvsadm(arguments) => {
                let words: Vec<&str> = arguments.split_whitespace().collect();
                let output = self.balancer.ipvsadm(&words)?;
                self.ended(number, step, arguments, &output);
            }
            Step::Shell(command) => {
                let output = self.balancer.shell(command)?;
                self.ended(number, step, command, &output);
            }
            Step::OnServer { server, command } => {
                let name = self.site.namespace(Role::RealServer(*server));
                let output = namespace::output_in(&name, Command::new("sh").args(["-c", command]))?;
                self.ended(number, step, &format!("{server} {command}"), &output);
            }
            Step::Open(flow) => self.open(number, flow)?,
            Step::Udp(flow) => self.datagram(number, flow)?,
            Step::Close(id) => {
                self.client.close(id);
                self.await_end(id);
                self.connection(number, step, id, "done", "-");
            }
            Step::Reset(id) => {
                self.client.reset(id)?;
                self.await_end(id);
                self.connection(number, step, id, "done", "-");
            }
            Step::Send(id) => {
                self.balancer.settle()?;
                let outcome = self.client.send(id);
                let reply = match outcome {
                    Outcome::Answered(_) => "ok",
                    _ => "none",
                };
                self.connection(number, step, id, outcome.word(), reply);
            }
            Step::Sleep(time) => {
                thread::sleep(*time);
                let seconds = time.as_secs_f64().to_string();
                let cells = [step.operation(), "-", "-", &seconds, "-", "-", "-"];
                self.recording.add(number, cells);
            }
            Step::List => self.listing(number, step, &["-Ln", "--nosort"])?,
            Step::Stats => {
                self.listing(number, step, &["-Ln", "--nosort", "--stats", "--exact"])?
            }
            Step::Save => self.listing(number, step, &["-Sn"])?,
            Step::Conns => {
                let text = self.ask(&["-Lnc"])?;
                listing::connections(&mut self.recording, number, &text);
            }
        }
        Ok(())
    }

    /// Records how a command ended, and what ipvsadm printed.
    fn ended(&mut self, number: usize, step: &Step, words: &str, output: &Output) {
        let complaint = complaint(output);
        let (outcome, message) = match output.status.success() {
            true => ("ok", "-"),
            false => ("error", complaint.as_str()),
        };
        let cells = [step.operation(), "-", "-", words, "-", outcome, message];
        self.recording.add(number, cells);
        if matches!(step, Step::Ipvsadm(_)) && output.status.success() {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                self.recording.add(number, ["out", "-", "-", line]);
            }
        }
    }

    fn connection(&mut self, number: usize, step: &Step, id: &str, outcome: &str, reply: &str) {
        let (source, destination) = match self.client.flow(id) {
            Some(flow) => (flow.source.to_string(), flow.destination.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let cells = [
            step.operation(),
            id,
            "tcp",
            &source,
            &destination,
            outcome,
            reply,
        ];
        self.recording.add(number, cells);
    }

    /// Waits until the real server knows of the end that the client made, if it is told.
    fn await_end(&mut self, id: &str) {
        let Some(source) = self.client.flow(id).map(|flow| flow.source) else {
            return;
        };
        self.servers.wait(
            END_LIMIT,
            |event| matches!(event, Event::Ended(ends) if ends.peer == source),
        );
    }

    fn open(&mut self, number: usize, flow: &Flow) -> Result<()> {
        self.balancer.settle()?;
        self.servers.forget();
        let (server, reply) = match self.client.open(flow)? {
            Outcome::Answered(_) => {
                let event = self.servers.wait(
                    EVENT_LIMIT,
                    |event| matches!(event, Event::Accepted(ends) if ends.peer == flow.source),
                );
                let server = match event {
                    Some(Event::Accepted(ends)) => ends.server_address().to_string(),
                    // Somebody answered, and it was none of the real servers.
                    _ => "unknown".to_owned(),
                };
                (server, "ok")
            }
            outcome => (outcome.word().to_owned(), "none"),
        };
        self.way(number, "open", "tcp", flow, &server, reply);
        Ok(())
    }

    fn datagram(&mut self, number: usize, flow: &Flow) -> Result<()> {
        self.balancer.settle()?;
        self.servers.forget();
        self.datagrams += 1;
        // Ten bytes, as in the recordings, whose counters count them.
        let payload = format!("{:010}", self.datagrams).into_bytes();
        let outcome = self.client.datagram(flow, &payload)?;
        // Without an answer everything has been waited for already.
        let limit = match outcome {
            Outcome::Answered(_) => EVENT_LIMIT,
            _ => Duration::ZERO,
        };
        let mut reached: Option<Ends> = None;
        let is_ours = |event: &Event| matches!(event, Event::Datagram { payload: got, .. } if *got == payload);
        if let Some(Event::Datagram { ends, .. }) = self.servers.wait(limit, is_ours) {
            reached = Some(ends);
        }
        let server = match (reached, outcome) {
            (Some(ends), _) => ends.server_address().to_string(),
            (None, Outcome::Answered(_)) => "unknown".to_owned(),
            (None, outcome) => outcome.word().to_owned(),
        };
        let reply = match outcome {
            Outcome::Answered(from) if from == flow.destination => "ok".to_owned(),
            Outcome::Answered(from) => format!("from {from}"),
            _ => "none".to_owned(),
        };
        self.way(number, "udp", "udp", flow, &server, &reply);
        Ok(())
    }

    fn way(
        &mut self,
        number: usize,
        operation: &str,
        protocol: &str,
        flow: &Flow,
        server: &str,
        reply: &str,
    ) {
        let ends = [flow.source, flow.destination].map(|end: SocketAddr| end.to_string());
        let cells = [
            operation, &flow.id, protocol, &ends[0], &ends[1], server, reply,
        ];
        self.recording.add(number, cells);
    }

    fn listing(&mut self, number: usize, step: &Step, words: &[&str]) -> Result<()> {
        let text = self.ask(words)?;
        listing::words(&mut self.recording, number, step.operation(), &text);
        Ok(())
    }

    /// Runs ipvsadm for a listing, which must not fail.
    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let output = self.balancer.ipvsadm(words)?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: format!("ipvsadm {}", words.join(" ")),
                status: output.status,
                stderr: complaint(&output),
            });
        }
        String::from_utf8(output.stdout)
            .map_err(|error| LabError::io("ipvsadm")(io::Error::other(error)))
    }
}

/// What a command complained of, its lines apart by ` / `.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    match lines[..] {
        [] => output.status.to_string(),
        _ => lines.join(" / "),
    }
}
