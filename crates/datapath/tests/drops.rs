//! What the kernel drops is seen, with its reason, from another network namespace.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use pointsman_datapath::drops::{Dropped, Drops};
use pointsman_linux::netns::NetNs;

fn wait(drops: &mut Drops) -> Dropped {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(dropped) = drops.next_drop() {
            return dropped;
        }
        assert!(Instant::now() < deadline, "nothing was seen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_packet_for_nobody_is_seen_with_its_reason() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let name = format!("pmd-{}", std::process::id());
    let namespace = NetNs::create(&name).expect("a namespace").delete_on_drop();
    for (address, family) in [("127.9.8.7", 0x0800), ("fd99::77", 0x86dd)] {
        let address: IpAddr = address.parse().expect("an address");
        let mut drops = Drops::watch(address).expect("watch");
        let inside = namespace.enter().expect("enter");
        for words in [
            "link set lo up".to_owned(),
            format!("address replace {address} dev lo"),
        ] {
            let done = Command::new("ip")
                .args(words.split(' '))
                .status()
                .expect("ip");
            assert!(done.success(), "ip {words}");
        }
        let socket = UdpSocket::bind((address, 0)).expect("a socket");
        socket.send_to(b"hello", (address, 9)).expect("sent");
        // Another address is nobody's business.
        let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        other.send_to(b"hello", "127.0.0.1:9").expect("sent");
        drop(inside);
        let dropped = wait(&mut drops);
        assert_eq!(dropped.reason, "NO_SOCKET", "{dropped:?}");
        assert_eq!((dropped.device.as_str(), dropped.ifindex), ("lo", 1));
        assert_eq!(
            u64::from(dropped.netns),
            namespace.id().expect("its number")
        );
        assert_eq!(dropped.protocol, family);
        assert!(dropped.packet.ends_with(b"hello"), "{dropped:?}");
        assert!(dropped.location.contains("udp"), "{dropped:?}");
        assert_eq!(drops.next_drop(), None);
    }
}

fn is_root() -> bool {
    // SAFETY: the call only asks.
    unsafe { libc::geteuid() == 0 }
}
