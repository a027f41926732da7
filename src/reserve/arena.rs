//! A piece of memory in which allocations lie one behind the other, and the list of those that are in use.
//!
//! An arena has an owner, and is given back when the owner is gone and all that was allocated in it is freed, by any
//! thread. An arena in which nothing was ever allocated has nothing to do with the list and its lock: such are all as long
//! as there is memory.
#![cfg_attr(not(feature = "allocator"), allow(dead_code, reason = "what the allocator calls"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Every block begins at a multiple of this: few types want more, and they get it.
const ALIGN: usize = 16;

/// The head of an arena; its bytes are behind it, or elsewhere.
#[derive(Debug)]
pub struct Arena {
    base: *mut u8,
    size: usize,
    /// The arena to try when this one is full, or NULL. Outlives this one's owner.
    around: *const Arena,
    /// Bytes from `base` on that are in use, with what was freed between them.
    used: AtomicUsize,
    /// The most that `used` ever was.
    peak: AtomicUsize,
    /// Allocations in it.
    live: AtomicUsize,
    owned: AtomicBool,
    /// The next in the list.
    next: AtomicPtr<Arena>,
    listed: AtomicBool,
}

/// Allocations in all arenas: as long as there are none, no address need be looked up.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The list, but the process's own arena.
static FIRST: AtomicPtr<Arena> = AtomicPtr::new(ptr::null_mut());
/// Held while the list, or an arena that is or will be in it, is changed. A spin lock: others may allocate. A fork at the
/// moment at which another thread holds it would leave it held in the child; nobody takes it before memory has run out.
static LOCKED: AtomicBool = AtomicBool::new(false);

struct Lock;

impl Lock {
    fn take() -> Self {
        while LOCKED.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        Self
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        LOCKED.store(false, Ordering::Release);
    }
}

/// The bytes of the process's own arena.
#[repr(align(16))]
struct Bytes(UnsafeCell<[u8; Self::SIZE]>);

impl Bytes {
    const SIZE: usize = 32 << 10;
}

// SAFETY: only the arena hands them out, under the lock, and none of them twice.
unsafe impl Sync for Bytes {}

/// Of what no call owns: what stays for as long as the process, and the few small things that the threads of a pool
/// allocate.
struct Process(Arena);

// SAFETY: an arena is changed under the lock; its plain fields never change.
unsafe impl Sync for Process {}

static BYTES: Bytes = Bytes(UnsafeCell::new([0; Bytes::SIZE]));
static PROCESS: Process = Process(Arena {
    base: BYTES.0.get().cast(),
    size: Bytes::SIZE,
    around: ptr::null(),
    used: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
    live: AtomicUsize::new(0),
    owned: AtomicBool::new(true),
    next: AtomicPtr::new(ptr::null_mut()),
    listed: AtomicBool::new(true),
});

impl Arena {
    /// Head and bytes in one block of the system's.
    fn layout(size: usize) -> Option<Layout> {
        Layout::from_size_align(size_of::<Self>().checked_add(size)?, ALIGN).ok()
    }

    fn contains(&self, block: *const u8) -> bool {
        (self.base.addr()..self.base.addr() + self.size).contains(&block.addr())
    }

    /// A block at the end of what is in use. Under the lock.
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let used = self.used.load(Ordering::Relaxed);
        let address = self.base.addr().checked_add(used)?.checked_next_multiple_of(layout.align().max(ALIGN))?;
        let start = address - self.base.addr();
        let end = start.checked_add(layout.size()).filter(|end| *end <= self.size)?;
        self.used.store(end, Ordering::Relaxed);
        self.peak.fetch_max(end, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(1, Ordering::Relaxed);
        NonNull::new(self.base.wrapping_add(start))
    }

    /// Under the lock.
    fn free(&self, block: *mut u8, size: usize) {
        let start = block.addr() - self.base.addr();
        if self.live.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.used.store(0, Ordering::Relaxed);
        } else if start + size == self.used.load(Ordering::Relaxed) {
            self.used.store(start, Ordering::Relaxed);
        }
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_unused(&self) -> bool {
        !self.owned.load(Ordering::Relaxed) && self.live.load(Ordering::Relaxed) == 0
    }
}

/// Takes an arena into the list, if it is not there. Under the lock.
///
/// # Safety
/// It is alive.
unsafe fn list(arena: NonNull<Arena>) {
    // SAFETY: the caller's promise.
    let head = unsafe { arena.as_ref() };
    if !head.listed.swap(true, Ordering::Relaxed) {
        head.next.store(FIRST.load(Ordering::Relaxed), Ordering::Relaxed);
        FIRST.store(arena.as_ptr(), Ordering::Relaxed);
    }
}

