//! Mails that tell people what happened, in keepalived's words, and the conversation that hands them over.
//!
//! # [`Alert`]
//!
//! Subject and text of what happened to a virtual router, a real server or a quorum.
//!
//! # [`Letter`]
//!
//! An alert with its sender and those who get it.
//!
//! # [`Dialogue`]
//!
//! What is said to a mail server: its answers and the time in, commands and what became of letters out.

mod alert;
mod dialogue;
mod letter;

pub use alert::{Alert, Told};
pub use dialogue::{Dialogue, Fault, Sent};
pub use letter::Letter;
