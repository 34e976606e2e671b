use std::collections::HashMap;

use capstan_kinds::resource;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::table::{Field, Form, Message, Shape, Type, message};
use super::*;

/// A document with every field filled, as far as messages that hold themselves allow.
fn filled(kind: &Message, depth: usize) -> Value {
    let mut object = json!({});
    for slot in &kind.slots {
        let Field {
            member, kind, shape, ..
        } = slot.field;
        let one = |salt: &str| match kind {
            Type::Message(inner) if message(inner).name.contains("JSONSchema") => depth
                .min(3)
                .checked_sub(1)
                .map(|depth| filled_message(message(inner), depth)),
            Type::Message(inner) => Some(filled_message(message(inner), depth.saturating_sub(1))),
            kind => Some(scalar(kind, slot.field.number, &format!("{member}{salt}"))),
        };
        let Some(first) = one("") else { continue };
        let single = matches!(kind, Type::Message(_));
        object[member] = match shape {
            Shape::Single | Shape::Inline => first,
            Shape::List if single => json!([first]),
            Shape::List => json!([first, one("2")]),
            Shape::Map if single => json!({ "key": first.clone(), "a": first }),
            Shape::Map => json!({ "key": first, "a": one("2"), "a.b/c": one("3") }),
        };
    }
    object
}

fn filled_message(kind: &Message, depth: usize) -> Value {
    let schema = || {
        let schema = kind.slots.iter().find(|slot| slot.field.member == "schema");
        match schema.map(|slot| slot.field.kind) {
            Some(Type::Message(inner)) => filled(message(inner), depth),
            _ => json!({}),
        }
    };
    match (kind.form, depth % 2) {
        (Form::Object, _) => filled(kind, depth),
        (Form::List, _) | (Form::SchemaOrTexts, 0) => json!(["one", "two"]),
        (Form::SchemaOrFlag, 0) => json!(false),
        (Form::SchemaOrList, 0) => json!([schema(), {"type": "string"}]),
        _ => schema(),
    }
}

fn scalar(kind: Type, number: u32, text: &str) -> Value {
    match kind {
        Type::Text => json!(text),
        Type::Base64 => json!("AP/+"),
        Type::Boolean => json!(true),
        Type::Integer32 => json!(i64::from(number) - 1_000_000_000),
        Type::Integer64 => json!(i64::MIN + i64::from(number)),
        Type::Double => json!(f64::from(number) + 0.25),
        Type::Time => json!("2026-02-03T04:05:06Z"),
        Type::MicroTime => json!("2026-02-03T04:05:06.000007Z"),
        Type::Quantity => json!("1500m"),
        Type::NumberOrText if number.is_multiple_of(2) => json!("10%"),
        Type::NumberOrText => json!(-7),
        Type::Raw => json!({ "a": [1, "b", null, {}] }),
        Type::Message(_) => unreachable!(),
    }
}

fn encoded(document: &Value) -> Vec<u8> {
    body(document.to_string().as_bytes()).unwrap().to_vec()
}

fn of(api_version: &str, kind: &str, mut document: Value) -> Value {
    document["apiVersion"] = json!(api_version);
    document["kind"] = json!(kind);
    document
}

