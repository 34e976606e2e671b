//! The kubelet's own HTTP API, as a handler without a listener: the composition root connects it with the API
//! server's node proxy, in this process or behind TLS.
//!
//! `/containerLogs/{namespace}/{pod}/{container}`, `/pods`, `/healthz`, `/metrics`; and, as upgrades whose
//! connection comes with the answer ([`crate::Upgraded`]), `/exec/{namespace}/{pod}/{container}`,
//! `/attach/{namespace}/{pod}/{container}` and `/portForward/{namespace}/{pod}`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capstan_client::Informer;
use capstan_runtime::{ContainerState, ContainerStatus, SandboxState, Streams};
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::context::Node;
use crate::log::read::{Reader, Wanted};
use crate::log::splice;
use crate::pod::{PodRuntime, spec};
use crate::stream;

/// The body of an answer; a log that is followed ends when its container does.
pub type ResponseBody = BoxBody<Bytes, io::Error>;

/// Chunks of a log that wait for a slow client.
const CHUNKS_MAX: usize = 4;
/// How often a follower asks whether its container still runs.
const ALIVE_EVERY: Duration = Duration::from_millis(250);

/// Answers requests to the kubelet.
pub struct Handler {
    node: Arc<Node>,
    pods: Informer<Pod>,
}

/// A refusal: status and a line for a human.
type Refusal = (StatusCode, String);

impl Handler {
    pub(crate) fn new(node: Arc<Node>, pods: Informer<Pod>) -> Self {
        Self { node, pods }
    }

