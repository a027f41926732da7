//! Threads that wait for work, and the table of those that exist: one pool per process and number of threads.
//!
//! A pass is open from its caller's first item to its last. Every thread of the pool that is idle meanwhile takes part in it,
//! and in the one with the fewest threads where several callers have passes open. A caller waits only for the threads that
//! did take part, and begins without them: so callers share the threads, and never wait for each other.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, ptr};

use super::process::generation;
use super::signals::Blocked;
use crate::backend::sync::{Condvar, Mutex};
use crate::reserve;

/// Prefix of the names of the pools' threads.
const THREAD_NAME: &str = "metaadamw-";

/// How long a thread spins before it sleeps, a caller that waits for its pass's end and an idle one that waits for the next
/// pass: about an item's time, less than falling asleep and waking.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// The pools of this process.
static POOLS: Mutex<Vec<Arc<Pool>>> = Mutex::new(Vec::new());

/// Some threads. They end with it.
pub struct Pool {
    /// Threads that were asked for.
    wanted: usize,
    threads: Vec<Thread>,
    /// Why there are fewer.
    refusal: Option<String>,
    shared: Arc<Shared>,
}

/// What a pool's threads and callers see.
struct Shared {
    open: Mutex<Open>,
    /// A pass was opened, or the pool ends.
    opened: Condvar,
    /// A pass has no thread of the pool any more.
    left: Condvar,
    /// Passes that were opened so far.
    passes: AtomicUsize,
}

struct Open {
    passes: Vec<PassPointer>,
    ends: bool,
}

/// Work that as many threads as are idle take part in.
struct Pass<'a> {
    /// Called with the number of the thread. It returns when nothing is left to be begun.
    take_part: &'a (dyn Fn(usize) + Sync),
    /// Threads of the pool that are in it. Changed with [`Shared::open`] locked.
    inside: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A pass of any lifetime. It is in [`Open::passes`], or has a thread inside, only while its caller is in [`Pool::run`].
#[derive(Clone, Copy, PartialEq)]
struct PassPointer(*const Pass<'static>);

// SAFETY: all of a pass may be used from any thread.
unsafe impl Send for PassPointer {}

impl PassPointer {
    /// # Safety
    /// The pass is open or the calling thread is inside.
    unsafe fn get<'a>(self) -> &'a Pass<'a> {
        // SAFETY: its caller waits in `Pool::run` until it is closed and nobody is inside.
        unsafe { &*self.0 }
    }
}

impl Shared {
    /// What thread number `thread` does as long as it lives.
    fn work(&self, thread: usize) {
        let mut open = self.open.lock();
        loop {
            // SAFETY: passes in the list are open.
            let inside = |pass: &&PassPointer| unsafe { pass.get() }.inside.load(Ordering::Relaxed);
            if let Some(&pointer) = open.passes.iter().min_by_key(inside) {
                // SAFETY: it is open, and from here on this thread is inside.
                let pass = unsafe { pointer.get() };
                pass.inside.fetch_add(1, Ordering::Relaxed);
                drop(open);
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (pass.take_part)(thread))) {
                    *pass.panic.lock() = Some(payload);
                }
                open = self.open.lock();
                open.close(pointer);
                if pass.inside.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.left.notify_all();
                }
            } else if open.ends {
                return;
            } else {
                let seen = self.passes.load(Ordering::Relaxed);
                drop(open);
                spin_while(|| self.passes.load(Ordering::Relaxed) == seen);
                open = self.open.lock();
                while open.passes.is_empty() && !open.ends {
                    self.opened.wait(&mut open);
                }
            }
        }
    }
}

impl Open {
    /// Nobody enters the pass any more.
    fn close(&mut self, pass: PassPointer) {
        self.passes.retain(|other| *other != pass);
    }
}

fn spin_while(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while condition() && start.elapsed() < SPIN_TIME {
        std::hint::spin_loop();
    }
}

