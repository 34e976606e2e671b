//! The router: from an HTTP request to the handler of what it asks for, through authentication,
//! authorization, limits and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use capstan_kinds::resource::{Resource, find};
use capstan_kinds::selector::FieldSelector;
use capstan_kinds::status::Status;
use capstan_points::Seats;
use capstan_points::admission::Policy;
use capstan_store::Store;
use http::{Method, Request, Response};
use tokio_util::sync::CancellationToken;

use crate::access::{self, Attributes, Rbac, Tokens, UserInfo};
use crate::admission::{Chain, Places, Switches};
use crate::answer::{self, Answer};
use crate::body::Body;
use crate::call::Call;
use crate::config::{Config, NodeProxy};
use crate::discovery::Discovery;
use crate::metrics::Metrics;
use crate::negotiate::Wishes;
use crate::openapi::OpenApi;
use crate::registry::{Entry, Registry, Shared};
use crate::request::{Query, Route, Target};
use crate::services::{Cidr, Services};
use crate::{Error, Result, probes, read, subresource, write};

/// Bytes of a request's body at most, as in the original.
const BODY_BYTES_MAX: usize = 3 << 20;
/// Time that a request may take, unless it streams.
const REQUEST_MAX: Duration = Duration::from_secs(60);

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// The API server without its sockets.
pub(crate) struct Server {
    pub(crate) registry: Shared,
    pub(crate) admission: Chain,
    pub(crate) switches: Switches,
    pub(crate) quota_places: Places,
    pub(crate) services: Services,
    pub(crate) service_cidr: Cidr,
    pub(crate) advertise: Option<std::net::IpAddr>,
    pub(crate) rbac: Rbac,
    pub(crate) tokens: Tokens,
    pub(crate) anonymous: bool,
    pub(crate) kubelet: Option<Arc<dyn NodeProxy>>,
    pub(crate) metrics: Metrics,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) namespaces: Arc<Resource>,
    pub(crate) priority_classes: Arc<Resource>,
    pub(crate) stop: CancellationToken,
    phase: AtomicU8,
}

