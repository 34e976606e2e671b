//! A small operator on kube-rs: a definition applied on the server, a controller that makes a ConfigMap of each
//! Greeting by apply, reports by a patch of the status, and cleans up by a finalizer; the API server ends and comes
//! back while it runs. The type is written by hand: kube-rs's derive would have much of the workspace built twice.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capstan_tests::Cluster;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{NamespaceResourceScope, ObjectMeta, TypeMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::reflector::Store;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Config, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long one condition is waited for.
const BOUND: Duration = Duration::from_secs(60);

/// How soon a reconciliation that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

const OPERATOR: &str = "greeter";
const DEFINITION: &str = "greetings.operator.example.com";
const FINALIZER: &str = "operator.example.com/parting";

/// Somebody to be greeted.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct Greeting {
    #[serde(flatten)]
    types: TypeMeta,
    metadata: ObjectMeta,
    spec: GreetingSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<GreetingStatus>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct GreetingSpec {
    /// Who is greeted.
    name: String,
    /// How often; once, unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u8>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct GreetingStatus {
    /// The generation that was greeted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    greeted: Option<i64>,
}

impl Resource for Greeting {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Greeting".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "operator.example.com".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "greetings".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition of greetings, as the derive of kube-rs would write it.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": DEFINITION },
        "spec": {
            "group": "operator.example.com",
            "scope": "Namespaced",
            "names": { "plural": "greetings", "singular": "greeting", "kind": "Greeting", "shortNames": ["gr"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "additionalPrinterColumns": [{ "name": "Name", "type": "string", "jsonPath": ".spec.name" }],
                "schema": { "openAPIV3Schema": { "type": "object", "required": ["spec"], "properties": {
                    "spec": { "type": "object", "required": ["name"], "properties": {
                        "name": { "type": "string" },
                        "times": { "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255, "default": 1 },
                    } },
                    "status": { "type": "object", "nullable": true, "properties": {
                        "greeted": { "type": "integer", "format": "int64", "nullable": true },
                    } },
                } } },
            }],
        },
    })
}

/// Makes what is wanted; asks for nothing but what it reads now.
async fn reconcile(
    greeting: Arc<Greeting>,
    client: Arc<Client>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    let namespace = greeting.namespace().unwrap_or_default();
    let all: Api<Greeting> = Api::namespaced((*client).clone(), &namespace);
    finalizer(&all, FINALIZER, greeting, |event| async {
        match event {
            Event::Apply(greeting) => greet(&all, &client, &greeting).await,
            Event::Cleanup(greeting) => part(&client, &greeting).await,
        }
    })
    .await
}

async fn greet(all: &Api<Greeting>, client: &Client, greeting: &Greeting) -> Result<Action, kube::Error> {
    let namespace = greeting.namespace().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let text = vec![format!("Hello, {}!", greeting.spec.name); usize::from(greeting.spec.times.unwrap_or(1))]
        .join(" ");
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": greeting.name_any(), "ownerReferences": [greeting.controller_owner_ref(&())] },
        "data": { "text": text },
    });
    let apply = PatchParams::apply(OPERATOR).force();
    maps.patch(&greeting.name_any(), &apply, &Patch::Apply(wanted))
        .await?;
    let status = json!({ "status": { "greeted": greeting.metadata.generation } });
    all.patch_status(
        &greeting.name_any(),
        &PatchParams::default(),
        &Patch::Merge(status),
    )
    .await?;
    Ok(Action::await_change())
}

/// What was greeted is parted from with a word of its own.
async fn part(client: &Client, greeting: &Greeting) -> Result<Action, kube::Error> {
    let namespace = greeting.namespace().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let name = format!("{}-parted", greeting.name_any());
    let wanted = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    let apply = PatchParams::apply(OPERATOR).force();
    maps.patch(&name, &apply, &Patch::Apply(wanted)).await?;
    Ok(Action::await_change())
}

/// Runs the operator until the task is dropped; the store is its reflector's.
fn operate(client: &Client) -> (Store<Greeting>, tokio::task::JoinHandle<()>) {
    let all: Api<Greeting> = Api::all(client.clone());
    let owned: Api<ConfigMap> = Api::all(client.clone());
    let controller = Controller::new(all, watcher::Config::default().streaming_lists())
        .owns(owned, watcher::Config::default().page_size(2));
    let store = controller.store();
    let context = Arc::new(client.clone());
    let run = controller
        .run(reconcile, |_, _, _| Action::requeue(RETRY), context)
        .for_each(|outcome| async {
            if let Err(error) = outcome {
                eprintln!("the operator: {error}");
            }
        });
    (store, tokio::spawn(run))
}

async fn client(kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).expect("the cluster wrote a kubeconfig");
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .expect("its kubeconfig is whole");
    Client::try_from(config).expect("a client")
}

