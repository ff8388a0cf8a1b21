//! What a packet costs in the programs, by `BPF_PROG_TEST_RUN`.
//!
//! Times are of one machine at one moment; only ratios within a run mean something. Each case runs
//! many rounds, between which the others run, and keeps its smallest and its median time.

pub mod schedulers;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    time::Instant,
};

use aya::{Ebpf, EbpfLoader, VerifierLogLevel, maps::Map, programs::Xdp};
use pointsman_director::{
    Reason,
    control::{Director, words_address},
    model::{
        Change, ForwardingMethod, MarkAction, MarkRule, PortRange, Prefix, Protocol, RealServer,
        SchedulerFlags, ServiceId, TunnelType, VirtualService,
    },
    record::{NextHop, Settings, hop_flag, settings_flag},
};
use pointsman_wire::{Mac, build::Frame, tcp};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Options, bpf,
    error::Error,
    map::TypedMap,
    mirror::MapMirror,
    object::{Maps, text_of},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));

const NOOP: &str = "bench_noop";
const RESTORE: &str = "bench_restore";
const DIRECTOR: &str = "bench_director";
const SWEEP: &str = "sweep";

const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const DIRECTOR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);
const LOOPBACK: u32 = 1;
/// A device that frames are "redirected" to; a test run does not send.
const OUTPUT: u32 = 2;

/// `turn::Bench` of the bench program.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct BenchState {
    turn: u64,
    mask: u32,
    field: u32,
    outer: u32,
    reason: u32,
    header: [u8; 64],
}

/// One thing to time.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    program: &'static str,
    frame: Vec<u8>,
    mask: u32,
    field: u32,
    outer: u32,
    reason: Option<Reason>,
    repeat: u32,
    /// Every turn begins a connection; the table is emptied between rounds.
    fresh: bool,
    /// Mark rules that are looked at, of which none matches.
    mark_rules: u32,
}

/// Times of one case, nanoseconds a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// What was timed.
    pub name: String,
    /// Smallest time of a round.
    pub minimum: f64,
    /// Median of the rounds.
    pub median: f64,
    /// What the packet costs, by what the empty program costs: smallest times, without what the
    /// bench itself spends on restoring the frame.
    pub ratio: f64,
}

