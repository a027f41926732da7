//! A mutex and a condition variable of pthread.
//!
//! Those of std are atomics and futexes, which ThreadSanitizer does not see in code that it did not compile: a host that is
//! built with it would hear of races on all that threads hand over in the library. It knows pthread's.

#![allow(unsafe_code, reason = "calls pthread's functions, and lends what a mutex guards")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A value that one thread at a time can reach. It is not moved while a guard or a waiting thread exists: both borrow it.
pub struct Mutex<T> {
    raw: UnsafeCell<libc::pthread_mutex_t>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and one guard exists at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Not locked.
    pub const fn new(value: T) -> Self {
        Self { raw: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER), value: UnsafeCell::new(value) }
    }

    /// Waits until no other thread has it.
    ///
    /// # Panics
    /// Never: a mutex of the default kind refuses nobody.
    pub fn lock(&self) -> Guard<'_, T> {
        // SAFETY: initialized by `new`.
        let status = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        assert_eq!(status, 0, "a mutex of the default kind refuses nobody");
        Guard(self, PhantomData)
    }

    /// `None` while another thread has it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // SAFETY: initialized by `new`.
        let status = unsafe { libc::pthread_mutex_trylock(self.raw.get()) };
        (status == 0).then_some(Guard(self, PhantomData))
    }

    /// The value, without locking: nobody else borrows the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The same, without the mutex.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: initialized by `new`, and not locked: a guard would borrow it. The value is taken once, as `this` is not
        // dropped.
        unsafe {
            libc::pthread_mutex_destroy(this.raw.get());
            this.value.get().read()
        }
    }

    /// The guard of another thread does not exist in a process that was forked meanwhile, and what it left may be half
    /// done: the mutex is made anew, with another value, and the old value is left as it is.
    ///
    /// # Safety
    /// No thread of this process uses the mutex.
    pub unsafe fn renew(&self, value: T) {
        // SAFETY: the caller promises that nobody else is here.
        unsafe {
            self.raw.get().write(libc::PTHREAD_MUTEX_INITIALIZER);
            self.value.get().write(value);
        }
    }
}

impl<T> Drop for Mutex<T> {
    fn drop(&mut self) {
        // SAFETY: initialized by `new`, and not locked: a guard would borrow it.
        unsafe { libc::pthread_mutex_destroy(self.raw.get()) };
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// The right to reach the value. It does not leave its thread.
pub struct Guard<'a, T>(&'a Mutex<T>, PhantomData<*const ()>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and is borrowed.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread locked it, as a guard does not leave its thread.
        unsafe { libc::pthread_mutex_unlock(self.0.raw.get()) };
    }
}

/// What threads wait for with one mutex, always the same.
pub struct Condvar(UnsafeCell<libc::pthread_cond_t>);

// SAFETY: pthread's functions may be called from any thread.
unsafe impl Sync for Condvar {}
// SAFETY: it is not moved while a thread waits, which borrows it.
unsafe impl Send for Condvar {}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER))
    }

    /// Waits for a notification. It may also return without one.
    pub fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        // SAFETY: both are initialized, and the guard says that this thread has locked the mutex.
        unsafe { libc::pthread_cond_wait(self.0.get(), guard.0.raw.get()) };
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        // SAFETY: initialized by `new`.
        unsafe { libc::pthread_cond_broadcast(self.0.get()) };
    }
}

impl Drop for Condvar {
    fn drop(&mut self) {
        // SAFETY: initialized by `new`, and nobody waits: that would borrow it.
        unsafe { libc::pthread_cond_destroy(self.0.get()) };
    }
}
