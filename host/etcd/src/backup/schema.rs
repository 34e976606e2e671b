//! etcd's buckets, and the form of their entries: written as etcd 3.5 does, read as 3.4 to 3.6 do.
//!
//! A storage version is not written: 3.6 takes a file with a term and without one for a 3.5's and upgrades it,
//! 3.4 ignores what it does not know. Lists of the pieces are [`super::contents`]'s.

use capstan_store::{
    Alarm, AlarmKind, AuthState, ImageRecord, KeyValue, LeaseId, Member, Permission, PermissionKind, Role,
    User,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::proto::{authpb, etcdserverpb, mvccpb};

pub(super) const ALARM: &str = "alarm";
pub(super) const AUTH: &str = "auth";
pub(super) const AUTH_ROLES: &str = "authRoles";
pub(super) const AUTH_USERS: &str = "authUsers";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const KEY: &str = "key";
pub(super) const LEASE: &str = "lease";
pub(super) const MEMBERS: &str = "members";
pub(super) const MEMBERS_REMOVED: &str = "members_removed";
pub(super) const META: &str = "meta";

pub(super) const AUTH_ENABLED: &[u8] = b"authEnabled";
pub(super) const AUTH_REVISION: &[u8] = b"authRevision";
pub(super) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub(super) const CONF_STATE: &[u8] = b"confState";
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub(super) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub(super) const STORAGE_VERSION: &[u8] = b"storageVersion";
pub(super) const TERM: &[u8] = b"term";

/// The key of a record: `main _ sub`, and a `t` after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rev {
    pub(super) main: i64,
    pub(super) sub: i64,
    pub(super) is_tombstone: bool,
}

impl Rev {
    const BYTES: usize = 17;
    const TOMBSTONE: u8 = b't';

    /// A revision of all changes.
    pub(super) fn whole(main: i64) -> Self {
        Self {
            main,
            sub: 0,
            is_tombstone: false,
        }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = self.main.to_be_bytes().to_vec();
        out.push(b'_');
        out.extend_from_slice(&self.sub.to_be_bytes());
        if self.is_tombstone {
            out.push(Self::TOMBSTONE);
        }
        out
    }

    pub(super) fn decode(key: &[u8]) -> Result<Self, BackupError> {
        let wrong = || BackupError::content(KEY, key, "it is not a revision");
        let (rev, mark) = key.split_at_checked(Self::BYTES).ok_or_else(wrong)?;
        let integer = |bytes: &[u8]| bytes.first_chunk().copied().map(i64::from_be_bytes);
        let main = integer(rev).filter(|main| *main >= 0).ok_or_else(wrong)?;
        let sub = integer(&rev[9..]).filter(|sub| *sub >= 0).ok_or_else(wrong)?;
        let is_tombstone = match mark {
            [] => false,
            [Self::TOMBSTONE] => true,
            _ => return Err(wrong()),
        };
        if rev[8] != b'_' {
            return Err(wrong());
        }
        Ok(Self {
            main,
            sub,
            is_tombstone,
        })
    }
}

/// A record of the key bucket; none where it only says that the store had this revision.
pub(super) fn decode_record(key: &[u8], value: &[u8]) -> Result<(Rev, Option<ImageRecord>), BackupError> {
    let rev = Rev::decode(key)?;
    let message: mvccpb::KeyValue = message(KEY, key, value)?;
    if message.key.is_empty() {
        // What `etcdutl snapshot restore --bump-revision` leaves.
        return Ok((rev, None));
    }
    let is_sound = rev.is_tombstone
        || (message.mod_revision == rev.main
            && message.version >= 1
            && (1..=rev.main).contains(&message.create_revision));
    if !is_sound {
        let what = format!(
            "its value is of revision {} (created at {}, version {})",
            message.mod_revision, message.create_revision, message.version
        );
        return Err(BackupError::content(KEY, key, what));
    }
    let too_many = |_| BackupError::content(KEY, key, "too many changes in one revision");
    let record = ImageRecord {
        sub: u32::try_from(rev.sub).map_err(too_many)?,
        deleted: rev.is_tombstone,
        kv: KeyValue {
            key: message.key,
            value: message.value,
            create_revision: message.create_revision,
            mod_revision: rev.main,
            version: message.version,
            lease: message.lease,
        },
    };
    Ok((rev, Some(record)))
}

/// Writes a record's value into `out`. A deletion's has the key alone.
pub(super) fn encode_record(record: ImageRecord, out: &mut Vec<u8>) {
    let kv = record.kv;
    let mut message = mvccpb::KeyValue {
        key: kv.key,
        ..mvccpb::KeyValue::default()
    };
    if !record.deleted {
        message.create_revision = kv.create_revision;
        message.mod_revision = kv.mod_revision;
        message.version = kv.version;
        message.value = kv.value;
        message.lease = kv.lease;
    }
    out.clear();
    out.reserve(message.encoded_len());
    message.encode_raw(out);
}

/// `leasepb.Lease`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    #[prost(int64, tag = "1")]
    pub(super) id: LeaseId,
    /// The time that it was granted, in seconds.
    #[prost(int64, tag = "2")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "3")]
    pub(super) remaining_ttl: i64,
}

pub(super) fn decode_lease(key: &[u8], value: &[u8]) -> Result<Lease, BackupError> {
    let lease: Lease = message(LEASE, key, value)?;
    if lease.id == 0 || key != lease.id.to_be_bytes() {
        return Err(BackupError::content(LEASE, key, "it is another lease's"));
    }
    Ok(lease)
}

pub(super) fn encode_lease(id: LeaseId, ttl: i64) -> ([u8; 8], Vec<u8>) {
    let lease = Lease {
        id,
        ttl,
        remaining_ttl: 0,
    };
    (id.to_be_bytes(), lease.encode_to_vec())
}

