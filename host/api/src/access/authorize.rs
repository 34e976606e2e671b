//! Who may do what: `system:masters` everything, a node what the node authorizer gives it, everybody what
//! RBAC gives. The first that allows wins; a refusal carries the reasons of all. Asked for every request, by
//! the reviews and by the admission that looks at permissions.

use super::rules::{self, Attributes};
use super::{UserInfo, node};
use crate::refusal::Refusal;
use crate::server::Server;

/// Members may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// An answer, with the reason that reviews show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub allowed: bool,
    pub reason: String,
}

impl Decision {
    pub(crate) fn allowed() -> Self {
        Self {
            allowed: true,
            reason: String::new(),
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self {
            allowed: false,
            reason: reason.into(),
        }
    }

    /// The refusal of what is not allowed.
    pub(crate) fn enforce(&self, user: &UserInfo, asked: &Attributes) -> Result<(), Refusal> {
        if self.allowed {
            Ok(())
        } else {
            Err(rules::refusal(user, asked, &self.reason).into())
        }
    }
}

impl Server {
    /// Whether the user may.
    pub(crate) fn decide(&self, user: &UserInfo, asked: &Attributes) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::allowed();
        }
        let as_node = node::decide(&self.registry, user, asked);
        if let Some(decision) = as_node.as_ref().filter(|one| one.allowed) {
            return decision.clone();
        }
        let mut decision = self.rbac.decide(&self.registry, user, asked);
        if let Some(refused) = as_node.filter(|_| !decision.allowed) {
            let reasons = [refused.reason, decision.reason];
            let said: Vec<String> = reasons.into_iter().filter(|one| !one.is_empty()).collect();
            decision.reason = said.join("\n");
        }
        decision
    }

    /// Refuses what is not allowed.
    pub(crate) fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Refusal> {
        self.decide(user, attributes).enforce(user, attributes)
    }
}
