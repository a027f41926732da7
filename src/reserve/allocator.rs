//! The library's allocator: the system's, and where that has no memory the thread's reserve.
//!
//! It is that of the library's Rust code alone: the host's `malloc` is not touched. As long as the system has memory it
//! costs one comparison an allocation, and one load when a block is freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use super::arena;
use super::{REFUGE, Refuge};

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// From the system, unless a test says that it has nothing.
#[cfg(feature = "fault-injection")]
macro_rules! of_system {
    ($event:ident($($size:expr),*), $call:expr) => {
        if super::watch::allows(super::watch::Event::$event($($size),*)) { $call } else { ptr::null_mut() }
    };
}
#[cfg(not(feature = "fault-injection"))]
macro_rules! of_system {
    ($event:ident($($size:expr),*), $call:expr) => {
        $call
    };
}

/// What the system refused.
#[cold]
fn rescue(layout: Layout) -> *mut u8 {
    match REFUGE.get() {
        // SAFETY: who enters an arena owns it, and leaves it before the owner is gone.
        Refuge::Arena(arena) => unsafe { arena::allocate(arena, layout) },
        Refuge::Nowhere => ptr::null_mut(),
    }
}

// SAFETY: blocks come from the system or from an arena, whose blocks do not overlap, and go back to where they came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = of_system!(Allocated(layout.size()), unsafe { System.alloc(layout) });
        if block.is_null() { rescue(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = of_system!(Allocated(layout.size()), unsafe { System.alloc_zeroed(layout) });
        if !block.is_null() {
            return block;
        }
        let block = rescue(layout);
        if !block.is_null() {
            // SAFETY: it has so many bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let in_arena = arena::holds(block);
        if in_arena {
            // SAFETY: the caller's promise.
            if unsafe { arena::resize(block, layout.size(), size) } {
                return block;
            }
        } else {
            // SAFETY: the caller's promise.
            let moved = of_system!(Moved(layout.size(), size), unsafe { System.realloc(block, layout, size) });
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller promises a valid size and alignment, and the old block, which is freed once.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            let moved = if in_arena { self.alloc(new) } else { rescue(new) };
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        #[cfg(feature = "fault-injection")]
        super::watch::allows(super::watch::Event::Freed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe {
            if !arena::free(block, layout.size()) {
                System.dealloc(block, layout);
            }
        }
    }
}