thread_local! {
    static IS_OF_A_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is of a pool.
pub fn is_pool_thread() -> bool {
    IS_OF_A_POOL.get()
}

/// A thread of a pool. Not one of std's, which ends the process where there is no memory for its handle.
struct Thread(libc::pthread_t);

/// What a thread begins with.
struct Beginning {
    number: usize,
    name: CString,
    shared: Arc<Shared>,
}

impl Thread {
    fn start(number: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let name = CString::new(format!("{THREAD_NAME}{number}")).expect("no NUL");
        let argument = Box::into_raw(Box::new(Beginning { number, name, shared }));
        let mut thread = 0 as libc::pthread_t;
        // SAFETY: the default attributes; `begin` takes the argument, which nobody else uses.
        let status = unsafe { libc::pthread_create(&raw mut thread, ptr::null(), begin, argument.cast()) };
        if status == 0 {
            return Ok(Self(thread));
        }
        // SAFETY: it came from `Box::into_raw`, and there is no thread that has taken it.
        drop(unsafe { Box::from_raw(argument) });
        Err(io::Error::from_raw_os_error(status))
    }

    /// Waits for its end.
    fn join(self) {
        // SAFETY: it was started, and this is the only place that joins it.
        let status = unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
        assert_eq!(status, 0, "no thread joins itself");
    }
}

extern "C" fn begin(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::start` made it for this thread alone.
    let Beginning { number, name, shared } = *unsafe { Box::from_raw(argument.cast()) };
    // SAFETY: the calling thread exists; the name ends with a NUL. One that is too long is refused, which does no harm.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), name.as_ptr())
    };
    // SAFETY: as above; there only the calling thread can be named.
    #[cfg(target_os = "macos")]
    unsafe {
        libc::pthread_setname_np(name.as_ptr())
    };
    drop(name);
    IS_OF_A_POOL.set(true);
    shared.work(number);
    ptr::null_mut()
}

impl Pool {
    /// The pool of this process with `wanted` threads, or with as many as the system allows.
    pub fn shared(wanted: usize) -> Arc<Self> {
        generation(); // a fork from here on is noticed
        let _reserve = reserve::for_the_process(); // the table outlives the call
        let mut pools = POOLS.lock();
        if let Some(pool) = pools.iter().find(|pool| pool.wanted == wanted) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Self::start(wanted));
        pools.push(Arc::clone(&pool));
        pool
    }

    /// Gives one of [`Self::shared`] back. The last one ends the threads and joins them.
    pub fn release(self: Arc<Self>) {
        let mut pools = POOLS.lock();
        let at = pools.iter().position(|pool| Arc::ptr_eq(pool, &self)).expect("it is there as long as it is used");
        drop(self);
        // Counts of users change with the table locked, which has one itself.
        let unused = (Arc::strong_count(&pools[at]) == 1).then(|| pools.swap_remove(at));
        drop(pools);
        drop(unused);
    }

    fn start(wanted: usize) -> Self {
        let shared = Arc::new(Shared {
            open: Mutex::new(Open { passes: Vec::new(), ends: false }),
            opened: Condvar::new(),
            left: Condvar::new(),
            passes: AtomicUsize::new(0),
        });
        let _signals = Blocked::new();
        let (mut threads, mut refusal) = (Vec::with_capacity(wanted), None);
        while threads.len() < wanted && refusal.is_none() {
            match Thread::start(threads.len(), Arc::clone(&shared)) {
                Ok(thread) => threads.push(thread),
                Err(error) => refusal = Some(error.to_string()),
            }
        }
        Self { wanted, threads, refusal, shared }
    }

    /// Its threads.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Threads that were asked for.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Why there are fewer than were asked for, if there are.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Calls `caller` here and, until it returns, `take_part` on each thread of the pool that is idle, with its number. Both
    /// return when nothing is left to be begun, and this function when nobody works any more.
    ///
    /// # Panics
    /// If one of them did.
    pub fn run(&self, caller: impl FnOnce(), take_part: &(dyn Fn(usize) + Sync)) {
        let pass = Pass { take_part, inside: AtomicUsize::new(0), panic: Mutex::new(None) };
        let opened = Opened::new(&self.shared, &pass);
        caller();
        drop(opened);
        if let Some(payload) = pass.panic.lock().take() {
            resume_unwind(payload);
        }
    }
}

/// A pass that is open. Dropping it, also in a panic of the caller's, closes it and waits for those inside.
struct Opened<'a> {
    shared: &'a Shared,
    pass: &'a Pass<'a>,
    pointer: PassPointer,
}

impl<'a> Opened<'a> {
    fn new(shared: &'a Shared, pass: &'a Pass<'a>) -> Self {
        let pointer = PassPointer(std::ptr::from_ref(pass).cast());
        shared.open.lock().passes.push(pointer);
        shared.passes.fetch_add(1, Ordering::Relaxed);
        shared.opened.notify_all();
        Self { shared, pass, pointer }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.shared.open.lock().close(self.pointer);
        let inside = || self.pass.inside.load(Ordering::Relaxed) > 0;
        spin_while(inside);
        // Also when nobody is inside: the last one may still hold the mutex, by which its work is handed over.
        let mut open = self.shared.open.lock();
        while inside() {
            self.shared.left.wait(&mut open);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.open.lock().ends = true;
        self.shared.opened.notify_all();
        for thread in self.threads.drain(..) {
            thread.join();
        }
    }
}

/// A forked process has none of the threads, and their locks may be held for ever: it begins without pools.
///
/// # Safety
/// Called in the child, by the thread that forked.
pub unsafe fn forget_pools() {
    // SAFETY: the child's only thread is not in this file.
    unsafe { POOLS.renew(Vec::new()) };
}
