//! Which images the policy lets through.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_image_policy::ImagePolicy;
use capstan_sdk::{
    Config, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::json;

#[test]
fn images_are_judged_by_registry_tag_and_digest() {
    let registries =
        json!({"allowedRegistries": ["registry.example.com/team", "localhost:5000", "docker.io/library"]});
    let tags = json!({"denyTags": ["latest"]});
    let digest = json!({"requireDigest": true});
    for (config, image, allowed) in [
        (&registries, "registry.example.com/team/app:1", true),
        (&registries, "registry.example.com/teams/app:1", false),
        (&registries, "localhost:5000/app", true),
        (&registries, "nginx", true),
        (&registries, "bitnami/nginx", false),
        (&tags, "nginx", false),
        (&tags, "nginx:latest", false),
        (&tags, "nginx:1.27", true),
        (&tags, "localhost:5000/app", false),
        (&tags, "nginx@sha256:abc", true),
        (&digest, "nginx:1.27", false),
        (&digest, "nginx:1.27@sha256:abc", true),
    ] {
        let policy = ImagePolicy::new(Config::read(&config.to_string()).unwrap()).unwrap();
        let pod = json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        let verdict = policy
            .validate(&test_request("Pod", "default"), Some(Object::new(&pod)), None)
            .unwrap();
        assert_eq!(
            matches!(verdict, Verdict::Allow(_)),
            allowed,
            "{image} under {config}: {verdict:?}"
        );
    }
}

#[test]
fn the_denial_names_field_value_and_what_would_be_right() {
    let policy = ImagePolicy::new(Config::read(r#"{"denyTags":["latest"]}"#).unwrap()).unwrap();
    let deployment =
        json!({"spec": {"template": {"spec": {"containers": [{"image": "a:1"}, {"image": "nginx"}]}}}});
    let request = test_request("Deployment", "default");
    let Verdict::Deny(denial) = policy
        .validate(&request, Some(Object::new(&deployment)), None)
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(
        denial.field.as_deref(),
        Some("spec.template.spec.containers[1].image")
    );
    assert_eq!(
        denial.message,
        "spec.template.spec.containers[1].image: image \"nginx\" is not allowed: tag \"latest\" is denied; name a fixed version"
    );
    let unchanged = policy
        .validate(
            &request,
            Some(Object::new(&deployment)),
            Some(Object::new(&deployment)),
        )
        .unwrap();
    assert_eq!(unchanged, Verdict::Allow(vec![]));
}
