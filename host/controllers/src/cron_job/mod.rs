//! Starts Jobs when their time has come, and forgets ended ones.
//!
//! Keyed by CronJob; the next time is a delayed look. The decisions are in `plan`, times in `schedule`.

mod plan;
mod schedule;

use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use self::plan::{Snapshot, refer};
use self::schedule::Schedule;
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::controller_of;
use crate::pods_of::said;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// Added to a wait, so that a look comes after the minute has begun.
const AFTER: Duration = Duration::from_millis(20);

pub(crate) struct CronJobs {
    client: Client,
    informers: Informers,
    events: Recorder,
}

impl CronJobs {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder) -> Self {
        Self {
            client,
            informers: informers.clone(),
            events: events.named("cronjob-controller"),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.cron_jobs);
        let of_job = |job: &Job| {
            let owner = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob");
            let key = owner.map(|owner| Key::new(job.namespace().unwrap_or_default(), owner.name.clone()));
            key.into_iter().collect()
        };
        vec![
            wakes(&self.informers.cron_jobs, |cron| vec![Key::of(cron)], all()),
            wakes(&self.informers.jobs, of_job, all()),
        ]
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        let same = Preconditions {
            uid: job.uid(),
            ..Default::default()
        };
        let params = DeleteParams::background().preconditions(same);
        if jobs.delete(&job.name_any(), &params).await.or_gone()?.is_some() {
            let message = format!("Deleted job {}", job.name_any());
            self.events.normal(cron, "SuccessfulDelete", message);
        }
        Ok(())
    }

    /// Starts the Job; `None` when it was started before.
    async fn start(&self, cron: &CronJob, job: &Job) -> Result<Option<Job>, Error> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        match jobs.create(&PostParams::default(), job).await.or_exists() {
            Ok(created) => {
                if let Some(created) = &created {
                    let message = format!("Created job {}", created.name_any());
                    self.events.normal(cron, "SuccessfulCreate", message);
                }
                Ok(created)
            }
            Err(error) => {
                self.events.warning(
                    cron,
                    "FailedCreate",
                    format!("Error creating job: {}", said(&error)),
                );
                Err(error.into())
            }
        }
    }

    async fn write(&self, cron: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let crons: Api<CronJob> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        let changed = CronJob {
            status: Some(status),
            ..cron.clone()
        };
        let params = PostParams::default();
        crons
            .replace_status(&cron.name_any(), &params, &changed)
            .await
            .or_gone()?;
        Ok(())
    }
}

impl Reconcile for CronJobs {
    type Key = Key;
    const NAME: &'static str = "cron-job";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(cron) = self.informers.cron_jobs.get(Some(&key.namespace), &key.name) else {
            return Ok(None);
        };
        let spec = &cron.spec;
        let schedule = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("spec.schedule {:?}: {error}", spec.schedule);
                self.events
                    .warning(cron.as_ref(), "UnparseableCronJobSchedule", message);
                return Ok(None);
            }
        };
        let jobs = self.informers.jobs.controlled_by(&cron.uid().unwrap_or_default());
        let mut plan = plan::plan(&Snapshot {
            cron: &cron,
            jobs: &jobs,
            schedule: &schedule,
            now: jiff::Timestamp::now(),
        });
        for job in &plan.delete {
            self.delete(&cron, job).await?;
        }
        if plan.skipped {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.events
                .normal(cron.as_ref(), "JobAlreadyActive", message.to_owned());
        }
        if let Some(job) = &plan.start
            && let Some(created) = self.start(&cron, job).await?
        {
            plan.status.active.get_or_insert_default().push(refer(&created));
        }
        self.write(&cron, plan.status).await?;
        Ok(plan.again.map(|again| again + AFTER))
    }
}
