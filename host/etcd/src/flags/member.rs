//! From the flags to a member's configuration.

use std::time::Duration;

use capstan_store::{AutoCompaction, ClusterOptions, LocalStore, Options};

use super::arguments::{Arguments, CompactionMode};
use super::{FlagError, cluster, duration, founder};
use crate::backup::Founder;
use crate::face::FaceOptions;
use crate::link::Address;
use crate::process::{ClientListeners, Config, PeerListeners};
use crate::tls::{ClientTls, ServerTls, self_signed};

const CLIENT_URL: &str = "http://localhost:2379";
const PEER_LISTEN_URL: &str = "http://localhost:2380";
/// etcd's bounds of the election timeout.
const ELECTION_MS_MAX: u64 = 50_000;
const ELECTION_HEARTBEATS_MIN: u64 = 5;

impl Arguments {
    /// The member that the flags describe.
    ///
    /// # Errors
    /// When they do not go together or with what the data folder was restored for, or the DNS does not answer.
    pub async fn config(mut self) -> Result<Config, FlagError> {
        // Before a name is taken from there, which would name another folder.
        let dir = self.data_dir();
        if let Some(founder) = Founder::read(&dir)? {
            founder::settle(&mut self, founder, LocalStore::is_started(&dir)?)?;
        }
        self.check_times()?;
        if self.auth_token != "simple" {
            return Err(FlagError::bad(format!(
                "--auth-token={}: only \"simple\" is supported",
                self.auth_token
            )));
        }
        let clients = self.client_listeners()?;
        let peers = self.peer_listeners()?;
        let mut store = Options::new(dir);
        store.cluster = self.cluster_options().await?;
        store.quota_bytes = self.quota_backend_bytes;
        store.auto_compaction = self.auto_compaction()?;
        store.request_bytes_max = self.max_request_bytes;
        store.txn_ops_max = self.max_txn_ops;
        store.log_engine = self.log_engine;
        store.bcrypt_cost = self.bcrypt_cost;
        store.token_ttl = Duration::from_secs(self.auth_token_ttl);
        Ok(Config {
            store,
            clients,
            peers,
            face: FaceOptions {
                request_bytes_max: self.max_request_bytes,
                txn_ops_max: self.max_txn_ops,
                progress_interval: self.progress_interval()?,
                election: Duration::from_millis(self.election_timeout),
                client_cert_auth: self.tls.client_cert_auth,
            },
        })
    }

