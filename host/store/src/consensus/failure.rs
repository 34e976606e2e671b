//! Tells that Raft has stopped by itself: an engine that could not write or read ends it, and only opening the
//! folder anew, which checks everything in it, starts it again.

use std::future::Future;

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::raft::Consensus;
use crate::Error;

impl Consensus {
    /// Ends with why Raft has stopped, at the latest when this member is stopped. Holds no part of the store open.
    pub(crate) fn failed(&self) -> impl Future<Output = Error> + Send + use<> {
        let (metrics, mut server) = (self.core.raft.metrics(), self.core.raft.server_metrics());
        let progress = self.core.progress.clone();
        async move {
            // These end with Raft, and change seldom: the others do at each step of each write.
            while WatchReceiver::changed(&mut server).await.is_ok() {}
            let stopped = match &metrics.borrow_watched().running_state {
                Err(fatal) => fatal.to_string(),
                Ok(()) => "the store is shut down".to_owned(),
            };
            progress.failure().cloned().unwrap_or(Error::Unavailable(stopped))
        }
    }
}
