//! A look through the cluster with policies' eyes: which objects that stand today would be refused if they came now.
//!
//! Objects are listed in pages as a client of the API and judged one at a time, as if the cluster's own machinery
//! created them; nothing is counted, kept or written. Bounded in objects and findings; what was left out is told.
//! Called by the background scan and by `capstan plugin dry-run`.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_kinds::plugin::Rule;
use capstan_points::Seat;
use capstan_points::admission::{Denial, Operation, Policy, Review, Verdict};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::discovery::{Scope, verbs};
use kube::{Api, Client, Discovery};
use serde_json::Value;

/// Objects of one page.
const PAGE_MAX: u32 = 500;
/// Objects of one survey.
const OBJECTS_MAX: usize = 50_000;
/// Findings that are kept, of all policies.
const FINDINGS_MAX: usize = 5_000;
/// Faults that are kept.
const FAULTS_MAX: usize = 20;

/// An object that a policy would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Finding {
    pub plugin: String,
    pub api_version: String,
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub message: String,
    /// The field at fault, where the policy names one.
    pub field: Option<String>,
}

/// What a look through the cluster found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Objects that some policy judged.
    pub judged: usize,
    /// Objects that no policy would refuse, by namespace.
    pub passed: BTreeMap<String, usize>,
    /// At most 5,000.
    pub findings: Vec<Finding>,
    /// All that were found, kept or not.
    pub refused: usize,
    /// Why objects could not be judged; at most 20.
    pub faults: Vec<String>,
    /// Whether the cluster has more objects than were looked at.
    pub incomplete: bool,
}

impl Finding {
    /// Kind, namespace and name.
    pub fn place(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{} {}", self.kind, self.name),
            namespace => format!("{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl Survey {
    /// Looks through all kinds that the rules name.
    ///
    /// # Errors
    /// Where the cluster does not say what it serves or has.
    pub async fn of(client: &Client, seats: &[Seat<dyn Policy>], rules: &[Rule]) -> kube::Result<Self> {
        let mut survey = Self::default();
        let discovery = Discovery::new(client.clone()).run().await?;
        let labels = namespace_labels(client).await?;
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                if !capabilities.supports_operation(verbs::LIST) || !is_named(rules, &resource) {
                    continue;
                }
                let is_namespaced = capabilities.scope == Scope::Namespaced;
                survey
                    .look_at(client, seats, (&resource, is_namespaced), &labels)
                    .await?;
            }
        }
        Ok(survey)
    }

    /// One line for a human.
    pub fn summary(&self) -> String {
        let (judged, refused) = (self.judged, self.refused);
        let mut text = format!("{refused} of {judged} objects would be refused");
        if self.findings.len() < refused {
            text += &format!("; the first {} are told", self.findings.len());
        }
        if self.incomplete {
            text += &format!("; the cluster has more than the {OBJECTS_MAX} that were looked at");
        }
        text
    }

    async fn look_at(
        &mut self,
        client: &Client,
        seats: &[Seat<dyn Policy>],
        (resource, is_namespaced): (&ApiResource, bool),
        labels: &BTreeMap<String, Vec<(String, String)>>,
    ) -> kube::Result<()> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
        let mut page = ListParams::default().limit(PAGE_MAX);
        loop {
            let list = api.list(&page).await?;
            for object in list.items {
                if self.judged >= OBJECTS_MAX {
                    self.incomplete = true;
                    return Ok(());
                }
                let Ok(mut object) = serde_json::to_value(object) else {
                    continue;
                };
                // Lists leave out what each item is.
                object["apiVersion"] = Value::from(resource.api_version.as_str());
                object["kind"] = Value::from(resource.kind.as_str());
                let review = review(resource, is_namespaced, labels, object);
                self.judge(seats, Arc::new(review)).await;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn judge(&mut self, seats: &[Seat<dyn Policy>], review: Arc<Review>) {
        let (mut is_judged, mut is_refused) = (false, false);
        for seat in seats {
            if !seat.policy.validates() || !seat.policy.covers(&review) {
                continue;
            }
            is_judged = true;
            match seat.policy.audit(Arc::clone(&review)).await {
                Ok(Verdict::Allow(_)) => {}
                Ok(Verdict::Deny(denial) | Verdict::Warn(denial) | Verdict::Audit(denial)) => {
                    is_refused = true;
                    if self.findings.len() < FINDINGS_MAX {
                        self.findings.push(finding(&seat.plugin, &review, denial));
                    }
                }
                Err(fault) if self.faults.len() < FAULTS_MAX => {
                    let Review {
                        resource,
                        namespace,
                        name,
                        ..
                    } = &*review;
                    let plugin = &seat.plugin;
                    self.faults
                        .push(format!("{resource} {namespace}/{name} by {plugin}: {fault}"));
                }
                Err(_) => {}
            }
        }
        self.judged += usize::from(is_judged);
        self.refused += usize::from(is_refused);
        if is_judged && !is_refused {
            *self.passed.entry(review.namespace.clone()).or_default() += 1;
        }
    }
}

fn finding(plugin: &str, review: &Review, denial: Denial) -> Finding {
    let object = review.object.as_deref();
    let text = |path: &str| {
        let found = object.and_then(|object| object.pointer(path)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    Finding {
        plugin: plugin.to_owned(),
        api_version: text("/apiVersion"),
        kind: review.kind.clone(),
        namespace: review.namespace.clone(),
        name: review.name.clone(),
        uid: text("/metadata/uid"),
        message: denial.message,
        field: denial.field,
    }
}

/// Whether a rule may be about the kind; the binding itself says more.
fn is_named(rules: &[Rule], resource: &ApiResource) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|entry| entry == "*" || entry == wanted);
    rules.iter().any(|rule| {
        has(&rule.api_groups, &resource.group)
            && has(&rule.operations, "CREATE")
            && rule.resources.iter().any(|entry| {
                let plural = entry.split_once('/').map_or(entry.as_str(), |(plural, _)| plural);
                plural == "*" || plural == resource.plural
            })
    })
}

async fn namespace_labels(client: &Client) -> kube::Result<BTreeMap<String, Vec<(String, String)>>> {
    let gvk = kube::core::GroupVersionKind::gvk("", "v1", "Namespace");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "namespaces");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let list = api.list(&ListParams::default()).await?;
    let labels = list.items.into_iter().map(|namespace| {
        let labels = namespace
            .metadata
            .labels
            .unwrap_or_default()
            .into_iter()
            .collect();
        (namespace.metadata.name.unwrap_or_default(), labels)
    });
    Ok(labels.collect())
}

fn review(
    resource: &ApiResource,
    is_namespaced: bool,
    labels: &BTreeMap<String, Vec<(String, String)>>,
    object: Value,
) -> Review {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    let home = if resource.kind == "Namespace" {
        &name
    } else {
        &namespace
    };
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    Review {
        uid: text("/metadata/uid"),
        operation: Operation::Create,
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.plural.clone(),
        subresource: String::new(),
        kind: resource.kind.clone(),
        namespace_labels: labels.get(home).cloned().unwrap_or_default(),
        namespace: if is_namespaced { namespace } else { String::new() },
        name,
        user: "system:serviceaccount:kube-system:plugin-host".into(),
        groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
        dry_run: true,
        now_ms,
        object: Some(Arc::new(object)),
        old: None,
    }
}
