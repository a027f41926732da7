//! Memory that the library owns beside the host's: moments, and copies during a meta-update.

use std::ffi::c_void;

use memmap2::{MmapMut, MmapRaw};

use crate::error::{Error, Result};

/// Where each buffer begins: a cache line.
const ALIGN: usize = 64;
/// With pages of this size, where the system has them, the step's streams cross a page border, at which a CPU's prefetching
/// stops, 512 times less often.
const HUGE_PAGE: usize = 2 << 20;

/// One buffer a tensor, in memory that never moves: one mapping for all tensors that came together. The system zeroes it,
/// page by page when they are first touched.
#[derive(Debug)]
pub struct Storage {
    /// Without references: one to all of a mapping would end what `pointers` may be used for.
    mappings: Vec<MmapRaw>,
    pointers: Vec<*mut c_void>,
    bytes: Vec<usize>,
}

#[allow(unsafe_code, reason = "raw pointers are not Send by themselves")]
// SAFETY: the pointers point into `mappings`, which this struct owns and which may move between threads.
unsafe impl Send for Storage {}

impl Storage {
    /// Zeros, so many bytes for each tensor.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn zeros(bytes: impl IntoIterator<Item = usize>) -> Result<Self> {
        let bytes: Vec<usize> = bytes.into_iter().collect();
        let mut end = 0_usize;
        let starts = bytes.iter().map(|bytes| {
            let start = end;
            end = bytes.checked_next_multiple_of(ALIGN).and_then(|bytes| start.checked_add(bytes))?;
            Some(start)
        });
        let starts: Vec<usize> = starts.collect::<Option<_>>().ok_or(Error::OutOfMemory)?;
        let memory = map(end)?;
        // A huge page must begin at a multiple of its size.
        let ahead = if end < HUGE_PAGE { 0 } else { memory.as_ptr().align_offset(HUGE_PAGE) };
        let base = memory.as_mut_ptr().wrapping_add(ahead).cast::<c_void>();
        let pointers = starts.into_iter().map(|start| base.wrapping_byte_add(start)).collect();
        Ok(Self { mappings: vec![memory], pointers, bytes })
    }

    /// Makes tensor i the one that was `from[i]`, or the next of `added`. The memory of those that no tensor was is given
    /// back: whole mappings, and on Linux whole pages. Allocates no more than lists of one element a tensor.
    pub fn reregister(&mut self, from: &[Option<usize>], added: Self) {
        let mut stays = vec![false; self.bytes.len()];
        from.iter().flatten().for_each(|&tensor| stays[tensor] = true);
        (0..stays.len()).filter(|&tensor| !stays[tensor]).for_each(|tensor| self.discard(tensor));
        let mut new = added.pointers.into_iter().zip(added.bytes);
        let known = |i: usize| (self.pointers[i], self.bytes[i]);
        let buffer = |old: &Option<usize>| old.map_or_else(|| new.next().expect("one for each new tensor"), known);
        (self.pointers, self.bytes) = from.iter().map(buffer).unzip();
        self.mappings.extend(added.mappings);
        let pointers = &self.pointers;
        self.mappings.retain(|mapping| {
            let addresses = mapping.as_ptr().addr()..mapping.as_ptr().addr() + mapping.len();
            pointers.iter().any(|pointer| addresses.contains(&pointer.addr()))
        });
    }

    /// Gives a tensor's pages back to the system.
    fn discard(&mut self, tensor: usize) {
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            const PAGE: usize = 64 << 10; // no system has larger ones
            let (start, bytes) = (self.pointers[tensor].addr(), self.bytes[tensor]);
            let first = start.next_multiple_of(PAGE);
            let pages = (start + bytes).saturating_sub(first) / PAGE * PAGE;
            let mapping =
                self.mappings.iter().find(|m| (m.as_ptr().addr()..m.as_ptr().addr() + m.len()).contains(&start));
            if let Some(mapping) = mapping.filter(|_| pages > 0) {
                let offset = first - mapping.as_ptr().addr();
                // SAFETY: `&mut self` excludes references into the memory, and the tensor's buffer is used no more.
                #[allow(unsafe_code, reason = "the kernel changes the pages' contents")]
                let _ = unsafe { mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, pages) };
            }
        }
        #[cfg(any(not(target_os = "linux"), miri))]
        let _ = tensor;
    }

    /// First elements of all buffers.
    pub fn pointers(&self) -> &[*mut c_void] {
        &self.pointers
    }

    /// First element of a tensor's buffer.
    pub fn pointer(&self, tensor: usize) -> *mut c_void {
        self.pointers[tensor]
    }

    /// A tensor's elements as bytes.
    #[allow(unsafe_code, reason = "a buffer as a slice")]
    pub fn bytes(&self, tensor: usize) -> &[u8] {
        // SAFETY: the buffer has so many initialised bytes, and `&self` excludes writers.
        unsafe { std::slice::from_raw_parts(self.pointers[tensor].cast(), self.bytes[tensor]) }
    }

    /// The same, to be written.
    #[allow(unsafe_code, reason = "a buffer as a slice")]
    pub fn bytes_mut(&mut self, tensor: usize) -> &mut [u8] {
        // SAFETY: the buffer has so many initialised bytes, and `&mut self` excludes other users.
        unsafe { std::slice::from_raw_parts_mut(self.pointers[tensor].cast(), self.bytes[tensor]) }
    }

    /// Allows the system to take the pages when it needs memory (MADV_FREE); whether it accepts. Until they are written, the
    /// elements are zeros or what they were, page by page.
    pub fn advise_free(&mut self) -> bool {
        #[cfg(all(target_os = "linux", not(miri)))] // which has no madvise
        {
            // SAFETY: `&mut self` excludes references into the memory, and any bytes are valid elements.
            #[allow(unsafe_code, reason = "the kernel may change the pages' contents")]
            unsafe {
                self.mappings.iter().all(|m| m.unchecked_advise(memmap2::UncheckedAdvice::Free).is_ok())
            }
        }
        #[cfg(any(not(target_os = "linux"), miri))]
        false
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        (0..self.bytes.len()).for_each(|tensor| self.bytes_mut(tensor).fill(0));
    }
}

/// Anonymous memory, in huge pages where it is large enough for some and the system has them.
fn map(bytes: usize) -> Result<MmapRaw> {
    let large = bytes >= HUGE_PAGE;
    let room = if large { bytes.checked_add(HUGE_PAGE).ok_or(Error::OutOfMemory)? } else { bytes.max(1) };
    let memory = MmapMut::map_anon(room).map_err(|_| Error::OutOfMemory)?;
    #[cfg(target_os = "linux")]
    if large {
        // Only advice: without huge pages everything is correct and a little slower.
        let _ = memory.advise(memmap2::Advice::HugePage);
    }
    Ok(memory.into())
}
