//! What an etcd must answer: a whole keyspace with revisions, and a few registers without.
//!
//! [`Timeline`] is the strong model: the order of all writes is known from the watch, so that each answer is
//! computed at its revision and compared. [`linearizable`] trusts no revision: it searches an order by itself.
//! Both are pure.

mod registers;
mod timeline;
mod wgl;

pub use registers::{Group, Registers};
pub use timeline::{Timeline, Verdict as Answered};
pub use wgl::{Call, Model, Verdict, linearizable};
