//! A node's kernel twin, built: frames go in at its ports, and what comes out is seen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Capture, Direction, Options, Sender};
use pointsman_path::snapshot::Snapshot;
use pointsman_path::twin::Plan;
use pointsman_wire::{Summary, tcp};

use super::arp;

/// How long a frame has to come out.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long a port has to have a carrier.
const CARRIER: Duration = Duration::from_secs(3);

/// The twin of a node: two namespaces without names, which end with this value or this process.
pub(crate) struct Twin {
    inside: NetNs,
    ports: BTreeMap<String, Port>,
    answers_arp: bool,
}

struct Port {
    capture: Capture,
    sender: Sender,
}

impl Twin {
    /// Builds the twin of a node.
    pub(crate) fn build(node: &Snapshot) -> Result<Self> {
        let anonymous = || NetNs::anonymous().context("twins need root (CAP_SYS_ADMIN)");
        let (inside, outside) = (anonymous()?, anonymous()?);
        let plan = Plan::new(node, &outside.path().display().to_string());
        // Nothing but the frames put in is to go about.
        for namespace in [&inside, &outside] {
            let silent = "net.ipv6.conf.default.router_solicitations=0";
            let prompt = "net.ipv4.icmp_ratelimit=0";
            run(namespace, &["sysctl", "-q", "-w", silent, prompt], "")?;
        }
        run(
            &outside,
            &["sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1"],
            "",
        )?;
        for step in &plan.steps {
            let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
            let ran = run(&inside, &words, &step.input);
            if step.needed {
                ran.context("making the twin")?;
            }
        }
        let mut ports = BTreeMap::new();
        let _outside = outside.enter()?;
        for name in &plan.ports {
            run(&outside, &["ip", "link", "set", "dev", name, "up"], "")?;
            let options = Options {
                buffer_bytes: 1 << 20,
                ..Options::default()
            };
            let port = Port {
                capture: Capture::open_with(name, &options)?,
                sender: Sender::open(name)?,
            };
            ports.insert(name.clone(), port);
        }
        let twin = Self {
            inside,
            ports,
            answers_arp: true,
        };
        twin.wait_for_carriers(node)?;
        Ok(twin)
    }

    /// Runs a fix's command in the twin, words between blanks, maybe in quotes: there is no shell.
    pub(crate) fn run(&self, command: &str) -> Result<()> {
        let words: Vec<&str> = command
            .split_whitespace()
            .map(|word| {
                let quoted = word
                    .strip_prefix('\'')
                    .and_then(|rest| rest.strip_suffix('\''));
                quoted.unwrap_or(word)
            })
            .collect();
        if words.concat().contains([
            '\'', '"', '\\', '$', '`', '|', ';', '&', '<', '>', '(', '*', '?', '~',
        ]) {
            bail!("`{command}` needs a shell, and the twin has none");
        }
        run(&self.inside, &words, "").map(|_| ())
    }

    /// Says whether those around the twin answer its questions.
    pub(crate) fn answers_arp(&mut self, answers: bool) {
        self.answers_arp = answers;
    }

    /// Puts a frame in at a port so many times, and counts what `wanted` knows of what comes out of any.
    pub(crate) fn put_in(
        &mut self,
        port: &str,
        frame: &[u8],
        times: usize,
        wanted: impl Fn(&str, &[u8]) -> bool,
    ) -> Result<usize> {
        for port in self.ports.values_mut() {
            while port.capture.next(Duration::ZERO)?.is_some() {}
        }
        let sender = &self
            .ports
            .get(port)
            .with_context(|| format!("the twin has no port {port}"))?
            .sender;
        for _ in 0..times {
            sender.send(frame)?;
        }
        self.count(times, wanted)
    }

    /// Has the node itself ask a service, and returns its packet as it comes out of any port; the socket
    /// goes on asking.
    pub(crate) fn ask(&mut self, service: SocketAddr) -> Result<(OwnedFd, Vec<u8>)> {
        for port in self.ports.values_mut() {
            while port.capture.next(Duration::ZERO)?.is_some() {}
        }
        let socket = self.inside.run_in(|| connect(service))??;
        let request = RefCell::new(None);
        self.count(1, |_, seen| {
            let opens = Summary::parse(seen).and_then(|packet| packet.tcp);
            let opens = opens.is_some_and(|tcp| tcp.flags & (tcp::SYN | tcp::ACK) == tcp::SYN);
            if opens {
                request.replace(Some(seen.to_vec()));
            }
            opens
        })?;
        let request = request.into_inner();
        Ok((
            socket,
            request.context("what the twin asks does not come out")?,
        ))
    }

    /// Waits for what comes out, and counts what `wanted` knows of it.
    fn count(&mut self, times: usize, wanted: impl Fn(&str, &[u8]) -> bool) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        let mut arrived = 0;
        while arrived < times && Instant::now() < deadline {
            let mut silent = true;
            for (name, port) in &mut self.ports {
                while let Some(seen) = port.capture.next(Duration::ZERO)? {
                    if seen.direction == Direction::Out {
                        continue;
                    }
                    silent = false;
                    arrived += usize::from(wanted(name, &seen.bytes));
                    if let Some(answer) = arp::answer(&seen.bytes).filter(|_| self.answers_arp) {
                        port.sender.send(&answer)?;
                    }
                }
            }
            if silent {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(arrived.min(times))
    }

    fn wait_for_carriers(&self, node: &Snapshot) -> Result<()> {
        let deadline = Instant::now() + CARRIER;
        let mut netlink = self
            .inside
            .run_in(pointsman_linux::netlink::Netlink::new)??;
        loop {
            let links = netlink.links()?;
            let waiting = links.iter().find(|link| {
                let up = node.link(&link.name).is_some_and(|link| link.is_up());
                up && !link.has_carrier() && self.ports.contains_key(&link.name)
            });
            let Some(link) = waiting else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("the twin's {} has no carrier", link.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Begins a connection from here.
fn connect(service: SocketAddr) -> Result<OwnedFd> {
    let family = match service {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(service)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs a program in a namespace with this input; an error tells what it complains of.
fn run(namespace: &NetNs, words: &[&str], input: &str) -> Result<Output> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut child = namespace
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {program}"))?;
    let mut stdin = child.stdin.take().context("no input")?;
    let input = input.to_owned();
    // Beside reading: a program that talks before it has read all would wait for ever.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint: Vec<&str> = complaint.lines().take(3).collect();
        bail!(
            "`{}` in the twin: {}",
            words.join(" "),
            complaint.join(" / ")
        );
    }
    Ok(output)
}
