//! One virtual router, alone, whose every wish is fulfilled and written down.
#![allow(dead_code)] // Each test file uses what it needs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pointsman_ha::vrrp::{Datagram, Interface, Output, RouterConfig, VirtualRouter};
use pointsman_wire::{Arp, Mac};
use zerocopy::FromBytes;

/// The address the router sends from.
pub const SOURCE: [u8; 4] = [10, 99, 0, 1];
/// The virtual address.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 100));
/// Where advertisements go.
pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));

pub struct Stage {
    pub router: VirtualRouter,
    pub now: Duration,
    /// The virtual addresses it has.
    pub held: BTreeSet<IpAddr>,
    /// What it wanted since the last look.
    pub outputs: Vec<Output>,
}

impl Stage {
    /// A router whose interface is up.
    pub fn new(config: RouterConfig) -> Self {
        let mut stage = Self::without_interface(config);
        stage.up();
        stage
    }

    pub fn without_interface(config: RouterConfig) -> Self {
        config.check().expect("a possible router");
        Self {
            router: VirtualRouter::new(config),
            now: Duration::from_secs(1000),
            held: BTreeSet::new(),
            outputs: Vec::new(),
        }
    }

    pub fn up(&mut self) {
        let interface = interface(SOURCE.into());
        self.router.handle_interface(Some(interface), self.now);
        self.drain();
    }

    pub fn down(&mut self) {
        self.router.handle_interface(None, self.now);
        self.drain();
    }

    pub fn take(&mut self, datagram: &Datagram) {
        self.router
            .handle_packet(datagram, self.now)
            .expect("it counts");
        self.drain();
    }

    /// Lets time pass, each timer on time.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(at) = self.router.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.router.poll_output() {
            match &output {
                Output::AddAddress(address) => assert!(self.held.insert(*address)),
                Output::RemoveAddress(address) => assert!(self.held.remove(address)),
                _ => {}
            }
            self.outputs.push(output);
        }
    }
}

pub fn interface(source: IpAddr) -> Interface {
    Interface {
        source,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        router: false,
    }
}

pub fn second(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What it wanted since the last look, each as a word or two.
pub fn words(stage: &mut Stage) -> String {
    let words: Vec<String> = stage
        .outputs
        .drain(..)
        .map(|output| word(&output))
        .collect();
    words.join(", ")
}

pub fn word(output: &Output) -> String {
    match output {
        Output::Send(datagram) => format!("send {}", datagram.message[2]),
        Output::Frame(frame) => {
            let (message, _) = Arp::ref_from_prefix(&frame[14..]).expect("ARP");
            let target = Ipv4Addr::from(message.target);
            format!("arp .{}", target.octets()[3])
        }
        Output::AddAddress(_) => "add".to_owned(),
        Output::RemoveAddress(_) => "remove".to_owned(),
        Output::Notify(notice) => notice.to_string(),
    }
}
