//! The API server's options, by kube-apiserver's flags: authentication, admission, audit, encryption, limits.
//!
//! Files are read before anything starts, so that a mistake in one shows at once and with its flag.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use capstan_api::{
    Anonymous, AuditOptions, AuditPolicy, AuthenticationConfiguration, Config, Encryption, Limits,
    LogOptions, OpenIdProvider, WebhookOptions, WebhookServer,
};
use clap::Args;

/// See the module.
#[derive(Args)]
#[command(next_help_heading = "API server")]
pub(crate) struct ApiServerFlags {
    /// Which requests are audited, and how much is told of them
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,

    /// Where audit events are written, one JSON document a line; - is standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,

    /// Days that old audit log files are kept; 0 is for ever
    #[arg(long, default_value_t = 366, value_name = "DAYS")]
    audit_log_maxage: u32,

    /// Old audit log files that are kept; 0 is all
    #[arg(long, default_value_t = 100, value_name = "FILES")]
    audit_log_maxbackup: usize,

    /// Megabytes of an audit log file before it is rotated; 0 is never
    #[arg(long, default_value_t = 100, value_name = "MB")]
    audit_log_maxsize: u64,

    /// Compress old audit log files
    #[arg(long)]
    audit_log_compress: bool,

    /// A kubeconfig whose server is sent audit events
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_webhook_config_file: Option<PathBuf>,

    /// Audit events that wait to be sent; more are dropped
    #[arg(long, default_value_t = 10_000, value_name = "EVENTS")]
    audit_webhook_batch_buffer_size: usize,

    /// Audit events sent at once
    #[arg(long, default_value_t = 400, value_name = "EVENTS")]
    audit_webhook_batch_max_size: usize,

    /// How long a batch of audit events waits to be full
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    audit_webhook_batch_max_wait: Duration,

    /// The pause after a batch of audit events could not be sent
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    audit_webhook_initial_backoff: Duration,

    /// Built-in admission that is switched off, by name
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    disable_admission_plugins: Vec<String>,

    /// Take requests without credentials, as of nobody
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL")]
    anonymous_auth: Option<bool>,

    /// Whose tokens are taken, as an AuthenticationConfiguration
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,

    /// An OpenID Connect provider whose tokens are taken
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,

    /// Whom the provider's tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,

    /// Who signs the provider's certificate; the machine's own authorities without it
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    oidc_ca_file: Option<PathBuf>,

    /// Claim that is the user's name
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    oidc_username_claim: String,

    /// Put before the name; - is nothing, without it the issuer is
    #[arg(long, value_name = "TEXT")]
    oidc_username_prefix: Option<String>,

    /// Claim that is the user's groups
    #[arg(long, value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,

    /// Put before each group
    #[arg(long, default_value = "", value_name = "TEXT")]
    oidc_groups_prefix: String,

    /// A claim that tokens must have
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = claim)]
    oidc_required_claim: Vec<(String, String)>,

    /// Algorithms by which tokens may be signed
    #[arg(long, value_delimiter = ',', default_value = "RS256", value_name = "NAME,..")]
    oidc_signing_algs: Vec<String>,

    /// How objects are encrypted in the store
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,

    /// Share the server's seats out by flow; without it, the two limits are plain
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    enable_priority_and_fairness: bool,

    /// Reading requests answered at once
    #[arg(long, default_value_t = 400, value_name = "REQUESTS")]
    max_requests_inflight: u32,

    /// Writing requests answered at once
    #[arg(long, default_value_t = 200, value_name = "REQUESTS")]
    max_mutating_requests_inflight: u32,

    /// How long a request may take, unless it streams
    #[arg(long, default_value = "1m0s", value_name = "TIME", value_parser = duration)]
    request_timeout: Duration,

    /// Seconds that a watch lasts at least, unless it says how long
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    min_request_timeout: u64,

    /// How long the server serves on, not ready, when it is asked to stop
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    shutdown_delay_duration: Duration,
}

/// What the flags say, with their files read.
pub(crate) struct ApiServerOptions {
    audit: Option<AuditOptions>,
    encryption: Option<Encryption>,
    limits: Limits,
    authentication: AuthenticationConfiguration,
    disable_admission_plugins: Vec<String>,
}

