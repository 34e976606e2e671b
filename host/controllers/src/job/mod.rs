//! Runs Jobs to their end, and clears ended ones when their time to live is over.
//!
//! Keyed by Job. Indexed completion, suspension, deadlines and back-off are here; pod failure and success
//! policies are not. The decisions are in `plan`.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use self::plan::{Change, INDEX, Snapshot};
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::reference;
use crate::pods_of::Pods;
use crate::replica_set::expect;
use crate::work::{Key, Reconcile, keys_of, wakes};

pub(crate) struct Jobs {
    client: Client,
    cleaner: Client,
    informers: Informers,
    pods: Arc<Pods>,
}

impl Jobs {
    /// `cleaner` deletes jobs whose time after their end is over.
    pub(crate) fn new(client: Client, cleaner: Client, informers: &Informers, events: &Recorder) -> Self {
        let pods = Pods::new(client.clone(), informers, events.named("job-controller"));
        Self {
            client,
            cleaner,
            informers: informers.clone(),
            pods: Arc::new(pods),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.jobs);
        let pods = Arc::clone(&self.pods);
        vec![
            wakes(&self.informers.jobs, |job| vec![Key::of(job)], all()),
            wakes(
                &self.informers.pods,
                move |pod: &Pod| pods.owner_key("Job", pod).into_iter().collect(),
                all(),
            ),
        ]
    }

    fn api(&self, namespace: &str) -> Api<Job> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn act(&self, job: &Job, change: Change) -> Result<(), Error> {
        let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
        match change {
            Change::Start(indexes) => {
                let pods = indexes.into_iter().map(|index| pod_of(job, index)).collect();
                self.pods.create(job, pods).await?;
            }
            Change::Stop(pods) => self.pods.delete(job, &pods).await?,
            Change::Delete => {
                let same = Preconditions {
                    uid: job.uid(),
                    ..Default::default()
                };
                let params = DeleteParams::foreground().preconditions(same);
                let jobs: Api<Job> = Api::namespaced(self.cleaner.clone(), &namespace);
                jobs.delete(&name, &params).await.or_gone()?;
            }
            Change::Status(status) => {
                self.tell_end(job, &status);
                let changed = Job {
                    status: Some(*status),
                    ..job.clone()
                };
                self.api(&namespace)
                    .replace_status(&name, &PostParams::default(), &changed)
                    .await
                    .or_gone()?;
            }
        }
        Ok(())
    }

    fn tell_end(&self, job: &Job, status: &JobStatus) {
        for condition in status
            .conditions
            .iter()
            .flatten()
            .filter(|condition| condition.status == "True")
        {
            let message = condition.message.clone().unwrap_or_default();
            match condition.type_.as_str() {
                "Complete" => self
                    .pods
                    .events
                    .normal(job, "Completed", "Job completed".to_owned()),
                "Failed" => {
                    self.pods
                        .events
                        .warning(job, condition.reason.as_deref().unwrap_or("Failed"), message);
                }
                _ => {}
            }
        }
    }
}

/// A pod of the Job, with the labels by which users find it.
fn pod_of(job: &Job, index: Option<i32>) -> Pod {
    let name = job.name_any();
    let template = job
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let mut pod = crate::pod::from_template(&template, &name, reference(job));
    let uid = job.uid().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        labels.insert(key.to_owned(), value.clone());
    }
    let Some(index) = index.map(|index| index.to_string()) else {
        return pod;
    };
    labels.insert(INDEX.to_owned(), index.clone());
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.clone());
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            container.env.get_or_insert_default().push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value: Some(index.clone()),
                value_from: None,
            });
        }
    }
    pod
}

impl Reconcile for Jobs {
    type Key = Key;
    const NAME: &'static str = "job";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(job) = self.informers.jobs.get(Some(&key.namespace), &key.name) else {
            self.pods.expectations.forget(key);
            return Ok(None);
        };
        let settled = self.pods.settled(key);
        let uid = job.uid().unwrap_or_default();
        let pods = self.informers.pods.controlled_by(&uid);
        let plan = plan::plan(&Snapshot {
            job: &job,
            pods: &pods,
            settled,
            now: jiff::Timestamp::now(),
        });
        for change in plan.changes {
            self.act(&job, change).await?;
        }
        Ok(if settled {
            plan.again
        } else {
            Some(expect::LOOK_AGAIN)
        })
    }
}
