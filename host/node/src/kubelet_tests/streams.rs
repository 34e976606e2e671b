//! Exec, attach and port forwarding as clients speak them to the kubelet; ephemeral containers and resizes.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

impl Bench {
    /// Asks for an upgrade; the answer's status, chosen protocol, and the connection or body.
    async fn upgrade(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, String, Result<tokio::io::DuplexStream, String>) {
        let mut request = http::Request::get(path).header("connection", "Upgrade");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.kubelet.handler().request(request.body(()).unwrap()).await;
        let status = response.status().as_u16();
        let chosen = ["sec-websocket-protocol", "x-stream-protocol-version"]
            .iter()
            .find_map(|name| response.headers().get(*name)?.to_str().ok().map(str::to_owned));
        let stream = response
            .extensions()
            .get::<crate::Upgraded>()
            .and_then(crate::Upgraded::take);
        let body = match stream {
            Some(stream) => Ok(stream),
            None => {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                Err(String::from_utf8_lossy(&body).into_owned())
            }
        };
        (status, chosen.unwrap_or_default(), body)
    }

    async fn websocket(
        &self,
        path: &str,
        protocols: &str,
    ) -> (String, WebSocketStream<tokio::io::DuplexStream>) {
        let headers = [
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ];
        let (status, chosen, stream) = self.upgrade(path, &headers).await;
        assert_eq!(status, 101, "{path} {protocols}");
        (
            chosen,
            WebSocketStream::from_raw_socket(stream.unwrap(), Role::Client, None).await,
        )
    }
}

/// All messages up to the close, as bytes; empty ones left out.
async fn all(mut socket: WebSocketStream<tokio::io::DuplexStream>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            return messages;
        }
        let bytes = message.into_data().to_vec();
        if bytes.len() > 1 {
            messages.push(bytes);
        }
    }
    panic!("the connection broke off after {messages:?}");
}

#[tokio::test]
async fn websocket_clients_of_every_age_run_commands() {
    let bench = Bench::new().await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    let path = "/exec/n/p/web?command=cat&command=-&input=1&output=1&error=1";
    // The newest one ends its input by a message.
    let (chosen, mut socket) = bench.websocket(path, "v5.channel.k8s.io,v4.channel.k8s.io").await;
    assert_eq!(chosen, "v5.channel.k8s.io");
    socket.send(Message::binary(b"\0hello".to_vec())).await.unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    assert_eq!(
        all(socket).await,
        [b"\x01hello".to_vec(), b"\x03{\"status\":\"Success\"}".to_vec()]
    );
    assert!(bench.cri.calls().contains(&"exec cat -".to_owned()));
    // A failure is told with its exit code.
    bench.cri.exec_exits(3);
    let (_, mut socket) = bench.websocket(path, "v5.channel.k8s.io").await;
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let told = all(socket).await.remove(0);
    let told: Value = serde_json::from_slice(&told[1..]).unwrap();
    assert_eq!(
        told["details"]["causes"],
        json!([{ "reason": "ExitCode", "message": "3" }])
    );
    // Older ones, in text; their input has no end, so the first answer is what there is to see.
    for protocol in ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let (chosen, mut socket) = bench.websocket(path, protocol).await;
        assert_eq!(chosen, protocol);
        socket.send(Message::text("0aGk=")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("1"),
            "it says that it is there"
        );
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1aGk="));
    }
    let upgrade = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "eA=="),
        ("sec-websocket-protocol", "v9"),
    ];
    assert_eq!(bench.upgrade(path, &upgrade).await.0, 403);
    let (status, _, body) = bench.upgrade("/exec/n/p/web?command=ls", &upgrade).await;
    assert_eq!(
        (status, body.unwrap_err().as_str()),
        (400, "you must specify at least 1 of stdin, stdout, stderr\n")
    );
    let (status, _, body) = bench.upgrade("/exec/n/p/none?output=1", &upgrade).await;
    assert_eq!(
        (status, body.unwrap_err().as_str()),
        (500, "container not found (\"none\")")
    );
    let (_, socket) = bench
        .websocket("/attach/n/p/web?output=1", "v4.channel.k8s.io")
        .await;
    assert_eq!(all(socket).await, [b"\x03{\"status\":\"Success\"}".to_vec()]);
}

#[tokio::test]
async fn ports_are_forwarded_over_channels_and_tunnels() {
    let bench = Bench::new().await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    let (_, mut socket) = bench
        .websocket("/portForward/n/p?port=80", "v4.channel.k8s.io")
        .await;
    let mut next = async || socket.next().await.unwrap().unwrap().into_data().to_vec();
    assert_eq!((next().await, next().await), (vec![0, 80, 0], vec![1, 80, 0]));
    socket.send(Message::binary(b"\0ping".to_vec())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap().into_data().to_vec(),
        b"\0ping"
    );
    // SPDY: an answered ping shows that it is spoken, plainly and inside of WebSocket.
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    let headers = [
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "portforward.k8s.io"),
    ];
    let (status, chosen, stream) = bench.upgrade("/portForward/n/p", &headers).await;
    assert_eq!((status, chosen.as_str()), (101, "portforward.k8s.io"));
    let mut stream = stream.unwrap();
    stream.write_all(&ping).await.unwrap();
    let mut pong = [0; 12];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, ping);
    let (_, mut socket) = bench
        .websocket("/portForward/n/p", "SPDY/3.1+portforward.k8s.io")
        .await;
    socket.send(Message::binary(ping.to_vec())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data().to_vec(), ping);
}