impl Server {
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        seats: Seats<dyn Policy>,
        config: Config,
        stop: CancellationToken,
    ) -> Result<Arc<Self>> {
        let built_in = |group: &str, plural: &str| {
            find(group, "v1", plural).ok_or_else(|| Error::Bootstrap {
                object: plural.to_owned(),
                message: "the table of kinds does not have it".into(),
            })
        };
        let rbac = Rbac::new().ok_or_else(|| Error::Bootstrap {
            object: "rbac".into(),
            message: "the table of kinds does not have it".into(),
        })?;
        let registry = Registry::start(store, stop.clone())
            .await
            .map_err(Error::ReadStore)?;
        Ok(Arc::new(Self {
            registry,
            admission: Chain::new(seats),
            switches: Switches::new(config.disable_admission_plugins),
            quota_places: Places::default(),
            services: Services::new(config.service_cidr),
            service_cidr: config.service_cidr,
            advertise: config.advertise,
            rbac,
            tokens: Tokens::new(
                config.service_account_key,
                config.service_account_issuer,
                config.tokens,
                config.openid_providers,
            )?,
            anonymous: config.anonymous,
            kubelet: config.kubelet,
            metrics: Metrics::default(),
            discovery: Discovery::default(),
            openapi: OpenApi::default(),
            namespaces: built_in("", "namespaces")?,
            priority_classes: built_in("scheduling.k8s.io", "priorityclasses")?,
            stop,
            phase: AtomicU8::new(STARTING),
        }))
    }

    pub(crate) fn set_ready(&self) {
        self.phase.store(READY, Ordering::Release);
    }

    pub(crate) fn set_stopping(&self) {
        self.phase.store(STOPPING, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.phase.load(Ordering::Acquire) == READY
    }

    /// A namespace as the cache has it.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Entry>> {
        self.registry.cached(&self.namespaces, "", name)
    }

    pub(crate) fn namespace_labels(&self, name: &str) -> Vec<(String, String)> {
        let entry = self.namespace(name);
        let labels = entry.iter().flat_map(|entry| entry.index.labels.iter());
        labels
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    /// Answers a request that came over TLS.
    pub(crate) async fn answer_from_wire(
        self: &Arc<Self>,
        certificate: Option<Arc<UserInfo>>,
        request: Request<Body>,
    ) -> Response<Body> {
        match access::authenticate(self, certificate, request.headers()).await {
            Ok(user) => self.answer(user, request).await,
            Err(refusal) => {
                let wishes = Wishes::of(request.headers(), &Query::parse(request.uri()));
                answer::finish(answer::status(&refusal), wishes)
            }
        }
    }

    /// Answers a request of a known user.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        request: Request<Body>,
    ) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(request.uri());
        let wishes = Wishes::of(request.headers(), &query);
        let route = Route::parse(request.method(), request.uri().path(), &query);
        let (verb, resource) = match &route {
            Route::Resource(target) => (target.verb, target.resource.clone()),
            Route::Path(_) => ("path", String::new()),
        };
        let mut request = request;
        let asked = attributes(&route, request.method(), &query);
        let impersonated = access::impersonated(self, user, request.headers_mut(), &asked);
        let allowed = impersonated.and_then(|user| self.authorize(&user, &asked).map(|()| user));
        let outcome = match (allowed, route) {
            (Err(refusal), _) => Err(refusal),
            (Ok(user), Route::Resource(target)) => self.resource(user, target, query, request).await,
            (Ok(_), Route::Path(path)) => self.path(&path, &query, request).await,
        };
        let response = outcome.unwrap_or_else(|refusal| answer::status(&refusal));
        let response = answer::finish(response, wishes);
        self.metrics
            .observe(verb, &resource, response.status().as_u16(), started.elapsed());
        response
    }

    async fn path(
        self: &Arc<Self>,
        path: &str,
        query: &Query,
        request: Request<Body>,
    ) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Status::not_found_path().into());
        }
        match path.trim_end_matches('/') {
            "/healthz"
            | "/livez"
            | "/readyz"
            | "/version"
            | "/metrics"
            | "/openid/v1/jwks"
            | "/.well-known/openid-configuration" => {
                probes::answer(self, path.trim_end_matches('/'), query).await
            }
            "/openapi/v2" => self.openapi.v2(&self.registry, request.headers()),
            path if path.starts_with("/openapi/v3") => {
                self.openapi.v3(&self.registry, path, query, request.headers())
            }
            path => self
                .discovery
                .answer(&self.registry.table, path, request.headers()),
        }
    }

    async fn resource(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        target: Target,
        query: Query,
        request: Request<Body>,
    ) -> Answer {
        let Some(resource) = self
            .registry
            .table
            .find(&target.group, &target.version, &target.resource)
        else {
            return Err(Status::not_found_path().into());
        };
        let served = served_verbs(&resource, &target);
        let Some(served) = served else {
            return Err(Status::not_found_path().into());
        };
        let misplaced = match target.verb {
            "update" | "patch" => target.name.is_empty(),
            "create" => !target.name.is_empty() && target.subresource.is_empty(),
            _ => false,
        };
        if misplaced || !served.iter().any(|verb| verb == target.verb) {
            return Err(Status::method_not_allowed(&resource, target.verb).into());
        }
        let (parts, body) = request.into_parts();
        let mut call = Call {
            method: parts.method,
            headers: parts.headers,
            user,
            target,
            query,
            resource,
            body: bytes::Bytes::new(),
            warnings: Vec::new(),
            charges: Vec::new(),
        };
        if call.target.subresource == "proxy" {
            return subresource::proxy(self, &call, body).await;
        }
        call.body = match body.collect(BODY_BYTES_MAX).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Status::too_large(BODY_BYTES_MAX).into()),
            Err(error) => return Err(Status::bad_request(format!("the body broke off: {error}")).into()),
        };
        let handled = tokio::time::timeout(REQUEST_MAX, self.handle(&mut call)).await;
        let outcome = handled.unwrap_or_else(|_| {
            let seconds = REQUEST_MAX.as_secs();
            Err(Status::timeout(format!("request did not complete within {seconds}s"), 1).into())
        });
        let mut response = outcome.unwrap_or_else(|refusal| answer::status(&refusal));
        answer::warn(&mut response, &call.warnings);
        Ok(response)
    }

    async fn handle(self: &Arc<Self>, call: &mut Call) -> Answer {
        let resource = call.resource.clone();
        let own = resource
            .custom
            .as_ref()
            .and_then(|custom| custom.deprecation.as_deref());
        if let Some(text) = own.or(deprecation(&resource)) {
            call.warn(text);
        }
        if let Some(custom) = resource.custom.as_ref().filter(|custom| custom.needs_webhook) {
            let stored = custom.storage.as_ref().map_or("", |storage| &storage.version);
            let message = format!(
                "conversion webhooks are not supported yet: {} is served in its storage version {stored} only",
                custom.definition
            );
            return Err(Status::failure(501, "NotImplemented", message).into());
        }
        if !call.target.subresource.is_empty() {
            return subresource::answer(self, call).await;
        }
        match (call.target.verb, call.resource.is_stored()) {
            ("get", true) => read::get(&self.registry, call).await,
            ("list", true) => read::list(&self.registry, call).await,
            ("watch", true) => read::watch(&self.registry, call, self.stop.clone()).await,
            ("create", true) => write::create(self, call).await,
            ("update", true) => write::update(self, call, "").await,
            ("patch", true) => write::patch(self, call, "").await,
            ("delete", true) => write::delete(self, call).await,
            ("deletecollection", true) => write::delete_collection(self, call).await,
            ("create", false) if call.resource.plural == "bindings" => subresource::bind(self, call).await,
            ("create", false) => access::reviews::review(self, call).await,
            (_, false) if call.resource.plural == "componentstatuses" => probes::components(self, call).await,
            (verb, _) => Err(Status::method_not_allowed(&call.resource, verb).into()),
        }
    }
}

