//! How whoever runs a [`LocalStore`] learns that it has stopped by itself.

use super::LocalStore;
use crate::Error;

impl LocalStore {
    /// Ends with the reason when the store can go on no more, because its folder could not be written or read;
    /// and when it is shut down. What was acknowledged is in the folder: shut the store down and open it anew.
    pub async fn failed(&self) -> Error {
        let failed = self.server().map(|server| server.consensus.failed());
        match failed {
            Ok(failed) => failed.await,
            Err(error) => error,
        }
    }
}
