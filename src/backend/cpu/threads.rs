//! Work on numbered items by an explicit number of threads: the caller's, and the others in a pool of the handle's own.
//!
//! The caller's thread begins at once; those of the pool join in when they have woken, which takes a system longer than
//! a small pass takes.
//!
//! After `fork` the child has the pool's memory without its threads: to wait for them would be for ever. There the
//! caller's thread does the work, and the pool is left as it lies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the names of the pools' threads begin with.
pub const THREAD_NAME: &str = "metaadamw-";

/// So long the caller's thread looks whether the others are done before it sleeps: about an item's time, less than
/// falling asleep and waking.
const PATIENCE: Duration = Duration::from_micros(50);

/// A handle's threads. The host's own pools are never touched.
pub struct Threads {
    /// All threads but the caller's.
    pool: Option<rayon::ThreadPool>,
    /// The process that made the pool, the only one in which it has threads.
    process: u32,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads", self.count())
    }
}

impl Threads {
    /// `count` threads, 0 for the cores at hand. If the system refuses them, the caller's thread does the work.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let pool = (count > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(count - 1)
                    .thread_name(|i| format!("{THREAD_NAME}{i}"))
                    .build()
                    .ok()
            })
            .flatten();
        Self { pool, process: std::process::id() }
    }

    fn count(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, rayon::ThreadPool::current_num_threads)
    }

    /// The pool, where it has threads.
    fn pool(&self) -> Option<&rayon::ThreadPool> {
        self.pool.as_ref().filter(|_| self.process == std::process::id())
    }

    /// Calls `work(0) … work(items − 1)`, in any order. One fork and one join, whatever the number of items.
    pub fn run(&self, items: usize, work: impl Fn(usize) + Sync) {
        match self.pool() {
            Some(pool) if items > 1 => {
                let (next, working) = (AtomicUsize::new(0), AtomicUsize::new(pool.current_num_threads()));
                let take_part = || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= items {
                            break;
                        }
                        work(i);
                    }
                };
                pool.in_place_scope(|scope| {
                    scope.spawn_broadcast(|_, _| {
                        take_part();
                        working.fetch_sub(1, Ordering::Relaxed);
                    });
                    take_part();
                    let start = Instant::now();
                    while working.load(Ordering::Relaxed) > 0 && start.elapsed() < PATIENCE {
                        std::hint::spin_loop();
                    }
                });
            }
            _ => (0..items).for_each(work),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if self.pool().is_none() {
            // Ending a pool takes its locks, which a thread may have held at the time of the fork.
            std::mem::forget(self.pool.take());
        }
    }
}
