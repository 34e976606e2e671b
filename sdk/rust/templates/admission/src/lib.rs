//! An admission policy to start from: it refuses pods whose images have no tag.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    admission::{Object, Request, Validate, Verdict, allow, deny},
};

pub struct TaggedImages;

impl Plugin for TaggedImages {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Validate for TaggedImages {
    fn validate(
        &self,
        _: &Request,
        object: Option<Object<'_>>,
        _: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        // Absent when something is deleted.
        let Some(object) = object else {
            return Ok(allow());
        };
        for at in 0..object.length("/spec/containers").unwrap_or(0) {
            let image = object
                .text(&format!("/spec/containers/{at}/image"))
                .unwrap_or_default();
            if !image.rsplit('/').next().unwrap_or_default().contains([':', '@']) {
                let message = format!("{image:?} has no tag: write {image}:VERSION");
                return Ok(deny(format!("spec.containers[{at}].image"), message));
            }
        }
        Ok(allow())
    }
}

capstan_sdk::export!(admission: validate => TaggedImages);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_needs_a_tag() {
        for (image, allowed) in [("nginx", false), ("host:5000/nginx", false), ("nginx:1.29", true)] {
            let pod = json!({"spec": {"containers": [{"image": image}]}});
            let request = capstan_sdk::admission::test_request("Pod", "default");
            let verdict = TaggedImages.validate(&request, Some(Object::new(&pod)), None);
            assert_eq!(matches!(verdict, Ok(Verdict::Allow(_))), allowed, "{image}");
        }
    }
}
