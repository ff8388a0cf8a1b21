//! `pointsman nwfilter learn`: leases of a guest, from the DHCP at its port.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_filter::nwfilter::{Installed, Learner, News};
use pointsman_linux::nft;
use pointsman_linux::packet::{Capture, Direction, Options};

pub(crate) const LONG_ABOUT: &str = "\
Watch the DHCP of a guest, and let the port have the address that is leased

For ports whose filter was applied with CTRL_IP_LEARNING=dhcp and without IP. Each acknowledgement \
replaces the address before; the kernel forgets it when the lease ends, whether anybody watches or not. \
Runs until it is ended. The line `ready` on stdout says that it watches.";

/// How often the loop comes round when nothing happens.
const ROUND: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub(crate) struct LearnFlags {
    /// The guest's port
    #[arg(long, value_name = "PORT", value_parser = super::port)]
    port: String,
    /// End after the first lease
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(flags: &LearnFlags) -> Result<ExitCode> {
    let port = &flags.port;
    let find = || -> Result<Installed> {
        let installed = super::installed()?;
        let found = installed.into_iter().find(|one| one.port == *port);
        found.with_context(|| {
            format!("{port} has no rules of ours; `pointsman nwfilter apply` first")
        })
    };
    let one = find()?;
    if one.learning.as_deref() != Some("dhcp") {
        bail!(
            "{port} learns no address by DHCP: its filter has IP, or CTRL_IP_LEARNING is not dhcp"
        );
    }
    let mac = one.values("MAC").next().unwrap_or_default();
    let Some(mut learner) = Learner::new(mac, one.values("DHCPSERVER")) else {
        bail!("{port}: MAC or DHCPSERVER of its filter is not an address");
    };
    let options = Options {
        filter: dhcp(),
        ..Options::default()
    };
    let mut capture = Capture::open_with(port.as_str(), &options)?;
    println!("ready");
    loop {
        let Some(frame) = capture.next(ROUND)? else {
            continue;
        };
        // What the host sends out of the port goes to the guest, and has passed the filter.
        let news = match frame.direction {
            Direction::Out => learner.handle_answer(&frame.bytes),
            Direction::In | Direction::OtherHost => learner.handle_question(&frame.bytes),
        };
        let (lease, words) = match news {
            None => continue,
            Some(News::Leased {
                address,
                seconds,
                server,
            }) => (
                Some((address, seconds)),
                format!("{address} for {seconds} s, says {server}"),
            ),
            Some(News::Released) => (None, "address given back".to_owned()),
        };
        let turn = nft::lock()?;
        nft::load(&one.script_of_lease(lease)).with_context(|| {
            format!("{port}: its rules were removed or learn no address any more")
        })?;
        drop(turn);
        println!("{port}: {words}");
        if flags.once && lease.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Passes IPv4 UDP from and to ports 67 and 68, the first fragment or all of it.
fn dhcp() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // Jumps to the end, the last statement, unless equal.
    let unless = |k: u32, to_end: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: to_end,
        k,
    };
    let load = |size: u32, mode: u32, at: u32| statement(libc::BPF_LD | size | mode, at);
    vec![
        load(libc::BPF_H, libc::BPF_ABS, 12),
        unless(0x0800, 9),
        load(libc::BPF_B, libc::BPF_ABS, 23),
        unless(17, 7),
        load(libc::BPF_H, libc::BPF_ABS, 20),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
            jt: 5,
            jf: 0,
            k: 0x1fff,
        },
        statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14),
        load(libc::BPF_W, libc::BPF_IND, 14),
        // Both ports at once.
        libc::sock_filter {
            jt: 1,
            jf: 0,
            ..unless(67 << 16 | 68, 0)
        },
        unless(68 << 16 | 67, 1),
        statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
        statement(libc::BPF_RET | libc::BPF_K, 0),
    ]
}
