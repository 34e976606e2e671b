//! ResourceQuota: the last entry of the chain charges what the write uses to the namespace's quotas.
//!
//! A charge is one conditional write of the quota's `status.used`, checked against `status.hard`, so that
//! concurrent writers, of other API servers too, never exceed it together. What was charged for a write that
//! then fails is given back. Recalculation, after deletions, is the controller's.

use std::hash::{DefaultHasher, Hash, Hasher};

use capstan_kinds::pod_resources::{Amounts, add, amounts};
use capstan_kinds::quota::Counted;
use capstan_kinds::resource::{Resource, find};
use capstan_kinds::status::{OBJECT_MODIFIED, Status};
use capstan_points::admission::Operation;
use capstan_store::KeyValue;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Subject, builtin};
use crate::call::Call;
use crate::refusal::{self, Refusal};
use crate::registry::{WriteError, canonical, keys};
use crate::server::Server;

/// Times that a charge is tried against other writers of the quota.
const ATTEMPTS_MAX: usize = 10;
/// Writers of one namespace wait for one another; namespaces share so many places.
const PLACES: usize = 64;

/// What was taken from a quota.
#[derive(Debug)]
pub(crate) struct Charge {
    quota: String,
    amounts: Amounts,
}

/// The places at which writers of a namespace wait.
pub(crate) struct Places([Mutex<()>; PLACES]);

impl Default for Places {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Places {
    fn of(&self, namespace: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        &self.0[usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default()]
    }
}

/// A quota as the store has it.
struct Stored {
    name: String,
    kv: KeyValue,
    object: Value,
}

/// Charges the write, or refuses it.
pub(super) async fn charge(
    server: &Server,
    call: &mut Call,
    subject: &Subject,
    object: &Value,
) -> Result<(), Refusal> {
    let charged = matches!(subject.operation, Operation::Create | Operation::Update);
    let resource = call.resource.clone();
    if !charged || !resource.namespaced {
        return Ok(());
    }
    let Some(counted) = Counted::of(&resource.group, &resource.plural) else {
        return Ok(());
    };
    let old = subject.old.as_deref();
    let Some(quotas) = find("", "v1", "resourcequotas") else {
        return Ok(());
    };
    let namespace = call.namespace().to_owned();
    let (_, known) = server.registry.cache(&quotas).list(&format!("{namespace}/"));
    if known.is_empty() || !counted.is_charged(subject.subresource, object, old) {
        return Ok(());
    }
    let _turn = server.quota_places.of(&namespace).lock().await;
    let mut names: Vec<String> = known
        .iter()
        .map(|(_, entry)| entry.index.name.to_string())
        .collect();
    for _ in 0..ATTEMPTS_MAX {
        let stored = read(server, &quotas, &namespace, &names).await?;
        let charges =
            plan(counted, subject, object, &stored).map_err(|why| builtin::forbidden(call, object, &why))?;
        if subject.dry_run {
            return Ok(());
        }
        names.clear();
        for (quota, amounts) in charges {
            match write(server, &quotas, &namespace, quota, |used| add(used, &amounts)).await? {
                true => call.charges.push(Charge {
                    quota: quota.name.clone(),
                    amounts,
                }),
                false => names.push(quota.name.clone()),
            }
        }
        if names.is_empty() {
            return Ok(());
        }
    }
    let name = names.first().map(String::as_str).unwrap_or_default();
    Err(Status::conflict(&quotas, name, OBJECT_MODIFIED).into())
}

/// Gives back what was charged for a write that did not happen. What cannot be given back now, the
/// controller's next recalculation does.
pub(crate) async fn refund(server: &Server, call: &mut Call) {
    let charges = std::mem::take(&mut call.charges);
    let Some(quotas) = find("", "v1", "resourcequotas").filter(|_| !charges.is_empty()) else {
        return;
    };
    let namespace = call.namespace().to_owned();
    let _turn = server.quota_places.of(&namespace).lock().await;
    for charge in charges {
        for _ in 0..ATTEMPTS_MAX {
            let names = std::slice::from_ref(&charge.quota);
            let Ok(stored) = read(server, &quotas, &namespace, names).await else {
                return;
            };
            let Some(quota) = stored.first() else { break };
            let back = |used: &mut Amounts| {
                for (name, amount) in &charge.amounts {
                    if let Some(used) = used.get_mut(name) {
                        used.sub(amount);
                    }
                }
            };
            match write(server, &quotas, &namespace, quota, back).await {
                Ok(false) => {}
                Ok(true) | Err(_) => break,
            }
        }
    }
}

async fn read(
    server: &Server,
    quotas: &Resource,
    namespace: &str,
    names: &[String],
) -> Result<Vec<Stored>, Refusal> {
    let mut all = Vec::new();
    for name in names {
        let key = keys::of(quotas, namespace, name);
        let found = server.registry.current(&key).await.map_err(WriteError::Store);
        if let Some(kv) = found.map_err(|error| refusal::of_write(error, quotas, name))? {
            let object = serde_json::from_slice(&kv.value).map_err(Status::internal)?;
            all.push(Stored {
                name: name.clone(),
                kv,
                object,
            });
        }
    }
    Ok(all)
}

/// Writes changed usage; false where somebody else wrote meanwhile.
async fn write(
    server: &Server,
    quotas: &Resource,
    namespace: &str,
    quota: &Stored,
    change: impl FnOnce(&mut Amounts),
) -> Result<bool, Refusal> {
    let mut used = amounts(&quota.object["status"]["used"]);
    change(&mut used);
    let mut object = quota.object.clone();
    let shown = used
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())));
    object["status"]["used"] = Value::Object(shown.collect());
    let bytes = canonical(object).ok_or_else(|| Status::internal("a quota lost its form"))?;
    let key = keys::of(quotas, namespace, &quota.name);
    match server
        .registry
        .put(&key, bytes, quota.kv.mod_revision, false)
        .await
    {
        Ok(_) => Ok(true),
        Err(WriteError::Conflict) => Ok(false),
        Err(error) => Err(refusal::of_write(error, quotas, &quota.name)),
    }
}

