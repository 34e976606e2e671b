//! `plugin watch`: rebuild and hot-load on save.
//!
//! A build or a load that fails is told and changes nothing: what ran goes on. Ends with the process.

use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use notify::{Event, EventKind, RecursiveMode, Watcher};

use crate::error::Error;
use crate::{Build, Watch, building, loading};

/// Editors write several files for one save: all that comes within this belongs to it.
const SAVE_SPAN: Duration = Duration::from_millis(150);
/// Folders that builds and tools write, wherever they are in the project.
const NOT_SOURCES: [&str; 5] = ["target", "node_modules", "__pycache__", "wit_world", "capstan"];

/// Builds and loads now and after every save.
pub(crate) fn watch(options: &Watch) -> Result<(), Error> {
    let folder = std::path::absolute(&options.folder).unwrap_or_else(|_| options.folder.clone());
    let failed = |error: notify::Error| Error::Watch {
        path: folder.clone(),
        source: error,
    };
    // Watched before the first build, so that no save is missed.
    let (sender, saves) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Nobody listens any more when the process ends.
        let _ = sender.send(event);
    })
    .map_err(failed)?;
    watcher.watch(&folder, RecursiveMode::Recursive).map_err(failed)?;
    building::Project::open(&folder)?;
    loop {
        match round(options, &folder) {
            Ok(()) => println!("watching {} (Ctrl-C ends)", folder.display()),
            Err(error) => eprintln!("error: {error}\nwatching {}: what ran goes on", folder.display()),
        }
        saved(&saves, &folder)?;
    }
}

fn round(options: &Watch, folder: &Path) -> Result<(), Error> {
    building::build(&Build {
        folder: folder.to_owned(),
        output: None,
    })?;
    loading::load(&folder.display().to_string(), &options.placement)
}

/// Waits for a save, and for its end.
fn saved(saves: &Receiver<notify::Result<Event>>, folder: &Path) -> Result<(), Error> {
    let gone = || Error::Watch {
        path: folder.to_owned(),
        source: notify::Error::generic("the watch ended"),
    };
    let is_save = |event: notify::Result<Event>| match event {
        Ok(event) => concerns(&event, folder),
        // Events were lost: better one build too many.
        Err(_) => true,
    };
    while !is_save(saves.recv().map_err(|_| gone())?) {}
    while saves.recv_timeout(SAVE_SPAN).is_ok() {}
    Ok(())
}

fn concerns(event: &Event, folder: &Path) -> bool {
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| is_source(path, folder))
}

fn is_source(path: &Path, folder: &Path) -> bool {
    let inside: PathBuf = path.strip_prefix(folder).unwrap_or(path).to_owned();
    let is_left_out = |part: Component<'_>| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with('.') || NOT_SOURCES.contains(&&*part)
    };
    let name = inside.file_name().unwrap_or_default().to_string_lossy();
    !inside.components().any(is_left_out)
        && !name.ends_with(".wasm")
        && !name.ends_with('~')
        && name != "Cargo.lock"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_writes_is_no_save() {
        for (path, is) in [
            ("/p/src/lib.rs", true),
            ("/p/plugin.py", true),
            ("/p/plugin.yaml", true),
            ("/p/p.wasm", false),
            ("/p/p.draft.wasm", false),
            ("/p/target/release/x", false),
            ("/p/Cargo.lock", false),
            ("/p/.plugin.py.swp", false),
            ("/p/plugin.py~", false),
        ] {
            assert_eq!(is_source(Path::new(path), Path::new("/p")), is, "{path}");
        }
    }
}
