use super::*;
use serde_json::json;

fn pod(container: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "n", "labels": { "app": "web" } },
        "spec": { "containers": [container] }
    }))
    .unwrap()
}

fn referred() -> Referred {
    let map = serde_json::from_value(json!({ "data": { "KEY": "map", "OTHER": "o" } })).unwrap();
    let secret = serde_json::from_value(json!({ "data": { "KEY": "c2VjcmV0" } })).unwrap();
    Referred {
        config_maps: [("map".to_owned(), Some(Arc::new(map))), ("gone".to_owned(), None)].into(),
        secrets: [("secret".to_owned(), Some(Arc::new(secret)))].into(),
    }
}

fn check(container: serde_json::Value, expected: Result<&[(&str, &str)], &str>) {
    let pod = pod(container);
    let facts = Facts {
        node_name: "node".into(),
        ..Default::default()
    };
    let services = [("WEB_SERVICE_HOST".to_owned(), "10.0.0.9".to_owned())].into();
    let got = environment(
        &pod,
        &super::super::spec::containers(&pod)[0],
        &facts,
        &referred(),
        &services,
    );
    let expected = expected
        .map(|list| {
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>()
        })
        .map_err(str::to_owned);
    assert_eq!(got, expected);
}

#[test]
fn order_precedence_and_references() {
    check(
        json!({ "name": "c",
            "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "map" } }, { "secretRef": { "name": "secret" } }],
            "env": [
                { "name": "A", "value": "$(P_KEY)-$(KEY)-$(LATER)-$(WEB_SERVICE_HOST)" },
                { "name": "LATER", "value": "x" },
                { "name": "KEY", "value": "own" },
                { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                { "name": "NONE", "valueFrom": { "configMapKeyRef": { "name": "gone", "key": "k", "optional": true } } },
            ] }),
        Ok(&[
            ("P_KEY", "map"),
            ("P_OTHER", "o"),
            ("KEY", "own"),
            ("A", "map-secret-$(LATER)-10.0.0.9"),
            ("LATER", "x"),
            ("NODE", "node"),
            ("WEB_SERVICE_HOST", "10.0.0.9"),
        ]),
    );
}

#[test]
fn what_is_missing_is_named() {
    let key = |map: &str, key: &str| {
        json!({ "name": "c", "env": [{ "name": "A",
            "valueFrom": { "configMapKeyRef": { "name": map, "key": key } } }] })
    };
    check(key("gone", "k"), Err("configmap \"gone\" not found"));
    check(
        key("map", "nope"),
        Err("couldn't find key nope in ConfigMap n/map"),
    );
    check(
        json!({ "name": "c", "envFrom": [{ "secretRef": { "name": "none" } }] }),
        Err("secret \"none\" not found"),
    );
}

#[test]
fn services_show_as_the_original_writes_them() {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "my-web", "namespace": "n" },
        "spec": { "clusterIP": "10.0.0.7", "ports": [{ "name": "http-main", "port": 80, "protocol": "TCP" }] }
    }))
    .unwrap();
    let headless: Service = serde_json::from_value(json!({
        "metadata": { "name": "none", "namespace": "n" }, "spec": { "clusterIP": "None" }
    }))
    .unwrap();
    let variables = service_variables(
        &pod(json!({ "name": "c" })),
        &[Arc::new(service), Arc::new(headless)],
    );
    let expected: BTreeMap<String, String> = [
        ("MY_WEB_SERVICE_HOST", "10.0.0.7"),
        ("MY_WEB_SERVICE_PORT", "80"),
        ("MY_WEB_SERVICE_PORT_HTTP_MAIN", "80"),
        ("MY_WEB_PORT", "tcp://10.0.0.7:80"),
        ("MY_WEB_PORT_80_TCP", "tcp://10.0.0.7:80"),
        ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
        ("MY_WEB_PORT_80_TCP_PORT", "80"),
        ("MY_WEB_PORT_80_TCP_ADDR", "10.0.0.7"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    assert_eq!(variables, expected);
}
