//! One revision's code, ready to be instantiated: linked against its grants, with its configuration.
//!
//! Shared by all seats and instances of the revision. Instances come out of [`Program::start`] described
//! and configured. Called by `revision` and the bridges.

use std::sync::Arc;

use capstan_points::{Fault, FaultKind};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use crate::bindings::plugin::exports::capstan::plugin::{guest, hand_off, self_test};
use crate::error::LoadError;
use crate::inspect::Surface;
use crate::live::{Live, reported};
use crate::state::{Context, State};
use crate::ticker::Ticker;

pub(crate) use guest::Description;

pub(crate) struct Program {
    engine: Engine,
    ticker: Arc<Ticker>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) surface: Surface,
    pub(crate) context: Arc<Context>,
    guest: guest::GuestIndices,
    hand_off: Option<hand_off::GuestIndices>,
    self_test: Option<self_test::GuestIndices>,
    config: String,
}

impl Program {
    pub(crate) fn link(
        engine: &Engine,
        ticker: &Arc<Ticker>,
        component: &Component,
        surface: Surface,
        context: Arc<Context>,
    ) -> Result<Self, LoadError> {
        let link = |error: wasmtime::Error| LoadError::Link(crate::cache::chain(&error));
        let linker = crate::imports::linker(engine, &context.grants).map_err(link)?;
        let pre = linker.instantiate_pre(component).map_err(link)?;
        let guest = guest::GuestIndices::new(&pre).map_err(link)?;
        let hand_off = surface
            .exports("plugin/hand-off")
            .then(|| hand_off::GuestIndices::new(&pre));
        let self_test = surface
            .exports("plugin/self-test")
            .then(|| self_test::GuestIndices::new(&pre));
        Ok(Self {
            engine: engine.clone(),
            ticker: Arc::clone(ticker),
            guest,
            hand_off: hand_off.transpose().map_err(link)?,
            self_test: self_test.transpose().map_err(link)?,
            pre,
            surface,
            context,
            config: "{}".into(),
        })
    }

    /// Sets what instances are configured with from now on.
    pub(crate) fn set_config(&mut self, config: String) {
        self.config = config;
    }

    /// What the plugin says of itself.
    pub(crate) fn describe(&self) -> Result<Description, Fault> {
        Ok(self.described()?.2)
    }

    fn described(&self) -> Result<(Live, guest::Guest, Description), Fault> {
        let mut live = Live::instantiate(&self.engine, &self.ticker, &self.pre, Arc::clone(&self.context))?;
        let instance = live.instance;
        let guest = live.initialize(|store| self.guest.load(store, &instance))?;
        let description = live.initialize(|store| guest.call_describe(store))?;
        Ok((live, guest, description))
    }

    /// A fresh instance, described and configured.
    pub(crate) fn start(&self) -> Result<Live, Fault> {
        let (mut live, guest, _) = self.described()?;
        live.initialize(|store| guest.call_configure(store, &self.config))
            .and_then(reported)?;
        Ok(live)
    }

    /// Runs the plugin's own checks in an instance of their own; none when it has none.
    pub(crate) fn self_test(&self) -> Result<Option<u32>, Fault> {
        let Some(indices) = &self.self_test else {
            return Ok(None);
        };
        let mut live = self.start()?;
        let instance = live.instance;
        let tests = live.initialize(|store| indices.load(store, &instance))?;
        live.initialize(|store| tests.call_run(store))
            .and_then(reported)
            .map(Some)
    }

    /// The state of a running instance, if the plugin hands it over.
    pub(crate) fn save_state(&self, live: &mut Live) -> Result<Option<Vec<u8>>, Fault> {
        let Some(indices) = &self.hand_off else {
            return Ok(None);
        };
        let instance = live.instance;
        let guest = live.initialize(|store| indices.load(store, &instance))?;
        let state = live.initialize(|store| guest.call_save_state(store))?;
        if state.len() > STATE_BYTES_MAX {
            let message = format!("its state has {} bytes, more than {STATE_BYTES_MAX}", state.len());
            return Err(Fault::new(FaultKind::Garbage, message));
        }
        Ok(Some(state))
    }

    /// Gives a fresh instance the state of the revision before it.
    pub(crate) fn restore_state(&self, live: &mut Live, state: &[u8]) -> Result<(), Fault> {
        let Some(indices) = &self.hand_off else {
            return Ok(());
        };
        let instance = live.instance;
        let guest = live.initialize(|store| indices.load(store, &instance))?;
        live.initialize(|store| guest.call_restore_state(store, state))
            .and_then(reported)
    }
}

/// Bytes of a state that is handed over.
const STATE_BYTES_MAX: usize = 1 << 20;
