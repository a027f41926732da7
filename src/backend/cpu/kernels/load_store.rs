//! How a step loads and stores parameters and moments, masters and remainders included.
//!
//! After a tile was stored, it holds what memory holds: sums of it have the bits that sums of memory have.

use std::ops::Range;

use super::convert::{copy_masters, join, round_nearest, round_stochastic, split, to_model_param, widen};
use super::elements::{Buffer, ElementsMut};
use super::number::Float;
use crate::numeric::half::{BF16, F16, Half};
use crate::numeric::stochastic_rounding::RoundingBits;

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
    pub fn into_model_param(self) -> Self {
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

/// Elements at the start of a chunk that tell whether a parameter is still its master's copy: a cache line of it, which the
/// update is about to write.
const SAMPLE: usize = 32;

impl Param<'_> {
    /// Whether one of the first elements is more than one unit in the last place away from its master's copy. One unit is
    /// what another rounding of the same master makes.
    pub fn is_changed(&self) -> bool {
        let ParamPrecision::Master(masters) = &self.precision else { return false };
        let differ = |bits: &[u16], copy: fn(f32) -> u16| {
            let sample = masters.iter().zip(bits).take(SAMPLE);
            sample.fold(false, |any, (master, bits)| any | (place(copy(*master)).abs_diff(place(*bits)) > 1))
        };
        match &self.model {
            ElementsMut::BF16(bits) => differ(bits, BF16::from_master),
            ElementsMut::F16(bits) => differ(bits, F16::from_master),
            ElementsMut::F32(_) | ElementsMut::F64(_) => false,
        }
    }
}

/// The place of a 16-bit float among all of them in the order of their values; both zeros are at 0.
fn place(bits: u16) -> i32 {
    let magnitude = i32::from(bits & 0x7FFF);
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
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
