//! Counters, added and subtracted.

use crate::{model::StatsView, record::ServerStats};

/// `a + b`, counter by counter.
pub fn sum(a: ServerStats, b: ServerStats) -> ServerStats {
    ServerStats {
        connections: a.connections.wrapping_add(b.connections),
        in_packets: a.in_packets.wrapping_add(b.in_packets),
        in_bytes: a.in_bytes.wrapping_add(b.in_bytes),
        out_packets: a.out_packets.wrapping_add(b.out_packets),
        out_bytes: a.out_bytes.wrapping_add(b.out_bytes),
    }
}

/// `a - b`, counter by counter.
pub fn subtract(a: ServerStats, b: ServerStats) -> ServerStats {
    ServerStats {
        connections: a.connections.wrapping_sub(b.connections),
        in_packets: a.in_packets.wrapping_sub(b.in_packets),
        in_bytes: a.in_bytes.wrapping_sub(b.in_bytes),
        out_packets: a.out_packets.wrapping_sub(b.out_packets),
        out_bytes: a.out_bytes.wrapping_sub(b.out_bytes),
    }
}

impl From<ServerStats> for StatsView {
    fn from(stats: ServerStats) -> Self {
        Self {
            connections: stats.connections,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
        }
    }
}

impl From<StatsView> for ServerStats {
    fn from(stats: StatsView) -> Self {
        Self {
            connections: stats.connections,
            in_packets: stats.in_packets,
            in_bytes: stats.in_bytes,
            out_packets: stats.out_packets,
            out_bytes: stats.out_bytes,
        }
    }
}