/// What to charge to which quota, or why the write may not be.
fn plan<'a>(
    counted: Counted<'_>,
    subject: &Subject,
    object: &Value,
    quotas: &'a [Stored],
) -> Result<Vec<(&'a Stored, Amounts)>, String> {
    let now = jiff::Timestamp::now().as_second();
    let usage = counted.usage(object, now);
    let old = subject.old.as_deref();
    let mut charges = Vec::new();
    for quota in quotas {
        let status = &quota.object["status"];
        let (hard, used) = (amounts(&status["hard"]), amounts(&status["used"]));
        let limited: Vec<String> = hard.keys().filter(|name| counted.has(name)).cloned().collect();
        if limited.is_empty() || !counted.in_scope(&quota.object, object) {
            continue;
        }
        if let Some(unstated) = counted.unstated(&limited, object) {
            return Err(format!("failed quota: {}: {unstated}", quota.name));
        }
        if limited.iter().any(|name| !used.contains_key(name)) {
            let names = limited.join(",");
            return Err(format!(
                "status unknown for quota: {}, resources: {names}",
                quota.name
            ));
        }
        let negative: Vec<&str> = usage
            .iter()
            .filter(|(_, amount)| amount.is_negative())
            .map(|(name, _)| name.as_str())
            .collect();
        if !negative.is_empty() {
            return Err(format!(
                "quota usage is negative for resource(s): {}",
                negative.join(",")
            ));
        }
        let before = old
            .filter(|old| counted.in_scope(&quota.object, old))
            .map(|old| counted.usage(old, now));
        let delta = delta(&usage, before.as_ref(), &hard);
        if delta.is_empty() {
            continue;
        }
        if subject.subresource != "status" {
            fits(&quota.name, &delta, &used, &hard)?;
        }
        charges.push((quota, delta));
    }
    Ok(charges)
}

/// What is used more than before, of what is limited.
fn delta(usage: &Amounts, before: Option<&Amounts>, hard: &Amounts) -> Amounts {
    let limited = usage.iter().filter(|(name, _)| hard.contains_key(*name));
    limited
        .filter_map(|(name, amount)| {
            let mut more = *amount;
            if let Some(before) = before.and_then(|before| before.get(name)) {
                more.sub(before);
            }
            (!more.is_zero() && !more.is_negative()).then(|| (name.clone(), more))
        })
        .collect()
}

fn fits(quota: &str, asked: &Amounts, used: &Amounts, hard: &Amounts) -> Result<(), String> {
    let mut sum = used.clone();
    add(&mut sum, asked);
    let exceeded: Vec<&String> = asked
        .keys()
        .filter(|name| matches!((sum.get(*name), hard.get(*name)), (Some(sum), Some(hard)) if sum > hard))
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let parts: Vec<String> = exceeded
            .iter()
            .filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)))
            .collect();
        parts.join(",")
    };
    Err(format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
        show(asked),
        show(used),
        show(hard)
    ))
}
