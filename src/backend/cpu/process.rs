//! Which process this is, for memory that `fork` copies.
//!
//! Not the process's number: the first process of two PID namespaces has the same, and one of them may be the other's child.
#![allow(unsafe_code, reason = "registers a handler of fork")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::pool::forget_pools;

/// Forks that lie between this process and the one that loaded the library.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Another number in a child than in its parent. Who remembers it can tell later whether a fork came between.
pub fn generation() -> u64 {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler is a function of the library's that only writes to memory, which any child may do.
        // Without memory for the entry a child counts as its parent, as before any call.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    // SAFETY: this is the child, and the thread that forked.
    unsafe { forget_pools() };
}
