//! Bounds how deep a decoded value may be nested, so that damaged bytes cannot use up the stack.

use std::cell::Cell;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The wire's own bound for clients is below it.
const DEPTH_MAX: usize = 128;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Leaves a level when dropped.
struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

/// For `deserialize_with` where a type contains itself.
pub(crate) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let depth = DEPTH.get();
    if depth >= DEPTH_MAX {
        return Err(D::Error::custom("nested too deep"));
    }
    DEPTH.set(depth + 1);
    let _level = Level;
    T::deserialize(deserializer)
}
