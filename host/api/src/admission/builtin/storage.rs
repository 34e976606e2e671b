//! StorageObjectInUseProtection and PersistentVolumeClaimResize.

use capstan_kinds::quantity::Quantity;
use capstan_kinds::resource::find;
use serde_json::{Value, json};

use super::{Asked, each, text};
use crate::refusal::Refusal;

/// What is in use is not deleted before it is free: the finalizer goes when it is.
pub(super) fn protect(asked: &Asked<'_>, object: &mut Value) {
    let finalizer = if asked.creates("", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if asked.creates("", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if asked.creates("storage.k8s.io", "volumeattributesclasses") {
        "kubernetes.io/vac-protection"
    } else {
        return;
    };
    let finalizers = &mut object["metadata"]["finalizers"];
    if each(finalizers).any(|one| one == finalizer) {
        return;
    }
    match finalizers.as_array_mut() {
        Some(list) => list.push(json!(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
}

pub(super) fn resize(asked: &Asked<'_>, claim: &Value) -> Result<(), Refusal> {
    if !asked.updates("", "persistentvolumeclaims") {
        return Ok(());
    }
    let Some(old) = asked.subject.old.as_deref() else {
        return Ok(());
    };
    let size = |claim: &Value| -> Option<Quantity> {
        text(&claim["spec"]["resources"]["requests"]["storage"])
            .parse()
            .ok()
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(asked.forbid(claim, "Only bound persistent volume claims can be expanded"));
    }
    if !grows(asked, claim, old) {
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        return Err(asked.forbid(claim, why));
    }
    Ok(())
}

fn grows(asked: &Asked<'_>, claim: &Value, old: &Value) -> bool {
    let class = |claim: &Value| {
        let older = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
        let name = older
            .as_str()
            .unwrap_or_else(|| text(&claim["spec"]["storageClassName"]));
        name.to_owned()
    };
    let (name, before) = (class(claim), class(old));
    if name.is_empty() || name != before {
        return false;
    }
    find("storage.k8s.io", "v1", "storageclasses")
        .and_then(|classes| asked.server.registry.cached(&classes, "", &name))
        .is_some_and(|class| class.decode()["allowVolumeExpansion"] == true)
}
