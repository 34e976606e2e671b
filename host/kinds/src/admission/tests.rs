use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cel::{Access, Answer, Question};
use crate::resource::find;

fn request(operation: &'static str, object: &Value) -> Request {
    let resource = find("apps", "v1", "deployments").unwrap();
    Request {
        resource,
        equivalent: Vec::new(),
        kind: None,
        subresource: String::new(),
        operation,
        namespace: "team".into(),
        name: object["metadata"]["name"].as_str().unwrap_or_default().into(),
        user: json!({"username": "jane", "groups": ["devs"]}),
        dry_run: false,
        options: Value::Null,
    }
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "x"}},
        "spec": {"replicas": 7, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn constraints() -> Value {
    json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [{
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]})
}

/// What a validating policy says of the deployment, with parameters `{"most": 5}`.
fn judged(spec: Value) -> Judgement {
    let mut spec = spec;
    spec["matchConstraints"] = constraints();
    let policy = ValidatingPolicy::read(&json!({"metadata": {"name": "p"}, "spec": spec}));
    let (object, params) = (deployment(), json!({"most": 5}));
    let request = request("CREATE", &object);
    let review = request.to_value(&request.resource);
    let asked = |question: &Question| Answer {
        allowed: question.verb == "get" && question.resource == "pods",
        ..Answer::default()
    };
    policy.judge(&Input {
        object: Some(&object),
        old: None,
        request: &review,
        params: Some(&params),
        namespace: None,
        access: Some(Access::new(Question::default(), asked)),
    })
}

fn refusals(spec: Value) -> Vec<String> {
    let decisions = judged(spec).decisions.into_iter();
    decisions
        .filter(|one| one.denied)
        .map(|one| one.message)
        .collect()
}

#[test]
fn policies_judge() {
    let validation = |text: &str| json!({"validations": [{"expression": text}]});
    let none: [String; 0] = [];
    assert_eq!(
        refusals(validation("object.spec.replicas <= 7 && oldObject == null")),
        none
    );
    assert_eq!(
        refusals(validation("object.spec.replicas <= params.most")),
        [
            "compilation error: compilation failed: ERROR: <input>:1:25: undeclared reference to 'params' (in container '')\n | object.spec.replicas <= params.most\n | ........................^"
        ]
    );
    assert_eq!(
        refusals(json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "most", "expression": "params.most"}, {"name": "over", "expression": "object.spec.replicas - variables.most"}],
            "validations": [{"expression": "variables.over <= 0", "messageExpression": "'%d too many'.format([variables.over])", "reason": "Forbidden"}]
        })),
        ["2 too many"]
    );
    assert_eq!(
        refusals(validation(
            "request.userInfo.username == 'jane' && authorizer.group('').resource('pods').check('get').allowed() && !authorizer.requestResource.check('create').allowed()"
        )),
        none
    );
    assert_eq!(
        refusals(validation("object.spec.nothing == 1")),
        ["expression 'object.spec.nothing == 1' resulted in error: no such key: nothing"]
    );
    assert_eq!(
        refusals(
            json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.spec.nothing == 1"}]})
        ),
        none
    );
    assert_eq!(
        refusals(
            json!({"matchConditions": [{"name": "x", "expression": "request.operation == 'UPDATE'"}],
            "validations": [{"expression": "false"}]})
        ),
        none
    );
    let heavy = "lists.all(a, lists.all(b, lists.all(c, a + b + c >= 0)))".replace("lists", "variables.list");
    assert_eq!(
        refusals(
            json!({"variables": [{"name": "list", "expression": "'a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a'.split(',').map(x, 1)"}],
            "validations": [{"expression": heavy}]})
        ),
        [format!(
            "expression '{heavy}' resulted in error: operation cancelled: actual cost limit exceeded"
        )]
    );
    let many: Vec<Value> = (0..12).map(|_| json!({"expression": heavy})).collect();
    let over = refusals(
        json!({"variables": [{"name": "list", "expression": "[1].map(x, 'a'.replace('a', '1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1').split(','))[0].map(x, int(x))"}], "validations": many}),
    );
    assert_eq!(
        over,
        ["validation failed due to running out of cost budget, no further validation rules will be run"]
    );
    let audits = judged(
        json!({"auditAnnotations": [{"key": "k", "valueExpression": "'n ' + string(object.spec.replicas)"},
        {"key": "none", "valueExpression": "null"}]}),
    );
    let expected = AuditAnnotation::Publish {
        key: "k".into(),
        value: "n 7".into(),
    };
    assert_eq!(audits.audits, [expected]);
}

