//! Conversions of a tile between the dtypes in memory and the type that a tensor is computed in.

use std::marker::PhantomData;

use super::number::{Float, Number};
use crate::numeric::half::{self, Half};
use crate::numeric::simd::{self, Kernel};
use crate::numeric::stochastic_rounding::RoundingBits;

struct Widen<'a, H, T>(&'a [u16], &'a mut [T], PhantomData<H>);

impl<H: Half, T: Float> Kernel for Widen<'_, H, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (from, to) in self.0.iter().zip(self.1) {
            *to = T::from_f32(H::widen(*from));
        }
    }
}

/// Widens 16-bit elements.
pub fn widen<H: Half, T: Float>(from: &[u16], to: &mut [T]) {
    simd::run_up_to_avx2(Widen::<H, T>(from, to, PhantomData));
}

struct Convert<'a, T: Float>(&'a [T::Other], &'a mut [T]);

impl<T: Float> Kernel for Convert<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (from, to) in self.0.iter().zip(self.1) {
            *to = T::round(from.widen());
        }
    }
}

/// Widens float32 to float64, or rounds float64 to float32.
pub fn convert<T: Float>(from: &[T::Other], to: &mut [T]) {
    simd::run_up_to_avx2(Convert(from, to));
}

struct Nearest<'a, H>(&'a mut [f32], &'a mut [u16], PhantomData<H>);

impl<H: Half> Kernel for Nearest<'_, H> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, to) in self.0.iter_mut().zip(self.1) {
            *to = H::round(*x);
            *x = H::widen(*to);
        }
    }
}

/// Rounds to nearest, and `tile` too.
pub fn round_nearest<H: Half>(tile: &mut [f32], to: &mut [u16]) {
    simd::run_up_to_avx2(Nearest::<H>(tile, to, PhantomData));
}

struct Stochastic<'a, H> {
    tile: &'a mut [f32],
    to: &'a mut [u16],
    random: RoundingBits,
    start: usize,
    format: PhantomData<H>,
}

impl<H: Half> Kernel for Stochastic<'_, H> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let bits = self.random.bits(self.start);
        for ((x, to), bits) in self.tile.iter_mut().zip(self.to).zip(&bits) {
            *to = H::round_stochastic(*x, u32::from(*bits));
            *x = H::widen(*to);
        }
    }
}

/// Rounds stochastically the elements from `start` of their chunk on, and `tile` too.
pub fn round_stochastic<H: Half>(tile: &mut [f32], to: &mut [u16], random: RoundingBits, start: usize) {
    simd::run_up_to_avx2(Stochastic::<H> { tile, to, random, start, format: PhantomData });
}

struct Copies<'a, H>(&'a [f32], &'a mut [u16], PhantomData<H>);

impl<H: Half> Kernel for Copies<'_, H> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (master, copy) in self.0.iter().zip(self.1) {
            *copy = H::from_master(*master);
        }
    }
}

/// Writes the low-precision copies of masters.
pub fn copy_masters<H: Half>(masters: &[f32], copies: &mut [u16]) {
    simd::run_up_to_avx2(Copies::<H>(masters, copies, PhantomData));
}

struct ToModelParam<'a, H, const MASTER: bool>(&'a mut [f32], PhantomData<H>);

impl<H: Half, const MASTER: bool> Kernel for ToModelParam<'_, H, MASTER> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.0 {
            *x = H::widen(if MASTER { H::from_master(*x) } else { H::round(*x) });
        }
    }
}

/// Rounds a tile to the values that the model's 16-bit parameter would have: of MASTERs, their copies.
pub fn to_model_param<H: Half, const MASTER: bool>(tile: &mut [f32]) {
    simd::run_up_to_avx2(ToModelParam::<H, MASTER>(tile, PhantomData));
}

struct Split<'a>(&'a [f32], &'a mut [u16], &'a mut [u16]);

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((master, copy), low) in self.0.iter().zip(self.1).zip(self.2) {
            (*copy, *low) = half::split(*master);
        }
    }
}

/// Splits masters into copies and remainders.
pub fn split(masters: &[f32], copies: &mut [u16], remainders: &mut [u16]) {
    simd::run_up_to_avx2(Split(masters, copies, remainders));
}

struct Join<'a>(&'a [u16], &'a [u16], &'a mut [f32]);

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((copy, low), master) in self.0.iter().zip(self.1).zip(self.2) {
            *master = half::join(*copy, *low);
        }
    }
}

/// Joins masters from copies and remainders.
pub fn join(copies: &[u16], remainders: &[u16], masters: &mut [f32]) {
    simd::run_up_to_avx2(Join(copies, remainders, masters));
}
