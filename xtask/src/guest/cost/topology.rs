//! Client, director and real server in namespaces of their own.
//!
//! ```text
//! client            director                    server
//! c0 10.1.0.2 ----- d0 10.1.0.1
//!    10.1.0.3                                                    frames sent back by XDP
//!                   d1 10.2.0.1 --------------- s0 10.2.0.2     frames forwarded by XDP
//!                   out0 10.3.0.1 (dummy)       10.3.0.2        frames forwarded by the kernel
//!                                 or ---------- t0              when time is measured
//! ```

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Clock;
use super::bpf::{Generator, Link, Program, Verdict};
use super::frame::{Flags, Mac, Segment};
use super::rows::{Hook, Row, Traffic};

const NAMESPACES: [&str; 3] = ["client", "director", "server"];
const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 1];
const INPUT_MAC: Mac = [2, 0, 0, 0, 0, 2];

const VIRTUAL: [u8; 4] = [10, 9, 0, 1];
const PORT: u16 = 80;
const CLIENT: ([u8; 4], u16) = ([10, 1, 0, 2], 40_000);
/// The client of replies sits where the kernel forwards to.
const CLIENT_BEHIND: ([u8; 4], u16) = ([10, 3, 0, 2], 40_000);

/// An Ethernet type nobody registers.
const LOCAL_EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

/// What the kernel forwards to when time is measured: a wire like those of XDP, with the same end.
const VETH: &str = "veth peer name t0 netns server address 02:00:00:00:00:06";

const SETUP: &str = "
for space in client director server; do ip netns add $space; done
ip -batch - <<END
link add c0 netns client address 02:00:00:00:00:01 type veth peer name d0 netns director address 02:00:00:00:00:02
link add d1 netns director address 02:00:00:00:00:03 type veth peer name s0 netns server address 02:00:00:00:00:04
link add out0 netns director address 02:00:00:00:00:05 type $SINK
END
ip -n client -batch - <<END
link set c0 up
addr add 10.1.0.2/24 dev c0
END
ip -n server -batch - <<END
link set s0 up
addr add 10.2.0.2/24 dev s0
END
ip -n director -batch - <<END
link set lo up
link set d0 up
link set d1 up
link set out0 up
addr add 10.1.0.1/24 dev d0
addr add 10.2.0.1/24 dev d1
addr add 10.3.0.1/24 dev out0
addr add 10.9.0.1/32 dev lo
neigh add 10.1.0.2 lladdr 02:00:00:00:00:01 dev d0 nud permanent
neigh add 10.1.0.3 lladdr 02:00:00:00:00:07 dev d0 nud permanent
neigh add 10.2.0.2 lladdr 02:00:00:00:00:04 dev d1 nud permanent
neigh add 10.3.0.2 lladdr 02:00:00:00:00:06 dev out0 nud permanent
END
[ ${SINK%% *} = dummy ] || ip -n server link set t0 up
ip netns exec director sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
";

/// The namespaces of one row, its director running; dropping it takes all away.
pub(crate) struct Topology<'a> {
    row: &'a Row,
    client_device: u32,
    links: Vec<Link>,
}

impl<'a> Topology<'a> {
    pub(crate) fn build(row: &'a Row, clock: Clock) -> Result<Self> {
        let mut topology = Self {
            row,
            client_device: 0,
            links: Vec::new(),
        };
        let sink = match clock {
            Clock::Instructions => "dummy",
            Clock::Time => VETH,
        };
        // A here-document of batch commands is expanded by the shell.
        shell(None, SETUP, &[("SINK", sink)])?;
        if clock == Clock::Time {
            topology.attach("server", "t0", Verdict::Drop)?;
        }
        topology.client_device = topology.attach("client", "c0", Verdict::Drop)?;
        topology.attach("server", "s0", Verdict::Drop)?;
        enter("director")?;
        let input = index("d0")?;
        let program = match row.hook {
            Hook::Drop => Some(Program::verdict(Verdict::Drop)?),
            Hook::Reflect => Some(Program::reflect()?),
            Hook::Redirect => Some(Program::redirect(index("d1")?)?),
            Hook::Stack => Some(Program::verdict(Verdict::Pass)?),
            Hook::Xdp | Hook::XdpTransmit => None,
        };
        if let Some(program) = program {
            topology.links.push(program.attach(input)?);
        }
        let (real, output) = match (row.hook, row.traffic) {
            (Hook::Stack, Traffic::Replies) => ("10.1.0.2", "out0"),
            (Hook::Stack, _) => ("10.3.0.2", "out0"),
            (Hook::XdpTransmit, _) => ("10.1.0.3", "d0"),
            _ => ("10.2.0.2", "d1"),
        };
        let variables = [
            ("VIP", "10.9.0.1"),
            ("PORT", "80"),
            ("REAL", real),
            ("INPUT", "d0"),
            ("OUTPUT", output),
        ];
        if !row.setup.is_empty() {
            // `ip netns exec` hides the bpffs; somebody must stay, or the new one goes at once.
            let script = format!(
                "mount -t bpf bpf /sys/fs/bpf\nsleep 86400 >/dev/null 2>&1 &\n{}",
                row.setup
            );
            shell(Some("director"), &script, &variables)?;
        }
        Ok(topology)
    }

    fn attach(&mut self, namespace: &str, device: &str, verdict: Verdict) -> Result<u32> {
        enter(namespace)?;
        let index = index(device)?;
        self.links.push(Program::verdict(verdict)?.attach(index)?);
        Ok(index)
    }

