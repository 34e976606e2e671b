//! Which files a ConfigMap, Secret, downward or projected volume shows. Pure: objects and tokens are handed in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, VolumeProjection,
};

use super::atomic::File;
use crate::pod::downward::{self, Facts};
use crate::pod::environment::Referred;

/// Mode of files where nothing else is asked.
pub(crate) const MODE_DEFAULT: i32 = 0o644;

/// Files by their path in the volume.
pub(crate) type Files = BTreeMap<PathBuf, File>;

/// Tokens that were had, by the projected source's path.
pub(crate) type Tokens = BTreeMap<String, String>;

/// A ConfigMap's or Secret's keys, all or those that `items` picks.
fn keyed<'a>(
    contents: &BTreeMap<&'a str, &'a [u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    what: &str,
) -> Result<Files, String> {
    let file = |content: &[u8], mode: i32| File {
        content: content.to_vec(),
        mode: mode.unsigned_abs() & 0o777,
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(contents
            .iter()
            .map(|(key, value)| (PathBuf::from(key), file(value, mode)))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match contents.get(item.key.as_str()) {
            Some(content) => {
                files.insert(
                    PathBuf::from(&item.path),
                    file(content, item.mode.unwrap_or(mode)),
                );
            }
            None if optional => {}
            None => return Err(format!("{what} references non-existent key: {}", item.key)),
        }
    }
    Ok(files)
}

/// A ConfigMap's files.
pub(crate) fn config_map(
    name: &str,
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Files, String> {
    let Some(map) = map else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("configmap \"{name}\" not found"))
        };
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, ByteString(value))| (key.as_str(), value.as_slice()));
    keyed(&text.chain(binary).collect(), items, mode, optional, "configmap")
}

/// A Secret's files.
pub(crate) fn secret(
    name: &str,
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Files, String> {
    let Some(secret) = secret else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("secret \"{name}\" not found"))
        };
    };
    let contents = secret
        .data
        .iter()
        .flatten()
        .map(|(key, ByteString(value))| (key.as_str(), value.as_slice()));
    keyed(&contents.collect(), items, mode, optional, "secret")
}

/// The files of a downward volume.
pub(crate) fn downward(
    pod: &Pod,
    facts: &Facts,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, facts, &field.field_path)?,
            (None, Some(resource)) => downward::resource(pod, facts, resource, None)?,
            (None, None) => {
                return Err(format!(
                    "downwardAPI item {:?}: use fieldRef or resourceFieldRef",
                    item.path
                ));
            }
        };
        let mode = item.mode.unwrap_or(mode).unsigned_abs() & 0o777;
        files.insert(
            PathBuf::from(&item.path),
            File {
                content: content.into_bytes(),
                mode,
            },
        );
    }
    Ok(files)
}

/// All sources of a projected volume together; a later one wins.
pub(crate) fn projected(
    pod: &Pod,
    facts: &Facts,
    sources: &[VolumeProjection],
    mode: i32,
    referred: &Referred,
    tokens: &Tokens,
) -> Result<Files, String> {
    let mut files = Files::new();
    for source in sources {
        if let Some(source) = &source.config_map {
            let map = referred.config_maps.get(&source.name).and_then(Option::as_deref);
            let optional = source.optional == Some(true);
            files.extend(config_map(
                &source.name,
                map,
                source.items.as_deref(),
                mode,
                optional,
            )?);
        } else if let Some(source) = &source.secret {
            let found = referred.secrets.get(&source.name).and_then(Option::as_deref);
            let optional = source.optional == Some(true);
            files.extend(secret(
                &source.name,
                found,
                source.items.as_deref(),
                mode,
                optional,
            )?);
        } else if let Some(source) = &source.downward_api {
            files.extend(downward(
                pod,
                facts,
                source.items.as_deref().unwrap_or(&[]),
                mode,
            )?);
        } else if let Some(source) = &source.service_account_token {
            if let Some(token) = tokens.get(&source.path) {
                let mode = mode.unsigned_abs() & 0o777;
                files.insert(
                    PathBuf::from(&source.path),
                    File {
                        content: token.clone().into_bytes(),
                        mode,
                    },
                );
            }
        } else {
            return Err("projected source: use configMap, secret, downwardAPI or serviceAccountToken".into());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(files: Files) -> Vec<(String, String, u32)> {
        let text = |(path, file): (PathBuf, File)| {
            (
                path.display().to_string(),
                String::from_utf8(file.content).unwrap(),
                file.mode,
            )
        };
        files.into_iter().map(text).collect()
    }

    #[test]
    fn keys_are_picked_renamed_and_missed() {
        let map: ConfigMap = serde_json::from_value(json!({ "data": { "a": "1", "b": "2" } })).unwrap();
        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{ "key": "b", "path": "x/y", "mode": 256 }])).unwrap();
        let files = config_map("m", Some(&map), Some(&items), MODE_DEFAULT, false).unwrap();
        assert_eq!(texts(files), [("x/y".into(), "2".into(), 0o400)]);
        let missing: Vec<KeyToPath> = serde_json::from_value(json!([{ "key": "c", "path": "c" }])).unwrap();
        let error = config_map("m", Some(&map), Some(&missing), MODE_DEFAULT, false).unwrap_err();
        assert_eq!(error, "configmap references non-existent key: c");
        assert!(
            config_map("m", None, None, MODE_DEFAULT, true)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            config_map("m", None, None, MODE_DEFAULT, false).unwrap_err(),
            "configmap \"m\" not found"
        );
    }

    #[test]
    fn a_token_that_was_not_had_leaves_the_rest() {
        let sources: Vec<VolumeProjection> = serde_json::from_value(json!([
            { "serviceAccountToken": { "path": "token" } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
        ]))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "namespace": "n" } })).unwrap();
        let project = |tokens: &Tokens| {
            texts(
                projected(
                    &pod,
                    &Facts::default(),
                    &sources,
                    MODE_DEFAULT,
                    &Referred::default(),
                    tokens,
                )
                .unwrap(),
            )
        };
        assert_eq!(project(&Tokens::new()), [("namespace".into(), "n".into(), 0o644)]);
        assert_eq!(project(&[("token".to_owned(), "t".to_owned())].into()).len(), 2);
    }
}
