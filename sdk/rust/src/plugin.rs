//! What every plugin has, whatever its point: a configuration, and optionally state and checks.
//!
//! [`Plugin`] is the author's side; [`Component`] is the seat that [`export!`](crate::export) makes, in
//! which one instance's plugin lives. Name, version and summary come from the crate's own `Cargo.toml`.

pub use crate::wit::types::capstan::plugin::types::{ConditionStatus, EventType, Fault, Pair};
use crate::wit::{
    plugin_guest::exports::capstan::plugin::guest, plugin_hand_off::exports::capstan::plugin::hand_off,
    plugin_self_test::exports::capstan::plugin::self_test,
};
use serde::de::DeserializeOwned;

/// A plugin of any kind. One value serves one instance of the component.
pub trait Plugin: Sized + 'static {
    /// What `spec.config` of the Plugin object holds; `{}` where it is absent.
    type Config: Config;

    /// JSON Schema (2020-12) of the configuration, by which the host refuses a bad one before the swap.
    /// Keep it beside the crate: `include_str!("../config.schema.json")`.
    const CONFIG_SCHEMA: &'static str;

    /// Makes the plugin. A fault refuses the configuration: name the field, the value and what would do.
    fn new(config: Self::Config) -> Result<Self, Fault>;
}

/// A configuration as it is read from JSON. Every type that serde can read is one.
pub trait Config: Sized {
    /// Reads the configuration; a fault says what is wrong where.
    fn read(json: &str) -> Result<Self, Fault>;
}

impl<T: DeserializeOwned> Config for T {
    fn read(json: &str) -> Result<Self, Fault> {
        crate::json::from_str(json).map_err(|e| Fault::permanent(format!("configuration: {e}")))
    }
}

/// For plugins that have nothing to configure. Reading it takes no JSON parser along, which keeps the
/// component small.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoConfig;

impl NoConfig {
    /// The schema that goes with it: no field at all.
    pub const SCHEMA: &'static str = r#"{"type":"object","additionalProperties":false}"#;
}

impl Config for NoConfig {
    fn read(json: &str) -> Result<Self, Fault> {
        match json.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"{}") {
            true => Ok(Self),
            false => Err(Fault::permanent(format!(
                "configuration: this plugin has none, but was given {json}"
            ))),
        }
    }
}

/// A plugin that checks itself before it takes over (`self_test` in [`export!`](crate::export)).
pub trait SelfTest: Plugin {
    /// Runs the checks in the sandbox; returns how many passed, or what failed.
    fn run() -> Result<u32, Fault>;
}

/// A plugin that hands its state to its next revision (`hand_off` in [`export!`](crate::export)).
pub trait HandOff: Plugin {
    /// The state, with a format version inside. At most 1 MiB.
    fn save(&self) -> Vec<u8>;

    /// Takes the state of the revision before, right after `new`. A fault means a clean start.
    fn restore(&mut self, state: &[u8]) -> Result<(), Fault>;
}

impl Fault {
    /// A fault that the same call would meet again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry: false,
        }
    }

    /// A fault that may be gone when the call is repeated later.
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry: true,
        }
    }
}

/// What sits in a component's seat: a plugin with the tables and loops of its point around it.
pub trait Seated: Sized + 'static {
    /// The author's type.
    type Plugin: Plugin;
    /// Puts the plugin to work.
    fn seat(plugin: Self::Plugin) -> Self;
    /// The plugin inside.
    fn plugin(&mut self) -> &mut Self::Plugin;
}

/// A component's one seat. Implemented by [`export!`](crate::export) alone.
pub trait Component: 'static {
    /// What sits in it.
    type Seated: Seated;
    /// The crate's name.
    const NAME: &'static str;
    /// The crate's version.
    const VERSION: &'static str;
    /// The crate's description.
    const SUMMARY: &'static str;

    /// Lends the seat for one call.
    fn seat<R>(act: impl FnOnce(&mut Option<Self::Seated>) -> R) -> R;

    /// Lends what sits in it, or says that nothing does yet.
    fn call<R>(act: impl FnOnce(&mut Self::Seated) -> Result<R, Fault>) -> Result<R, Fault> {
        Self::seat(|seat| match seat {
            Some(seated) => act(seated),
            None => Err(Fault::permanent("the plugin was called before it was configured")),
        })
    }
}

impl<C: Component> guest::Guest for C {
    fn describe() -> guest::Description {
        guest::Description {
            name: C::NAME.into(),
            version: C::VERSION.into(),
            summary: C::SUMMARY.into(),
            config_schema: <C::Seated as Seated>::Plugin::CONFIG_SCHEMA.into(),
        }
    }

    fn configure(config: String) -> Result<(), Fault> {
        let config = if config.trim().is_empty() { "{}" } else { &config };
        let config = <<C::Seated as Seated>::Plugin as Plugin>::Config::read(config)?;
        let plugin = <C::Seated as Seated>::Plugin::new(config)?;
        C::seat(|seat| *seat = Some(C::Seated::seat(plugin)));
        Ok(())
    }
}

impl<C: Component> self_test::Guest for C
where
    <C::Seated as Seated>::Plugin: SelfTest,
{
    fn run() -> Result<u32, Fault> {
        <<C::Seated as Seated>::Plugin as SelfTest>::run()
    }
}

impl<C: Component> hand_off::Guest for C
where
    <C::Seated as Seated>::Plugin: HandOff,
{
    fn save_state() -> Vec<u8> {
        C::seat(|seat| {
            seat.as_mut()
                .map(|seated| seated.plugin().save())
                .unwrap_or_default()
        })
    }

    fn restore_state(state: Vec<u8>) -> Result<(), Fault> {
        C::call(|seated| seated.plugin().restore(&state))
    }
}
