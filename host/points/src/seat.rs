use std::sync::Arc;

use tokio::sync::watch;

/// What happens to a request when its policy cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// The request fails with a clear error. The default: a policy that is silent has not agreed.
    #[default]
    Fail,
    /// The request goes on as if the policy were not there.
    Ignore,
}

/// One revision of one plugin, sitting at one extension point.
#[derive(Debug)]
pub struct Seat<P: ?Sized> {
    /// Name of the Plugin object.
    pub plugin: String,
    /// Rises with every revision that took over, unique within the process.
    pub revision: u64,
    /// What a fault means for the request.
    pub failure_policy: FailurePolicy,
    /// The policy itself.
    pub policy: Arc<P>,
}

impl<P: ?Sized> Clone for Seat<P> {
    fn clone(&self) -> Self {
        Self {
            plugin: self.plugin.clone(),
            revision: self.revision,
            failure_policy: self.failure_policy,
            policy: Arc::clone(&self.policy),
        }
    }
}

/// The asker's side of a point: who sits there now, in the order in which they are asked.
///
/// `borrow().clone()` pins the seats for one call or cycle; `changed().await` tells of a swap.
pub type Seats<P> = watch::Receiver<Arc<[Seat<P>]>>;

/// The plugin host's side of a point: a swap replaces the whole row at once.
#[derive(Debug)]
pub struct Seating<P: ?Sized> {
    row: watch::Sender<Arc<[Seat<P>]>>,
}

impl<P: ?Sized> Default for Seating<P> {
    fn default() -> Self {
        Self {
            row: watch::Sender::new(Arc::from(Vec::new())),
        }
    }
}

impl<P: ?Sized> Seating<P> {
    /// A view for one more asker.
    pub fn seats(&self) -> Seats<P> {
        self.row.subscribe()
    }

    /// Replaces the row. Calls under way keep what they pinned.
    pub fn replace(&self, row: Vec<Seat<P>>) {
        self.row.send_replace(row.into());
    }
}
