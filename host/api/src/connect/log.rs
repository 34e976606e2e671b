//! Logs over WebSocket: the log's bytes as messages, an empty one first; what the client sends is ignored.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use capstan_kinds::status::Status;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::Rest;
use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::server::Server;
use crate::subresource;

const PROTOCOLS: [&str; 3] = ["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";
const PROTOCOL_HEADER: &str = "sec-websocket-protocol";

/// Whether a client asks for WebSocket.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    super::is_upgrade(headers) && upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

pub(super) async fn answer(server: &Arc<Server>, call: &mut Call, rest: Rest) -> Answer {
    let Some(key) = call.headers.get("sec-websocket-key") else {
        return Err(Status::bad_request("challenge/response failure: no Sec-WebSocket-Key").into());
    };
    let accepted = derive_accept_key(key.as_bytes());
    let asked = call
        .headers
        .get(PROTOCOL_HEADER)
        .and_then(|value| value.to_str().ok());
    let mut asked = asked.unwrap_or_default().split(',').map(str::trim);
    let agreed = asked.find_map(|asked| PROTOCOLS.iter().find(|one| **one == asked));
    let Some(agreed) = agreed.copied() else {
        let message = "requested protocol(s) are not supported";
        return Err(Status::failure(403, "Forbidden", message).into());
    };
    let log = subresource::log(server, call).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        headers.insert("sec-websocket-accept", accepted);
    }
    if !agreed.is_empty() {
        headers.insert(PROTOCOL_HEADER, HeaderValue::from_static(agreed));
    }
    let stop = server.stop.clone();
    let sent = send(rest.upgrade, log.into_body(), agreed == BASE64);
    tokio::spawn(async move { stop.run_until_cancelled(sent).await });
    Ok(response)
}

async fn send(client: OnUpgrade, log: Body, base64: bool) {
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return tracing::debug!(%error, "a client's upgrade failed"),
    };
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let message = |bytes: Bytes| match base64 {
        true => Message::text(STANDARD.encode(bytes)),
        false => Message::Binary(bytes),
    };
    let sending = async {
        sink.send(message(Bytes::new())).await?;
        let mut slices = log.into_data_stream();
        while let Some(Ok(slice)) = slices.next().await {
            sink.send(message(slice)).await?;
        }
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        sink.send(Message::Close(Some(normal))).await
    };
    let ignoring = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::select! {
        sent = sending => if let Err(error) = sent {
            tracing::debug!(%error, "a log's reader is gone");
        },
        () = ignoring => {}
    }
}
