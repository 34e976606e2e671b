//! Rules of jobs and of the schedules that make them.
//! Invariants: an indexed job's policies speak of its indexes; what counts for the work already done stays.
//! Of a job's status only the numbers are judged: its conditions are the controller's own.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::at::{At, IMMUTABLE};
use super::{cron, names, pod, selector};
use crate::name;
use crate::resource::Resource;

/// Pods of an indexed job side by side.
const PARALLEL_INDEXED_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Above these completions the next two hold.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLEL_HIGH_MAX: i64 = 10_000;
const FAILED_HIGH_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const MANAGER_LENGTH_MAX: usize = 63;
const INDEXES_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a cron job: a time comes behind it.
const CRON_NAME_LENGTH_MAX: usize = 52;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    if resource.kind == "CronJob" {
        return cron_job(object, old);
    }
    let spec = object.at("spec");
    if old.is_none() {
        generated(object, &spec);
    }
    job_spec(&spec);
    if !spec.has("selector") {
        spec.required("selector", "");
    } else {
        selector::check(&spec, "selector");
    }
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector::selects(selector, spec.get("template.metadata.labels")) == Some(false) {
        let labels = spec
            .get("template.metadata.labels")
            .cloned()
            .unwrap_or(Value::Null);
        let why = "`selector` does not match template `labels`";
        spec.invalid_as("template.metadata.labels", labels, why);
    }
    match old {
        None => indexed_name(object, &spec),
        Some(old) => changed(object, &spec, old),
    }
}

/// A job that did not choose its selector has its own labels.
fn generated(object: &At, spec: &At) {
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let (uid, name) = (object.text("metadata.uid"), object.text("metadata.name"));
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let metadata = spec.at("template.metadata");
    for (key, value) in expected {
        let why = format!("must be '{value}'");
        let field = format!("labels[{key}]");
        match metadata.map("labels").and_then(|labels| labels.get(key)) {
            None => metadata.required(&field, &why),
            Some(given) if given.as_str() != Some(value) => {
                let labels = metadata.get("labels").cloned().unwrap_or(Value::Null);
                metadata.invalid_as(&field, labels, &why);
            }
            Some(_) => {}
        }
    }
    let labels: serde_json::Map<String, Value> = expected
        .iter()
        .map(|(key, value)| ((*key).to_string(), Value::from(*value)))
        .collect();
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector::selects(selector, Some(&Value::Object(labels))) == Some(false) {
        spec.invalid("selector", "`selector` not auto-generated");
    }
}

fn indexed_name(object: &At, spec: &At) {
    let completions = spec.number("completions");
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let name = object.text("metadata.name");
        let last = format!("{name}-{}", completions - 1);
        if !name::dns1123_label(&last).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            object.invalid("metadata.name", &why);
        }
    }
}

fn job_spec(spec: &At) {
    spec.not_negative(&[
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ]);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.required("backoffLimitPerIndex", "when maxFailedIndexes is specified");
    }
    if spec.has("managedBy") {
        names::domain_path(spec, "managedBy");
        if spec.text("managedBy").len() > MANAGER_LENGTH_MAX {
            spec.too_long("managedBy", MANAGER_LENGTH_MAX);
        }
    }
    let indexed = spec.text("completionMode") == "Indexed";
    spec.one_of("completionMode", &["NonIndexed", "Indexed"]);
    if indexed {
        self::indexed(spec);
    } else if matches!(spec.text("completionMode"), "" | "NonIndexed") {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                spec.invalid(field, "requires indexed completion mode");
            }
        }
    }
    if let Some(policy) = spec.some("podFailurePolicy") {
        failure_policy(spec, &policy);
    }
    if let Some(policy) = spec.some("successPolicy") {
        if indexed {
            success_policy(&policy, spec.number("completions"));
        } else {
            policy.invalid("", "requires indexed completion mode");
        }
    }
    if spec.has("podReplacementPolicy") {
        if spec.has("podFailurePolicy") {
            spec.exactly_one_of("podReplacementPolicy", &["Failed"]);
        } else {
            spec.exactly_one_of("podReplacementPolicy", &["Failed", "TerminatingOrFailed"]);
        }
    }
    pod::template(&spec.at("template"));
    let restart = "template.spec.restartPolicy";
    match spec.text(restart) {
        "" | "Always" => spec.required(restart, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            spec.invalid(restart, why);
        }
        "OnFailure" => {}
        _ => spec.unsupported(restart, &["OnFailure", "Never"]),
    }
}

