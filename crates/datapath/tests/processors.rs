//! Two processors that open and close connections at once leave counts that are exactly right.

use std::{net::Ipv4Addr, sync::Barrier, thread, time::Duration};

use pointsman_datapath::{
    Options,
    trial::{LOOPBACK, Program, Trial},
};
use pointsman_director::{
    control::Director,
    model::{
        Change, ForwardingMethod, Protocol, RealServer, SchedulerFlags, ServiceId, TunnelType,
        VirtualService,
    },
    record::{NextHop, Settings, connection_flag, hop_flag},
};
use pointsman_wire::{Frame, Mac, tcp};

const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 2, 1]);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SECOND: u64 = 1_000_000_000;
const SERVERS: u8 = 8;
/// Connections that each processor begins.
const FLOWS: u16 = 4_000;
/// Those that count, each with a port of its own from 80 on.
const SCHEDULERS: [&str; 4] = ["lc", "wlc", "sed", "lblcr"];

fn segment(client: Ipv4Addr, (port, service): (u16, u16), flags: u8) -> Vec<u8> {
    Frame::ipv4(client, VIP)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(port, service)
        .flags(flags)
        .build()
}

/// Keeps this thread on one processor.
fn pin(processor: usize) {
    // SAFETY: an all-zero set is a valid, empty one; the calls get a set and its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(result, 0, "processor {processor} takes threads");
}

/// The processor's time that this thread has used.
fn own_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is ours to be written.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "threads have clocks");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    // SAFETY: as above; the set is read behind the call that fills it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let result = libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        assert_eq!(result, 0, "the processors can be asked for");
        (0..libc::CPU_SETSIZE as usize)
            .filter(|number| libc::CPU_ISSET(*number, &set))
            .collect()
    }
}

/// A service for each scheduler, with directly routed servers; their indices.
fn configure(trial: &Trial, options: &Options) -> Vec<Vec<u32>> {
    let mut mirror = trial.mirror();
    let mut director = Director::new(options.capacity, Settings::DEFAULT);
    director
        .set_settings(Settings::DEFAULT, &mut mirror)
        .expect("settings are written");
    let mut apply = |change| {
        director
            .apply(&change, &mut mirror)
            .expect("the change is valid");
    };
    for (port, scheduler) in (80..).zip(SCHEDULERS) {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            address: VIP.into(),
            port,
        };
        let service = VirtualService {
            id,
            scheduler: scheduler.to_owned(),
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        };
        apply(Change::AddService { service });
        for number in 1..=SERVERS {
            let server = RealServer {
                address: Ipv4Addr::new(10, 0, 0, number).into(),
                port,
                method: ForwardingMethod::Direct,
                weight: i32::from(number),
                upper: 0,
                lower: 0,
                tunnel: TunnelType::Ipip,
            };
            apply(Change::AddServer { id, server });
        }
    }
    let hop = NextHop {
        ifindex: LOOPBACK,
        mtu: 1500,
        destination: Mac([2, 0, 0, 0, 3, 1]),
        source: DIRECTOR_MAC,
        vlan: 0,
        flags: hop_flag::RESOLVED,
    };
    let requests: Vec<_> = director.hops().collect();
    for request in &requests {
        director
            .set_hop(request.server, hop, request.address, None, &mut mirror)
            .expect("next hops are written");
    }
    let services = director.services();
    services
        .map(|service| service.servers().map(|server| server.index()).collect())
        .collect()
}

/// Opens connections of a client and closes every second one, on `processor`; returns the processor's time
/// that it took.
fn open_and_close(trial: &Trial, processor: usize, client: Ipv4Addr, service: u16) -> Duration {
    pin(processor);
    let start = own_time();
    let mut out = Vec::new();
    let mut send = |port, flags| {
        trial
            .run(
                Program::Xdp,
                &segment(client, (port, service), flags),
                &mut out,
                1,
            )
            .expect("the program runs");
    };
    for port in 1024..1024 + FLOWS {
        send(port, tcp::SYN);
        send(port, tcp::ACK);
        if port % 2 == 0 {
            send(port, tcp::ACK | tcp::RST);
        }
    }
    own_time() - start
}

#[test]
fn counts_of_two_processors_are_right() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: loading programs needs root");
        return;
    }
    let processors = processors();
    let &[one, other, ..] = &processors[..] else {
        println!("skipped: there is one processor only");
        return;
    };
    let options = Options::default();
    let trial = Trial::new(&options).expect("the programs load");
    trial
        .set_link(LOOPBACK, DIRECTOR_MAC)
        .expect("the device has a place");
    let services = configure(&trial, &options);
    for ((port, scheduler), servers) in (80..).zip(SCHEDULERS).zip(&services) {
        let start = u64::from(port) * 100_000 * SECOND;
        trial.set_world(start, 1).expect("time can be given");
        let client = |number| Ipv4Addr::new(198, 51, 100, number);
        let ready = Barrier::new(2);
        let (trial, ready) = (&trial, &ready);
        let (alone, together) = thread::scope(|scope| {
            let alone = scope.spawn(move || open_and_close(trial, one, client(3), port));
            let alone = alone.join().expect("ends");
            let both = [(1, one), (2, other)].map(|(number, processor)| {
                scope.spawn(move || {
                    ready.wait();
                    open_and_close(trial, processor, client(number), port)
                })
            });
            let both = both.map(|thread| thread.join().expect("ends"));
            (alone, both[0].max(both[1]))
        });
        // Not judged: a machine may have other things to do.
        println!("{scheduler}: alone {alone:?}, both at once {together:?}");
        let mut expected = vec![(0, 0); servers.len()];
        let mut connections = 0;
        for flow in trial.connections() {
            let (_, connection) = flow.expect("connections can be read");
            let at = servers.iter().position(|index| *index == connection.server);
            let (active, inactive) = &mut expected[at.expect("one of the servers")];
            if connection.word.load() & connection_flag::INACTIVE == 0 {
                *active += 1;
            } else {
                *inactive += 1;
            }
            connections += 1;
        }
        assert_eq!(connections, 3 * usize::from(FLOWS), "{scheduler}");
        let inactive: u32 = expected.iter().map(|(_, inactive)| inactive).sum();
        assert_eq!(inactive, 3 * u32::from(FLOWS) / 2, "{scheduler}: closed");
        let counts = |trial: &Trial| -> Vec<(u32, u32)> {
            let read = |index: &u32| trial.mirror().counts(*index).expect("counts can be read");
            let each = servers.iter().map(read);
            each.map(|counts| (counts.active.load(), counts.inactive.load()))
                .collect()
        };
        assert_eq!(counts(trial), expected, "{scheduler}");
        // And back to nothing.
        trial
            .set_world(start + 10_000 * SECOND, 1)
            .expect("time can be given");
        let ended = trial.sweep().expect("the sweep runs");
        assert_eq!(ended, 3 * u32::from(FLOWS), "{scheduler}");
        assert!(
            counts(trial).iter().all(|counts| *counts == (0, 0)),
            "{scheduler}"
        );
    }
}
