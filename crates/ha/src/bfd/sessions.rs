//! All BFD sessions of a host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use pointsman_wire::control::{Control, ControlError};
use thiserror::Error;

use super::config::SessionConfig;
use super::session::{Session, SessionOutput, Spoken};

/// Why a packet does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionRejection {
    /// It is no control packet.
    #[error(transparent)]
    Malformed(#[from] ControlError),
    /// It is for a session that is not here.
    #[error("there is no BFD session for {source_address} (discriminator {discriminator})")]
    Unknown {
        /// Where it came from.
        source_address: IpAddr,
        /// The session that it names, 0 for none.
        discriminator: u32,
    },
    /// It came from too far away.
    #[error(
        "hop limit {found} of a packet for the BFD session {session}, which takes {least} and more"
    )]
    HopLimit {
        /// The session's name.
        session: String,
        /// With which it came.
        found: u8,
        /// The least that counts.
        least: u8,
    },
}

impl SessionRejection {
    /// A short name for counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(error) => error.name(),
            Self::Unknown { .. } => "unknown-session",
            Self::HopLimit { .. } => "hop-limit",
        }
    }
}

/// All sessions, in order.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: Vec<Session>,
    /// Packets that were for none of them, by reason.
    rejected: BTreeMap<&'static str, u64>,
}

impl Sessions {
    /// The sessions.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// Packets that were for no session, by reason.
    pub fn rejected(&self) -> &BTreeMap<&'static str, u64> {
        &self.rejected
    }

    /// Begins a session with a number of its own near `chance`, or goes on with what was spoken before.
    pub fn add(
        &mut self,
        config: SessionConfig,
        spoken: Option<&Spoken>,
        now: Duration,
        chance: u32,
    ) {
        let taken = |number| self.sessions.iter().any(|s| s.discriminator() == number);
        let resumes = spoken.filter(|spoken| !taken(spoken.ours.my_discriminator));
        let session = match resumes {
            Some(spoken) => Session::resume(config, spoken, now),
            None => {
                let mut number = chance.max(1);
                while taken(number) {
                    number = number.wrapping_add(1).max(1);
                }
                Session::new(config, number, now)
            }
        };
        self.sessions.push(session);
    }

    /// Takes another configuration: sessions of the same ends go on, others end and begin.
    pub fn set_configs(&mut self, configs: &[SessionConfig], now: Duration, chance: u32) {
        let mut before = std::mem::take(&mut self.sessions);
        for (config, chance) in configs.iter().zip(chances(chance)) {
            let at = before.iter().position(|old| old.config().is_same(config));
            match at.map(|at| before.swap_remove(at)) {
                Some(mut session) => {
                    if session.config() != config {
                        session.set_config(config.clone(), now, chance);
                    }
                    self.sessions.push(session);
                }
                None => self.add(config.clone(), None, now, chance),
            }
        }
    }

    /// Takes a datagram's payload, where it came from and with which hop limit.
    pub fn handle_packet(
        &mut self,
        payload: &[u8],
        source: IpAddr,
        hop_limit: u8,
        now: Duration,
        chance: u32,
    ) -> Result<(), SessionRejection> {
        let handled = self.give(payload, source, hop_limit, now, chance);
        if let Err(rejection) = &handled
            && !matches!(rejection, SessionRejection::HopLimit { .. })
        {
            *self.rejected.entry(rejection.name()).or_default() += 1;
        }
        handled
    }

    fn give(
        &mut self,
        payload: &[u8],
        source: IpAddr,
        hop_limit: u8,
        now: Duration,
        chance: u32,
    ) -> Result<(), SessionRejection> {
        let packet = Control::parse(payload)?;
        let discriminator = packet.your_discriminator;
        let session = self
            .sessions
            .iter_mut()
            .find(|session| match discriminator {
                0 => session.config().neighbor == source,
                number => session.discriminator() == number,
            });
        let Some(session) = session else {
            return Err(SessionRejection::Unknown {
                source_address: source,
                discriminator,
            });
        };
        let least = session.config().least_hop_limit();
        if hop_limit < least {
            session.reject("hop-limit");
            return Err(SessionRejection::HopLimit {
                session: session.config().name.clone(),
                found: hop_limit,
                least,
            });
        }
        session.handle_packet(&packet, now, chance);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.sessions.iter().filter_map(Session::poll_timeout).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration, chance: u32) {
        for (session, chance) in self.sessions.iter_mut().zip(chances(chance)) {
            if session.poll_timeout().is_some_and(|due| due <= now) {
                session.handle_timeout(now, chance);
            }
        }
    }

    /// The next thing to do, and for which session.
    pub fn poll_output(&mut self) -> Option<(&SessionConfig, SessionOutput)> {
        let at = self.sessions.iter_mut().enumerate();
        let (at, output) = { at }.find_map(|(at, session)| Some((at, session.poll_output()?)))?;
        Some((self.sessions[at].config(), output))
    }
}

/// A number by chance made many, for sessions that act at one moment.
fn chances(chance: u32) -> impl Iterator<Item = u32> {
    // An odd factor leads through all numbers (Knuth, 6.4).
    std::iter::successors(Some(chance), |last| {
        Some(last.wrapping_mul(2_654_435_769).wrapping_add(1))
    })
}