/// Takes an arena out of the list and gives it back, if nobody needs it. Under the lock.
///
/// # Safety
/// It is alive and in the list.
unsafe fn give_back_if_unused(arena: NonNull<Arena>) {
    // SAFETY: the caller's promise. An arena in the list is not given back before it is taken out, which happens under the
    // lock.
    unsafe {
        if !arena.as_ref().is_unused() {
            return;
        }
        let mut link = &raw const FIRST;
        while let Some(other) = NonNull::new((*link).load(Ordering::Relaxed)) {
            let next = &raw const (*other.as_ptr()).next;
            if other == arena {
                (*link).store((*next).load(Ordering::Relaxed), Ordering::Relaxed);
                break;
            }
            link = next;
        }
        release(arena);
    }
}

/// Blocks from here on are mappings of their own: to free them as blocks of `malloc` would change which of the host's are.
const LARGE: usize = 64 << 10;

/// A block for an arena, or NULL. Its pages are not touched.
fn obtain(layout: Layout) -> *mut u8 {
    if layout.size() < LARGE {
        // SAFETY: its size is not 0.
        return unsafe { System.alloc(layout) };
    }
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping touches no other.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), layout.size(), protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
}

/// Gives an arena's memory back to the system.
///
/// # Safety
/// It came from [`Owned::new`] and nobody knows of it.
unsafe fn release(arena: NonNull<Arena>) {
    // SAFETY: it is alive; its layout was made once already, and says where its block came from.
    unsafe {
        let layout = Arena::layout(arena.as_ref().size).expect("as when it was made");
        if layout.size() < LARGE {
            System.dealloc(arena.as_ptr().cast(), layout);
        } else {
            libc::munmap(arena.as_ptr().cast(), layout.size());
        }
    }
}

/// An owner's arena.
#[derive(Debug)]
pub struct Owned(NonNull<Arena>);

// SAFETY: whatever changes of an arena changes under the lock, or atomically.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    /// An arena of so many bytes; `None` where there is no memory. `around`: tried where it is full.
    pub fn new(size: usize, around: *const Arena) -> Option<Self> {
        let layout = Arena::layout(size)?;
        #[cfg(all(feature = "allocator", feature = "fault-injection"))]
        if !super::watch::allows(super::watch::Event::Reserve(size)) {
            return None;
        }
        let memory = NonNull::new(obtain(layout))?;
        let arena = memory.cast::<Arena>();
        // SAFETY: the block is large enough for the head and the bytes behind it, and aligned for both.
        unsafe {
            arena.write(Arena {
                base: memory.add(size_of::<Arena>()).as_ptr(),
                size,
                around,
                used: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
                live: AtomicUsize::new(0),
                owned: AtomicBool::new(true),
                next: AtomicPtr::new(ptr::null_mut()),
                listed: AtomicBool::new(false),
            });
        }
        Some(Self(arena))
    }

    pub fn get(&self) -> *const Arena {
        self.0.as_ptr()
    }

    fn arena(&self) -> &Arena {
        // SAFETY: it is alive as long as it has an owner.
        unsafe { self.0.as_ref() }
    }

    pub fn size(&self) -> usize {
        self.arena().size
    }

    pub fn used(&self) -> usize {
        self.arena().used.load(Ordering::Relaxed)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let arena = self.arena();
        #[cfg(all(feature = "allocator", feature = "fault-injection"))]
        super::watch::allows(super::watch::Event::Returned {
            size: arena.size,
            used: arena.peak.load(Ordering::Relaxed),
        });
        if arena.listed.load(Ordering::Relaxed) {
            let _lock = Lock::take();
            arena.owned.store(false, Ordering::Relaxed);
            // SAFETY: it is alive as long as it has an owner or blocks, and in the list.
            unsafe { give_back_if_unused(self.0) };
        } else {
            // SAFETY: nothing was ever allocated in it, so nobody but the owner knows of it.
            unsafe { release(self.0) };
        }
    }
}

/// Memory in the first of these arenas with room: `arena` and those around it, then the process's own.
///
/// # Safety
/// `arena` is NULL or has an owner, and so have those around it.
pub unsafe fn allocate(arena: *const Arena, layout: Layout) -> *mut u8 {
    let _lock = Lock::take();
    let mut at = arena;
    while let Some(arena) = NonNull::new(at.cast_mut()) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(block) = arena.as_ref().allocate(layout) {
                list(arena);
                return block.as_ptr();
            }
            at = arena.as_ref().around;
        }
    }
    PROCESS.0.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Whether a block may lie in an arena.