fn indexed(spec: &At) {
    let (completions, failed) = (spec.int("completions"), spec.int("maxFailedIndexes"));
    let parallel = spec.number("parallelism");
    if completions.is_none() {
        spec.required("completions", "when completion mode is Indexed");
    }
    if parallel > PARALLEL_INDEXED_MAX {
        let why =
            format!("must be less than or equal to {PARALLEL_INDEXED_MAX} when completion mode is Indexed");
        spec.invalid("parallelism", &why);
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        spec.invalid("maxFailedIndexes", "must be less than or equal to completions");
    }
    if failed.is_some_and(|failed| failed > FAILED_INDEXES_MAX) {
        let why = format!("must be less than or equal to {FAILED_INDEXES_MAX}");
        spec.invalid("maxFailedIndexes", &why);
    }
    let high = completions.is_some_and(|completions| completions > COMPLETIONS_SOFT_MAX);
    if !high || !spec.has("backoffLimitPerIndex") {
        return;
    }
    let why = |most: i64| {
        format!(
            "must be less than or equal to {most} when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
        )
    };
    if failed.is_none() {
        let why = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        spec.required("maxFailedIndexes", &why);
    }
    if parallel > PARALLEL_HIGH_MAX {
        spec.invalid("parallelism", &why(PARALLEL_HIGH_MAX));
    }
    if failed.is_some_and(|failed| failed > FAILED_HIGH_MAX) {
        spec.invalid("maxFailedIndexes", &why(FAILED_HIGH_MAX));
    }
}

/// Texts as the original lists them: `["a" "b"]`.
fn listed(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn required_one_of(at: &At, field: &str, known: &[&str]) {
    if at.text(field).is_empty() {
        at.required(field, &listed(known));
    } else {
        at.exactly_one_of(field, known);
    }
}

fn failure_policy(spec: &At, policy: &At) {
    if policy.count("rules") > RULES_MAX {
        policy.too_many("rules", RULES_MAX);
    }
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.each(&format!("template.spec.{list}")))
        .map(|container| container.text("name"))
        .collect();
    for rule in policy.each("rules") {
        if rule.text("action") == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                rule.invalid("action", "requires the backoffLimitPerIndex to be set");
            }
        } else {
            required_one_of(&rule, "action", &ACTIONS);
        }
        let (codes, conditions) = (rule.some("onExitCodes"), rule.count("onPodConditions") > 0);
        if let Some(codes) = &codes {
            exit_codes(codes, &containers);
        }
        pod_conditions(&rule);
        let why = match (codes.is_some(), conditions) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        let message = format!("Invalid value: {why}");
        let cause = super::Cause::FieldValueInvalid;
        rule.say(super::FieldError::new(rule.path(""), cause, message));
    }
}

fn exit_codes(at: &At, containers: &HashSet<&str>) {
    required_one_of(at, "operator", &["In", "NotIn"]);
    if at.has("containerName") && !containers.contains(at.text("containerName")) {
        let why = "must be one of the container or initContainer names in the pod template";
        at.invalid("containerName", why);
    }
    match at.count("values") {
        0 => at.invalid("values", "at least one value is required"),
        count if count > EXIT_CODES_MAX => at.too_many("values", EXIT_CODES_MAX),
        _ => {}
    }
    let (mut seen, mut last, mut ordered) = (BTreeSet::new(), None, true);
    for code in at.each("values") {
        let number = code.number("");
        if number == 0 && at.text("operator") == "In" {
            code.invalid("", "must not be 0 for the In operator");
        }
        if !seen.insert(number) {
            code.duplicate("");
        }
        ordered &= last.is_none_or(|last| last <= number);
        last = Some(number);
    }
    if !ordered {
        at.invalid("values", "must be ordered");
    }
}

