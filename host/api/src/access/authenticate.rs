//! Authentication of a request from the wire, and impersonation.

use std::sync::Arc;

use capstan_kinds::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{Attributes, UserInfo};
use crate::refusal::Refusal;
use crate::server::Server;

/// The user of a request: of its bearer token, else of its certificate, else nobody.
pub(crate) async fn authenticate(
    server: &Server,
    certificate: Option<Arc<UserInfo>>,
    headers: &HeaderMap,
) -> Result<Arc<UserInfo>, Refusal> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim);
    let user = match (certificate, token) {
        (Some(user), _) => user,
        (None, Some(token)) => match server.tokens.user(server, token, None).await {
            Some((user, _)) => Arc::new(user),
            None => return Err(Status::unauthorized().into()),
        },
        (None, None) => Arc::new(UserInfo::anonymous()),
    };
    Ok(user)
}

/// Whom the request is to be answered as: the user themselves where no header says otherwise.
pub(crate) fn impersonated(
    server: &Server,
    user: Arc<UserInfo>,
    headers: &mut HeaderMap,
    _asked: &Attributes,
) -> Result<Arc<UserInfo>, Refusal> {
    let all = |name: &str| {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let names = all("impersonate-user");
    let groups = all("impersonate-group");
    let Some(name) = names.into_iter().next() else {
        if groups.is_empty() {
            return Ok(user);
        }
        let message = "impersonating groups needs a user as well: set Impersonate-User";
        return Err(Status::bad_request(message).into());
    };
    let wanted = std::iter::once(("users", name.clone()));
    for (resource, name) in wanted.chain(groups.iter().map(|group| ("groups", group.clone()))) {
        let attributes = Attributes {
            verb: "impersonate".into(),
            resource: resource.into(),
            name: name.clone(),
            ..Attributes::default()
        };
        server.authorize(&user, &attributes)?;
    }
    let mut other = UserInfo {
        name,
        groups,
        ..UserInfo::default()
    };
    if let Some(account) = other.name.strip_prefix("system:serviceaccount:")
        && let Some((namespace, name)) = account.split_once(':')
        && other.groups.is_empty()
    {
        other.groups = UserInfo::service_account(namespace, name, "").groups;
    }
    Ok(Arc::new(if other.name == "system:anonymous" {
        other
    } else {
        other.authenticated()
    }))
}
