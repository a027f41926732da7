//! A chunk's elements in the dtype that they have in memory, and tiles of them in the type that kernels compute in.
//!
//! Elements that already have that type are used in place; others are converted into a buffer, and rounded back. The dtype
//! is looked at once a tile, so that a kernel's arithmetic exists once for f32 and once for f64.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::convert::{convert, round_nearest, widen};
use super::number::Float;
use super::tile::TILE;
use crate::model::dtype::DType;
use crate::numeric::half::{BF16, F16};

/// Memory on the stack for a tile that is not used in place. It is initialised when it is first used.
pub struct Buffer<T> {
    elements: [MaybeUninit<T>; TILE],
    initialised: usize,
}

impl<T: Float> Buffer<T> {
    /// Nothing is written yet.
    #[inline(always)]
    pub fn new() -> Self {
        Self { elements: [const { MaybeUninit::uninit() }; TILE], initialised: 0 }
    }

    /// The first `len` elements: what was written last, or zeros.
    #[inline(always)]
    pub fn first(&mut self, len: usize) -> &mut [T] {
        if self.initialised < len {
            self.elements[self.initialised..len].fill(MaybeUninit::new(T::ZERO));
            self.initialised = len;
        }
        let elements = &mut self.elements[..len];
        // SAFETY: elements below `initialised` were written here.
        unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), elements.len()) }
    }
}

/// Elements that are only read.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// float32.
    F32(&'a [f32]),
    /// float64.
    F64(&'a [f64]),
    /// The bits of bfloat16.
    BF16(&'a [u16]),
    /// The bits of float16.
    F16(&'a [u16]),
}

/// Elements that are written.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// float32.
    F32(&'a mut [f32]),
    /// float64.
    F64(&'a mut [f64]),
    /// The bits of bfloat16.
    BF16(&'a mut [u16]),
    /// The bits of float16.
    F16(&'a mut [u16]),
}

impl<'a> Elements<'a> {
    /// Of a buffer that does not exist.
    pub const NONE: Self = Self::F32(&[]);

    /// `len` elements from `first` on.
    ///
    /// # Safety
    /// They have this dtype and its alignment and are readable for `'a`, in which nobody writes them.
    pub unsafe fn new(first: *const c_void, dtype: DType, len: usize) -> Self {
        // SAFETY: that is what the caller promises.
        unsafe {
            match dtype {
                DType::F32 => Self::F32(std::slice::from_raw_parts(first.cast(), len)),
                DType::F64 => Self::F64(std::slice::from_raw_parts(first.cast(), len)),
                DType::BF16 => Self::BF16(std::slice::from_raw_parts(first.cast(), len)),
                DType::F16 => Self::F16(std::slice::from_raw_parts(first.cast(), len)),
            }
        }
    }

    /// Those of a range.
    #[inline]
    pub fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::F64(x) => Self::F64(&x[range]),
            Self::BF16(x) => Self::BF16(&x[range]),
            Self::F16(x) => Self::F16(&x[range]),
        }
    }

    /// At most a tile of them.
    #[inline(always)]
    pub fn load<'b, T: Float>(self, range: Range<usize>, buffer: &'b mut Buffer<T>) -> &'b [T]
    where
        'a: 'b,
    {
        match T::in_place(self) {
            Some(own) => &own[range],
            None => self.convert(range, buffer),
        }
    }

    fn convert<T: Float>(self, range: Range<usize>, buffer: &mut Buffer<T>) -> &[T] {
        let to = buffer.first(range.len());
        match self {
            Self::BF16(bits) => widen::<BF16, T>(&bits[range], to),
            Self::F16(bits) => widen::<F16, T>(&bits[range], to),
            floats => convert(&T::Other::in_place(floats).expect("float32 or float64")[range], to),
        }
        to
    }
}

impl<'a> ElementsMut<'a> {
    /// As [`Elements::new`].
    ///
    /// # Safety
    /// They have this dtype and its alignment and are readable and writable for `'a`, in which nobody else touches them.
    pub unsafe fn new(first: *mut c_void, dtype: DType, len: usize) -> Self {
        // SAFETY: that is what the caller promises.
        unsafe {
            match dtype {
                DType::F32 => Self::F32(std::slice::from_raw_parts_mut(first.cast(), len)),
                DType::F64 => Self::F64(std::slice::from_raw_parts_mut(first.cast(), len)),
                DType::BF16 => Self::BF16(std::slice::from_raw_parts_mut(first.cast(), len)),
                DType::F16 => Self::F16(std::slice::from_raw_parts_mut(first.cast(), len)),
            }
        }
    }

    /// The same, to be read.
    pub fn as_elements(&self) -> Elements<'_> {
        match self {
            Self::F32(x) => Elements::F32(x),
            Self::F64(x) => Elements::F64(x),
            Self::BF16(x) => Elements::BF16(x),
            Self::F16(x) => Elements::F16(x),
        }
    }

    /// Those of a range.
    pub fn part(&mut self, range: Range<usize>) -> ElementsMut<'_> {
        match self {
            Self::F32(x) => ElementsMut::F32(&mut x[range]),
            Self::F64(x) => ElementsMut::F64(&mut x[range]),
            Self::BF16(x) => ElementsMut::BF16(&mut x[range]),
            Self::F16(x) => ElementsMut::F16(&mut x[range]),
        }
    }

    /// Whether they have 16 bits.
    #[inline(always)]
    pub fn is_half(&self) -> bool {
        matches!(self, Self::BF16(_) | Self::F16(_))
    }

    /// Where a tile is computed before [`Self::store`]: in place, or in the buffer where it must be rounded.
    #[inline(always)]
    pub fn tile<'b, T: Float>(&'b mut self, range: Range<usize>, buffer: &'b mut Buffer<T>) -> &'b mut [T] {
        match T::in_place_mut(self) {
            Some(own) => &mut own[range],
            None => buffer.first(range.len()),
        }
    }

    /// Stores a tile from the buffer, rounded to nearest, and leaves there what was stored.
    #[inline(always)]
    pub fn store<T: Float>(&mut self, range: Range<usize>, buffer: &mut Buffer<T>) {
        if self.is_half() {
            self.round(range, buffer);
        }
    }

    fn round<T: Float>(&mut self, range: Range<usize>, buffer: &mut Buffer<T>) {
        let tile = T::as_f32(buffer.first(range.len()));
        match self {
            Self::BF16(bits) => round_nearest::<BF16>(tile, &mut bits[range]),
            Self::F16(bits) => round_nearest::<F16>(tile, &mut bits[range]),
            Self::F32(_) | Self::F64(_) => {} // in place
        }
    }
}