fn mutated(kind: &str, expression: &str) -> Result<Value, String> {
    let field = if kind == "JSONPatch" {
        "jsonPatch"
    } else {
        "applyConfiguration"
    };
    let policy = MutatingPolicy::read(&json!({"metadata": {"name": "m"}, "spec": {
        "matchConstraints": constraints(), "mutations": [{"patchType": kind, field: {"expression": expression}}]}}));
    let object = deployment();
    let request = request("CREATE", &object);
    let review = request.to_value(&request.resource);
    let input = Input {
        object: Some(&object),
        old: None,
        request: &review,
        params: None,
        namespace: None,
        access: None,
    };
    policy
        .mutate(0, &request.resource, &input)
        .map_err(|Unmutated(why)| why)
}

#[test]
fn policies_mutate() {
    let apply = |text: &str| mutated("ApplyConfiguration", text);
    let new = apply(
        "Object{metadata: Object.metadata{labels: {'team': 'a', 'n': string(object.spec.replicas)}},
            spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers:
                [Object.spec.template.spec.containers{name: 'side', image: 's'}]}}}}",
    )
    .unwrap();
    assert_eq!(
        new["metadata"]["labels"],
        json!({"app": "x", "team": "a", "n": "7"})
    );
    let names: Vec<&Value> = new["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["c", "side"]);
    assert_eq!(
        apply("Object{spec: Object.status{replicas: 1}}").unwrap_err(),
        "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type"
    );
    let atomic = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
        [Object.spec.template.spec.containers{name: 'c', args: ['a']}]}}}}";
    assert_eq!(
        apply(atomic).unwrap_err(),
        "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args"
    );
    let patch = |text: &str| mutated("JSONPatch", text);
    let new = patch(
        "[JSONPatch{op: 'test', path: '/spec/replicas', value: 7}, JSONPatch{op: 'replace', path: '/spec/replicas', value: 1},
          JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]",
    )
    .unwrap();
    assert_eq!(new["spec"]["replicas"], 1);
    assert_eq!(new["metadata"]["labels"]["a/b"], "c");
    let untouched = patch(
        "[JSONPatch{op: 'test', path: '/spec/replicas', value: 9}, JSONPatch{op: 'remove', path: '/spec'}]",
    );
    assert_eq!(untouched.unwrap(), deployment());
}

#[test]
fn rules_and_selectors_choose_requests() {
    let object = deployment();
    let chosen = |webhook: Value, change: &dyn Fn(&mut Request)| {
        let all = Webhook::all(&json!({"metadata": {"name": "c"}, "webhooks": [webhook]}));
        let mut request = request("CREATE", &object);
        change(&mut request);
        let labels = [("env".to_string(), "test".to_string())];
        all[0]
            .find(&request, &labels, Some(&object), None)
            .map(|one| one.api_version())
    };
    let rule = |plural: &str, scope: &str| {
        json!({"rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": [plural], "scope": scope}]})
    };
    let same = |_: &mut Request| {};
    assert_eq!(chosen(rule("deployments", "*"), &same), Some("apps/v1".into()));
    assert_eq!(chosen(rule("deployments", "Cluster"), &same), None);
    assert_eq!(chosen(rule("*/status", "*"), &same), None);
    let status = |request: &mut Request| request.subresource = "status".into();
    assert_eq!(chosen(rule("*/status", "*"), &status), Some("apps/v1".into()));
    assert_eq!(chosen(rule("*/*", "*"), &status), Some("apps/v1".into()));
    assert_eq!(chosen(rule("*", "*"), &status), None);
    let delete = |request: &mut Request| request.operation = "DELETE";
    assert_eq!(chosen(rule("deployments", "*"), &delete), None);
    let older = |request: &mut Request| {
        let mut other = (*request.resource).clone();
        other.version = "v1beta1".into();
        request.equivalent = vec![request.resource.clone()];
        request.resource = Arc::new(other);
    };
    assert_eq!(chosen(rule("deployments", "*"), &older), Some("apps/v1".into()));
    let mut exact = rule("deployments", "*");
    exact["matchPolicy"] = json!("Exact");
    assert_eq!(chosen(exact, &older), None);
    let mut selecting = rule("deployments", "*");
    selecting["namespaceSelector"] = json!({"matchLabels": {"env": "prod"}});
    assert_eq!(chosen(selecting.clone(), &same), None);
    selecting["namespaceSelector"] = json!({"matchLabels": {"env": "test"}});
    selecting["objectSelector"] = json!({"matchLabels": {"app": "y"}});
    assert_eq!(chosen(selecting.clone(), &same), None);
    selecting["objectSelector"] = json!({"matchLabels": {"app": "x"}});
    assert_eq!(chosen(selecting, &same), Some("apps/v1".into()));
}

