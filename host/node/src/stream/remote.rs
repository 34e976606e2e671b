//! Exec and attach: a client's channels and a container's streams, connected until both are done.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use capstan_runtime::{Session, Streams, TerminalSize};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channel::{Gone, Input, Output, copy_in, copy_out};
use super::handshake::{Agreed, Offer, go};
use super::spdy;
use super::websocket::{Channels, Coding};

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";

/// What exec and attach speak.
pub(crate) const OFFER: Offer = Offer {
    websocket: &["", V5, V4, V4_BASE64, V1, V1_BASE64],
    spdy: &[V4, V3, V2, V1],
};

/// A SPDY client must have opened its streams within this time.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a terminal's size that is not whole yet.
const RESIZE_BYTES_MAX: usize = 1024;

/// Reads which streams are wanted, as the API server writes them.
pub(crate) fn streams(query: &HashMap<String, String>) -> Result<Streams, String> {
    let is = |name: &str| query.get(name).is_some_and(|value| value == "1");
    let tty = is("tty");
    let streams = Streams {
        stdin: is("input"),
        stdout: is("output"),
        // A terminal has one output.
        stderr: is("error") && !tty,
        tty,
    };
    if streams.stdin || streams.stdout || streams.stderr {
        return Ok(streams);
    }
    Err("you must specify at least 1 of stdin, stdout, stderr".into())
}

/// What a session is, for its last words.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    Exec(Vec<String>),
    Attach,
}

/// A client's channels.
struct Client {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
    status: Output,
    /// Whether the status is a document, or text that is there on failure alone.
    structured: bool,
    gone: CancellationToken,
}

/// Serves a session to its end on an upgraded connection.
pub(crate) async fn serve(
    io: DuplexStream,
    agreed: Agreed,
    streams: Streams,
    purpose: Purpose,
    session: Session,
) {
    match agreed {
        Agreed::WebSocket(protocol) => {
            let coding = Coding {
                base64: matches!(protocol, V4_BASE64 | V1_BASE64),
                closes: protocol == V5,
            };
            let readable = [streams.stdin, false, false, false, true];
            let mut channels = Channels::serve(io, coding, &readable).await;
            let client = Client {
                stdin: channels.input(0),
                stdout: streams.stdout.then(|| channels.output(1)),
                stderr: streams.stderr.then(|| channels.output(2)),
                resize: channels.input(4),
                status: channels.output(3),
                structured: matches!(protocol, V5 | V4 | V4_BASE64),
                gone: channels.gone.clone(),
            };
            // An empty message on the lowest channel tells the client that it is connected.
            let first = client.stdout.as_ref().or(client.stderr.as_ref());
            let _ = first.unwrap_or(&client.status).send(Bytes::new()).await;
            connect(client, session, &purpose).await;
            channels.close().await;
        }
        Agreed::Spdy(protocol) => {
            let mut connection = spdy::Connection::serve(io);
            let opened = tokio::time::timeout(STREAMS_TIMEOUT, open(&mut connection, protocol, streams));
            match opened.await {
                Ok(Some(client)) => connect(client, session, &purpose).await,
                _ => tracing::debug!("timed out waiting for client to create streams"),
            }
            connection.close().await;
        }
    }
}

/// Takes the streams that a SPDY client opens, each named by a header.
async fn open(connection: &mut spdy::Connection, protocol: &str, streams: Streams) -> Option<Client> {
    let resizes = streams.tty && matches!(protocol, V4 | V3);
    let expected = [true, streams.stdin, streams.stdout, streams.stderr, resizes];
    let mut missing = expected.iter().filter(|wanted| **wanted).count();
    let (mut stdin, mut stdout, mut stderr, mut resize, mut status) = (None, None, None, None, None);
    while missing > 0 {
        let stream = connection.streams.recv().await?;
        match stream.header("streamtype") {
            "error" => status = Some(stream.output),
            "stdin" => stdin = Some(stream.input),
            "stdout" => stdout = Some(stream.output),
            "stderr" => stderr = Some(stream.output),
            "resize" => resize = Some(stream.input),
            other => {
                tracing::debug!("unexpected stream type: {other:?}");
                continue;
            }
        }
        missing -= 1;
    }
    Some(Client {
        stdin,
        stdout,
        stderr,
        resize,
        status: status?,
        structured: protocol == V4,
        gone: connection.gone.clone(),
    })
}