/// What the original warns of whenever a deprecated kind is asked for.
fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

/// What the request asks leave for.
fn attributes(route: &Route, method: &Method, query: &Query) -> Attributes {
    let target = match route {
        Route::Resource(target) => target,
        Route::Path(path) => {
            let verb = match *method {
                Method::HEAD => "get".to_owned(),
                _ => method.as_str().to_ascii_lowercase(),
            };
            return Attributes {
                verb,
                path: path.clone(),
                ..Attributes::default()
            };
        }
    };
    let narrows = matches!(target.verb, "list" | "watch" | "deletecollection");
    let selector = query.get("fieldSelector").filter(|_| narrows).unwrap_or_default();
    // A selector that cannot be read narrows nothing here, and is refused where it is used.
    let field_selector = FieldSelector::parse(selector).unwrap_or_default();
    let name = match field_selector.required("metadata.name") {
        Some(name) if target.name.is_empty() => name.to_owned(),
        _ => target.name.clone(),
    };
    Attributes {
        verb: target.verb.to_owned(),
        group: target.group.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone(),
        namespace: target.namespace.clone(),
        name,
        path: String::new(),
        field_selector,
    }
}

/// The verbs of what is asked for; none where it does not exist or stands at another scope.
fn served_verbs<'a>(resource: &'a Resource, target: &Target) -> Option<&'a [String]> {
    let in_namespace = !target.namespace.is_empty() && !resource.is("", "Namespace");
    if in_namespace && !resource.namespaced {
        return None;
    }
    // One namespaced object needs its namespace; only whole collections can be asked for across all.
    if resource.namespaced && target.namespace.is_empty() && !matches!(target.verb, "list" | "watch") {
        return None;
    }
    if target.subresource.is_empty() {
        return Some(&resource.verbs);
    }
    resource
        .subresource(&target.subresource)
        .map(|one| one.verbs.as_slice())
}
