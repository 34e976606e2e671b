//! Chaos for a store: real processes as members, real faults, and a history that is checked afterwards.
//!
//! A run starts members ([`members`]) in a network of its own ([`network`]) on disks of its own ([`disk`]), has
//! clients write, read, watch and hold leases ([`traffic`]), does one fault after another ([`faults`]), and
//! hands everything that the clients saw ([`history`]) to [`validate`]. The client is etcd's own protocol on
//! bare stubs, and the same run goes against the original `etcd`, so that neither the client nor the checks are
//! of the store that is tested. Called by the bench `chaos` and by the test `store_chaos`.

pub mod client;
pub mod command;
pub mod disk;
pub mod faults;
pub mod field;
pub mod history;
pub mod members;
pub mod model;
pub mod network;
pub mod report;
pub mod run;
pub mod traffic;
pub mod validate;
