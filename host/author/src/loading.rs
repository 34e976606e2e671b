//! `plugin load`: a component into a live cluster, and what the cluster says to it.
//!
//! The Plugin object is made or replaced whole; what its `plugin.yaml` or the cluster's own object says beside source,
//! digest and signature stays. The component comes from where it is: a registry by its digest, a file by its path, or,
//! for a cluster that reaches neither, a ConfigMap.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use capstan_registry::digest_of;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Placement;
use crate::distribution::{Place, Subject, block_on};
use crate::error::Error;
use crate::rig::Rig;

/// Bytes of a component that fit into a ConfigMap, base64 and all.
const CONFIG_MAP_BYTES_MAX: usize = 700 << 10;
/// The component's key in its ConfigMap.
const KEY: &str = "plugin.wasm";
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often a write that meets another is tried.
const TRIES: usize = 5;

/// Loads it, waits until the cluster has judged it, and prints the conditions.
pub(crate) fn load(component: &str, options: &Placement) -> Result<(), Error> {
    let subject = Subject::open(component)?;
    let order = Order::of(options, &subject)?;
    block_on(async {
        let client = connect(options.kubeconfig.as_deref()).await?;
        put(&client, options, &subject, &order).await
    })
}

/// What is to be in the cluster.
struct Order {
    name: String,
    /// The manifest that comes with the component, if one does.
    manifest: Option<Value>,
}

impl Order {
    fn of(options: &Placement, subject: &Subject) -> Result<Self, Error> {
        let manifest = match (&options.manifest, &subject.place) {
            (Some(path), _) => Some(manifest(path)?),
            (None, Place::File(path)) => {
                let beside = path.with_file_name("plugin.yaml");
                beside.exists().then(|| manifest(&beside)).transpose()?
            }
            (None, _) => None,
        };
        let own = || manifest.as_ref()?["metadata"]["name"].as_str().map(str::to_owned);
        let name = match options.name.clone().or_else(own) {
            Some(name) => name,
            None => Rig::with(&subject.path(), subject.component.clone())?.about.name,
        };
        Ok(Self { name, manifest })
    }
}

