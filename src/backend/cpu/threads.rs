//! Work on numbered items by a given number of threads: the caller's and those of the handle's own pool.
//!
//! The caller's thread begins at once; those of the pool take part when they have woken, which takes longer than a small
//! pass.
//!
//! After `fork` the child has the pool's memory without its threads, and would wait for them for ever. There the caller's
//! thread does the work, and the pool is not touched.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::process::generation;

/// Prefix of the names of the pools' threads.
pub const THREAD_NAME: &str = "metaadamw-";

/// How long the caller's thread spins until the others are done before it sleeps: about an item's time, less than falling
/// asleep and waking.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// A handle's threads. The host's own pools are never touched.
pub struct Threads {
    /// All threads but the caller's.
    pool: Option<rayon::ThreadPool>,
    /// Of the process that started the pool, the only one in which it has threads.
    generation: u64,
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
        Self { pool, generation: generation() }
    }

    fn count(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, rayon::ThreadPool::current_num_threads)
    }

    /// The pool, where it has threads.
    fn pool(&self) -> Option<&rayon::ThreadPool> {
        self.pool.as_ref().filter(|_| self.generation == generation())
    }

    /// Calls `work` with every item of `items`, in any order. One fork and one join, whatever the number of items.
    ///
    /// Each thread has a share of the items 0 to `all`, the same in every call, so that it finds in its caches what it left
    /// there. A thread that has finished its share takes items from the ends of the others'.
    pub fn run(&self, items: Range<usize>, all: usize, work: impl Fn(usize) + Sync) {
        match self.pool() {
            Some(pool) if items.len() > 1 => {
                let count = self.count();
                let boundary = |thread: usize| (all * thread / count).clamp(items.start, items.end);
                let shares: Vec<Share> = (0..count).map(|i| Share(Mutex::new(boundary(i)..boundary(i + 1)))).collect();
                let working = AtomicUsize::new(count - 1);
                let take_part = |thread: usize| {
                    let (before, from) = shares.split_at(thread);
                    let (own, after) = from.split_first().expect("a share for each thread");
                    while let Some(item) = own.first() {
                        work(item);
                    }
                    for other in after.iter().chain(before) {
                        while let Some(item) = other.last() {
                            work(item);
                        }
                    }
                };
                pool.in_place_scope(|scope| {
                    scope.spawn_broadcast(|_, context| {
                        take_part(1 + context.index());
                        working.fetch_sub(1, Ordering::Relaxed);
                    });
                    take_part(0);
                    let start = Instant::now();
                    while working.load(Ordering::Relaxed) > 0 && start.elapsed() < SPIN_TIME {
                        std::hint::spin_loop();
                    }
                });
            }
            _ => items.for_each(work),
        }
    }
}

/// What is left of a thread's items, in a cache line of its own.
#[repr(align(128))]
struct Share(Mutex<Range<usize>>);

impl Share {
    fn first(&self) -> Option<usize> {
        self.0.lock().next()
    }

    fn last(&self) -> Option<usize> {
        self.0.lock().next_back()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if self.pool().is_none() {
            // Dropping a pool takes its locks, which a thread may have held at the time of the fork.
            std::mem::forget(self.pool.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn every_item_is_worked_on_once_whatever_the_range_and_the_number_of_threads() {
        for count in [1, 2, 3, 7] {
            let threads = Threads::new(count);
            for (items, all) in
                [(0..0, 0), (0..1, 1), (0..100, 100), (3..5, 100), (90..100, 100), (0..5, 5), (40..41, 41)]
            {
                let done: Vec<AtomicUsize> = (0..all).map(|_| AtomicUsize::new(0)).collect();
                threads.run(items.clone(), all, |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                for (i, done) in done.iter().enumerate() {
                    let wanted = usize::from(items.contains(&i));
                    assert_eq!(done.load(Ordering::Relaxed), wanted, "{i} of {items:?}, {count} threads");
                }
            }
        }
    }

    #[test]
    fn a_thread_begins_where_it_began_in_the_last_pass() {
        const COUNT: usize = 4;
        let threads = Threads::new(COUNT);
        let first_items = || {
            let (first, all_there) = (Mutex::new(Vec::<(ThreadId, usize)>::new()), Barrier::new(COUNT));
            threads.run(0..100, 100, |i| {
                let me = std::thread::current().id();
                let begins = {
                    let mut first = first.lock();
                    let begins = first.iter().all(|(thread, _)| *thread != me);
                    first.extend(begins.then_some((me, i)));
                    begins
                };
                if begins {
                    all_there.wait();
                }
            });
            let mut first = first.into_inner();
            first.sort_by_key(|(_, item)| *item);
            first
        };
        let first = first_items();
        assert_eq!(first.iter().map(|(_, item)| *item).collect::<Vec<_>>(), [0, 25, 50, 75]);
        assert_eq!(first[0].0, std::thread::current().id());
        for _ in 0..20 {
            assert_eq!(first_items(), first);
        }
    }
}
