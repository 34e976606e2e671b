//! Tells when something in a folder changed: files written, made, renamed, removed.
//!
//! One inotify instance for the whole kubelet, one watch a folder however many listen; where inotify cannot be
//! had, listeners are woken four times a second. Wakes may be without cause and several may become one.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Pause between wakes without inotify.
const POLL: Duration = Duration::from_millis(250);

struct Watched {
    descriptor: WatchDescriptor,
    tick: watch::Sender<u64>,
}

struct Inner {
    inotify: Inotify,
    folders: Mutex<HashMap<PathBuf, Watched>>,
}

/// The kubelet's one source of folder changes.
#[derive(Clone)]
pub(crate) struct Notify {
    inner: Option<Arc<Inner>>,
}

/// Changes of one folder.
pub(crate) struct Changes {
    tick: Option<watch::Receiver<u64>>,
}

impl Changes {
    /// Waits for the next change after the last return, or after it was made.
    pub(crate) async fn changed(&mut self) {
        if let Some(tick) = &mut self.tick {
            if tick.changed().await.is_ok() {
                return;
            }
            self.tick = None;
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Notify {
    /// Begins; must be called within a runtime.
    pub(crate) fn start() -> Self {
        let inotify = match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
            Ok(inotify) => inotify,
            Err(error) => {
                tracing::warn!(%error, "no inotify, files are polled instead");
                return Self { inner: None };
            }
        };
        let inner = Arc::new(Inner {
            inotify,
            folders: Mutex::default(),
        });
        tokio::spawn(read(Arc::downgrade(&inner)));
        Self { inner: Some(inner) }
    }

    /// Listens to a folder that exists.
    pub(crate) fn folder(&self, folder: &Path) -> Changes {
        let Some(inner) = &self.inner else {
            return Changes { tick: None };
        };
        let mut folders = inner.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = folders.get(folder) {
            return Changes {
                tick: Some(watched.tick.subscribe()),
            };
        }
        forget_unheard(inner, &mut folders);
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        match inner.inotify.add_watch(folder, flags) {
            Ok(descriptor) => {
                let (tick, changes) = watch::channel(0);
                folders.insert(folder.to_owned(), Watched { descriptor, tick });
                Changes { tick: Some(changes) }
            }
            Err(error) => {
                tracing::debug!(%error, folder = %folder.display(), "folder is polled");
                Changes { tick: None }
            }
        }
    }
}

fn forget_unheard(inner: &Inner, folders: &mut HashMap<PathBuf, Watched>) {
    folders.retain(|_, watched| {
        let heard = watched.tick.receiver_count() > 0;
        if !heard {
            let _ = inner.inotify.rm_watch(watched.descriptor);
        }
        heard
    });
}

async fn read(inner: std::sync::Weak<Inner>) {
    let Some(descriptor) = inner
        .upgrade()
        .and_then(|inner| inner.inotify.as_fd().try_clone_to_owned().ok())
    else {
        return;
    };
    #[expect(
        deprecated,
        reason = "the descriptor is owned by the AsyncFd; its replacement is unsafe"
    )]
    let Ok(ready) = AsyncFd::with_interest(descriptor, Interest::READABLE) else {
        return;
    };
    loop {
        let Ok(mut guard) = ready.readable().await else {
            return;
        };
        let Some(inner) = inner.upgrade() else { return };
        let Ok(events) = inner.inotify.read_events() else {
            guard.clear_ready();
            continue;
        };
        let mut folders = inner.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let overflown = events
            .iter()
            .any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
        folders.retain(|_, watched| {
            let mut of_this = events.iter().filter(|event| event.wd == watched.descriptor);
            let gone = of_this
                .clone()
                .any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED));
            if overflown || of_this.next().is_some() {
                watched.tick.send_modify(|count| *count += 1);
            }
            !gone
        });
    }
}
