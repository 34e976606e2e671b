//! Two schedulers on a real API server, of which one is elected, under faults: writes that fail before or after they
//! were done, policies that time out, answer garbage or let pods wait in vain, and the death of the elected one.
//!
//! The nodes have room for exactly the pods there are: whoever is lost, counted twice or stuck shows.

mod faults;
mod policies;
#[path = "../../../controllers/tests/rig/mod.rs"]
mod rig;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use capstan_api::UserInfo;
use capstan_client::{Election, Informer, Leadership};
use capstan_points::Seating;
use capstan_points::scheduler::Policy;
use capstan_scheduler::{Decisions, Options, Scheduler};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use faults::Faults;
use rig::Rig;

const NODES: usize = 4;
/// Pods that a node has room for.
const ROOM: usize = 10;
const BOUND: Duration = Duration::from_secs(60);

/// One scheduler with its own way to the API server.
struct Candidate {
    scheduler: Scheduler,
    leadership: Leadership,
    faults: Arc<Faults>,
    /// Policies sit as long as this is there.
    _seating: Seating<dyn Policy>,
}

impl Candidate {
    async fn start(rig: &Rig, name: &str, seed: u64) -> Self {
        let faults = Arc::new(Faults::new(seed));
        let service = rig.api.service(UserInfo::admin("chaos"));
        let client = faults::client(service, Arc::clone(&faults));
        let election = Election {
            lease_duration: Duration::from_secs(2),
            renew_deadline: Duration::from_millis(1_200),
            retry_period: Duration::from_millis(200),
            ..Election::new("kube-scheduler", name)
        };
        let leadership = election.stand(client.clone());
        let seating: Seating<dyn Policy> = Seating::default();
        seating.replace(policies::seats(ROOM, seed));
        let scheduler = Scheduler::start(
            client.clone(),
            Options {
                pods: Informer::<Pod>::start(Api::all(client.clone()), Default::default()),
                nodes: Informer::<Node>::start(Api::all(client.clone()), Default::default()),
                namespaces: Informer::<Namespace>::start(Api::all(client.clone()), Default::default()),
                seats: seating.seats(),
                leads: Some(leadership.leads()),
                decisions: Decisions::default(),
            },
        )
        .await
        .unwrap();
        Self {
            scheduler,
            leadership,
            faults,
            _seating: seating,
        }
    }

    fn leads(&self) -> bool {
        *self.leadership.leads().borrow()
    }
}

/// Nodes, and the account that pods run as, which no controller makes here.
async fn create_nodes(client: &Client) {
    let account = serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    for n in 0..NODES {
        let node = serde_json::from_value(json!({ "metadata": { "name": format!("n{n}") } })).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
}

async fn create_pods(client: &Client, numbers: std::ops::Range<usize>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for n in numbers {
        let pod = json!({
            "metadata": { "name": format!("p{n}") },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
        });
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
}

/// Waits until `holds` of the nodes that pods are on.
async fn until(client: &Client, what: &str, holds: impl Fn(&BTreeMap<String, Option<String>>) -> bool) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut seen = BTreeMap::new();
    let wait = async {
        loop {
            let list = pods.list(&ListParams::default()).await.unwrap();
            let placed = |pod: Pod| Some((pod.metadata.name?, pod.spec.and_then(|spec| spec.node_name)));
            seen = list.items.into_iter().filter_map(placed).collect();
            if holds(&seen) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(BOUND, wait).await;
    assert!(in_time.is_ok(), "{what}: {seen:#?}");
}

fn bound(placed: &BTreeMap<String, Option<String>>) -> usize {
    placed.values().flatten().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_is_lost_bound_twice_or_stuck_whatever_fails() {
    let seed = std::env::var("CAPSTAN_CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("CAPSTAN_CHAOS_SEED={seed}");
    let rig = Rig::start().await;
    let client = capstan_client::over(rig.api.service(UserInfo::admin("test")));
    create_nodes(&client).await;
    let first = Candidate::start(&rig, "first", seed).await;
    let wait = async {
        while !first.leads() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, wait)
        .await
        .expect("the first one is elected");
    let second = Candidate::start(&rig, "second", seed ^ 1).await;

    let all = NODES * ROOM;
    create_pods(&client, 0..all / 2).await;
    until(&client, "some are bound", |placed| bound(placed) > all / 8).await;
    assert_eq!(second.faults.bindings(), 0, "one alone schedules");
    // It dies with bindings on their way, and says nothing to anybody any more.
    first.faults.dead.store(true, Ordering::SeqCst);
    create_pods(&client, all / 2..all).await;
    until(&client, "all are bound", |placed| bound(placed) == all).await;
    assert!(second.leads(), "the second one took over");
    let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
    until(&client, "they stay", |placed| bound(placed) == all).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap();
        *by_node.entry(node).or_default() += 1;
    }
    assert!(by_node.values().all(|&pods| pods == ROOM), "{by_node:?}");
    let written = [&first, &second].map(|one| one.faults.written());
    let doubled = written[0]
        .iter()
        .chain(&written[1])
        .fold(BTreeMap::new(), |mut all, pod| {
            *all.entry(pod).or_insert(0) += 1;
            all
        });
    assert!(
        doubled.values().all(|&times| times == 1),
        "bound twice: {doubled:?}"
    );
    assert_eq!(doubled.len(), all);
    let [done, failed] = second.faults.counts();
    println!("after the takeover: {done} writes done, {failed} failed");
    drop(first.leadership);
    first.scheduler.shutdown().await;
    second.scheduler.shutdown().await;
    rig.stop().await;
}
