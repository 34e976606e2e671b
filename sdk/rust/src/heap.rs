//! The guest's heap: the standard library's allocator, but it begins in memory that a component has from its start.
//!
//! An admission policy's instances are used once. One that grows its memory makes the host change what may be reached
//! of it, when it grows and again when its place is given to the next: two system calls and an interrupt of the other
//! processors, together dearer than the call itself. Feature `heap`, on by default; without it an author chooses.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::{Cell, UnsafeCell};
use core::ptr;

use dlmalloc::{Allocator, Dlmalloc};

/// Bytes of the heap that are there from the start; most decisions need a tenth of it.
const BEGINNING_BYTES: usize = 128 << 10;
const PAGE_BYTES: usize = 64 << 10;

#[repr(align(16))]
struct Beginning(UnsafeCell<[u8; BEGINNING_BYTES]>);

/// The beginning, once, and then what the memory grows by.
struct Regions {
    is_begun: Cell<bool>,
}

struct Heap(UnsafeCell<Dlmalloc<Regions>>);

// SAFETY: A component of these worlds has one thread; there is no feature `atomics`.
unsafe impl Sync for Beginning {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

static BEGINNING: Beginning = Beginning(UnsafeCell::new([0; BEGINNING_BYTES]));

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Regions {
    is_begun: Cell::new(false),
})));

// SAFETY: A region is handed out once, is as large as told, and holds zeros: a static that nobody else names, or
// pages that were not there before.
unsafe impl Allocator for Regions {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= BEGINNING_BYTES && !self.is_begun.replace(true) {
            return (BEGINNING.0.get().cast(), BEGINNING_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        let before = memory_grow::<0>(pages);
        if before == usize::MAX {
            return (ptr::null_mut(), 0, 0);
        }
        let (base, size) = (before * PAGE_BYTES, pages * PAGE_BYTES);
        // The last byte of all must not be part of a region: its end would be address 0.
        let size = if base.wrapping_add(size) == 0 {
            size - 16
        } else {
            size
        };
        (base as *mut u8, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

// SAFETY: Each call is the allocator's own of that name, with the arguments that this trait's caller answers for; with
// one thread no two are within it at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(place, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(place, layout.size(), layout.align(), size) }
    }
}
