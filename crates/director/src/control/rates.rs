//! Rates of services and real servers.

use super::{Director, subtract, sum};
use crate::{estimate::Estimate, record::ServerStats};

impl Director {
    /// One step of every estimate, [`crate::estimate::PERIOD`] after the last; `counters` are those
    /// of real servers by their index. Removed servers rest: revived, one goes on where it was.
    pub fn estimate(&mut self, counters: &[ServerStats]) {
        self.each_estimate(counters, Estimate::step);
    }

    /// Lets every estimate begin with these counters.
    pub fn begin_estimates(&mut self, counters: &[ServerStats]) {
        self.each_estimate(counters, |estimate, counters| {
            *estimate = Estimate::at(*counters);
        });
    }

    fn each_estimate(
        &mut self,
        counters: &[ServerStats],
        change: impl Fn(&mut Estimate, &ServerStats),
    ) {
        for service in self.services.values_mut() {
            let mut total = service.past;
            for server in &mut service.servers {
                let Some(now) = counters.get(server.index as usize) else {
                    continue;
                };
                let counted = subtract(*now, server.zero);
                change(&mut server.estimate, &counted);
                total = sum(total, counted);
            }
            change(&mut service.estimate, &total);
        }
    }
}