impl ApiServerFlags {
    pub(crate) fn read(&self) -> anyhow::Result<ApiServerOptions> {
        let encryption = self.encryption_provider_config.as_deref();
        let encryption = encryption
            .map(|path| {
                Encryption::read(path).map_err(|error| anyhow!("--encryption-provider-config: {error}"))
            })
            .transpose()?;
        if self.enable_priority_and_fairness
            && self.max_requests_inflight + self.max_mutating_requests_inflight == 0
        {
            bail!(
                "--max-requests-inflight and --max-mutating-requests-inflight cannot both be 0 with priority and fairness"
            );
        }
        Ok(ApiServerOptions {
            audit: self.audit()?,
            encryption,
            authentication: self.authentication()?,
            disable_admission_plugins: self.disable_admission_plugins.clone(),
            limits: Limits {
                fairness: self.enable_priority_and_fairness,
                max_requests_inflight: self.max_requests_inflight,
                max_mutating_requests_inflight: self.max_mutating_requests_inflight,
                request_timeout: self.request_timeout,
                min_request_timeout: Duration::from_secs(self.min_request_timeout),
                shutdown_delay: self.shutdown_delay_duration,
            },
        })
    }

    fn authentication(&self) -> anyhow::Result<AuthenticationConfiguration> {
        let read = |flag: &str, path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("{flag}: {}", path.display()))
        };
        let mut configuration = match &self.authentication_config {
            Some(path) => AuthenticationConfiguration::parse(&read("--authentication-config", path)?)
                .map_err(|error| anyhow!("--authentication-config: {}: {error}", path.display()))?,
            None => AuthenticationConfiguration::default(),
        };
        if let (Some(issuer), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) {
            if !issuer.starts_with("https://") {
                bail!("--oidc-issuer-url: {issuer:?} is no https URL");
            }
            let ca = self.oidc_ca_file.as_deref();
            // A dash says that there is to be no prefix.
            let prefix = self.oidc_username_prefix.as_deref();
            let prefix = prefix.map(|prefix| if prefix == "-" { "" } else { prefix });
            configuration.providers.push(OpenIdProvider {
                username_claim: self.oidc_username_claim.clone(),
                username_prefix: prefix.map(str::to_owned),
                groups_claim: self.oidc_groups_claim.clone(),
                groups_prefix: self.oidc_groups_prefix.clone(),
                required_claims: self.oidc_required_claim.clone(),
                signing_algorithms: self.oidc_signing_algs.clone(),
                ca_pem: ca.map(|path| read("--oidc-ca-file", path)).transpose()?,
                ..OpenIdProvider::new(issuer, client)
            });
        }
        if let Some(taken) = self.anonymous_auth {
            if configuration.anonymous.is_some() {
                bail!(
                    "--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
                );
            }
            configuration.anonymous = Some(if taken {
                Anonymous::Always
            } else {
                Anonymous::Never
            });
        }
        Ok(configuration)
    }

    fn audit(&self) -> anyhow::Result<Option<AuditOptions>> {
        let Some(path) = &self.audit_policy_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--audit-policy-file: {}", path.display()))?;
        let policy = AuditPolicy::parse(&text)
            .map_err(|error| anyhow!("--audit-policy-file: {}: {error}", path.display()))?;
        let log = self.audit_log_path.as_ref().map(|path| LogOptions {
            path: Some(path.clone()).filter(|path| path != Path::new("-")),
            max_size_bytes: self.audit_log_maxsize << 20,
            max_age_days: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            compress: self.audit_log_compress,
        });
        let webhook = self.audit_webhook_config_file.as_deref().map(|path| {
            let server =
                WebhookServer::read(path).map_err(|error| anyhow!("--audit-webhook-config-file: {error}"))?;
            anyhow::Ok(WebhookOptions {
                buffer_events_max: self.audit_webhook_batch_buffer_size,
                batch_events_max: self.audit_webhook_batch_max_size,
                batch_wait_max: self.audit_webhook_batch_max_wait,
                initial_backoff: self.audit_webhook_initial_backoff,
                ..WebhookOptions::new(server)
            })
        });
        Ok(Some(AuditOptions {
            policy,
            log,
            webhook: webhook.transpose()?,
        }))
    }
}

impl ApiServerOptions {
    pub(crate) fn apply(self, config: &mut Config) {
        config.audit = self.audit;
        config.encryption = self.encryption;
        config.limits = self.limits;
        config.openid_providers = self.authentication.providers;
        config.anonymous = self.authentication.anonymous.unwrap_or(Anonymous::Always);
        config.disable_admission_plugins = self.disable_admission_plugins;
    }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as claim=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<Duration, String> {
    capstan_api::go_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}
