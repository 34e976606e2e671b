//! The face as a client sees it: etcd's services over loopback.

mod access;
mod answers;
mod refusals;
mod server;
mod watches;