pub fn any() -> bool {
    LIVE.load(Ordering::Relaxed) > 0
}

/// The arena in which a block lies. Under the lock.
fn find(block: *const u8) -> Option<NonNull<Arena>> {
    if PROCESS.0.contains(block) {
        return Some(NonNull::from(&PROCESS.0));
    }
    let mut at = NonNull::new(FIRST.load(Ordering::Relaxed));
    while let Some(arena) = at {
        // SAFETY: an arena in the list is alive, and leaves it under the lock.
        let head = unsafe { arena.as_ref() };
        if head.contains(block) {
            return at;
        }
        at = NonNull::new(head.next.load(Ordering::Relaxed));
    }
    None
}

/// Whether a block lies in an arena.
pub fn holds(block: *const u8) -> bool {
    any() && {
        let _lock = Lock::take();
        find(block).is_some()
    }
}

/// Frees a block that lies in an arena; false if it does not.
///
/// # Safety
/// The block was allocated with this size and is not used any more.
pub unsafe fn free(block: *mut u8, size: usize) -> bool {
    if !any() {
        return false;
    }
    let _lock = Lock::take();
    let Some(arena) = find(block) else { return false };
    // SAFETY: `find` answers arenas that are alive; the process's own always has an owner.
    unsafe {
        arena.as_ref().free(block, size);
        give_back_if_unused(arena);
    }
    true
}

/// Gives the last block of an arena another size, where it lies, if that is possible.
///
/// # Safety
/// The block was allocated with size `old`.
pub unsafe fn resize(block: *mut u8, old: usize, new: usize) -> bool {
    let _lock = Lock::take();
    let Some(arena) = find(block) else { return false };
    // SAFETY: `find` answers arenas that are alive.
    let arena = unsafe { arena.as_ref() };
    let start = block.addr() - arena.base.addr();
    let fits = start.checked_add(new).is_some_and(|end| end <= arena.size);
    let possible = fits && start + old == arena.used.load(Ordering::Relaxed);
    if possible {
        arena.used.store(start + new, Ordering::Relaxed);
        arena.peak.fetch_max(start + new, Ordering::Relaxed);
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn an_arena_lasts_until_its_last_block_is_freed_by_whichever_thread() {
        for size in [1 << 12, 1 << 17] {
            let arena = Owned::new(size, ptr::null()).expect("memory");
            // SAFETY: the arena has an owner; blocks are freed once, with their sizes.
            unsafe {
                let (a, b) = (allocate(arena.get(), layout(40, 8)), allocate(arena.get(), layout(100, 256)));
                assert!(arena.0.as_ref().contains(a) && arena.0.as_ref().contains(b));
                assert!(a.addr().is_multiple_of(16) && b.addr().is_multiple_of(256) && b.addr() >= a.addr() + 40);
                a.write_bytes(1, 40);
                b.write_bytes(2, 100);
                assert!(!resize(a, 40, 41), "another block is behind it");
                assert!(resize(b, 100, 200), "it is the last");
                assert!(!resize(b, 200, size), "there is no more room");
                drop(arena);
                assert!(holds(a) && holds(b));
                let b = b.expose_provenance();
                std::thread::spawn(move || assert!(free(ptr::with_exposed_provenance_mut(b), 200)))
                    .join()
                    .expect("freed");
                assert_eq!(a.add(39).read(), 1);
                assert!(free(a, 40));
                assert!(!holds(a));
            }
        }
    }

    #[test]
    fn what_does_not_fit_goes_into_the_arena_around_and_then_into_the_process_s() {
        let outer = Owned::new(256, ptr::null()).expect("memory");
        let inner = Owned::new(64, outer.get()).expect("memory");
        // SAFETY: the arenas have owners; blocks are freed once, with their sizes.
        unsafe {
            let blocks = [50, 50, 150, 300].map(|size| (allocate(inner.get(), layout(size, 1)), size));
            let places = [&inner, &outer, &outer].map(|arena| arena.0.as_ref());
            assert!(
                places[0].contains(blocks[0].0) && places[1].contains(blocks[1].0) && places[2].contains(blocks[2].0)
            );
            assert!(PROCESS.0.contains(blocks[3].0));
            assert!(allocate(inner.get(), layout(1 << 20, 1)).is_null(), "nobody has as much");
            for (block, size) in blocks {
                assert!(free(block, size));
            }
        }
        assert_eq!((inner.used(), outer.used()), (0, 0));
    }
}
