//! The compatibility suite: every behaviour, kind and public conformance test of the reference that an API server by
//! itself can show, row by row, on a real cluster. `fixtures/compat/*.tsv` name for each row what shows it: a check
//! here, the life of a kind, or a test elsewhere in this repository. `docs/compatibility.md` is made of the outcome.
//! Called by `tests/compat.rs`. A row without anything that shows it is said not to hold.

mod api;
mod custom;
mod described;
mod guarded;
mod kinds;
mod page;
mod reading;
mod writing;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use serde_json::json;

pub use api::{Answer, Api, Read};
pub use page::{Page, page};

/// Where a check works: an administrator's client, and a namespace of its own.
pub struct Ground {
    api: Api,
    namespace: String,
    /// A certificate signing request, in base64.
    request: String,
}

impl Ground {
    /// A collection of the core group in this namespace.
    fn collection(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// A collection of a group and version in this namespace.
    fn of(&self, version: &str, plural: &str) -> String {
        format!("/apis/{version}/namespaces/{}/{plural}", self.namespace)
    }
}

type Checking<'g> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'g>>;
type Check = for<'g> fn(&'g Ground) -> Checking<'g>;

macro_rules! checks {
    ($($module:ident: $($name:ident)*;)*) => {
        const CHECKS: &[(&str, Check)] = &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            |ground| Box::pin($module::$name(ground)),
        ),)*)*];
    };
}

checks! {
    described: legacy_discovery aggregated_discovery openapi_v3 openapi_v2 content_types protobuf server_version tables
        no_tables_of_reviews metadata_only;
    reading: watch_tells_changes watch_follows_selectors watch_lists_first revisions_are_kept lists_come_in_pages selectors;
    writing: json_and_merge_patch strategic_patch server_side_apply dry_run field_validation concurrency finalizers
        deletion_propagates delete_collection generated_names status scale eviction binding maps_and_secrets pods_are_judged;
    custom: definitions schemas extras published_schemas strict_fields validating_policies mutating_policies;
    guarded: roles no_escalation reviews account_tokens strangers certificates quotas limits namespaces_end leases health
        metrics audit_id fairness_headers service_of_the_api;
}

/// What came of each check and each kind's life, by its name.
pub type Outcomes = BTreeMap<String, Result<(), String>>;

/// Runs every check, each in a namespace of its own, and the life of every kind.
///
/// # Errors
/// When the cluster cannot be asked at all.
pub async fn run(kubeconfig: &Path) -> anyhow::Result<Outcomes> {
    let api = Api::open(kubeconfig).await?;
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(Vec::new())?
        .serialize_request(&key)?
        .pem()?;
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
    let mut outcomes = Outcomes::new();
    let mut note = |name: String, came: anyhow::Result<()>| {
        let came = came.map_err(|error| format!("{error:#}"));
        if let Err(why) = &came {
            println!("{name}: {why}");
        }
        outcomes.insert(name, came);
    };
    for (name, check) in CHECKS {
        let ground = Ground {
            api: api.clone(),
            namespace: format!("compat-{}", name.replace("::", "-").replace('_', "-")),
            request: request.clone(),
        };
        let namespace = json!({ "metadata": { "name": ground.namespace } });
        let made = api.post("/api/v1/namespaces", &namespace).await?;
        if made.status != 409 {
            made.expect(201)?;
        }
        note((*name).to_owned(), check(&ground).await);
    }
    for kind in kinds::all() {
        note(kind.name(), kind.check(&api, "default", &request).await);
    }
    Ok(outcomes)
}