/// Runs every case `rounds` times; `progress` is told each finished round.
///
/// # Errors
///
/// When the object does not load, or a case ends in another verdict than it is meant to.
pub fn run(rounds: u32, mut progress: impl FnMut(u32)) -> Result<Vec<Timing>, Error> {
    let bench = Bench::load(false)?;
    let (fresh, mut cases): (Vec<Case>, Vec<Case>) = cases().into_iter().partition(|c| c.fresh);
    for case in &cases {
        bench.open(case)?;
    }
    for ipv6 in [false, true] {
        cases.extend(bench.reply_case(ipv6)?);
    }
    let established = cases.len();
    cases.extend(fresh);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    // New connections are ended after each round, and all others with them: they come last.
    for range in [0..established, established..cases.len()] {
        for round in 0..rounds {
            for at in range.clone() {
                times[at].push(bench.time(&cases[at])?);
            }
            progress(round + 1);
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let floor = times[0][0];
    // What the bench adds to every packet, and to one whose outer header it takes off again: the
    // third case opens and removes a header, a bench of a tunnel only removes it.
    let restore = times[1][0] - floor;
    let remove = (times[2][0] - times[1][0]).max(0.0) / 2.0;
    Ok(cases
        .into_iter()
        .zip(times)
        .map(|(case, times)| {
            let minimum = times[0];
            let added = match case.program {
                NOOP => 0.0,
                RESTORE => restore,
                _ if case.outer != 0 => restore + remove,
                _ => restore,
            };
            Timing {
                name: case.name,
                minimum,
                median: times[times.len() / 2],
                ratio: (minimum - added) / floor,
            }
        })
        .collect())
}

struct Bench {
    ebpf: Ebpf,
    maps: Maps,
    state: TypedMap<u32, BenchState>,
}

impl Bench {
    /// Loads the programs, with the services of [`schedulers`] or of the other cases.
    fn load(schedulers: bool) -> Result<Self, Error> {
        let mut options = Options {
            connections: 1 << 18,
            ..Options::default()
        };
        options.capacity.servers = 1 << 15;
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        crate::object::set_sizes(&mut loader, &options);
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|error| Error::Load(text_of(&error)))?;
        for name in [NOOP, RESTORE, DIRECTOR] {
            let program: &mut Xdp = crate::object::program(&mut ebpf, name)?;
            program.load().map_err(|error| Error::Program {
                name,
                reason: text_of(&error),
            })?;
        }
        let sweep: &mut aya::programs::RawTracePoint = crate::object::program(&mut ebpf, SWEEP)?;
        sweep.load().map_err(|error| Error::Program {
            name: SWEEP,
            reason: text_of(&error),
        })?;
        let maps = Maps::of(&ebpf)?;
        let Some(Map::Array(state)) = ebpf.map("BENCH") else {
            return Err(Error::Load("the object has no array BENCH".to_owned()));
        };
        let fd = state
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Map {
                map: "BENCH",
                call: "dup",
                source,
            })?;
        let state = TypedMap::new(fd, "BENCH")?;
        let bench = Self { ebpf, maps, state };
        bench.configure(&options, schedulers)?;
        Ok(bench)
    }

    fn configure(&self, options: &Options, schedulers: bool) -> Result<(), Error> {
        crate::object::set_link(&self.maps, LOOPBACK, DIRECTOR_MAC)?;
        self.maps.settings.set(0, Settings::DEFAULT)?;
        let processors = bpf::processors().map_err(|source| Error::Map {
            map: "STATS",
            call: "processors",
            source,
        })?;
        let mut mirror = MapMirror::new(&self.maps, processors);
        let mut director = Director::new(options.capacity, Settings::DEFAULT);
        let refused = |error: &dyn std::error::Error| Error::Load(error.to_string());
        let mut changes = services(schedulers);
        changes.push(Change::SetMarkRules { rules: rules() });
        for change in changes {
            director
                .apply(&change, &mut mirror)
                .map_err(|error| refused(&error))?;
        }
        let hop = NextHop {
            ifindex: OUTPUT,
            mtu: 1500,
            destination: SERVER_MAC,
            source: DIRECTOR_MAC,
            vlan: 0,
            flags: hop_flag::RESOLVED,
        };
        let requests: Vec<_> = director.hops().collect();
        for request in requests {
            let source: IpAddr = if request.address.is_ipv6() {
                "fd00::fe".parse().unwrap_or(request.address)
            } else {
                IpAddr::from([10, 2, 0, 254])
            };
            director
                .set_hop(
                    request.server,
                    hop,
                    request.address,
                    Some(source),
                    &mut mirror,
                )
                .map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    fn fd(&self, name: &'static str) -> Result<std::os::fd::BorrowedFd<'_>, Error> {
        crate::object::program_fd(&self.ebpf, name)
    }

    fn prepare(&self, case: &Case) -> Result<(), Error> {
        let mut header = [0; 64];
        header.copy_from_slice(&case.frame[..64]);
        let mut settings = self.maps.settings.get(0)?.unwrap_or_default();
        settings.flags &= !settings_flag::MARKS;
        if case.mark_rules != 0 {
            settings.flags |= settings_flag::MARKS;
        }
        settings.mark_rules = settings.mark_rules >> 16 << 16 | case.mark_rules;
        self.maps.settings.set(0, settings)?;
        self.state.set(
            0,
            BenchState {
                turn: 0,
                mask: case.mask,
                field: case.field,
                outer: case.outer,
                reason: 0,
                header,
            },
        )
    }

    /// Makes the connections of a case.
    fn open(&self, case: &Case) -> Result<(), Error> {
        let mut opening = case.clone();
        opening.frame[flags_offset(&case.frame)] = tcp::SYN;
        opening.repeat = case.mask + 1;
        self.run(&opening).map(drop)
    }

    /// Runs a case and checks its last verdict.
    fn run(&self, case: &Case) -> Result<bpf::Run, Error> {
        self.prepare(case)?;
        let mut out = vec![0; case.frame.len() + 256];
        let run = bpf::run_on_frame(
            self.fd(case.program)?,
            &case.frame,
            &[],
            &mut out,
            case.repeat,
        )
        .map_err(|source| Error::Run {
            name: case.program,
            source,
        })?;
        let reason = self.state.get(0)?.map_or(0, |state| state.reason);
        match case.reason {
            Some(wanted) if wanted as u32 != reason => {
                let got = Reason::from_number(reason as u8).map_or("?", Reason::name);
                let text = format!("bench {:?} met {got}, not {}", case.name, wanted.name());
                Err(Error::Load(text))
            }
            _ => Ok(run),
        }
    }

    /// A case for the replies of the masqueraded flow that `warm` opened, as they are once the way
    /// to the client was looked up.
    fn reply_case(&self, ipv6: bool) -> Result<Option<Case>, Error> {
        let maps = &self.maps;
        let entry = if ipv6 {
            maps.reply6.iter().next()
        } else {
            maps.reply4
                .iter()
                .next()
                .map(|e| e.map(|(key, reply)| (key.expand(), reply)))
        };
        let Some(entry) = entry else { return Ok(None) };
        let (key, mut reply) = entry?;
        reply.epoch = Settings::DEFAULT.epoch;
        reply.hop.mtu = 1500;
        if ipv6 {
            maps.reply6.set(key, reply)?;
        } else {
            maps.reply4.set(key.compact(), reply)?;
        }
        let server = words_address(&key.source, ipv6);
        let client = words_address(&key.destination, ipv6);
        let frame = Frame::ip(server, client)
            .macs(SERVER_MAC, DIRECTOR_MAC)
            .tcp(
                u16::from_be(key.source_port),
                u16::from_be(key.destination_port),
            )
            .flags(tcp::ACK)
            .payload(&[0; 10])
            .build();
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        Ok(Some(Case {
            frame,
            ..case(&format!("masquerade reply {family}, 1 flow"), Reason::Reply)
        }))
    }

    /// Nanoseconds a packet.
    fn time(&self, case: &Case) -> Result<f64, Error> {
        let begin = Instant::now();
        let run = self.run(case)?;
        let wall = begin.elapsed().as_nanos() as f64 / f64::from(case.repeat);
        if case.fresh {
            bpf::run_with_arguments(self.fd(SWEEP)?, [1, 1 << 50]).map_err(|source| {
                Error::Run {
                    name: SWEEP,
                    source,
                }
            })?;
        }
        // The kernel cuts off to whole nanoseconds, which the wall clock does not; but that one
        // also sees the call and every interruption.
        let kernel = f64::from(run.duration);
        Ok(wall.clamp(kernel, kernel + 1.0))
    }
}

const SCHEDULERS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sh", "mh"];

fn service(port: u16, ipv6: bool) -> ServiceId {
    let address = if ipv6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])
    } else {
        IpAddr::from([10, 1, 0, 1])
    };
    ServiceId::Address {
        protocol: Protocol::Tcp,
        address,
        port,
    }
}

