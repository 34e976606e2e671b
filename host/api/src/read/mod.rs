//! Reading: get, list and watch, all from the watch caches.

mod filter;
mod get;
mod list;
mod options;
mod page;
mod watch;

pub(crate) use filter::Filter;
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use options::{ListOptions, dry_run_error, dry_run_values, invalid_options};
pub(crate) use watch::watch;
