//! Users through the whole store: enabling, tokens, permissions where they are applied, restarts.

use capstan_store::{
    AuthCommand, AuthInfo, Error, KeyRange, LocalStore, Op, Password, Permission, PermissionKind, Put,
    RangeRequest, Refusal, Store, Txn,
};

use super::Fixture;

fn user(name: &str, password: &str) -> AuthCommand {
    AuthCommand::UserAdd {
        name: name.into(),
        password: Password::Plain(password.into()),
    }
}

fn grant(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole {
        user: user.into(),
        role: role.into(),
    }
}

/// `root`, and a user `u` that may read and write what begins with `u/`.
async fn enabled() -> Fixture {
    let fixture = Fixture::new(|_| {}).await;
    let permission = Permission {
        kind: PermissionKind::ReadWrite,
        key: "u/".into(),
        range_end: "u0".into(),
    };
    for command in [
        user("root", "r"),
        grant("root", "root"),
        user("u", "secret"),
        AuthCommand::UserAdd {
            name: "certified".into(),
            password: Password::None,
        },
        AuthCommand::RoleAdd { name: "own".into() },
        AuthCommand::RoleGrantPermission {
            role: "own".into(),
            permission,
        },
        grant("u", "own"),
        AuthCommand::Enable,
    ] {
        fixture.store.auth(command).await.unwrap();
    }
    fixture
}

async fn log_in(store: &LocalStore, user: &str, password: &str) -> Option<AuthInfo> {
    let token = store.authenticate(user, password).await.unwrap();
    Some(store.token_info(&token).await.unwrap())
}

fn put(key: &str, lease: i64) -> Txn {
    let put = Put {
        lease,
        ..Put::new(key.to_owned(), "1")
    };
    Txn {
        success: vec![Op::Put(put)],
        ..Txn::default()
    }
}

fn refused<T: std::fmt::Debug>(answer: capstan_store::Result<T>) -> Refusal {
    answer.unwrap_err().refusal().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_tokens_let_users_in() {
    let fixture = enabled().await;
    let store = &fixture.store;
    assert_eq!(
        refused(store.authenticate("u", "wrong").await),
        Refusal::AuthFailed
    );
    assert_eq!(
        refused(store.authenticate("nobody", "x").await),
        Refusal::AuthFailed
    );
    assert_eq!(
        refused(store.authenticate("certified", "x").await),
        Refusal::NoPasswordUser
    );
    assert_eq!(
        refused(store.token_info("abc.1").await),
        Refusal::InvalidAuthToken
    );
    let token = store.authenticate("u", "secret").await.unwrap();
    assert_eq!(store.user_of_token(&token).unwrap().user, "u");
    let change = AuthCommand::UserChangePassword {
        name: "u".into(),
        password: Password::Plain("new".into()),
    };
    let as_user = store.user_of_token(&token);
    assert_eq!(
        refused(store.auth_as(as_user, change.clone()).await),
        Refusal::PermissionDenied
    );
    let root = log_in(store, "root", "r").await;
    store.auth_as(root, change).await.unwrap();
    assert_eq!(
        store.user_of_token(&token),
        None,
        "a new password ends old tokens"
    );
    store.authenticate("u", "new").await.unwrap();
    let fixture = fixture.reopened().await;
    let store = &fixture.store;
    assert!(store.auth_state().enabled && store.auth_state().users.len() == 3);
    log_in(store, "u", "new").await;
    store.auth(AuthCommand::Disable).await.unwrap();
    assert_eq!(
        refused(store.authenticate("u", "new").await),
        Refusal::AuthNotEnabled
    );
    store.txn_as(None, put("any", 0)).await.unwrap();
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_checked_where_they_are_applied() {
    let fixture = enabled().await;
    let store = &fixture.store;
    let user = log_in(store, "u", "secret").await;
    let root = log_in(store, "root", "r").await;
    store.txn_as(user.clone(), put("u/a", 0)).await.unwrap();
    store.txn_as(root.clone(), put("other", 0)).await.unwrap();
    assert_eq!(
        refused(store.txn_as(user.clone(), put("other", 0)).await),
        Refusal::PermissionDenied
    );
    assert_eq!(
        refused(store.txn_as(None, put("u/a", 0)).await),
        Refusal::UserEmpty
    );
    let read = |key: &str| RangeRequest::key(key.to_owned());
    assert_eq!(store.range_as(user.clone(), read("u/a")).await.unwrap().count, 1);
    assert_eq!(
        refused(store.range_as(user.clone(), read("other")).await),
        Refusal::PermissionDenied
    );
    let everything = RangeRequest::prefix("");
    assert_eq!(
        refused(
            store
                .range_stream_as(user.clone(), everything.clone())
                .await
                .map(|_| ())
        ),
        Refusal::PermissionDenied
    );
    assert_eq!(store.range_as(root.clone(), everything).await.unwrap().count, 2);
    // A lease is its writers' alone, though any may grant one.
    let (lease, _) = store.lease_grant(0, 100).await.unwrap();
    store.txn_as(root.clone(), put("other", lease)).await.unwrap();
    assert_eq!(
        refused(store.txn_as(user.clone(), put("u/b", lease)).await),
        Refusal::PermissionDenied
    );
    assert_eq!(
        refused(store.lease_revoke_as(user.clone(), lease).await),
        Refusal::PermissionDenied
    );
    let keys = store.lease_time_to_live_as(user.clone(), lease, true).await;
    assert_eq!(refused(keys), Refusal::PermissionDenied);
    store.lease_revoke_as(root.clone(), lease).await.unwrap();
    // A caller from before a change of users is told to come again, and a read is told so too.
    store
        .auth_as(root, AuthCommand::RoleAdd { name: "new".into() })
        .await
        .unwrap();
    assert_eq!(
        refused(store.txn_as(user.clone(), put("u/a", 0)).await),
        Refusal::AuthOldRevision
    );
    assert_eq!(
        refused(store.range_as(user, read("u/a")).await),
        Refusal::AuthOldRevision
    );
    assert!(matches!(
        store.delete(KeyRange::Prefix("".into()), false).await,
        Ok((_, 1, _))
    ));
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_written_plainly() {
    const SECRET: &str = "a-password-that-is-easy-to-find";
    let fixture = Fixture::new(|_| {}).await;
    fixture.store.auth(user("u", SECRET)).await.unwrap();
    let twice = fixture.store.auth(user("u", SECRET)).await;
    assert!(matches!(twice, Err(Error::Refused(Refusal::UserExists))));
    fixture.store.shutdown().await;
    let mut folders = vec![fixture.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes
                    .windows(SECRET.len())
                    .any(|window| window == SECRET.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
}
