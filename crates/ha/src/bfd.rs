//! BFD: whether a neighbor can be reached both ways, known within milliseconds.
//!
//! RFC 5880 in asynchronous mode over one hop (RFC 5881), or over several as far as keepalived has it
//! (`ttl`, `hoplimit` and `max_hops`); without echoes and authentication, which keepalived has not either.
//!
//! ```text
//!                              +--+
//!                              |  | UP, ADMIN DOWN, TIMER
//!                              |  V
//!                      DOWN  +------+  INIT
//!               +------------|      |------------+
//!               |            | DOWN |            |
//!               |  +-------->|      |<--------+  |
//!               |  |         +------+         |  |
//!               |  |                          |  |
//!               |  |               ADMIN DOWN,|  |
//!               |  |ADMIN DOWN,          DOWN,|  |
//!               |  |TIMER                TIMER|  |
//!               V  |                          |  V
//!             +------+                      +------+
//!        +----|      |                      |      |----+
//!    DOWN|    | INIT |--------------------->|  UP  |    |INIT, UP
//!        +--->|      | INIT, UP             |      |<---+
//!             +------+                      +------+
//! ```
//!
//! # [`Sessions`]
//!
//! All sessions of this host. Gives each what came for it.
//!
//! # [`Session`]
//!
//! One session: what it heard, what it says and when, how long silence may last.
//!
//! # [`SessionOutput`]
//!
//! A packet to be sent, or that the session went up or down.
//!
//! # [`SessionRejection`]
//!
//! Why a packet does not count.

mod config;
mod session;
mod sessions;

pub use config::SessionConfig;
pub use session::{Session, SessionOutput, SessionStats, Spoken};
pub use sessions::{SessionRejection, Sessions};
