//! What decoding refuses and drops. The rules of kinds have their tables in `tests/rules`.

use serde_json::{Value, json};

use super::*;
use crate::resource::find_kind;

#[test]
fn decoding() {
    let deployment = find_kind("apps/v1", "Deployment").unwrap();
    let typed = |object: Value| types(&deployment, &object).unwrap_err();
    let start = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    for (object, why) in [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({"metadata": {"labels": []}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(typed(object), format!("{start}{why}"));
    }
    let secret = find_kind("v1", "Secret").unwrap();
    assert!(types(&secret, &json!({"data": {"a": "eA=="}})).is_ok());
    let why = types(&secret, &json!({"data": {"a": "e!=="}})).unwrap_err();
    assert!(why.ends_with("illegal base64 data at input byte 1"), "{why}");
    let odd = json!({"spec": {"replica": 1, "template": {"spec": {"containers": [{"imgae": "x"}]}}}, "metadata": {"labels": {"any": "x"}}, "extra": {}});
    let mut unknown = unknown_fields(&deployment, &odd);
    unknown.sort();
    assert_eq!(
        unknown,
        ["extra", "spec.replica", "spec.template.spec.containers[0].imgae"]
    );
}