    /// Opens the one connection of the row, as its parties would.
    pub(crate) fn establish(&self) -> Result<()> {
        let plain = matches!(self.row.traffic, Traffic::Plain | Traffic::Unknown);
        if self.row.new_flows || plain || self.row.hook == Hook::Drop {
            return Ok(());
        }
        let client = if self.row.traffic == Traffic::Replies {
            CLIENT_BEHIND
        } else {
            CLIENT
        };
        let reply = Segment {
            flags: Flags::SynAck,
            ..self.segment()
        };
        for (from, to, flags) in [
            (client, (VIRTUAL, PORT), Flags::Syn),
            (reply.from, reply.to, Flags::SynAck),
            (client, (VIRTUAL, PORT), Flags::Ack),
        ] {
            if flags == Flags::SynAck && self.row.traffic != Traffic::Replies {
                continue;
            }
            let segment = Segment {
                macs: (CLIENT_MAC, INPUT_MAC),
                from,
                to,
                flags,
            };
            self.send(segment, false, 1)?;
        }
        Ok(())
    }

    /// Sends `count` frames of the row from the client; returns guest time per frame. New flows
    /// are new only if no earlier `round` had this number.
    pub(crate) fn load(&self, round: u8, count: u32) -> Result<f64> {
        let mut segment = self.segment();
        if self.row.new_flows {
            segment.from.0[3] += round;
        }
        self.send(segment, self.row.new_flows, count)
    }

    fn segment(&self) -> Segment {
        let (from, to) = match self.row.traffic {
            Traffic::Plain | Traffic::Unknown => (CLIENT, ([10, 3, 0, 2], PORT)),
            Traffic::Requests => (CLIENT, (VIRTUAL, PORT)),
            Traffic::Replies => ((CLIENT.0, PORT), CLIENT_BEHIND),
        };
        let flags = if self.row.new_flows {
            Flags::Syn
        } else {
            Flags::Ack
        };
        Segment {
            macs: (CLIENT_MAC, INPUT_MAC),
            from,
            to,
            flags,
        }
    }

    fn send(&self, segment: Segment, count_port: bool, count: u32) -> Result<f64> {
        enter("client")?;
        let mut frame = segment.frame();
        if self.row.traffic == Traffic::Unknown {
            frame[12..14].copy_from_slice(&LOCAL_EXPERIMENTAL);
        }
        Generator::new(&frame, self.client_device, count_port)?.send(count)
    }

    /// Frames that have left the director, whichever way.
    pub(crate) fn delivered(&self) -> Result<u64> {
        let mut sum = 0;
        for (namespace, device, transmitted) in [
            ("client", "c0", false),
            ("server", "s0", false),
            ("director", "out0", true),
        ] {
            enter(namespace)?;
            let text = fs::read_to_string("/proc/thread-self/net/dev")?;
            sum += counter(&text, device, transmitted)
                .with_context(|| format!("no counters of {device}"))?;
        }
        Ok(sum)
    }

    /// What the director's namespace looks like, for error messages.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for line in [
            "ip -s link",
            "ipvsadm -Ln",
            "ipvsadm -Lcn | head",
            "nstat -az | grep -v ' 0 '",
        ] {
            let output = Command::new("ip")
                .args(["netns", "exec", "director", "sh", "-c", line])
                .output();
            let output = output.map(|output| output.stdout).unwrap_or_default();
            text.push_str(&format!("\n$ {line}\n{}", String::from_utf8_lossy(&output)));
        }
        text
    }
}

impl Drop for Topology<'_> {
    fn drop(&mut self) {
        self.links.clear();
        // Or the loop would kill this very process.
        if let Err(error) = enter_path("/proc/1/ns/net") {
            eprintln!("{error:#}");
            return;
        }
        for namespace in NAMESPACES {
            // Whatever a row has started in there must not live on in the next.
            let script = "kill -9 $(ip netns pids $0) 2>/dev/null; ip netns del $0";
            let _ = Command::new("sh").args(["-c", script, namespace]).status();
        }
    }
}

/// Packets received or transmitted by `device`, from the text of `/proc/net/dev`.
fn counter(text: &str, device: &str, transmitted: bool) -> Option<u64> {
    let (_, numbers) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == device)?;
    numbers
        .split_whitespace()
        .nth(if transmitted { 9 } else { 1 })?
        .parse()
        .ok()
}

fn shell(namespace: Option<&str>, script: &str, variables: &[(&str, &str)]) -> Result<()> {
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, "sh"]);
            command
        }
        None => Command::new("sh"),
    };
    command
        .args(["-e", "-c", script])
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let status = command.status().context("cannot run the setup")?;
    if !status.success() {
        bail!("setup failed ({status}):\n{script}");
    }
    Ok(())
}

/// Moves this thread into a named network namespace.
fn enter(namespace: &str) -> Result<()> {
    enter_path(&format!("/run/netns/{namespace}"))
}

fn enter_path(path: &str) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    // SAFETY: the descriptor is open; this program has no other thread to be surprised.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    ensure!(
        result == 0,
        "cannot enter {path}: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

fn index(device: &str) -> Result<u32> {
    let name = CString::new(device)?;
    // SAFETY: `name` is a string with an end mark and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => bail!("no device {device}: {}", std::io::Error::last_os_error()),
        index => Ok(index),
    }
}
