//! What a Deployment needs next, as one pure step.
//!
//! The plan works on copies of the ReplicaSets as if all its changes had been made, and answers with the
//! difference. Invariant: planned again from what it brought about, it changes nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::revision;
use super::size::{self, Limits, wanted};
use super::status::{self, Happened};
use super::template::{self, HASH_LABEL};
use crate::owner::reference;

/// What is seen of one Deployment.
pub(crate) struct Snapshot<'a> {
    pub(crate) deployment: &'a Deployment,
    /// Its own ReplicaSets.
    pub(crate) sets: Vec<ReplicaSet>,
    /// Uids of ReplicaSets of which some pod has not ended yet.
    pub(crate) running: Vec<String>,
    pub(crate) now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Create(Box<ReplicaSet>),
    /// The whole set, and its size before.
    Update(Box<ReplicaSet>, i32),
    Delete(Box<ReplicaSet>),
    /// The Deployment's own revision annotation.
    Revision(String),
    Status(Box<DeploymentStatus>),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    /// When to look again though nothing changes.
    pub(crate) again: Option<Duration>,
}

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Plan {
    let mut work = Work::new(seen);
    if seen.deployment.metadata.deletion_timestamp.is_none() {
        work.step();
    }
    work.finish()
}

/// The status when a new ReplicaSet could not be made.
pub(crate) fn failed(seen: &Snapshot<'_>, why: String) -> DeploymentStatus {
    let happened = Happened::CouldNotCreate(why);
    status::status(seen.deployment, &seen.sets, None, &happened, seen.now).0
}

struct Work<'a> {
    seen: &'a Snapshot<'a>,
    limits: Limits,
    /// Copies with the changes made; one beyond the seen ones is to be created.
    sets: Vec<ReplicaSet>,
    new: Option<usize>,
    delete: Vec<usize>,
    revision: Option<String>,
    happened: Happened,
}

impl<'a> Work<'a> {
    fn new(seen: &'a Snapshot<'a>) -> Self {
        let mut work = Self {
            seen,
            limits: Limits::of(seen.deployment),
            sets: seen.sets.clone(),
            new: None,
            delete: Vec::new(),
            revision: None,
            happened: Happened::Nothing,
        };
        work.new = work.find_new();
        work
    }