/// Every kind of the resource table that has the form, their lists, and what subresources and answers use.
fn kinds() -> Vec<(String, String)> {
    let mut kinds: Vec<_> = resource::all()
        .iter()
        .flat_map(|one| {
            let lists = one
                .is_stored()
                .then(|| (one.api_version(), one.list_kind.clone()));
            let subs = one
                .subresources
                .iter()
                .filter_map(|sub| sub.group_version_kind.clone());
            let subs = subs.map(|(group, version, kind)| match group.as_str() {
                "" => (version, kind),
                _ => (format!("{group}/{version}"), kind),
            });
            [(one.api_version(), one.kind.clone())]
                .into_iter()
                .chain(lists)
                .chain(subs)
                .collect::<Vec<_>>()
        })
        .filter(|(api_version, _)| !api_version.contains("capstan.dev"))
        .chain([
            ("v1".to_owned(), "Status".to_owned()),
            ("apps/v1".into(), "DeleteOptions".into()),
            ("meta.k8s.io/v1".into(), "PartialObjectMetadata".into()),
            ("meta.k8s.io/v1".into(), "PartialObjectMetadataList".into()),
            ("v1".into(), "APIResourceList".into()),
            ("v1".into(), "APIGroupList".into()),
        ])
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn every_kind_with_all_fields_comes_back_as_it_was() {
    for (api_version, kind) in kinds() {
        let table = table::of_kind(&api_version, &kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
        let document = of(&api_version, &kind, filled(table, 9));
        let decoded = decode(&encoded(&document)).unwrap();
        assert_eq!(decoded, document, "{api_version} {kind}");
    }
}

#[test]
fn what_json_leaves_out_is_written_as_go_writes_it() {
    for (api_version, kind) in kinds() {
        let table = table::of_kind(&api_version, &kind).unwrap();
        let mut raw = Vec::new();
        encode::append(&mut raw, table, b"{\"unknown\":{\"a\":[1]},\"metadata\":null}").unwrap();
        assert_eq!(&*table.zero, raw, "{kind}");
        let again = decode(&encoded(&of(&api_version, &kind, json!({})))).unwrap();
        let mut stripped = again.clone();
        for member in ["apiVersion", "kind"] {
            stripped.as_object_mut().unwrap().remove(member);
        }
        // Only zeros that JSON shows too are in it.
        encode::append(&mut raw, table, stripped.to_string().as_bytes()).unwrap();
        assert_eq!(raw.len(), 2 * table.zero.len(), "{kind}: {again}");
    }
}

#[test]
fn values_of_a_wrong_type_are_left_out() {
    let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {
        "name": 5, "labels": ["a"], "finalizers": {"a": 1}, "creationTimestamp": "yesterday", "uid": "u",
        "generation": "7", "ownerReferences": [null]},
        "spec": {"leaseDurationSeconds": {"a": {}}, "renewTime": true, "leaseTransitions": 3.0}});
    assert_eq!(
        decode(&encoded(&lease)).unwrap(),
        json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
            "metadata": {"uid": "u", "ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]},
            "spec": {"leaseTransitions": 3}})
    );
    assert!(Codec::of("v1", "Pod").unwrap().body(b"{").is_err());
    assert!(body(br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1"}"#).is_none());
}

#[test]
fn maps_are_written_by_key_whatever_their_order() {
    let of = |json: &str| body(json.as_bytes()).unwrap();
    let long = "x".repeat(200);
    let one = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","data":{{"b":"{long}","a":"1","c":""}}}}"#);
    let other = format!(r#"{{"data":{{"a":"1","c":"","b":"{long}"}},"kind":"ConfigMap","apiVersion":"v1"}}"#);
    assert_eq!(of(&one), of(&other));
    assert_eq!(decode(&of(&one)).unwrap()["data"]["b"], json!(long));
}

#[test]
fn lists_and_events_are_what_their_parts_say() {
    let pod = |name: &str| json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}});
    let item = Codec::of("v1", "Pod").unwrap();
    let mut items = Vec::new();
    for name in ["a", "b"] {
        item.append_item(&mut items, pod(name).to_string().as_bytes())
            .unwrap();
    }
    let metadata = json!({"resourceVersion": "5", "continue": "c", "remainingItemCount": 0});
    let list = Codec::of("v1", "PodList").unwrap();
    let (head, tail) = list.around_items(&metadata, items.len()).unwrap();
    let whole = [&head[..], &items, &tail].concat();
    let expected =
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": [pod("a"), pod("b")]});
    assert_eq!(whole, encoded(&expected));
    assert_eq!(decode(&whole).unwrap()["metadata"], expected["metadata"]);

    let object = encoded(&pod("a"));
    let event = frame("ADDED", &object);
    assert_eq!(
        u32::from_be_bytes(event[..4].try_into().unwrap()) as usize,
        event.len() - 4
    );
    let mut fields = Reader::new(&event[4..]);
    assert_eq!(fields.field().unwrap(), Some((1, Wire::Bytes(b"ADDED"))));
    let Some((2, Wire::Bytes(raw))) = fields.field().unwrap() else {
        panic!("no object")
    };
    assert_eq!(Reader::new(raw).field().unwrap(), Some((1, Wire::Bytes(&object))));
}

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, bytes);
    out
}

