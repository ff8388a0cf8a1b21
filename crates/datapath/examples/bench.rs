//! Prints what a packet costs; `cargo xtask bench` runs it.
//!
//! `bench [--schedulers] [FILE]`: with `--schedulers` only new connections by scheduler and number of real
//! servers; FILE gets the figures as JSON.

use std::{io::Write, process::exit};

use pointsman_datapath::{Error, bench};

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    let schedulers_only = words.next_if(|word| word == "--schedulers").is_some();
    let json = words.next();
    let mut rows = Vec::new();
    if !schedulers_only {
        rows.extend(packets());
        println!();
    }
    rows.extend(schedulers());
    if let Some(path) = json
        && let Err(error) = std::fs::write(&path, format!("[\n{}\n]\n", rows.join(",\n")))
    {
        eprintln!("{path}: {error}");
        exit(1);
    }
}

/// What is measured, or the end of the program.
fn measured<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        exit(1);
    })
}

/// Prints what packets of every kind cost; returns rows of JSON.
fn packets() -> Vec<String> {
    let rounds = 15;
    let timings = bench::run(rounds, |round| {
        eprint!("\rround {round} of {rounds}");
        let _ = std::io::stderr().flush();
    });
    eprintln!();
    let timings = measured(timings);
    println!(
        "{:<40} {:>8} {:>8} {:>7}",
        "case (ns a packet)", "minimum", "median", "ratio"
    );
    for timing in &timings {
        println!(
            "{:<40} {:>8.1} {:>8.1} {:>6.2}x",
            timing.name, timing.minimum, timing.median, timing.ratio
        );
    }
    timings
        .iter()
        .map(|t| {
            format!(
                "  {{\"case\": {:?}, \"minimum_ns\": {:.1}, \"median_ns\": {:.1}, \"ratio\": {:.3}}}",
                t.name, t.minimum, t.median, t.ratio
            )
        })
        .collect()
}

/// Prints what new connections cost with every scheduler; returns rows of JSON.
fn schedulers() -> Vec<String> {
    let rounds = 9;
    let costs = measured(bench::schedulers::run(rounds));
    println!(
        "new connection, ns by real servers (by rr's with as many; by what an empty program costs)"
    );
    print!("{:<8}", "");
    for servers in bench::schedulers::SERVERS {
        print!(" {servers:>22}");
    }
    for (at, cost) in costs.iter().enumerate() {
        if at % bench::schedulers::SERVERS.len() == 0 {
            print!("\n{:<8}", cost.scheduler);
        }
        print!(
            " {:>7.0} {:>6.2}x {:>6.1}x",
            cost.time, cost.to_rr, cost.to_floor
        );
    }
    println!();
    costs
        .iter()
        .map(|c| {
            format!(
                "  {{\"case\": \"new connection, {}, {} servers\", \"minimum_ns\": {:.1}, \"to_rr\": {:.3}, \"ratio\": {:.3}}}",
                c.scheduler, c.servers, c.time, c.to_rr, c.to_floor
            )
        })
        .collect()
}
