//! Every call on a handle: it refuses NULL, freed, busy and poisoned handles, and catches panics.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::{clear, fail, maw_error};
use super::types::{MAW_OK, maw_status};
use crate::backend::cpu::{generation, is_pool_thread};
use crate::backend::sync::Mutex;
use crate::error::{Error, Result};
use crate::numeric::float_mode;
use crate::optimizer::Optimizer;
use crate::reserve::{Reserve, fallible, for_the_process};

/// An optimizer. Opaque: created by `maw_optimizer_create`, freed by `maw_optimizer_free`.
///
/// It may be used from any thread, by one call at a time: a second call meanwhile returns `MAW_BUSY` at once and does
/// nothing. Different optimizers are independent.
pub struct maw_optimizer {
    /// Catches most uses after free.
    magic: AtomicU64,
    poisoned: AtomicBool,
    /// [`NOBODY`], or one more than the generation of the process whose thread is inside.
    inside: AtomicU64,
    #[cfg(feature = "fault-injection")]
    panic_next: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    optimizer: Optimizer,
    /// For what a call allocates while the system has no memory.
    reserve: Reserve,
}

const ALIVE: u64 = u64::from_ne_bytes(*b"MetaAdmW");
const NOBODY: u64 = 0;
const FREED: u64 = u64::from_ne_bytes(*b"freed---");

impl maw_optimizer {
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn boxed(optimizer: Optimizer) -> Result<*mut Self> {
        let reserve = Reserve::new(optimizer.memory_of_a_call())?;
        Ok(Box::into_raw(Box::new(Self {
            magic: AtomicU64::new(ALIVE),
            poisoned: AtomicBool::new(false),
            inside: AtomicU64::new(NOBODY),
            #[cfg(feature = "fault-injection")]
            panic_next: AtomicBool::new(false),
            inner: Mutex::new(Inner { optimizer, reserve }),
        })))
    }

    /// Makes the calling thread the one that is inside, until the answer is dropped.
    fn enter(&self) -> Result<Entry<'_>> {
        let me = generation() + 1;
        match self.inside.compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Entry(&self.inside)),
            Err(other) if other == me => Err(Error::Busy),
            // Of a thread that was not copied into this process: it will never leave.
            Err(_) => Err(Error::Forked),
        }
    }

    fn run<T>(&self, work: impl FnOnce(&mut Optimizer) -> Result<T>) -> Result<T> {
        let _entry = self.enter()?;
        let mut inner = self.inner.try_lock().ok_or(Error::Busy)?;
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        let Inner { optimizer, reserve } = &mut *inner;
        reserve.refill(optimizer.memory_of_a_call())?;
        let _reserve = reserve.enter();
        quietly(|| {
            #[cfg(feature = "fault-injection")]
            assert!(!self.panic_next.swap(false, Ordering::AcqRel), "injected by a test");
            work(optimizer)
        })
        .inspect_err(|error| {
            if matches!(error, Error::Panic { .. }) {
                self.poisoned.store(true, Ordering::Release);
            }
        })
    }
}

struct Entry<'a>(&'a AtomicU64);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::Release);
    }
}

/// The handle behind a pointer.
///
/// # Safety
/// `optimizer` is NULL, or was created and is not freed by another thread during the call.
unsafe fn live<'a>(optimizer: *const maw_optimizer) -> Result<&'a maw_optimizer> {
    if optimizer.is_null() {
        return Err(Error::Null { argument: "optimizer" });
    }
    // Only an aligned pointer may be read.
    if !optimizer.is_aligned() {
        return Err(Error::BadHandle { argument: "optimizer" });
    }
    // SAFETY: neither NULL nor misaligned; it was created, and no other thread frees it during the call.
    let handle = unsafe { &*optimizer };
    if handle.magic.load(Ordering::Acquire) == ALIVE {
        Ok(handle)
    } else {
        Err(Error::BadHandle { argument: "optimizer" })
    }
}

/// Runs a call on a handle and returns its status. `name`: the C function, for messages.
///
/// # Safety
/// `optimizer` as for [`live`]; `error` is NULL or valid for a write.
pub(super) unsafe fn call(
    name: &'static str,
    optimizer: *const maw_optimizer,
    error: *mut *mut maw_error,
    work: impl FnOnce(&mut Optimizer) -> Result<()>,
) -> maw_status {
    // SAFETY: `optimizer` is NULL or not freed during the call; `error` is NULL or valid for a write.
    unsafe {
        clear(error);
        match live(optimizer).and_then(|handle| handle.run(work)) {
            Ok(()) => MAW_OK,
            Err(e) => fail(name, error, &e),
        }
    }
}

