//! `capstan:plugin/node-files`: regular files of the node, by granted paths.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::bindings::plugin::capstan::plugin::node_files::Host;
use crate::state::State;

/// Bytes of one file that are read.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Host for State {
    fn read(&mut self, path: String) -> Result<Vec<u8>, String> {
        let covers = |path: &Path| {
            path.to_str()
                .is_some_and(|path| self.context.grants.covers_path("node-files", path))
        };
        let not_granted = || format!("{path} is not covered by the node-files capability");
        if !covers(Path::new(&path)) {
            return Err(not_granted());
        }
        let cannot_read = |error: std::io::Error| format!("cannot read {path}: {error}");
        // A link may lead elsewhere: where it ends must be granted as well.
        let resolved = Path::new(&path).canonicalize().map_err(cannot_read)?;
        if !covers(&resolved) {
            return Err(not_granted());
        }
        // Looked at before it is opened: opening a pipe would wait for a writer.
        if !resolved.metadata().map_err(cannot_read)?.is_file() {
            return Err(format!("{path} is not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = File::open(&resolved).map_err(cannot_read)?;
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(cannot_read)?;
        Ok(bytes)
    }
}
