//! What a component is and says of itself, without a seat: for those who write and review plugins.
//!
//! The component is compiled and described in the sandbox, with every interface and nothing behind it. Called
//! by the author's commands.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::capability::Grants;
use crate::error::LoadError;
use crate::host::Host;
use crate::inspect::Surface;
use crate::limits::Limits;
use crate::program::Program;
use crate::state::Context;
use crate::stats::Stats;

/// A component, looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// JSON Schema of its configuration.
    pub config_schema: String,
    /// `sha256:…` of its bytes.
    pub digest: String,
    /// How many bytes it has.
    pub size_bytes: usize,
    /// Linear memory of an instance that was described and no more.
    pub memory_bytes: u64,
    /// Worlds that it implements.
    pub worlds: Vec<String>,
    /// `package/interface` of what it exports, without `capstan:` and version.
    pub exports: Vec<String>,
    /// Interfaces that it imports, with version.
    pub imports: Vec<String>,
}

impl About {
    /// Capabilities without which it is not loaded.
    pub fn needs(&self) -> Vec<&str> {
        self.imports
            .iter()
            .filter_map(|import| import.strip_prefix("capstan:plugin/")?.split('@').next())
            .filter(|name| *name != "types")
            .collect()
    }
}

impl Host {
    /// Looks at a component.
    ///
    /// # Errors
    /// When it is none, implements no world of this host, imports what no plugin can have, or cannot be
    /// described.
    pub fn inspect(&self, bytes: &[u8]) -> Result<About, LoadError> {
        let surface = Surface::read(bytes)?;
        let grants = Grants::every_interface();
        grants.admit_imports(&surface.imports)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
        let stats = Arc::new(Stats::default());
        let context = Arc::new(Context {
            plugin: "inspected".into(),
            grants,
            limits: Limits::largest(),
            services: Arc::clone(self.services()),
            stats: Arc::clone(&stats),
            log_bound: Default::default(),
        });
        let component = self.compiled(&digest, bytes)?;
        let (worlds, imports) = (surface.worlds(), surface.imports.clone());
        let exports = surface.all_exports();
        let program = Program::link(self.engine(), self.ticker(), &component, surface, context)?;
        let said = program.describe().map_err(LoadError::Start)?;
        Ok(About {
            name: said.name,
            version: said.version,
            summary: said.summary,
            config_schema: said.config_schema,
            digest,
            size_bytes: bytes.len(),
            memory_bytes: stats.read().memory_bytes,
            worlds,
            exports,
            imports,
        })
    }
}