pub(super) fn encode_alarm(alarm: Alarm) -> Vec<u8> {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => etcdserverpb::AlarmType::Nospace,
        AlarmKind::Corrupt => etcdserverpb::AlarmType::Corrupt,
    };
    let message = etcdserverpb::AlarmMember {
        member_id: alarm.member_id,
        alarm: kind.into(),
    };
    message.encode_to_vec()
}

/// An alarm is all in its key.
pub(super) fn decode_alarm(key: &[u8]) -> Result<Alarm, BackupError> {
    let message: etcdserverpb::AlarmMember = message(ALARM, key, key)?;
    let kind = match message.alarm() {
        etcdserverpb::AlarmType::Nospace => AlarmKind::NoSpace,
        etcdserverpb::AlarmType::Corrupt => AlarmKind::Corrupt,
        etcdserverpb::AlarmType::None => {
            return Err(BackupError::content(ALARM, key, "it says nothing"));
        }
    };
    Ok(Alarm {
        member_id: message.member_id,
        kind,
    })
}

pub(super) fn encode_user(name: &str, user: &User) -> Vec<u8> {
    let message = authpb::User {
        name: name.to_owned().into(),
        password: user.password_hash.clone().unwrap_or_default(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions {
            no_password: user.password_hash.is_none(),
        }),
    };
    message.encode_to_vec()
}

pub(super) fn decode_user(key: &[u8], value: &[u8]) -> Result<(String, User), BackupError> {
    let message: authpb::User = message(AUTH_USERS, key, value)?;
    let has_password = !message.options.is_some_and(|options| options.no_password);
    let user = User {
        password_hash: Some(message.password).filter(|hash| has_password && !hash.is_empty()),
        roles: sorted(message.roles),
    };
    Ok((text(AUTH_USERS, key)?, user))
}

fn sorted(mut roles: Vec<String>) -> Vec<String> {
    roles.sort_unstable();
    roles
}

pub(super) fn encode_role(name: &str, role: &Role) -> Vec<u8> {
    let permission = |permission: &Permission| authpb::Permission {
        perm_type: match permission.kind {
            PermissionKind::Read => authpb::permission::Type::Read,
            PermissionKind::Write => authpb::permission::Type::Write,
            PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
        }
        .into(),
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    };
    let message = authpb::Role {
        name: name.to_owned().into(),
        key_permission: role.permissions.iter().map(permission).collect(),
    };
    message.encode_to_vec()
}

pub(super) fn decode_role(key: &[u8], value: &[u8]) -> Result<(String, Role), BackupError> {
    let message: authpb::Role = message(AUTH_ROLES, key, value)?;
    let permission = |permission: authpb::Permission| Permission {
        kind: match permission.perm_type() {
            authpb::permission::Type::Read => PermissionKind::Read,
            authpb::permission::Type::Write => PermissionKind::Write,
            authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
        },
        key: permission.key,
        range_end: permission.range_end,
    };
    let mut permissions: Vec<_> = message.key_permission.into_iter().map(permission).collect();
    permissions.sort_by(|one, other| one.key.cmp(&other.key));
    Ok((text(AUTH_ROLES, key)?, Role { permissions }))
}

/// Whether auth is on, and its revision, as the auth bucket's two entries.
pub(super) fn encode_auth(auth: &AuthState) -> [(&'static [u8], Vec<u8>); 2] {
    [
        (AUTH_ENABLED, vec![u8::from(auth.enabled)]),
        (AUTH_REVISION, auth.revision.to_be_bytes().to_vec()),
    ]
}

/// A member as etcd's JSON has it.
#[derive(Debug, Serialize, Deserialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// The key and the value of a member: its id in hexadecimal without leading zeros, and JSON.
pub(super) fn encode_member(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let json = MemberJson {
        id: member.id,
        peer_urls: Some(member.peer_urls.clone()),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
    };
    let value = serde_json::to_vec(&json).unwrap_or_default();
    (format!("{:x}", member.id).into_bytes(), value)
}

pub(super) fn decode_member(key: &[u8], value: &[u8]) -> Result<Member, BackupError> {
    let json: MemberJson = serde_json::from_slice(value)
        .map_err(|error| BackupError::content(MEMBERS, key, format!("it is not a member: {error}")))?;
    Ok(Member {
        id: json.id,
        name: json.name,
        peer_urls: json.peer_urls.unwrap_or_default(),
        client_urls: json.client_urls,
        is_learner: json.is_learner,
    })
}

/// `raftpb.ConfState` as JSON.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

pub(super) fn encode_conf_state(members: &[Member]) -> Vec<u8> {
    let of = |is_learner| {
        let members = members
            .iter()
            .filter(move |member| member.is_learner == is_learner);
        members.map(|member| member.id).collect()
    };
    let state = ConfState {
        voters: of(false),
        learners: of(true),
        auto_leave: false,
    };
    serde_json::to_vec(&state).unwrap_or_default()
}

pub(super) fn integer(bucket: &str, key: &[u8], value: &[u8]) -> Result<u64, BackupError> {
    let wrong = |_| BackupError::content(bucket, key, "it is not a number of 8 bytes");
    value.try_into().map(u64::from_be_bytes).map_err(wrong)
}

fn message<M: Message + Default>(bucket: &str, key: &[u8], value: &[u8]) -> Result<M, BackupError> {
    let wrong = |error| BackupError::content(bucket, key, format!("its value cannot be decoded: {error}"));
    M::decode(value).map_err(wrong)
}

fn text(bucket: &str, key: &[u8]) -> Result<String, BackupError> {
    let wrong = |_| BackupError::content(bucket, key, "the name is not text");
    String::from_utf8(key.to_vec()).map_err(wrong)
}
