//! `capstan up`: a whole cluster in this process.
//!
//! [`Cluster`] has a field for each part, started from the store upwards and stopped in the other direction.
//! Parts meet only at their published joints: everything above the API server gets a client of it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use capstan_api::ApiServer;
use capstan_client::{Election, Informer, Leadership, Shared};
use capstan_cluster::{DataDir, Pki};
use capstan_controllers::{Authority, Controllers};
use capstan_network::{Dns, DnsOptions, Proxy, ProxyOptions};
use capstan_plugin::Host;
use capstan_scheduler::Scheduler;
use k8s_openapi::api::core::v1::Node;

use crate::apiserver::ApiServerOptions;
use crate::arguments::Up;
use crate::bundle;
use crate::identity::Identities;
use crate::kubelets::{Kubelets, Proxied};
use crate::plugins;
use crate::screen::Screen;
use crate::store_of_up::ClusterStore;

/// How long the nodes may take to say that they are ready.
const NODES_BOUND: Duration = Duration::from_secs(60);

/// Threads for calls that block; guests and file work take few.
const BLOCKING_THREADS_MAX: usize = 64;

/// Runs the cluster until it is asked to stop.
pub(crate) fn run(options: Up) -> anyhow::Result<()> {
    start_logging(&options.log).context("--log")?;
    let api_server = options.api_server.read()?;
    let mut screen = Screen::new();
    let (data, listener) = take_hold(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let cluster = tokio::select! {
            cluster = Cluster::start(&options, api_server, data, listener, &mut screen) => cluster?,
            () = stop => return Ok(()),
        };
        screen.ready(&cluster.data.path().join("kubeconfig"), &cluster.server);
        stop_signal()?.await;
        eprintln!("\nstopping");
        cluster.stop().await;
        Ok(())
    })
}

/// Logs to standard error what the filter lets through.
pub(crate) fn start_logging(filter: &str) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

/// The data folder and the listening socket. A cluster that runs already is told by its folder, which says more
/// than its port does; a folder that is yet to be made is not made for nothing.
fn take_hold(options: &Up) -> anyhow::Result<(DataDir, TcpListener)> {
    let listen = || {
        TcpListener::bind(options.listen).with_context(|| {
            format!(
                "cannot listen on {}: choose another address or port with --listen",
                options.listen
            )
        })
    };
    if options.data_dir.exists() {
        let data = DataDir::open(&options.data_dir)?;
        return Ok((data, listen()?));
    }
    let listener = listen()?;
    Ok((DataDir::open(&options.data_dir)?, listener))
}

/// Comes true with Ctrl-C or SIGTERM.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A running cluster, a field for each part.
struct Cluster {
    server: String,
    store: ClusterStore,
    api: ApiServer,
    plugins: plugins::Running,
    scheduler: Scheduler,
    leadership: Leadership,
    controllers: Controllers,
    kubelets: Kubelets,
    proxy: Proxy,
    dns: Dns,
    data: DataDir,
}

