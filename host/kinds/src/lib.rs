//! What a Kubernetes kind is: the resource table, schemas, defaults, validation, selectors, quantities,
//! patch and apply rules, and printer columns. Objects are `serde_json::Value` documents; everything here is pure:
//! no clock, no randomness, no I/O. The API server, controllers, scheduler, node and plugin host call it.
//! The tables here are the only place that knows what is special about a kind; custom kinds bring theirs
//! (`custom`).

pub mod admission;
pub mod aggregation;
pub mod apply;
pub mod cel;
pub mod columns;
pub mod convert;
pub mod custom;
pub mod default;
mod error;
pub mod fields;
pub mod name;
pub mod patch;
pub mod plugin;
pub mod plugin_trust;
pub mod pod_part;
pub mod pod_resources;
pub mod policy_exception;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod validate;

pub use error::Error;
