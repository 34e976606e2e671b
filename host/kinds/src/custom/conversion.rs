//! Conversion of custom objects between versions by a webhook: what it is sent, and what it may answer.
//! Invariants: a converted object is of the asked version and the same kind, name, namespace and uid; of the
//! metadata, only labels and annotations are taken from it. Calling the webhook is the API server's work. Pure.

use serde_json::{Map, Value, json};

use crate::admission::ClientConfig;
use crate::name;

/// `spec.conversion` with the strategy Webhook.
#[derive(Debug)]
pub struct Conversion {
    /// Whom to call.
    pub client: ClientConfig,
    /// `v1` or `v1beta1`, the first that it takes; none where it takes neither.
    review_version: Option<&'static str>,
}

impl Conversion {
    /// Reads it; none with another strategy.
    pub(super) fn read(spec: &Value) -> Option<Self> {
        let conversion = &spec["conversion"];
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let mut versions = webhook["conversionReviewVersions"]
            .as_array()
            .into_iter()
            .flatten();
        Some(Self {
            client: ClientConfig::read(&webhook["clientConfig"])?,
            review_version: versions.find_map(|version| match version.as_str() {
                Some("v1") => Some("v1"),
                Some("v1beta1") => Some("v1beta1"),
                _ => None,
            }),
        })
    }

    /// The ConversionReview that asks for objects in a version.
    pub fn ask(&self, uid: &str, api_version: &str, objects: &[Value]) -> Result<Value, String> {
        let version = self
            .review_version
            .ok_or("no supported conversion review versions")?;
        Ok(json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": { "uid": uid, "desiredAPIVersion": api_version, "objects": objects },
        }))
    }

    /// The converted objects; an error is what is wrong with the answer, in the original's words.
    pub fn read_answer(
        &self,
        uid: &str,
        api_version: &str,
        originals: &[Value],
        review: &Value,
    ) -> Result<Vec<Value>, String> {
        let shown = originals.first().map(kind_of).unwrap_or_default();
        let failed = |why: String| format!("conversion webhook for {shown} failed: {why}");
        let converted = self.objects(uid, review).map_err(failed)?;
        if converted.len() != originals.len() {
            return Err(format!(
                "conversion webhook for {shown} returned {} objects, expected {}",
                converted.len(),
                originals.len()
            ));
        }
        let mut all = Vec::with_capacity(converted.len());
        for (index, (original, object)) in originals.iter().zip(converted).enumerate() {
            let judged = taken(api_version, original, object);
            all.push(judged.map_err(|(what, why)| match what {
                Wrong::Place => {
                    format!("conversion webhook for {shown} returned invalid object at index {index}: {why}")
                }
                Wrong::Object => format!("conversion webhook for {shown} returned invalid object: {why}"),
                Wrong::Metadata => format!("conversion webhook for {shown} returned invalid metadata: {why}"),
            })?);
        }
        Ok(all)
    }

    fn objects(&self, uid: &str, review: &Value) -> Result<Vec<Value>, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let v1 = self.review_version == Some("v1");
        let (version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
        if v1 && (version.as_str(), kind.as_str()) != ("apiextensions.k8s.io/v1", "ConversionReview") {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {version}, Kind={kind}"
            ));
        }
        let response = &review["response"];
        if !response.is_object() {
            return Err("no response provided".into());
        }
        let own = text(&response["uid"]);
        if v1 && own != uid {
            return Err(format!("expected response.uid={uid:?}, got {own:?}"));
        }
        let (status, message) = (
            text(&response["result"]["status"]),
            text(&response["result"]["message"]),
        );
        if status != "Success" {
            return Err(if message.is_empty() {
                format!("response.result.status was '{status}', not 'Success'")
            } else {
                message
            });
        }
        Ok(response["convertedObjects"]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }
}