#[tokio::test]
async fn a_running_pod_takes_ephemeral_containers_and_new_resources() {
    let bench = Bench::new().await;
    let limits = |cpu: &str| json!({ "limits": { "cpu": cpu }, "requests": { "cpu": cpu } });
    bench.pod("p", one(json!({ "resources": limits("1") })));
    let status = bench.until("p", "ready", is_ready).await;
    assert_eq!(status["containerStatuses"][0]["resources"], limits("1"));
    let mut pod = bench.api.get("api/v1/pods", "n", "p").unwrap();
    pod["metadata"]["generation"] = json!(2);
    pod["spec"]["ephemeralContainers"] =
        json!([{ "name": "debug", "image": "img:2", "targetContainerName": "web" }]);
    bench.api.put("api/v1/pods", pod);
    let status = bench
        .until("p", "the ephemeral container", |status| {
            status["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    assert_eq!(status["ephemeralContainerStatuses"][0]["ready"], false);
    assert_eq!(
        bench.cri.container("debug").unwrap().1.target,
        Some(bench.cri.container("web").unwrap().0.id)
    );
    bench.cri.exit("debug", 1);
    bench
        .until("p", "its end", |status| {
            status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
        })
        .await;
    let mut pod = bench.api.get("api/v1/pods", "n", "p").unwrap();
    pod["metadata"]["generation"] = json!(3);
    pod["spec"]["containers"][0]["resources"] = limits("2");
    bench.api.put("api/v1/pods", pod);
    let status = bench
        .until("p", "the new resources", |status| {
            status["containerStatuses"][0]["resources"] == limits("2")
        })
        .await;
    assert_eq!(
        (&status["phase"], &status["observedGeneration"]),
        (&json!("Running"), &json!(3))
    );
    assert_eq!(
        status["containerStatuses"][0]["allocatedResources"],
        json!({ "cpu": "2" })
    );
    assert_eq!(condition(&status, "PodResizeInProgress"), &Value::Null);
    let (run, config) = bench.cri.container("web").unwrap();
    assert_eq!(
        (config.resources.cpu_quota_us, run.metadata.attempt),
        (200_000, 0)
    );
    let starts = bench
        .cri
        .calls()
        .iter()
        .filter(|call| *call == "start debug")
        .count();
    assert_eq!(starts, 1, "an ephemeral container runs once");
}

#[tokio::test]
async fn a_pod_waits_for_resources_that_the_node_does_not_have() {
    let bench = Bench::new().await;
    let processors = std::thread::available_parallelism().unwrap().get() * 1000;
    let cpu = |milli: usize| {
        let amount = format!("{milli}m");
        json!({ "limits": { "cpu": amount }, "requests": { "cpu": amount } })
    };
    bench.pod("p", one(json!({ "resources": cpu(100) })));
    bench.until("p", "ready", is_ready).await;
    let mut other = one(json!({ "resources": cpu(processors - 200) }));
    other["containers"][0]["name"] = json!("other");
    bench.pod("q", other);
    bench.until("q", "ready", is_ready).await;
    let resize = |generation: i64, milli: usize| {
        let mut pod = bench.api.get("api/v1/pods", "n", "p").unwrap();
        pod["metadata"]["generation"] = json!(generation);
        pod["spec"]["containers"][0]["resources"] = cpu(milli);
        bench.api.put("api/v1/pods", pod);
    };
    let pending = async |generation: i64, reason: &str| {
        let said = |status: &Value| {
            let condition = status["conditions"]
                .as_array()
                .map(|_| condition(status, "PodResizePending"));
            condition.is_some_and(|one| one["reason"] == reason && one["observedGeneration"] == generation)
        };
        let status = bench.until("p", reason, said).await;
        assert_eq!(
            status["containerStatuses"][0]["resources"],
            cpu(100),
            "it keeps what it has"
        );
        assert_eq!(condition(&status, "PodResizeInProgress"), &Value::Null);
        condition(&status, "PodResizePending")["message"].clone()
    };
    resize(2, processors + 1000);
    assert_eq!(
        pending(2, "Infeasible").await,
        format!(
            "Node didn't have enough capacity: cpu, requested: {}, capacity: {processors}",
            processors + 1000
        )
    );
    resize(3, 300);
    assert_eq!(
        pending(3, "Deferred").await,
        format!(
            "Node didn't have enough resource: cpu, requested: 300, used: {}, capacity: {processors}",
            processors - 200
        )
    );
    // A container that starts anew meanwhile starts with what it holds.
    bench.cri.exit("web", 1);
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1 && is_ready(status);
    bench.until("p", "its next attempt", again).await;
    assert_eq!(
        bench.cri.container("web").unwrap().1.resources.cpu_quota_us,
        10_000
    );
    let mut other = bench.api.get("api/v1/pods", "n", "q").unwrap();
    other["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    other["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    bench.api.put("api/v1/pods", other);
    let status = bench
        .until("p", "room", |status| {
            status["containerStatuses"][0]["resources"] == cpu(300)
        })
        .await;
    assert_eq!(condition(&status, "PodResizePending"), &Value::Null);
    assert_eq!(
        bench.cri.container("web").unwrap().1.resources.cpu_quota_us,
        30_000
    );
}
