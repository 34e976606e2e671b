//! Users, roles, permissions and tokens.

use std::sync::Arc;

use capstan_store::{AuthCommand, Password, Permission, PermissionKind, ROOT, Refusal};
use tonic::{Request, Response, Status};

use super::caller::Host;
use crate::errors::{refused, status, status_of};
use crate::proto::authpb;
use crate::proto::etcdserverpb as pb;
use authpb::permission::Type;
use pb::auth_server::Auth;

#[derive(Debug)]
pub(super) struct AuthService(pub(super) Arc<Host>);

impl AuthService {
    /// Carries out a change for whoever asks, if they may.
    async fn change<T>(&self, request: &Request<T>, command: AuthCommand) -> Result<Header, Status> {
        let caller = self.0.caller(request).await?;
        self.0.store.auth_as(caller, command).await.map_err(status)?;
        Ok(Some(self.0.header_now()))
    }
}

type Header = Option<pb::ResponseHeader>;

fn permission(permission: &Permission) -> authpb::Permission {
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: kind.into(),
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    }
}

fn asked_permission(permission: authpb::Permission) -> Permission {
    Permission {
        kind: match permission.perm_type() {
            Type::Read => PermissionKind::Read,
            Type::Write => PermissionKind::Write,
            Type::Readwrite => PermissionKind::ReadWrite,
        },
        key: permission.key,
        range_end: permission.range_end,
    }
}

/// What the role `root` may, whatever was granted to it.
fn root_permission() -> authpb::Permission {
    authpb::Permission {
        perm_type: Type::Readwrite.into(),
        key: Default::default(),
        range_end: bytes::Bytes::from_static(&[0]),
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(&request, AuthCommand::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(&request, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let state = self.0.store.auth_state_now().await.map_err(status)?;
        state.check_admin(caller.as_ref()).map_err(status_of)?;
        Ok(Response::new(pb::AuthStatusResponse {
            header: Some(self.0.header_now()),
            enabled: state.enabled,
            auth_revision: state.revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self
            .0
            .store
            .authenticate(&name, &password)
            .await
            .map_err(status)?;
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let asked = request.get_ref();
        let password = match &asked.options {
            Some(options) if options.no_password => Password::None,
            _ => Password::Plain(asked.password.clone()),
        };
        let name = asked.name.clone();
        let header = self
            .change(&request, AuthCommand::UserAdd { name, password })
            .await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let state = self.0.store.auth_state_now().await.map_err(status)?;
        let name = &request.get_ref().name;
        state.check_user_get(caller.as_ref(), name).map_err(status_of)?;
        let user = state
            .users
            .get(name)
            .ok_or_else(|| refused(Refusal::UserNotFound))?;
        Ok(Response::new(pb::AuthUserGetResponse {
            header: Some(self.0.header_now()),
            roles: user.roles.clone(),
        }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let state = self.0.store.auth_state_now().await.map_err(status)?;
        state.check_admin(caller.as_ref()).map_err(status_of)?;
        Ok(Response::new(pb::AuthUserListResponse {
            header: Some(self.0.header_now()),
            users: state.users.keys().cloned().collect(),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let name = request.get_ref().name.clone();
        let header = self.change(&request, AuthCommand::UserDelete { name }).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let asked = request.get_ref();
        let command = AuthCommand::UserChangePassword {
            name: asked.name.clone(),
            password: Password::Plain(asked.password.clone()),
        };
        let header = self.change(&request, command).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.get_ref().clone();
        let header = self
            .change(&request, AuthCommand::UserGrantRole { user, role })
            .await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let pb::AuthUserRevokeRoleRequest { name, role } = request.get_ref().clone();
        let header = self
            .change(&request, AuthCommand::UserRevokeRole { user: name, role })
            .await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let name = request.get_ref().name.clone();
        let header = self.change(&request, AuthCommand::RoleAdd { name }).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let state = self.0.store.auth_state_now().await.map_err(status)?;
        let name = &request.get_ref().role;
        state.check_role_get(caller.as_ref(), name).map_err(status_of)?;
        let role = state
            .roles
            .get(name)
            .ok_or_else(|| refused(Refusal::RoleNotFound))?;
        Ok(Response::new(pb::AuthRoleGetResponse {
            header: Some(self.0.header_now()),
            perm: match &name[..] {
                ROOT => vec![root_permission()],
                _ => role.permissions.iter().map(permission).collect(),
            },
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let state = self.0.store.auth_state_now().await.map_err(status)?;
        state.check_admin(caller.as_ref()).map_err(status_of)?;
        Ok(Response::new(pb::AuthRoleListResponse {
            header: Some(self.0.header_now()),
            roles: state.roles.keys().cloned().collect(),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let name = request.get_ref().role.clone();
        let header = self.change(&request, AuthCommand::RoleDelete { name }).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.get_ref().clone();
        let asked = perm.ok_or_else(|| refused(Refusal::PermissionNotGiven))?;
        let command = AuthCommand::RoleGrantPermission {
            role: name,
            permission: asked_permission(asked),
        };
        let header = self.change(&request, command).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.get_ref().clone();
        let command = AuthCommand::RoleRevokePermission { role, key, range_end };
        let header = self.change(&request, command).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }
}
