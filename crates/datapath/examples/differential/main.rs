//! Runs generated packets through the loaded programs and the native director, and compares.
//!
//! `differential [PACKETS [ROOM]]` with the seed in `POINTSMAN_SEED`; `cargo xtask guest-test` runs
//! it on the oldest kernel supported. It works in a network namespace of its own.

mod changes;
mod handmade;
mod pair;
mod skb;
mod surroundings;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let packets = numbers.next().unwrap_or(Ok(100_000));
    let room = numbers.next().unwrap_or(Ok(8192));
    let (Ok(packets), Ok(room), None) = (packets, room, numbers.next()) else {
        eprintln!("usage: differential [PACKETS [ROOM]]");
        return ExitCode::from(2);
    };
    match pair::run(pair::seed(), packets.into(), room) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
