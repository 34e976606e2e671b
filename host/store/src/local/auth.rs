//! The part of a [`LocalStore`] for clients that must say who they are. What the [`Store`](crate::Store) trait
//! offers is for trusted callers in this process; a face that serves clients calls the `…_as` of each.

use std::sync::Arc;
use std::time::Instant;

use super::LocalStore;
use super::server::Server;
use crate::auth::{Access, AuthCommand, AuthInfo, AuthState, Password, hash, new_token, verify};
use crate::replica::{Command, Replica};
use crate::{
    Error, KeyRange, LeaseId, LeaseStatus, RangeRequest, RangeResponse, RangeStream, Refusal, Result, Txn,
    TxnResponse,
};

/// How often a password is checked again because users changed meanwhile.
const AUTHENTICATE_ATTEMPTS_MAX: usize = 8;

/// For whom an operation is done.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// This process itself: nothing is checked.
    Trusted,
    /// A client, by name or nameless.
    Client(Option<AuthInfo>),
}

impl Caller {
    /// The command as it is to be proposed.
    pub(super) fn command(self, command: Command) -> Command {
        match self {
            Self::Trusted => command,
            Self::Client(auth) => Command::By(auth, Box::new(command)),
        }
    }

    /// Checks a read, reads, and checks that the answer is not of a time when the caller was told otherwise.
    pub(super) fn read<T>(
        &self,
        replica: &Replica,
        range: &KeyRange,
        read: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Self::Client(auth) = self else {
            return read();
        };
        let check = || {
            let state = replica.look(|state| state.auth.clone());
            state.check(auth.as_ref(), Access::Read, range)
        };
        check()?;
        let answer = read()?;
        check()?;
        Ok(answer)
    }

    pub(super) fn check_txn(&self, replica: &Replica, txn: &Txn) -> Result<()> {
        let Self::Client(auth) = self else {
            return Ok(());
        };
        replica.look(|state| {
            state
                .auth
                .check_txn(auth.as_ref(), txn, &|lease| state.lease_keys(lease))
        })?;
        Ok(())
    }
}

impl LocalStore {
    /// Changes users, roles or whether they matter, for a trusted caller.
    ///
    /// # Errors
    /// etcd's refusals, each command's own; see [`AuthState::apply`].
    pub async fn auth(&self, command: AuthCommand) -> Result<()> {
        self.server()?.auth(Caller::Trusted, command).await
    }

    /// The same for a client, which must be an administrator where auth is enabled.
    ///
    /// # Errors
    /// Also `UserEmpty`, `UserNotFound`, `PermissionDenied`.
    pub async fn auth_as(&self, auth: Option<AuthInfo>, command: AuthCommand) -> Result<()> {
        self.server()?.auth(Caller::Client(auth), command).await
    }

    /// Users, roles and permissions as this member has applied them; cheap.
    pub fn auth_state(&self) -> Arc<AuthState> {
        let state = self
            .server()
            .map(|server| server.replica.look(|state| state.auth.clone()));
        state.unwrap_or_default()
    }

    /// The same, but not older than any change that was acknowledged before the call.
    ///
    /// # Errors
    /// As a linearizable read's.
    pub async fn auth_state_now(&self) -> Result<Arc<AuthState>> {
        let server = self.server()?;
        server.consensus.read_barrier().await?;
        Ok(server.replica.look(|state| state.auth.clone()))
    }

    /// Lets a user in; the token is good on every member until it was not used for its time, the user's
    /// password changed, or the member restarted.
    ///
    /// # Errors
    /// `AuthNotEnabled`, `AuthFailed`, `NoPasswordUser`, and those of a write.
    pub async fn authenticate(&self, user: &str, password: &str) -> Result<String> {
        self.server()?.authenticate(user, password).await
    }

    /// Whose token it is, as far as this member knows by now; see [`LocalStore::token_info`].
    pub fn user_of_token(&self, token: &str) -> Option<AuthInfo> {
        self.server().ok()?.user_of_token(token)
    }

    /// Whose token it is. A token that another member gave out a moment ago is waited for.
    ///
    /// # Errors
    /// `InvalidAuthToken`, and those of a linearizable read.
    pub async fn token_info(&self, token: &str) -> Result<AuthInfo> {
        let server = self.server()?;
        if let Some(info) = server.user_of_token(token) {
            return Ok(info);
        }
        if !server.replica.look(|state| state.auth.enabled) {
            return Err(Refusal::InvalidAuthToken.into());
        }
        server.consensus.read_barrier().await?;
        let info = server.user_of_token(token);
        info.ok_or_else(|| Refusal::InvalidAuthToken.into())
    }