    fn template(&self) -> Option<&'a PodTemplateSpec> {
        self.seen.deployment.spec.as_ref().map(|spec| &spec.template)
    }

    /// The oldest set of the present template: where there are several, all choose the same.
    fn find_new(&self) -> Option<usize> {
        let template = self.template()?;
        let mut same: Vec<usize> = (0..self.sets.len())
            .filter(|at| template::is_of(&self.sets[*at], template))
            .collect();
        same.sort_by_key(|at| {
            let meta = &self.sets[*at].metadata;
            (
                meta.creation_timestamp.as_ref().map(|time| time.0),
                meta.name.clone(),
            )
        });
        same.first().copied()
    }

    fn step(&mut self) {
        let paused = self
            .seen
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.paused)
            .unwrap_or(false);
        let scaled = size::was_scaled(&self.sets, &self.limits);
        if paused || scaled {
            self.sync_revision();
            size::scale(&mut self.sets, self.new, &self.limits);
            if paused {
                self.clean_up();
            }
        } else if self.limits.recreate {
            self.recreate();
        } else {
            self.ensure_new();
            if let Some(new) = self.new {
                size::roll(&mut self.sets, new, &self.limits);
            }
            self.clean_up_when_complete();
        }
    }

    fn recreate(&mut self) {
        self.sync_revision();
        let old: Vec<usize> = (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect();
        let mut waits = false;
        for at in old {
            if wanted(&self.sets[at]) > 0 {
                size::resize(&mut self.sets[at], 0, &self.limits);
                waits = true;
            }
            waits |= self.sets[at]
                .uid()
                .is_some_and(|uid| self.seen.running.contains(&uid));
        }
        if waits {
            return;
        }
        self.ensure_new();
        if let Some(new) = self.new
            && wanted(&self.sets[new]) != self.limits.desired
        {
            size::resize(&mut self.sets[new], self.limits.desired, &self.limits);
        }
        self.clean_up_when_complete();
    }

    fn next_revision(&self) -> i64 {
        let old = self
            .sets
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != self.new)
            .map(|(_, set)| set);
        revision::highest(old) + 1
    }

    /// Brings the present set's annotations up to date, if there is one.
    fn sync_revision(&mut self) {
        let revision = self.next_revision();
        let Some(new) = self.new else { return };
        let deployment = self.seen.deployment;
        let set = &mut self.sets[new];
        revision::annotate(set, deployment, revision, false);
        let min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut set.spec
            && spec.min_ready_seconds.unwrap_or(0) != min_ready_seconds.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready_seconds;
        }
        self.happened = Happened::Found(set.name_any());
        self.note_revision(new);
    }

    fn note_revision(&mut self, new: usize) {
        let of_set = revision::of(self.sets[new].metadata.annotations.as_ref());
        if of_set > 0 && of_set != revision::of(self.seen.deployment.metadata.annotations.as_ref()) {
            self.revision = Some(of_set.to_string());
        }
    }

    fn ensure_new(&mut self) {
        if self.new.is_some() {
            self.sync_revision();
            return;
        }
        let (deployment, Some(template)) = (self.seen.deployment, self.template()) else {
            return;
        };
        let mut set = fresh(deployment, template);
        revision::annotate(&mut set, deployment, self.next_revision(), true);
        let all: i32 = self.sets.iter().map(wanted).sum();
        let size = size::size_of_new(&self.limits, all, 0);
        size::resize(&mut set, size, &self.limits);
        self.happened = Happened::Created(set.name_any());
        self.sets.push(set);
        let new = self.sets.len() - 1;
        self.new = Some(new);
        self.note_revision(new);
    }

    fn clean_up_when_complete(&mut self) {
        let (status, _) = status::status(
            self.seen.deployment,
            &self.sets,
            self.new,
            &self.happened,
            self.seen.now,
        );
        if status::is_complete(self.seen.deployment, &status) {
            self.clean_up();
        }
    }

    /// Forgets old sets beyond the history limit, the oldest revision first.
    fn clean_up(&mut self) {
        let limit = self
            .seen
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut old: Vec<usize> = (0..self.sets.len())
            .filter(|at| Some(*at) != self.new && self.sets[*at].metadata.deletion_timestamp.is_none())
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|at| revision::of(self.sets[*at].metadata.annotations.as_ref()));
        self.delete = old
            .into_iter()
            .take(surplus)
            .filter(|at| {
                let set = &self.sets[*at];
                let status = set.status.clone().unwrap_or_default();
                wanted(set) == 0
                    && status.replicas == 0
                    && status.observed_generation >= set.metadata.generation
            })
            .collect();
    }

    fn finish(self) -> Plan {
        let mut changes = Vec::new();
        for (at, set) in self.sets.iter().enumerate() {
            match self.seen.sets.get(at) {
                None => changes.push(Change::Create(Box::new(set.clone()))),
                Some(_) if self.delete.contains(&at) => changes.push(Change::Delete(Box::new(set.clone()))),
                Some(before) if before != set => {
                    changes.push(Change::Update(Box::new(set.clone()), wanted(before)));
                }
                Some(_) => {}
            }
        }
        if let Some(revision) = self.revision {
            changes.push(Change::Revision(revision));
        }
        let deployment = self.seen.deployment;
        let (status, again) = status::status(deployment, &self.sets, self.new, &self.happened, self.seen.now);
        if deployment.status.as_ref() != Some(&status) {
            changes.push(Change::Status(Box::new(status)));
        }
        Plan { changes, again }
    }
}

