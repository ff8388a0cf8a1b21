//! Rates of counters, estimated as the kernel's IPVS does it (`ip_vs_est.c`).
//!
//! Every two seconds the change since the last step becomes a rate, and a quarter of its difference to
//! the average goes into the average: integers only, so that the same traffic shows the same numbers.

use std::time::Duration;

use crate::{model::RateView, record::ServerStats};

/// Time between two steps.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Connections and packets have 10 bits behind the point; a change is that of two seconds.
const PACKETS: Scale = Scale {
    rate: 9,
    shown: 10,
    round: 0x1ff,
};

/// Bytes have 5 bits behind the point.
const BYTES: Scale = Scale {
    rate: 4,
    shown: 5,
    round: 0xf,
};

struct Scale {
    /// From a change to its rate.
    rate: u32,
    /// From an average to what is shown.
    shown: u32,
    /// Added before.
    round: u64,
}

impl Scale {
    fn step(&self, average: u64, last: u64, now: u64) -> u64 {
        let rate = now.wrapping_sub(last) << self.rate;
        let difference = rate.wrapping_sub(average).cast_signed() >> 2;
        average.wrapping_add_signed(difference)
    }

    const fn shown(&self, average: u64) -> u64 {
        average.wrapping_add(self.round) >> self.shown
    }
}

/// An estimate of how fast counters rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Counters at the last step.
    last: ServerStats,
    /// Averages, by their scales.
    average: ServerStats,
}

impl Estimate {
    /// Nothing happens yet, at these counters.
    pub fn at(counters: ServerStats) -> Self {
        Self {
            last: counters,
            average: ServerStats::default(),
        }
    }

    /// One step, [`PERIOD`] after the last, at these counters.
    pub fn step(&mut self, counters: &ServerStats) {
        let Self { last, average } = *self;
        self.average = ServerStats {
            connections: PACKETS.step(average.connections, last.connections, counters.connections),
            in_packets: PACKETS.step(average.in_packets, last.in_packets, counters.in_packets),
            in_bytes: BYTES.step(average.in_bytes, last.in_bytes, counters.in_bytes),
            out_packets: PACKETS.step(average.out_packets, last.out_packets, counters.out_packets),
            out_bytes: BYTES.step(average.out_bytes, last.out_bytes, counters.out_bytes),
        };
        self.last = *counters;
    }

    /// Rates, per second.
    pub fn rate(&self) -> RateView {
        RateView {
            connections: PACKETS.shown(self.average.connections),
            in_packets: PACKETS.shown(self.average.in_packets),
            out_packets: PACKETS.shown(self.average.out_packets),
            in_bytes: BYTES.shown(self.average.in_bytes),
            out_bytes: BYTES.shown(self.average.out_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sum;

    fn bytes(in_bytes: u64) -> ServerStats {
        ServerStats {
            in_bytes,
            ..ServerStats::default()
        }
    }

    /// What is shown after each of `steps` steps, the first of which sees a change of `burst`.
    fn shown(burst: u64, steps: usize) -> Vec<u64> {
        let mut estimate = Estimate::at(bytes(1 << 40));
        let now = bytes((1 << 40) + burst);
        let mut step = || {
            estimate.step(&now);
            estimate.rate().in_bytes
        };
        (0..steps).map(|_| step()).collect()
    }

    #[test]
    fn a_burst_decays_as_in_the_kernel() {
        let every_step = [24, 18, 13, 10, 7, 6, 4, 3, 2, 2, 1, 1];
        assert_eq!(shown(190, 12), every_step);
        // What a kernel showed when it was asked a little less often than it stepped.
        let kernel = [24, 13, 10, 6, 4, 3, 2, 1, 1];
        let mut steps = every_step.iter();
        assert!(kernel.iter().all(|seen| steps.any(|step| step == seen)));
    }

    #[test]
    fn a_steady_flow_is_reached_from_below_and_half_rounds_down() {
        let mut estimate = Estimate::default();
        let mut now = ServerStats::default();
        let mut seen = Vec::new();
        for _ in 0..40 {
            now = sum(
                now,
                ServerStats {
                    connections: 7,
                    in_packets: 200,
                    in_bytes: 20_000,
                    out_packets: 0,
                    out_bytes: 3,
                },
            );
            estimate.step(&now);
            seen.push(estimate.rate());
        }
        let first: Vec<u64> = seen.iter().take(5).map(|rate| rate.in_packets).collect();
        assert_eq!(first, [25, 44, 58, 68, 76]);
        let settled = RateView {
            connections: 3,
            in_packets: 100,
            out_packets: 0,
            in_bytes: 10_000,
            out_bytes: 1,
        };
        assert_eq!(seen.last(), Some(&settled));
    }

    #[test]
    fn no_counter_makes_it_panic() {
        // A counter that falls is none of ours; whatever it shows goes by.
        let mut estimate = Estimate::at(bytes(u64::MAX));
        estimate.step(&bytes(0));
        estimate.step(&bytes(u64::MAX));
        for _ in 0..200 {
            estimate.step(&bytes(u64::MAX));
        }
        assert_eq!(estimate.rate(), RateView::default());
    }
}