    /// Answers one request; the body of the request is not read.
    pub async fn request<B>(&self, request: Request<B>) -> Response<ResponseBody> {
        let request = request.map(drop);
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let query = query(request.uri().query().unwrap_or_default());
        let answer = match (request.method(), parts.as_slice()) {
            (&Method::GET, ["healthz" | "livez" | "readyz"]) => Ok(text(StatusCode::OK, "text/plain", "ok")),
            (&Method::GET, ["pods" | "runningpods"]) => self.pods(),
            (&Method::GET, ["metrics"]) => Ok(self.metrics().await),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                self.logs(namespace, pod, container, &query).await
            }
            (
                &Method::GET | &Method::POST,
                ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container],
            ) => self.exec(&request, namespace, pod, container).await,
            (
                &Method::GET | &Method::POST,
                ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container],
            ) => self.attach(&request, namespace, pod, container).await,
            (
                &Method::GET | &Method::POST,
                ["portForward", namespace, pod] | ["portForward", namespace, pod, _],
            ) => self.port_forward(&request, namespace, pod).await,
            _ => Err((
                StatusCode::NOT_FOUND,
                format!("the kubelet serves nothing at /{path}"),
            )),
        };
        answer.unwrap_or_else(|(status, message)| text(status, "text/plain", message))
    }

    async fn exec(
        &self,
        request: &Request<()>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let text = request.uri().query().unwrap_or_default();
        let streams = match stream::streams(&query(text)) {
            Ok(streams) => streams,
            Err(refusal) => return Ok(whole(*refusal)),
        };
        let command: Vec<String> = form_urlencoded::parse(text.as_bytes())
            .filter(|(name, _)| name == "command")
            .map(|(_, value)| value.into_owned())
            .collect();
        let id = self.running(namespace, pod, container).await?;
        let begin = self.node.cri.exec(&id, &command, streams);
        let purpose = stream::Purpose::Exec(command.clone());
        Ok(whole(
            stream::remote(request.headers(), streams, purpose, begin).await,
        ))
    }

    async fn attach(
        &self,
        request: &Request<()>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let streams = match stream::streams(&query(request.uri().query().unwrap_or_default())) {
            Ok(streams) => streams,
            Err(refusal) => return Ok(whole(*refusal)),
        };
        let id = self.running(namespace, pod, container).await?;
        // The container's own terminal counts, whatever the client believes.
        let found = self.pods.get(Some(namespace), pod);
        let tty = found.is_some_and(|pod| {
            spec::any_container(&pod, container).is_some_and(|container| container.tty == Some(true))
        });
        let begin = self.node.cri.attach(&id, Streams { tty, ..streams });
        let answer = stream::remote(request.headers(), streams, stream::Purpose::Attach, begin);
        Ok(whole(answer.await))
    }

    async fn port_forward(
        &self,
        request: &Request<()>,
        namespace: &str,
        name: &str,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let pod = self.pod(namespace, name)?;
        let failed = |error: capstan_runtime::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let sandboxes = self.node.cri.list_pod_sandbox().await.map_err(failed)?;
        let uid = spec::uid(&pod).to_owned();
        let sandbox = sandboxes
            .into_iter()
            .find(|sandbox| sandbox.metadata.uid == uid && sandbox.state == SandboxState::Ready);
        let Some(sandbox) = sandbox else {
            let message = format!("pod not found (\"{name}_{namespace}\")");
            return Err((StatusCode::INTERNAL_SERVER_ERROR, message));
        };
        let target = stream::Target {
            cri: Arc::clone(&self.node.cri),
            sandbox: sandbox.id,
            pod: format!("{name}_{namespace}"),
            uid,
        };
        let query = query(request.uri().query().unwrap_or_default());
        let ports = query.get("port").map(String::as_str);
        Ok(whole(stream::port_forward(request.headers(), ports, target)))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let found = self.pods.get(Some(namespace), name);
        found.ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".to_owned()))
    }

    /// The running attempt of a container.
    async fn running(&self, namespace: &str, name: &str, container: &str) -> Result<String, Refusal> {
        let pod = self.pod(namespace, name)?;
        let uid = spec::uid(&pod);
        let seen = PodRuntime::observe(self.node.cri.as_ref(), uid).await;
        let seen = seen.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let latest = seen
            .latest(container)
            .filter(|run| run.state == ContainerState::Running);
        latest.map(|run| run.id.clone()).ok_or_else(|| {
            let message = format!("container not found (\"{container}\")");
            (StatusCode::INTERNAL_SERVER_ERROR, message)
        })
    }

    fn pods(&self) -> Result<Response<ResponseBody>, Refusal> {
        let pods = self.pods.list();
        let list = serde_json::json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {},
            "items": pods.iter().map(AsRef::as_ref).collect::<Vec<&Pod>>(),
        });
        let body = serde_json::to_vec(&list)
            .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(text(StatusCode::OK, "application/json", body))
    }

    async fn metrics(&self) -> Response<ResponseBody> {
        let containers = self.node.cri.list_containers().await.unwrap_or_default();
        let running = containers
            .iter()
            .filter(|container| container.state == ContainerState::Running);
        let pods = self.pods.list().len();
        let mut body = format!(
            "# TYPE kubelet_running_containers gauge\nkubelet_running_containers {}\n\
             # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {pods}\n\
             # TYPE container_memory_working_set_bytes gauge\n# TYPE container_cpu_usage_seconds_total counter\n",
            running.clone().count()
        );
        for container in running {
            let Ok(stats) = self.node.cri.container_stats(&container.id).await else {
                continue;
            };
            let name = &container.metadata.name;
            let of = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
            let (pod, namespace) = (of("io.kubernetes.pod.name"), of("io.kubernetes.pod.namespace"));
            let labels = format!("{{container=\"{name}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
            body.push_str(&format!(
                "container_memory_working_set_bytes{labels} {}\n",
                stats.memory_bytes
            ));
            let seconds = stats.cpu_usage_ns as f64 / 1e9;
            body.push_str(&format!("container_cpu_usage_seconds_total{labels} {seconds}\n"));
        }
        text(StatusCode::OK, "text/plain; version=0.0.4", body)
    }

    async fn logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &HashMap<String, String>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let pod = self.pods.get(Some(namespace), name).ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                format!("pod \"{namespace}/{name}\" not found on this node"),
            )
        })?;
        if spec::any_container(&pod, container).is_none() {
            let message = format!("container \"{container}\" not found in pod \"{name}\"");
            return Err((StatusCode::NOT_FOUND, message));
        }
        let wanted = wanted(query, Timestamp::now()).map_err(|message| (StatusCode::BAD_REQUEST, message))?;
        let previous = flag(query, "previous");
        let (path, run) = self.log_file(&pod, container, previous).await?;
        if let Some(run) = &run {
            self.node.sidecars.settle(&run.id).await;
        }
        let opened = {
            let (path, wanted, is_known) = (path.clone(), wanted.clone(), run.is_some());
            tokio::task::spawn_blocking(move || open(&path, &wanted, is_known)).await
        };
        let failed = |error: io::Error| {
            let message = format!("reading the log of container \"{container}\": {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, message)
        };
        let reader = opened
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)?;
        let (chunks, body) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_MAX);
        let alive = wanted.follow.then_some(run).flatten();
        tokio::spawn(pump(Arc::clone(&self.node), reader, path, alive, chunks));
        let frames = tokio_stream(body).map(|chunk| chunk.map(Frame::data));
        let response = Response::builder().header(http::header::CONTENT_TYPE, "text/plain");
        response
            .body(BodyExt::boxed(StreamBody::new(frames)))
            .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// The log of the container's newest attempt, or of the one before, and its run where the runtime knows it.
    async fn log_file(
        &self,
        pod: &Pod,
        container: &str,
        previous: bool,
    ) -> Result<(PathBuf, Option<ContainerStatus>), Refusal> {
        let runs = self.node.cri.list_containers().await.unwrap_or_default();
        let uid = spec::uid(pod);
        let sandboxes = self.node.cri.list_pod_sandbox().await.unwrap_or_default();
        let ours = |id: &str| {
            sandboxes
                .iter()
                .any(|sandbox| sandbox.id == id && sandbox.metadata.uid == uid)
        };
        let mut runs: Vec<ContainerStatus> = runs
            .into_iter()
            .filter(|run| run.metadata.name == container && ours(&run.sandbox_id))
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.metadata.attempt));
        let place = usize::from(previous);
        let folder = self.node.folders.pod_logs(pod).join(container);
        if let Some(run) = runs.get(place) {
            return Ok((
                folder.join(format!("{}.log", run.metadata.attempt)),
                Some(run.clone()),
            ));
        }
        let mut attempts: Vec<u32> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
            .collect();
        attempts.sort_unstable_by_key(|attempt| std::cmp::Reverse(*attempt));
        if let Some(attempt) = attempts.get(place) {
            return Ok((folder.join(format!("{attempt}.log")), None));
        }
        let name = spec::name(pod);
        Err((
            StatusCode::BAD_REQUEST,
            if previous {
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
            } else {
                let statuses = pod.status.as_ref().map(|status| {
                    status
                        .container_statuses
                        .iter()
                        .chain(&status.init_container_statuses)
                        .chain(&status.ephemeral_container_statuses)
                        .flatten()
                });
                let waiting = statuses
                    .into_iter()
                    .flatten()
                    .find(|status| status.name == container);
                let reason =
                    waiting.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
                let reason = reason.unwrap_or_else(|| "ContainerCreating".into());
                format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")
            },
        ))
    }
}