/// A ReplicaSet for a template that has none yet.
fn fresh(deployment: &Deployment, template: &PodTemplateSpec) -> ReplicaSet {
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let hash = template::hash(template, collisions);
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_with(Default::default);
    let labels = meta.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_with(BTreeMap::new)
        .insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn deployment(image: &str, more: Value) -> Deployment {
        let mut deployment = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1,
                         "annotations": {"kubernetes.io/change-cause": image}},
            "spec": {
                "replicas": 3, "revisionHistoryLimit": 1, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": {"app": "web"}},
                             "spec": {"containers": [{"name": "c", "image": image}]}},
            },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            deployment["spec"][key] = value.clone();
        }
        from_value(deployment).unwrap()
    }

    /// The world: carries the changes out, and lets every pod come up at once.
    struct World {
        deployment: Deployment,
        sets: Vec<ReplicaSet>,
        running: Vec<String>,
        clock: i64,
    }

    impl World {
        fn new(deployment: Deployment) -> Self {
            Self {
                deployment,
                sets: Vec::new(),
                running: Vec::new(),
                clock: 0,
            }
        }

        fn once(&mut self) -> Vec<Change> {
            self.clock += 1;
            let seen = Snapshot {
                deployment: &self.deployment,
                sets: self.sets.clone(),
                running: self.running.clone(),
                now: Timestamp::from_second(self.clock).unwrap(),
            };
            let plan = plan(&seen);
            for change in &plan.changes {
                match change.clone() {
                    Change::Create(mut set) => {
                        set.metadata.uid = Some(format!("s{}", self.clock));
                        set.metadata.creation_timestamp =
                            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                                Timestamp::from_second(self.clock).unwrap(),
                            ));
                        self.sets.push(*set);
                    }
                    Change::Update(set, _) => {
                        let at = self
                            .sets
                            .iter()
                            .position(|other| other.name_any() == set.name_any())
                            .unwrap();
                        self.sets[at] = *set;
                    }
                    Change::Delete(set) => self.sets.retain(|other| other.name_any() != set.name_any()),
                    Change::Revision(revision) => {
                        self.deployment
                            .annotations_mut()
                            .insert(revision::REVISION.to_owned(), revision);
                    }
                    Change::Status(status) => self.deployment.status = Some(*status),
                }
            }
            plan.changes
        }

        fn settle(&mut self) {
            for _ in 0..50 {
                let changes = self.once();
                let mut moved = false;
                for set in &mut self.sets {
                    let size = wanted(set);
                    let status = set.status.get_or_insert_with(Default::default);
                    moved |= status.replicas != size;
                    status.replicas = size;
                    status.ready_replicas = Some(size);
                    status.available_replicas = Some(size);
                    status.observed_generation = set.metadata.generation;
                }
                if changes.is_empty() && !moved {
                    return;
                }
            }
            panic!("does not settle");
        }

        fn image(&mut self, image: &str) {
            let spec = self.deployment.spec.as_mut().unwrap();
            spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
            self.deployment
                .annotations_mut()
                .insert("kubernetes.io/change-cause".into(), image.into());
        }

        /// Image, size and revision of each set, by revision.
        fn history(&self) -> Vec<(String, i32, i64)> {
            let mut all: Vec<_> = self
                .sets
                .iter()
                .map(|set| {
                    let template = set.spec.as_ref().unwrap().template.as_ref().unwrap();
                    let image = template.spec.as_ref().unwrap().containers[0]
                        .image
                        .clone()
                        .unwrap();
                    (
                        image,
                        wanted(set),
                        revision::of(set.metadata.annotations.as_ref()),
                    )
                })
                .collect();
            all.sort_by_key(|(_, _, revision)| *revision);
            all
        }
    }

    fn entry(image: &str, size: i32, revision: i64) -> (String, i32, i64) {
        (image.to_owned(), size, revision)
    }

    #[test]
    fn create_roll_undo_and_history() {
        let mut world = World::new(deployment("v1", json!({})));
        let changes = world.once();
        assert!(
            matches!(&changes[..], [Change::Create(set), Change::Revision(revision), Change::Status(_)]
                if wanted(set) == 3 && revision == "1"),
            "{changes:?}"
        );
        world.settle();
        assert_eq!(world.history(), [entry("v1", 3, 1)]);
        assert_eq!(
            status::reason(world.deployment.status.as_ref().unwrap(), "Progressing"),
            Some(("True", "NewReplicaSetAvailable"))
        );

        world.image("v2");
        world.settle();
        assert_eq!(world.history(), [entry("v1", 0, 1), entry("v2", 3, 2)]);
        world.image("v1");
        world.settle();
        assert_eq!(
            world.history(),
            [entry("v2", 0, 2), entry("v1", 3, 3)],
            "undo reuses the old set"
        );
        let causes: Vec<_> = world
            .sets
            .iter()
            .map(|set| set.annotations()["kubernetes.io/change-cause"].clone())
            .collect();
        assert_eq!(causes, ["v1", "v2"]);
        world.image("v3");
        world.settle();
        assert_eq!(
            world.history(),
            [entry("v1", 0, 3), entry("v3", 3, 4)],
            "history limit 1"
        );
        assert_eq!(world.deployment.annotations()[revision::REVISION], "4");
    }

    #[test]
    fn paused_does_not_roll_but_scales() {
        let mut world = World::new(deployment("v1", json!({})));
        world.settle();
        let spec = world.deployment.spec.as_mut().unwrap();
        (spec.paused, spec.replicas) = (Some(true), Some(5));
        world.image("v2");
        world.settle();
        assert_eq!(world.history(), [entry("v1", 5, 1)]);
        world.deployment.spec.as_mut().unwrap().paused = Some(false);
        world.settle();
        assert_eq!(world.history(), [entry("v1", 0, 1), entry("v2", 5, 2)]);
    }

    #[test]
    fn recreate_waits_for_the_last_old_pod() {
        let mut world = World::new(deployment("v1", json!({"strategy": {"type": "Recreate"}})));
        world.settle();
        world.running = vec![world.sets[0].uid().unwrap()];
        world.image("v2");
        world.settle();
        assert_eq!(world.history(), [entry("v1", 0, 1)]);
        world.running.clear();
        world.settle();
        assert_eq!(world.history(), [entry("v1", 0, 1), entry("v2", 3, 2)]);
    }

    #[test]
    fn collision_changes_the_name_and_deleting_changes_nothing() {
        let mut world = World::new(deployment("v1", json!({})));
        let name = |changes: &[Change]| match changes {
            [Change::Create(set), ..] => set.name_any(),
            other => panic!("{other:?}"),
        };
        let first = name(&world.once());
        world.sets.clear();
        world.deployment.status.as_mut().unwrap().collision_count = Some(1);
        assert_ne!(first, name(&world.once()));
        world.sets.clear();
        world.deployment.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        );
        assert!(
            !world
                .once()
                .iter()
                .any(|change| matches!(change, Change::Create(_)))
        );
    }
}
