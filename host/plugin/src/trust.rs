//! Whom the cluster trusts: its PluginTrust objects, and the check of a component's signature against them.
//!
//! Without any such object every component loads. As soon as there is one, a component needs a signature by a key that
//! is trusted for all of its worlds and all capabilities that it is granted; what is embedded in the host's own binary
//! is trusted with it. A key that cannot be read trusts nobody. Pure; called by `revision`.

use std::sync::atomic::{AtomicU64, Ordering};

use capstan_kinds::plugin::PluginSpec;
use capstan_kinds::plugin_trust::PluginTrust;
use capstan_registry::Signature;
use capstan_signature::{Bundle, Error, Evidence, PublicKey, Statement};

use crate::error::LoadError;
use crate::inspect::Surface;

/// Keys that count; more are left out with a warning.
const KEYS_MAX: usize = 256;
const ALL: &str = "*";

/// Counts what the cluster's trust has been, so that a revision is judged anew when it changes.
static LAST_EDITION: AtomicU64 = AtomicU64::new(1);

/// All that the cluster trusts.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Unique within the process; 0 before anything is known.
    pub(crate) edition: u64,
    demanded: bool,
    anchors: Vec<Anchor>,
}

/// A key, and what it is trusted for.
#[derive(Debug)]
struct Anchor {
    /// `PluginTrust/key`.
    name: String,
    key: PublicKey,
    worlds: Vec<String>,
    capabilities: Vec<String>,
}

impl Trust {
    pub(crate) fn of(objects: &[PluginTrust]) -> Self {
        let mut anchors = Vec::new();
        for object in objects {
            for key in &object.spec.keys {
                let name = format!("{}/{}", object.metadata.name, key.name);
                match PublicKey::from_pem(&key.public_key) {
                    _ if anchors.len() >= KEYS_MAX => {
                        tracing::warn!(
                            key = name,
                            "more than {KEYS_MAX} keys are trusted; this one is not"
                        );
                    }
                    Ok(key) => anchors.push(Anchor {
                        name,
                        key,
                        worlds: object.spec.worlds.clone(),
                        capabilities: object.spec.capabilities.clone(),
                    }),
                    Err(error) => tracing::warn!(key = name, %error, "this key is not trusted"),
                }
            }
        }
        Self {
            edition: LAST_EDITION.fetch_add(1, Ordering::Relaxed),
            demanded: !objects.is_empty(),
            anchors,
        }
    }

    /// Whether a signature must lie beside the component: the object brings none, and the cluster asks for one.
    pub(crate) fn wants(&self, spec: &PluginSpec) -> bool {
        self.demanded && spec.signature.is_none() && spec.source.bundled.is_none()
    }

    /// Refuses a component that nobody who is trusted for it has signed. `beside` are signatures that lie beside the
    /// component's file or artifact.
    pub(crate) fn admit(
        &self,
        spec: &PluginSpec,
        surface: &Surface,
        component: &[u8],
        beside: &[Signature],
    ) -> Result<(), LoadError> {
        let given = spec.signature.as_ref();
        if given.is_none() && !self.wants(spec) {
            return Ok(());
        }
        let found: Vec<Result<Evidence, Error>> = match given {
            Some(signature) => vec![in_object(&signature["bundle"])],
            None => beside.iter().map(evidence).collect(),
        };
        if found.is_empty() {
            return Err(LoadError::Unsigned);
        }
        let (mut signers, mut wrong) = (Vec::new(), None);
        for evidence in found {
            let verdicts: Vec<_> = match &evidence {
                Ok(evidence) => self
                    .anchors
                    .iter()
                    .map(|anchor| (anchor, evidence.verify(&anchor.key, component)))
                    .collect(),
                Err(error) => {
                    wrong.get_or_insert(error.to_string());
                    continue;
                }
            };
            for (anchor, verdict) in verdicts {
                match verdict {
                    Ok(()) => signers.push(anchor),
                    Err(Error::Forged) => {}
                    Err(error) => _ = wrong.get_or_insert(error.to_string()),
                }
            }
        }
        if signers.is_empty() {
            let keys: Vec<&str> = self.anchors.iter().map(|anchor| anchor.name.as_str()).collect();
            let keys = if keys.is_empty() {
                "there are none".to_owned()
            } else {
                keys.join(", ")
            };
            return Err(LoadError::Signature(wrong.unwrap_or_else(|| {
                format!("it was made by none of the keys that PluginTrust objects name: {keys}")
            })));
        }
        let mut beyond = Vec::new();
        for signer in signers {
            match signer.exceeded(spec, surface) {
                None => return Ok(()),
                Some(what) => beyond.push(format!("{} is not trusted with {what}", signer.name)),
            }
        }
        Err(LoadError::Untrusted(beyond.join("; ")))
    }
}

fn in_object(bundle: &serde_json::Value) -> Result<Evidence, Error> {
    let bundle = match bundle.as_str() {
        Some(text) => Bundle::parse(text),
        None => Bundle::from_value(bundle),
    };
    bundle.map(Evidence::Bundle)
}

fn evidence(found: &Signature) -> Result<Evidence, Error> {
    Ok(match found {
        Signature::Bundle(text) => Evidence::Bundle(Bundle::parse(text)?),
        Signature::Statement {
            payload,
            signature,
            manifest,
        } => Evidence::Statement(Statement::new(payload.clone(), signature.clone(), manifest)?),
    })
}

impl Anchor {
    /// What of the plugin is beyond what the key is trusted for.
    fn exceeded(&self, spec: &PluginSpec, surface: &Surface) -> Option<String> {
        let holds = |list: &[String], item: &str| list.iter().any(|entry| entry == ALL || entry == item);
        let worlds = surface.worlds();
        let world = worlds
            .iter()
            .find(|world| !self.worlds.is_empty() && !holds(&self.worlds, world));
        let granted = spec.capabilities.iter().map(|capability| &capability.name);
        let mut beyond = granted.filter(|name| !holds(&self.capabilities, name));
        match (world, beyond.next()) {
            (Some(world), _) => Some(format!("the {world} world")),
            (None, Some(capability)) => Some(format!("the capability {capability}")),
            (None, None) => None,
        }
    }
}
