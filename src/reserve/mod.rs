//! Memory set aside for allocations that must not fail.
//!
//! Rust's collections end the process where there is no memory, and a library must not. So whoever is about to allocate
//! takes a reserve first, as large as the work can need at most: `with` fails where there is no memory for it, and
//! nothing has happened then. During the work the library's allocator (`allocator.rs`) serves from the reserve what the
//! system refuses. What is still allocated when the work is done keeps its reserve (`arena.rs`).
//!
//! What is proportional to the number of parameters is not in a reserve: it is asked for in `fallible`.
//!
//! A program in Rust that has an allocator of its own turns the feature `allocator` off. Where memory runs out it ends, as
//! programs in Rust do.
#![allow(unsafe_code, reason = "an allocator; each block says whose promise it relies on")]

#[cfg(feature = "allocator")]
mod allocator;
mod arena;
#[cfg(all(feature = "allocator", feature = "fault-injection"))]
pub mod watch;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use self::arena::{Arena, Owned};
use crate::error::{Error, Result};

/// Where this thread's allocations go that the system refuses.
#[derive(Clone, Copy)]
enum Refuge {
    /// Into this arena, or those around it. NULL: into the process's.
    Arena(*const Arena),
    /// Nowhere: the caller has asked whether there is memory.
    Nowhere,
}

thread_local! {
    static REFUGE: Cell<Refuge> = const { Cell::new(Refuge::Arena(ptr::null())) };
}

/// Puts back what was there before.
pub(crate) struct Entered<'a> {
    before: Refuge,
    reserve: PhantomData<&'a Reserve>,
}

fn enter<'a>(refuge: Refuge) -> Entered<'a> {
    Entered { before: REFUGE.replace(refuge), reserve: PhantomData }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        REFUGE.set(self.before);
    }
}

/// Work that allocates `bytes` bytes at most, those that it frees included.
///
/// # Errors
/// [`Error::OutOfMemory`]: the work was not begun.
pub(crate) fn with<T>(bytes: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !cfg!(feature = "allocator") {
        return work();
    }
    let around = match REFUGE.get() {
        Refuge::Arena(arena) => arena,
        Refuge::Nowhere => ptr::null(),
    };
    let arena = Owned::new(bytes, around).ok_or(Error::OutOfMemory)?;
    // Dropped before the arena.
    let _entered = enter(Refuge::Arena(arena.get()));
    work()
}

/// An allocation that may fail, and takes nothing from a reserve.
pub(crate) fn fallible<T>(allocation: impl FnOnce() -> T) -> T {
    let _entered = enter(Refuge::Nowhere);
    allocation()
}

/// Until the answer is dropped, allocations stay for as long as the process and belong to no call.
pub(crate) fn for_the_process() -> Entered<'static> {
    enter(Refuge::Arena(ptr::null()))
}

/// A reserve that stays: whoever owns one works with it at no cost.
pub(crate) struct Reserve(Owned);

impl Reserve {
    /// Of so many bytes for a call.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(bytes: usize) -> Result<Self> {
        // Twice: while half of it is in use, by errors that the host keeps, there is enough for another call.
        let bytes = if cfg!(feature = "allocator") { bytes.saturating_mul(2) } else { 0 };
        Owned::new(bytes, ptr::null()).map(Self).ok_or(Error::OutOfMemory)
    }

    /// Makes sure that it has so many bytes for a call.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]: it is too small or in use, and there is no memory for another.
    pub fn refill(&mut self, bytes: usize) -> Result<()> {
        if cfg!(feature = "allocator") && self.0.size() - self.0.used() < bytes {
            *self = Self::new(bytes)?;
        }
        Ok(())
    }

    /// Until the answer is dropped, this thread's allocations go here where the system has no memory.
    pub fn enter(&self) -> Entered<'_> {
        enter(Refuge::Arena(self.0.get()))
    }
}

/// So many defaults.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn defaults<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    fallible(|| values.try_reserve_exact(count))?;
    values.resize(count, T::default());
    Ok(values)
}

/// `count` times `bytes`, as a part of what a reserve must have.
pub(crate) fn times(count: usize, bytes: usize) -> usize {
    count.saturating_mul(bytes)
}

/// The sum of such parts. Nobody has as much memory as where it stops growing.
pub(crate) fn sum<const N: usize>(parts: [usize; N]) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}
