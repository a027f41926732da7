//! A chunk's elements in whatever dtype they lie in memory, as tiles of the type that kernels compute in.
//!
//! What already has that type is used in place; 16-bit elements are widened into a buffer on the stack and rounded back
//! into memory. The dtype is asked once a tile, so that a kernel's arithmetic exists once for f32 and once for f64.
//! After a tile was stored, it holds what memory holds: sums of it have the bits that sums of memory have.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::float::Float;
use super::kernels::TILE;
use crate::config::{DType, Precision};
use crate::half::{self, BF16, F16, Half};
use crate::noise::Noise;

/// Memory on the stack for a tile that isn't used in place.
pub struct Buffer<T>([MaybeUninit<T>; TILE]);

impl<T: Copy> Buffer<T> {
    /// Not initialised.
    #[inline(always)]
    pub const fn new() -> Self {
        Self([MaybeUninit::uninit(); TILE])
    }

    /// What `convert` makes of `from`, at most a tile.
    #[inline(always)]
    pub fn fill<S: Copy>(&mut self, from: &[S], convert: impl Fn(usize, S) -> T) -> &mut [T] {
        let to = &mut self.0[..from.len()];
        for (i, (to, from)) in to.iter_mut().zip(from).enumerate() {
            to.write(convert(i, *from));
        }
        // SAFETY: all of `to` was just written.
        unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), to.len()) }
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
                DType::F32 => buffer.fill(slice::<f32>(self.at, at, len), |_, x| T::round(f64::from(x))),
                DType::F64 => buffer.fill(slice::<f64>(self.at, at, len), |_, x| T::round(x)),
                DType::BF16 => buffer.fill(slice(self.at, at, len), |_, x| T::from_f32(BF16::widen(x))),
                DType::F16 => buffer.fill(slice(self.at, at, len), |_, x| T::from_f32(F16::widen(x))),
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

/// Writes a tile as 16-bit elements, and what they say back into it.
#[inline(always)]
fn round_back<T: Float>(
    tile: &mut [T],
    out: &mut [u16],
    round: impl Fn(usize, f32) -> u16,
    widen: impl Fn(u16) -> f32,
) {
    for (i, (x, out)) in tile.iter_mut().zip(out).enumerate() {
        *out = round(i, x.to_f32());
        *x = T::from_f32(widen(*out));
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
                (Precision::Remainder, _) => {
                    let low = slice::<u16>(self.beside, at, len);
                    buffer.fill(slice(self.host, at, len), |i, x| T::from_f32(half::join(x, low[i])))
                }
                (_, DType::BF16) => buffer.fill(slice(self.host, at, len), |_, x| T::from_f32(BF16::widen(x))),
                (_, DType::F16) => buffer.fill(slice(self.host, at, len), |_, x| T::from_f32(F16::widen(x))),
                (_, DType::F32 | DType::F64) => slice_mut(self.host, at, len),
            }
        }
    }

    /// Stores what was made of such a tile. Without masters, the tile then holds what was stored.
    ///
    /// # Safety
    /// As for [`Self::tile`], whose tile this is.
    #[inline(always)]
    pub unsafe fn store<T: Float>(&self, at: usize, tile: &mut [T], noise: Noise) {
        if !self.dtype.is_half() {
            return; // in place
        }
        // SAFETY: the caller's promise; a master's tile does not overlap the host's parameter.
        let host = unsafe { slice_mut::<u16>(self.host, at, tile.len()) };
        let noise = |i: usize| noise.at((at + i) as u32);
        match (self.precision, self.dtype) {
            (Precision::Master, DType::BF16) => show(tile, host, BF16::of_master),
            (Precision::Master, _) => show(tile, host, F16::of_master),
            (Precision::Remainder, _) => {
                // SAFETY: the caller's promise.
                let low = unsafe { slice_mut::<u16>(self.beside, at, tile.len()) };
                for ((x, host), low) in tile.iter().zip(host).zip(low) {
                    (*host, *low) = half::split(x.to_f32());
                }
            }
            (Precision::Nearest, DType::BF16) => round_back(tile, host, |_, x| BF16::round(x), BF16::widen),
            (Precision::Nearest, _) => round_back(tile, host, |_, x| F16::round(x), F16::widen),
            (Precision::Stochastic, DType::BF16) => {
                round_back(tile, host, |i, x| BF16::round_by(x, noise(i)), BF16::widen);
            }
            (Precision::Stochastic, _) => round_back(tile, host, |i, x| F16::round_by(x, noise(i)), F16::widen),
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
    pub unsafe fn begin_masters(&self, at: usize, len: usize) {
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
    pub unsafe fn strangers(&self, at: usize, len: usize) -> usize {
        if self.precision != Precision::Master {
            return 0;
        }
        // SAFETY: the caller's promise.
        let (master, host) = unsafe { (slice::<f32>(self.beside, at, len), slice::<u16>(self.host, at, len)) };
        let show = if self.dtype == DType::BF16 { BF16::of_master } else { F16::of_master };
        master.iter().zip(host).filter(|(master, host)| show(**master) != **host).count()
    }
}

/// Writes the masters of a tile as the host sees them.
#[inline(always)]
fn show<T: Float>(tile: &[T], host: &mut [u16], round: impl Fn(f32) -> u16) {
    for (x, host) in tile.iter().zip(host) {
        *host = round(x.to_f32());
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
                let widen = |_, x| T::from_f32(BF16::widen(x));
                (m.fill(slice(self.m, at, len), widen), v.fill(slice(self.v, at, len), widen))
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
    pub unsafe fn store<T: Float>(&self, at: usize, m: &mut [T], v: &mut [T], noise: Noise) {
        if self.dtype != DType::BF16 {
            return; // in place
        }
        let mut buffer = Buffer::<u32>::new();
        let noise = buffer.fill(m, |i, _| noise.at((at + i) as u32));
        // SAFETY: the caller's promise.
        let (to_m, to_v) = unsafe { (slice_mut(self.m, at, m.len()), slice_mut(self.v, at, v.len())) };
        round_back(m, to_m, |i, x| BF16::round_by(x, noise[i]), BF16::widen);
        round_back(v, to_v, |i, x| BF16::round_by(x, noise[i] >> 16), BF16::widen);
    }

    /// The first moment alone, to be read.
    #[must_use]
    pub fn first(&self) -> Read {
        Read { at: self.m, dtype: self.dtype }
    }
}
