//! What the kernel adds to the programs: one processor, a namespace, routes to clients.

use std::{fs, io::Write, net::IpAddr, process::Stdio};

use pointsman_datapath::trial::LOOPBACK;
use pointsman_director::{
    control::address_words,
    native::NativeEnv,
    record::{NextHop, hop_flag},
};
use pointsman_wire::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 4, 1]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 4, 2]);
/// MTU towards the clients, bytes: smaller than some of their replies.
const MTU: u32 = 1400;
/// Clients of a family: those with odd numbers are known neighbours.
const CLIENTS: u16 = 12;

/// Keeps this thread on one processor: counters of the programs are one for each.
pub fn pin() -> Result<(), String> {
    // SAFETY: an all-zero set is a valid, empty one; the calls get a set and its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    done(result, "sched_setaffinity")
}

/// Moves this thread into a new network namespace, in which the odd clients can be reached.
pub fn enter_namespace() -> Result<(), String> {
    // SAFETY: no pointers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) }, "unshare")?;
    let mut batch = format!(
        "link set lo up\n\
         link add c0 address {MAC} mtu {MTU} type veth peer name c1\n\
         link set c0 up\n\
         link set c1 up\n\
         addr add 198.51.100.254/24 dev c0\n\
         addr add 2001:db8:1::ffff/64 dev c0 nodad\n"
    );
    for address in neighbours() {
        batch += &format!("neigh add {address} lladdr {ROUTER} dev c0 nud permanent\n");
    }
    let mut ip = std::process::Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("can't run ip: {error}"))?;
    if let Some(mut input) = ip.stdin.take() {
        input
            .write_all(batch.as_bytes())
            .map_err(|error| format!("ip: {error}"))?;
    }
    let status = ip.wait().map_err(|error| format!("ip: {error}"))?;
    if !status.success() {
        return Err(format!("ip ended with {status}"));
    }
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
        fs::write(&path, "1").map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// Tells `env` the routes of the namespace.
pub fn add_routes(env: &mut NativeEnv) -> Result<(), String> {
    // SAFETY: a string with an end mark.
    let ifindex = unsafe { libc::if_nametoindex(c"c0".as_ptr()) };
    if ifindex <= LOOPBACK {
        return Err("the namespace has no c0".to_owned());
    }
    for address in neighbours() {
        env.routes.insert(
            address_words(address),
            NextHop {
                ifindex,
                mtu: MTU,
                destination: ROUTER,
                source: MAC,
                vlan: 0,
                flags: hop_flag::RESOLVED,
            },
        );
    }
    Ok(())
}

fn neighbours() -> impl Iterator<Item = IpAddr> {
    (0..CLIENTS).skip(1).step_by(2).flat_map(|number| {
        [
            IpAddr::from([198, 51, 100, 1 + number as u8]),
            IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1 + number]),
        ]
    })
}

fn done(result: i32, call: &str) -> Result<(), String> {
    if result == 0 {
        Ok(())
    } else {
        Err(format!("{call}: {}", std::io::Error::last_os_error()))
    }
}
