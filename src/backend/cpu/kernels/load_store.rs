//! A chunk's elements in whatever dtype they lie in memory, as tiles of the type that kernels compute in.
//!
//! What already has that type is used in place; 16-bit elements are widened into a buffer on the stack and rounded back
//! into memory. The dtype is asked once a tile, so that a kernel's arithmetic exists once for f32 and once for f64.
//! After a tile was stored, it holds what memory holds: sums of it have the bits that sums of memory have.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::number::Float;
use super::tile::TILE;
use crate::model::dtype::{DType, Precision};
use crate::numeric::half::{self, BF16, F16, Half};
use crate::numeric::stochastic_rounding::RoundingBits;

/// Memory on the stack for a tile that isn't used in place.
pub struct Buffer<T>([MaybeUninit<T>; TILE]);

impl<T> Buffer<T> {
    /// Not initialised.
    #[inline(always)]
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; TILE])
    }

    /// The first `len` elements.
    ///
    /// # Safety
    /// The caller writes every one before it reads any.
    #[inline(always)]
    pub unsafe fn of(&mut self, len: usize) -> &mut [T] {
        let whole = &mut self.0[..len];
        // SAFETY: the caller's promise; T is a plain number.
        unsafe { std::slice::from_raw_parts_mut(whole.as_mut_ptr().cast(), len) }
    }
}

impl<T> Buffer<T> {
    /// All of it.
    ///
    /// # Safety
    /// The caller writes every element before it reads any.
    #[inline(always)]
    pub unsafe fn whole(&mut self) -> &mut [T; TILE] {
        // SAFETY: the caller's promise; T is a plain number.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    /// Nothing of it.
    #[inline(always)]
    pub fn none(&self) -> &[T] {
        &[]
    }
}

impl<T: Float> Buffer<T> {
    /// 16-bit elements, widened.
    #[inline(always)]
    fn widen<H: Half>(&mut self, from: &[u16]) -> &mut [T] {
        // SAFETY: all are written below.
        let to = unsafe { self.of(from.len()) };
        for (to, from) in to.iter_mut().zip(from) {
            *to = T::from_f32(H::widen(*from));
        }
        to
    }

    /// Other elements, rounded to T where it is narrower.
    #[inline(always)]
    fn convert<S: Float>(&mut self, from: &[S]) -> &mut [T] {
        // SAFETY: all are written below.
        let to = unsafe { self.of(from.len()) };
        for (to, from) in to.iter_mut().zip(from) {
            *to = T::round(from.widen());
        }
        to
    }

    /// Masters from their two halves.
    #[inline(always)]
    fn join(&mut self, shown: &[u16], low: &[u16]) -> &mut [T] {
        // SAFETY: all are written below.
        let to = unsafe { self.of(shown.len()) };
        for ((to, shown), low) in to.iter_mut().zip(shown).zip(low) {
            *to = T::from_f32(half::join(*shown, *low));
        }
        to
    }

    /// `from` times a factor.
    #[inline(always)]
    pub fn scaled(&mut self, from: &[T], factor: T) -> &mut [T] {
        // SAFETY: all are written below.
        let to = unsafe { self.of(from.len()) };
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from * factor;
        }
        to
    }
}

/// Elements that are only read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The chunk's first element.
    pub at: *const c_void,
    /// Its type.
    pub dtype: DType,
}

/// # Safety
/// Elements `at .. at + len` of type T are readable and not written for `'a`.
#[inline(always)]
unsafe fn slice<'a, T>(base: *const c_void, at: usize, len: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(base.cast::<T>().add(at), len) }
}

/// # Safety
/// A tile of elements of type T from `at` on is readable and writable, through this array alone, for `'a`.
#[inline(always)]
pub unsafe fn array<'a, T>(base: *mut c_void, at: usize) -> &'a mut [T; TILE] {
    // SAFETY: the caller's promise.
    unsafe { &mut *base.cast::<T>().add(at).cast() }
}

/// # Safety
/// Elements `at .. at + len` of type T are readable and writable, through this slice alone, for `'a`.
#[inline(always)]
unsafe fn slice_mut<'a, T>(base: *mut c_void, at: usize, len: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.cast::<T>().add(at), len) }
}

impl Read {
    /// Elements `at .. at + len`, at most a tile.
    ///
    /// # Safety
    /// They are readable and not written as long as the result lives.
    #[inline(always)]
    pub unsafe fn tile<T: Float>(self, at: usize, len: usize, buffer: &mut Buffer<T>) -> &[T] {
        // SAFETY: the caller's promise, for elements of the type that `dtype` names.
        unsafe {
            match self.dtype {
                own if own == T::DTYPE => slice(self.at, at, len),
                DType::F32 => buffer.convert(slice::<f32>(self.at, at, len)),
                DType::F64 => buffer.convert(slice::<f64>(self.at, at, len)),
                DType::BF16 => buffer.widen::<BF16>(slice(self.at, at, len)),
                DType::F16 => buffer.widen::<F16>(slice(self.at, at, len)),
            }
        }
    }
}

