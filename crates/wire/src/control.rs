//! A BFD control packet as a value: read from a datagram, written to one, shown as tcpdump does.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use thiserror::Error;
use zerocopy::IntoBytes;

use crate::bfd::{self, Bfd};
use crate::bytes::Be32;
use crate::layers::view;

/// What a host says of a BFD session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Control {
    /// The sender's state.
    pub state: BfdState,
    /// Why its session went down the last time.
    pub diagnostic: Diagnostic,
    /// True when it wants an answer with `is_final`.
    pub poll: bool,
    /// True when it answers a packet with `poll`.
    pub is_final: bool,
    /// True when its BFD does not share its control plane's fate.
    pub independent: bool,
    /// True when it asks the other side not to send periodically.
    pub demand: bool,
    /// How many packets in a row may be lost, not 0.
    pub multiplier: u8,
    /// The sender's number of the session, not 0.
    pub my_discriminator: u32,
    /// The receiver's number of the session, 0 while the sender does not know it.
    pub your_discriminator: u32,
    /// The sender would like to send no more often, microseconds.
    pub desired_min_tx: u32,
    /// The sender can receive no more often, microseconds; 0 wants nothing periodic.
    pub required_min_rx: u32,
    /// The sender can send echoes back no more often, microseconds; 0 wants none.
    pub required_min_echo_rx: u32,
}

/// A session's state, as one of its ends sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BfdState {
    /// Somebody wants it to be down.
    AdminDown,
    /// Nothing is heard.
    Down,
    /// The other end is heard, and does not hear yet.
    Init,
    /// Both hear each other.
    Up,
}

impl BfdState {
    /// All of them, by number.
    pub const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }
}

impl Display for BfdState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a session went down the last time: a number of RFC 5880, or one that nobody has given a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// It did not, or there is nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other end said that it is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// Somebody wanted it to be down.
    pub const ADMIN_DOWN: Self = Self(7);

    /// The diagnostic of a number; only 5 bits are there.
    pub const fn new(number: u8) -> Self {
        Self(number & 0x1f)
    }

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Display for Diagnostic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            number => return write!(f, "Reserved ({number})"),
        })
    }
}

/// Why bytes are no control packet that counts (RFC 5880, section 6.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum ControlError {
    /// Shorter than a control packet.
    #[error("{found} bytes are no BFD control packet of {}", Bfd::LEN)]
    Cut {
        /// Bytes there are.
        found: usize,
    },
    /// Of another version.
    #[error("BFD version {0} is not {version}", version = bfd::VERSION)]
    Version(u8),
    /// Its length is not that of what it holds.
    #[error("a BFD control packet says that it has {said} bytes; here are {found}")]
    Length {
        /// What it says, bytes.
        said: u8,
        /// Bytes there are.
        found: usize,
    },
    /// It is authenticated, which nobody asked for.
    #[error("a BFD control packet with an authentication section, and none was agreed upon")]
    Authenticated,
    /// Its multiplier is 0.
    #[error("a BFD control packet with the multiplier 0")]
    NoMultiplier,
    /// It is for many.
    #[error("a BFD control packet with the flag Multipoint")]
    Multipoint,
    /// It asks and answers at once.
    #[error("a BFD control packet with both flags Poll and Final")]
    PollAndFinal,
    /// It is of no session.
    #[error("a BFD control packet whose own discriminator is 0")]
    NoDiscriminator,
    /// It is for no session, though its sender has heard of one.
    #[error("a BFD control packet in state {0} whose other discriminator is 0")]
    NoSession(BfdState),
}

impl ControlError {
    /// A short name for counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cut { .. } => "cut",
            Self::Version(_) => "version",
            Self::Length { .. } => "length",
            Self::Authenticated => "authenticated",
            Self::NoMultiplier => "multiplier",
            Self::Multipoint => "multipoint",
            Self::PollAndFinal => "poll-and-final",
            Self::NoDiscriminator | Self::NoSession(_) => "discriminator",
        }
    }
}

