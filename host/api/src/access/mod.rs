//! Who a request is from, and whether they may do it.
//!
//! Authentication: a client certificate, a bearer token (static, a service account's JWT, a bootstrap token, an
//! OpenID Connect provider's), or nobody; then whom the request impersonates. Authorization: `system:masters`
//! may do everything, nodes have an authorizer of their own, and RBAC over the stored roles and bindings
//! decides the rest. The review kinds (`kubectl auth can-i`, `whoami`) ask the same code.

mod authenticate;
mod authorize;
mod bearer;
mod bootstrap;
pub(crate) mod certificate;
pub(crate) mod escalation;
mod impersonate;
mod node;
mod oidc;
mod rbac;
pub(crate) mod requests;
pub(crate) mod reviews;
mod rules;
mod user;
mod verified;

pub use authenticate::Anonymous;
pub(crate) use authenticate::authenticate;
pub(crate) use authorize::MASTERS;
pub(crate) use bearer::{Claims, Tokens};
pub(crate) use impersonate::impersonated;
pub use oidc::{AuthenticationConfiguration, ConfigurationError, OpenIdProvider};
pub(crate) use rbac::Rbac;
pub(crate) use rules::{Attributes, Rule};
pub use user::UserInfo;
