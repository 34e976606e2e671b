//! Makes sled's own syncs durable.
//!
//! sled asks for `sync_file_range` after each write, which brings no metadata and nothing of the disk's own cache
//! to the platter. It then notes in its file that what was written is stable; after a power loss that kept later
//! writes and not earlier ones, it believes the note, and cannot be opened. So here is a function of that name,
//! which the linker takes before the C library's: it is an `fdatasync`. Nothing else in this program calls it.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::fdatasync;

/// sled has called it.
static IS_IN_FORCE: AtomicBool = AtomicBool::new(false);

// SAFETY: the name and the signature are those of Linux' C libraries.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: c_int, at: i64, bytes: i64, _flags: c_uint) -> c_int {
    // SAFETY: as with the function that it stands in for, the caller has the file open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(file) };
    match fdatasync(descriptor) {
        Ok(()) => {
            IS_IN_FORCE.store(true, Ordering::Release);
            #[cfg(test)]
            super::power_loss::wrote_by(file, at, bytes);
            let _ = (at, bytes);
            0
        }
        Err(error) => {
            error.set();
            -1
        }
    }
}

/// Whether what sled has written until now is on disk. Without it the caller must sync, and a power loss in the
/// middle of a large write is a danger.
pub(super) fn is_in_force() -> bool {
    // Named here, so that the linker has it before it looks for the C library's.
    std::hint::black_box(sync_file_range as extern "C" fn(c_int, i64, i64, c_uint) -> c_int);
    IS_IN_FORCE.load(Ordering::Acquire)
}
