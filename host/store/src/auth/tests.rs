//! The auth core: every command's refusals, merged ranges, whole transactions, tokens.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::{Compare, KeyRange, Op, Put, RangeRequest, Refusal, Txn};

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd {
        name: name.into(),
        password: Password::Hashed("hash".into()),
    }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { name: name.into() }
}

fn grant(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole {
        user: user.into(),
        role: role.into(),
    }
}

fn permit(role: &str, kind: PermissionKind, key: &'static str, end: &'static str) -> AuthCommand {
    AuthCommand::RoleGrantPermission {
        role: role.into(),
        permission: Permission {
            kind,
            key: key.into(),
            range_end: end.into(),
        },
    }
}

fn revoke(role: &str, key: &'static str, end: &'static str) -> AuthCommand {
    AuthCommand::RoleRevokePermission {
        role: role.into(),
        key: key.into(),
        range_end: end.into(),
    }
}

/// A state after commands, each of which must be taken.
fn after(commands: &[AuthCommand]) -> AuthState {
    commands.iter().fold(AuthState::default(), |state, command| {
        state
            .apply(command)
            .unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"))
    })
}

#[test]
fn commands_are_refused_as_by_etcd() {
    use PermissionKind::Read;
    let with_root = after(&[user_add("root"), role_add("root"), role_add("r"), user_add("u")]);
    let rooted = with_root.apply(&grant("root", "root")).unwrap();
    let enabled = rooted.apply(&AuthCommand::Enable).unwrap();
    let delete_user = |name: &str| AuthCommand::UserDelete { name: name.into() };
    let delete_role = |name: &str| AuthCommand::RoleDelete { name: name.into() };
    let ungrant = |user: &str, role: &str| AuthCommand::UserRevokeRole {
        user: user.into(),
        role: role.into(),
    };
    let plain = AuthCommand::UserChangePassword {
        name: "x".into(),
        password: Password::None,
    };
    let empty = AuthState::default();
    let cases = [
        (&empty, AuthCommand::Enable, Refusal::RootUserNotExist),
        (&with_root, AuthCommand::Enable, Refusal::RootRoleNotExist),
        (&empty, user_add(""), Refusal::UserEmpty),
        (&with_root, user_add("u"), Refusal::UserExists),
        (&empty, delete_user("u"), Refusal::UserNotFound),
        (&enabled, delete_user("root"), Refusal::InvalidAuthManagement),
        (&empty, plain, Refusal::UserNotFound),
        (&empty, grant("u", "r"), Refusal::UserNotFound),
        (&with_root, grant("u", "none"), Refusal::RoleNotFound),
        (&with_root, ungrant("u", "r"), Refusal::RoleNotGranted),
        (&with_root, ungrant("none", "r"), Refusal::UserNotFound),
        (&enabled, ungrant("root", "root"), Refusal::InvalidAuthManagement),
        (&empty, role_add(""), Refusal::RoleEmpty),
        (&with_root, role_add("r"), Refusal::RoleExists),
        (&empty, delete_role("r"), Refusal::RoleNotFound),
        (&enabled, delete_role("root"), Refusal::InvalidAuthManagement),
        (&empty, permit("r", Read, "a", ""), Refusal::RoleNotFound),
        (
            &with_root,
            permit("r", Read, "", ""),
            Refusal::InvalidAuthManagement,
        ),
        (
            &with_root,
            permit("r", Read, "b", "a"),
            Refusal::InvalidAuthManagement,
        ),
        (&with_root, revoke("r", "a", ""), Refusal::PermissionNotGranted),
        (&empty, revoke("r", "a", ""), Refusal::RoleNotFound),
    ];
    for (state, command, refusal) in cases {
        assert_eq!(state.apply(&command), Err(refusal), "{command:?}");
    }
    assert_eq!(enabled.revision, rooted.revision, "enabling is no new revision");
    let again = rooted.apply(&grant("root", "root")).unwrap();
    assert_eq!(again, rooted, "granting twice changes nothing");
    let gone = after(&[user_add("u"), role_add("r"), grant("u", "r"), delete_role("r")]);
    assert!(gone.users["u"].roles.is_empty());
}

fn allowed() -> AuthState {
    use PermissionKind::{Read, ReadWrite, Write};
    after(&[
        user_add("root"),
        grant_root(),
        user_add("u"),
        role_add("one"),
        role_add("two"),
        grant("u", "one"),
        grant("u", "two"),
        permit("one", Read, "a", "c"),
        permit("two", ReadWrite, "c", "f"),
        permit("one", Write, "k", ""),
        permit("two", Read, "x", "\0"),
        AuthCommand::Enable,
    ])
}

fn grant_root() -> AuthCommand {
    grant("root", "root")
}

