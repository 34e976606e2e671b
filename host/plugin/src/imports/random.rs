//! `capstan:plugin/random`: numbers from the host's generator. Not for secrets.

use crate::bindings::plugin::capstan::plugin::random::Host;
use crate::state::State;

impl Host for State {
    fn next(&mut self) -> u64 {
        fastrand::u64(..)
    }
}