/// Applies the derived definition and waits until it is served.
async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply(OPERATOR);
    let name = DEFINITION;
    let definition = definition();
    for _ in 0..2 {
        definitions
            .patch(name, &apply, &Patch::Apply(&definition))
            .await
            .expect("applied, and once more without a change");
    }
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(BOUND, established)
        .await
        .expect("in time")
        .expect("the definition is established");
}

/// Waits until the condition holds for an object of this name.
async fn until<K>(what: &str, api: &Api<K>, name: &str, condition: impl Fn(Option<&K>) -> bool)
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let waited = await_condition(api.clone(), name, condition);
    match tokio::time::timeout(BOUND, waited).await {
        Ok(seen) => _ = seen.unwrap_or_else(|error| panic!("{what}: {error}")),
        Err(_) => panic!("waited {BOUND:?} for {what}"),
    }
}

fn says(map: Option<&ConfigMap>, text: &str) -> bool {
    map.and_then(|map| map.data.as_ref()?.get("text"))
        .is_some_and(|said| said == text)
}

fn greeting(name: &str) -> Greeting {
    let mut greeting = Greeting {
        types: TypeMeta::resource::<Greeting>(),
        ..Greeting::default()
    };
    greeting.metadata.name = Some(name.to_owned());
    greeting.spec.name = name.to_owned();
    greeting
}

#[test]
fn an_operator_keeps_its_word_over_a_restart_of_the_api_server() {
    let mut cluster = Cluster::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let kubeconfig = cluster.kubeconfig();
    let (client, operator) = runtime.block_on(async {
        let client = client(&kubeconfig).await;
        define(&client).await;
        let (store, operator) = operate(&client);
        before_the_restart(&client, &store).await;
        (client, operator)
    });
    assert!(cluster.stop(), "the cluster ends in order");
    cluster.up();
    runtime.block_on(async {
        after_the_restart(&client).await;
        operator.abort();
    });
}

async fn before_the_restart(client: &Client, store: &Store<Greeting>) {
    let all: Api<Greeting> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for name in ["ann", "bob", "cid"] {
        let made = all.create(&PostParams::default(), &greeting(name)).await;
        assert_eq!(made.expect("a greeting").metadata.generation, Some(1));
    }
    tokio::time::timeout(BOUND, store.wait_until_ready())
        .await
        .expect("in time")
        .expect("the reflector is filled");
    until("ann's greeting", &maps, "ann", |map| says(map, "Hello, ann!")).await;
    let greeted = |generation| {
        move |seen: Option<&Greeting>| seen.and_then(|seen| seen.status.as_ref()?.greeted) == Some(generation)
    };
    until("ann's status", &all, "ann", greeted(1)).await;
    // What somebody else changes or deletes is made again.
    let spoiled = json!({ "data": { "text": "spoiled" } });
    maps.patch("ann", &PatchParams::default(), &Patch::Merge(spoiled))
        .await
        .expect("anybody may write");
    until("ann's greeting again", &maps, "ann", |map| {
        says(map, "Hello, ann!")
    })
    .await;
    maps.delete("bob", &DeleteParams::default())
        .await
        .expect("anybody may delete");
    until("bob's greeting again", &maps, "bob", |map| {
        says(map, "Hello, bob!")
    })
    .await;
    let twice = json!({ "spec": { "times": 2 } });
    all.patch("bob", &PatchParams::default(), &Patch::Merge(twice))
        .await
        .expect("a changed greeting");
    until("bob greeted twice", &maps, "bob", |map| {
        says(map, "Hello, bob! Hello, bob!")
    })
    .await;
    until("bob's status", &all, "bob", greeted(2)).await;
    let wrong = json!({ "spec": { "times": 300 } });
    let refused = all
        .patch("bob", &PatchParams::default(), &Patch::Merge(wrong))
        .await
        .expect_err("the schema bounds it");
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 422 && status.reason == "Invalid"),
        "{refused}"
    );
}

async fn after_the_restart(client: &Client) {
    let all: Api<Greeting> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    all.create(&PostParams::default(), &greeting("dan"))
        .await
        .expect("a greeting");
    until("dan's greeting", &maps, "dan", |map| says(map, "Hello, dan!")).await;
    let held = all
        .delete("ann", &DeleteParams::default())
        .await
        .expect("deleted");
    let held = held.left().expect("a finalizer holds it");
    assert!(held.metadata.deletion_timestamp.is_some(), "{held:?}");
    until("a word of parting", &maps, "ann-parted", |map| map.is_some()).await;
    until("ann's end", &all, "ann", |seen| seen.is_none()).await;
    until("the end of what ann owned", &maps, "ann", |map| map.is_none()).await;
    let left = all.list(&ListParams::default()).await.expect("a list");
    let names: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["bob", "cid", "dan"]);
}
