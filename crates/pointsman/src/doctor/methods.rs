//! The ways to find out that a report lists, and how each went.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::diagnosis::{self, KernelDrop, Observed, RouteTold};
use pointsman_path::finding::{Evidence, Finding, Witness};
use pointsman_path::injection;
use pointsman_path::lint::Case;
use pointsman_path::observation::Recording;
use pointsman_path::report::{Method, Unobserved};
use pointsman_path::snapshot::{Origin, Snapshot};

use super::inject::{self, Injection};
use super::probe::Probe;
use super::trace::{self, Traced};
use super::vip::netns;
use super::{consent, watch};

const RULES: &str = "nft trace";
const HOOKS: &str = "hook counts";
const INJECTION: &str = "injection";

/// How the ways that only look on did.
pub(super) fn looking_on(
    recording: &Recording,
    drops: &[KernelDrop],
    unobserved: &[Unobserved],
    routes: &[RouteTold],
) -> Vec<Method> {
    let missing = |what: &str| unobserved.iter().find(|gap| gap.what == what);
    let or_else = |name: &str, gap: Option<&Unobserved>, note: String| match gap {
        Some(gap) => Method::not_run(name, gap.because.clone()),
        None => Method::ran(name, note),
    };
    let (points, frames) = (recording.points.len(), recording.observations.len());
    vec![
        Method::ran("configuration", "compared with the catalogue of faults"),
        or_else(
            "captures",
            missing(watch::FRAMES_UNSEEN),
            format!("{frames} frames at {points} interfaces"),
        ),
        match missing(watch::FRAMES_UNSEEN) {
            Some(_) if frames > 0 => Method::ran(
                "tracepoints",
                format!(
                    "{frames} packets of the service come in or going out, instead of captures"
                ),
            ),
            Some(_) => Method::not_run("tracepoints", "none told of a packet"),
            None => Method::not_run("tracepoints", "captures show more"),
        },
        Method::ran("counters", "of rules and kernels, before and after"),
        or_else(
            "kernel drops",
            missing(watch::DROPS_UNSEEN),
            format!("{} packets of the service", drops.len()),
        ),
        Method::ran(
            "routes",
            format!("kernels were asked for {} ways", routes.len()),
        ),
    ]
}

/// How twins did.
pub(super) fn twins(findings: &[Finding]) -> Method {
    let of_twins = |evidence: &&Evidence| evidence.witness == Some(Witness::Twin);
    let tried = findings.iter().flat_map(|one| &one.evidence);
    match tried.filter(of_twins).count() {
        0 => Method::not_run("kernel twin", "no finding can be tried in one"),
        count => Method::ran("kernel twin", format!("{count} findings tried")),
    }
}

/// Puts the probe that was lost in further on, if that may be done and can, and says how it went.
pub(super) fn inject(
    findings: &mut [Finding],
    observed: &Observed<'_>,
    case: &Case,
    wanted: &Wanted,
    asker: Option<&Snapshot>,
    (given, quiet): (bool, bool),
) -> Method {
    let prepare = || {
        let asker = asker.ok_or("nothing is sent")?;
        let client = observed.client;
        let client = client
            .filter(|client| asker.owner_of(*client).is_some())
            .ok_or("nobody said which address the client has: --from ADDR")?;
        let netns = netns(asker).map_err(|error| format!("{error:#}"))?;
        let plan = injection::plan(observed, case)?;
        let seen = &observed.recording.observations[plan.observation];
        if seen.length != seen.bytes.len() {
            return Err("the frame was not captured as a whole".to_owned());
        }
        let injection = Injection {
            bundle: observed.before,
            wanted,
            service: observed.service,
            client,
            udp: observed.udp,
            netns,
            frame: seen.bytes.clone(),
            plan,
        };
        let question = format!("Send {}, as if they came from the wire?", injection.words());
        consent::ask(given, "--inject", quiet, &question)?;
        let run = injection.run().map_err(|error| format!("{error:#}"))?;
        Ok((injection.words(), client, run))
    };
    match prepare() {
        Ok((sent, client, (puts, limits))) => {
            injection::weigh(findings, &puts, client);
            Method::ran(
                INJECTION,
                format!("{sent}: {}", inject::words(&puts, &limits)),
            )
        }
        Err(because) => Method::not_run(INJECTION, because),
    }
}

/// Own rules for some more probes.
pub(super) struct Tracing<'a> {
    /// Whether a flag gives leave.
    pub(super) given: bool,
    /// Whether nobody is to be asked.
    pub(super) quiet: bool,
    /// The nodes.
    pub(super) bundle: &'a Bundle,
    /// The service, its real servers, and where rules translate it to.
    pub(super) ends: &'a [(IpAddr, Option<u16>)],
    /// The virtual service.
    pub(super) service: SocketAddr,
    /// True for a service of UDP.
    pub(super) udp: bool,
    /// Who sends probes, if anybody does.
    pub(super) asker: Option<&'a Snapshot>,
    /// The client's address.
    pub(super) client: Option<IpAddr>,
}

impl Tracing<'_> {
    /// What is said where it is not needed.
    pub(super) fn not_needed() -> [Method; 3] {
        [RULES, HOOKS, INJECTION].map(|name| Method::not_run(name, "every probe was answered"))
    }

    /// Whether it may be done, and can.
    pub(super) fn consent(&self) -> Result<(), String> {
        let asker = self
            .asker
            .ok_or("nothing is sent, and rules are traced for probes only")?;
        if matches!(asker.origin, Origin::Host(_)) {
            return Err("the client is not on this machine".to_owned());
        }
        let question = format!(
            "Have kernels tell which rules stop {} more probes? That puts a table of own rules, which \
             only count and trace these, into {} namespaces for about a second.",
            trace::PROBES,
            self.bundle.nodes.len()
        );
        let (given, quiet) = (self.given, self.quiet);
        consent::ask(given, "--trace", quiet, &question)
    }

    /// Does it.
    pub(super) fn run(&self) -> Result<Traced> {
        let asker = self.asker.context("nobody asks")?;
        let client = self
            .client
            .filter(|client| asker.owner_of(*client).is_some());
        trace::run(trace::Wanted {
            bundle: self.bundle,
            ends: self.ends,
            vip: self.service.ip(),
            probe: Probe {
                service: self.service,
                client,
                udp: self.udp,
                count: trace::PROBES,
                ports: None,
            },
            netns: netns(asker)?,
        })
    }

    /// Weighs what was told, and says how it went.
    pub(super) fn tell(
        &self,
        traced: Result<Result<Traced>, String>,
        findings: &mut [Finding],
    ) -> Vec<Method> {
        let because = match traced {
            Ok(Ok(traced)) => {
                diagnosis::weigh_hooks(findings, self.bundle, &traced.told, &traced.counts);
                return traced.methods(self.bundle);
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(because) => because,
        };
        [RULES, HOOKS]
            .map(|name| Method::not_run(name, because.clone()))
            .to_vec()
    }
}
