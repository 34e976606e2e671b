//! Remedies (`capstan:remedy`): what to do about a node whose conditions say that something is wrong.
//!
//! [`Remedy::decide`] is pure: all that it may weigh is in the call. The host carries actions out, keeps
//! the history and the budget, and asks again when something changed.

use crate::{
    Fault, Plugin,
    plugin::{Component, Seated},
    wit::remedy_decide::exports::capstan::remedy::decide,
};

pub use crate::plugin::ConditionStatus;
pub use decide::{Action, Condition, Decision, NodeFacts, PastAction, Taint, TaintEffect};

/// One question about one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The node.
    pub node: NodeFacts,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// This plugin's own actions on the node, oldest first.
    pub history: Vec<PastAction>,
    /// How many further nodes may be put out of service.
    pub budget: u32,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A remedy.
pub trait Remedy: Plugin {
    /// Which actions to take on the node now; none is the usual answer.
    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault>;
}

/// A remedy in its seat.
pub struct Runner<P>(P);

impl<P: Remedy> Seated for Runner<P> {
    type Plugin = P;

    fn seat(remedy: P) -> Self {
        Self(remedy)
    }

    fn plugin(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<C, P: Remedy> decide::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn decide(
        node: NodeFacts,
        conditions: Vec<Condition>,
        history: Vec<PastAction>,
        budget: u32,
        now_ms: u64,
    ) -> Result<Vec<Decision>, Fault> {
        C::call(|runner| {
            runner.0.decide(&Case {
                node,
                conditions,
                history,
                budget,
                now_ms,
            })
        })
    }
}
