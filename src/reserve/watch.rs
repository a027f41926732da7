//! For the library's own tests: they see every allocation and may refuse it.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::{REFUGE, Refuge};

/// What the allocator was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A block of this size.
    Allocated(usize),
    /// Another size for a block: old and new.
    Moved(usize, usize),
    /// A block of this size is freed.
    Freed(usize),
    /// A reserve of this size.
    Reserve(usize),
    /// A reserve goes back.
    Returned {
        /// Its size.
        size: usize,
        /// The most that was ever in use.
        used: usize,
    },
}

/// Sees an event on the thread on which it happens, and says whether the system shall have memory for it. It must not
/// allocate.
pub type Watcher = fn(Event) -> bool;

static WATCHER: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// From now on this one sees every event of the process.
pub fn set(watcher: Watcher) {
    WATCHER.store(watcher as *mut (), Ordering::Release);
}

pub(super) fn allows(event: Event) -> bool {
    let watcher = WATCHER.load(Ordering::Acquire);
    // SAFETY: it is NULL or was a `Watcher`.
    watcher.is_null() || unsafe { std::mem::transmute::<*mut (), Watcher>(watcher) }(event)
}

/// Whether this thread's allocations go to a reserve where the system has no memory.
pub fn in_reserve() -> bool {
    matches!(REFUGE.get(), Refuge::Arena(arena) if !arena.is_null())
}