fn pod_conditions(rule: &At) {
    if rule.count("onPodConditions") > CONDITIONS_MAX {
        rule.too_many("onPodConditions", CONDITIONS_MAX);
    }
    for pattern in rule.each("onPodConditions") {
        pattern.name("type", name::qualified);
        required_one_of(&pattern, "status", &["False", "True", "Unknown"]);
    }
}

fn success_policy(policy: &At, completions: i64) {
    match policy.count("rules") {
        0 => policy.required(
            "rules",
            "at least one rules must be specified when the successPolicy is specified",
        ),
        count if count > RULES_MAX => policy.too_many("rules", RULES_MAX),
        _ => {}
    }
    for rule in policy.each("rules") {
        let (count, indexes) = (rule.int("succeededCount"), rule.get("succeededIndexes"));
        if count.is_none() && indexes.is_none() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            rule.required("", why);
        }
        let mut total = 0;
        if indexes.is_some() {
            let text = rule.text("succeededIndexes");
            if text.len() > INDEXES_BYTES_MAX {
                rule.too_long("succeededIndexes", INDEXES_BYTES_MAX);
            }
            match self::indexes(text, completions) {
                Ok(sum) => total = sum,
                Err(why) => {
                    let why = format!("error parsing succeededIndexes: {why}");
                    rule.invalid("succeededIndexes", &why);
                }
            }
        }
        let Some(count) = count else { continue };
        rule.not_negative(&["succeededCount"]);
        if count > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            rule.invalid("succeededCount", &why);
        }
        if indexes.is_some() && count > total {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            rule.invalid("succeededCount", &why);
        }
    }
}

/// How many indexes a text such as `1,3-5` names.
fn indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let index = |text: &str| match text.parse::<i64>() {
            Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
            Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
            Ok(index) => Ok(index),
        };
        let start = index(ends[0])?;
        let end = ends.get(1).map_or(Ok(start), |end| index(end))?;
        if ends.len() == 2 && start >= end {
            return Err(format!("non-increasing order, previous: {start}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= start) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {start}"
            ));
        }
        total += end - start + 1;
        last = Some(end);
    }
    Ok(total)
}

fn changed(object: &At, spec: &At, old: &At) {
    let before = old.at("spec");
    let completions = "completions";
    if spec.text("completionMode") != "Indexed" {
        spec.frozen(completions, &before);
    } else if spec.get(completions) != before.get(completions)
        && spec.has(completions)
        && spec.number(completions) != spec.number("parallelism")
    {
        let why = "can only be modified in tandem with spec.parallelism";
        spec.invalid(completions, why);
    }
    spec.frozen("selector", &before);
    template_changed(object, spec, old);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        spec.frozen(field, &before);
    }
}

