//! Linearizable reads by read index: rounds, each shared by all readers that came before it began.
//!
//! A round asks a quorum whether this member still leads, or asks the leader to; its answer is the index that
//! must be applied before reading. A reader never uses a round that began before it came, so neither a pause
//! of the process nor a deposed leader can give it an old state.

use std::sync::Arc;
use std::time::Instant;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::oneshot;

use super::raft::{Consensus, Core, Repeat};
use crate::cluster::message::Reply;
use crate::lock::Mutex;
use crate::{Error, PeerCallKind, Refusal, Result};

/// The readers that wait for the next round.
#[derive(Default)]
pub(super) struct Rounds {
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    is_running: bool,
    readers: Vec<oneshot::Sender<Result<u64>>>,
}

impl Consensus {
    /// Returns when whatever was acknowledged before the call can be read here.
    pub(crate) async fn read_barrier(&self) -> Result<()> {
        let core = &self.core;
        // The only voter acknowledges after applying, and nobody else can lead.
        if core.is_only_voter() {
            return Ok(());
        }
        let since = Instant::now();
        let index = core.read_index().await;
        core.metrics.waited_for_read_index(since, index.is_ok());
        if core
            .progress
            .wait(index?, Instant::now() + core.timing.request)
            .await
        {
            Ok(())
        } else {
            Err(Error::Refused(Refusal::Timeout))
        }
    }

    /// On the leader: returns when it has been confirmed, after the call, that it leads in this term.
    pub(crate) async fn confirm_leading(&self, term: u64) -> Reply<()> {
        let core = &self.core;
        if !core.is_only_voter() {
            match core.lead_index().await {
                Reply::Done(_) => {}
                Reply::NotLeader => return Reply::NotLeader,
                Reply::Failed(error) => return Reply::Failed(error),
            }
        }
        if *core.leading.borrow() == Some(term) {
            Reply::Done(())
        } else {
            Reply::NotLeader
        }
    }
}

impl Core {
    /// The index to wait for, from a round that begins after this call.
    pub(super) async fn read_index(self: &Arc<Self>) -> Result<u64> {
        let (reader, answer) = oneshot::channel();
        let must_run = {
            let mut state = self.rounds.state.lock();
            state.readers.push(reader);
            !std::mem::replace(&mut state.is_running, true)
        };
        if must_run {
            tokio::spawn(self.clone().run_rounds());
        }
        let stopped = |_| Err(Error::Unavailable("the store is shutting down".into()));
        answer.await.unwrap_or_else(stopped)
    }

    async fn run_rounds(self: Arc<Self>) {
        loop {
            let readers = {
                let mut state = self.rounds.state.lock();
                if state.readers.is_empty() {
                    state.is_running = false;
                    return;
                }
                std::mem::take(&mut state.readers)
            };
            let here = || {
                let this = self.clone();
                async move { this.lead_index().await }
            };
            let index = self
                .at_leader(PeerCallKind::ReadIndex, &(), Repeat::Freely, here)
                .await;
            for reader in readers {
                let _ = reader.send(index.clone());
            }
        }
    }

    /// On the leader: what is committed, once a quorum has confirmed that nobody else leads.
    pub(super) async fn lead_index(&self) -> Reply<u64> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Reply::Done(read.index()),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
            )) => Reply::NotLeader,
            Err(error) => Reply::Failed(self.failure(&error)),
        }
    }
}
