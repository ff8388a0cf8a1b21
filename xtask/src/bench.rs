//! Measures what a packet costs, as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `bench`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let schedulers_only = args.first().is_some_and(|word| word == "--schedulers");
    let json = match &args[usize::from(schedulers_only)..] {
        [] => None,
        [word, file] if word == "--json" => Some(std::path::absolute(file)?),
        _ => {
            let usage = "usage: cargo xtask bench [--schedulers] [--json FILE]";
            return Err(crate::Usage(usage.into()).into());
        }
    };
    setup::prepare(Purpose::Build)?;
    run(workspace::cargo().args([
        "build",
        "--release",
        "--package",
        "pointsman-datapath",
        "--example",
        "bench",
    ]))?;
    let program = workspace::target().join("release/examples/bench");
    let mut bench = workspace::as_root(program)?;
    if schedulers_only {
        bench.arg("--schedulers");
    }
    run(bench.args(json))?;
    if schedulers_only {
        return Ok(());
    }
    forwarding()
}

/// Forwarding through veths: ours beside plain XDP programs and the kernel's own forwarding.
fn forwarding() -> Result<()> {
    run(workspace::cargo().args([
        "build",
        "--release",
        "--package",
        "pointsman",
        "--package",
        "xtask",
        "--bins",
    ]))?;
    let release = workspace::target().join("release");
    // Namespaces, sockets and pins of its own: all goes with the last process.
    let script = "mount -t tmpfs tmpfs /run; mkdir /run/netns; mount -t bpf bpf /sys/fs/bpf; \
                  \"$1\" --clock time --frames 60000 --rounds 15 --pointsman \"$2\"; exit $?";
    let output = workspace::as_root("unshare")?
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-e", "-c", script, "sh"])
        .arg(release.join("pointsman-guest-cost"))
        .arg(release.join("pointsman"))
        .stderr(std::process::Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "measuring rates failed");
    println!(
        "\n{:<40} {:>8} {:>8} {:>7}",
        "through veths (generator included)", "ns", "Mpps", "ratio"
    );
    let mut floor = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut parts = line.split('\t');
        let (Some("rate"), Some(name), Some(time), Some(rate)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let time: f64 = time.parse()?;
        if name == "XDP transmit" {
            floor = Some(time);
        }
        let ratio = floor.map_or(String::new(), |floor| format!("{:.2}x", time / floor));
        println!("{name:<40} {time:>8.0} {rate:>8} {ratio:>7}");
    }
    println!("ratio: to XDP transmit");
    Ok(())
}
