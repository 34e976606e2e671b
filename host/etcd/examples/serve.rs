//! One member on a plain port, for trying the face with real clients: `serve DIR ADDRESS`.

use std::sync::Arc;

use capstan_etcd::face::{self, FaceOptions};
use capstan_store::{LocalStore, Options};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve DIR ADDRESS:PORT".into());
    };
    let listener = TcpListener::bind(&address).await?;
    let mut options = Options::new(dir);
    options.cluster.client_urls = vec![format!("http://{}", listener.local_addr()?)];
    let store = Arc::new(LocalStore::open(options).await?);
    let service = TowerToHyperService::new(face::service(store.clone(), FaceOptions::default()));
    println!("serving on {}", listener.local_addr()?);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let service = service.clone();
                tokio::spawn(async move {
                    let mut connection = auto::Builder::new(TokioExecutor::new()).http2_only();
                    face::tune(&mut connection);
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    store.shutdown().await;
    Ok(())
}
