//! The in-process client's side: a tower service that needs no socket, bound to one user.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{Request, Response};
use bytes::Bytes;

use crate::access::UserInfo;
use crate::body::{Body, BoxError};
use crate::server::Server;

/// Requests as one user, answered in process. `kube::Client::new` takes it as it is.
#[derive(Clone)]
pub struct Local {
    server: Arc<Server>,
    user: Arc<UserInfo>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("user", &self.user.name)
            .finish_non_exhaustive()
    }
}

impl Local {
    pub(super) fn new(server: Arc<Server>, user: UserInfo) -> Self {
        Self {
            server,
            user: Arc::new(user.authenticated()),
        }
    }

    /// The same way in, as another user.
    pub fn acting_as(&self, user: UserInfo) -> Self {
        Self::new(self.server.clone(), user)
    }
}

impl<B> tower::Service<Request<B>> for Local
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        let request = request.map(Body::wrap);
        Box::pin(async move { Ok(server.answer(user, request).await) })
    }
}
