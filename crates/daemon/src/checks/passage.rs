//! How a check goes to a virtual address through one real server, while this host may have the
//! address itself.
//!
//! The kernel would deliver what it sends to an address of its own, whatever routes say, and take an
//! answer from such an address for a lie. So checks get their sockets in a network namespace of their
//! own, which has no device but a tun and does not know whose the virtual address is. What comes out of
//! the tun is put into a frame to the real server, or into a tunnel and then into a frame; what comes
//! back from the virtual address to a check's port is put into the tun. Thus the kernel's own TCP makes
//! the check, no route, rule or setting of the host is touched, and nothing is left behind by a daemon that is
//! killed. The hop limit is 1: a real server that would forward the packet has not got the address.
//!
//! On the host's side each check holds its port by a deaf socket: nobody else gets it, and the kernel
//! does not answer with a reset what is not for it.

mod packet;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_linux::held_port::HeldPort;
use pointsman_linux::netlink::{Netlink, NewAddress, NewRoute, nud};
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Capture, Direction, Error as PacketError, Frame, Options, Sender};
use pointsman_linux::sysctl;
use pointsman_linux::tun::Tun;
use tokio::time::sleep;

use super::Failure;
use packet::Key;

/// The first port that checks use; the others follow. The kernel gives none of them by itself.
const FIRST_PORT: u16 = 61_000;
/// Ports that are tried before it is said that none is free.
const TRIES: u16 = 256;
/// How long packets of a check that has ended are still carried: its sockets say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// A passage that nobody uses for so long ends.
const IDLE: Duration = Duration::from_secs(300);
/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether a neighbour is known.
const NEIGHBOUR_LOOK: Duration = Duration::from_millis(5);
/// What every path takes, with room for a tunnel's header: the least of IPv6.
const MTU: u32 = 1280;
/// Unread frames are kept up to so many bytes for each interface.
const BUFFER: usize = 1 << 20;
const DEVICE: &str = "check";
const IFA_F_NODAD: u32 = 2;
const IFA_F_TENTATIVE: u32 = 0x40;
const ETHERNET: u16 = 1;

/// The passages of this process, by the namespaces from which they lead.
static PASSAGES: Mutex<BTreeMap<u64, Arc<Passage>>> = Mutex::new(BTreeMap::new());

/// What is sent by a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
    Ping,
}

/// The passage of one network namespace.
#[derive(Debug)]
pub(super) struct Passage {
    home: u64,
    within: NetNs,
    tun: Tun,
    /// Asks about the host's routes and neighbours.
    outside: Mutex<Netlink>,
    inside: Mutex<Inside>,
    state: Mutex<State>,
}

/// The namespace of the sockets: pairs of own and virtual address that it knows.
#[derive(Debug)]
struct Inside {
    netlink: Netlink,
    index: u32,
    known: HashSet<(IpAddr, IpAddr)>,
}

#[derive(Debug)]
struct State {
    checks: HashMap<Key, Entry>,
    doors: HashMap<u32, Arc<Door>>,
    used: Instant,
}

/// An interface by which checks leave.
#[derive(Debug)]
struct Door {
    sender: Sender,
    mac: [u8; 6],
}

/// One check under way, or just ended.
#[derive(Debug)]
struct Entry {
    own: IpAddr,
    vip: IpAddr,
    way: Arc<Way>,
    expired: Arc<AtomicBool>,
    ends: Option<Instant>,
    _held: Option<HeldPort>,
}

/// How packets get to the real server.
#[derive(Debug)]
struct Way {
    door: Arc<Door>,
    mac: [u8; 6],
    /// Both ends of the tunnel, if there is one.
    tunnel: Option<(IpAddr, IpAddr)>,
}

/// Where a check with a passage goes.
pub(super) enum Admission {
    /// Through the passage.
    Through(Ticket),
    /// The real server is this host: there is no way to check.
    Here,
}

/// Lets one check through.
#[derive(Debug)]
pub(super) struct Ticket {
    passage: Arc<Passage>,
    key: Key,
    own: IpAddr,
    expired: Arc<AtomicBool>,
}

impl Ticket {
    /// Address and port from which the check is made.
    pub(super) fn from(&self) -> SocketAddr {
        SocketAddr::new(self.own, self.key.number)
    }

