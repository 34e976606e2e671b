//! Impersonation: a request that its sender makes as somebody else, by the `Impersonate-*` headers.
//!
//! The modes are the original's 1.36: the constrained ones first (`impersonate:MODE` on whom, and
//! `impersonate-on:MODE:VERB` on what), then the older one (`impersonate` on users, groups, service accounts,
//! uids and extras). The first mode that allows all of it wins; else the first refusal is told.

use std::sync::Arc;

use capstan_kinds::status::Status;
use http::HeaderMap;

use super::rules::Attributes;
use super::{UserInfo, authorize::MASTERS};
use crate::refusal::Refusal;
use crate::server::Server;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Groups and extra values that a request may name.
const VALUES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

/// Whom the request is to be answered as: the user themselves where no header says otherwise. Takes the
/// headers away.
pub(crate) fn impersonated(
    server: &Server,
    user: Arc<UserInfo>,
    headers: &mut HeaderMap,
    asked: &Attributes,
) -> Result<Arc<UserInfo>, Refusal> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(user);
    };
    let mut refused: Option<Refusal> = None;
    for mode in MODES.into_iter().filter(|mode| mode.suits(&wanted, &user)) {
        match attempt(server, &user, &wanted, mode, asked) {
            Ok(other) => return Ok(Arc::new(other)),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    Err(refused.unwrap_or_else(|| Status::internal("all impersonation modes failed").into()))
}

/// What the headers ask for.
fn wanted(headers: &mut HeaderMap) -> Result<Option<UserInfo>, Refusal> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().take(VALUES_MAX);
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect()
    };
    let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut wanted = UserInfo {
        name: one(USER),
        uid: one(UID),
        groups: all(GROUP),
        extra: Vec::new(),
    };
    let keys: Vec<String> = headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|name| name.starts_with(EXTRA))
        .collect();
    for key in &keys {
        let shown = percent_encoding::percent_decode_str(&key[EXTRA.len()..]);
        wanted
            .extra
            .push((shown.decode_utf8_lossy().into_owned(), all(key)));
    }
    if wanted.name.is_empty() {
        if wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty() {
            return Ok(None);
        }
        let message = format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{}, Extra:{}}} without impersonating a user name",
            wanted.uid,
            go_strings(&wanted.groups),
            go_extra(&wanted.extra)
        );
        return Err(Status::bad_request(message).into());
    }
    for name in [USER, UID, GROUP] {
        headers.remove(name);
    }
    for key in keys {
        headers.remove(key);
    }
    Ok(Some(wanted))
}

fn go_strings(list: &[String]) -> String {
    match list {
        [] => "[]string(nil)".to_owned(),
        list => {
            let quoted: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    }
}

fn go_extra(extra: &[(String, Vec<String>)]) -> String {
    if extra.is_empty() {
        return "map[string][]string(nil)".to_owned();
    }
    let shown: Vec<String> = extra
        .iter()
        .map(|(key, values)| format!("{key:?}:{}", go_strings(values)))
        .collect();
    format!("map[string][]string{{{}}}", shown.join(", "))
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// Whether the mode can make `user` the wanted one at all.
    fn suits(self, wanted: &UserInfo, user: &UserInfo) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.name);
        match self {
            Self::AssociatedNode => {
                let own = user.extra("authentication.kubernetes.io/node-name");
                let bound = user.as_service_account().is_some() && own.len() == 1;
                bare && bound && node == own.first().map(String::as_str)
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && wanted.as_service_account().is_some(),
            Self::UserInfo => node.is_none() && wanted.as_service_account().is_none(),
            Self::Legacy => true,
        }
    }
}

fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| !node.is_empty())
}

fn attempt(
    server: &Server,
    user: &UserInfo,
    wanted: &UserInfo,
    mode: Mode,
    asked: &Attributes,
) -> Result<UserInfo, Refusal> {
    let constrained = mode != Mode::Legacy;
    let (verb, group) = if constrained {
        let on = Attributes {
            verb: format!("impersonate-on:{}:{}", mode.name(), asked.verb),
            ..asked.clone()
        };
        server.authorize(user, &on)?;
        (format!("impersonate:{}", mode.name()), AUTHENTICATION)
    } else {
        ("impersonate".to_owned(), "")
    };
    let question = |group: &str, resource: &str, name: &str| Attributes {
        verb: verb.clone(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let mut other = wanted.clone();
    let mut who = question(group, "users", &wanted.name);
    if let Some(node) = node_of(&wanted.name).filter(|_| constrained) {
        let any = mode == Mode::AssociatedNode;
        who = question(group, "nodes", if any { "*" } else { node });
        other.groups = vec!["system:nodes".to_owned()];
    } else if let Some((namespace, name)) = wanted.as_service_account() {
        who = question(group, "serviceaccounts", name);
        who.namespace = namespace.to_owned();
        if wanted.groups.is_empty() {
            other.groups = UserInfo::service_account(namespace, name, "").groups;
        }
    }
    server.authorize(user, &who)?;
    if !wanted.uid.is_empty() {
        server.authorize(user, &question(AUTHENTICATION, "uids", &wanted.uid))?;
    }
    for name in &wanted.groups {
        let of_group = question(group, "groups", name);
        if constrained && (name.is_empty() || name == MASTERS) {
            let which = if name.is_empty() { "empty string" } else { MASTERS };
            let why = format!("impersonating the {which} group is not allowed");
            return Err(super::rules::refusal(user, &of_group, &why).into());
        }
        server.authorize(user, &of_group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            let mut of_extra = question(AUTHENTICATION, "userextras", value);
            of_extra.subresource.clone_from(key);
            server.authorize(user, &of_extra)?;
        }
    }
    if other.name == "system:anonymous" {
        if !other.is_in(UNAUTHENTICATED) {
            other.groups.push(UNAUTHENTICATED.to_owned());
        }
        return Ok(other);
    }
    Ok(other.authenticated())
}