/// Of a job that never started, where its pods go and what they get may still change.
fn template_changed(object: &At, spec: &At, old: &At) {
    let before = old.at("spec");
    let suspended = before.flag("suspend");
    let idle = suspended && object.number("status.active") == 0;
    let never = idle && !old.has("status.startTime");
    let mut expected = before.get("template").cloned().unwrap_or(Value::Null);
    let given = spec.get("template").cloned().unwrap_or(Value::Null);
    if never || idle {
        for pointer in ["nodeSelector", "tolerations", "schedulingGates"] {
            take(&mut expected["spec"], &given["spec"], pointer);
        }
        for field in ["annotations", "labels"] {
            take(&mut expected["metadata"], &given["metadata"], field);
        }
        let mut affinity = expected["spec"]["affinity"].clone();
        if !affinity.is_object() {
            affinity = serde_json::json!({});
        }
        take(&mut affinity, &given["spec"]["affinity"], "nodeAffinity");
        let empty = affinity.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(pod) = expected["spec"].as_object_mut() {
            if empty && !given["spec"]["affinity"].is_object() {
                pod.remove("affinity");
            } else {
                pod.insert("affinity".to_string(), affinity);
            }
        }
        for list in ["containers", "initContainers"] {
            let after = given["spec"][list].as_array().map_or(0, Vec::len);
            let Some(containers) = expected["spec"].get_mut(list).and_then(Value::as_array_mut) else {
                continue;
            };
            if containers.len() != after {
                continue;
            }
            for (index, container) in containers.iter_mut().enumerate() {
                let new = &given["spec"][list][index];
                if container["name"] == new["name"] {
                    take(container, new, "resources");
                }
            }
        }
        if expected["spec"] != given["spec"] {
            let shown = given["spec"].clone();
            spec.invalid_as("template.spec", shown, IMMUTABLE);
        }
    } else if expected != given {
        spec.invalid("template", IMMUTABLE);
    }
}

fn take(target: &mut Value, source: &Value, field: &str) {
    let Some(target) = target.as_object_mut() else {
        return;
    };
    match source.get(field) {
        Some(value) => target.insert(field.to_string(), value.clone()),
        None => target.remove(field),
    };
}

fn cron_job(object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    let schedule = spec.text("schedule");
    if schedule.is_empty() {
        spec.required("schedule", "");
    } else {
        if let Err(why) = cron::check(schedule) {
            spec.invalid("schedule", &why);
        }
        let allowed = old.is_some_and(|old| old.text("spec.schedule").contains("TZ"));
        if schedule.contains("TZ") {
            if !allowed {
                let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                spec.invalid("schedule", why);
            } else if spec.has("timeZone") {
                let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                spec.invalid("schedule", why);
            }
        }
    }
    spec.not_negative(&["startingDeadlineSeconds"]);
    if spec.has("timeZone") && old.is_none_or(|old| old.get("spec.timeZone") != spec.get("timeZone")) {
        time_zone(&spec);
    }
    spec.must_be_one_of("concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    let job = spec.at("jobTemplate.spec");
    job_spec(&job);
    if job.has("selector") {
        job.invalid("selector", "`selector` will be auto-generated");
    }
    if job.flag("manualSelector") {
        let message = "Unsupported value: true: supported values: \"nil\", \"false\"";
        let cause = super::Cause::NotSupported;
        job.say(super::FieldError::new(job.path("manualSelector"), cause, message));
    }
    spec.not_negative(&["successfulJobsHistoryLimit", "failedJobsHistoryLimit"]);
    if old.is_none() && object.text("metadata.name").len() > CRON_NAME_LENGTH_MAX {
        let why = format!("must be no more than {CRON_NAME_LENGTH_MAX} characters");
        object.invalid("metadata.name", &why);
    }
}

fn time_zone(spec: &At) {
    let zone = spec.text("timeZone");
    if zone.is_empty() {
        return spec.invalid("timeZone", "timeZone must be nil or non-empty string");
    }
    if !cron::is_zone_name(zone) {
        spec.invalid("timeZone", &format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        spec.invalid("timeZone", why);
    }
    if let Err(why) = cron::check_zone(zone) {
        spec.invalid("timeZone", &why);
    }
}

/// The numbers that a job's controller reports.
pub(super) fn status(new: &At) {
    let at = new.at("status");
    at.not_negative(&["active", "succeeded", "failed", "ready", "terminating"]);
    if at.number("ready") > at.number("active") {
        at.invalid("ready", "cannot set more ready pods than active");
    }
}
