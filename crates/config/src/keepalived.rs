//! The text of keepalived.conf, read into statements; what they mean is not known here.
//!
//! Lines become words and blocks. On the way comments go, files are included, conditions (`@id`)
//! are decided, parameters (`$NAME`) are filled in, and sequences and lists (`~SEQ`, `~LST`) are written out, as
//! keepalived.conf(5) has it. Every word knows where it stands: file, line and column, of a parameter
//! the place where it is used.

mod diagnostic;
mod document;
mod expansion;
mod repetition;
mod words;

pub use diagnostic::{Diagnostic, Severity};
pub use document::{Document, Place, Statement, Word};
pub use expansion::{Environment, read};
