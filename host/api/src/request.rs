//! What a request asks for, read from its method and URL alone (the original's RequestInfo).
//!
//! Pure. The HTTP layer parses once; authorization, metrics and the handlers read the result. Whether the
//! named resource exists is not known here.

use http::Method;

/// A request's address within the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Resource(Target),
    /// Everything that is not below `/api/V/…` or `/apis/G/V/…`.
    Path(String),
}

/// A resource request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped requests and for lists over all namespaces.
    pub namespace: String,
    pub resource: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// What follows the subresource, without its leading slash (the path of a proxied request).
    pub rest: String,
}

/// Decoded query parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(uri: &http::Uri) -> Self {
        let raw = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// As the original decodes: present and neither `0` nor `false` (in any case) is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .is_some_and(|(_, value)| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|value| value.parse().ok())
    }
}

impl Route {
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let other = || Self::Path(path.to_owned());
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (group, version) = match segments.next() {
            Some("api") => (String::new(), segments.next()),
            Some("apis") => match segments.next() {
                Some(group) => (group.to_owned(), segments.next()),
                None => return other(),
            },
            _ => return other(),
        };
        let Some(version) = version else { return other() };
        let mut segments: Vec<String> = segments.map(decode).collect();
        let legacy_watch = segments.first().is_some_and(|first| first == "watch");
        if legacy_watch {
            segments.remove(0);
        }
        if segments.is_empty() {
            return other();
        }
        let mut target = Target {
            group,
            version: version.to_owned(),
            ..Target::default()
        };
        target.place(segments);
        target.verb = verb(method, &target, legacy_watch || query.flag("watch"));
        Self::Resource(target)
    }
}

impl Target {
    /// Reads `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE[/REST]]]`.
    fn place(&mut self, segments: Vec<String>) {
        let mut segments = segments.into_iter().peekable();
        let first = segments.next().unwrap_or_default();
        if first == "namespaces" {
            let rest: Vec<String> = segments.collect();
            let own = rest.len() < 2 || matches!(rest[1].as_str(), "status" | "finalize");
            self.namespace = rest.first().cloned().unwrap_or_default();
            if own {
                self.resource = first;
                self.name = self.namespace.clone();
                self.subresource = rest.get(1).cloned().unwrap_or_default();
                return;
            }
            segments = rest
                .into_iter()
                .skip(1)
                .collect::<Vec<_>>()
                .into_iter()
                .peekable();
            self.resource = segments.next().unwrap_or_default();
        } else {
            self.resource = first;
        }
        self.name = segments.next().unwrap_or_default();
        self.subresource = segments.next().unwrap_or_default();
        self.rest = segments.collect::<Vec<_>>().join("/");
    }
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8_lossy()
        .into_owned()
}

fn verb(method: &Method, target: &Target, watch: bool) -> &'static str {
    match *method {
        Method::GET | Method::HEAD if target.name.is_empty() && watch => "watch",
        Method::GET | Method::HEAD if target.name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if target.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, url: &str, expected: &str) {
        let uri: http::Uri = url.parse().unwrap();
        let shown = match Route::parse(&method, uri.path(), &Query::parse(&uri)) {
            Route::Path(path) => format!("path {path}"),
            Route::Resource(t) => {
                let parts = [
                    t.group,
                    t.version,
                    t.namespace,
                    t.resource,
                    t.name,
                    t.subresource,
                    t.rest,
                ];
                format!("{} {}", t.verb, parts.join("|"))
            }
        };
        assert_eq!(shown, expected, "{method} {url}");
    }

    #[test]
    fn requests_are_read_as_the_original_reads_them() {
        check(Method::GET, "/api/v1/pods", "list |v1||pods|||");
        check(Method::GET, "/api/v1/pods?watch=1", "watch |v1||pods|||");
        check(Method::GET, "/api/v1/watch/pods", "watch |v1||pods|||");
        check(Method::GET, "/api/v1/pods?watch=false", "list |v1||pods|||");
        check(Method::GET, "/api/v1/namespaces", "list |v1||namespaces|||");
        check(Method::GET, "/api/v1/namespaces/a", "get |v1|a|namespaces|a||");
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            "update |v1|a|namespaces|a|finalize|",
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a/pods/p/log",
            "get |v1|a|pods|p|log|",
        );
        check(
            Method::GET,
            "/api/v1/nodes/n/proxy/x/y",
            "get |v1||nodes|n|proxy|x/y",
        );
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps|v1|a|deployments|||",
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/d",
            "patch apps|v1|a|deployments|d||",
        );
        check(
            Method::GET,
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io|v1||clusterroles|system:node||",
        );
        check(Method::GET, "/apis", "path /apis");
        check(Method::GET, "/apis/apps/v1", "path /apis/apps/v1");
        check(Method::GET, "/version", "path /version");
    }
}
