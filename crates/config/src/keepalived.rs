//! keepalived.conf: its text, read into statements, and what they mean.
//!
//! Lines become words and blocks. On the way comments go, files are included, conditions (`@id`)
//! are decided, parameters (`$NAME`) are filled in, and sequences and lists (`~SEQ`, `~LST`) are written out, as
//! keepalived.conf(5) has it. Every word knows where it stands: file, line and column, of a parameter
//! the place where it is used.
//!
//! What the statements mean is said by one [table of keywords](keywords) and read into a
//! [`Configuration`]. Whatever is unknown, not done or suspicious on the way is a [`Diagnostic`].

mod availability;
mod building;
mod derivation;
mod diagnostic;
mod difference;
mod document;
mod expansion;
pub mod keywords;
pub mod model;
mod reader;
mod repetition;
mod summary;
mod suspicion;
mod values;
mod words;

pub use building::{build, configure};
pub use derivation::Derived;
pub use diagnostic::{Diagnostic, Severity};
pub use difference::{Act, Change};
pub use document::{Document, Place, Statement, Word};
pub use expansion::{Alone, Environment, read};
pub use model::Configuration;
