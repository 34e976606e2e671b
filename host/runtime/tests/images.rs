//! Images from a registry and from files, as a kubelet and `capstan image load` ask for them.

// What the tests share is not marked as a test, but is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use capstan_runtime::{
    ContainerConfig, ContainerMetadata, ContainerState, Cri, Embedded, Error, Images, Options,
    PodSandboxConfig,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn component() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components/capstan-hello-cli.wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: run `cargo xtask components` first", path.display());
    })
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

/// Blobs and manifests by the last part of their URLs, with media types; and what was asked for.
#[derive(Default)]
struct Content {
    files: HashMap<String, (String, Vec<u8>)>,
    asked: Mutex<Vec<String>>,
}

impl Content {
    fn put(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let descriptor = json!({ "mediaType": media_type, "digest": digest(&bytes), "size": bytes.len() });
        self.files.insert(digest(&bytes), (media_type.into(), bytes));
        descriptor
    }

    fn tag(&mut self, tag: &str, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        self.files.insert(tag.into(), (media_type.into(), bytes.clone()));
        self.put(media_type, bytes)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        self.asked.lock().unwrap().push(path.to_owned());
        let name = path.rsplit('/').next().unwrap();
        let found = if path == "/v2/" {
            Some(("text/plain".into(), vec![]))
        } else {
            self.files.get(name).cloned()
        };
        match found {
            Some((media_type, bytes)) => Response::builder()
                .header("content-type", media_type)
                .header("docker-content-digest", digest(&bytes))
                .body(Full::new(bytes.into())),
            None => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body(Full::default()),
        }
        .unwrap()
    }
}

