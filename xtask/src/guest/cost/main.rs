//! Measures, inside the guest, what a director costs: instructions per forwarded packet.
//!
//! Under `cargo xtask guest --icount` a nanosecond of guest time is an executed instruction. A
//! generator in the client's namespace sends N frames of one established TCP flow into the
//! director's input; the row's cost is the time of that minus the time of the same when an XDP
//! program drops every frame at the director's input, divided by N.
//!
//! What is in a row, therefore, is everything after the input's XDP hook was entered:
//! * kernel rows: making a socket buffer of the frame (as a network driver does), GRO, the
//!   receive path, forwarding, up to and with a transmit that frees the packet (a dummy device).
//!   No driver's transmit work, no receiver. The row "kernel receive" ends where the kernel looks
//!   for the protocol's handler: subtract it to have forwarding alone.
//! * XDP rows: the program, the veth's transmit, and the receiver's wake-up, poll and XDP drop at
//!   the other end of the wire, as a frame can't be redirected into a dummy: an upper bound.
//!
//! So a comparison of XDP with kernel rows errs against XDP, with one exception: kernel 6.1
//! makes the generator allocate, fill and free a page for each frame that became a socket buffer,
//! where drivers reuse theirs. Without `init_on_alloc` (`cargo xtask guest-cost` boots it so) a
//! profile puts that at about 600 instructions, all of them in "kernel receive" too. To be fair
//! to the kernel, take them off its rows.
//!
//! Nothing is merged by GRO, no conntrack, no rules; polls of 64 frames. Rows of new flows fill
//! a fresh connection table of default size with as many entries as frames.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

mod bpf;
mod frame;
mod rows;
mod topology;

use rows::{Hook, Row, Traffic};
use topology::Topology;

const USAGE: &str = "\
usage: pointsman-guest-cost [--clock instructions|time] [--frames N] [--rounds N] [--only TEXT] [--pointsman PROGRAM]
                            [--row NAME,HOOK,COMMAND]...

HOOK is `stack`, `xdp` or `xdp-tx`; COMMAND is run by sh in the director's namespace and must
return when the director is ready; see rows.rs for the variables it gets. Prints lines
`cost TAB name TAB number`; with `--clock time`, `rate TAB name TAB ns TAB Mpps`.
";

/// What a row is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Instructions, in a guest whose time counts them.
    Instructions,
    /// Time, on any machine: rates to be compared with each other.
    Time,
}

struct Options {
    clock: Clock,
    frames: u32,
    rounds: u8,
    only: String,
    pointsman: Option<String>,
    extra: Vec<Row>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("pointsman-guest-cost: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pointsman-guest-cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        clock: Clock::Instructions,
        frames: 20_000,
        rounds: 3,
        only: String::new(),
        pointsman: None,
        extra: Vec::new(),
    };
    while let Some(option) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--frames" => options.frames = value.parse().context("--frames takes a number")?,
            "--rounds" => options.rounds = value.parse().context("--rounds takes a number")?,
            "--only" => options.only = value,
            "--clock" => {
                options.clock = match value.as_str() {
                    "instructions" => Clock::Instructions,
                    "time" => Clock::Time,
                    _ => bail!("--clock is `instructions` or `time`"),
                }
            }
            "--pointsman" => options.pointsman = Some(value),
            "--row" => options.extra.push(Row::parse(&value)?),
            _ => bail!("there is no option `{option}`"),
        }
    }
    ensure!(
        (2 * bpf::BATCH..=1 << 16).contains(&options.frames) && (1..200).contains(&options.rounds),
        "--frames is 128 to 65536 (source ports), --rounds 1 to 199"
    );
    Ok(options)
}

fn measure(options: Options) -> Result<()> {
    if options.clock == Clock::Time {
        return measure_time(&options);
    }
    check_clock()?;
    let mut rows = rows::kernel_rows();
    if let Some(program) = &options.pointsman {
        rows.extend(rows::pointsman_rows(program));
    }
    rows.retain(|row| row.name.contains(&options.only));
    rows.extend(options.extra.iter().cloned());
    let mut baselines = [None, None];
    for row in &rows {
        let baseline = &mut baselines[usize::from(row.new_flows)];
        let floor = match *baseline {
            Some(floor) => floor,
            None => {
                let name = if row.new_flows {
                    "drop, new flows"
                } else {
                    "drop"
                };
                let drop = Row {
                    new_flows: row.new_flows,
                    ..Row::new(name, Hook::Drop, "")
                };
                *baseline.insert(per_frame(&drop, &options)?)
            }
        };
        let whole = per_frame(row, &options).with_context(|| format!("row `{}`", row.name))?;
        println!("cost\t{}\t{:.0}", row.name, whole - floor);
    }
    for (floor, flow) in baselines.iter().zip(["established", "new flows"]) {
        if let Some(floor) = floor {
            println!("subtracted for generator and drop, {flow}: {floor:.0}");
        }
    }
    Ok(())
}

/// Prints nanoseconds and millions of packets a second, the generator's work included.
fn measure_time(options: &Options) -> Result<()> {
    let mut rows = vec![Row::new("XDP drop", Hook::Drop, "")];
    // What needs modules that not every kernel has is measured in the guest only.
    rows.extend(rows::kernel_rows().into_iter().filter(|row| {
        !row.new_flows && row.traffic != Traffic::Unknown && !row.name.starts_with("ip_vs")
    }));
    if let Some(program) = &options.pointsman {
        let ours = rows::pointsman_rows(program);
        rows.extend(ours.into_iter().filter(|row| !row.new_flows));
    }
    rows.retain(|row| row.name.contains(&options.only));
    rows.extend(options.extra.iter().cloned());
    for row in &rows {
        let time = per_frame(row, options).with_context(|| format!("row `{}`", row.name))?;
        println!("rate\t{}\t{time:.0}\t{:.2}", row.name, 1000.0 / time);
    }
    Ok(())
}

/// The least of some rounds: what disturbs a round (timer ticks, table growth) only adds.
fn per_frame(row: &Row, options: &Options) -> Result<f64> {
    let (frames, rounds) = (options.frames, options.rounds);
    let topology = Topology::build(row, options.clock)?;
    topology.establish()?;
    // Warm caches that would cost the first packets: routes, neighbours.
    topology.load(0, 512)?;
    let mut least = f64::INFINITY;
    for round in 1..=rounds {
        let before = topology.delivered()?;
        let used = topology.load(round, frames)?;
        let delivered = topology.delivered()? - before;
        let dropped = row.hook == Hook::Drop || row.traffic == Traffic::Unknown;
        let expected = if dropped { 0 } else { u64::from(frames) };
        // A few may still be queued; the odd neighbour packet may have been counted.
        ensure!(
            delivered.abs_diff(expected) <= u64::from(frames / 100),
            "{delivered} frames came through of {expected}{}",
            topology.describe()
        );
        least = least.min(used);
    }
    Ok(least)
}

/// Refuses to measure where the counter counts something else.
fn check_clock() -> Result<()> {
    const TURNS: u64 = 1_000_000;
    let mut least = u128::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        // SAFETY: a loop of two instructions on one register of its own.
        unsafe {
            core::arch::asm!("2:", "dec {0}", "jnz 2b", inout(reg) TURNS => _, options(nomem, nostack));
        }
        least = least.min(start.elapsed().as_nanos());
    }
    let ratio = least as f64 / (2 * TURNS) as f64;
    ensure!(
        (0.99..1.05).contains(&ratio),
        "the clock ticks {ratio:.2} times per instruction, not once: run this in the guest, \
         with `cargo xtask guest --icount`"
    );
    Ok(())
}
