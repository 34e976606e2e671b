//! What stands around every request, whatever it asks for: its name, audit, fairness, its time, its metrics.
//!
//! The router answers in between. In order: the audit trail begins; impersonation; the request waits for its
//! seat or is sent away with 429; authorization; the router answers; the trail and the metrics learn the outcome; the answer
//! gets its last form. A seat is held until the answer begins, so that a watch holds none; what streams is
//! counted until its body is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use capstan_kinds::status::Status;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response};

use crate::access::{self, Attributes, UserInfo};
use crate::answer::{self, Answer};
use crate::audit::{self, Stage, Trail};
use crate::body::Body;
use crate::fairness::{Entry, Read};
use crate::metrics::Labels;
use crate::negotiate::{Wishes, content_type};
use crate::refusal::Refusal;
use crate::request::{Query, Route};
use crate::server::{Server, attributes};

const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Seconds after which a client that was sent away may come again.
const RETRY_SECONDS: u16 = 1;

/// A request before it is answered.
struct Asked {
    attributes: Attributes,
    version: String,
    dry_run: bool,
    apply: bool,
    /// Whether it streams as long as its client likes.
    long: bool,
}

impl Asked {
    fn of(route: &Route, query: &Query, request: &Request<Body>) -> Self {
        let attributes = attributes(route, request.method(), query);
        let version = match route {
            Route::Resource(target) => target.version.clone(),
            Route::Path(_) => String::new(),
        };
        let long = attributes.verb == "watch"
            || attributes.verb == "proxy"
            || matches!(
                attributes.subresource.as_str(),
                "attach" | "exec" | "proxy" | "log" | "portforward"
            );
        let apply =
            attributes.verb == "patch" && content_type(request.headers()) == crate::write::APPLY_PATCH;
        Self {
            long,
            apply,
            dry_run: query.get("dryRun").is_some(),
            version,
            attributes,
        }
    }

    fn mutates(&self) -> bool {
        !matches!(self.attributes.verb.as_str(), "get" | "list" | "watch" | "head")
    }

    fn labels(&self) -> Labels<'_> {
        let asked = &self.attributes;
        let resource = asked.path.is_empty();
        let connects = matches!(
            asked.subresource.as_str(),
            "attach" | "exec" | "proxy" | "portforward"
        );
        let verb = match asked.verb.as_str() {
            _ if connects => "CONNECT",
            "get" | "head" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" if self.apply => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "options" => "OPTIONS",
            _ => "OTHER",
        };
        let scope = match () {
            () if !resource => "",
            () if !asked.name.is_empty() || asked.verb == "create" => "resource",
            () if !asked.namespace.is_empty() => "namespace",
            () => "cluster",
        };
        Labels {
            verb,
            dry_run: self.dry_run,
            group: &asked.group,
            version: &self.version,
            resource: &asked.resource,
            subresource: match resource {
                true => &asked.subresource,
                false => known_path(&asked.path),
            },
            scope,
        }
    }
}

/// A path as the metrics name it: paths that nobody serves must not fill them.
fn known_path(path: &str) -> &str {
    match path.split('/').nth(1).unwrap_or_default() {
        "healthz" => "/healthz",
        "livez" => "/livez",
        "readyz" => "/readyz",
        "version" => "/version",
        "metrics" => "/metrics",
        "openapi" => "/openapi",
        "api" | "apis" => "/discovery",
        _ => "/other",
    }
}

/// Answers a request of a known user.
pub(crate) async fn answer(
    server: &Arc<Server>,
    user: Arc<UserInfo>,
    mut request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    let query = Query::parse(request.uri());
    let wishes = Wishes::of(request.headers(), &query);
    let route = Route::parse(request.method(), request.uri().path(), &query);
    let asked = Asked::of(&route, &query, &request);
    let name = audit::audit_id(&request);
    let trail = begin(server, &name, &user, &asked, &request);
    let acting = access::impersonated(server, user.clone(), request.headers_mut(), &asked.attributes);
    if let (Some(trail), Ok(acting)) = (&trail, &acting)
        && !Arc::ptr_eq(acting, &user)
    {
        trail.impersonates(&user, acting);
    }
    let call = Incoming {
        route,
        query,
        request,
        trail: trail.clone(),
    };
    let (uids, outcome) = match acting {
        Ok(acting) => seated(server, acting, &asked, call).await,
        Err(refusal) => (None, Err(refusal)),
    };
    let mut response = outcome.unwrap_or_else(|refusal| answer::status(&refusal));
    let code = response.status().as_u16();
    if code == 504 {
        server.metrics.terminated(asked.labels(), code, None);
    }
    let bytes = response.body().ready_bytes();
    if let Some(trail) = trail {
        response = conclude(trail, &asked, response);
    }
    if asked.long && code < 300 {
        let counted = server.metrics.long_running(asked.labels());
        response = response.map(|body| body.hold(counted));
    }
    let mut response = answer::finish(response, wishes);
    let headers = response.headers_mut();
    headers.insert(audit::AUDIT_ID, name);
    if let Some([schema, level]) = uids {
        headers.insert(FLOW_SCHEMA, schema);
        headers.insert(PRIORITY_LEVEL, level);
    }
    observe(server, &asked, code, started.elapsed(), bytes);
    response
}

