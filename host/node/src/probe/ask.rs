//! Asks a probe once: exec, HTTP or TCP. The words of failures are the original's.

use std::time::Duration;

use capstan_runtime::Cri;
use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::http::{Get, get};

/// A probe reads no more of a body than this; more is no failure of the workload but of the path chosen.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest output of a failed command that an event repeats.
const OUTPUT_CHARACTERS_MAX: usize = 1024;

/// Why a container is not well, in one line.
pub(crate) type Answer = Result<(), String>;

/// Asks once, within the probe's timeout.
pub(crate) async fn ask(
    cri: &dyn Cri,
    probe: &Probe,
    container: &Container,
    id: &str,
    pod_ip: &str,
) -> Answer {
    let seconds = probe.timeout_seconds.unwrap_or(1).max(1);
    let asked = async {
        if let Some(action) = &probe.exec {
            exec(cri, id, action, seconds.into()).await
        } else if let Some(action) = &probe.http_get {
            http_get(action, container, pod_ip).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(action, container, pod_ip).await
        } else if probe.grpc.is_some() {
            Err("gRPC probes are not supported by this kubelet; use httpGet, tcpSocket or exec".into())
        } else {
            Err("the probe names none of exec, httpGet, tcpSocket".into())
        }
    };
    let bound = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    tokio::time::timeout(bound, asked)
        .await
        .unwrap_or_else(|_| Err(format!("timed out after {seconds}s")))
}

async fn exec(cri: &dyn Cri, id: &str, action: &ExecAction, timeout_seconds: i64) -> Answer {
    let command = action.command.clone().unwrap_or_default();
    let done = cri
        .exec_sync(id, &command, timeout_seconds)
        .await
        .map_err(|error| error.to_string())?;
    if done.exit_code == 0 {
        return Ok(());
    }
    let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
    output.push_str(&String::from_utf8_lossy(&done.stderr));
    Err(output.chars().take(OUTPUT_CHARACTERS_MAX).collect())
}

async fn http_get(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Answer {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let name: HeaderName = header
            .name
            .parse()
            .map_err(|_| format!("header name {:?} is not valid", header.name))?;
        let value: HeaderValue = header
            .value
            .parse()
            .map_err(|_| format!("value of header {name} is not valid"))?;
        headers.append(name, value);
    }
    headers
        .entry(http::header::USER_AGENT)
        .or_insert(HeaderValue::from_static("kube-probe/1.36"));
    headers
        .entry(http::header::ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    let path = action.path.as_deref().unwrap_or("/");
    let request = Get {
        host: action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| pod_ip.to_owned()),
        port: port(&action.port, container)?,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        tls: action.scheme.as_deref() == Some("HTTPS"),
        headers,
        body_bytes_max: BODY_BYTES_MAX,
    };
    let answer = get(&request).await?;
    if (200..400).contains(&answer.status.as_u16()) {
        return Ok(());
    }
    Err(format!(
        "HTTP probe failed with statuscode: {}",
        answer.status.as_u16()
    ))
}

async fn tcp(action: &TCPSocketAction, container: &Container, pod_ip: &str) -> Answer {
    let host = action
        .host
        .as_deref()
        .filter(|host| !host.is_empty())
        .unwrap_or(pod_ip);
    let port = port(&action.port, container)?;
    let connected = TcpStream::connect((host, port)).await;
    connected
        .map(drop)
        .map_err(|error| format!("dial tcp {host}:{port}: {}", dial_failure(&error)))
}

/// What the original says of a connection that could not be made.
pub(super) fn dial_failure(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

/// The number of a port that is given by number or by name.
pub(crate) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let declared = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name.as_str()));
            match declared {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| {
                    format!(
                        "port {name:?} is neither a number nor the name of a port of container {:?}",
                        container.name
                    )
                })?,
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or(format!("port {number} is not in 1..65535"))
}
