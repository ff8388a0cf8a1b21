//! Availability as state machines: bytes and time in; frames, commands and deadlines out.
//!
//! No clock, no socket, no thread, no chance. `now` is the time since any fixed moment, of a clock
//! that never goes back and goes on while the machine sleeps (`CLOCK_BOOTTIME`). A machine is told
//! what happened (`handle_packet`, `handle_timeout`, ...), then asked what to do (`poll_output`, until
//! there is nothing more) and when to call again (`poll_timeout`).
//!
//! What has come in is handed over before `handle_timeout` is called: after a pause of the process or
//! the whole machine, adverts that wait in a socket tell more than a timer that has run out.
#![forbid(unsafe_code)]

pub mod bfd;
pub mod health;
pub mod mail;
pub mod sync;
pub mod vrrp;
