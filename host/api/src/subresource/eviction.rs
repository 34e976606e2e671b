//! Eviction: a deletion that disruption budgets can hold back.

use capstan_kinds::resource::find;
use capstan_kinds::selector::LabelSelector;
use capstan_kinds::status::{Status, StatusCause};
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use crate::admission::Other;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::write::{self, DeleteOptions, Update};

/// How soon a client that was held back should ask again.
const RETRY_SECONDS: u32 = 10;

pub(super) async fn evict(server: &Server, call: &mut Call) -> Answer {
    let eviction = write::decode(crate::negotiate::content_type(&call.headers), &call.body)?.object;
    let other = Other {
        operation: Operation::Create,
        subresource: "eviction".into(),
        kind: ("policy".into(), "v1".into(), "Eviction".into()),
    };
    let chain = server.admission.pin();
    let eviction = chain.pass(server, call, &other, (eviction, None)).await?;
    let options = eviction["deleteOptions"].clone();
    let options = if options.is_null() { json!({}) } else { options };
    let options: DeleteOptions = serde_json::from_value(options)
        .map_err(|error| Status::bad_request(format!("deleteOptions: {error}")))?;
    server.registry.newest().await?;
    let Some(entry) = server
        .registry
        .cached(&call.resource, call.namespace(), call.name())
    else {
        return Err(Status::not_found(&call.resource, call.name()).into());
    };
    let pod = entry.decode();
    let over = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "Pending")
    );
    if !over && !pod["metadata"]["deletionTimestamp"].is_string() {
        spend_budget(server, call, &pod, options.dry_run()).await?;
    }
    let name = call.name().to_owned();
    write::delete_object(server, call, &name, &options).await?;
    let mut document = Status::success().to_value();
    document["code"] = json!(201);
    Ok(answer::json(201, &document))
}

/// Takes one allowed disruption from the pod's budget, if it has one.
async fn spend_budget(server: &Server, call: &mut Call, pod: &Value, dry_run: bool) -> Result<(), Refusal> {
    let Some(budgets) = find("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    let (_, all) = server
        .registry
        .cache(&budgets)
        .list(&format!("{}/", call.namespace()));
    let selects = |budget: &Value| {
        LabelSelector::from_value(&budget["spec"]["selector"]).is_ok_and(|one| one.matches_object(pod))
    };
    let mut names = all
        .iter()
        .filter(|(_, e)| selects(&e.decode()))
        .map(|(_, e)| e.index.name.to_string());
    let Some(name) = names.next() else { return Ok(()) };
    if names.next().is_some() {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::internal(message).into());
    }
    drop(names);
    let (pods, pod_name) = (call.resource.clone(), call.target.name.clone());
    let body = std::mem::take(&mut call.body);
    call.resource = budgets;
    call.target.name = name.clone();
    let update = Update {
        subresource: "status",
        keep: false,
        track: write::Track::Nothing,
        ..Update::default()
    };
    let spent = write::write_update(server, call, update, |budget| {
        let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            return Err(held_back(&name, budget));
        }
        let mut new = budget.clone();
        new["status"]["disruptionsAllowed"] = json!(if dry_run { allowed } else { allowed - 1 });
        if !dry_run {
            new["status"]["disruptedPods"][&pod_name] = json!(crate::time::now());
        }
        Ok(new)
    })
    .await;
    call.resource = pods;
    call.target.name = pod_name;
    call.body = body;
    spent.map(drop)
}

fn held_back(name: &str, budget: &Value) -> Refusal {
    let needed = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
    let healthy = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause {
        reason: "DisruptionBudget".into(),
        message: format!(
            "The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        ),
        field: String::new(),
    };
    Status::too_many_requests(message, RETRY_SECONDS)
        .with_causes(vec![cause])
        .into()
}
