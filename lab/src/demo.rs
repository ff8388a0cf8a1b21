//! The demonstration: real connections through the director, shown hop by hop.
//!
//! One laboratory after the other: direct routing, tunnel, masquerade, and direct routing of IPv6.
//! In each, the commands of an operator, requests of real `curl`, one connection at every hop, who
//! answered how often, and the director's counters.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pointsman_path::ladder::Style;

use crate::address::{Family, vip};
use crate::command::PORT;
use crate::director::Director;
use crate::error::{LabError, Result};
use crate::lab::{Lab, Program};
use crate::ladder;
use crate::recorder::Recorder;
use crate::topology::{Kind, Options, Topology};

/// Connections whose answers are counted.
const CONNECTIONS: usize = 30;
/// Bytes sent each way and compared.
const BYTES: usize = 10_000_000;
/// Packets of a connection that are shown: its beginning and the question.
const PACKETS: usize = 4;
/// How long a transfer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Width of the longest bar.
const BAR: usize = 40;

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const CYAN: &str = "36";

/// One laboratory of the demonstration.
struct Scene {
    title: &'static str,
    way: &'static str,
    kind: Kind,
    family: Family,
    method: &'static str,
}

const SCENES: [Scene; 4] = [
    Scene {
        title: "Direct routing",
        way: "client -> director -> real server, which answers the client itself;\n\
              only link-layer addresses change",
        kind: Kind::TwoBridge,
        family: Family::V4,
        method: "-g",
    },
    Scene {
        title: "Tunnel",
        way: "client -> director -> router -> real server, inside an outer IP header;\n\
              the real server answers the client itself",
        kind: Kind::Tunnel,
        family: Family::V4,
        method: "-i",
    },
    Scene {
        title: "Masquerade",
        way: "client -> director -> real server on a private network, and back the same way;\n\
              the director translates the destination, and the source of answers back",
        kind: Kind::Nat,
        family: Family::V4,
        method: "-m",
    },
    Scene {
        title: "Direct routing, IPv6",
        way: "client -> director -> real server, which answers the client itself",
        kind: Kind::TwoBridge,
        family: Family::V6,
        method: "-g",
    },
];

/// Shows everything on `out`; true when every request was answered.
pub fn demo(program: &Program, out: &mut dyn Write, colour: bool) -> Result<bool> {
    let start = Instant::now();
    let mut stage = Stage { out, colour };
    let mut failures = 0;
    for (number, scene) in SCENES.iter().enumerate() {
        stage.scene(number + 1, scene)?;
        failures += play(&mut stage, program, scene)?;
    }
    let seconds = start.elapsed().as_secs_f32();
    let (code, text) = match failures {
        0 => (GREEN, "every request was answered".to_owned()),
        1 => (RED, "1 request was not answered".to_owned()),
        many => (RED, format!("{many} requests were not answered")),
    };
    let text = stage.paint(code, &text);
    stage.line(&format!("\n{text}; {seconds:.0} s, nothing is left behind"))?;
    Ok(failures == 0)
}

/// Plays one scene and returns the number of requests that failed.
fn play(stage: &mut Stage<'_>, program: &Program, scene: &Scene) -> Result<usize> {
    let options = Options {
        // Room for the outer header, as an operator of tunnels would have it.
        fabric_mtu: match scene.kind {
            Kind::Tunnel => 1520,
            Kind::TwoBridge | Kind::OneLeg | Kind::Nat => 1500,
        },
        ..Options::default()
    };
    let lab = Topology::build(scene.kind, &options)?;
    stage.line(lab.topology().table().trim_end())?;
    if scene.kind == Kind::Tunnel {
        lab.start_decapsulators(program)?;
    }
    lab.start_servers(program, &[PORT])?;

    stage.gap()?;
    stage.typed("director#", "pointsman run &")?;
    let director = Director::start(&lab, &[])?;
    for line in director.said() {
        stage.line(line)?;
    }
    let at = SocketAddr::new(vip(scene.family), PORT);
    let operate = |stage: &mut Stage<'_>, arguments: &str| -> Result<()> {
        stage.typed("director#", &format!("pointsman ipvsadm {arguments}"))?;
        let text = director.ipvsadm(arguments)?;
        match text.trim_end() {
            "" => Ok(()),
            text => stage.line(text),
        }
    };
    operate(stage, &format!("-A -t {at} -s rr"))?;
    for address in lab.topology().real_servers(scene.family) {
        let server = SocketAddr::new(address, PORT);
        operate(stage, &format!("-a -t {at} -r {server} {}", scene.method))?;
    }
    director.wait_resolved()?;

    let mut failures = one_connection(stage, &lab, at)?;
    failures += transfers(stage, &lab, at)?;
    failures += spread(stage, &lab, at)?;
    stage.gap()?;
    operate(stage, "-Ln --stats")?;
    stage.gap()?;
    stage.typed("director#", "pointsman verdicts")?;
    stage.line(director.call(&["verdicts"])?.trim_end())?;
    director.stop()?;
    Ok(failures)
}