impl Cluster {
    async fn start(
        options: &Up,
        api_server: ApiServerOptions,
        data: DataDir,
        listener: TcpListener,
        screen: &mut Screen,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("the listening address")?;
        let server = format!("https://{address}");
        let host = Host::open(capstan_plugin::Options {
            cache_dir: data.folder("plugins")?,
            bundled: bundle::plugins().into_iter().collect(),
            precompiled: bundle::precompiled(),
            name: Kubelets::name(0),
        })?;
        let known = plugins::Known::read(data.path())?;
        let warm = known.start_warming(&host)?;
        let (pki, store) = tokio::try_join!(
            open_pki(&data, options, address),
            ClusterStore::open(options, &data)
        )?;
        let admin = pki.client("admin", "kubernetes-admin", &["system:masters"])?;
        write_kubeconfig(&data, &server, &pki, &admin)?;
        screen.done("store and certificates");

        let proxied = Arc::new(Proxied::default());
        let mut config = capstan_api::Config::new(listener, pki.server_config()?);
        config.service_cidr = options
            .service_cluster_ip_range
            .to_string()
            .parse()
            .map_err(anyhow::Error::msg)?;
        config.service_account_key = Some(pki.service_account_key().to_vec());
        config.kubelet = Some(Arc::clone(&proxied) as _);
        let (front_proxy, front_proxy_ca) = pki.front_proxy()?;
        config.front_proxy = Some(capstan_api::FrontProxy {
            certificate: front_proxy.certificate,
            key: front_proxy.key,
            ca: front_proxy_ca,
            client_ca: pki.ca().to_owned(),
        });
        api_server.apply(&mut config);
        let decisions = capstan_scheduler::Decisions::default();
        let told = decisions.clone();
        config.explanations = Some(Arc::new(move |namespace, name| told.explain(namespace, name)));
        warm.wait().await?;
        let api = ApiServer::start(store.shared(), host.admission_seats(), config).await?;
        let identities = Identities::of(&api);
        screen.done("API server");

        let (own, installer) = (identities.account("plugin-host"), identities.installer());
        let plugins = plugins::Running::start(host, own, installer, known, data.path()).await?;
        api.serve();
        screen.done("plugins");

        let shared = Shared::start(&identities.account("shared-informers"));
        let nodes = shared.nodes.clone();
        let seats = plugins.host().scheduler_seats();
        let user = identities.user("system:kube-scheduler");
        // The same after a restart, which then need not wait for its own lease to run out.
        let identity = format!("{}_{address}", Kubelets::name(0));
        let leadership = Election::new("kube-scheduler", identity).stand(user.clone());
        let scheduler_options = capstan_scheduler::Options {
            pods: shared.pods.clone(),
            nodes: shared.nodes.clone(),
            namespaces: shared.namespaces.clone(),
            seats,
            leads: Some(leadership.leads()),
            decisions,
        };
        let scheduler = Scheduler::start(user, scheduler_options).await?;
        plugins.host().set_cluster(scheduler.cluster());
        let controllers = Controllers::start(
            identities.user("system:kube-controller-manager"),
            capstan_controllers::Options {
                shared: Some(shared.clone()),
                accounts: Some(identities.accounts()),
                root_ca_pem: pki.ca().to_owned(),
                authority: Some(Authority::new(pki.ca(), pki.ca_key())),
                ..Default::default()
            },
            plugins.host().remedy_seats(),
        );
        screen.done("scheduler and controllers");

        let kubelets = Kubelets::start(options, &data, &identities, plugins.host(), &proxied).await?;
        let proxy = Proxy::start(
            identities.user("system:kube-proxy"),
            &shared,
            ProxyOptions::new(Kubelets::name(0)),
        );
        let dns = Dns::start(&shared, dns_options(options)).await?;
        await_nodes(&nodes, options.nodes).await?;
        screen.done(if options.nodes == 1 { "node" } else { "nodes" });
        Ok(Self {
            server,
            store,
            api,
            plugins,
            scheduler,
            leadership,
            controllers,
            kubelets,
            proxy,
            dns,
            data,
        })
    }

    /// Stops the parts from the top down, so that each can still write what it has to.
    async fn stop(self) {
        self.proxy.shutdown().await;
        drop(self.dns);
        self.kubelets.shutdown().await;
        self.controllers.shutdown().await;
        self.scheduler.shutdown().await;
        drop(self.leadership);
        self.plugins.shutdown().await;
        self.api.shutdown().await;
        self.store.shutdown().await;
        drop(self.data);
    }
}

/// The tenth address of the service network, as kubeadm gives it to the cluster's DNS; port 53 where that is
/// allowed.
fn dns_options(options: &Up) -> DnsOptions {
    let address = options.service_cluster_ip_range.hosts().nth(9);
    let addresses = address
        .into_iter()
        .flat_map(|address| [53, 10_053].map(|port| (address, port).into()));
    DnsOptions {
        addresses: addresses.collect(),
    }
}

async fn open_pki(data: &DataDir, options: &Up, address: std::net::SocketAddr) -> anyhow::Result<Pki> {
    let folder = data.folder("pki")?;
    let first_service = options.service_cluster_ip_range.hosts().next();
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
    ]
    .map(str::to_owned)
    .into();
    names.extend(first_service.map(|address| address.to_string()));
    if !address.ip().is_unspecified() && !address.ip().is_loopback() {
        names.push(address.ip().to_string());
    }
    let opened = tokio::task::spawn_blocking(move || Pki::open(&folder, &names)).await;
    Ok(opened.context("certificates")??)
}

fn write_kubeconfig(
    data: &DataDir,
    server: &str,
    pki: &Pki,
    admin: &capstan_cluster::Identity,
) -> anyhow::Result<()> {
    let text = capstan_cluster::kubeconfig(server, pki.ca(), "kubernetes-admin", admin)?;
    write_private(&data.path().join("kubeconfig"), &text)
}

/// Writes a file that its owner alone may read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut open = std::fs::OpenOptions::new();
    let file = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
}

async fn await_nodes(nodes: &Informer<Node>, count: u8) -> anyhow::Result<()> {
    let ready = |node: &Node| {
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let mut changes = nodes.changes();
    let all = async {
        loop {
            if nodes.list().iter().filter(|node| ready(node)).count() >= usize::from(count) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(NODES_BOUND, all).await.is_err() {
        bail!(
            "the nodes were not ready within {} s; --log info tells more",
            NODES_BOUND.as_secs()
        );
    }
    Ok(())
}
