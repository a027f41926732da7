//! Signals are the host's: no thread of the library's takes one.

use std::{mem, ptr};

use libc::{SIG_SETMASK, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, c_int, pthread_sigmask, sigset_t};

/// What a fault raises in the thread at fault. Blocked, it would end the process without the host's crash handler.
const FAULTS: [c_int; 6] = [SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP];

/// While it exists, the calling thread, and from their first instruction on the threads that it starts, block all other
/// signals.
pub struct Blocked {
    before: sigset_t,
}

impl Blocked {
    pub fn new() -> Self {
        // SAFETY: a set of signals is plain numbers, and these functions fill in what they are given.
        unsafe {
            let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
            libc::sigfillset(&raw mut all);
            for fault in FAULTS {
                libc::sigdelset(&raw mut all, fault);
            }
            pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `new` has filled in the set.
        unsafe { pthread_sigmask(SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
