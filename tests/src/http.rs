use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long one request may take.
const BOUND: Duration = Duration::from_secs(10);

/// The body of `GET http://<address><path>`.
///
/// # Errors
/// When there is no answer, or another status than 200.
pub fn get(address: &str, path: &str) -> Result<String, String> {
    send(address, "GET", path, "text/plain", "")
}

/// The body of the answer to such a request with this body.
///
/// # Errors
/// When there is no answer, or another status than 200 or 201.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<String, String> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let said = exchange(address, &request).map_err(|error| format!("{address}: {error}"))?;
    let (head, body) = said
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("no HTTP: {said:?}"))?;
    if !(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 201")) {
        return Err(format!("{}: {body}", head.lines().next().unwrap_or_default()));
    }
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(if chunked {
        join_chunks(body)
    } else {
        body.to_owned()
    })
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.write_all(request.as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn join_chunks(mut body: &str) -> String {
    let mut joined = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        joined.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    joined
}
