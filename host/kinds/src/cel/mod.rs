//! CEL, the Common Expression Language, as Kubernetes has it.
//!
//! `syntax` reads, `types` judges before anything is stored, `eval` runs within a budget: one expression at
//! most [`CALL_COST_MAX`] units, all of one object at most [`OBJECT_COST_MAX`]. The rules of custom kinds
//! (`custom`) and the admission policies and conditions (`admission`) are made of it; `authorizer` is the
//! question that policies may ask, `patience` how long a caller waits, `message` the objects that they make. Ours, because the published crates
//! have neither a bound on cost nor a check by schema. Pure.

mod authorizer;
mod estimate;
mod eval;
mod functions;
mod library;
mod lists;
mod message;
pub(crate) mod patience;
mod signatures;
mod syntax;
mod texts;
mod tokens;
mod tree;
mod types;
mod value;

pub use authorizer::{Access, Answer, Question, Subject};
pub use estimate::{Size, estimate};
pub(crate) use eval::unescape;
pub use eval::{CALL_COST_MAX, Evaluation, Failure, Outcome};
pub use message::{Message, misnamed};
pub use patience::within;
pub use syntax::parse;
pub use tokens::is_identifier;
pub use tree::{Expr, Literal, Loop, Node, Operator, Problem};
pub use types::{Type, Types, check as check_types};
pub use value::Value;

/// Units that all expressions of one object may cost together, as in the original.
pub const OBJECT_COST_MAX: u64 = 10_000_000;
/// Bytes of a message that an expression makes.
pub const MESSAGE_BYTES_MAX: usize = 5 * 1024;

#[cfg(test)]
mod tests;
