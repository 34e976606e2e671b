//! Rules of the volumes of a pod.
//! Invariants: a volume that breaks a rule is not known to the containers that mount it, as in the original.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::source::{self, Source};
use crate::name;
use crate::validate::at::At;
use crate::validate::storage;
use crate::validate::{certificates, metadata, selector};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const CONFLICT: &str = "conflicting duplicate paths";

/// The volumes of a pod by their names.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

const SOURCES: &[Source] = &[
    Source::new("emptyDir", |at| {
        if at.quantity("sizeLimit").is_some_and(|size| size.is_negative()) {
            at.forbidden("sizeLimit", "SizeLimit field must be a valid resource quantity");
        }
    }),
    Source::new("hostPath", source::host_path),
    Source::new("gitRepo", |at| {
        at.need(&["repository"]);
        source::local_path(at, "directory");
    }),
    Source::named("gcePersistentDisk", "gcePersistentDisk", "persistentDisk", |at| {
        source::disk(at, "pdName");
    }),
    Source::new("awsElasticBlockStore", |at| source::disk(at, "volumeID")),
    Source::new("secret", |at| {
        at.need(&["secretName"]);
        mode(at, "defaultMode");
        at.each("items").for_each(|item| key_to_path(&item));
    }),
    Source::new("nfs", source::nfs),
    Source::new("iscsi", |at| source::iscsi(at, true)),
    Source::new("glusterfs", |at| at.need(&["endpoints", "path"])),
    Source::new("flocker", source::flocker),
    Source::new("persistentVolumeClaim", |at| at.need(&["claimName"])),
    Source::new("rbd", source::rbd),
    Source::new("cinder", |at| {
        at.need(&["volumeID"]);
        source::secret_reference(at, "secretRef", &["name"]);
    }),
    Source::named("cephfs", "cephFS", "cephfs", source::cephfs),
    Source::new("quobyte", source::quobyte),
    Source::named("downwardAPI", "downwarAPI", "downwardAPI", |at| {
        mode(at, "defaultMode");
        at.each("items")
            .for_each(|item| downward(&item.named(at.path(""))));
    }),
    Source::new("fc", source::fibre_channel),
    Source::new("flexVolume", source::flex),
    Source::new("configMap", |at| {
        at.need(&["name"]);
        mode(at, "defaultMode");
        at.each("items").for_each(|item| key_to_path(&item));
    }),
    Source::new("azureFile", |at| at.need(&["secretName", "shareName"])),
    Source::new("vsphereVolume", |at| at.need(&["volumePath"])),
    Source::new("photonPersistentDisk", |at| at.need(&["pdID"])),
    Source::new("portworxVolume", |at| at.need(&["volumeID"])),
    Source::new("azureDisk", source::azure_disk),
    Source::new("storageos", |at| source::storage_os(at, &["name"])),
    Source::new("projected", projected),
    Source::new("scaleIO", source::scale_io),
    Source::new("csi", |at| {
        source::csi_driver(at, "driver");
        if let Some(secret) = at.some("nodePublishSecretRef") {
            if secret.text("name").is_empty() {
                secret.required("name", "");
            } else {
                secret.named(at.path("")).name("name", name::dns1123_subdomain);
            }
        }
    }),
    Source::new("ephemeral", |at| match at.some("volumeClaimTemplate") {
        None => at.required("volumeClaimTemplate", ""),
        Some(template) => {
            metadata::template(&template.at("metadata"), true);
            storage::claim_spec(&template.at("spec"));
        }
    }),
    Source::new("image", |at| {
        at.must_be_one_of("pullPolicy", &["Always", "IfNotPresent", "Never"]);
    }),
];

/// Judges the volumes of a pod spec; `pod` is the name of the pod, if it is one.
pub(super) fn check<'a>(spec: &At<'a>, pod: Option<&str>) -> Volumes<'a> {
    let mut known = Volumes::new();
    let mut names = HashSet::new();
    let pod = pod.filter(|name| !name.is_empty());
    let created: HashSet<String> = match pod {
        Some(pod) => spec
            .each("volumes")
            .filter(|volume| volume.has("ephemeral"))
            .map(|volume| format!("{pod}-{}", volume.text("name")))
            .collect(),
        None => HashSet::new(),
    };
    for volume in spec.each("volumes") {
        let before = volume.found().count();
        source::one_of(&volume, SOURCES);
        let name = volume.text("name");
        names_by_source(&volume, name, pod);
        volume.must_name("name", name::dns1123_label);
        if names.contains(name) {
            volume.duplicate("name");
        }
        if volume.found().count() == before {
            names.insert(name);
            known.insert(name, volume.value());
        }
        let claim = volume.text("persistentVolumeClaim.claimName");
        if created.contains(claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            volume.invalid("persistentVolumeClaim.claimName", why);
        }
    }
    known
}