impl Read {
    /// The same elements, to be written.
    #[must_use]
    pub fn to_write(self) -> Write {
        Write { at: self.at.cast_mut(), dtype: self.dtype }
    }

    /// Copies elements `at .. at + len` as they are to a place of the same dtype.
    ///
    /// # Safety
    /// They are readable here and writable there, and nothing else touches them.
    #[inline(always)]
    pub unsafe fn copy_to(self, to: Write, at: usize, len: usize) {
        let size = self.dtype.size();
        // SAFETY: the caller's promise.
        unsafe { slice_mut::<u8>(to.at, at * size, len * size).copy_from_slice(slice(self.at, at * size, len * size)) };
    }
}

/// Elements that are only written.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The chunk's first element.
    pub at: *mut c_void,
    /// Its type.
    pub dtype: DType,
}

impl Write {
    /// Where to put a tile from element `at` on before it is stored: in place, or in the buffer where it must be rounded.
    ///
    /// # Safety
    /// The elements are writable, and nothing else touches them as long as the result lives; the caller writes every one
    /// before it reads any.
    #[inline(always)]
    pub unsafe fn tile<T: Float>(self, at: usize, len: usize, buffer: &mut Buffer<T>) -> &mut [T] {
        // SAFETY: the caller's promise; what does not have 16 bits has the type that is computed in.
        unsafe { if self.dtype.is_half() { buffer.of(len) } else { slice_mut(self.at, at, len) } }
    }

    /// Stores such a tile, rounded to nearest if need be.
    ///
    /// # Safety
    /// As for [`Self::tile`], whose tile this is.
    #[inline(always)]
    pub unsafe fn store<T: Float>(self, at: usize, tile: &mut [T]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.dtype {
                DType::BF16 => nearest::<T, BF16>(tile, slice_mut(self.at, at, tile.len())),
                DType::F16 => nearest::<T, F16>(tile, slice_mut(self.at, at, tile.len())),
                DType::F32 | DType::F64 => {} // in place
            }
        }
    }
}

/// A parameter, and what is kept beside it for precision's sake.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// The host's.
    pub host: *mut c_void,
    /// Its type.
    pub dtype: DType,
    /// Masters or remainders, where `precision` has them.
    pub beside: *mut c_void,
    /// Which of the two decides.
    pub precision: Precision,
}

/// Writes a tile rounded to nearest, and what was written back into it.
#[inline(always)]
fn nearest<T: Float, H: Half>(tile: &mut [T], out: &mut [u16]) {
    for (x, out) in tile.iter_mut().zip(out) {
        *out = H::round(x.to_f32());
        *x = T::from_f32(H::widen(*out));
    }
}

/// Writes a tile rounded by chance, and what was written back into it.
#[inline(always)]
fn by_chance<T: Float, H: Half>(tile: &mut [T], out: &mut [u16], noise: &[u16; TILE]) {
    for ((x, out), noise) in tile.iter_mut().zip(out).zip(noise) {
        *out = H::round_stochastic(x.to_f32(), u32::from(*noise));
        *x = T::from_f32(H::widen(*out));
    }
}

/// Writes what masters show.
#[inline(always)]
fn show<T: Float, H: Half>(tile: &[T], host: &mut [u16]) {
    for (x, host) in tile.iter().zip(host) {
        *host = H::from_master(x.to_f32());
    }
}

