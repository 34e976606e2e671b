//! Mutated requests to every method of the face, and values at their extremes: whatever arrives is answered, and
//! nothing panics, hangs or takes memory. `FUZZ_CALLS` says how many calls of each method, `FUZZ_SEED` which; both
//! are printed. A test of its own, because it measures its process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use capstan_etcd::face::{self, Face, FaceOptions};
use capstan_etcd::proto::authpb;
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::{LocalStore, Options};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tower::Service;

const CALLS: usize = 40;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A stream that says nothing for so long has nothing to say.
const QUIET: Duration = Duration::from_millis(3);
/// Answers read of a stream.
const ANSWERS_MAX: usize = 50;
/// What the process may grow by, whatever is asked of it.
const GROWTH_KB_MAX: u64 = 200 * 1024;
/// Numbers where things break.
const EXTREMES: [u64; 10] = [
    0,
    1,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64 - 1,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];
/// No message of the face has a field of a higher number, but for some that none of them has.
const FIELD_MAX: u32 = 14;
/// Bytes of a key or a name that is far too long.
const LONG_BYTES: usize = 300_000;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Methods that answer once, each with requests to begin from.
fn unary() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let name = |name: &str| name.to_owned();
    let range = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        limit: 3,
        revision: 2,
        sort_order: 2,
        sort_target: 4,
        min_mod_revision: 1,
        ..Default::default()
    };
    let put = pb::PutRequest {
        key: "k1".into(),
        value: vec![b'v'; 100].into(),
        prev_kv: true,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "k".into(),
        range_end: "\0".into(),
        prev_kv: true,
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: 3,
            target: 3,
            key: "k".into(),
            range_end: "l".into(),
            target_union: Some(pb::compare::TargetUnion::Value("v".into())),
        }],
        success: vec![
            op(pb::request_op::Request::RequestRange(range.clone())),
            op(pb::request_op::Request::RequestPut(put.clone())),
            op(pb::request_op::Request::RequestTxn(pb::TxnRequest {
                failure: vec![op(pb::request_op::Request::RequestDeleteRange(delete.clone()))],
                ..Default::default()
            })),
        ],
        failure: Vec::new(),
    };
    let permission = authpb::Permission {
        perm_type: 2,
        key: "k".into(),
        range_end: "l".into(),
    };
    let user = pb::AuthUserAddRequest {
        name: name("u"),
        password: name("p"),
        ..Default::default()
    };
    vec![
        ("KV/Range", vec![range.encode_to_vec()]),
        ("KV/Put", vec![put.encode_to_vec()]),
        ("KV/DeleteRange", vec![delete.encode_to_vec()]),
        ("KV/Txn", vec![txn.encode_to_vec()]),
        (
            "KV/Compact",
            vec![
                pb::CompactionRequest {
                    revision: 3,
                    physical: true,
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Lease/LeaseGrant",
            vec![pb::LeaseGrantRequest { ttl: 60, id: 5 }.encode_to_vec()],
        ),
        (
            "Lease/LeaseRevoke",
            vec![pb::LeaseRevokeRequest { id: 5 }.encode_to_vec()],
        ),
        (
            "Lease/LeaseTimeToLive",
            vec![pb::LeaseTimeToLiveRequest { id: 5, keys: true }.encode_to_vec()],
        ),
        ("Lease/LeaseLeases", vec![Vec::new()]),
        (
            "Cluster/MemberAdd",
            vec![
                pb::MemberAddRequest {
                    peer_urls: vec![name("x")],
                    is_learner: true,
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Cluster/MemberRemove",
            vec![pb::MemberRemoveRequest { id: 5 }.encode_to_vec()],
        ),
        (
            "Cluster/MemberUpdate",
            vec![
                pb::MemberUpdateRequest {
                    id: 5,
                    peer_urls: vec![name("http://a:1")],
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Cluster/MemberList",
            vec![pb::MemberListRequest { linearizable: true }.encode_to_vec()],
        ),
        (
            "Cluster/MemberPromote",
            vec![pb::MemberPromoteRequest { id: 5 }.encode_to_vec()],
        ),
        (
            "Maintenance/Alarm",
            vec![
                pb::AlarmRequest {
                    action: 2,
                    member_id: 5,
                    alarm: 1,
                }
                .encode_to_vec(),
            ],
        ),
        ("Maintenance/Status", vec![Vec::new()]),
        ("Maintenance/Defragment", vec![Vec::new()]),
        ("Maintenance/Hash", vec![Vec::new()]),
        (
            "Maintenance/HashKV",
            vec![pb::HashKvRequest { revision: 2 }.encode_to_vec()],
        ),
        ("Maintenance/Snapshot", vec![Vec::new()]),
        (
            "Maintenance/MoveLeader",
            vec![pb::MoveLeaderRequest { target_id: 5 }.encode_to_vec()],
        ),
        (
            "Maintenance/Downgrade",
            vec![
                pb::DowngradeRequest {
                    action: 1,
                    version: name("3.5"),
                }
                .encode_to_vec(),
            ],
        ),
        ("Auth/AuthEnable", vec![Vec::new()]),
        ("Auth/AuthDisable", vec![Vec::new()]),
        ("Auth/AuthStatus", vec![Vec::new()]),
        (
            "Auth/Authenticate",
            vec![
                pb::AuthenticateRequest {
                    name: name("u"),
                    password: name("p"),
                }
                .encode_to_vec(),
            ],
        ),
        ("Auth/UserAdd", vec![user.encode_to_vec()]),
        (
            "Auth/UserGet",
            vec![pb::AuthUserGetRequest { name: name("u") }.encode_to_vec()],
        ),
        ("Auth/UserList", vec![Vec::new()]),
        (
            "Auth/UserDelete",
            vec![pb::AuthUserDeleteRequest { name: name("u") }.encode_to_vec()],
        ),
        ("Auth/UserChangePassword", vec![user.encode_to_vec()]),
        (
            "Auth/UserGrantRole",
            vec![
                pb::AuthUserGrantRoleRequest {
                    user: name("u"),
                    role: name("r"),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Auth/UserRevokeRole",
            vec![
                pb::AuthUserRevokeRoleRequest {
                    name: name("u"),
                    role: name("r"),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Auth/RoleAdd",
            vec![pb::AuthRoleAddRequest { name: name("r") }.encode_to_vec()],
        ),
        (
            "Auth/RoleGet",
            vec![pb::AuthRoleGetRequest { role: name("r") }.encode_to_vec()],
        ),
        ("Auth/RoleList", vec![Vec::new()]),
        (
            "Auth/RoleDelete",
            vec![pb::AuthRoleDeleteRequest { role: name("r") }.encode_to_vec()],
        ),
        (
            "Auth/RoleGrantPermission",
            vec![
                pb::AuthRoleGrantPermissionRequest {
                    name: name("r"),
                    perm: Some(permission),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Auth/RoleRevokePermission",
            vec![
                pb::AuthRoleRevokePermissionRequest {
                    role: name("r"),
                    key: "k".into(),
                    range_end: "l".into(),
                }
                .encode_to_vec(),
            ],
        ),
        ("KV/Nonsense", vec![Vec::new()]),
        ("Nonsense", vec![Vec::new()]),
    ]
}

/// Methods that answer as long as they are asked.
fn streams() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    use pb::watch_request::RequestUnion;
    let watch = |union| {
        pb::WatchRequest {
            request_union: Some(union),
        }
        .encode_to_vec()
    };
    let create = pb::WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision: 1,
        progress_notify: true,
        filters: vec![0],
        prev_kv: true,
        watch_id: 3,
        fragment: true,
    };
    vec![
        (
            "Watch/Watch",
            vec![
                watch(RequestUnion::CreateRequest(create.clone())),
                watch(RequestUnion::CreateRequest(pb::WatchCreateRequest {
                    start_revision: 0,
                    watch_id: 0,
                    ..create
                })),
                watch(RequestUnion::CancelRequest(pb::WatchCancelRequest {
                    watch_id: 3,
                })),
                watch(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
            ],
        ),
        (
            "Lease/LeaseKeepAlive",
            vec![pb::LeaseKeepAliveRequest { id: 5 }.encode_to_vec()],
        ),
    ]
}

/// One to four small damages.
fn mutate(random: &mut fastrand::Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(0..4) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.insert(at, random.u8(..)),
            3 => bytes.truncate(at),
            _ => {
                let part: Vec<u8> = bytes.iter().skip(at).take(8).copied().collect();
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// Fields with extreme values after those of the seed; of a field that comes twice the last one counts. Where a
/// field has another type than is guessed here, the message cannot be decoded, which is an answer too.
fn exaggerate(random: &mut fastrand::Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..3) {
        let field = random.u32(1..=FIELD_MAX);
        match random.u8(0..8) {
            0 => {
                prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut bytes);
                let long = vec![random.u8(..); random.usize(0..LONG_BYTES)];
                prost::encoding::encode_varint(long.len() as u64, &mut bytes);
                bytes.extend(long);
            }
            1 => {
                prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut bytes);
                bytes.push(0);
            }
            _ => {
                prost::encoding::encode_key(field, prost::encoding::WireType::Varint, &mut bytes);
                prost::encoding::encode_varint(EXTREMES[random.usize(0..EXTREMES.len())], &mut bytes);
            }
        }
    }
    bytes
}

/// A line of this process's status, in kilobytes.
fn memory_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line
        .expect("such a line")
        .trim_matches(|c: char| !c.is_ascii_digit());
    digits.parse().expect("a number")
}

/// A message as gRPC frames it; now and then the frame is damaged too.
fn framed(random: &mut fastrand::Rng, message: &[u8], out: &mut BytesMut) {
    let is_damaged = random.u8(..) < 10;
    out.put_u8(if is_damaged { random.u8(..) } else { 0 });
    let length = u32::try_from(message.len()).expect("small");
    out.put_u32(if is_damaged { random.u32(..) } else { length });
    out.extend_from_slice(message);
}

/// Whether it was answered with success, as far as the headers say.
async fn call(face: &mut Face, method: &str, body: Bytes) -> bool {
    let request = http::Request::post(format!("/etcdserverpb.{method}"))
        .header("content-type", "application/grpc")
        .body(Full::new(body))
        .expect("a request");
    let answer = tokio::time::timeout(PATIENCE, face.call(request)).await;
    let answer = answer
        .unwrap_or_else(|_| panic!("{method} hangs"))
        .expect("infallible");
    let is_success = !answer.headers().contains_key("grpc-status");
    let mut body = answer.into_body();
    for _ in 0..ANSWERS_MAX {
        let is_stream = matches!(method, "Watch/Watch" | "Lease/LeaseKeepAlive");
        let patience = if is_stream { QUIET } else { PATIENCE };
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) => break,
            Err(_) if is_stream => break,
            Err(_) => panic!("{method}'s answer hangs"),
        }
    }
    is_success
}

/// An alarm that was raised by chance would refuse all that follows.
async fn disarm(store: &LocalStore) {
    for alarm in store.alarms().await.expect("alarms") {
        store.alarm_disarm(alarm).await.expect("disarmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_arrives_is_answered() {
    let seed = number("FUZZ_SEED", usize::from(fastrand::u16(..))) as u64;
    let calls = number("FUZZ_CALLS", CALLS);
    println!("FUZZ_SEED={seed} FUZZ_CALLS={calls}");
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(panic);
    }));
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(dir.path().join("data"));
    options.bcrypt_cost = 4;
    let store = Arc::new(LocalStore::open(options).await.expect("a store"));
    let mut face = face::service(store.clone(), FaceOptions::default());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut successes = 0;
    // Sets the peak to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").expect("our own process");
    let before = memory_kb("VmRSS:");
    for round in 0..calls {
        disarm(&store).await;
        for (method, seeds) in unary().into_iter().chain(streams()) {
            let messages = if method.starts_with("Watch") { 6 } else { 1 };
            let mut body = BytesMut::new();
            for _ in 0..messages {
                let seed = &seeds[random.usize(0..seeds.len())];
                // The first round is of whole requests.
                let message = if round == 0 {
                    seed.clone()
                } else if random.bool() {
                    exaggerate(&mut random, seed)
                } else {
                    mutate(&mut random, seed)
                };
                framed(&mut random, &message, &mut body);
            }
            successes += usize::from(call(&mut face, method, body.freeze()).await);
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{method} in round {round}");
        }
    }
    let growth = memory_kb("VmHWM:").saturating_sub(before);
    println!(
        "{successes} calls succeeded; grew by {} MB at most",
        growth / 1024
    );
    assert!(growth < GROWTH_KB_MAX, "grew by {growth} kB");
    assert!(store.is_open() && successes > 0);
    store.shutdown().await;
}
