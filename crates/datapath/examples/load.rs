//! Loads every program, or says what the verifier minds; all of it with `POINTSMAN_VERIFIER_LOG` set.

use pointsman_datapath::{Options, drops::Drops, trial::Trial};

fn main() {
    match Trial::new(&Options::default()) {
        Ok(trial) => {
            for (name, info) in trial.programs() {
                println!("{name}: ok, {info}");
            }
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