/// As [`call`], after waiting for the device's work, so that getters are up to date.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn call_synced(
    name: &'static str,
    optimizer: *const maw_optimizer,
    error: *mut *mut maw_error,
    work: impl FnOnce(&mut Optimizer) -> Result<()>,
) -> maw_status {
    // SAFETY: `optimizer` is NULL or not freed during the call; `error` is NULL or valid for a write.
    unsafe {
        call(name, optimizer, error, |optimizer| {
            optimizer.sync()?;
            work(optimizer)
        })
    }
}

/// A query without an error object: `None` for NULL, busy and poisoned handles.
///
/// # Safety
/// As for [`live`].
pub(super) unsafe fn ask<T>(optimizer: *const maw_optimizer, work: impl FnOnce(&mut Optimizer) -> T) -> Option<T> {
    // SAFETY: `optimizer` is NULL or not freed during the call.
    unsafe { live(optimizer) }.and_then(|handle| handle.run(|optimizer| Ok(work(optimizer)))).ok()
}

/// Frees a handle, poisoned or not.
///
/// # Safety
/// As for [`live`]; the handle is not used afterwards.
pub(super) unsafe fn free(optimizer: *mut maw_optimizer) -> maw_status {
    if optimizer.is_null() {
        return MAW_OK;
    }
    // SAFETY: `optimizer` is NULL or not freed by another thread.
    let handle = match unsafe { live(optimizer) } {
        Ok(handle) => handle,
        Err(error) => return error.status() as maw_status,
    };
    match handle.enter() {
        Ok(_entry) => {
            // By this lock ThreadSanitizer sees that the last call, perhaps another thread's, was before.
            drop(handle.inner.lock());
            handle.magic.store(FREED, Ordering::Release);
        }
        Err(Error::Forked) => {
            // A call may have been half-way: nothing of it can be taken apart, only left.
            handle.magic.store(FREED, Ordering::Release);
            return MAW_OK;
        }
        Err(error) => return error.status() as maw_status,
    }
    // SAFETY: it came from `Box::into_raw` in `boxed`, no call is inside it, and none will come.
    let handle = unsafe { Box::from_raw(optimizer) };
    let Inner { optimizer, reserve } = handle.inner.into_inner();
    let _reserve = reserve.enter();
    match quietly(|| {
        drop(optimizer);
        Ok(())
    }) {
        Ok(()) => MAW_OK,
        Err(error) => error.status() as maw_status,
    }
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` in the default floating-point mode and turns a panic into an error, without printing it: the first call sets
/// a process-wide panic hook that passes all other panics on to the previous hook.
pub(super) fn quietly<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let _reserve = for_the_process();
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() && !is_pool_thread() {
                others(info);
            }
        }));
    });
    let before = INSIDE.replace(true);
    let outcome = float_mode::with_default(|| catch_unwind(AssertUnwindSafe(work)));
    INSIDE.set(before);
    outcome.unwrap_or_else(|payload| Err(Error::Panic { message: text(&*payload) }))
}

/// Runs a callback of the host's as if no call were under way: its allocations and panics are its own, and so are those of
/// calls that begin on this thread meanwhile and end after it, where the host's tasks share threads.
pub(super) fn as_host<T>(callback: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(false);
    let answer = fallible(callback);
    INSIDE.set(before);
    answer
}

fn text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Makes the next call on this handle panic. For the library's own tests.
///
/// # Safety
/// `optimizer` is NULL or a live handle.
#[cfg(feature = "fault-injection")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maw_test_inject_panic(optimizer: *mut maw_optimizer) -> maw_status {
    // SAFETY: pointers are NULL or valid, as the contract above says.
    match unsafe { live(optimizer) } {
        Ok(handle) => {
            handle.panic_next.store(true, Ordering::Release);
            MAW_OK
        }
        Err(error) => error.status() as maw_status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_the_hosts_tasks_interleave_leave_the_thread_as_it_was() {
        // A's call begins, its callback lets B's begin, and A's ends first.
        let mut inside = Vec::new();
        quietly(|| {
            as_host(|| {
                inside.push(INSIDE.get());
                quietly(|| {
                    as_host(|| inside.push(INSIDE.get()));
                    inside.push(INSIDE.get());
                    Ok(())
                })
            })
        })
        .expect("no panic");
        assert_eq!((inside, INSIDE.get()), (vec![false, false, true], false));
    }
}