fn kind_of(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

enum Wrong {
    Place,
    Object,
    Metadata,
}

/// The converted object with the original's metadata.
fn taken(api_version: &str, original: &Value, mut object: Value) -> Result<Value, (Wrong, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let version = text(&object["apiVersion"]);
    if version != api_version {
        let why = format!("invalid groupVersion (expected {api_version}, received {version})");
        return Err((Wrong::Place, why));
    }
    let (expected, kind) = (text(&original["kind"]), text(&object["kind"]));
    if kind != expected {
        let why = format!("invalid kind (expected {expected}, received {kind})");
        return Err((Wrong::Place, why));
    }
    for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (a, b) = (
            text(&original["metadata"][field]),
            text(&object["metadata"][field]),
        );
        if a != b {
            return Err((Wrong::Object, format!("must have the same {shown}: {a} != {b}")));
        }
    }
    let Some(converted) = object.get("metadata") else {
        return Err((Wrong::Metadata, "missing metadata in converted object".into()));
    };
    let metadata = restored(&original["metadata"], converted).map_err(|why| (Wrong::Metadata, why))?;
    object["metadata"] = metadata;
    Ok(object)
}

/// The original's metadata with the labels and annotations of the converted object.
fn restored(original: &Value, converted: &Value) -> Result<Value, String> {
    let mut metadata: Map<String, Value> = original.as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let own = match &converted[field] {
            Value::Null => {
                metadata.remove(field);
                continue;
            }
            Value::Object(own) => own,
            _ => return Err(format!("invalid metadata.{field} in converted object")),
        };
        for (key, value) in own {
            let Value::String(value) = value else {
                return Err(format!(
                    "metadata.{field}[{key}] must be a string in converted object"
                ));
            };
            let same = original[field][key].as_str() == Some(value);
            let mut problems = name::qualified(&key.to_lowercase());
            if field == "labels" {
                problems.extend(name::label_value(value));
            }
            if let Some(why) = problems.first().filter(|_| !same) {
                return Err(format!("metadata.{field}: Invalid value: {key:?}: {why}"));
            }
        }
        metadata.insert(field.to_string(), Value::Object(own.clone()));
    }
    Ok(Value::Object(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(objects: Value, result: Value) -> Result<Vec<Value>, String> {
        let spec = json!({"conversion": {"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "https://a.b"}, "conversionReviewVersions": ["v2", "v1"]}}});
        let conversion = Conversion::read(&spec).unwrap();
        let originals = [
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u", "generation": 3}, "x": 1}),
        ];
        let asked = conversion.ask("1", "g/v2", &originals).unwrap();
        assert_eq!(asked["request"]["desiredAPIVersion"], "g/v2");
        let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "1", "convertedObjects": objects, "result": result}});
        conversion.read_answer("1", "g/v2", &originals, &review)
    }

    #[test]
    fn answers_are_taken_or_refused_in_the_originals_words() {
        let ok = json!({"status": "Success"});
        let good = json!([{"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}}, "y": 1}]);
        assert_eq!(
            answered(good, ok.clone()).unwrap()[0],
            json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u", "generation": 3, "labels": {"l": "1"}}, "y": 1})
        );
        let refused = |objects: Value, result: Value| answered(objects, result).unwrap_err();
        assert_eq!(
            refused(json!([]), json!({"status": "Failure", "message": "no way"})),
            "conversion webhook for g/v1, Kind=K failed: no way"
        );
        assert_eq!(
            refused(json!([]), ok.clone()),
            "conversion webhook for g/v1, Kind=K returned 0 objects, expected 1"
        );
        assert_eq!(
            refused(json!([{"apiVersion": "g/v1", "kind": "K"}]), ok.clone()),
            "conversion webhook for g/v1, Kind=K returned invalid object at index 0: invalid groupVersion (expected g/v2, received g/v1)"
        );
        assert_eq!(
            refused(
                json!([{"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "b"}}]),
                ok
            ),
            "conversion webhook for g/v1, Kind=K returned invalid object: must have the same name: a != b"
        );
    }
}
