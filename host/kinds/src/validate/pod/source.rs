//! Where the data of a volume comes from: the sources that pods and persistent volumes share.
//! Invariants: one row a source; what only one side asks for is a rule of its own there. Of several sources
//! the first is judged and the others are refused.

use crate::name;
use crate::validate::at::{At, in_range};
use crate::validate::names::{Pattern, pattern};

/// A source: its field, the name under which a second one is refused, the name under which it is judged.
pub(crate) struct Source {
    pub(crate) field: &'static str,
    pub(crate) refused: &'static str,
    pub(crate) judged: &'static str,
    pub(crate) rule: fn(&At),
}

impl Source {
    pub(crate) const fn new(field: &'static str, rule: fn(&At)) -> Self {
        Self::named(field, field, field, rule)
    }

    /// A source that the original's errors name otherwise.
    pub(crate) const fn named(
        field: &'static str,
        refused: &'static str,
        judged: &'static str,
        rule: fn(&At),
    ) -> Self {
        Self {
            field,
            refused,
            judged,
            rule,
        }
    }
}

/// Judges the sources of a volume; their number.
pub(crate) fn one_of(at: &At, sources: &[Source]) -> usize {
    let mut count = 0;
    for source in sources {
        let Some(place) = at.some(source.field) else {
            continue;
        };
        count += 1;
        if count > 1 {
            at.forbidden(source.refused, "may not specify more than 1 volume type");
        } else {
            (source.rule)(&place.named(at.path(source.judged)));
        }
    }
    if count == 0 {
        at.required("", "must specify a volume type");
    }
    count
}

/// Name and namespace of a secret, where the source names one.
pub(crate) fn secret_reference(at: &At, field: &str, fields: &[&str]) {
    if let Some(secret) = at.some(field) {
        secret.need(fields);
    }
}

pub(crate) fn host_path(at: &At) {
    const TYPES: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if at.text("path").is_empty() {
        return at.required("path", "");
    }
    no_backsteps(at, "path");
    at.one_of("type", &TYPES);
}

pub(crate) fn disk(at: &At, id: &str) {
    at.need(&[id]);
    if !(0..=255).contains(&at.number("partition")) {
        at.invalid("partition", &in_range(1, 255));
    }
}

pub(crate) fn nfs(at: &At) {
    at.need(&["server", "path"]);
    if !at.text("path").starts_with('/') {
        at.invalid_as("path", at.text("path"), "must be an absolute path");
    }
}

pub(crate) fn iscsi(at: &At, pod: bool) {
    at.need(&["targetPortal", "iqn"]);
    let start = if pod {
        "must be valid format starting with iqn, eui, or naa"
    } else {
        "must be valid format"
    };
    if !at.text("iqn").is_empty() {
        qualified_iscsi(at, "iqn", "iqn", start);
    }
    at.number_in("lun", 0, 255);
    let chap = at.flag("chapAuthDiscovery") || at.flag("chapAuthSession");
    if chap && !at.has("secretRef") {
        at.required("secretRef", "");
    }
    if !pod {
        secret_reference(at, "secretRef", &["name"]);
    }
    if at.has("initiatorName") {
        qualified_iscsi(at, "initiatorName", "initiatorname", start);
    }
}

fn qualified_iscsi(at: &At, field: &str, told: &str, start: &str) {
    static IQN: Pattern = pattern!(r"iqn\.\d{4}-\d{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$");
    static EUI: Pattern = pattern!("^eui.[[:alnum:]]{16}$");
    static NAA: Pattern = pattern!("^naa.[[:alnum:]]{32}$");
    let text = at.text(field);
    let pattern = match text.get(..3) {
        Some("iqn") => &IQN,
        Some("eui") => &EUI,
        Some("naa") => &NAA,
        _ => return at.invalid_as(told, text, start),
    };
    if !pattern.matches(text) {
        at.invalid_as(told, text, "must be valid format");
    }
}

pub(crate) fn glusterfs(at: &At) {
    at.need(&["endpoints", "path"]);
    if at.has("endpointsNamespace") {
        let namespace = at.text("endpointsNamespace");
        if namespace.is_empty() {
            let why = "if the endpointnamespace is set, it must be a valid namespace name";
            at.invalid("endpointsNamespace", why);
        } else {
            at.name("endpointsNamespace", name::dns1123_label);
        }
    }
}

