//! A chunk's elements in whatever dtype they have in memory, as tiles of the type that kernels compute in.
//!
//! Elements that already have that type are used in place; others are converted into a buffer and rounded back. The dtype
//! is looked at once a tile, so that a kernel's arithmetic exists once for f32 and once for f64. After a tile was stored,
//! it holds what memory holds: sums of it have the bits that sums of memory have.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::convert::{convert, copy_masters, join, round_nearest, round_stochastic, split, to_model_param, widen};
use super::number::Float;
use super::tile::TILE;
use crate::model::dtype::DType;
use crate::numeric::half::{BF16, F16, Half};
use crate::numeric::stochastic_rounding::RoundingBits;

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
        // SAFETY: elements below `initialised` were written here.
        unsafe { self.elements[..len].assume_init_mut() }
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

/// A parameter, and what keeps precision beside it.
#[derive(Debug)]
pub struct Param<'a> {
    /// The model's elements.
    pub model: ElementsMut<'a>,
    /// How 16-bit ones keep precision.
    pub precision: ParamPrecision<'a>,
}

/// [`crate::model::dtype::Precision`] with its memory.
#[derive(Debug)]
pub enum ParamPrecision<'a> {
    /// Rounded to nearest; or the parameter does not have 16 bits.
    Nearest,
    /// Rounded stochastically.
    Stochastic,
    /// Float32 masters.
    Master(&'a mut [f32]),
    /// The low halves of the masters.
    Remainder(&'a mut [u16]),
}

impl Param<'_> {
    /// The model's own values, without masters.
    #[must_use]
    pub fn as_model_param(self) -> Self {
        Self { precision: ParamPrecision::Nearest, ..self }
    }

    /// The elements of a range.
    pub fn part(&mut self, range: Range<usize>) -> Param<'_> {
        let precision = match &mut self.precision {
            ParamPrecision::Nearest => ParamPrecision::Nearest,
            ParamPrecision::Stochastic => ParamPrecision::Stochastic,
            ParamPrecision::Master(masters) => ParamPrecision::Master(&mut masters[range.clone()]),
            ParamPrecision::Remainder(low) => ParamPrecision::Remainder(&mut low[range.clone()]),
        };
        Param { model: self.model.part(range), precision }
    }

    fn has_master(&self) -> bool {
        matches!(self.precision, ParamPrecision::Master(_) | ParamPrecision::Remainder(_))
    }

    /// The values that an update starts from: the masters where there are any.
    #[inline(always)]
    pub fn load<'b, T: Float>(&'b mut self, range: Range<usize>, buffer: &'b mut Buffer<T>) -> &'b mut [T] {
        if self.model.is_half() {
            self.convert(range.clone(), buffer);
        }
        self.tile(range, buffer)
    }

    fn convert<T: Float>(&mut self, range: Range<usize>, buffer: &mut Buffer<T>) {
        let (ElementsMut::BF16(bits) | ElementsMut::F16(bits)) = &self.model else { return };
        let (bits, len) = (&bits[range.clone()], range.len());
        match (&self.precision, &self.model) {
            (ParamPrecision::Master(_), _) => {} // in place
            (ParamPrecision::Remainder(low), _) => join(bits, &low[range], T::as_f32(buffer.first(len))),
            (_, ElementsMut::BF16(_)) => widen::<BF16, T>(bits, buffer.first(len)),
            _ => widen::<F16, T>(bits, buffer.first(len)),
        }
    }

    /// A tile that was loaded: in place or in the buffer.
    #[inline(always)]
    pub fn tile<'b, T: Float>(&'b mut self, range: Range<usize>, buffer: &'b mut Buffer<T>) -> &'b mut [T] {
        match &mut self.precision {
            ParamPrecision::Master(masters) => T::from_f32s(&mut masters[range]),
            _ => self.model.tile(range, buffer),
        }
    }

    /// Stores such a tile after an update. Without masters, it then holds what was stored.
    #[inline(always)]
    pub fn store<T: Float>(&mut self, range: Range<usize>, buffer: &mut Buffer<T>, random: RoundingBits) {
        match &self.model {
            ElementsMut::BF16(_) => self.store_half::<BF16, T>(range, buffer, random),
            ElementsMut::F16(_) => self.store_half::<F16, T>(range, buffer, random),
            ElementsMut::F32(_) | ElementsMut::F64(_) => {} // in place
        }
    }

    fn store_half<H: Half, T: Float>(&mut self, range: Range<usize>, buffer: &mut Buffer<T>, random: RoundingBits) {
        let (start, len) = (range.start, range.len());
        let (ElementsMut::BF16(bits) | ElementsMut::F16(bits)) = &mut self.model else { return };
        let bits = &mut bits[range.clone()];
        match &mut self.precision {
            ParamPrecision::Master(masters) => copy_masters::<H>(&masters[range], bits),
            ParamPrecision::Remainder(low) => split(T::as_f32(buffer.first(len)), bits, &mut low[range]),
            ParamPrecision::Nearest => round_nearest::<H>(T::as_f32(buffer.first(len)), bits),
            ParamPrecision::Stochastic => round_stochastic::<H>(T::as_f32(buffer.first(len)), bits, random, start),
        }
    }

    /// The rounding to values that the model's parameter can have: to nearest, or as masters are copied.
    pub fn rounding_to_model(&self) -> RoundingToModel {
        RoundingToModel(match (&self.model, self.has_master()) {
            (ElementsMut::BF16(_), false) => Some(to_model_param::<BF16, false>),
            (ElementsMut::BF16(_), true) => Some(to_model_param::<BF16, true>),
            (ElementsMut::F16(_), _) => Some(to_model_param::<F16, false>),
            (ElementsMut::F32(_) | ElementsMut::F64(_), _) => None,
        })
    }

    /// Makes the masters equal to the model's parameter.
    pub fn init_masters(self) {
        match (self.precision, self.model) {
            (ParamPrecision::Master(masters), ElementsMut::BF16(bits)) => widen::<BF16, f32>(bits, masters),
            (ParamPrecision::Master(masters), ElementsMut::F16(bits)) => widen::<F16, f32>(bits, masters),
            (ParamPrecision::Remainder(low), _) => low.fill(0),
            _ => {}
        }
    }

    /// How many elements are not the copies of their masters. Remainders have no such elements.
    pub fn count_desynced(&self) -> usize {
        let count = |masters: &[f32], bits: &[u16], copy: fn(f32) -> u16| {
            masters.iter().zip(bits).filter(|(master, bits)| copy(**master) != **bits).count()
        };
        match (&self.precision, &self.model) {
            (ParamPrecision::Master(masters), ElementsMut::BF16(bits)) => count(masters, bits, BF16::from_master),
            (ParamPrecision::Master(masters), ElementsMut::F16(bits)) => count(masters, bits, F16::from_master),
            _ => 0,
        }
    }
}

