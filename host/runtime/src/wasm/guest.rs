//! One instance's world: what WASI shows it, what it may use, and the store that holds both.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::engine::Machine;
use super::limits::{Allowance, MemoryHold};
use super::output::Output;
use crate::logs::{LogFile, Stream};
use crate::task::Process;
use crate::{Error, Result};

/// A host folder that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) host_path: PathBuf,
    pub(crate) guest_path: String,
    pub(crate) readonly: bool,
}

/// What all instances of a container are given.
#[derive(Debug)]
pub(crate) struct GuestPlan {
    pub(crate) process: Process,
    pub(crate) folders: Vec<Folder>,
    /// The pod's address, the only one that guests may bind.
    pub(crate) address: IpAddr,
    pub(crate) log: Arc<LogFile>,
    pub(crate) allowance: Arc<Allowance>,
}

/// A store's data.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    memory: MemoryHold,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

impl GuestPlan {
    /// A store for one instance.
    pub(crate) fn store(&self, machine: &Machine) -> Result<Store<Guest>> {
        let memory = MemoryHold::new(Arc::clone(&self.allowance));
        let guest = Guest {
            wasi: self.wasi()?,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            memory,
        };
        let mut store = Store::new(&machine.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        let allowance = Arc::clone(&self.allowance);
        store.epoch_deadline_callback(move |_| {
            Ok(match allowance.charge_tick() {
                Some(pause) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(pause))),
                None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            })
        });
        Ok(store)
    }

    fn wasi(&self) -> Result<WasiCtx> {
        let mut builder = WasiCtx::builder();
        builder
            .args(&self.process.args)
            .envs(&self.process.envs)
            .initial_cwd(&self.process.working_dir)
            .stdout(Output::new(self.log.stream(Stream::Stdout)))
            .stderr(Output::new(self.log.stream(Stream::Stderr)))
            .allow_ip_name_lookup(true);
        let own = self.address;
        builder.socket_addr_check(move |address, purpose| {
            let allowed = may_use(own, address, purpose);
            Box::pin(async move { allowed })
        });
        for folder in &self.folders {
            let access = if folder.readonly {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            builder
                .preopened_dir(&folder.host_path, &folder.guest_path, access)
                .map_err(|error| {
                    let (host, guest) = (folder.host_path.display(), &folder.guest_path);
                    Error::Container(format!("mounting {host} at {guest}: {error:#}"))
                })?;
        }
        Ok(builder.build())
    }
}

/// Pods may talk to anyone, and listen on their own address: without a network namespace, the wildcard would
/// listen on the whole machine. A client's implicit bind is the wildcard with port 0.
fn may_use(own: IpAddr, address: SocketAddr, purpose: SocketAddrUse) -> bool {
    let is_implicit = address.ip().is_unspecified() && address.port() == 0;
    match purpose {
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip() == own || is_implicit,
        SocketAddrUse::TcpListen => address.ip() == own,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_listen_on_their_own_address_alone() {
        let own: IpAddr = "127.64.0.9".parse().unwrap();
        let cases = [
            ("127.64.0.9:80", SocketAddrUse::TcpBind, true),
            ("127.64.0.9:80", SocketAddrUse::TcpListen, true),
            ("127.64.0.8:80", SocketAddrUse::TcpBind, false),
            ("0.0.0.0:80", SocketAddrUse::TcpBind, false),
            ("0.0.0.0:0", SocketAddrUse::TcpBind, true),
            ("0.0.0.0:0", SocketAddrUse::TcpListen, false),
            ("[::]:0", SocketAddrUse::UdpBind, true),
            ("10.0.0.1:443", SocketAddrUse::TcpConnect, true),
        ];
        for (address, purpose, allowed) in cases {
            assert_eq!(
                may_use(own, address.parse().unwrap(), purpose),
                allowed,
                "{address} {purpose:?}"
            );
        }
    }
}