/// Opens a log, also one that was cut over to a sidecar's, or that nothing was written to yet. Blocking.
fn open(path: &Path, wanted: &Wanted, is_known: bool) -> io::Result<Reader> {
    if let Some(prefix) = splice::prefix(path) {
        return Reader::open_spliced(prefix, &splice::successor(path), wanted);
    }
    match Reader::open(path, wanted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_known => {
            Reader::open_spliced(Vec::new(), path, wanted)
        }
        opened => opened,
    }
}

/// Sends a log on until its end, its limit, or the client leaves.
async fn pump(
    node: Arc<Node>,
    mut reader: Reader,
    path: PathBuf,
    run: Option<ContainerStatus>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut changes = path.parent().map(|folder| node.notify.folder(folder));
    let mut last_look = false;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let next = reader.next();
            (reader, next)
        });
        let next;
        (reader, next) = match read.await {
            Ok(read) => read,
            Err(_) => return,
        };
        match next {
            Ok(None) => return,
            Ok(Some(text)) if !text.is_empty() => {
                if chunks.send(Ok(Bytes::from(text))).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Some(_)) => {}
            Err(error) => {
                let _ = chunks.send(Err(error)).await;
                return;
            }
        }
        let (Some(run), Some(changes)) = (&run, &mut changes) else {
            return;
        };
        if last_look {
            return;
        }
        tokio::select! {
            () = changes.changed() => {}
            () = tokio::time::sleep(ALIVE_EVERY) => {
                let status = node.cri.container_status(&run.id).await;
                if !status.is_ok_and(|status| status.state == ContainerState::Running) {
                    node.sidecars.settle(&run.id).await;
                    last_look = true;
                }
            }
            () = chunks.closed() => return,
        }
    }
}

fn tokio_stream(
    receiver: mpsc::Receiver<io::Result<Bytes>>,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

/// The query's pairs; a later one wins.
fn query(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// As the original decodes a flag: there, and neither `0` nor `false` in any case; clients write `True`.
fn flag(query: &HashMap<String, String>, name: &str) -> bool {
    query
        .get(name)
        .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// Understands a log request's query, with the field's name in every complaint.
fn wanted(query: &HashMap<String, String>, now: Timestamp) -> Result<Wanted, String> {
    let flag = |name: &str| flag(query, name);
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(value) => value
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("{name}: Invalid value: {value:?}: must be a whole number, 0 or more")),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(_), Some(_)) => return Err("at most one of sinceTime or sinceSeconds may be specified".into()),
        (Some(seconds), None) => {
            let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Some(now.saturating_sub(seconds).unwrap_or(Timestamp::MIN))
        }
        (None, Some(time)) => Some(
            time.parse()
                .map_err(|_| format!("sinceTime: Invalid value: {time:?}: must be an RFC 3339 time"))?,
        ),
        (None, None) => None,
    };
    Ok(Wanted {
        follow: flag("follow"),
        tail_lines: number("tailLines")?,
        since,
        timestamps: flag("timestamps"),
        limit_bytes: number("limitBytes")?,
    })
}

/// An answer of `stream` with its body.
fn whole(answer: Response<String>) -> Response<ResponseBody> {
    answer.map(|body| {
        let body = Full::new(Bytes::from(body));
        body.map_err(|never: Infallible| match never {}).boxed()
    })
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let body = Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    response
}
