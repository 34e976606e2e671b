//! Port forwarding: pairs of a data and an error stream, each pair a connection to a port of the pod.
//!
//! Over SPDY (also inside of WebSocket) a client opens pairs as it needs them; over WebSocket's channels the
//! ports are named beforehand, two channels each.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use capstan_runtime::{Cri, Duplex};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::channel::{Input, Output, copy_in, copy_out};
use super::handshake::{Agreed, Offer};
use super::spdy;
use super::websocket::{self, Channels, Coding};

const V1: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";

/// What port forwarding speaks to clients that name no ports beforehand.
pub(crate) const OFFER: Offer = Offer {
    websocket: &[TUNNEL],
    spdy: &[V1],
};
/// And to those that do.
pub(crate) const OFFER_CHANNELS: Offer = Offer {
    websocket: &["", V4, V4_BASE64, TUNNEL],
    spdy: &[V1],
};

/// Ports of one request over channels.
const PORTS_MAX: usize = 64;
/// Pairs of which one stream is open.
const HALVES_MAX: usize = 256;

/// A pod whose ports are asked for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) cri: Arc<dyn Cri>,
    pub(crate) sandbox: String,
    /// `NAME_NAMESPACE` and uid, for messages.
    pub(crate) pod: String,
    pub(crate) uid: String,
}

/// Reads the ports that a WebSocket client names beforehand.
pub(crate) fn ports(text: Option<&str>) -> Result<Vec<u16>, String> {
    let Some(text) = text else {
        return Err("query parameter \"port\" is required".into());
    };
    if text.is_empty() {
        return Err("query parameter \"port\" cannot be empty".into());
    }
    let mut ports = Vec::new();
    for one in text.split(',') {
        match one.parse::<u16>() {
            Ok(0) => return Err(format!("port {text:?} must be > 0")),
            Ok(port) if ports.len() < PORTS_MAX => ports.push(port),
            Ok(_) => return Err(format!("more than {PORTS_MAX} ports")),
            Err(error) => return Err(format!("unable to parse {text:?} as a port: {error}")),
        }
    }
    Ok(ports)
}

/// Serves connections until the client is gone.
pub(crate) async fn serve(io: DuplexStream, agreed: Agreed, ports: Vec<u16>, target: Target) {
    match agreed {
        Agreed::WebSocket(TUNNEL) => {
            pairs(spdy::Connection::serve(websocket::tunnel(io).await), &target).await
        }
        Agreed::WebSocket(protocol) => channels(io, protocol == V4_BASE64, &ports, &target).await,
        Agreed::Spdy(_) => pairs(spdy::Connection::serve(io), &target).await,
    }
}

/// One connection of the client, whole once both streams are there.
#[derive(Default)]
struct Pair {
    data: Option<spdy::Stream>,
    error: Option<spdy::Stream>,
}

async fn pairs(mut connection: spdy::Connection, target: &Target) {
    let mut halves: HashMap<String, Pair> = HashMap::new();
    let mut running = JoinSet::new();
    let gone = connection.gone.clone();
    loop {
        let stream = tokio::select! {
            stream = connection.streams.recv() => stream,
            Some(_) = running.join_next() => continue,
            () = gone.cancelled() => break,
        };
        let Some(stream) = stream else { break };
        let request = request_id(&stream);
        if halves.len() >= HALVES_MAX && !halves.contains_key(&request) {
            stream.output.reset().await;
            continue;
        }
        let pair = halves.entry(request.clone()).or_default();
        match stream.header("streamtype") {
            "data" if pair.data.is_none() => pair.data = Some(stream),
            "error" if pair.error.is_none() => pair.error = Some(stream),
            _ => {
                stream.output.reset().await;
                continue;
            }
        }
        if pair.data.is_some()
            && pair.error.is_some()
            && let Some(Pair {
                data: Some(data),
                error: Some(error),
            }) = halves.remove(&request)
        {
            let target = target.clone();
            running.spawn(async move {
                // A port that cannot be read is none, as in the original.
                let port = data.header("port").parse().unwrap_or(0);
                forward(port, data.input, &data.output, &error.output, &target).await;
            });
        }
    }
    running.shutdown().await;
    connection.close().await;
}

/// Clients that are old name no request: then streams follow each other, the error stream first.
fn request_id(stream: &spdy::Stream) -> String {
    match (stream.header("requestid"), stream.header("streamtype")) {
        ("", "data") => stream.id.saturating_sub(2).to_string(),
        ("", _) => stream.id.to_string(),
        (named, _) => named.to_owned(),
    }
}

async fn channels(io: DuplexStream, base64: bool, ports: &[u16], target: &Target) {
    let coding = Coding {
        base64,
        closes: false,
    };
    let readable: Vec<bool> = ports.iter().flat_map(|_| [true, false]).collect();
    let mut channels = Channels::serve(io, coding, &readable).await;
    let mut running = JoinSet::new();
    for (place, port) in ports.iter().copied().enumerate() {
        let (data, error) = (place * 2, place * 2 + 1);
        let Some(input) = channels.input(data) else {
            continue;
        };
        // At most 64 ports, so that channels fit a byte.
        let (data, error) = (channels.output(data as u8), channels.output(error as u8));
        let name = Bytes::copy_from_slice(&port.to_le_bytes());
        let _ = data.send(name.clone()).await;
        let _ = error.send(name).await;
        let target = target.clone();
        running.spawn(async move { forward(port, input, &data, &error, &target).await });
    }
    let gone = channels.gone.clone();
    let all = async { while running.join_next().await.is_some() {} };
    gone.run_until_cancelled(all).await;
    running.shutdown().await;
    channels.close().await;
}

/// One connection to a port, until both sides have said all or the pod has.
async fn forward(port: u16, input: Input, data: &Output, error: &Output, target: &Target) {
    let connected = target.cri.port_forward(&target.sandbox, port).await;
    let stream: Box<dyn Duplex> = match connected {
        Ok(stream) => stream,
        Err(reason) => {
            let Target { pod, uid, .. } = target;
            let message = format!("error forwarding port {port} to pod {pod}, uid {uid}: {reason}");
            let _ = error.send(message.into()).await;
            error.close().await;
            data.reset().await;
            return;
        }
    };
    let (read, write) = tokio::io::split(stream);
    let out = copy_out(read, data);
    let inward = async {
        copy_in(input, write).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = out => {}
        () = inward => {}
    }
    data.close().await;
    error.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        assert_eq!(ports(Some("80,443")), Ok(vec![80, 443]));
        for (text, words) in [
            (None, "is required"),
            (Some(""), "cannot be empty"),
            (Some("0"), "must be > 0"),
            (Some("70000"), "unable to parse"),
        ] {
            let refusal = ports(text).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
