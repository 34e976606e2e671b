//! What a member knows of consensus at a moment, for headers, metrics and `hasleader`.

/// A member's view of consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RaftView {
    /// The current term.
    pub term: u64,
    /// The last entry known to be committed.
    pub index: u64,
    /// The last applied entry.
    pub applied_index: u64,
    /// The leader's id; 0: none is known, or it has not been heard of for an election timeout.
    pub leader: u64,
    /// This member has no vote.
    pub is_learner: bool,
}