async fn connect(client: Client, session: Session, purpose: &Purpose) {
    let Client {
        stdin,
        stdout,
        stderr,
        resize,
        status,
        structured,
        gone,
    } = client;
    // Input ends with the session, not the session with the input.
    let input = async {
        match (stdin, session.stdin) {
            (Some(source), Some(target)) => copy_in(source, target).await,
            (Some(mut unread), None) => while unread.recv().await.is_some() {},
            (None, target) => drop(target),
        }
        std::future::pending::<()>().await;
    };
    let sizes = async {
        if let (Some(source), Some(target)) = (resize, session.resize) {
            resized(source, target).await;
        }
        std::future::pending::<()>().await;
    };
    let output = async {
        let one = async |source, target: Option<&Output>| -> Result<(), Gone> {
            match (source, target) {
                (Some(source), Some(target)) => copy_out(source, target).await,
                _ => Ok(()),
            }
        };
        let (out, err, exit) = tokio::join!(
            one(session.stdout, stdout.as_ref()),
            one(session.stderr, stderr.as_ref()),
            session.exit
        );
        out.and(err).map(|()| exit)
    };
    let ended = tokio::select! {
        ended = output => ended,
        () = input => return,
        () = sizes => return,
        () = gone.cancelled() => return,
    };
    let Ok(exit) = ended else { return };
    let words = last_words(purpose, exit, structured);
    if let Some(words) = words {
        let _ = status.send(words.into()).await;
    }
    for output in stdout.iter().chain(&stderr).chain([&status]) {
        output.close().await;
    }
}

/// What the client is told at the end, as the original words it.
fn last_words(purpose: &Purpose, exit: capstan_runtime::Result<i32>, structured: bool) -> Option<String> {
    let status = match (purpose, exit) {
        (_, Ok(0)) | (Purpose::Attach, Ok(_)) => json!({ "status": "Success" }),
        (Purpose::Exec(command), Ok(code)) => {
            let message = format!(
                "command terminated with non-zero exit code: error executing command {}, exit code {code}",
                go(command)
            );
            let causes = json!([{ "reason": "ExitCode", "message": code.to_string() }]);
            json!({ "status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": { "causes": causes } })
        }
        (purpose, Err(error)) => {
            let what = match purpose {
                Purpose::Exec(_) => "error executing command in container",
                Purpose::Attach => "error attaching to container",
            };
            let message = format!("Internal error occurred: {what}: {error}");
            json!({ "status": "Failure", "message": message, "reason": "InternalError", "code": 500 })
        }
    };
    match (structured, &status["message"]) {
        (true, _) => Some(status.to_string()),
        (false, Value::String(message)) => Some(message.clone()),
        (false, _) => None,
    }
}

/// Passes a terminal's sizes on: JSON documents one after another.
async fn resized(mut source: Input, target: mpsc::Sender<TerminalSize>) {
    let mut pending = Vec::new();
    while let Some(bytes) = source.recv().await {
        pending.extend_from_slice(&bytes);
        for size in sizes(&mut pending) {
            if target.send(size).await.is_err() {
                return;
            }
        }
        if pending.len() > RESIZE_BYTES_MAX {
            return;
        }
    }
}

/// The whole documents at the start of what came; what is not whole stays.
fn sizes(pending: &mut Vec<u8>) -> Vec<TerminalSize> {
    let mut documents = serde_json::Deserializer::from_slice(pending).into_iter::<Value>();
    let mut sizes = Vec::new();
    while let Some(Ok(size)) = documents.next() {
        let number = |name: &str| u16::try_from(size[name].as_u64().unwrap_or(0)).unwrap_or(u16::MAX);
        sizes.push(TerminalSize {
            width: number("Width"),
            height: number("Height"),
        });
    }
    let used = documents.byte_offset();
    pending.drain(..used);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_pieces() {
        let mut pending = br#"{"Width":80,"Height":24}{"Wid"#.to_vec();
        assert_eq!(
            sizes(&mut pending),
            [TerminalSize {
                width: 80,
                height: 24
            }]
        );
        pending.extend_from_slice(br#"th":1,"Height":2}"#);
        assert_eq!(sizes(&mut pending), [TerminalSize { width: 1, height: 2 }]);
        assert!(pending.is_empty());
    }

    #[test]
    fn ends_are_told() {
        let exec = Purpose::Exec(vec!["a".into(), "b".into()]);
        assert_eq!(last_words(&exec, Ok(0), true).unwrap(), r#"{"status":"Success"}"#);
        assert_eq!(last_words(&exec, Ok(0), false), None);
        let failed: Value = serde_json::from_str(&last_words(&exec, Ok(3), true).unwrap()).unwrap();
        assert_eq!(
            failed["details"]["causes"][0],
            json!({ "reason": "ExitCode", "message": "3" })
        );
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert!(
            last_words(&exec, Ok(3), false)
                .unwrap()
                .ends_with("error executing command [a b], exit code 3")
        );
        let refused = capstan_runtime::Error::Precondition("no".into());
        assert!(
            last_words(&Purpose::Attach, Err(refused), false)
                .unwrap()
                .ends_with("error attaching to container: no")
        );
    }
}
