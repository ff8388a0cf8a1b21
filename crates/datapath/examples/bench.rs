//! Prints what a packet costs; `cargo xtask bench` runs it.

use std::io::Write;

fn main() {
    let json = std::env::args().nth(1);
    let rounds = 15;
    let timings = pointsman_datapath::bench::run(rounds, |round| {
        eprint!("\rround {round} of {rounds}");
        let _ = std::io::stderr().flush();
    });
    eprintln!();
    let timings = match timings {
        Ok(timings) => timings,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
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
    if let Some(path) = json {
        let rows: Vec<String> = timings
            .iter()
            .map(|t| {
                format!(
                    "  {{\"case\": {:?}, \"minimum_ns\": {:.1}, \"median_ns\": {:.1}, \"ratio\": {:.3}}}",
                    t.name, t.minimum, t.median, t.ratio
                )
            })
            .collect();
        if let Err(error) = std::fs::write(&path, format!("[\n{}\n]\n", rows.join(",\n"))) {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    }
}