/// A request on its way to the router.
struct Incoming {
    route: Route,
    query: Query,
    request: Request<Body>,
    trail: Option<Arc<Trail>>,
}

/// Waits for the request's seat and has it answered, or sends it away.
async fn seated(server: &Arc<Server>, user: Arc<UserInfo>, asked: &Asked, call: Incoming) -> (Uids, Answer) {
    let (uids, ticket) = match seat(server, &user, asked, &call.query).await {
        Entered::Runs(uids, ticket) => (uids, ticket),
        Entered::Refused(uids) => {
            let mutates = Some(asked.mutates());
            server.metrics.terminated(asked.labels(), 429, mutates);
            return (uids, Ok(too_many()));
        }
    };
    let running = (!asked.long).then(|| server.metrics.in_flight(asked.mutates()));
    let time = permit(server, &user, &asked.attributes, call.trail.as_deref())
        .and_then(|()| deadline(server, asked, &call.query));
    let outcome = match time {
        Ok(time) => {
            let Incoming {
                route,
                query,
                request,
                trail,
            } = call;
            server.route(user, route, query, request, trail, time).await
        }
        Err(refusal) => Err(refusal),
    };
    drop((running, ticket));
    (uids, outcome)
}

/// Refuses what is not allowed, and tells the trail of either.
fn permit(
    server: &Server,
    user: &UserInfo,
    asked: &Attributes,
    trail: Option<&Trail>,
) -> Result<(), Refusal> {
    let Some(trail) = trail else {
        return server.authorize(user, asked);
    };
    let decision = server.decide(user, asked);
    let word = if decision.allowed { "allow" } else { "forbid" };
    trail.annotate("authorization.k8s.io/decision", word);
    trail.annotate("authorization.k8s.io/reason", &decision.reason);
    decision.enforce(user, asked)
}

/// Answers a request whose author was not recognized.
pub(crate) fn refuse(server: &Arc<Server>, request: &Request<Body>, refusal: &Refusal) -> Response<Body> {
    let query = Query::parse(request.uri());
    let route = Route::parse(request.method(), request.uri().path(), &query);
    let asked = Asked::of(&route, &query, request);
    let name = audit::audit_id(request);
    let nobody = UserInfo::default();
    let response = answer::status(refusal);
    let code = response.status().as_u16();
    if let Some(trail) = begin(server, &name, &nobody, &asked, request) {
        if code == 401 {
            trail.unauthenticated(attempted(request));
        } else {
            trail.response(&response, &asked.attributes.verb);
        }
        trail.tell(Stage::ResponseStarted);
    }
    server.metrics.unauthenticated.fetch_add(1, Ordering::Relaxed);
    observe(server, &asked, code, Duration::ZERO, None);
    let mut response = answer::finish(response, Wishes::of(request.headers(), &query));
    response.headers_mut().insert(audit::AUDIT_ID, name);
    response
}

fn attempted(request: &Request<Body>) -> String {
    let authorization = request.headers().get(http::header::AUTHORIZATION);
    let scheme = authorization
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match scheme
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        method @ ("bearer" | "basic") => format!("Authentication failed, attempted: {method}"),
        _ => "Authentication failed, no credentials provided".to_owned(),
    }
}

fn begin(
    server: &Arc<Server>,
    name: &HeaderValue,
    user: &UserInfo,
    asked: &Asked,
    request: &Request<Body>,
) -> Option<Arc<Trail>> {
    let audit = server.audit.as_ref()?;
    let name = String::from_utf8_lossy(name.as_bytes());
    audit.begin(&name, user, &asked.attributes, &asked.version, request)
}