/// See [`Param::rounding_to_model`].
#[derive(Clone, Copy, Debug)]
pub struct RoundingToModel(Option<fn(&mut [f32])>);

impl RoundingToModel {
    /// Rounds a tile.
    pub fn apply<T: Float>(self, tile: &mut [T]) {
        if let Some(round) = self.0 {
            round(T::as_f32(tile));
        }
    }
}

/// Both moments. Bfloat16 ones are rounded stochastically, both by the same bits.
#[derive(Debug)]
pub struct Moments<'a> {
    /// First moment.
    pub m: ElementsMut<'a>,
    /// Second moment.
    pub v: ElementsMut<'a>,
    /// Whether they, or the gradients that they are made of, have 16 bits: float32 then suffices for sums within a tile.
    pub low_precision: bool,
}

impl Moments<'_> {
    /// The elements of a range.
    pub fn part(&mut self, range: Range<usize>) -> Moments<'_> {
        Moments { m: self.m.part(range.clone()), v: self.v.part(range), low_precision: self.low_precision }
    }

    /// At most a tile of both.
    #[inline(always)]
    pub fn load<'b, T: Float>(&'b mut self, range: Range<usize>, buffers: [&'b mut Buffer<T>; 2]) -> [&'b mut [T]; 2] {
        let [m, v] = buffers;
        if self.m.is_half() {
            self.convert(range.clone(), [m, v]);
        }
        self.tiles(range, [m, v])
    }

    fn convert<T: Float>(&self, range: Range<usize>, buffers: [&mut Buffer<T>; 2]) {
        for (moment, buffer) in [&self.m, &self.v].into_iter().zip(buffers) {
            if let ElementsMut::BF16(bits) = moment {
                widen::<BF16, T>(&bits[range.clone()], buffer.first(range.len()));
            }
        }
    }

    /// Tiles that were loaded: in place or in the buffers.
    #[inline(always)]
    pub fn tiles<'b, T: Float>(&'b mut self, range: Range<usize>, buffers: [&'b mut Buffer<T>; 2]) -> [&'b mut [T]; 2] {
        let [m, v] = buffers;
        [self.m.tile(range.clone(), m), self.v.tile(range, v)]
    }

    /// Whether [`Self::store`] does anything.
    #[inline(always)]
    pub fn are_half(&self) -> bool {
        self.m.is_half()
    }

    /// Stores such tiles, which then hold what was stored.
    pub fn store<T: Float>(&mut self, range: Range<usize>, buffers: [&mut Buffer<T>; 2], random: RoundingBits) {
        for (moment, buffer) in [&mut self.m, &mut self.v].into_iter().zip(buffers) {
            if let ElementsMut::BF16(bits) = moment {
                let tile = T::as_f32(buffer.first(range.len()));
                round_stochastic::<BF16>(tile, &mut bits[range.clone()], random, range.start);
            }
        }
    }
}
