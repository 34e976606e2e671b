//! Quota and alarms, hashes, and a store made of another's image.

use capstan_store::{
    Alarm, AlarmKind, AuthCommand, AuthState, Error, ImageReader, ImageRecord, KeyRange, LeaseId, LocalStore,
    Options, Password, Put, RangeRequest, Refusal, RestoreSource, Result, Revision, Store, Txn,
};

use super::{Fixture, until};

const QUOTA: i64 = 1024 * 1024;

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> Refusal {
    answer.unwrap_err().refusal().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_raises_an_alarm_until_it_is_disarmed_and_there_is_room() {
    let fixture = Fixture::new(|options| options.quota_bytes = QUOTA).await;
    let store = &fixture.store;
    let own = Alarm {
        member_id: store.identity().member_id,
        kind: AlarmKind::NoSpace,
    };
    let put = || store.put(Put::new("key", vec![7; 100_000]));
    let mut written = 0;
    let refusal = loop {
        match put().await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!((9..=10).contains(&written), "{written} of 100 kB in 1 MiB");
    assert_eq!(refusal.refusal(), Some(Refusal::NoSpace));
    assert_eq!(store.alarms().await.unwrap(), [own]);
    // What grows is refused, however little; what wins space back is not.
    assert_eq!(refused(store.put(Put::new("small", "1")).await), Refusal::NoSpace);
    assert_eq!(refused(store.lease_grant(0, 10).await), Refusal::NoSpace);
    store.delete(KeyRange::Key("none".into()), false).await.unwrap();
    store.range(RangeRequest::prefix("")).await.unwrap();
    store.alarm_disarm(own).await.unwrap();
    assert_eq!(
        refused(put().await),
        Refusal::NoSpace,
        "it is disarmed, and still full"
    );
    assert_eq!(store.alarms().await.unwrap(), [own]);
    let now = store.status().await.unwrap().revision;
    store.compact(now, true).await.unwrap();
    store.defragment().await.unwrap();
    assert_eq!(
        refused(put().await),
        Refusal::NoSpace,
        "there is room, and the alarm still raised"
    );
    store.alarm_disarm(own).await.unwrap();
    put().await.unwrap();
    let sizes = store.sizes();
    assert!(sizes.quota_bytes == QUOTA as u64 && sizes.db_size_in_use_bytes < sizes.quota_bytes);
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_outlive_a_restart_and_a_corrupt_store_serves_nothing() {
    let fixture = Fixture::new(|_| {}).await;
    fixture.put("key", "1").await;
    let alarm = |member_id, kind| Alarm { member_id, kind };
    for one in [alarm(7, AlarmKind::NoSpace), alarm(8, AlarmKind::Corrupt)] {
        fixture.store.alarm_activate(one).await.unwrap();
        fixture.store.alarm_activate(one).await.unwrap();
    }
    let fixture = fixture.reopened().await;
    let store = &fixture.store;
    assert_eq!(store.alarms().await.unwrap().len(), 2);
    assert_eq!(refused(store.put(Put::new("key", "2")).await), Refusal::Corrupt);
    assert_eq!(refused(store.compact(2, false).await), Refusal::Corrupt);
    store.alarm_disarm(alarm(8, AlarmKind::Corrupt)).await.unwrap();
    assert_eq!(refused(store.put(Put::new("key", "2")).await), Refusal::NoSpace);
    store.alarm_disarm(alarm(7, AlarmKind::NoSpace)).await.unwrap();
    fixture.put("key", "2").await;
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disks_alarm_goes_when_there_is_room_again() {
    // In memory, where nobody else takes and frees space meanwhile.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("store");
    let store = LocalStore::open(Options::new(&path)).await.unwrap();
    store.put(Put::new("key", "1")).await.unwrap();
    store.shutdown().await;
    let statvfs = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    let options = Options {
        space_reserve_bytes: statvfs.blocks_available() * statvfs.fragment_size() - 24 * 1024 * 1024,
        ..Options::new(&path)
    };
    let store = LocalStore::open(options).await.unwrap();
    store.put(Put::new("key", "2")).await.unwrap();
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![7; 32 * 1024 * 1024]).unwrap();
    let answer = store.put(Put::new("key", "3")).await;
    assert!(matches!(answer, Err(Error::NoSpace(_))), "{answer:?}");
    assert_eq!(store.alarms().await.unwrap().len(), 1);
    std::fs::remove_file(&ballast).unwrap();
    until("the alarm is gone", async || {
        store.put(Put::new("key", "4")).await.is_ok()
    })
    .await;
    assert!(store.alarms().await.unwrap().is_empty());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_are_of_what_can_be_read_and_not_of_files() {
    let (one, two) = (Fixture::new(|_| {}).await, Fixture::new(|_| {}).await);
    let history = async |fixture: &Fixture| {
        for n in 0..300 {
            fixture.put(&format!("k{}", n % 40), &n.to_string()).await;
            if n % 7 == 0 {
                fixture.delete(&format!("k{}", n % 40)).await;
            }
        }
    };
    history(&one).await;
    let two_of_one_hash = one.store.hash_kv(200).await.unwrap();
    history(&two).await;
    let two = two.reopened().await;
    let now = one.store.status().await.unwrap().revision;
    for revision in [0, 200, now] {
        assert_eq!(
            one.store.hash_kv(revision).await.unwrap(),
            two.store.hash_kv(revision).await.unwrap()
        );
    }
    assert_eq!(one.store.hash_kv(200).await.unwrap(), two_of_one_hash);
    // The same before what was compacted is gone from disk, after it, and after a restart.
    for revision in [150, 151, now] {
        one.store.compact(revision, false).await.unwrap();
        let early = one.store.hash_kv(0).await.unwrap();
        two.store.compact(revision, true).await.unwrap();
        assert_eq!(
            early,
            two.store.hash_kv(0).await.unwrap(),
            "compacted at {revision}"
        );
    }
    let two = two.reopened().await;
    assert_eq!(
        one.store.hash_kv(0).await.unwrap(),
        two.store.hash_kv(0).await.unwrap()
    );
    assert!(matches!(
        one.store.hash_kv(now - 1).await,
        Err(Error::Compacted { .. })
    ));
    assert!(matches!(
        one.store.hash_kv(now + 1).await,
        Err(Error::FutureRevision { .. })
    ));
    one.store.defragment().await.unwrap();
    assert_eq!(one.store.hash().await.unwrap(), two.store.hash().await.unwrap());
    two.put("k1", "other").await;
    one.put("k1", "another").await;
    assert_ne!(
        one.store.hash_kv(0).await.unwrap().hash,
        two.store.hash_kv(0).await.unwrap().hash
    );
    one.store.shutdown().await;
    two.store.shutdown().await;
}

/// A backup that is the image of a running store.
struct Copy(ImageReader);

impl RestoreSource for Copy {
    fn revision(&self) -> Revision {
        self.0.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.0.compact_revision()
    }

    fn leases(&self) -> Vec<(LeaseId, i64)> {
        self.0.leases().to_vec()
    }

    fn auth(&self) -> AuthState {
        self.0.auth().clone()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.0.alarms()
    }

    fn records(&mut self, take: &mut dyn FnMut(ImageRecord) -> Result<()>) -> Result<()> {
        self.0.records(&mut |record| take(record).map(|()| true))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_makes_another_store_of_the_same_content() {
    let fixture = Fixture::new(|_| {}).await;
    let store = &fixture.store;
    let (lease, _) = store.lease_grant(0, 100).await.unwrap();
    for n in 0..2_000 {
        let put = Put {
            lease: if n % 3 == 0 { lease } else { 0 },
            ..Put::new(format!("k{}", n % 700), n.to_string())
        };
        store.put(put).await.unwrap();
    }
    store.delete(KeyRange::Prefix("k1".into()), false).await.unwrap();
    store.compact(1_500, true).await.unwrap();
    let user = AuthCommand::UserAdd {
        name: "u".into(),
        password: Password::Plain("secret".into()),
    };
    store.auth(user).await.unwrap();
    let image = store.image().unwrap();
    let expected = store.range(RangeRequest::prefix("")).await.unwrap();
    let hash = store.hash_kv(0).await.unwrap();
    // What comes after the image is not in it, and compacting away what is waits.
    store.txn(Txn::default()).await.unwrap();
    store.delete(KeyRange::Prefix("".into()), false).await.unwrap();
    store.compact(image.revision() + 1, false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("restored");
    LocalStore::restore(&target, Copy(image)).await.unwrap();
    for _ in 0..2 {
        let restored = LocalStore::open(Options::new(&target)).await.unwrap();
        let found = restored.range(RangeRequest::prefix("")).await.unwrap();
        assert_eq!(found.kvs, expected.kvs);
        assert_eq!(restored.hash_kv(expected.revision).await.unwrap(), hash);
        let status = restored.lease_time_to_live(lease, true).await.unwrap();
        assert!(status.remaining_ttl_seconds > 0 && status.keys.len() > 100);
        assert_eq!(restored.auth_state().users.len(), 1);
        let old = RangeRequest {
            revision: 1_499,
            ..RangeRequest::key("k1")
        };
        assert!(matches!(restored.range(old).await, Err(Error::Compacted { .. })));
        restored.put(Put::new("after", "1")).await.unwrap();
        restored
            .delete(KeyRange::Key("after".into()), false)
            .await
            .unwrap();
        restored.shutdown().await;
    }
    let again = LocalStore::restore(&target, Copy(store.image().unwrap())).await;
    assert!(matches!(again, Err(Error::Unavailable(_))), "{again:?}");
    fixture.store.shutdown().await;
}
