//! The router: from an HTTP request to the handler of what it asks for. What stands around every request
//! (audit, fairness, authorization, time) is `front`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use capstan_kinds::resource::{Resource, find};
use capstan_kinds::selector::FieldSelector;
use capstan_kinds::status::Status;
use capstan_points::Seats;
use capstan_points::admission::Policy;
use capstan_store::Store;
use http::{Method, Request, Response};
use tokio_util::sync::CancellationToken;

use crate::access::{self, Attributes, Rbac, Tokens, UserInfo};
use crate::admission::{self, Chain, Places, Switches};
use crate::aggregate::{self, Aggregator};
use crate::answer::{self, Answer};
use crate::audit::{Auditor, Trail};
use crate::body::Body;
use crate::call::Call;
use crate::config::{Config, FrontProxy, Limits, NodeProxy};
use crate::connect;
use crate::discovery::{self, Discovery};
use crate::fairness::Fairness;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::registry::{Entry, Registry, Shared};
use crate::request::{Query, Route, Target};
use crate::services::{Cidr, Services};
use crate::{Error, Result, front, health, negotiate, probes, read, subresource, write};

/// Bytes of a request's body at most, as in the original.
const BODY_BYTES_MAX: usize = 3 << 20;

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Stopping,
}

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
    pub(crate) anonymous: access::Anonymous,
    pub(crate) kubelet: Option<Arc<dyn NodeProxy>>,
    pub(crate) explanations: Option<crate::config::Explanations>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Option<Arc<Auditor>>,
    pub(crate) fairness: Option<Fairness>,
    pub(crate) limits: Limits,
    pub(crate) discovery: Discovery,
    pub(crate) aggregator: Aggregator,
    pub(crate) front_proxy: Option<FrontProxy>,
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
        let listens = config.listen.local_addr().map_err(|source| Error::Listen {
            address: "the given socket".into(),
            source,
        })?;
        let ip = config.advertise.unwrap_or(listens.ip());
        let address = std::net::SocketAddr::new(ip, listens.port()).to_string();
        let seats_total = config.limits.max_requests_inflight + config.limits.max_mutating_requests_inflight;
        let fairness = match config.limits.fairness && seats_total > 0 {
            true => Fairness::new(seats_total),
            false => None,
        };
        let identity = config
            .front_proxy
            .as_ref()
            .map(aggregate::Identity::read)
            .transpose();
        let identity = identity.map_err(Error::FrontProxy)?.unwrap_or_default();
        let registry = Registry::start(store, config.encryption, stop.clone())
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
            explanations: config.explanations,
            metrics: Arc::default(),
            audit: Auditor::start(config.audit).map_err(Error::OpenAuditLog)?,
            fairness,
            limits: config.limits,
            discovery: Discovery::new(address),
            aggregator: Aggregator::new(identity),
            front_proxy: config.front_proxy,
            openapi: OpenApi::default(),
            namespaces: built_in("", "namespaces")?,
            priority_classes: built_in("scheduling.k8s.io", "priorityclasses")?,
            stop,
            phase: AtomicU8::new(Phase::Starting as u8),
        }))
    }

    pub(crate) fn set_ready(&self) {
        self.phase.store(Phase::Ready as u8, Ordering::Release);
    }

    pub(crate) fn set_stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Stopping,
        }
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
        match access::authenticate(self, certificate, request.headers(), request.uri().path()).await {
            Ok(user) => {
                self.metrics.authenticated.fetch_add(1, Ordering::Relaxed);
                front::answer(self, user, request).await
            }
            Err(refusal) => front::refuse(self, &request, &refusal),
        }
    }

    /// Answers a request of a known user.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        request: Request<Body>,
    ) -> Response<Body> {
        front::answer(self, user, request).await
    }

    /// Hands a request that is allowed to what answers it, within its time.
    pub(crate) async fn route(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        route: Route,
        query: Query,
        request: Request<Body>,
        trail: Option<Arc<Trail>>,
        time: Option<Duration>,
    ) -> Answer {
        let answered = async {
            match route {
                Route::Resource(target) => self.resource(user, target, query, request, trail).await,
                Route::Path(path) => self.path(&user, &path, &query, request).await,
            }
        };
        let Some(time) = time else { return answered.await };
        tokio::time::timeout(time, answered).await.unwrap_or_else(|_| {
            Err(Status::timeout("request did not complete within the allotted timeout", 0).into())
        })
    }

    async fn path(
        self: &Arc<Self>,
        user: &UserInfo,
        path: &str,
        query: &Query,
        request: Request<Body>,
    ) -> Answer {
        if let Some(remote) = self.aggregator.of_path(path) {
            return aggregate::forward(self, &remote, user, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(answer::no_page());
        }
        let path = path.trim_end_matches('/');
        match path {
            "/version" | "/metrics" | "/openid/v1/jwks" | "/.well-known/openid-configuration" => {
                probes::answer(self, path).await
            }
            path if path.starts_with("/explain/") => probes::explain(self, path),
            "/openapi/v2" => self.openapi.v2(&self.registry, request.headers()),
            path if ["/healthz", "/livez", "/readyz"].iter().any(|root| {
                path.strip_prefix(root)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }) =>
            {
                health::answer(self, path, query).await
            }
            path if path.starts_with("/openapi/v3") => {
                if let Some(remote) = self.aggregator.of_path(path.trim_start_matches("/openapi/v3")) {
                    return aggregate::forward(self, &remote, user, request).await;
                }
                let (_, remotes) = self.aggregator.remotes();
                self.openapi
                    .v3(&self.registry, &remotes, path, query, request.headers())
            }
            path => self
                .discovery
                .answer(&self.registry.table, &self.aggregator, path, request.headers()),
        }
    }

    async fn resource(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        target: Target,
        query: Query,
        request: Request<Body>,
        trail: Option<Arc<Trail>>,
    ) -> Answer {
        if let Some(remote) = self.aggregator.find(&target.group, &target.version) {
            return aggregate::forward(self, &remote, &user, request).await;
        }
        let Some(resource) = self
            .registry
            .table
            .find(&target.group, &target.version, &target.resource)
        else {
            if discovery::is_builtin(&target.group) {
                return Err(Status::not_found_path().into());
            }
            return Ok(answer::no_page());
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
        let mut request = request;
        let upgrade = hyper::upgrade::on(&mut request);
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
            trail,
            charges: Vec::new(),
        };
        admission::connect(self, &mut call).await?;
        if connect::connects(&call.target.subresource, &call.headers) {
            let rest = connect::Rest {
                uri: parts.uri,
                body,
                upgrade,
            };
            return connect::answer(self, &mut call, rest).await;
        }
        call.body = match body.collect(BODY_BYTES_MAX).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Status::too_large(BODY_BYTES_MAX).into()),
            Err(error) => return Err(Status::bad_request(format!("the body broke off: {error}")).into()),
        };
        if let Some(trail) = &call.trail {
            let media = negotiate::content_type(&call.headers);
            trail.request(&call.resource, call.target.verb, media, &call.body);
        }
        let outcome = self.handle(&mut call).await;
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
        if !call.target.subresource.is_empty() {
            return subresource::answer(self, call).await;
        }
        if !call.resource.is_stored() {
            call.form()?;
        }
        match (call.target.verb, call.resource.is_stored()) {
            ("get", true) => read::get(&self.registry, call).await,
            ("list", true) => read::list(&self.registry, call).await,
            ("watch", true) => read::watch(self, call).await,
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
pub(crate) fn attributes(route: &Route, method: &Method, query: &Query) -> Attributes {
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
        name,
        field_selector,
        ..target_attributes(target)
    }
}

/// What a request to a resource asks leave for.
pub(crate) fn target_attributes(target: &Target) -> Attributes {
    Attributes {
        verb: target.verb.to_owned(),
        group: target.group.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        ..Attributes::default()
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
