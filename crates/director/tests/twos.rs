//! `twos`: of two servers that chance names, the one with less to do.

mod bench;

use bench::{Bench, real, rs, syn_of, web};
use pointsman_director::{
    Reason,
    model::ForwardingMethod,
    record::counts_flag,
    tables::{Env, Tables},
};

/// A random word for every pick, of which each of the two draws is an even spread.
fn words() -> impl Iterator<Item = u32> {
    (0..4096u32).map(|n| n.wrapping_mul(0x9e37_79b1).rotate_left(7) ^ n << 20)
}

fn index(bench: &Bench, number: u8) -> u32 {
    let service = bench.director.service(&web()).expect("there");
    let mut servers = service.servers();
    let found = servers.find(|s| s.config().address == rs(number));
    found.expect("configured").index()
}

/// How often each of three servers is chosen.
fn spread(bench: &mut Bench) -> [usize; 3] {
    let mut times = [0; 3];
    for (port, word) in (1024..).zip(words()) {
        bench.env.random.set(word);
        let counts: Vec<_> = (1..=3)
            .map(|n| bench.tables.counts(index(bench, n)).expect("there").clone())
            .collect();
        match bench.pick(&syn_of(bench::CLIENT.into(), port)) {
            Ok(number) => times[usize::from(number) - 1] += 1,
            Err(reason) => assert_eq!(reason, Reason::NoDestination),
        }
        // As if the connection was over at once.
        for (n, before) in (1..).zip(counts) {
            let counts = bench.tables.counts(index(bench, n)).expect("there");
            counts.active.store(before.active.load());
        }
    }
    times
}

/// What the kernel's formula says of the same words (`ip_vs_twos_schedule`), newest first.
fn expected(weights: [i64; 3], overheads: [i64; 3]) -> [usize; 3] {
    let total: i64 = weights.iter().sum();
    let mut times = [0; 3];
    for word in words() {
        let drawn = |word: u32| {
            let mut left = (i64::from(word) * (total + 1)) >> 32;
            (0..3).rev().find(|at| {
                if weights[*at] <= 0 {
                    return false;
                }
                left -= weights[*at];
                left <= 0
            })
        };
        let one = drawn(word).expect("within the total");
        let other = drawn(word.wrapping_mul(0x9e37_79b1)).expect("within the total");
        let at = if weights[other] * overheads[one] > weights[one] * overheads[other] {
            other
        } else {
            one
        };
        times[at] += 1;
    }
    times
}

#[test]
fn two_are_drawn_by_weight_and_the_idler_one_is_taken() {
    for (weights, active) in [
        ([1, 1, 1], [0, 0, 0]),
        ([5, 3, 2], [1, 1, 1]),
        ([1, 1, 1], [3, 1, 2]),
        ([1, 2, 4], [9, 0, 9]),
        ([0, 1, 1], [0, 5, 6]),
        ([7, 0, 0], [5, 0, 0]),
    ] {
        let mut bench = Bench::balanced("twos", &weights);
        for (number, active) in (1..).zip(active) {
            let counts = bench.tables.counts(index(&bench, number)).expect("there");
            counts.active.store(active);
        }
        let overheads = active.map(|active| i64::from(active) * 256);
        let expected = expected(weights.map(i64::from), overheads);
        assert_eq!(spread(&mut bench), expected, "{weights:?} {active:?}");
    }
}

#[test]
fn the_draw_of_nothing_is_the_newest_servers() {
    let mut bench = Bench::balanced("twos", &[1, 1, 1]);
    bench.env.random.set(0);
    assert_eq!(bench.env.random(), 0);
    assert_eq!(bench.picks(1024, 2), "33");
    bench.env.random.set(u32::MAX);
    // The first draw is the total: the oldest.
    let counts = bench.tables.counts(index(&bench, 1)).expect("there");
    counts.active.store(0);
    assert_eq!(bench.picks(2048, 1), "1");
}

#[test]
fn who_can_take_nothing_is_not_drawn() {
    let mut bench = Bench::balanced("twos", &[4, 4, 4]);
    let counts = bench.tables.counts(index(&bench, 2)).expect("there");
    counts.flags.store(counts_flag::OVERLOAD);
    bench.edit(web(), real(rs(3), 80, ForwardingMethod::Direct, 0));
    let times = spread(&mut bench);
    assert_eq!(times, [words().count(), 0, 0]);
}
