//! Who we are to an etcd that asks: the token that a login gives, and the headers of every call.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use capstan_store::{Error, Refusal, Result};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::connections::{Effect, Endpoint};
use super::failure::{Failure, Next};
use crate::proto::etcdserverpb::AuthenticateRequest;
use crate::proto::etcdserverpb::auth_client::AuthClient;

/// Headers of one call.
#[derive(Debug, Clone)]
pub(super) struct Headers {
    token: Option<MetadataValue<Ascii>>,
    generation: u64,
}

impl Headers {
    /// The message with these headers on it.
    pub(super) fn on<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A member that has lost its leader says so at once, instead of letting us wait.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

#[derive(Debug, Default)]
struct Token {
    value: Option<MetadataValue<Ascii>>,
    generation: u64,
}

/// User, password and the token of the last login.
#[derive(Debug)]
pub(super) struct Session {
    user: Option<(String, String)>,
    token: RwLock<Token>,
    renewing: tokio::sync::Mutex<()>,
}

impl Session {
    pub(super) fn new(user: Option<(String, String)>) -> Self {
        Self {
            user,
            token: RwLock::default(),
            renewing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn headers(&self) -> Headers {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        Headers {
            token: token.value.clone(),
            generation: token.generation,
        }
    }

    /// Logs in, unless somebody else has since `used` was made.
    pub(super) async fn renew(
        &self,
        used: &Headers,
        round: Vec<&Endpoint>,
        bound: Duration,
        mut error: Error,
    ) -> Result<()> {
        let Some((name, password)) = &self.user else {
            // Nothing to log in with: whoever asked for it gets to see the refusal at the second attempt.
            return Ok(());
        };
        let _renewing = self.renewing.lock().await;
        if self.headers().generation != used.generation {
            return Ok(());
        }
        for endpoint in round {
            let login = AuthenticateRequest {
                name: name.clone(),
                password: password.clone(),
            };
            let mut client = AuthClient::new(endpoint.link.clone());
            let failure = match tokio::time::timeout(bound, client.authenticate(login)).await {
                Ok(Ok(answer)) => return self.keep(Some(&answer.into_inner().token)),
                Ok(Err(status)) => Failure::of(&status, Effect::Read),
                Err(_) => Failure::timed_out(Effect::Read),
            };
            match (failure.next, failure.error) {
                (_, Error::Refused(Refusal::AuthNotEnabled)) => return self.keep(None),
                (Next::Elsewhere | Next::Authenticate, failed) => error = failed,
                (Next::GiveUp, failed) => return Err(failed),
            }
        }
        Err(error)
    }

    fn keep(&self, token: Option<&str>) -> Result<()> {
        let value = token
            .map(str::parse)
            .transpose()
            .map_err(|_| Error::Invalid("the login's token is not a header's value".into()))?;
        let mut kept = self.token.write().unwrap_or_else(PoisonError::into_inner);
        kept.value = value;
        kept.generation += 1;
        Ok(())
    }
}