/// What a source asks of the volume's name.
fn names_by_source(volume: &At, name: &str, pod: Option<&str>) {
    const LENGTH_MAX: usize = 64;
    let portal = volume.text("iscsi.targetPortal");
    if volume.has("iscsi.initiatorName") && name.len() + 1 + portal.len() > LENGTH_MAX {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        volume.invalid("name", why);
    }
    if let Some(pod) = pod
        && volume.has("ephemeral")
        && !name.is_empty()
    {
        let claim = format!("{pod}-{name}");
        for why in name::dns1123_subdomain(&claim) {
            volume.invalid("name", &format!("PVC name {claim:?}: {why}"));
        }
    }
}

fn mode(at: &At, field: &str) {
    if at.int(field).is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        at.invalid(field, MODE);
    }
}

fn key_to_path(at: &At) {
    at.need(&["key", "path"]);
    source::local_free_path(at, "path");
    mode(at, "mode");
}

fn downward(at: &At) {
    const FIELDS: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
    ];
    at.need(&["path"]);
    source::local_free_path(at, "path");
    match (at.some("fieldRef"), at.some("resourceFieldRef")) {
        (Some(field), resource) => {
            super::env::field_reference(&field, &FIELDS);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                at.invalid_as("", "resource", why);
            }
        }
        (None, Some(resource)) => super::env::resource_reference(&resource, true),
        (None, None) => at.required("", "one of fieldRef and resourceFieldRef is required"),
    }
    mode(at, "mode");
}

fn projected(at: &At) {
    mode(at, "defaultMode");
    let mut paths = HashSet::new();
    let mut claim = |path: &str, told: &str| {
        if !path.is_empty() && !paths.insert(path.to_string()) {
            at.invalid_as("", told, CONFLICT);
        }
    };
    for source in at.each("sources") {
        for kind in ["secret", "configMap"] {
            let Some(projection) = source.some(kind) else {
                continue;
            };
            projection.need(&["name"]);
            for item in projection.each("items") {
                key_to_path(&item);
                claim(item.text("path"), projection.text("name"));
            }
        }
        if let Some(projection) = source.some("downwardAPI") {
            for item in projection.each("items") {
                downward(&item.named(projection.path("")));
                claim(item.text("path"), item.text("path"));
            }
        }
        if let Some(token) = source.some("serviceAccountToken") {
            self::token(at, &token);
        }
        if let Some(bundle) = source.some("clusterTrustBundle") {
            trust_bundle(&bundle);
            claim(bundle.text("path"), bundle.text("path"));
        }
        if let Some(certificate) = source.some("podCertificate") {
            pod_certificate(&certificate);
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                if !certificate.text(field).is_empty() {
                    source::local_free_path(&certificate, field);
                    claim(certificate.text(field), certificate.text(field));
                }
            }
        }
        if source.count("") > 1 {
            source.forbidden("", "may not specify more than 1 volume type per source");
        }
    }
}

fn token(at: &At, token: &At) {
    let seconds = token.number("expirationSeconds");
    if seconds < 600 {
        token.invalid(
            "expirationSeconds",
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > 1 << 32 {
        let why = "may not specify a duration larger than 2^32 seconds";
        token.invalid("expirationSeconds", why);
    }
    let at = token.named(at.path(""));
    at.need(&["path"]);
    source::local_free_path(&at, "path");
}

fn trust_bundle(at: &At) {
    match (at.has("name"), at.has("signerName")) {
        (true, true) => at.invalid("", "only one of name and signerName may be used"),
        (true, false) => {
            if at.text("name").is_empty() {
                at.required("name", "must be a valid object name");
            }
            for why in name::dns1123_subdomain(at.text("name").rsplit(':').next().unwrap_or_default()) {
                at.invalid("name", &format!("not a valid clustertrustbundlename: {why}"));
            }
            if at.has("labelSelector") {
                at.invalid(
                    "labelSelector",
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (false, true) => {
            if at.text("signerName").is_empty() {
                at.required("signerName", "must be a valid signer name");
            }
            certificates::signer_name(at, "signerName");
            selector::check(at, "labelSelector");
        }
        (false, false) => at.required("", "either name or signerName must be specified"),
    }
    at.need(&["path"]);
    source::local_free_path(at, "path");
}

fn pod_certificate(at: &At) {
    const KEYS: [&str; 6] = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    certificates::signer_name(at, "signerName");
    for key in at
        .map("userAnnotations")
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        let lower = key.to_lowercase();
        let problems = name::qualified(&lower);
        for why in &problems {
            at.invalid_as("userAnnotations", lower.as_str(), why);
        }
        if problems.is_empty() && !lower.contains('/') {
            let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            at.invalid_as("userAnnotations", lower.as_str(), why);
        }
    }
    at.exactly_one_of("keyType", &KEYS);
    if let Some(seconds) = at.int("maxExpirationSeconds") {
        if seconds < 3600 {
            let why = "if provided, maxExpirationSeconds must be >= 3600";
            at.invalid("maxExpirationSeconds", why);
        }
        let kubernetes = at.text("signerName").starts_with("kubernetes.io/");
        let most = if kubernetes { 86_400 } else { 7_862_400 };
        if seconds > most {
            let why = format!("if provided, maxExpirationSeconds must be <= {most}");
            at.invalid("maxExpirationSeconds", &why);
        }
    }
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if paths.iter().all(|field| at.text(field).is_empty()) {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        at.required("", why);
    }
}