fn raw_body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
}

#[test]
fn messages_become_the_documents_that_json_would_give() {
    let label = [field(1, b"k"), field(2, b"v")].concat();
    let metadata = [field(1, b"c"), field(3, b""), field(8, b""), field(11, &label)].concat();
    let data = [field(1, b"a"), field(2, b"")].concat();
    // A message that comes in two parts is one.
    let more = field(5, b"u");
    let raw = [
        field(1, &metadata),
        field(2, &data),
        field(15, b"later"),
        field(1, &more),
    ]
    .concat();
    assert_eq!(
        decode(&raw_body("v1", "ConfigMap", &raw)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": ""},
            "metadata": {"name": "c", "labels": {"k": "v"}, "uid": "u"},
        })
    );
    let options = decode(&raw_body("apps/v1", "DeleteOptions", &[8, 0])).unwrap();
    assert_eq!(options["gracePeriodSeconds"], 0);
    // Numbers may come packed.
    let context = field(4, &[1, 2, 0x80, 1]);
    let raw = field(2, &field(14, &context));
    let pod = decode(&raw_body("v1", "Pod", &raw)).unwrap();
    assert_eq!(
        pod["spec"]["securityContext"]["supplementalGroups"],
        json!([1, 2, 128])
    );
    // An embedded object may be protobuf itself.
    let inner = raw_body("v1", "ConfigMap", &field(2, &data));
    let revision = decode(&raw_body(
        "apps/v1",
        "ControllerRevision",
        &field(2, &field(1, &inner)),
    ))
    .unwrap();
    assert_eq!(revision["data"]["data"], json!({"a": ""}));
}

#[test]
fn broken_bodies_are_refused() {
    for (kind, raw) in [
        ("ConfigMap", &[10, 200][..]),
        ("ConfigMap", &[8, 1]),
        ("Pod", &[3]),
        ("Pod", &[0, 0]),
    ] {
        let read = decode(&raw_body("v1", kind, raw));
        assert!(matches!(read, Err(Problem::Malformed(_))), "{raw:?}");
    }
    assert!(matches!(decode(b"{}"), Err(Problem::Malformed(_))));
    let unknown = decode(&raw_body("v1", "Nothing", b""));
    assert!(matches!(unknown, Err(Problem::UnknownKind(_))));
}

