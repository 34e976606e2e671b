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
mod audit;
mod bindings;
mod bridge;
mod budget;
mod cache;
mod capability;
mod config_schema;
mod decision;
mod engine;
mod error;
mod exceptions;
mod follow;
mod glob;
mod health;
mod history;
mod host;
mod imports;
mod inspect;
mod journal;
mod limits;
mod live;
mod lock;
mod page;
mod precompile;
mod program;
mod reconcile;
mod report;
mod resident;
mod revision;
mod services;
mod shelf;
mod slot;
mod source;
mod state;
mod stats;
mod status;
mod survey;
mod ticker;
mod trial;
mod trust;

pub use about::About;
pub use audit::scan;
pub use cache::Precompiled;
pub use decision::Decision;
pub use error::{HostError, LoadError, Step};
pub use host::{Host, Loaded, Options};
pub use journal::{Entry, LogLine};
pub use precompile::precompile;
pub use reconcile::run;
pub use report::{Report, Said};
pub use source::Bundled;
pub use survey::{Finding, Survey};
