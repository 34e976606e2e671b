//! Gives back to the system what the allocator keeps for later.
//!
//! What a write allocates is freed by other threads than those that allocated it, so that the C library's allocator
//! is left with free pages throughout its heaps: after a load a third of the memory. It gives back the end of
//! a heap by itself, and the rest when it is told to. Called by the upkeep's thread, when it is calm.

#![allow(unsafe_code)]

/// Returns free pages. Takes some milliseconds, in which each heap in its turn is locked. Does nothing where the C
/// library does not offer it, and to no other allocator's memory.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the signature is malloc_trim(3)'s, which any thread may call with any number.
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}
