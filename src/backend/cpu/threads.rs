//! Work on numbered items by a given number of threads: the caller's and those of a pool.
//!
//! The caller's thread begins at once; those of the pool take part when they have woken, which takes longer than a small
//! pass.
//!
//! After `fork` the child has the pool's memory without its threads, and would wait for them for ever. There the caller's
//! thread does the work, and the pool is not touched.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pool::Pool;
use super::process::generation;

/// A handle's threads. The host's own pools are never touched.
pub struct Threads {
    /// All threads but the caller's; shared with the other handles that asked for as many.
    pool: Option<ManuallyDrop<Arc<Pool>>>,
    /// Of the process that has the pool's threads.
    generation: u64,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads", self.count())
    }
}

impl Threads {
    /// `count` threads, or as many of them as the system allows.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let pool = (count > 1).then(|| ManuallyDrop::new(Pool::shared(count - 1)));
        Self { pool, generation: generation() }
    }

    /// How many work on a pass, the caller's included.
    pub fn count(&self) -> usize {
        1 + self.pool().map_or(0, Pool::len)
    }

    /// How many were asked for.
    pub fn wanted(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, |pool| pool.wanted())
    }

    /// What is to be told of threads that the system refused.
    pub fn refusal(&self) -> Option<String> {
        let pool = self.pool()?;
        let why = pool.refusal()?;
        Some(format!(
            "the system refused threads ({why}): steps use {} of the {} threads wanted",
            self.count(),
            pool.wanted() + 1
        ))
    }

    /// The pool, where it has threads.
    fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref().filter(|_| self.generation == generation()).map(|pool| &***pool)
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
                let shares: Vec<Share> = (0..count).map(|i| Share::new(boundary(i)..boundary(i + 1))).collect();
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
                pool.run(|| take_part(0), &|thread| take_part(1 + thread));
            }
            _ => items.for_each(work),
        }
    }
}

/// What is left of a thread's items, in a cache line of its own: the first in the lower half, the end in the upper. No lock,
/// which a thread could hold while another one forks.
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn new(items: Range<usize>) -> Self {
        let half = |index: usize| u64::from(u32::try_from(index).expect("more chunks than any memory has"));
        Self(AtomicU64::new(half(items.start) | half(items.end) << 32))
    }

    fn first(&self) -> Option<usize> {
        self.take(|Range { start, end }| (start, start + 1..end))
    }

    fn last(&self) -> Option<usize> {
        self.take(|Range { start, end }| (end - 1, start..end - 1))
    }

    /// Takes an item out of what is left: `choose` says which, and what is left then.
    fn take(&self, choose: impl Fn(Range<u32>) -> (u32, Range<u32>)) -> Option<usize> {
        let unpack = |packed: u64| packed as u32..(packed >> 32) as u32;
        // Who takes an item is all that is decided here: what is written for it is handed over with the pass.
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let left = unpack(packed);
            (!left.is_empty()).then(|| {
                let (_, Range { start, end }) = choose(left);
                u64::from(start) | u64::from(end) << 32
            })
        });
        before.ok().map(|packed| choose(unpack(packed)).0 as usize)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // In a child the pool is left as it is: a thread may have held its locks at the time of the fork.
        if let Some(pool) = self.pool.take()
            && self.generation == generation()
        {
            ManuallyDrop::into_inner(pool).release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Barrier, Mutex};
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
    fn a_panic_of_any_thread_reaches_the_caller_and_the_threads_live_on() {
        let threads = Threads::new(3);
        for bad in 0..30 {
            let panics = || threads.run(0..30, 30, |i| assert_ne!(i, bad));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).expect_err("a panic");
        }
        let done = AtomicUsize::new(0);
        threads.run(0..30, 30, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 30);
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
                    let mut first = first.lock().expect("no panics");
                    let begins = first.iter().all(|(thread, _)| *thread != me);
                    first.extend(begins.then_some((me, i)));
                    begins
                };
                if begins {
                    all_there.wait();
                }
            });
            let mut first = first.into_inner().expect("no panics");
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