/// Tells of the answer, now or when its stream has ended.
fn conclude(trail: Arc<Trail>, asked: &Asked, response: Response<Body>) -> Response<Body> {
    trail.response(&response, &asked.attributes.verb);
    if !asked.long {
        trail.tell(Stage::ResponseComplete);
        return response;
    }
    trail.tell(Stage::ResponseStarted);
    trail.end_with(response)
}

type Uids = Option<[HeaderValue; 2]>;

enum Entered {
    Runs(Uids, Option<crate::fairness::Ticket>),
    Refused(Uids),
}

/// Waits for the request's seat. What streams is not counted, but for the beginning of a watch.
async fn seat(server: &Arc<Server>, user: &UserInfo, asked: &Asked, query: &Query) -> Entered {
    let watch = asked.attributes.verb == "watch";
    if asked.long && !watch {
        return Entered::Runs(None, None);
    }
    let Some(fairness) = &server.fairness else {
        return without_fairness(server, user, asked);
    };
    let seats = seats(server, asked, query);
    let waiting = server.metrics.in_queue(asked.mutates());
    let entry = fairness
        .enter(&server.registry, user, &asked.attributes, seats)
        .await;
    drop(waiting);
    match entry {
        None => Entered::Runs(None, None),
        Some(Entry {
            uids,
            ticket: Some(ticket),
        }) => Entered::Runs(Some(uids), Some(ticket)),
        Some(Entry { uids, ticket: None }) => Entered::Refused(Some(uids)),
    }
}

/// Only so many requests at once, of readers and of writers.
fn without_fairness(server: &Server, user: &UserInfo, asked: &Asked) -> Entered {
    let limits = &server.limits;
    let limit = match asked.mutates() {
        true => limits.max_mutating_requests_inflight,
        false => limits.max_requests_inflight,
    };
    let running = server.metrics.running(asked.mutates());
    if limit == 0 || asked.long || user.is_in("system:masters") || running < i64::from(limit) {
        Entered::Runs(None, None)
    } else {
        Entered::Refused(None)
    }
}

/// Seats of a list, or of the beginning of a watch; all else takes one.
fn seats(server: &Server, asked: &Asked, query: &Query) -> u32 {
    let place = &asked.attributes;
    let watch = place.verb == "watch";
    if !(watch || place.verb == "list") || !place.subresource.is_empty() {
        return 1;
    }
    let table = &server.registry.table;
    let found = table.find(&place.group, &asked.version, &place.resource);
    let stored = found.filter(|resource| resource.is_stored());
    match (Read::of(query, watch), stored) {
        (Some(read), Some(resource)) => {
            let (objects, bytes) = server.registry.cache(&resource).size();
            read.seats(objects, bytes)
        }
        _ => 1,
    }
}

fn too_many() -> Response<Body> {
    let mut response = answer::text(429, "Too many requests, please try again later.\n");
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    response
}

/// The time that a request may take; none for what streams.
fn deadline(server: &Server, asked: &Asked, query: &Query) -> Result<Option<Duration>, Refusal> {
    if asked.long {
        return Ok(None);
    }
    let most = server.limits.request_timeout;
    match query.get("timeout") {
        None => Ok(Some(most)),
        Some(text) => match go_duration(text) {
            Some(Duration::ZERO) => Ok(Some(most)),
            Some(time) => Ok(Some(time.min(most))),
            None => Err(Status::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {text:?}"
            ))
            .into()),
        },
    }
}

/// A duration as Go writes it, such as `1m30s`; negative ones count as zero. None where it is none.
pub fn go_duration(text: &str) -> Option<Duration> {
    let (mut rest, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    if text.is_empty() || text == "-" || text == "+" {
        return None;
    }
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    Some(if negative { Duration::ZERO } else { time })
}

fn observe(server: &Server, asked: &Asked, code: u16, took: Duration, bytes: Option<usize>) {
    let mut labels = asked.labels();
    let place = &asked.attributes;
    // Names that no kind has must not fill the tables.
    let strange = |place: &Attributes| {
        let table = &server.registry.table;
        place.path.is_empty()
            && table
                .find(&place.group, &asked.version, &place.resource)
                .is_none()
    };
    if code >= 400 && strange(place) {
        labels.group = "";
        labels.version = "";
        labels.resource = "";
        labels.subresource = "";
    }
    server.metrics.observe(labels, code, took, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("32s", Some(32_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("300ms", Some(300)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("-3s", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("3x", None),
        ] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