#[test]
fn configurations_are_judged_in_the_originals_words() {
    let shown = |kind: &str, object: Value| -> Vec<String> {
        check(kind, &object, None)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let webhook = json!({"name": "a.b", "clientConfig": {"url": "http://u@h/p?q"}, "rules": [{"apiGroups": ["*", "a"], "apiVersions": [""],
        "operations": ["READ"], "resources": ["*/*", "pods"]}], "failurePolicy": "Maybe", "timeoutSeconds": 31,
        "admissionReviewVersions": ["v2"], "matchConditions": [{"name": "x", "expression": "object.a +"}, {"name": "x", "expression": "1"}]});
    assert_eq!(
        shown("ValidatingWebhookConfiguration", json!({"webhooks": [webhook]})),
        [
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            "webhooks[0].rules[0].operations[0]: Unsupported value: \"READ\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            "webhooks[0].rules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
            "webhooks[0].rules[0].apiVersions[0]: Required value",
            "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources",
            "webhooks[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
            "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            "webhooks[0].matchConditions[0].expression: Invalid value: \"object.a +\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.a +\n | ..........^",
            "webhooks[0].matchConditions[1].expression: Invalid value: \"1\": must evaluate to bool but got int",
            "webhooks[0].matchConditions[1].name: Duplicate value: \"x\"",
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ]
    );
    let policy = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "matchConstraints": constraints(),
        "variables": [{"name": "in", "expression": "1"}], "validations": [{"expression": "object.x", "reason": "Why"}]}});
    assert_eq!(
        shown("ValidatingAdmissionPolicy", policy),
        [
            "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
            "spec.validations[0].expression: Invalid value: \"object.x\": must evaluate to bool but got dyn",
            "spec.validations[0].reason: Unsupported value: \"Why\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ]
    );
    let mutating = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "matchConstraints": constraints(), "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Other{}}"}}, {"patchType": "JSONPatch"}]}});
    assert_eq!(
        shown("MutatingAdmissionPolicy", mutating),
        [
            "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object{spec: Other{}}\": compilation failed: ERROR: <input>:1:14: undeclared reference to 'Other' (in container '')\n | Object{spec: Other{}}\n | .............^",
            "spec.mutations[1].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ]
    );
    let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {"name": "a", "selector": {}}}});
    assert_eq!(shown("ValidatingAdmissionPolicyBinding", binding).len(), 4);
}

#[test]
fn types_are_checked_where_the_policy_names_them() {
    let resource = find("apps", "v1", "deployments").unwrap();
    let schema = typed(&resource).unwrap();
    let policy = json!({"spec": {"matchConstraints": constraints(), "validations": [
        {"expression": "object.spec.replicas > 1"}, {"expression": "object.spec.replicas > '1'"}]}});
    let found = type_warnings(&policy, |_, _, _| Some(("Deployment".into(), &schema)));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["fieldRef"], "spec.validations[1].expression");
    assert!(
        found[0]["warning"].as_str().unwrap().starts_with(
            "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"
        ),
        "{found:?}"
    );
}
