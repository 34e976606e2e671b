//! Server-side apply: who owns which field of an object, and how an applied configuration is merged into it.
//! Invariants: pure; what a manager applied before and leaves out now is removed unless another owns it; a
//! field that another owns is changed only by force. The rules are those of structured-merge-diff: see
//! `typed` for what the schema says of a value, `write` for the two operations. The API server calls
//! [`update`] on every other write and [`apply`] on apply patches.

mod change;
mod element;
mod fields;
mod last_applied;
mod managed;
mod merge;
mod reset;
mod set;
#[cfg(test)]
mod tests;
mod typed;
mod write;

pub use change::Change;
pub use element::{Element, same};
pub use fields::{fields_of, fits};
pub use managed::{Entry, Managed, Manager, UPDATE_MANAGERS_MAX, name_of_agent, name_problem, problem};
pub use merge::{merged, without};
pub use reset::Reset;
pub use set::{Node, Set};
pub use typed::{Atom, ListAtom, MapAtom, Scalar, Typed};
pub use write::{Conflict, Problem, Versions, Writer, apply, keep_times, update};
