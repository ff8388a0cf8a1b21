//! The programs in the kernel do what the native director does, with every packet.
//!
//! Nothing is left out, but two things are not as on a wire: a test run under tcx leaves VLAN tags
//! in the frame, where the kernel would have taken them out, and does not show the tag that the
//! program put beside the frame. `POINTSMAN_SEED` repeats a run.

#[path = "../examples/differential/changes.rs"]
mod changes;
#[path = "../examples/differential/handmade.rs"]
mod handmade;
#[path = "../examples/differential/pair.rs"]
mod pair;
#[path = "../examples/differential/skb.rs"]
mod skb;
#[path = "../examples/differential/surroundings.rs"]
mod surroundings;

use pointsman_director::Reason;

/// Runs the comparison, or prints why not.
fn run(packets: u64, room: u32) -> Option<pair::Report> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: loading programs needs root");
        return None;
    }
    match pair::run(pair::seed(), packets, room) {
        Ok(report) => {
            println!("{report}");
            Some(report)
        }
        Err(difference) => panic!("{difference}"),
    }
}

#[test]
fn programs_do_what_the_native_director_does() {
    let Some(report) = run(100_000, 8192) else {
        return;
    };
    for reason in [
        Reason::Direct,
        Reason::Tunnel,
        Reason::Masquerade,
        Reason::Reply,
        Reason::RelatedIn,
        Reason::RelatedOut,
        Reason::ServerGone,
        Reason::NoNextHop,
        Reason::VlanTags,
        Reason::TooBig,
        Reason::NeedsFragmenting,
    ] {
        assert!(report.count(reason) > 0, "{reason:?} was not met");
    }
}

#[test]
fn a_full_table_is_full_for_both() {
    let Some(report) = run(30_000, 48) else {
        return;
    };
    for reason in [Reason::TableFull, Reason::Stateless] {
        assert!(report.count(reason) > 0, "{reason:?} was not met");
    }
}
