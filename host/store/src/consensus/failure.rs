//! Tells that Raft has stopped by itself: an engine that could not write or read ends it, and only opening the
//! folder anew, which checks everything in it, starts it again.

use std::future::Future;

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::raft::Consensus;
use crate::Error;

impl Consensus {
    /// Ends with why Raft has stopped, at the latest when this member is stopped. Holds no part of the store open.
    pub(crate) fn failed(&self) -> impl Future<Output = Error> + Send + use<> {
        let mut metrics = self.core.raft.metrics();
        let progress = self.core.progress.clone();
        async move {
            let stopped = loop {
                if let Err(fatal) = &metrics.borrow_watched().running_state {
                    break fatal.to_string();
                }
                if WatchReceiver::changed(&mut metrics).await.is_err() {
                    break "the store is shut down".to_owned();
                }
            };
            progress.failure().cloned().unwrap_or(Error::Unavailable(stopped))
        }
    }
}