    /// [`Store::range`](crate::Store::range) for a client.
    ///
    /// # Errors
    /// Also `UserEmpty`, `PermissionDenied`, `AuthOldRevision`; so for all that follow.
    pub async fn range_as(&self, auth: Option<AuthInfo>, request: RangeRequest) -> Result<RangeResponse> {
        self.server()?.range(Caller::Client(auth), request).await
    }

    /// [`Store::range_stream`](crate::Store::range_stream) for a client.
    ///
    /// # Errors
    /// See [`LocalStore::range_as`].
    pub async fn range_stream_as(
        &self,
        auth: Option<AuthInfo>,
        request: RangeRequest,
    ) -> Result<RangeStream> {
        self.server()?.range_stream(Caller::Client(auth), request).await
    }

    /// [`Store::txn`](crate::Store::txn) for a client: checked before it is proposed, and again where it is
    /// applied.
    ///
    /// # Errors
    /// See [`LocalStore::range_as`].
    pub async fn txn_as(&self, auth: Option<AuthInfo>, txn: Txn) -> Result<TxnResponse> {
        self.server()?.txn(Caller::Client(auth), txn).await
    }

    /// [`Store::lease_revoke`](crate::Store::lease_revoke) for a client, which must be allowed to write all
    /// of the lease's keys.
    ///
    /// # Errors
    /// See [`LocalStore::range_as`].
    pub async fn lease_revoke_as(&self, auth: Option<AuthInfo>, id: LeaseId) -> Result<()> {
        self.server()?.lease_revoke(Caller::Client(auth), id).await
    }

    /// [`Store::lease_time_to_live`](crate::Store::lease_time_to_live) for a client, which must be allowed to
    /// read the keys that it asks for.
    ///
    /// # Errors
    /// See [`LocalStore::range_as`].
    pub async fn lease_time_to_live_as(
        &self,
        auth: Option<AuthInfo>,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseStatus> {
        let server = self.server()?;
        let status = server.lease_time_to_live(id, keys).await?;
        let state = server.replica.look(|state| state.auth.clone());
        state.check_keys(auth.as_ref(), Access::Read, status.keys.iter().cloned())?;
        Ok(status)
    }
}

impl Server {
    async fn auth(&self, caller: Caller, mut command: AuthCommand) -> Result<()> {
        if let Some(password) = command.password_mut()
            && let Password::Plain(plain) = password
        {
            let (plain, cost) = (std::mem::take(plain), self.limits.bcrypt_cost);
            *password = Password::Hashed(off_the_workers(move || hash(&plain, cost)).await?);
        }
        self.propose_done(&caller.command(Command::Auth(command))).await
    }

    async fn authenticate(&self, user: &str, password: &str) -> Result<String> {
        for _ in 0..AUTHENTICATE_ATTEMPTS_MAX {
            let state = self.replica.look(|state| state.auth.clone());
            if !state.enabled {
                return Err(Refusal::AuthNotEnabled.into());
            }
            let known = state.users.get(user).ok_or(Refusal::AuthFailed)?;
            let known = known.password_hash.clone().ok_or(Refusal::NoPasswordUser)?;
            let password = password.to_owned();
            off_the_workers(move || verify(&password, &known).map_err(Error::from)).await?;
            let token =
                new_token().map_err(|error| Error::Unavailable(format!("making a token: {error}")))?;
            let command = Command::Authenticate {
                user: user.to_owned(),
                token: token.clone(),
                auth_revision: state.revision,
            };
            match self.propose_done(&command).await {
                Err(Error::Refused(Refusal::AuthOldRevision)) => self.consensus.read_barrier().await?,
                Err(error) => return Err(error),
                Ok(()) => {
                    if self.user_of_token(&token).is_none() {
                        // Another member applied it first.
                        self.consensus.read_barrier().await?;
                    }
                    return Ok(token);
                }
            }
        }
        Err(Refusal::AuthOldRevision.into())
    }

    fn user_of_token(&self, token: &str) -> Option<AuthInfo> {
        let user = {
            let mut tokens = self.replica.tokens().lock();
            tokens.user(token, Instant::now())?.to_owned()
        };
        Some(self.replica.look(|state| state.auth.info(&user)))
    }
}

async fn off_the_workers<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
}
