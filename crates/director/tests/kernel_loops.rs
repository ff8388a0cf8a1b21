//! Schedulers against the kernel's own loops, written out slowly, over random histories.

mod bench;

use bench::{Bench, number, real, rs, web};
use pointsman_director::{
    headers::Headers,
    model::ForwardingMethod,
    record::{NONE, counts_flag},
    schedule::{Room, maglev_table, schedule, source_table},
    tables::Tables,
};
use proptest::prelude::*;

/// A server as the kernel's loops see it.
#[derive(Debug, Clone)]
struct Dest {
    number: u8,
    weight: i32,
    overload: bool,
    active: u32,
    inactive: u32,
}

impl Dest {
    fn overhead(&self) -> i64 {
        (i64::from(self.active) << 8) + i64::from(self.inactive)
    }
}

/// A service: its list, newest first, and what `rr` and `wrr` remember.
#[derive(Debug, Default)]
struct Kernel {
    list: Vec<Dest>,
    /// Number of the server chosen last; none at the head of the list.
    cursor: Option<u8>,
    cw: i32,
    mw: i32,
    di: i32,
}

fn gcd(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Kernel {
    fn new() -> Self {
        Self {
            di: 1,
            ..Self::default()
        }
    }

    fn place(&self, number: u8) -> usize {
        self.list
            .iter()
            .position(|dest| dest.number == number)
            .expect("listed")
    }

    /// `ip_vs_wrr_dest_changed`
    fn wrr_changed(&mut self) {
        self.cursor = None;
        let weights = || self.list.iter().map(|d| d.weight).filter(|w| *w > 0);
        self.di = weights().fold(0, |g, w| gcd(w, g));
        if self.di == 0 {
            self.di = 1;
        }
        self.mw = weights().max().unwrap_or(0) - (self.di - 1);
        if self.cw > self.mw || self.cw == 0 {
            self.cw = self.mw;
        } else if self.di > 1 {
            self.cw = self.cw / self.di * self.di + 1;
        }
    }

    /// `ip_vs_wrr_schedule`
    fn wrr(&mut self) -> Option<u8> {
        if self.mw == 0 {
            return None;
        }
        let last = self.cursor;
        let (mut last_pass, mut restarted) = (false, false);
        let mut stop = None;
        let mut next = last.map_or(0, |number| self.place(number) + 1);
        loop {
            while next < self.list.len() {
                let dest = &self.list[next];
                if !dest.overload && dest.weight >= self.cw {
                    self.cursor = Some(dest.number);
                    return self.cursor;
                }
                if Some(dest.number) == stop {
                    self.cursor = stop;
                    return None;
                }
                next += 1;
            }
            next = 0;
            self.cw -= self.di;
            if self.cw <= 0 {
                self.cw = self.mw;
                if last_pass || last.is_none() {
                    self.cursor = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.cw <= self.di;
            if last_pass && restarted {
                stop = last;
            }
        }
    }

    /// `ip_vs_rr_schedule`
    fn rr(&mut self) -> Option<u8> {
        let last = self.cursor;
        let mut next = last.map_or(0, |number| self.place(number) + 1);
        for _ in 0..2 {
            while next < self.list.len() {
                let dest = &self.list[next];
                if !dest.overload && dest.weight > 0 {
                    self.cursor = Some(dest.number);
                    return self.cursor;
                }
                if Some(dest.number) == last {
                    return None;
                }
                next += 1;
            }
            next = 0;
            last?;
        }
        None
    }

    /// `ip_vs_rr_del_dest`
    fn rr_deleted(&mut self, at: usize, number: u8) {
        if self.cursor == Some(number) {
            self.cursor = at.checked_sub(1).map(|before| self.list[before].number);
        }
    }

    /// `ip_vs_lc_schedule`
    fn lc(&self) -> Option<u8> {
        let mut least: Option<&Dest> = None;
        for dest in self.list.iter().filter(|d| !d.overload && d.weight != 0) {
            if least.is_none_or(|least| dest.overhead() < least.overhead()) {
                least = Some(dest);
            }
        }
        least.map(|dest| dest.number)
    }

    /// `ip_vs_wlc_schedule`
    fn wlc(&self) -> Option<u8> {
        let mut rest = self.list.iter();
        let mut least = rest.find(|d| !d.overload && d.weight > 0)?;
        for dest in rest.filter(|d| !d.overload) {
            if least.overhead() * i64::from(dest.weight) > dest.overhead() * i64::from(least.weight)
            {
                least = dest;
            }
        }
        Some(least.number)
    }

    fn pick(&mut self, scheduler: &str) -> Option<u8> {
        match scheduler {
            "rr" => self.rr(),
            "wrr" => self.wrr(),
            "lc" => self.lc(),
            "wlc" => self.wlc(),
            other => panic!("{other}"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pick(u8),
    /// Adds a server, or edits it when it is there.
    Weigh(u8, i32),
    Delete(u8),
    Overload(u8, bool),
    Load(u8, u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![3 => 0..7i32, 1 => prop::sample::select(vec![4, 6, 8, 12, 100, 150])];
    let server = 1..9u8;
    prop_oneof![
        6 => (1..9u8).prop_map(Step::Pick),
        4 => (server.clone(), weight).prop_map(|(n, w)| Step::Weigh(n, w)),
        1 => server.clone().prop_map(Step::Delete),
        2 => (server.clone(), prop::bool::weighted(0.7)).prop_map(|(n, on)| Step::Overload(n, on)),
        2 => (server, 0..4u32, 0..600u32).prop_map(|(n, a, i)| Step::Load(n, a, i)),
    ]
}

/// The director's pick, without a connection.
fn director_picks(bench: &Bench) -> Option<u8> {
    let record = bench.record(&web());
    let index = schedule(
        &bench.tables,
        &bench.env,
        &record,
        &Headers::default(),
        &mut Room::default(),
    );
    if index == NONE {
        return None;
    }
    let service = bench.director.service(&web()).expect("configured");
    let server = service.servers().find(|s| s.index() == index);
    Some(number(server.expect("of the service").config().address))
}

fn index_of(bench: &Bench, server: u8) -> u32 {
    let service = bench.director.service(&web()).expect("configured");
    let mut servers = service.servers();
    let server = servers.find(|s| number(s.config().address) == server);
    server.expect("configured").index()
}

fn assert_same(scheduler: &str, steps: &[Step]) {
    let mut bench = Bench::balanced(scheduler, &[]);
    let mut kernel = Kernel::new();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Pick(times) => {
                for _ in 0..times {
                    assert_eq!(
                        director_picks(&bench),
                        kernel.pick(scheduler),
                        "{scheduler}, step {at}: {kernel:?}",
                    );
                }
            }
            Step::Weigh(number, weight) => {
                let server = real(rs(number), 80, ForwardingMethod::Direct, weight);
                let known = kernel.list.iter().any(|dest| dest.number == number);
                if known {
                    bench.edit(web(), server);
                    let place = kernel.place(number);
                    let dest = &mut kernel.list[place];
                    // No threshold: the flag goes.
                    (dest.weight, dest.overload) = (weight, false);
                } else {
                    bench.server(web(), server);
                    let counts = bench.tables.counts(index_of(&bench, number));
                    let counts = counts.expect("in range");
                    let dest = Dest {
                        number,
                        weight,
                        overload: false,
                        active: counts.active.load(),
                        inactive: counts.inactive.load(),
                    };
                    kernel.list.insert(0, dest);
                }
                if scheduler == "wrr" {
                    kernel.wrr_changed();
                }
            }
            Step::Delete(number) => {
                let Some(at) = kernel.list.iter().position(|d| d.number == number) else {
                    continue;
                };
                bench.delete(web(), rs(number), 80);
                kernel.list.remove(at);
                if scheduler == "wrr" {
                    kernel.wrr_changed();
                } else {
                    kernel.rr_deleted(at, number);
                }
            }
            Step::Overload(number, on) => {
                let Some(at) = kernel.list.iter().position(|d| d.number == number) else {
                    continue;
                };
                kernel.list[at].overload = on;
                let counts = bench.tables.counts(index_of(&bench, number));
                let flag = if on { counts_flag::OVERLOAD } else { 0 };
                counts.expect("in range").flags.store(flag);
            }
            Step::Load(number, active, inactive) => {
                let Some(at) = kernel.list.iter().position(|d| d.number == number) else {
                    continue;
                };
                let dest = &mut kernel.list[at];
                (dest.active, dest.inactive) = (active, inactive);
                let counts = bench.tables.counts(index_of(&bench, number));
                let counts = counts.expect("in range");
                counts.active.store(active);
                counts.inactive.store(inactive);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn wrr_walks_as_the_kernel(steps in prop::collection::vec(step(), 1..60)) {
        assert_same("wrr", &steps);
    }

    #[test]
    fn rr_walks_as_the_kernel(steps in prop::collection::vec(step(), 1..60)) {
        assert_same("rr", &steps);
    }

    #[test]
    fn lc_and_wlc_compare_as_the_kernel(steps in prop::collection::vec(step(), 1..60)) {
        assert_same("lc", &steps);
        assert_same("wlc", &steps);
    }
}

/// `ip_vs_sh_reassign`
fn slow_source_table(weights: &[i32]) -> Vec<u16> {
    let (mut at, mut times) = (0, 0);
    (0..256)
        .map(|_| {
            if at == weights.len() {
                at = 0;
            }
            let entry = at as u16;
            times += 1;
            if times >= weights[at] {
                at += 1;
                times = 0;
            }
            entry
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn sh_fills_as_the_kernel(weights in prop::collection::vec(0..300i32, 1..12)) {
        prop_assert_eq!(source_table(&weights), slow_source_table(&weights));
    }

    /// Same servers, same order: same table, whatever happened before and wherever records lie.
    #[test]
    fn tables_are_canonical(steps in prop::collection::vec(step(), 1..25), scheduler in "sh|mh") {
        let mut bench = Bench::balanced(&scheduler, &[]);
        let mut list: Vec<(u8, i32)> = Vec::new();
        for step in steps {
            match step {
                Step::Weigh(number, weight) => {
                    // `mh` remembers weights before 0: those do not come from the list.
                    let weight = if scheduler == "mh" { weight.max(1) } else { weight };
                    let server = real(rs(number), 80, ForwardingMethod::Direct, weight);
                    match list.iter_mut().find(|(n, _)| *n == number) {
                        Some(entry) => {
                            bench.edit(web(), server);
                            entry.1 = weight;
                        }
                        None => {
                            bench.server(web(), server);
                            list.insert(0, (number, weight));
                        }
                    }
                }
                Step::Delete(number) => {
                    if let Some(at) = list.iter().position(|(n, _)| *n == number) {
                        bench.delete(web(), rs(number), 80);
                        list.remove(at);
                    }
                }
                _ => {}
            }
        }
        prop_assume!(!list.is_empty());
        let mut fresh = Bench::balanced(&scheduler, &[]);
        for (number, weight) in list.iter().rev() {
            fresh.server(web(), real(rs(*number), 80, ForwardingMethod::Direct, *weight));
        }
        let lines = |bench: &Bench| {
            let record = bench.record(&web());
            let lines = record.table..record.table + record.table_lines;
            lines.map(|line| *bench.tables.table(line).expect("in range")).collect::<Vec<_>>()
        };
        prop_assert!(lines(&bench) == lines(&fresh), "other tables");
    }
}

#[test]
fn mh_spreads_evenly() {
    let servers: Vec<_> = (1..=8)
        .map(|n| {
            (
                pointsman_director::control::address_words(rs(n)),
                80u16.to_be(),
                1,
            )
        })
        .collect();
    let table = maglev_table(&servers);
    for position in 0..8 {
        let entries = table.iter().filter(|entry| **entry == position).count();
        assert!((511..=512).contains(&entries), "{position}: {entries}");
    }
    // Taking one away moves few entries of the others.
    let fewer = maglev_table(&servers[..7]);
    let kept = table
        .iter()
        .zip(&fewer)
        .filter(|(old, new)| **old < 7 && old == new);
    let of_others = table.iter().filter(|entry| **entry < 7).count();
    assert!(kept.count() * 10 > of_others * 9, "more than a tenth moved");
}
