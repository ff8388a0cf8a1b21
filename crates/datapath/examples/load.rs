//! Loads every program, or says what the verifier minds; all of it with `POINTSMAN_VERIFIER_LOG` set.

use pointsman_datapath::{Options, trial::Trial};

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
}