    /// True when the real server wanted to forward what it got: the address is not its own.
    pub(super) fn was_forwarded(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Makes a socket that goes through.
    pub(super) fn socket<T>(
        &self,
        make: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T, Failure> {
        let _inside = self.passage.within.enter().map_err(cannot)?;
        make().map_err(cannot)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(entry) = self.passage.state().checks.get_mut(&self.key) {
            entry.ends = Some(Instant::now() + GOODBYE);
        }
    }
}

/// Lets a check of `vip` through to a real server, as soon as the kernel knows its neighbour.
pub(super) async fn admit(
    kind: Kind,
    vip: IpAddr,
    server: IpAddr,
    is_tunnel: bool,
    from: Option<IpAddr>,
) -> Result<Admission, Failure> {
    let passage = Passage::here()?;
    loop {
        match passage.way(vip, server, is_tunnel, from)? {
            Found::Here => return Ok(Admission::Here),
            Found::Way(way, own) => {
                let ticket = passage.admit(kind, own, vip, way)?;
                return Ok(Admission::Through(ticket));
            }
            Found::NotYet => sleep(NEIGHBOUR_LOOK).await,
        }
    }
}

enum Found {
    Here,
    Way(Arc<Way>, IpAddr),
    NotYet,
}

impl Passage {
    /// The passage from the calling thread's namespace.
    fn here() -> Result<Arc<Self>, Failure> {
        let home = NetNs::current().and_then(|here| here.id());
        let home = home.map_err(cannot)?;
        let mut passages = passages();
        if let Some(passage) = passages.get(&home) {
            passage.state().used = Instant::now();
            return Ok(Arc::clone(passage));
        }
        let passage = Arc::new(Self::open(home)?);
        let carrier = Arc::clone(&passage);
        thread::Builder::new()
            .name("vip-check".to_owned())
            .spawn(move || carrier.carry_out())
            .map_err(cannot)?;
        passages.insert(home, Arc::clone(&passage));
        Ok(passage)
    }

    fn open(home: u64) -> Result<Self, Failure> {
        let within = NetNs::anonymous().map_err(cannot)?;
        let (tun, inside) = within
            .run_in(|| {
                let tun = Tun::open(DEVICE, MTU).map_err(cannot)?;
                // Ports are used again before the kernel would forget them.
                sysctl::write("net.ipv4.tcp_max_tw_buckets", "0").map_err(cannot)?;
                let mut netlink = Netlink::new().map_err(cannot)?;
                let index = netlink.link_by_name(DEVICE).map_err(cannot)?.index;
                let known = HashSet::new();
                let inside = Inside {
                    netlink,
                    index,
                    known,
                };
                Ok((tun, inside))
            })
            .map_err(cannot)??;
        Ok(Self {
            home,
            within,
            tun,
            outside: Mutex::new(Netlink::new().map_err(cannot)?),
            inside: Mutex::new(inside),
            state: Mutex::new(State {
                checks: HashMap::new(),
                doors: HashMap::new(),
                used: Instant::now(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to a real server, and the address from which it is gone.
    fn way(
        self: &Arc<Self>,
        vip: IpAddr,
        server: IpAddr,
        is_tunnel: bool,
        from: Option<IpAddr>,
    ) -> Result<Found, Failure> {
        let mut netlink = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let route = netlink.route_to(server, from).map_err(cannot)?;
        if route.is_local() {
            return Ok(Found::Here);
        }
        let (Some(index), Some(own), false) =
            (route.out_index, route.source, route.is_unreachable())
        else {
            return Err(Failure::Wrong(format!("no way to {server}")));
        };
        let own = match own == vip && from.is_none() {
            true => another(&mut netlink, index, vip)?,
            false => own,
        };
        let hop = route.gateway.unwrap_or(server);
        let neighbour = netlink.neighbour(index, hop).map_err(cannot)?;
        let Some(mac) = neighbour.as_ref().and_then(|known| known.usable_mac()) else {
            // The kernel asks by itself for those that it manages, and goes on with what it began.
            let asks =
                neighbour.is_some_and(|known| known.managed || known.state & nud::INCOMPLETE != 0);
            if !asks {
                netlink.neighbour_probe(index, hop).map_err(cannot)?;
            }
            return Ok(Found::NotYet);
        };
        let known = self.state().doors.get(&index).map(Arc::clone);
        let door = match known {
            Some(door) => door,
            None => self.open_door(&mut netlink, index)?,
        };
        let tunnel = is_tunnel.then_some((own, server));
        Ok(Found::Way(Arc::new(Way { door, mac, tunnel }), own))
    }

    fn open_door(
        self: &Arc<Self>,
        netlink: &mut Netlink,
        index: u32,
    ) -> Result<Arc<Door>, Failure> {
        let link = netlink.link_by_index(index).map_err(cannot)?;
        let (Some(mac), ETHERNET) = (link.mac, link.hardware) else {
            let text = format!("vip_check: {} is no Ethernet", link.name);
            return Err(Failure::Wrong(text));
        };
        let options = Options {
            buffer_bytes: BUFFER,
            filter: filter(),
            ..Options::default()
        };
        let capture = Capture::open_with(index, &options).map_err(cannot)?;
        let sender = Sender::open(index).map_err(cannot)?;
        let door = Arc::new(Door { sender, mac });
        self.state().doors.insert(index, Arc::clone(&door));
        let carrier = Arc::clone(self);
        thread::Builder::new()
            .name("vip-check-in".to_owned())
            .spawn(move || carrier.carry_in(capture, index))
            .map_err(cannot)?;
        Ok(door)
    }

    fn admit(
        self: &Arc<Self>,
        kind: Kind,
        own: IpAddr,
        vip: IpAddr,
        way: Arc<Way>,
    ) -> Result<Ticket, Failure> {
        if own == vip {
            return Err(Failure::Wrong(format!(
                "vip_check: the way begins at {vip} itself; name another address with bindto"
            )));
        }
        self.acquaint(own, vip)?;
        let protocol = match (kind, own) {
            (Kind::Tcp, _) => packet::TCP,
            (Kind::Udp, _) => packet::UDP,
            (Kind::Ping, IpAddr::V4(_)) => packet::ICMP,
            (Kind::Ping, IpAddr::V6(_)) => packet::ICMP6,
        };
        let room = u16::MAX - FIRST_PORT;
        let start = (crate::chance::bits() >> 32) as u16 % room;
        let mut state = self.state();
        for step in 0..TRIES {
            let number = FIRST_PORT + (start + step) % room;
            let key = Key { protocol, number };
            if state.checks.contains_key(&key) {
                continue;
            }
            let address = SocketAddr::new(own, number);
            let held = match kind {
                Kind::Tcp => HeldPort::tcp(address).map(Some),
                Kind::Udp => HeldPort::udp(address).map(Some),
                Kind::Ping => Ok(None),
            };
            let held = match held {
                Ok(held) => held,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(cannot(error)),
            };
            let expired = Arc::new(AtomicBool::new(false));
            let entry = Entry {
                own,
                vip,
                way,
                expired: Arc::clone(&expired),
                ends: None,
                _held: held,
            };
            state.checks.insert(key, entry);
            let passage = Arc::clone(self);
            return Ok(Ticket {
                passage,
                key,
                own,
                expired,
            });
        }
        let text = format!("vip_check: no port from {FIRST_PORT} on is free");
        Err(Failure::Wrong(text))
    }

    /// Makes the namespace of the sockets know both addresses.
    fn acquaint(&self, own: IpAddr, vip: IpAddr) -> Result<(), Failure> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.known.contains(&(own, vip)) {
            return Ok(());
        }
        let index = inside.index;
        let prefix = if own.is_ipv4() { 32 } else { 128 };
        let address = NewAddress {
            index,
            address: own,
            peer: None,
            prefix,
            broadcast: None,
            scope: 0,
            label: None,
            flags: IFA_F_NODAD,
            preferred_seconds: None,
        };
        inside.netlink.address_add(&address).map_err(cannot)?;
        let route = NewRoute::on_link(vip, prefix, index);
        inside.netlink.route_add(&route).map_err(cannot)?;
        inside.known.insert((own, vip));
        Ok(())
    }

    /// Carries what checks send, until nobody has checked for some time.
    fn carry_out(&self) {
        let mut buffer = vec![0; 1 << 16];
        let mut looked = Instant::now();
        loop {
            match self.tun.receive(&mut buffer, LOOK) {
                Ok(Some(length)) => self.send(&buffer[..length]),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "vip_check: can't read what checks send");
                    thread::sleep(LOOK);
                }
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if self.tidy() {
                    return;
                }
            }
        }
    }

    fn send(&self, packet: &[u8]) {
        let Some(key) = packet::sender(packet) else {
            return;
        };
        let way = self
            .state()
            .checks
            .get(&key)
            .map(|entry| Arc::clone(&entry.way));
        let Some(way) = way else { return };
        let outer = match way.tunnel {
            None => None,
            Some((own, server)) => match packet::encapsulate(packet, own, server) {
                Some(outer) => Some(outer),
                None => return,
            },
        };
        let packet = outer.as_deref().unwrap_or(packet);
        let kind: [u8; 2] = match packet.first().map(|first| first >> 4) {
            Some(4) => [0x08, 0x00],
            _ => [0x86, 0xdd],
        };
        let frame = [&way.mac[..], &way.door.mac, &kind, packet].concat();
        if let Err(error) = way.door.sender.send(&frame) {
            tracing::debug!(%error, "vip_check: can't send");
        }
    }

    /// Forgets checks that have ended; true when the passage itself has.
    fn tidy(&self) -> bool {
        // In this order also where passages are found.
        let mut passages = passages();
        let mut state = self.state();
        let now = Instant::now();
        state
            .checks
            .retain(|_, entry| entry.ends.is_none_or(|ends| ends > now));
        let is_over = state.checks.is_empty() && state.used.elapsed() > IDLE;
        if is_over {
            passages.remove(&self.home);
            state.doors.clear();
        }
        is_over
    }

    /// Carries what comes in by an interface to the checks that it is for.
    fn carry_in(&self, mut capture: Capture, index: u32) {
        loop {
            match capture.next(LOOK) {
                Ok(Some(frame)) => self.receive(frame),
                Ok(None) => {}
                // It goes on when the interface is up again.
                Err(PacketError::Down { .. }) => thread::sleep(LOOK),
                Err(error) => {
                    tracing::warn!(%error, "vip_check: can't read answers");
                    self.state().doors.remove(&index);
                }
            }
            if !self.state().doors.contains_key(&index) {
                return;
            }
        }
    }

    fn receive(&self, mut frame: Frame) {
        let is_ip = matches!(frame.bytes.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
        if frame.direction != Direction::In || !is_ip {
            return;
        }
        let packet = &mut frame.bytes[14..];
        let Some(incoming) = packet::incoming(packet) else {
            return;
        };
        let expired = {
            let state = self.state();
            let Some(entry) = state.checks.get(&incoming.key) else {
                return;
            };
            if (entry.own, entry.vip) != (incoming.own, incoming.other) {
                return;
            }
            Arc::clone(&entry.expired)
        };
        if incoming.expired {
            expired.store(true, Ordering::Relaxed);
            // Sockets wait after such an error, but nobody will come.
            packet::refuse(packet);
        }
        if frame.checksum_pending {
            packet::complete(packet);
        }
        if let Err(error) = self.tun.send(packet) {
            tracing::debug!(%error, "vip_check: can't deliver an answer");
        }
    }
}

/// An address of an interface beside a virtual one, which the kernel would have taken.
fn another(netlink: &mut Netlink, index: u32, vip: IpAddr) -> Result<IpAddr, Failure> {
    let addresses = netlink.addresses().map_err(cannot)?;
    let others = addresses.iter().filter(|one| {
        one.index == index
            && one.address != vip
            && one.address.is_ipv4() == vip.is_ipv4()
            && one.flags & IFA_F_TENTATIVE == 0
            && !matches!(one.address, IpAddr::V6(v6) if v6.is_unicast_link_local())
    });
    // The widest network is the interface's own.
    let other = others.min_by_key(|one| one.prefix);
    Ok(other.map_or(vip, |one| one.address))
}

fn passages() -> MutexGuard<'static, BTreeMap<u64, Arc<Passage>>> {
    PASSAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cannot(error: impl std::fmt::Display) -> Failure {
    Failure::Wrong(format!("vip_check: {error}"))
}

/// Frames that may be answers: TCP and UDP to ports of checks, ICMP.
fn filter() -> Vec<libc::sock_filter> {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_INDEXED: u16 = 0x48;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let line = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let port = u32::from(FIRST_PORT);
    // Jumps are counted from the next line; the last two take and leave.
    vec![
        line(LOAD_HALF, 12, 0, 0),
        line(IF_EQUAL, 0x0800, 0, 9),
        line(LOAD_BYTE, 23, 0, 0),
        line(IF_EQUAL, packet::ICMP.into(), 14, 0),
        line(IF_EQUAL, packet::TCP.into(), 1, 0),
        line(IF_EQUAL, packet::UDP.into(), 0, 13),
        line(LOAD_HALF, 20, 0, 0),
        line(IF_ANY_BIT, 0x1fff, 11, 0),
        line(LOAD_HEADER_LENGTH, 14, 0, 0),
        line(LOAD_HALF_INDEXED, 16, 0, 0),
        line(IF_AT_LEAST, port, 7, 8),
        line(IF_EQUAL, 0x86dd, 0, 7),
        line(LOAD_BYTE, 20, 0, 0),
        line(IF_EQUAL, packet::ICMP6.into(), 4, 0),
        line(IF_EQUAL, packet::TCP.into(), 1, 0),
        line(IF_EQUAL, packet::UDP.into(), 0, 3),
        line(LOAD_HALF, 56, 0, 0),
        line(IF_AT_LEAST, port, 0, 1),
        line(RETURN, u32::MAX, 0, 0),
        line(RETURN, 0, 0, 0),
    ]
}
