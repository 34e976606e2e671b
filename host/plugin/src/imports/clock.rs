//! `capstan:plugin/clock`: the host's time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::plugin::capstan::plugin::clock::Host;
use crate::state::State;

impl Host for State {
    fn now_ms(&mut self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}