/// Rules that match no packet of the bench.
fn rules() -> Vec<MarkRule> {
    let rule = |number: u8| MarkRule {
        destination: Some(Prefix {
            address: IpAddr::from([10, 9, number, 0]),
            length: 24,
        }),
        protocol: Some(Protocol::Tcp),
        ports: vec![PortRange::of(80), PortRange::of(443)],
        ..MarkRule::every(MarkAction::set(1))
    };
    (0..=u8::MAX).map(rule).collect()
}

/// Services by port: 80 + method for established flows, 1000 + scheduler for new ones.
fn services(schedulers: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |id: ServiceId,
                   scheduler: &str,
                   method: ForwardingMethod,
                   servers: u16,
                   weight: &dyn Fn(u16) -> i32| {
        changes.push(Change::AddService {
            service: VirtualService {
                id,
                scheduler: scheduler.to_owned(),
                flags: SchedulerFlags::default(),
                persistence: None,
                one_packet: false,
                engine: None,
            },
        });
        for server in 1..=servers {
            let address = if id.is_ipv6() {
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 2, server])
            } else {
                IpAddr::from(0x0a02_0000_u32.wrapping_add(server.into()).to_be_bytes())
            };
            changes.push(Change::AddServer {
                id,
                server: RealServer {
                    address,
                    port: 80,
                    method,
                    weight: weight(server),
                    upper: 0,
                    lower: 0,
                    tunnel: TunnelType::Ipip,
                },
            });
        }
    };
    if schedulers {
        for (first, scheduler) in schedulers::timed() {
            for (port, servers) in (first..).zip(schedulers::SERVERS) {
                let weight = |number| schedulers::weight(*scheduler, number);
                let method = ForwardingMethod::Direct;
                add(
                    service(port, false),
                    scheduler.name(),
                    method,
                    servers,
                    &weight,
                );
            }
        }
        return changes;
    }
    for ipv6 in [false, true] {
        for (port, method) in METHODS {
            add(service(port, ipv6), "rr", method, 4, &|_| 1);
        }
    }
    for (port, scheduler) in (1000..).zip(SCHEDULERS) {
        add(
            service(port, false),
            scheduler,
            ForwardingMethod::Direct,
            16,
            &|_| 1,
        );
    }
    changes
}