async fn serve(content: Arc<Content>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let content = Arc::clone(&content);
            let service = service_fn(move |request| {
                let answer = content.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

fn options(folder: &Path) -> Options {
    Options::new(folder)
}

/// A layer with the component as `/app.wasm`.
fn wasm_layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let component = component();
    for (name, bytes) in [("app.wasm", &component[..]), ("etc/greeting", b"hello\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, name, bytes).unwrap();
    }
    layer.into_inner().unwrap().finish().unwrap()
}

/// A registry with an artifact, an image for two platforms, and one whose layer is not what it says.
fn registry() -> Content {
    let mut content = Content::default();
    let config = content.put("application/vnd.wasm.config.v0+json", r#"{"os":"wasip2"}"#);
    let layer = content.put("application/wasm", component());
    let artifact = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    content.tag("artifact", MANIFEST, &artifact);

    let config = json!({
        "architecture": "wasm", "os": "wasip2", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["/app.wasm"], "Cmd": ["cat", "/etc/greeting"] },
    });
    let config = content.put("application/vnd.oci.image.config.v1+json", config.to_string());
    let layer = content.put("application/vnd.oci.image.layer.v1.tar+gzip", wasm_layer());
    let image = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut wasm = content.tag("wasm-only", MANIFEST, &image);
    wasm["platform"] = json!({ "architecture": "wasm", "os": "wasip2" });
    let mut other = wasm.clone();
    other["platform"] = json!({ "architecture": "s390x", "os": "linux" });
    content.tag(
        "scratch",
        INDEX,
        &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [other, wasm] }),
    );

    let mut broken = content.put("application/wasm", component());
    broken["digest"] = json!(digest(b"other"));
    content
        .files
        .insert(digest(b"other"), ("application/wasm".into(), b"altered".to_vec()));
    let broken = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": artifact["config"], "layers": [broken] });
    content.tag("broken", MANIFEST, &broken);
    content
}

/// Runs an image to its end and gives back its log's texts.
async fn run(runtime: &Embedded, folder: &Path, image: &str) -> Vec<String> {
    let config = PodSandboxConfig {
        log_directory: folder.join("logs"),
        ..Default::default()
    };
    let sandbox = runtime.run_pod_sandbox(config).await.unwrap();
    let config = ContainerConfig {
        metadata: ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        },
        image: image.into(),
        log_path: "0.log".into(),
        ..Default::default()
    };
    let id = runtime.create_container(&sandbox, config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    while runtime.container_status(&id).await.unwrap().state != ContainerState::Exited {
        runtime.changed().await;
    }
    let log = std::fs::read_to_string(folder.join("logs/0.log")).unwrap();
    std::fs::remove_file(folder.join("logs/0.log")).unwrap();
    runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    log.lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

#[tokio::test]
async fn images_come_from_a_registry() {
    let content = Arc::new(registry());
    let registry = serve(Arc::clone(&content)).await;
    let folder = tempfile::tempdir().unwrap();
    let runtime = Embedded::open(options(folder.path())).await.unwrap();

    let artifact = format!("{registry}/demo/hello:artifact");
    assert!(runtime.image_status(&artifact).await.unwrap().is_none());
    let pinned = runtime.pull_image(&artifact, None).await.unwrap();
    let manifest = digest(&content.files["artifact"].1);
    assert_eq!(pinned, format!("{registry}/demo/hello@{manifest}"));
    assert_eq!(
        runtime.image_status(&pinned).await.unwrap().unwrap().repo_tags,
        [artifact.as_str()]
    );
    assert_eq!(
        run(&runtime, folder.path(), &artifact).await[0],
        "stdout F arguments main"
    );

    let scratch = format!("{registry}/demo/hello:scratch");
    runtime.pull_image(&scratch, None).await.unwrap();
    assert_eq!(run(&runtime, folder.path(), &scratch).await, ["stdout F hello"]);
    let asked_before = content
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|path| path.contains("/blobs/"))
        .count();
    runtime.pull_image(&scratch, None).await.unwrap();
    let asked_after = content
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|path| path.contains("/blobs/"))
        .count();
    assert_eq!(
        asked_before, asked_after,
        "blobs that are here are not fetched again"
    );

    for (tag, words) in [("missing", "missing"), ("broken", "igest")] {
        let error = runtime
            .pull_image(&format!("{registry}/demo/hello:{tag}"), None)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Image {
                    reason: "ErrImagePull",
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains("failed to pull image") && error.to_string().contains(words),
            "{error}"
        );
    }
    assert_eq!(runtime.list_images().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_store_keeps_and_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.wasm");
    std::fs::write(&file, component()).unwrap();
    let mut with_bundle = options(folder.path());
    with_bundle.bundled = vec![("capstan.dev/hello:1".into(), component().into())];
    let runtime = Embedded::open(with_bundle.clone()).await.unwrap();
    // What is built in needs no registry.
    assert!(runtime.pull_image("capstan.dev/hello:1", None).await.is_ok());
    assert_eq!(
        run(&runtime, folder.path(), "capstan.dev/hello:1").await[0],
        "stdout F arguments main"
    );
    // The same content under another name is the same image, with both names; the given one comes first.
    let loaded = runtime.load(&file, Some("other:2")).await.unwrap();
    assert_eq!(
        loaded.repo_tags,
        ["docker.io/library/other:2", "capstan.dev/hello:1"]
    );
    drop(runtime);

    let runtime = Embedded::open(with_bundle).await.unwrap();
    assert_eq!(runtime.list_images().await.unwrap().len(), 1);
    // The command line beside it: what it adds and removes is seen, and nothing of others is lost.
    let images = Images::open(&folder.path().join("runtime")).unwrap();
    std::fs::write(&file, [&component()[..], b"\0\x01\0"].concat()).unwrap();
    images.load(&file, Some("third:3")).await.unwrap();
    assert_eq!(
        run(&runtime, folder.path(), "third:3").await[0],
        "stdout F arguments main"
    );
    assert_eq!(images.list().await.unwrap().len(), 2);
    images.remove("third:3").await.unwrap();
    assert!(runtime.image_status("third:3").await.unwrap().is_none());
    assert!(runtime.image_status("other:2").await.unwrap().is_some());
    runtime.remove_image("other:2").await.unwrap();
    runtime.remove_image("other:2").await.unwrap();
    assert!(runtime.list_images().await.unwrap().is_empty());
    let blobs = std::fs::read_dir(folder.path().join("runtime/blobs/sha256")).unwrap();
    assert_eq!(
        blobs
            .flatten()
            .filter(|blob| blob.file_type().unwrap().is_file())
            .count(),
        0
    );
}

#[tokio::test]
async fn an_oci_layout_is_loaded_and_a_bad_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Embedded::open(options(folder.path())).await.unwrap();
    let mut content = registry();
    let index: Value = serde_json::from_slice(&content.files["scratch"].1).unwrap();
    let descriptor = content.put(INDEX, index.to_string());
    let layout = folder.path().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for (name, (_, bytes)) in &content.files {
        if let Some(hex) = name.strip_prefix("sha256:") {
            std::fs::write(layout.join("blobs/sha256").join(hex), bytes).unwrap();
        }
    }
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let error = runtime.load(&layout, None).await.unwrap_err().to_string();
    assert!(error.contains("--name"), "{error}");
    runtime.load(&layout, Some("layout:1")).await.unwrap();
    assert_eq!(run(&runtime, folder.path(), "layout:1").await, ["stdout F hello"]);

    let core = b"\0asm\x01\0\0\0".to_vec();
    for (bytes, name, words) in [
        (core, Some("x:1"), "core Wasm module"),
        (component(), None, "--name"),
        (component(), Some("UPPER"), "UPPER"),
        (
            b"some text that is no archive".repeat(100),
            Some("x:1"),
            "should be a .wasm component",
        ),
        (vec![], Some("x:1"), "index.json"),
    ] {
        let path = folder.path().join("bad");
        std::fs::write(&path, bytes).unwrap();
        let error = runtime.load(&path, name).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(
        runtime.list_images().await.unwrap().len(),
        1,
        "what failed changed nothing"
    );
}