impl Control {
    /// Reads the payload of a datagram. What stands behind the length that the packet has is no part of it.
    pub fn parse(payload: &[u8]) -> Result<Self, ControlError> {
        let found = payload.len();
        let (packet, _) = view::<Bfd>(payload, "bfd").map_err(|_| ControlError::Cut { found })?;
        if packet.version() != bfd::VERSION {
            return Err(ControlError::Version(packet.version()));
        }
        let said = packet.length;
        if u32::from(said) < Bfd::LEN || usize::from(said) > found {
            return Err(ControlError::Length { said, found });
        }
        if packet.has(bfd::AUTHENTICATION) {
            return Err(ControlError::Authenticated);
        }
        if u32::from(said) != Bfd::LEN {
            return Err(ControlError::Length { said, found });
        }
        if packet.multiplier == 0 {
            return Err(ControlError::NoMultiplier);
        }
        if packet.has(bfd::MULTIPOINT) {
            return Err(ControlError::Multipoint);
        }
        if packet.has(bfd::POLL) && packet.has(bfd::FINAL) {
            return Err(ControlError::PollAndFinal);
        }
        let state = BfdState::ALL[usize::from(packet.state() & 3)];
        let your_discriminator = packet.your_discriminator.get();
        if packet.my_discriminator.get() == 0 {
            return Err(ControlError::NoDiscriminator);
        }
        if your_discriminator == 0 && matches!(state, BfdState::Init | BfdState::Up) {
            return Err(ControlError::NoSession(state));
        }
        Ok(Self {
            state,
            diagnostic: Diagnostic::new(packet.diagnostic()),
            poll: packet.has(bfd::POLL),
            is_final: packet.has(bfd::FINAL),
            independent: packet.has(bfd::CONTROL_PLANE_INDEPENDENT),
            demand: packet.has(bfd::DEMAND),
            multiplier: packet.multiplier,
            my_discriminator: packet.my_discriminator.get(),
            your_discriminator,
            desired_min_tx: packet.desired_min_tx.get(),
            required_min_rx: packet.required_min_rx.get(),
            required_min_echo_rx: packet.required_min_echo_rx.get(),
        })
    }

    /// The payload of a datagram.
    pub fn bytes(&self) -> [u8; Bfd::LEN as usize] {
        let flag = |on, flag| if on { flag } else { 0 };
        let packet = Bfd {
            version_diagnostic: bfd::VERSION << 5 | self.diagnostic.number(),
            state_flags: self.state.number() << 6
                | flag(self.poll, bfd::POLL)
                | flag(self.is_final, bfd::FINAL)
                | flag(self.independent, bfd::CONTROL_PLANE_INDEPENDENT)
                | flag(self.demand, bfd::DEMAND),
            multiplier: self.multiplier,
            length: Bfd::LEN as u8,
            my_discriminator: Be32::new(self.my_discriminator),
            your_discriminator: Be32::new(self.your_discriminator),
            desired_min_tx: Be32::new(self.desired_min_tx),
            required_min_rx: Be32::new(self.required_min_rx),
            required_min_echo_rx: Be32::new(self.required_min_echo_rx),
        };
        let mut bytes = [0; Bfd::LEN as usize];
        bytes.copy_from_slice(packet.as_bytes());
        bytes
    }
}

impl Display for Control {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.poll, "Poll"),
            (self.is_final, "Final"),
            (self.independent, "Control Plane Independent"),
            (self.demand, "Demand"),
        ];
        let mut set = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        let first = set.next().unwrap_or("none");
        let flags = set.fold(first.to_owned(), |all, one| all + ", " + one);
        let detection = u64::from(self.multiplier) * u64::from(self.desired_min_tx) / 1000;
        let milliseconds = |micros: u32| Duration::from_micros(micros.into()).as_millis();
        write!(
            f,
            "BFDv{}, Control, State {}, Flags: [{flags}], Diagnostic: {} (0x{:02x}), \
             Detection Timer Multiplier: {} ({detection} ms Detection time), BFD Length: {}, \
             My Discriminator: 0x{:08x}, Your Discriminator: 0x{:08x}, \
             Desired min Tx Interval: {} ms, Required min Rx Interval: {} ms, \
             Required min Echo Interval: {} ms",
            bfd::VERSION,
            self.state,
            self.diagnostic,
            self.diagnostic.number(),
            self.multiplier,
            Bfd::LEN,
            self.my_discriminator,
            self.your_discriminator,
            milliseconds(self.desired_min_tx),
            milliseconds(self.required_min_rx),
            milliseconds(self.required_min_echo_rx),
        )
    }
}
