//! Rules of resources: of containers, of whole pods, in limit ranges and quotas.
//! Invariants: amounts are canonical texts, as defaulting leaves them. What a pod asks for as a whole covers
//! what its containers ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::name;
use crate::quantity::Quantity;
use crate::validate::at::{At, Found, NOT_NEGATIVE};

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources that are counted.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const POD_LEVEL: [&str; 3] = ["cpu", "hugepages-", "memory"];

pub(crate) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && name::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether less than the limit may be asked for.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Whether a resource has a quota of its own name.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    (STANDARD.contains(&name) && name != "storage") || is_quota_huge_pages(name)
}

/// The name of any resource; `at` is the place that the name keys.
pub(in crate::validate) fn any_name(at: &At, name: &str) -> bool {
    let problems = name::qualified(name);
    for why in &problems {
        at.invalid_as("", name, why);
    }
    if !problems.is_empty() {
        return false;
    }
    let known = name.contains('/') || STANDARD.contains(&name) || is_quota_huge_pages(name);
    if !known {
        at.invalid_as("", name, "must be a standard resource type or fully qualified");
    }
    known
}

/// The name of a resource that containers have.
pub(in crate::validate) fn container_name(at: &At, name: &str) {
    any_name(at, name);
    if !name.contains('/') {
        let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name) || is_huge_pages(name);
        if !standard {
            at.invalid_as("", name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        at.invalid_as("", name, "doesn't follow extended resource name standard");
    }
}

fn pod_name(at: &At, name: &str) {
    if !any_name(at, name) {
        return;
    }
    if !matches!(name, "cpu" | "memory") && !is_huge_pages(name) {
        at.unsupported_as("", name, &POD_LEVEL);
    }
}

/// An amount is not negative, and whole where its resource is counted.
pub(in crate::validate) fn amount(at: &At, name: &str) {
    let Some(amount) = at.quantity("") else { return };
    if amount.is_negative() {
        at.invalid("", NOT_NEGATIVE);
    }
    if (WHOLE.contains(&name) || is_extended(name)) && !amount.is_whole() {
        at.invalid("", "must be an integer");
    }
}

/// An amount of huge pages is a multiple of their size.
fn whole_pages(at: &At, name: &str) {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return;
    };
    let divides = || {
        let (size, amount): (Quantity, Quantity) = (size.parse().ok()?, at.quantity("")?);
        let size = size.as_i64_ceil();
        (size > 0).then(|| amount.as_i64_ceil() % size == 0)
    };
    if !divides().unwrap_or_default() {
        let why = format!("{} is not positive integer multiple of {name}", at.text(""));
        at.invalid("", &why);
    }
}

/// Resources of a container; `claims` are those that the pod has.
pub(in crate::validate) fn of_container(at: &At, claims: &BTreeSet<&str>) {
    requirements(at, container_name, claims);
}

