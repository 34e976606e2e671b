//! The columns of the kinds that run pods, of jobs, and of what bounds them.

use serde_json::{Value, json};

use super::pod::condition;
use super::table::{AGE, NAME, Spec, boolean, integer, text, wide};
use super::{age, flag, list, number, or_none, selector, shown, string};

const CONTAINERS: Spec = wide("Containers", |object, _| {
    json!(containers(object, "/spec/template/spec", "/name"))
});
const IMAGES: Spec = wide("Images", |object, _| {
    json!(containers(object, "/spec/template/spec", "/image"))
});
const SELECTOR: Spec = wide("Selector", |object, _| {
    json!(selector(object.pointer("/spec/selector")))
});

pub(super) static DEPLOYMENTS: [Spec; 8] = [
    NAME,
    text("Ready", |object, _| json!(ready(object, "/status/readyReplicas"))),
    text("Up-to-date", |object, _| {
        json!(number(object, "/status/updatedReplicas"))
    }),
    text("Available", |object, _| {
        json!(number(object, "/status/availableReplicas"))
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static REPLICA_SETS: [Spec; 8] = [
    NAME,
    integer("Desired", |object, _| json!(number(object, "/spec/replicas"))),
    integer("Current", |object, _| json!(number(object, "/status/replicas"))),
    integer("Ready", |object, _| {
        json!(number(object, "/status/readyReplicas"))
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static STATEFUL_SETS: [Spec; 5] = [
    NAME,
    text("Ready", |object, _| json!(ready(object, "/status/readyReplicas"))),
    AGE,
    CONTAINERS,
    IMAGES,
];

pub(super) static DAEMON_SETS: [Spec; 11] = [
    NAME,
    integer("Desired", |object, _| {
        json!(number(object, "/status/desiredNumberScheduled"))
    }),
    integer("Current", |object, _| {
        json!(number(object, "/status/currentNumberScheduled"))
    }),
    integer("Ready", |object, _| json!(number(object, "/status/numberReady"))),
    integer("Up-to-date", |object, _| {
        json!(number(object, "/status/updatedNumberScheduled"))
    }),
    integer("Available", |object, _| {
        json!(number(object, "/status/numberAvailable"))
    }),
    text("Node Selector", |object, _| {
        json!(selector(object.pointer("/spec/template/spec/nodeSelector")))
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static JOBS: [Spec; 8] = [
    NAME,
    text("Status", |job, _| json!(job_status(job))),
    text("Completions", |job, _| json!(completions(job))),
    text("Duration", |job, now| {
        let start = age::seconds(string(job, "/status/startTime"));
        let end = age::seconds(string(job, "/status/completionTime")).unwrap_or(now);
        json!(start.map(|start| age::human(end - start)).unwrap_or_default())
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static CRON_JOBS: [Spec; 10] = [
    NAME,
    text("Schedule", |object, _| json!(string(object, "/spec/schedule"))),
    text("Timezone", |object, _| or_none(string(object, "/spec/timeZone"))),
    boolean("Suspend", |object, _| {
        json!(if flag(object, "/spec/suspend") {
            "True"
        } else {
            "False"
        })
    }),
    integer("Active", |object, _| {
        json!(list(object, "/status/active").count())
    }),
    text("Last Schedule", |object, now| {
        match string(object, "/status/lastScheduleTime") {
            "" => json!("<none>"),
            _ => json!(age::since(object, "/status/lastScheduleTime", now)),
        }
    }),
    AGE,
    wide("Containers", |object, _| {
        json!(containers(
            object,
            "/spec/jobTemplate/spec/template/spec",
            "/name"
        ))
    }),
    wide("Images", |object, _| {
        json!(containers(
            object,
            "/spec/jobTemplate/spec/template/spec",
            "/image"
        ))
    }),
    wide("Selector", |object, _| {
        json!(selector(object.pointer("/spec/jobTemplate/spec/selector")))
    }),
];

pub(super) static REVISIONS: [Spec; 4] = [
    NAME,
    text("Controller", |object, _| {
        let owner = list(object, "/metadata/ownerReferences").find(|owner| flag(owner, "/controller"));
        or_none(
            &owner
                .map(|owner| {
                    let (group, _) = string(owner, "/apiVersion").split_once('/').unwrap_or_default();
                    let kind = string(owner, "/kind").to_lowercase();
                    let dot = if group.is_empty() { "" } else { "." };
                    format!("{kind}{dot}{group}/{}", string(owner, "/name"))
                })
                .unwrap_or_default(),
        )
    }),
    text("Revision", |object, _| json!(number(object, "/revision"))),
    AGE,
];

pub(super) static POD_TEMPLATES: [Spec; 4] = [
    NAME,
    text("Containers", |object, _| {
        json!(containers(object, "/template/spec", "/name"))
    }),
    text("Images", |object, _| {
        json!(containers(object, "/template/spec", "/image"))
    }),
    text("Pod Labels", |object, _| {
        json!(selector(object.pointer("/template/metadata/labels")))
    }),
];

pub(super) static AUTOSCALERS: [Spec; 7] = [
    NAME,
    text("Reference", |object, _| {
        let (kind, name) = (
            string(object, "/spec/scaleTargetRef/kind"),
            string(object, "/spec/scaleTargetRef/name"),
        );
        json!(format!("{kind}/{name}"))
    }),
    text("Targets", |object, _| json!(targets(object))),
    text("MinPods", |object, _| {
        json!(shown(object.pointer("/spec/minReplicas"), "<unset>"))
    }),
    text("MaxPods", |object, _| json!(number(object, "/spec/maxReplicas"))),
    text("Replicas", |object, _| {
        json!(number(object, "/status/currentReplicas"))
    }),
    AGE,
];

pub(super) static BUDGETS: [Spec; 5] = [
    NAME,
    text("Min Available", |object, _| {
        json!(shown(object.pointer("/spec/minAvailable"), "N/A"))
    }),
    text("Max Unavailable", |object, _| {
        json!(shown(object.pointer("/spec/maxUnavailable"), "N/A"))
    }),
    integer("Allowed Disruptions", |object, _| {
        json!(number(object, "/status/disruptionsAllowed"))
    }),
    AGE,
];

fn ready(object: &Value, pointer: &str) -> String {
    format!("{}/{}", number(object, pointer), number(object, "/spec/replicas"))
}

fn containers(object: &Value, spec: &str, field: &str) -> String {
    let list = list(object, &format!("{spec}/containers"));
    list.map(|container| string(container, field))
        .collect::<Vec<_>>()
        .join(",")
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind: &str| condition(job, kind) == "True";
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let done = number(job, "/status/succeeded");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{done}/{wanted}"),
        None => match number(job, "/spec/parallelism") {
            parallel if parallel > 1 => format!("{done}/1 of {parallel}"),
            _ => format!("{done}/1"),
        },
    }
}

/// At most two metrics are shown, then how many more there are.
fn targets(object: &Value) -> String {
    const METRICS_SHOWN_MAX: usize = 2;
    if let Some(target) = object
        .pointer("/spec/targetCPUUtilizationPercentage")
        .and_then(Value::as_i64)
    {
        let current = object.pointer("/status/currentCPUUtilizationPercentage");
        let current = current.map_or("<unknown>".to_string(), |value| format!("{value}%"));
        return format!("cpu: {current}/{target}%");
    }
    let current: Vec<&Value> = list(object, "/status/currentMetrics").collect();
    let all: Vec<String> = list(object, "/spec/metrics")
        .enumerate()
        .map(|(index, metric)| {
            let name = string(metric, "/resource/name");
            let now = current.get(index).copied().unwrap_or(&Value::Null);
            let percent = metric.pointer("/resource/target/averageUtilization");
            let unknown = "<unknown>";
            match percent.and_then(Value::as_i64) {
                Some(target) => {
                    let now = now.pointer("/resource/current/averageUtilization");
                    let now = now.map_or(unknown.to_string(), |value| format!("{value}%"));
                    format!("{name}: {now}/{target}%")
                }
                None => {
                    let target = string(metric, "/resource/target/averageValue");
                    let now = match string(now, "/resource/current/averageValue") {
                        "" => unknown,
                        value => value,
                    };
                    if name.is_empty() {
                        format!("{now}/<auto>")
                    } else {
                        format!("{name}: {now}/{target}")
                    }
                }
            }
        })
        .collect();
    match all.len() {
        0 => "<none>".to_string(),
        count if count > METRICS_SHOWN_MAX => {
            format!("{} + {} more...", all[..METRICS_SHOWN_MAX].join(", "), count - 2)
        }
        _ => all.join(", "),
    }
}