#[test]
fn deep_bodies_are_refused_and_what_is_read_can_be_read_again() {
    // `not` within `not`, within a version's schema.
    let crd = |depth: usize| {
        let schema = (0..depth).fold(Vec::new(), |inner, _| field(28, &inner));
        let versions = field(7, &field(4, &field(1, &schema)));
        decode(&raw_body(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            &field(2, &versions),
        ))
    };
    let read = crd(100).unwrap();
    let again: Value = serde_json::from_slice(read.to_string().as_bytes()).unwrap();
    assert_eq!(again, read);
    assert!(crd(DOCUMENT_DEPTH_MAX).is_err());
    assert!(crd(100_000).is_err());
    let lists = [vec![b'['; 115], vec![b']'; 115]].concat();
    let revision = |raw: &[u8]| {
        decode(&raw_body(
            "apps/v1",
            "ControllerRevision",
            &field(2, &field(1, raw)),
        ))
    };
    assert!(revision(&lists).is_ok());
    assert!(revision(&[b"[[[[[[[[".as_slice(), &lists, b"]]]]]]]]"].concat()).is_err());
    let own = |depth: usize| {
        let body =
            |inner: Vec<u8>, _| raw_body("apps/v1", "ControllerRevision", &field(2, &field(1, &inner)));
        revision(&(0..depth).fold(b"1".to_vec(), body))
    };
    assert!(own(100).is_ok() && own(DOCUMENT_DEPTH_MAX + 1).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&[MAGIC, &bytes].concat());
        for (api_version, kind) in [("v1", "Pod"), ("v1", "Service"), ("apps/v1", "DeleteOptions"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("certificates.k8s.io/v1", "CertificateSigningRequest")] {
            if let Ok(document) = decode(&raw_body(api_version, kind, &bytes)) {
                prop_assert_eq!(&document["kind"], kind);
                // What was read can be written, and then read the same.
                let again = decode(&encoded(&document)).unwrap();
                prop_assert_eq!(decode(&encoded(&again)).unwrap(), again);
            }
        }
    }

    #[test]
    fn bodies_with_a_few_wrong_bytes_are_read_or_refused(
        kind in 0..400_usize, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let kinds = KINDS.get_or_init(kinds);
        let (api_version, kind) = &kinds[kind % kinds.len()];
        let table = table::of_kind(api_version, kind).unwrap();
        let mut bytes = encoded(&of(api_version, kind, filled(table, 3)));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(document) = decode(&bytes) {
            let json = document.to_string();
            prop_assert!(json.len() < bytes.len() * 40);
            let _ = body(json.as_bytes());
        }
    }

    #[test]
    fn any_json_is_written_or_refused(text in "[\\[\\]{}\",:a-z0-9.]{0,60}") {
        let _ = Codec::of("v1", "Pod").unwrap().body(text.as_bytes());
        let _ = Codec::of("v1", "Pod").unwrap().body(format!(r#"{{"metadata":{{"labels":{text}}},"spec":{text}}}"#).as_bytes());
    }
}

static KINDS: std::sync::OnceLock<Vec<(String, String)>> = std::sync::OnceLock::new();

/// JSON without the white space between its parts.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        let between = !in_text && byte.is_ascii_whitespace();
        in_text ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        !between
    };
    json.iter().copied().filter(keep).collect()
}

/// Kubernetes' own test data holds each kind as JSON and as Go wrote it in protobuf, in files
/// `GROUP.VERSION.KIND.{json,pb}`. Run with `KUBERNETES_TESTDATA=…/k8s.io/api/testdata/HEAD`.
#[test]
#[ignore = "needs Kubernetes' own test data, which is not part of this project"]
fn bytes_are_those_of_go() {
    let folder = std::env::var("KUBERNETES_TESTDATA").expect("KUBERNETES_TESTDATA names the folder");
    let mut files: HashMap<bool, Vec<String>> = HashMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Some(golden) = path.to_str().and_then(|path| path.strip_suffix(".pb")) else {
            continue;
        };
        let Ok(json) = std::fs::read(format!("{golden}.json")) else {
            continue;
        };
        let document: Value = serde_json::from_slice(&json).unwrap();
        let types = (document["apiVersion"].as_str(), document["kind"].as_str());
        let (Some(api_version), Some(kind)) = types else {
            continue;
        };
        let Some(codec) = Codec::of(api_version, kind) else {
            continue;
        };
        let bytes = std::fs::read(&path).unwrap();
        let same = codec.body(&compact(&json)).unwrap() == bytes
            && decode(&bytes).is_ok_and(|read| read == document);
        files
            .entry(same)
            .or_default()
            .push(golden.rsplit('/').next().unwrap().to_owned());
    }
    println!("{} kinds are the same", files.get(&true).map_or(0, Vec::len));
    assert!(
        files.contains_key(&true) && !files.contains_key(&false),
        "{:#?}",
        files.get(&false)
    );
}