const METHODS: [(u16, ForwardingMethod); 3] = [
    (80, ForwardingMethod::Direct),
    (81, ForwardingMethod::Tunnel),
    (82, ForwardingMethod::Masquerade),
];

fn frame(ipv6: bool, port: u16, flags: u8) -> Vec<u8> {
    let frame = if ipv6 {
        let client = Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 1);
        Frame::ipv6(client, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))
    } else {
        Frame::ipv4(Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 1, 0, 1))
    };
    frame
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .tcp(40000, port)
        .flags(flags)
        .payload(&[0; 10])
        .build()
}

/// Where the TCP flags of an untagged frame without options lie.
fn flags_offset(frame: &[u8]) -> usize {
    if frame[12] == 0x86 { 67 } else { 47 }
}

fn case(name: &str, reason: Reason) -> Case {
    Case {
        name: name.to_owned(),
        program: DIRECTOR,
        frame: frame(false, 80, tcp::ACK),
        mask: 0,
        field: 0,
        outer: 0,
        reason: Some(reason),
        repeat: 200_000,
        fresh: false,
        mark_rules: 0,
    }
}

fn cases() -> Vec<Case> {
    let still = |name: &str, program| Case {
        program,
        reason: None,
        ..case(name, Reason::Direct)
    };
    let mut cases = vec![
        still("noop", NOOP),
        still("restore only", RESTORE),
        Case {
            outer: 20,
            ..still("restore only, header opened and taken off", RESTORE)
        },
        Case {
            frame: frame(false, 9, tcp::ACK),
            ..case("not a VIP, pass", Reason::NoService)
        },
    ];
    for mark_rules in [16, 256] {
        cases.push(Case {
            frame: frame(false, 9, tcp::ACK),
            mark_rules,
            ..case(
                &format!("not a VIP, pass, {mark_rules} mark rules"),
                Reason::NoService,
            )
        });
    }
    for ipv6 in [false, true] {
        for ((port, _), (name, reason)) in METHODS.into_iter().zip([
            ("direct", Reason::Direct),
            ("tunnel", Reason::Tunnel),
            ("masquerade", Reason::Masquerade),
        ]) {
            for (flows, text) in [(1u32, "1 flow"), (4096, "4 K flows"), (65536, "64 K flows")] {
                if flows > 1 && name == "masquerade" {
                    continue;
                }
                let family = if ipv6 { "IPv6" } else { "IPv4" };
                let field = if ipv6 { 34 } else { 26 };
                cases.push(Case {
                    frame: frame(ipv6, port, tcp::ACK),
                    mask: flows - 1,
                    field: if flows == 1 { 0 } else { field },
                    outer: match (reason, ipv6) {
                        (Reason::Tunnel, true) => 40,
                        (Reason::Tunnel, false) => 20,
                        _ => 0,
                    },
                    ..case(&format!("{name} {family}, {text}"), reason)
                });
            }
        }
    }
    for (port, scheduler) in (1000..).zip(SCHEDULERS) {
        cases.push(Case {
            frame: frame(false, port, tcp::SYN),
            mask: u32::MAX,
            field: 26,
            repeat: 50_000,
            fresh: true,
            ..case(
                &format!("new connection, {scheduler}, 16 servers"),
                Reason::Direct,
            )
        });
    }
    cases
}
