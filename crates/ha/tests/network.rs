//! Many virtual routers on simulated segments that lose, delay and repeat; hosts that pause, stop and
//! change their mind. Once all that is over, each segment has exactly one master.

#[path = "network/simulation.rs"]
mod simulation;

use std::thread;
use std::time::Duration;

use simulation::Simulation;

/// Histories tried; each is another network.
const SEEDS: u64 = 10_000;

#[test]
fn after_convergence_every_segment_has_exactly_one_master() {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    thread::scope(|scope| {
        for part in 0..threads {
            scope.spawn(move || {
                for seed in (part..SEEDS).step_by(threads as usize) {
                    converge(seed);
                }
            });
        }
    });
}

fn converge(seed: u64) {
    let mut simulation = Simulation::new(seed);
    simulation.trouble();
    simulation.calm();
    simulation.run_for(simulation.convergence_time());
    simulation.assert_converged();
    let masters = simulation.masters();
    let changes = simulation.changes();
    simulation.run_for(Duration::from_secs(20));
    simulation.assert_converged();
    assert_eq!(simulation.masters(), masters, "seed {seed}: unstable");
    assert_eq!(simulation.changes(), changes, "seed {seed}: flapped");
}

#[test]
fn trouble_is_trouble() {
    // The test above would prove nothing if its networks were peaceful.
    let mut troubled = 0;
    let mut changes = 0;
    for seed in 0..200 {
        let mut simulation = Simulation::new(seed);
        simulation.trouble();
        troubled += u64::from(simulation.had_several_masters());
        changes += simulation.changes();
    }
    assert!(troubled > 50, "{troubled} of 200 had two masters at once");
    assert!(changes > 1000, "{changes} changes of state");
}