#[test]
fn ranges_of_several_roles_are_merged() {
    let state = allowed();
    let caller = Some(state.info("u"));
    let span = |from: &'static str, to: &'static str| KeyRange::Span(from.into(), to.into());
    let cases = [
        (Access::Read, span("a", "f"), true),
        (Access::Read, span("a", "f\0"), false),
        (Access::Write, span("a", "f"), false),
        (Access::Write, span("c", "f"), true),
        (Access::Write, KeyRange::Key("k".into()), true),
        (Access::Write, KeyRange::Prefix("k".into()), false),
        (Access::Read, KeyRange::Key("k".into()), false),
        (Access::Read, KeyRange::From("x".into()), true),
        (Access::Read, KeyRange::From("a".into()), false),
        (Access::Read, KeyRange::Prefix("b".into()), true),
        (Access::Read, KeyRange::Prefix(Bytes::new()), false),
        (Access::Read, KeyRange::Prefix("z".into()), true),
    ];
    for (access, range, expected) in cases {
        let checked = state.check(caller.as_ref(), access, &range);
        let wanted = if expected {
            Ok(())
        } else {
            Err(Refusal::PermissionDenied)
        };
        assert_eq!(checked, wanted, "{access:?} {range:?}");
        assert_eq!(state.check(Some(&state.info("root")), access, &range), Ok(()));
    }
    let all = after(&[
        user_add("root"),
        grant_root(),
        user_add("u"),
        role_add("r"),
        grant("u", "r"),
        permit("r", PermissionKind::Read, "\0", "\0"),
        AuthCommand::Enable,
    ]);
    let everything = KeyRange::Prefix(Bytes::new());
    assert_eq!(all.check(Some(&all.info("u")), Access::Read, &everything), Ok(()));
}

#[test]
fn callers_are_checked_by_name_and_revision() {
    let state = allowed();
    let key = KeyRange::Key("a".into());
    let old = AuthInfo {
        revision: state.revision - 1,
        ..state.info("u")
    };
    for (caller, expected) in [
        (None, Err(Refusal::UserEmpty)),
        (Some(old), Err(Refusal::AuthOldRevision)),
        (Some(state.info("gone")), Err(Refusal::PermissionDenied)),
        (Some(state.info("u")), Ok(())),
    ] {
        assert_eq!(state.check(caller.as_ref(), Access::Read, &key), expected);
    }
    let own = state.info("u");
    assert_eq!(state.check_admin(None), Err(Refusal::UserEmpty));
    assert_eq!(state.check_admin(Some(&own)), Err(Refusal::PermissionDenied));
    assert_eq!(state.check_user_get(Some(&own), "u"), Ok(()));
    assert_eq!(
        state.check_user_get(Some(&own), "root"),
        Err(Refusal::PermissionDenied)
    );
    assert_eq!(state.check_role_get(Some(&own), "one"), Ok(()));
    assert_eq!(
        state.check_role_get(Some(&own), "three"),
        Err(Refusal::PermissionDenied)
    );
    assert_eq!(AuthState::default().check(None, Access::Write, &key), Ok(()));
}

#[test]
fn all_of_a_transaction_is_checked() {
    let state = allowed();
    let none = |_| Vec::new();
    let txn = |op| Txn {
        success: vec![op],
        ..Txn::default()
    };
    let put = |key: &'static str| Put::new(key, "1");
    let nested = Op::Txn(Box::new(Txn {
        failure: vec![Op::Put(put("a"))],
        ..Txn::default()
    }));
    let compared = Txn {
        compare: vec![Compare::mod_revision("k", 0)],
        ..Txn::default()
    };
    let read_back = Put {
        prev_kv: true,
        ..put("k")
    };
    let leased = Put { lease: 7, ..put("k") };
    let denied = [
        txn(Op::Put(put("a"))),
        txn(nested),
        compared,
        txn(Op::Put(read_back)),
        txn(Op::Range(RangeRequest::key("k"))),
        txn(Op::Delete {
            range: KeyRange::Key("k".into()),
            prev_kv: true,
        }),
    ];
    let caller = state.info("u");
    for txn in denied {
        let checked = state.check_txn(Some(&caller), &txn, &none);
        assert_eq!(checked, Err(Refusal::PermissionDenied), "{txn:?}");
    }
    let own = txn(Op::Put(leased));
    assert_eq!(state.check_txn(Some(&caller), &own, &none), Ok(()));
    let others = |_| vec![Bytes::from("a")];
    assert_eq!(
        state.check_txn(Some(&caller), &own, &others),
        Err(Refusal::PermissionDenied)
    );
}

#[test]
fn the_state_is_read_back_as_it_was_written() {
    let state = allowed();
    assert_eq!(AuthState::decode(&state.encode().unwrap()).unwrap(), state);
    assert!(AuthState::decode(&[]).is_err() && AuthState::decode(&[9, 1]).is_err());
}

#[test]
fn a_password_is_known_by_its_hash_alone() {
    let hash = hash("secret", BCRYPT_COST_MIN).unwrap();
    assert_eq!(verify("secret", &hash), Ok(()));
    assert_eq!(verify("Secret", &hash), Err(Refusal::AuthFailed));
    assert_eq!(verify("secret", b"no hash"), Err(Refusal::AuthFailed));
    // Made by another implementation of bcrypt.
    let theirs = b"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    assert_eq!(verify("U*U", theirs), Ok(()));
}

#[test]
fn tokens_last_while_they_are_used() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut tokens = Tokens::default();
    let (one, two) = (new_token().unwrap(), new_token().unwrap());
    assert!(one != two && one.split('.').next().unwrap().len() == 16);
    tokens.add(one.clone(), "u".into(), start);
    tokens.add(two.clone(), "v".into(), start);
    assert_eq!(tokens.user(&one, at(200)), Some("u"));
    assert_eq!(tokens.user(&one, at(499)), Some("u"));
    assert_eq!(tokens.user(&two, at(301)), None);
    tokens.add(two.clone(), "v".into(), at(500));
    tokens.after(&AuthCommand::UserDelete { name: "v".into() });
    assert_eq!(tokens.user(&two, at(501)), None);
    assert_eq!(tokens.user(&one, at(501)), Some("u"));
    tokens.after(&AuthCommand::Disable);
    assert_eq!(tokens.user(&one, at(502)), None);
}