pub(crate) fn flocker(at: &At) {
    let (name, uuid) = (at.text("datasetName"), at.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        at.required("", "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        at.invalid_as("", "resource", why);
    }
    if name.contains('/') {
        at.invalid("datasetName", "must not contain '/'");
    }
}

pub(crate) fn rbd(at: &At) {
    if at.count("monitors") == 0 {
        at.required("monitors", "");
    }
    at.need(&["image"]);
}

pub(crate) fn cephfs(at: &At) {
    if at.count("monitors") == 0 {
        at.required("monitors", "");
    }
}

pub(crate) fn quobyte(at: &At) {
    let why = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.text("registry");
    if registry.is_empty() {
        at.required("registry", why);
    } else if at.text("tenant").len() >= 65 {
        at.required(
            "tenant",
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            at.invalid("registry", why);
        }
    }
    at.need(&["volume"]);
}

pub(crate) fn fibre_channel(at: &At) {
    let (targets, ids) = (at.count("targetWWNs"), at.count("wwids"));
    if targets + ids == 0 {
        at.required(
            "targetWWNs",
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if targets > 0 && ids > 0 {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        at.invalid("targetWWNs", why);
    }
    if targets > 0 {
        match at.int("lun") {
            None => at.required("lun", "lun is required if targetWWNs is specified"),
            Some(_) => at.range("lun", 0, 255),
        }
    }
}

pub(crate) fn flex(at: &At) {
    at.need(&["driver"]);
    for (key, option) in at.keyed("options") {
        let domain = key.split('/').next().unwrap_or_default().to_lowercase();
        let reserved = ["kubernetes.io", "k8s.io"];
        if reserved
            .iter()
            .any(|one| domain == *one || domain.ends_with(&format!(".{one}")))
        {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            option.invalid_as("", key, why);
        }
    }
}

pub(crate) fn azure_file(at: &At) {
    at.need(&["secretName", "shareName"]);
    if at.has("secretNamespace") {
        at.need(&["secretNamespace"]);
    }
}

pub(crate) fn azure_disk(at: &At) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    at.need(&["diskName", "diskURI"]);
    at.one_of("cachingMode", &["None", "ReadOnly", "ReadWrite"]);
    at.one_of("kind", &["Dedicated", "Managed", "Shared"]);
    let uri = at.text("diskURI");
    match at.text("kind") {
        "" => {}
        "Managed" if !uri.starts_with("/subscriptions/") => at.unsupported("diskURI", &[MANAGED]),
        "Managed" => {}
        _ if !uri.starts_with("https://") => at.unsupported("diskURI", &[BLOB]),
        _ => {}
    }
}

pub(crate) fn scale_io(at: &At) {
    at.need(&["gateway", "system", "volumeName"]);
}

pub(crate) fn storage_os(at: &At, secret: &[&str]) {
    at.must_name("volumeName", name::dns1123_label);
    at.may_name("volumeNamespace", name::dns1123_label);
    secret_reference(at, "secretRef", secret);
}

/// The name of a CSI driver.
pub(crate) fn csi_driver(at: &At, field: &str) {
    const LENGTH_MAX: usize = 63;
    let driver = at.text(field);
    if driver.is_empty() {
        at.required(field, "");
    }
    if driver.len() > LENGTH_MAX {
        at.too_long(field, LENGTH_MAX);
    }
    for why in name::dns1123_subdomain(&driver.to_lowercase()) {
        at.invalid_as(field, driver, &why);
    }
}

/// A path that stays below where it starts.
pub(crate) fn local_path(at: &At, field: &str) {
    if at.text(field).starts_with('/') {
        at.invalid(field, "must be a relative path");
    }
    no_backsteps(at, field);
}

/// A path that stays below where it starts, and does not start like the data directories of the kubelet.
pub(crate) fn local_free_path(at: &At, field: &str) {
    local_path(at, field);
    let path = at.text(field);
    if path.starts_with("..") && !path.starts_with("../") {
        at.invalid_as(field, path, "must not start with '..'");
    }
}

pub(crate) fn no_backsteps(at: &At, field: &str) {
    if at.text(field).split('/').any(|part| part == "..") {
        at.invalid_as(field, at.text(field), "must not contain '..'");
    }
}
