//! Loads every program, or says what the verifier minds; all of it with `POINTSMAN_VERIFIER_LOG` set.

use pointsman_datapath::{
    Options,
    drops::Drops,
    records::{self, Records},
    trial::Trial,
};

fn main() {
    match Trial::new(&Options::default()) {
        Ok(trial) => {
            for (name, info) in trial.programs() {
                println!("{name}: ok, {info}");
            }
            record(&trial);
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    match Drops::watch(std::net::Ipv4Addr::LOCALHOST.into()) {
        Ok(_) => println!("dropped: ok"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

/// Records at the programs just loaded, with and without a filter.
fn record(trial: &Trial) {
    for addresses in [vec![], vec![std::net::Ipv4Addr::LOCALHOST.into()]] {
        let options = records::Options {
            addresses,
            ..records::Options::default()
        };
        let numbers = trial.numbers().map_err(|error| error.to_string());
        let watched = numbers.and_then(|numbers| {
            Records::watch(&numbers, &options).map_err(|error| error.to_string())
        });
        match watched {
            Ok(_) => println!("recording: ok"),
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        }
    }
}
