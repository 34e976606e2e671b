//! The plugin host: WebAssembly components as policies, replaced while they work.
//!
//! Implements the traits of `capstan-points` on components and fills their seats. A [`Host`] loads Plugin
//! objects and needs no cluster; [`run`] keeps it level with the cluster's Plugin objects. Invariants: no
//! plugin stalls, crashes or starves the host or another plugin; nothing that was not granted is reachable
//! from a guest; whatever fails before the swap leaves the old revision serving.
//!
//! Not here: who asks the policies (scheduler, API server, node), fetching from registries.

mod about;
mod artifact;
mod bindings;
mod bridge;
mod budget;
mod cache;
mod capability;
mod config_schema;
mod downloads;
mod engine;
mod error;
mod glob;
mod health;
mod host;
mod imports;
mod inspect;
mod limits;
mod live;
mod lock;
mod precompile;
mod program;
mod reconcile;
mod report;
mod resident;
mod revision;
mod services;
mod slot;
mod source;
mod state;
mod stats;
mod status;
mod ticker;
mod trust;

pub use about::About;
pub use cache::Precompiled;
pub use error::{HostError, LoadError, Step};
pub use host::{Host, Loaded, Options};
pub use precompile::precompile;
pub use reconcile::run;
pub use report::{Report, Said};
pub use source::Bundled;
