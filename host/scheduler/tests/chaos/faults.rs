//! A way to the API server on which writes of bindings fail, before or after they were done.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use capstan_api::Local;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use tower::Service;

/// See the module.
pub(crate) struct Faults {
    rng: Mutex<fastrand::Rng>,
    /// Nothing comes through any more.
    pub(crate) dead: AtomicBool,
    asked: AtomicUsize,
    failed: AtomicUsize,
    written: Mutex<Vec<String>>,
}

/// What happens to a write.
enum Fate {
    Done,
    FailsBefore,
    FailsAfter,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            dead: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            written: Mutex::default(),
        }
    }

    /// Bindings that were asked for.
    pub(crate) fn bindings(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Paths of the bindings that the API server did.
    pub(crate) fn written(&self) -> Vec<String> {
        self.written.lock().unwrap().clone()
    }

    /// Bindings done, and made to fail.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.written().len(), self.failed.load(Ordering::SeqCst)]
    }

    fn fate(&self) -> Fate {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let fate = match self.rng.lock().unwrap().u8(..6) {
            0 => Fate::FailsBefore,
            1 => Fate::FailsAfter,
            _ => return Fate::Done,
        };
        self.failed.fetch_add(1, Ordering::SeqCst);
        fate
    }
}

/// A client whose way is this.
pub(crate) fn client(service: Local, faults: Arc<Faults>) -> Client {
    let way = tower::service_fn(move |request: Request<Body>| {
        let (mut service, faults) = (service.clone(), Arc::clone(&faults));
        async move {
            let path = request.uri().path().to_owned();
            let fate = match path.ends_with("/binding") {
                true => faults.fate(),
                false => Fate::Done,
            };
            if matches!(fate, Fate::FailsBefore) || faults.dead.load(Ordering::SeqCst) {
                return Ok::<_, Infallible>(broken());
            }
            let answer = match Service::call(&mut service, request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            if path.ends_with("/binding") && answer.status().is_success() {
                faults.written.lock().unwrap().push(path);
            }
            // Whoever died while the API server was at it does not hear of it.
            match matches!(fate, Fate::FailsAfter) || faults.dead.load(Ordering::SeqCst) {
                true => Ok(broken()),
                false => Ok(answer),
            }
        }
    });
    capstan_client::over(way)
}

fn broken() -> Response<capstan_api::Body> {
    let mut answer = Response::new(capstan_api::Body::from("broken".to_owned()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