fn manifest(path: &Path) -> Result<Value, Error> {
    let text = crate::component::read(path)?;
    serde_norway::from_slice(&text).map_err(|error| Error::Cases {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

async fn put(client: &Client, options: &Placement, subject: &Subject, order: &Order) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let source = source(client, options, subject, &order.name).await?;
    let mut written = None;
    for _ in 0..TRIES {
        match write(&api, subject, order, &source).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => {
                written = Some(answer.map_err(|error| cluster(&order.name, &error))?);
                break;
            }
        }
    }
    let written =
        written.ok_or_else(|| Error::Cluster(format!("{}: others keep changing it", order.name)))?;
    let generation = written.metadata.generation.unwrap_or_default();
    let ended = settled(&api, &order.name, generation, options.timeout).await?;
    println!("plugin/{} {}", order.name, digest_of(&subject.component));
    for condition in conditions(&ended) {
        let text = |key: &str| condition[key].as_str().unwrap_or_default();
        println!(
            "  {:<11} {:<6} {:<18} {}",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        );
    }
    match ready(&ended) {
        Some("True") => Ok(()),
        _ => Err(Error::NotReady(order.name.clone())),
    }
}

/// Makes the object, or replaces it as it stands now.
async fn write(
    api: &Api<DynamicObject>,
    subject: &Subject,
    order: &Order,
    source: &Value,
) -> Result<DynamicObject, kube::Error> {
    let existing = api.get_opt(&order.name).await?;
    let mut object = match (&order.manifest, &existing) {
        (Some(manifest), _) => manifest.clone(),
        (None, Some(existing)) => json!({"metadata": {}, "spec": existing.data["spec"]}),
        (None, None) => json!({"metadata": {}, "spec": {}}),
    };
    object["apiVersion"] = json!("plugins.capstan.dev/v1");
    object["kind"] = json!("Plugin");
    object["metadata"]["name"] = json!(order.name);
    let spec = &mut object["spec"];
    let secrets = spec["source"]["pullSecrets"].take();
    spec["source"] = source.clone();
    if matches!(subject.place, Place::Registry(_)) && !secrets.is_null() {
        spec["source"]["pullSecrets"] = secrets;
    }
    spec["digest"] = json!(digest_of(&subject.component));
    match (&subject.place, subject.bundles.first()) {
        // Beside a file and in a registry the host finds it itself.
        (Place::Archive(_), Some(bundle)) => spec["signature"] = json!({ "bundle": bundle }),
        _ => {
            if let Some(fields) = spec.as_object_mut() {
                fields.remove("signature");
            }
        }
    }
    let mut object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let parameters = PostParams::default();
    match existing {
        None => api.create(&parameters, &object).await,
        Some(existing) => {
            object.metadata.resource_version = existing.metadata.resource_version;
            object.metadata.labels = object.metadata.labels.or(existing.metadata.labels);
            object.metadata.annotations = object.metadata.annotations.or(existing.metadata.annotations);
            api.replace(&order.name, &parameters, &object).await
        }
    }
}

/// Where the cluster is to take the component from.
async fn source(client: &Client, options: &Placement, subject: &Subject, name: &str) -> Result<Value, Error> {
    let namespace = match (&subject.place, &options.namespace) {
        (Place::Registry(pinned), None) => return Ok(json!({ "oci": pinned })),
        (Place::File(path), None) => return Ok(json!({ "file": path })),
        (Place::Archive(_), None) => "default",
        (_, Some(namespace)) => namespace,
    };
    let size = subject.component.len();
    if size > CONFIG_MAP_BYTES_MAX {
        return Err(Error::Cluster(format!(
            "{} has {size} bytes, and a ConfigMap takes {CONFIG_MAP_BYTES_MAX}; push it to a registry that the \
             cluster reaches, or copy it to its hosts",
            subject.name
        )));
    }
    let name = format!("plugin-{name}");
    let data = base64::prelude::BASE64_STANDARD.encode(&subject.component);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name},
                        "binaryData": {KEY: data}});
    let object: DynamicObject =
        serde_json::from_value(object).map_err(|error| Error::Cluster(error.to_string()))?;
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let parameters = PostParams::default();
    let written = match api.replace(&name, &parameters, &object).await {
        Err(kube::Error::Api(status)) if status.code == 404 => api.create(&parameters, &object).await,
        answer => answer,
    };
    written.map_err(|error| cluster(&name, &error))?;
    Ok(json!({"configMap": {"namespace": namespace, "name": name, "key": KEY}}))
}

/// The object once its conditions speak of this generation and say yes or no.
async fn settled(
    api: &Api<DynamicObject>,
    name: &str,
    generation: i64,
    seconds: u64,
) -> Result<Value, Error> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let object = api.get(name).await.map_err(|error| cluster(name, &error))?;
        let status = object.data["status"].clone();
        let speaks = status["observedGeneration"].as_i64() >= Some(generation);
        if speaks && ready(&status).is_some_and(|ready| ready != "Unknown") {
            return Ok(status);
        }
        if Instant::now() >= until {
            return Err(Error::Cluster(format!(
                "{name}: the cluster has not judged it in {seconds} s"
            )));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().into_iter().flatten()
}

fn ready(status: &Value) -> Option<&str> {
    conditions(status)
        .find(|condition| condition["type"] == "Ready")
        .and_then(|condition| condition["status"].as_str())
}

/// As kubectl finds its cluster.
async fn connect(named: Option<&Path>) -> Result<Client, Error> {
    let path = named.map(Path::to_owned).or_else(|| {
        let variable = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let first = variable.and_then(|paths| std::env::split_paths(&paths).next());
        first.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")))
    });
    let path =
        path.ok_or_else(|| Error::Cluster("name a cluster: --kubeconfig FILE, or KUBECONFIG".into()))?;
    let client = capstan_client::from_kubeconfig(&path).await;
    client.map_err(|error| Error::Cluster(error.to_string()))
}

fn cluster(name: &str, error: &kube::Error) -> Error {
    Error::Cluster(format!("{name}: {error}"))
}

fn resource() -> ApiResource {
    use capstan_kinds::plugin::{GROUP, KIND, PLURAL, VERSION};
    ApiResource {
        group: GROUP.into(),
        version: VERSION.into(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.into(),
        plural: PLURAL.into(),
    }
}
