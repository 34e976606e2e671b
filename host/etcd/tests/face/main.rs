//! The face as a client sees it: etcd's services over loopback.

mod access;
mod answers;
mod leaders;
#[path = "../../../store/tests/members_net/mod.rs"]
mod members_net;
mod refusals;
mod server;
mod watches;
