//! The process's allocator: mimalloc, because what one thread of the store or the API server allocates another
//! frees, which is what it is quick at. Its one setting is made here, before the first thread starts: freed pages go back to the system
//! after milliseconds and not after a second, so that an idle cluster is as small as it can be.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3's `mi_option_e`, which the bindings have no name for.
const PURGE_DELAY: mi_option_t = 15;
/// Milliseconds until a freed page goes back.
const PURGE_AFTER_MS: i64 = 10;

/// Makes the setting. Called once, first of all.
#[allow(unsafe_code)]
pub(crate) fn settle() {
    // SAFETY: it stores a number in a table of the allocator's own; the option exists since its version 2.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_AFTER_MS) }
}
