//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy, in the real server.
#![allow(clippy::unwrap_used)]

mod rig;

use capstan_api::UserInfo;
use rig::Rig;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(replicas: u32) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn on_deployments() -> Value {
    json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]})
}

/// A policy and its binding.
async fn put(rig: &Rig, kind: &str, name: &str, mut spec: Value, mut binding: Value) {
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = on_deployments();
    }
    let plural = format!("{GROUP}/{}admissionpolicies", kind.to_lowercase());
    rig.done("POST", &plural, json!({"metadata": {"name": name}, "spec": spec}))
        .await;
    binding["policyName"] = json!(name);
    if kind == "Validating" && binding["validationActions"].is_null() {
        binding["validationActions"] = json!(["Deny"]);
    }
    let plural = format!("{GROUP}/{}admissionpolicybindings", kind.to_lowercase());
    let name = format!("{name}-binding");
    rig.done(
        "POST",
        &plural,
        json!({"metadata": {"name": name}, "spec": binding}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validating_policies_refuse_warn_and_tell_their_status() {
    let rig = Rig::start().await;
    let spec = json!({"variables": [{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "over", "expression": "variables.replicas - 3"}],
        "validations": [{"expression": "variables.over <= 0"}, {"expression": "object.metadata.name != 'no'", "messageExpression": "'not ' + object.metadata.name", "reason": "Forbidden"}]});
    put(&rig, "Validating", "small", spec, json!({})).await;
    let create = format!("{DEPLOYMENTS}?dryRun=All");
    let refused = rig
        .until("POST", &create, deployment(5), |reply| reply.code != 201)
        .await;
    let told = "ValidatingAdmissionPolicy 'small' with binding 'small-binding' denied request: failed expression: variables.over <= 0";
    assert_eq!(
        refused.document,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
            "message": format!("deployments.apps \"d\" is forbidden: {told}"),
            "details": {"name": "d", "group": "apps", "kind": "deployments", "causes": [{"message": told}]}})
    );
    rig.done("POST", DEPLOYMENTS, deployment(2)).await;
    let scaled = rig
        .ask(
            "PATCH",
            &format!("{DEPLOYMENTS}/d"),
            json!({"spec": {"replicas": 4}}),
        )
        .await;
    assert_eq!(scaled.code, 422, "{}", scaled.document);
    let mut named = deployment(1);
    named["metadata"]["name"] = json!("no");
    let forbidden = rig.ask("POST", DEPLOYMENTS, named).await;
    assert_eq!(
        (forbidden.code, &forbidden.document["reason"]),
        (403, &json!("Forbidden"))
    );
    assert!(
        forbidden.message().ends_with("denied request: not no"),
        "{}",
        forbidden.message()
    );
    let mut full = deployment(7);
    (full["kind"], full["apiVersion"]) = (json!("Deployment"), json!("apps/v1"));
    full["metadata"]["name"] = json!("k");
    let told = rig.fails(&["create", "-f", "-"], &full.to_string()).await;
    let expected = "The deployments \"k\" is invalid: : ValidatingAdmissionPolicy 'small' with binding 'small-binding' denied request";
    assert!(told.starts_with(expected), "{told}");
    let metrics = rig.ask("GET", "/metrics", Value::Null).await.document;
    let page = metrics.as_str().unwrap();
    let labels = "enforcement_action=\"deny\",error_type=\"invalid_error\",policy=\"small\",policy_binding=\"small-binding\"";
    for row in ["check_total", "check_duration_seconds_count"] {
        let row = format!("apiserver_validating_admission_policy_{row}{{{labels}}} 4");
        assert!(page.contains(&row), "{row}\n{page}");
    }
    // Types are checked, and the generation is told.
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    let seen = rig
        .until("GET", &format!("{policies}/small"), Value::Null, |reply| {
            reply.document["status"]["observedGeneration"] == 1
        })
        .await;
    assert_eq!(seen.document["status"]["typeChecking"], json!({}));
    let spec = json!({"matchConstraints": on_deployments(), "validations": [{"expression": "object.spec.replicas == 'x'"}]});
    rig.done(
        "POST",
        &policies,
        json!({"metadata": {"name": "typed"}, "spec": spec}),
    )
    .await;
    let seen = rig
        .until("GET", &format!("{policies}/typed/status"), Value::Null, |reply| {
            reply.document["status"]["typeChecking"].is_object()
        })
        .await;
    let warning = &seen.document["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    let custom = json!({"metadata": {"name": "crontabs.stable.test.io"}, "spec": {"group": "stable.test.io", "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}}]}});
    rig.done(
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        custom,
    )
    .await;
    rig.until("GET", "/apis/stable.test.io/v1/crontabs", Value::Null, |reply| {
        reply.code == 200
    })
    .await;
    let mut on_crontabs = on_deployments();
    on_crontabs["resourceRules"][0]["apiGroups"] = json!(["stable.test.io"]);
    on_crontabs["resourceRules"][0]["resources"] = json!(["crontabs"]);
    let spec = json!({"matchConstraints": on_crontabs, "validations": [{"expression": "object.spec.replicas > 1 && object.metadata.name != ''"},
        {"expression": "object.spec.maxRetries < 10"}]});
    rig.done(
        "POST",
        &policies,
        json!({"metadata": {"name": "custom"}, "spec": spec}),
    )
    .await;
    let seen = rig
        .until("GET", &format!("{policies}/custom"), Value::Null, |reply| {
            reply.document["status"]["typeChecking"].is_object()
        })
        .await;
    let found = &seen.document["status"]["typeChecking"]["expressionWarnings"];
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert!(
        found[0]["warning"]
            .as_str()
            .unwrap()
            .contains("undefined field 'maxRetries'"),
        "{found}"
    );
    assert!(
        warning["warning"]
            .as_str()
            .unwrap()
            .contains("found no matching overload for '_==_' applied to '(int, string)'"),
        "{warning}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_bring_parameters_selectors_and_actions() {
    let rig = Rig::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    rig.done(
        "POST",
        maps,
        json!({"metadata": {"name": "limits"}, "data": {"most": "3"}}),
    )
    .await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)", "message": "too many"}]});
    let params = json!({"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"});
    put(&rig, "Validating", "limited", spec, json!({"paramRef": params})).await;
    let create = format!("{DEPLOYMENTS}?dryRun=All");
    let refused = rig
        .until("POST", &create, deployment(5), |reply| reply.code != 201)
        .await;
    assert!(
        refused.message().ends_with("denied request: too many"),
        "{}",
        refused.message()
    );
    rig.done("PATCH", &format!("{maps}/limits"), json!({"data": {"most": "9"}}))
        .await;
    rig.until("POST", &create, deployment(5), |reply| reply.code == 201)
        .await;
    rig.done("DELETE", &format!("{maps}/limits"), Value::Null).await;
    let refused = rig
        .until("POST", &create, deployment(5), |reply| reply.code != 201)
        .await;
    assert!(
        refused.message().ends_with("denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{}",
        refused.message()
    );
    let bindings = format!("{GROUP}/validatingadmissionpolicybindings/limited-binding");
    rig.done("DELETE", &bindings, Value::Null).await;
    rig.until("POST", &create, deployment(5), |reply| reply.code == 201)
        .await;
    // Warnings instead of refusals, only in namespaces of a kind, by who may do something else.
    let spec = json!({"validations": [{"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()", "message": "no reader of secrets"}]});
    let binding = json!({"validationActions": ["Warn", "Audit"], "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}});
    put(&rig, "Validating", "readers", spec, binding).await;
    let role = json!({"metadata": {"name": "deployers"}, "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}]});
    rig.done("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        .await;
    let binding = json!({"metadata": {"name": "deployers"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "deployers"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    rig.done(
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        binding,
    )
    .await;
    let jane = || UserInfo::new("jane", &[]);
    let warned = loop {
        let reply = rig.ask_as(jane(), "POST", &create, deployment(1)).await;
        if reply.headers.contains_key("warning") {
            break reply;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(warned.code, 201, "{}", warned.document);
    assert_eq!(
        warned.headers["warning"],
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'readers' with binding 'readers-binding': no reader of secrets\""
    );
    assert!(
        !rig.ask("POST", &create, deployment(1))
            .await
            .headers
            .contains_key("warning")
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutating_policies_apply_and_patch_and_look_again() {
    let rig = Rig::start().await;
    let spec = |mutations: Value, reinvocation: &str| json!({"reinvocationPolicy": reinvocation, "failurePolicy": "Fail", "mutations": mutations});
    let apply =
        |text: &str| json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}]);
    let patch = |text: &str| json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": text}}]);
    // `a` sums up what it sees, and wants to see what `b` adds.
    let sum = "Object{metadata: Object.metadata{annotations: {'sum': string(size(object.metadata.?labels.orValue({})))}}}";
    put(&rig, "Mutating", "a", spec(apply(sum), "IfNeeded"), json!({})).await;
    let label = "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'team': 'x'}}, JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]";
    put(&rig, "Mutating", "b", spec(patch(label), "Never"), json!({})).await;
    let side = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        initContainers: [Object.spec.template.spec.initContainers{name: 'side', image: 's', restartPolicy: 'Always'}]}}}}";
    put(&rig, "Mutating", "c", spec(apply(side), "Never"), json!({})).await;
    let create = format!("{DEPLOYMENTS}?dryRun=All");
    let made = rig
        .until("POST", &create, deployment(1), |reply| {
            !reply.document["spec"]["template"]["spec"]["initContainers"].is_null()
                && reply.document["metadata"]["annotations"]["sum"] == "2"
        })
        .await;
    assert_eq!(
        made.document["metadata"]["labels"],
        json!({"team": "x", "a/b": "c"})
    );
    let side = &made.document["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(
        (&side["name"], &side["imagePullPolicy"]),
        (&json!("side"), &json!("Always"))
    );
    // What cannot be evaluated refuses, and is told.
    let broken = "Object{spec: Object.spec{replicas: object.spec.none}}";
    put(&rig, "Mutating", "d", spec(apply(broken), "Never"), json!({})).await;
    let refused = rig
        .until("POST", &create, deployment(1), |reply| reply.code != 201)
        .await;
    assert_eq!(
        (refused.code, &refused.document["reason"], refused.message()),
        (
            403,
            &json!("Invalid"),
            "policy 'd' with binding 'd-binding' denied request: expression 'Object{spec: Object.spec{replicas: object.spec.none}}' resulted in error: no such key: none"
        )
    );
    // A bad expression is not stored.
    let document = json!({"metadata": {"name": "e"}, "spec": {"matchConstraints": on_deployments(), "reinvocationPolicy": "Never", "mutations": apply("Object{spec: 1 + 'a'}")}});
    let bad = rig
        .ask("POST", &format!("{GROUP}/mutatingadmissionpolicies"), document)
        .await;
    assert_eq!(bad.code, 422);
    assert!(
        bad.message()
            .contains("spec.mutations[0].applyConfiguration.expression: Invalid value"),
        "{}",
        bad.message()
    );
    rig.stop().await;
}

/// One worker answers everybody, so that a request which kept it would keep them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_evaluation_holds_nobody_up() {
    let rig = std::sync::Arc::new(Rig::start().await);
    let validation = json!({"expression": "variables.all.all(a, variables.all.all(b, a <= b))"});
    let spec = json!({
        "variables": [{"name": "all", "expression": "object.data.text.split(',')"}],
        "validations": vec![validation; 15],
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
    });
    put(&rig, "Validating", "slow", spec, json!({})).await;
    let maps = "/api/v1/namespaces/default/configmaps?dryRun=All";
    let map = |words: usize| {
        let text = (0..words).map(|number| format!("{}", 9 - number.min(1)));
        json!({"metadata": {"name": "m"}, "data": {"text": text.collect::<Vec<_>>().join(",")}})
    };
    let refused = rig.until("POST", maps, map(2), |reply| reply.code != 201).await;
    assert!(refused.message().contains("'slow'"), "{}", refused.document);

    let mut long = map(220);
    long["data"]["text"] = json!(vec!["1"; 220].join(","));
    let slow = tokio::spawn({
        let rig = rig.clone();
        async move {
            let begun = std::time::Instant::now();
            let reply = rig.ask("POST", maps, long).await;
            (reply, begun.elapsed())
        }
    });
    let mut longest = std::time::Duration::ZERO;
    let mut count = 0;
    while !slow.is_finished() {
        let rig = rig.clone();
        let begun = std::time::Instant::now();
        let quick =
            tokio::spawn(async move { rig.ask("GET", "/api/v1/namespaces/default", Value::Null).await });
        assert_eq!(quick.await.unwrap().code, 200);
        longest = longest.max(begun.elapsed());
        count += 1;
    }
    let (reply, whole) = slow.await.unwrap();
    assert_eq!(reply.code, 201, "{}", reply.document);
    println!("{count} reads beside an evaluation of {whole:?}, the longest took {longest:?}");
    assert!(
        longest * 2 < whole,
        "a read took {longest:?} beside an evaluation of {whole:?}"
    );
}