/// One request, seen at every hop.
fn one_connection(stage: &mut Stage<'_>, lab: &Lab, at: SocketAddr) -> Result<usize> {
    stage.gap()?;
    stage.typed("client$", &format!("curl http://{at}/"))?;
    let recorder = Recorder::start(lab)?;
    let answer = lab.client().limit(LIMIT).name(at);
    let recording = recorder.stop()?;
    let failed = match answer {
        Ok(name) => {
            stage.line(&name)?;
            0
        }
        Err(error) => stage.failure(&error)?,
    };
    let ladder = ladder::join(lab.topology(), &recording);
    let Some(connection) = ladder.to(at) else {
        return Err(LabError::Answer(format!("no packet to {at} was seen")));
    };
    let style = Style {
        colour: stage.colour,
        packets: PACKETS,
    };
    stage.gap()?;
    stage.line(ladder.text(connection, style).trim_end())?;
    Ok(failed)
}

/// Megabytes each way, compared byte by byte.
fn transfers(stage: &mut Stage<'_>, lab: &Lab, at: SocketAddr) -> Result<usize> {
    stage.gap()?;
    let client = lab.client().limit(LIMIT);
    let mut failed = 0;
    for (words, result) in [
        (
            format!("curl http://{at}/bytes/{BYTES}"),
            client.download(at, BYTES),
        ),
        (
            format!("curl --data-binary @{BYTES}-bytes http://{at}/echo"),
            client.echo(at, BYTES),
        ),
    ] {
        stage.typed("client$", &words)?;
        match result {
            Ok(()) => stage.line(&format!("{BYTES} bytes, every one as it should be"))?,
            Err(error) => failed += stage.failure(&error)?,
        }
    }
    Ok(failed)
}

/// Who answers many connections.
fn spread(stage: &mut Stage<'_>, lab: &Lab, at: SocketAddr) -> Result<usize> {
    stage.gap()?;
    stage.typed(
        "client$",
        &format!("for i in $(seq {CONNECTIONS}); do curl http://{at}/; done | sort | uniq -c"),
    )?;
    let spread = lab.client().limit(LIMIT).spread(at, CONNECTIONS)?;
    let most = spread.answers.values().copied().max().unwrap_or(1);
    for (name, count) in &spread.answers {
        let bar = stage.paint(CYAN, &"#".repeat(count * BAR / most));
        stage.line(&format!("{count:7} {name:4} {bar}"))?;
    }
    for failure in &spread.failures {
        let text = stage.paint(RED, failure);
        stage.line(&text)?;
    }
    Ok(spread.failures.len())
}

/// Where the demonstration is shown.
struct Stage<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl Stage<'_> {
    fn paint(&self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(LabError::io("cannot show the demonstration"))
    }

    fn gap(&mut self) -> Result<()> {
        self.line("")
    }

    fn scene(&mut self, number: usize, scene: &Scene) -> Result<()> {
        let title = format!("{number}. {}", scene.title);
        let rule = "=".repeat(title.len());
        let text = self.paint(BOLD, &format!("{title}\n{rule}"));
        let before = if number == 1 { "" } else { "\n\n" };
        self.line(&format!("{before}{text}\n{}\n", scene.way))
    }

    fn typed(&mut self, prompt: &str, command: &str) -> Result<()> {
        let text = format!(
            "{} {}",
            self.paint(GREEN, prompt),
            self.paint(BOLD, command)
        );
        self.line(&text)
    }

    /// Shows a failed request and counts it.
    fn failure(&mut self, error: &LabError) -> Result<usize> {
        let text = self.paint(RED, &error.to_string());
        self.line(&text)?;
        Ok(1)
    }
}