impl Weights {
    /// The values that an update starts from: the masters where there are any.
    ///
    /// # Safety
    /// Elements `at .. at + len` of all that it points to are valid, and nothing else touches them for `'a`.
    #[inline(always)]
    pub unsafe fn tile<'a, T: Float>(&self, at: usize, len: usize, buffer: &'a mut Buffer<T>) -> &'a mut [T] {
        // SAFETY: the caller's promise; masters are float32, which 16-bit parameters are computed in, and remainders
        // have 16 bits.
        unsafe {
            match (self.precision, self.dtype) {
                (Precision::Master, _) => slice_mut(self.beside, at, len),
                (Precision::Remainder, _) => buffer.join(slice(self.host, at, len), slice(self.beside, at, len)),
                (_, DType::BF16) => buffer.widen::<BF16>(slice(self.host, at, len)),
                (_, DType::F16) => buffer.widen::<F16>(slice(self.host, at, len)),
                (_, DType::F32 | DType::F64) => slice_mut(self.host, at, len),
            }
        }
    }

    /// Stores what was made of such a tile. Without masters, the tile then holds what was stored.
    ///
    /// # Safety
    /// As for [`Self::tile`], whose tile this is.
    #[inline(always)]
    pub unsafe fn store<T: Float>(&self, at: usize, tile: &mut [T], noise: RoundingBits) {
        if !self.dtype.is_half() {
            return; // in place
        }
        // SAFETY: the caller's promise; a master's tile does not overlap the host's parameter.
        let host = unsafe { slice_mut::<u16>(self.host, at, tile.len()) };
        match (self.precision, self.dtype) {
            (Precision::Master, DType::BF16) => show::<T, BF16>(tile, host),
            (Precision::Master, _) => show::<T, F16>(tile, host),
            (Precision::Remainder, _) => {
                // SAFETY: the caller's promise.
                let low = unsafe { slice_mut::<u16>(self.beside, at, tile.len()) };
                for ((x, host), low) in tile.iter().zip(host).zip(low) {
                    (*host, *low) = half::split(x.to_f32());
                }
            }
            (Precision::Nearest, DType::BF16) => nearest::<T, BF16>(tile, host),
            (Precision::Nearest, _) => nearest::<T, F16>(tile, host),
            (Precision::Stochastic, dtype) => {
                let noise = noise.bits(at);
                if dtype == DType::BF16 {
                    by_chance::<T, BF16>(tile, host, &noise);
                } else {
                    by_chance::<T, F16>(tile, host, &noise);
                }
            }
        }
    }

    /// Makes a tile what the host would see of it: rounded to nearest, as a master is shown where there is one.
    #[inline(always)]
    pub fn round_as_shown<T: Float>(&self, tile: &mut [T]) {
        match (self.dtype, self.precision.has_master()) {
            (DType::BF16, false) => {
                for x in tile {
                    *x = T::from_f32(BF16::widen(BF16::round(x.to_f32())));
                }
            }
            (DType::BF16, true) => {
                for x in tile {
                    *x = T::from_f32(BF16::widen(BF16::from_master(x.to_f32())));
                }
            }
            (DType::F16, _) => {
                for x in tile {
                    *x = T::from_f32(F16::widen(F16::round(x.to_f32())));
                }
            }
            (DType::F32 | DType::F64, _) => {}
        }
    }

    /// The host's own values, whatever is kept beside them.
    #[must_use]
    pub fn as_shown(self) -> Self {
        Self { precision: Precision::Nearest, ..self }
    }

    /// Makes the masters of elements `at .. at + len` what the host's parameter says.
    ///
    /// # Safety
    /// As for [`Self::tile`].
    #[inline(always)]
    pub unsafe fn init_masters(&self, at: usize, len: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.precision {
                Precision::Master => {
                    let mut buffer = Buffer::<f32>::new();
                    let shown = self.as_shown().tile(at, len, &mut buffer);
                    slice_mut(self.beside, at, len).copy_from_slice(shown);
                }
                Precision::Remainder => slice_mut::<u16>(self.beside, at, len).fill(0),
                Precision::Nearest | Precision::Stochastic => {}
            }
        }
    }

    /// How many of elements `at .. at + len` are not what their masters show.
    ///
    /// # Safety
    /// As for [`Self::tile`].
    #[inline(always)]
    pub unsafe fn count_desynced(&self, at: usize, len: usize) -> usize {
        if self.precision != Precision::Master {
            return 0;
        }
        // SAFETY: the caller's promise.
        let (master, host) = unsafe { (slice::<f32>(self.beside, at, len), slice::<u16>(self.host, at, len)) };
        let show = if self.dtype == DType::BF16 { BF16::from_master } else { F16::from_master };
        master.iter().zip(host).filter(|(master, host)| show(**master) != **host).count()
    }
}

/// Both moments. Bfloat16 ones are rounded by chance.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// First moment.
    pub m: *mut c_void,
    /// Second moment.
    pub v: *mut c_void,
    /// Their type.
    pub dtype: DType,
    /// Whether they, or the gradients that they are made of, have 16 bits: float32 is then good for sums within a tile.
    pub short: bool,
}

impl Moments {
    /// Elements `at .. at + len` of both.
    ///
    /// # Safety
    /// They are valid, and nothing else touches them for `'a`.
    #[inline(always)]
    pub unsafe fn tiles<'a, T: Float>(
        &self,
        at: usize,
        len: usize,
        (m, v): (&'a mut Buffer<T>, &'a mut Buffer<T>),
    ) -> (&'a mut [T], &'a mut [T]) {
        // SAFETY: the caller's promise; moments that are not bfloat16 have the type that is computed in.
        unsafe {
            if self.dtype == DType::BF16 {
                (m.widen::<BF16>(slice(self.m, at, len)), v.widen::<BF16>(slice(self.v, at, len)))
            } else {
                (slice_mut(self.m, at, len), slice_mut(self.v, at, len))
            }
        }
    }

    /// Stores what was made of such tiles, which then hold what was stored.
    ///
    /// # Safety
    /// As for [`Self::tiles`], whose tiles these are.
    #[inline(always)]
    pub unsafe fn store<T: Float>(&self, at: usize, m: &mut [T], v: &mut [T], noise: RoundingBits) {
        if self.dtype != DType::BF16 {
            return; // in place
        }
        let noise = noise.bits(at);
        // SAFETY: the caller's promise.
        let (to_m, to_v) = unsafe { (slice_mut(self.m, at, m.len()), slice_mut(self.v, at, v.len())) };
        by_chance::<T, BF16>(m, to_m, &noise);
        by_chance::<T, BF16>(v, to_v, &noise);
    }

    /// The first moment alone, to be read.
    #[must_use]
    pub fn first(&self) -> Read {
        Read { at: self.m, dtype: self.dtype }
    }
}