fn requirements(at: &At, rule: fn(&At, &str), claims: &BTreeSet<&str>) {
    let (mut basic, mut pages) = (false, false);
    let mut note = |name: &str| {
        basic |= matches!(name, "cpu" | "memory");
        pages |= is_huge_pages(name);
    };
    for (name, limit) in at.keyed("limits") {
        rule(&limit, name);
        amount(&limit, name);
        whole_pages(&limit, name);
        note(name);
    }
    let limits = at.map("limits");
    for (name, request) in at.keyed("requests") {
        rule(&request, name);
        amount(&request, name);
        let limit = limits.and_then(|limits| limits.get(name)?.as_str()?.parse::<Quantity>().ok());
        match (request.quantity(""), limit) {
            (Some(asked), Some(limit)) if asked != limit && !may_overcommit(name) => {
                let why = format!("must be equal to {name} limit of {limit}");
                at.invalid_as("requests", request.text(""), &why);
            }
            (Some(asked), Some(limit)) if asked > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                at.invalid_as("requests", request.text(""), &why);
            }
            (_, None) if !may_overcommit(name) => {
                at.required("limits", "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        whole_pages(&request, name);
        note(name);
    }
    if pages && !basic {
        at.forbidden("", "HugePages require cpu or memory");
    }
    claim_names(at, claims);
}

fn claim_names(at: &At, known: &BTreeSet<&str>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in at.each("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            claim.required("", "");
            continue;
        }
        if seen.contains(name) {
            claim.duplicate_as("", name);
        } else {
            let mut key = name.to_string();
            if !request.is_empty() {
                claim.name("request", name::dns1123_label);
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                claim.duplicate_as("", key.as_str());
            } else if request.is_empty() {
                let parts = seen.iter().filter(|one| one.starts_with(&format!("{name}/")));
                parts.for_each(|_| claim.duplicate_as("", name));
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().copied().collect();
            let rest = if known.is_empty() {
                " which is empty".to_string()
            } else {
                format!(": {}", known.join(", "))
            };
            let mut error = crate::validate::FieldError::not_found(claim.path(""), name);
            error.message += &format!(": must be one of the names in pod.spec.resourceClaims{rest}");
            claim.say(error);
        }
    }
}

pub(crate) type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &At, kind: &str) -> Amounts {
    let amounts = container.at("resources").keyed(kind);
    amounts
        .filter_map(|(name, amount)| Some((name.to_string(), amount.quantity("")?)))
        .collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        match to.get_mut(name) {
            Some(sum) => sum.add(amount),
            None => {
                to.insert(name.clone(), *amount);
            }
        }
    }
}

fn keep_larger(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if to.get(name).is_none_or(|known| known < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What the containers of a pod spec ask for together, for the defaults of the whole pod.
pub(crate) fn together(spec: &Value, kind: &str) -> Amounts {
    asked_together(&At::root(spec, &Found::default()), kind)
}

/// What the containers of a pod ask for: side by side, or while it starts, whichever is more.
fn asked_together(spec: &At, kind: &str) -> Amounts {
    let (mut sum, mut staying, mut starting) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in spec.each("containers") {
        add(&mut sum, &amounts(&container, kind));
    }
    for container in spec.each("initContainers") {
        let mut own = amounts(&container, kind);
        if container.text("restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut staying, &own);
            own = staying.clone();
        } else {
            add(&mut own, &staying);
        }
        keep_larger(&mut starting, &own);
    }
    keep_larger(&mut sum, &starting);
    sum
}

/// Resources of a whole pod.
pub(in crate::validate) fn of_pod(spec: &At, claims: &BTreeSet<&str>) {
    let Some(at) = spec.some("resources") else { return };
    if spec.text("os.name") == "windows" {
        return at.forbidden("", "may not be set for a windows pod");
    }
    if at.has("claims") {
        at.forbidden("claims", "claims may not be set for Resources at pod-level");
    }
    requirements(&at, pod_name, claims);
    let of = |kind: &str, name: &str| -> Option<Quantity> { at.map(kind)?.get(name)?.as_str()?.parse().ok() };
    for (name, sum) in asked_together(spec, "requests") {
        if let Some(asked) = of("requests", &name).filter(|asked| sum > *asked) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            at.invalid_as(&format!("requests[{name}]"), asked.to_string(), &why);
        }
    }
    for (name, sum) in asked_together(spec, "limits") {
        if is_huge_pages(&name)
            && let Some(limit) = of("limits", &name).filter(|limit| sum > *limit)
        {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            at.invalid_as(&format!("limits[{name}]"), limit.to_string(), &why);
        }
    }
    for (index, container) in spec.each("containers").enumerate() {
        for (name, limit) in amounts(&container, "limits") {
            if let Some(most) = of("limits", &name).filter(|most| limit > *most) {
                let why = format!("must be less than or equal to pod limits of {most}");
                let field = format!("containers[{index}][{name}].limits");
                at.invalid_as(&field, limit.to_string(), &why);
            }
        }
    }
}
