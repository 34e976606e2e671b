//! Everything of a snapshot but its records, gathered in one walk that also checks every record.

use std::collections::BTreeMap;

use capstan_store::{Alarm, AuthState, ImageRecord, LeaseId, Member, Role, User};

use super::BackupError;
use super::file::SnapshotFile;
use super::schema as s;
use crate::bolt::Visit;

/// What is in a snapshot.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The store's revision: that of its newest record, or of its compaction where that took the record away.
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) records: u64,
    pub(super) leases: Vec<(LeaseId, i64)>,
    pub(super) alarms: Vec<Alarm>,
    /// Of the cluster that was saved.
    pub(super) members: Vec<Member>,
    /// The cluster's version, since 3.5; the storage's, since 3.6.
    pub(super) cluster_version: Option<String>,
    pub(super) storage_version: Option<String>,
    auth_enabled: bool,
    auth_revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
}

impl Contents {
    /// Reads and checks all of a file.
    pub(super) fn read(file: &SnapshotFile) -> Result<Self, BackupError> {
        let mut this = Self::default();
        let mut bucket = String::new();
        file.database.walk(&mut |visit| match visit {
            Visit::Bucket(name) => {
                bucket = String::from_utf8_lossy(name).into_owned();
                Ok::<_, BackupError>(())
            }
            Visit::Entry { key, value } => this.take(&bucket, key, value),
        })?;
        // The first revision of an empty store.
        this.revision = this.revision.max(this.compact_revision).max(1);
        Ok(this)
    }

    pub(super) fn auth(&self) -> AuthState {
        AuthState::new(
            self.auth_enabled,
            self.auth_revision,
            self.users.clone(),
            self.roles.clone(),
        )
    }

    fn take(&mut self, bucket: &str, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        match bucket {
            s::KEY => {
                let (rev, record) = s::decode_record(key, value)?;
                self.revision = rev.main;
                self.records += u64::from(record.is_some());
            }
            s::LEASE => {
                let lease = s::decode_lease(key, value)?;
                self.leases.push((lease.id, lease.ttl));
            }
            s::ALARM => self.alarms.push(s::decode_alarm(key)?),
            s::AUTH_USERS => {
                self.users.extend([s::decode_user(key, value)?]);
            }
            s::AUTH_ROLES => {
                self.roles.extend([s::decode_role(key, value)?]);
            }
            s::MEMBERS => self.members.push(s::decode_member(key, value)?),
            s::AUTH | s::META | s::CLUSTER => self.take_value(bucket, key, value)?,
            s::MEMBERS_REMOVED => {}
            _ => return Err(BackupError::content(bucket, key, "etcd has no such bucket")),
        }
        Ok(())
    }

    fn take_value(&mut self, bucket: &str, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let version = || Some(String::from_utf8_lossy(value).into_owned());
        match (bucket, key) {
            (s::AUTH, s::AUTH_ENABLED) => self.auth_enabled = value == [1],
            (s::AUTH, s::AUTH_REVISION) => self.auth_revision = s::integer(bucket, key, value)?,
            // A compaction that was scheduled is in force; whether its deletes are done, ours finds out.
            (s::META, s::FINISHED_COMPACT | s::SCHEDULED_COMPACT) => {
                let revision = s::Rev::decode(value)?.main;
                self.compact_revision = self.compact_revision.max(revision);
            }
            (s::META, s::STORAGE_VERSION) => self.storage_version = version(),
            (s::CLUSTER, s::CLUSTER_VERSION) => self.cluster_version = version(),
            // What newer versions may add is theirs.
            _ => {}
        }
        Ok(())
    }
}

/// Visits the records of a file, oldest first.
pub(super) fn records(
    file: &SnapshotFile,
    visit: &mut dyn FnMut(ImageRecord) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let mut is_key_bucket = false;
    file.database.walk(&mut |met| match met {
        Visit::Bucket(name) => {
            is_key_bucket = name == s::KEY.as_bytes();
            Ok(())
        }
        Visit::Entry { key, value } if is_key_bucket => {
            let (_, record) = s::decode_record(key, value)?;
            record.map_or(Ok(()), &mut *visit)
        }
        Visit::Entry { .. } => Ok(()),
    })
}
