//! For the operator: status, alarms, hashes, space, backups, who leads.

use std::pin::Pin;
use std::sync::Arc;

use capstan_store::{Alarm, AlarmKind, Refusal};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::ETCD_VERSION;
use super::caller::Host;
use crate::backup;
use crate::errors::{refused, status};
use crate::proto::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;
use pb::downgrade_request::DowngradeAction;
use pb::maintenance_server::Maintenance;

/// Of etcd's data files, as far as a client may ask.
const STORAGE_VERSION: &str = "3.6.0";

/// Snapshots on their way at once. Each reads all of the store and keeps its history.
pub(super) const SNAPSHOTS_MAX: usize = 4;

/// A snapshot ends in a SHA-256.
const HASH_BYTES: u64 = 32;

#[derive(Debug)]
pub(super) struct MaintenanceService(pub(super) Arc<Host>);

type Snapshots = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

fn alarm_type(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

fn alarm_member(alarm: Alarm) -> pb::AlarmMember {
    pb::AlarmMember {
        member_id: alarm.member_id,
        alarm: alarm_type(alarm.kind).into(),
    }
}

/// As etcd prints it among a status's errors, the space at its end included.
fn alarm_text(alarm: Alarm) -> String {
    let kind = alarm_type(alarm.kind).as_str_name();
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

impl MaintenanceService {
    /// Does what is asked; returns the alarms that the answer names.
    async fn alarms(&self, request: &pb::AlarmRequest) -> Result<Vec<Alarm>, Status> {
        let store = &self.0.store;
        let kind = match request.alarm() {
            pb::AlarmType::None => None,
            pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
            pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
        };
        let raised = store.alarms().await.map_err(status)?;
        if request.action() == AlarmAction::Get {
            let asked = raised
                .into_iter()
                .filter(|alarm| kind.is_none_or(|kind| kind == alarm.kind));
            return Ok(asked.collect());
        }
        let Some(kind) = kind else {
            return Ok(Vec::new());
        };
        let alarm = Alarm {
            member_id: request.member_id,
            kind,
        };
        if request.action() == AlarmAction::Activate {
            store.alarm_activate(alarm).await.map_err(status)?;
        } else if raised.contains(&alarm) {
            store.alarm_disarm(alarm).await.map_err(status)?;
        } else {
            return Ok(Vec::new());
        }
        Ok(vec![alarm])
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        match request.get_ref().action() {
            AlarmAction::Get => self.0.known(&request).await?,
            _ => self.0.admin(&request).await?,
        };
        let alarms = self.alarms(request.get_ref()).await?;
        Ok(Response::new(pb::AlarmResponse {
            header: Some(self.0.header_now()),
            alarms: alarms.into_iter().map(alarm_member).collect(),
        }))
    }

    /// Answers without a leader too.
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.0.known(&request).await?;
        let store = &self.0.store;
        let (raft, sizes) = (store.raft(), store.sizes());
        let mut errors = Vec::new();
        if raft.leader == 0 {
            errors.push(Refusal::NoLeader.message().to_owned());
        }
        errors.extend(store.alarms_known().into_iter().map(alarm_text));
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header_now()),
            version: ETCD_VERSION.to_owned(),
            db_size: bytes(sizes.db_size_bytes),
            leader: raft.leader,
            raft_index: raft.index,
            raft_term: raft.term,
            raft_applied_index: raft.applied_index,
            errors,
            // An etcd without keys still uses something.
            db_size_in_use: bytes(sizes.db_size_in_use_bytes).max(1),
            is_learner: raft.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: bytes(sizes.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    /// As in etcd the answer has no header.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.0.admin(&request).await?;
        self.0.store.defragment().await.map_err(status)?;
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.0.admin(&request).await?;
        let header = Some(self.0.header_now());
        let hash = self.0.store.hash().await.map_err(status)?;
        Ok(Response::new(pb::HashResponse { header, hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.0.admin(&request).await?;
        let header = Some(self.0.header_now());
        let hash = self
            .0
            .store
            .hash_kv(request.get_ref().revision)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::HashKvResponse {
            header,
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    type SnapshotStream = Snapshots;

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<Snapshots>, Status> {
        self.0.admin(&request).await?;
        let Ok(permit) = self.0.snapshots.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "etcdserver: too many requests: {SNAPSHOTS_MAX} snapshots are being sent; try again when one has ended"
            )));
        };
        let chunks = backup::stream(&self.0.store).await.map_err(status)?;
        let mut remaining_bytes = chunks.size_bytes().saturating_sub(HASH_BYTES);
        // The last chunk is the hash, which does not count.
        let parts = chunks.map(move |chunk| {
            let _held = &permit;
            let blob = chunk.map_err(status)?;
            remaining_bytes = remaining_bytes.saturating_sub(blob.len() as u64);
            Ok(pb::SnapshotResponse {
                header: None,
                remaining_bytes,
                blob,
                // The file has etcd 3.5's form, which does not name its version.
                version: String::new(),
            })
        });
        Ok(Response::new(Box::pin(parts)))
    }

    /// As in etcd the answer has no header.
    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.0.admin(&request).await?;
        if self.0.store.raft().leader != self.0.member_id {
            return Err(refused(Refusal::NotLeader));
        }
        self.0
            .store
            .move_leader(request.get_ref().target_id)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    /// There is no older version to go back to.
    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.0.admin(&request).await?;
        let request = request.get_ref();
        Err(refused(match request.action() {
            DowngradeAction::Cancel => Refusal::NoInflightDowngrade,
            _ if !is_version(&request.version) => Refusal::WrongDowngradeVersionFormat,
            _ => Refusal::InvalidDowngradeTargetVersion,
        }))
    }
}

/// `major.minor`, and perhaps a patch.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (2..=3).contains(&parts.len()) && parts.iter().all(is_number)
}