    /// Where the data is.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| format!("{}.etcd", self.name).into())
    }

    fn check_times(&self) -> Result<(), FlagError> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat == 0 {
            return Err(FlagError::bad(format!(
                "--heartbeat-interval must be >0 (set to {heartbeat}ms)"
            )));
        }
        if ELECTION_HEARTBEATS_MIN * heartbeat > election {
            return Err(FlagError::bad(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat}ms]"
            )));
        }
        if election > ELECTION_MS_MAX {
            return Err(FlagError::bad(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
            )));
        }
        Ok(())
    }

    async fn cluster_options(&self) -> Result<ClusterOptions, FlagError> {
        let peer_urls = cluster::peer_urls(self)?;
        Ok(ClusterOptions {
            name: self.name.clone(),
            token: self.initial_cluster_token.clone(),
            initial: cluster::initial(self, &peer_urls).await?,
            peer_urls,
            client_urls: self.advertised_client_urls()?,
            heartbeat: Duration::from_millis(self.heartbeat_interval),
            election: Duration::from_millis(self.election_timeout),
            snapshot_count: self.snapshot_count,
            transport: None,
            force_new_cluster: self.force_new_cluster,
        })
    }

    fn advertised_client_urls(&self) -> Result<Vec<String>, FlagError> {
        match (&self.advertise_client_urls[..], &self.listen_client_urls[..]) {
            ([], []) => Ok(vec![CLIENT_URL.to_owned()]),
            ([], _) => Err(FlagError::bad(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            )),
            (urls, _) => {
                for url in urls {
                    Address::parse(url).map_err(|error| FlagError::bad(error.to_string()))?;
                }
                Ok(urls.to_vec())
            }
        }
    }

    fn auto_compaction(&self) -> Result<AutoCompaction, FlagError> {
        let text = &self.auto_compaction_retention;
        let wrong = |_| FlagError::bad(format!("error parsing auto-compaction-retention: \"{text}\""));
        match self.auto_compaction_mode {
            CompactionMode::Revision => match text.parse::<i64>().map_err(|_| wrong(()))? {
                0 => Ok(AutoCompaction::Off),
                revisions if revisions > 0 => Ok(AutoCompaction::Revision(revisions)),
                _ => Err(wrong(())),
            },
            CompactionMode::Periodic => {
                let hours = text
                    .parse::<u32>()
                    .ok()
                    .map(|hours| Duration::from_hours(hours.into()));
                let retention = hours.or_else(|| duration::parse(text)).ok_or_else(|| wrong(()))?;
                if retention.is_zero() {
                    return Ok(AutoCompaction::Off);
                }
                Ok(AutoCompaction::Periodic(retention))
            }
        }
    }

    fn progress_interval(&self) -> Result<Duration, FlagError> {
        let text = &self.watch_progress_notify_interval;
        let read = duration::parse(text).filter(|interval| !interval.is_zero());
        read.ok_or_else(|| {
            FlagError::bad(format!(
                "invalid duration \"{text}\" for --watch-progress-notify-interval"
            ))
        })
    }

    fn client_listeners(&self) -> Result<ClientListeners, FlagError> {
        let urls = or_default(&self.listen_client_urls, CLIENT_URL)?;
        let metrics_urls = self.listen_metrics_urls.clone();
        check_bindable(&metrics_urls)?;
        let tls = &self.tls;
        let given = pair(
            "CertFile",
            tls.cert_file.as_ref(),
            "KeyFile",
            tls.key_file.as_ref(),
        )?;
        if tls.client_cert_auth && tls.trusted_ca_file.is_none() {
            return Err(FlagError::bad("--client-cert-auth needs --trusted-ca-file"));
        }
        let made = match given {
            None if tls.auto_tls => Some(self.make_certificate("client", &urls)?),
            given => given,
        };
        Ok(ClientListeners {
            urls,
            metrics_urls,
            tls: made.map(|(cert, key)| ServerTls {
                cert,
                key,
                client_ca: tls.trusted_ca_file.clone(),
            }),
        })
    }

    fn peer_listeners(&self) -> Result<PeerListeners, FlagError> {
        let urls = or_default(&self.listen_peer_urls, PEER_LISTEN_URL)?;
        let tls = &self.tls;
        let given = pair(
            "PeerCertFile",
            tls.peer_cert_file.as_ref(),
            "PeerKeyFile",
            tls.peer_key_file.as_ref(),
        )?;
        if tls.peer_client_cert_auth && tls.peer_trusted_ca_file.is_none() {
            return Err(FlagError::bad(
                "--peer-client-cert-auth needs --peer-trusted-ca-file",
            ));
        }
        let is_made = given.is_none() && tls.peer_auto_tls;
        let files = if is_made {
            Some(self.make_certificate("peer", &urls)?)
        } else {
            given
        };
        let (cert, key) = files.clone().unzip();
        Ok(PeerListeners {
            urls,
            client: ClientTls {
                ca: tls.peer_trusted_ca_file.clone(),
                cert,
                key,
                server_name: None,
                trust_any: is_made,
            },
            tls: files.map(|(cert, key)| ServerTls {
                cert,
                key,
                client_ca: tls.peer_trusted_ca_file.clone(),
            }),
            allowed_common_name: tls.peer_cert_allowed_cn.clone(),
        })
    }

    fn make_certificate(&self, whose: &str, urls: &[String]) -> Result<Files, FlagError> {
        let folder = self.data_dir().join("fixtures").join(whose);
        let hosts = urls.iter().filter_map(|url| Address::parse(url).ok());
        let hosts: Vec<String> = hosts.map(|address| address.host().to_owned()).collect();
        self_signed(&folder, &hosts).map_err(|error| FlagError::bad(error.to_string()))
    }
}

type Files = (std::path::PathBuf, std::path::PathBuf);

/// A certificate and its key, both or neither.
fn pair(
    cert_name: &str,
    cert: Option<&std::path::PathBuf>,
    key_name: &str,
    key: Option<&std::path::PathBuf>,
) -> Result<Option<Files>, FlagError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        (None, None) => Ok(None),
        (cert, key) => {
            let shown = |path: Option<&std::path::PathBuf>| {
                path.map_or_else(String::new, |path| path.display().to_string())
            };
            Err(FlagError::bad(format!(
                "{key_name} and {cert_name} must both be present[key: {}, cert: {}]",
                shown(key),
                shown(cert)
            )))
        }
    }
}

fn or_default(urls: &[String], default: &str) -> Result<Vec<String>, FlagError> {
    if urls.is_empty() {
        return Ok(vec![default.to_owned()]);
    }
    check_bindable(urls)?;
    Ok(urls.to_vec())
}

/// A URL to listen on names an address, not a host that may have many.
fn check_bindable(urls: &[String]) -> Result<(), FlagError> {
    for url in urls {
        let address = Address::parse(url).map_err(|error| FlagError::bad(error.to_string()))?;
        let is_address = address.host() == "localhost" || address.host().parse::<std::net::IpAddr>().is_ok();
        if !is_address {
            return Err(FlagError::bad(format!("expected IP in URL for binding ({url})")));
        }
    }
    Ok(())
}
