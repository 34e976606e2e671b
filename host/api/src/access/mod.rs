//! Who a request is from, and whether they may do it.
//!
//! Authentication: a client certificate, a bearer token (static, or a service account's JWT), or nobody.
//! Authorization: RBAC over the stored roles and bindings; `system:masters` may do everything. The review
//! kinds (`kubectl auth can-i`, `whoami`) ask the same code.

mod authenticate;
mod bearer;
pub(crate) mod certificate;
pub(crate) mod escalation;
mod rbac;
pub(crate) mod reviews;
mod rules;
mod user;

pub(crate) use authenticate::{authenticate, impersonated};
pub(crate) use bearer::{Claims, Tokens};
pub(crate) use rbac::{Decision, Rbac};
pub(crate) use rules::{Attributes, Rule, refusal};
pub use user::UserInfo;
