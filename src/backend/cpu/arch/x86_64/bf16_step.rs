//! The step on whole tiles of bfloat16 parameters and gradients, in AVX2: the bits of the loops in `kernels`.
//!
//! What the compiler does not find: a parameter waits long for root and division, and two blocks of the whole step fill the
//! window in which a CPU looks for other work. So a first loop computes a tile's moments and, some blocks later, the ratios
//! of the update; a second, shorter one computes the parameters.

use std::mem::MaybeUninit;

use super::bf16_formats::{Master, MomentFormat, Nearest, ParamFormat, Remainder, Stochastic, read_bf16};
use super::bf16_sums::{add_lanes, add_squares, hold, hold_or_zero, is_zero};
use super::random_blocks::RandomBlocks;
use super::vector::{BLOCK, Block, F32s, both};
use super::{Avx2Kernel, Done};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::load_store::ParamPrecision;
use crate::backend::cpu::kernels::number::Number;
use crate::backend::cpu::kernels::sums_f32::{SMALL, scale, unscale};
use crate::backend::cpu::kernels::sums_f64::Sum;
use crate::backend::cpu::kernels::tile::TILE;
use crate::numeric::stochastic_rounding::RoundingBits;

/// Blocks of a tile.
const BLOCKS: usize = TILE / BLOCK;

/// A block's ratio of first moment and denominator; before the division, the first moment and the root of the second, as
/// they are before they are rounded.
type Ratio = MaybeUninit<[Block<F32s>; 2]>;

/// The first loop over a tile. SCALED: gradients have a factor; most have none, and a product by 1 costs time.
/// FIRST_MOMENT: Σ m² is wanted.
struct MomentLoop<M, const FIRST_MOMENT: bool, const SCALED: bool> {
    s: Scalars<F32s>,
    g: *const u16,
    moments: [*mut M; 2],
    random: RandomBlocks,
    scale: F32s,
    of_m: Block<F32s>,
    of_v: Block<F32s>,
}

impl<M: MomentFormat, const FIRST_MOMENT: bool, const SCALED: bool> MomentLoop<M, FIRST_MOMENT, SCALED> {
    /// A block's moments, and what its ratio is computed from.
    ///
    /// # Safety
    /// The CPU has AVX2, and the tile of the pointers, which nobody else touches, has this block.
    #[inline(always)]
    unsafe fn moments(&mut self, block: usize) -> [Block<F32s>; 2] {
        let at = block * BLOCK;
        // SAFETY: the caller promises AVX2 and that the block, from element `at` on, is in the tile.
        unsafe {
            let places = both!(I => self.moments[I].add(at));
            let (g, m, v) = (read_bf16(self.g.add(at)), M::read(places[0]), M::read(places[1]));
            let [(m0, v0), (m1, v1)] = both!(I => self.s.lerp_moments::<SCALED>(g[I], m[I], v[I]));
            let new = [[m0, m1], [v0, v1]];
            let random = if M::STOCHASTIC { self.random.next::<true>() } else { self.random.next::<false>() };
            let [m, v] = M::write(places, new, random);
            if FIRST_MOMENT {
                add_squares(&mut self.of_m, m);
            }
            add_squares(&mut self.of_v, both!(I => v[I] * self.scale));
            [new[0], both!(I => new[1][I].sqrt())]
        }
    }

    /// Divides what [`Self::moments`] returned.
    ///
    /// # Safety
    /// It was written.
    #[inline(always)]
    unsafe fn divide(&self, ratio: &mut Ratio) {
        // SAFETY: the caller promises that it was written.
        let [m, root] = unsafe { ratio.assume_init() };
        ratio.write([both!(I => m[I] / self.s.denominator(root[I])), root]);
    }

    /// All blocks; writes every ratio.
    ///
    /// # Safety
    /// The CPU has AVX2, and a tile from the pointers on is valid, does not overlap and is touched by nobody else.
    #[inline(always)]
    unsafe fn run(&mut self, ratios: &mut [Ratio; BLOCKS]) {
        /// Blocks whose roots are under way before the first division.
        const LAG: usize = 4;
        // SAFETY: the caller promises AVX2 and a tile, which has BLOCKS blocks; a ratio is written before it is divided.
        unsafe {
            for (block, ratio) in ratios[..LAG].iter_mut().enumerate() {
                ratio.write(self.moments(block));
            }
            for block in LAG..BLOCKS {
                self.divide(&mut ratios[block - LAG]);
                ratios[block].write(self.moments(block));
            }
            for ratio in &mut ratios[BLOCKS - LAG..] {
                self.divide(ratio);
            }
        }
    }
}

/// A tile's moments; its lanes of Σ m² and Σ (2⁴⁸v)².
///
/// # Safety
/// As for [`MomentLoop::run`].
#[inline(always)]
unsafe fn update_moments<M: MomentFormat, const FIRST_MOMENT: bool, const SCALED: bool>(
    s: Scalars<f32>,
    g: *const u16,
    moments: [*mut M; 2],
    (random, start): (RoundingBits, usize),
    ratios: &mut [Ratio; BLOCKS],
) -> [Block<F32s>; 2] {
    // SAFETY: the caller promises AVX2 and the tile.
    unsafe {
        let zero = [F32s::splat(0.0); 2];
        let mut tile = MomentLoop::<M, FIRST_MOMENT, SCALED> {
            s: s.map(|x| F32s::splat(x)),
            g,
            moments,
            random: RandomBlocks::new(random, start),
            scale: F32s::splat(scale(SMALL)),
            of_m: zero,
            of_v: zero,
        };
        tile.run(ratios);
        [tile.of_m, tile.of_v]
    }
}

/// A tile's parameters, moved by these ratios; its lanes of Σ θ².
///
/// # Safety
/// The CPU has AVX2; the ratios were written; a tile from the pointers on is valid, does not overlap and is touched by
/// nobody else.
#[inline(always)]
unsafe fn update_params<P: ParamFormat, M: MomentFormat>(
    s: Scalars<f32>,
    model: *mut u16,
    beside: *mut P::Beside,
    (random, start): (RoundingBits, usize),
    ratios: &[Ratio; BLOCKS],
) -> Block<F32s> {
    // SAFETY: the caller promises AVX2, the ratios and the tile, which has BLOCKS blocks.
    unsafe {
        let s = s.map(|x| F32s::splat(x));
        let (mut random, mut squares) = (RandomBlocks::new(random, start), [F32s::splat(0.0); 2]);
        for (block, ratio) in ratios.iter().enumerate() {
            // Beside a parameter without masters there is nothing, of size 0.
            let (model, beside) = (model.add(block * BLOCK), beside.add(block * BLOCK));
            let (p, [ratio, _]) = (P::read(model, beside), ratio.assume_init());
            let new = both!(I => s.param::<false>(p[I], ratio[I]));
            let random = if P::STOCHASTIC { random.next::<true>() } else { random.next::<false>() };
            add_squares(&mut squares, P::write::<M>(model, beside, new, random));
        }
        squares
    }
}

/// The step on whole tiles.
pub(super) struct Bf16Steps<'a, M> {
    pub p: &'a mut [u16],
    pub precision: ParamPrecision<'a>,
    pub g: &'a [u16],
    pub moments: [&'a mut [M]; 2],
    pub s: Scalars<f32>,
    pub random: [RoundingBits; 2],
    /// Index in the chunk of the first element.
    pub start: usize,
    pub first_moment: bool,
    pub sums: Option<[&'a mut Sum; 3]>,
}

impl<M: MomentFormat> Avx2Kernel for Bf16Steps<'_, M> {
    type Output = Done;

    #[inline(always)]
    unsafe fn run(mut self) -> Done {
        let mut done = Done { elements: 0, summed: true };
        let len = self.g.len();
        assert!(self.p.len() == len && self.moments.iter().all(|moment| moment.len() == len));
        while done.elements + TILE <= len && done.summed {
            let mut ratios = [const { MaybeUninit::uninit() }; BLOCKS];
            // SAFETY: whoever runs this has AVX2; the assertion above and those of `params` say that the slices have a tile
            // at `done.elements`; `moments` writes the ratios.
            let (of_p, [of_m, of_v], hold) = unsafe {
                let moments = self.update_moments(done.elements, &mut ratios);
                let of_p = self.update_params(done.elements, &ratios);
                (of_p, moments, self.sums.is_some() && self.hold(done.elements, of_p, moments))
            };
            done.elements += TILE;
            let Some([sum_p, sum_m, sum_v]) = &mut self.sums else { continue };
            done.summed = hold;
            if done.summed {
                add_lanes(sum_p, of_p, 1.0);
                if self.first_moment {
                    add_lanes(sum_m, of_m, 1.0);
                }
                add_lanes(sum_v, of_v, unscale(SMALL));
            }
        }
        if done.elements == 0 { Done::NOTHING } else { done }
    }
}

impl<M: MomentFormat> Bf16Steps<'_, M> {
    /// Whether the lanes of the sums of the tile at `at` hold, or it is zero.
    ///
    /// # Safety
    /// The CPU has AVX2, and parameter and moments have such a tile.
    #[inline(always)]
    unsafe fn hold(&self, at: usize, of_p: Block<F32s>, [of_m, of_v]: [Block<F32s>; 2]) -> bool {
        let [m, v] = &self.moments;
        // SAFETY: the caller promises AVX2 and the tile.
        unsafe {
            let param_holds = match &self.precision {
                ParamPrecision::Nearest | ParamPrecision::Stochastic => hold_or_zero(of_p, self.p.as_ptr().add(at)),
                ParamPrecision::Master(masters) => hold_or_zero(of_p, masters.as_ptr().add(at)),
                ParamPrecision::Remainder(low) => {
                    hold(of_p) || is_zero(self.p.as_ptr().add(at)) && is_zero(low.as_ptr().add(at))
                }
            };
            param_holds
                && (!self.first_moment || hold_or_zero(of_m, m.as_ptr().add(at)))
                && hold_or_zero(of_v, v.as_ptr().add(at))
        }
    }

    /// [`update_moments`] of the tile at `at`.
    ///
    /// # Safety
    /// The CPU has AVX2, and gradient and moments have such a tile.
    #[inline(always)]
    unsafe fn update_moments(&mut self, at: usize, ratios: &mut [Ratio; BLOCKS]) -> [Block<F32s>; 2] {
        let (s, random) = (self.s, (self.random[1], self.start + at));
        // SAFETY: the caller promises AVX2 and the tile; the slices are borrowed by `self` alone.
        unsafe {
            let (g, [m, v]) = (self.g.as_ptr().add(at), &mut self.moments);
            let moments = [m.as_mut_ptr().add(at), v.as_mut_ptr().add(at)];
            match (self.first_moment, s.is_scaled()) {
                (true, true) => update_moments::<M, true, true>(s, g, moments, random, ratios),
                (true, false) => update_moments::<M, true, false>(s, g, moments, random, ratios),
                (false, true) => update_moments::<M, false, true>(s, g, moments, random, ratios),
                (false, false) => update_moments::<M, false, false>(s, g, moments, random, ratios),
            }
        }
    }

    /// [`update_params`] of the tile at `at`.
    ///
    /// # Safety
    /// The CPU has AVX2, the parameter has such a tile, and the ratios were written.
    #[inline(always)]
    unsafe fn update_params(&mut self, at: usize, ratios: &[Ratio; BLOCKS]) -> Block<F32s> {
        let (s, random) = (self.s, (self.random[0], self.start + at));
        let model = self.p[at..at + TILE].as_mut_ptr();
        // SAFETY: the caller promises AVX2, the tile and the ratios; the slices, which are cut to a tile, are borrowed by
        // `self` alone.
        unsafe {
            match &mut self.precision {
                ParamPrecision::Nearest => {
                    update_params::<Nearest, M>(s, model, std::ptr::dangling_mut(), random, ratios)
                }
                ParamPrecision::Stochastic => {
                    update_params::<Stochastic, M>(s, model, std::ptr::dangling_mut(), random, ratios)
                }
                ParamPrecision::Master(masters) => {
                    update_params::<Master, M>(s, model, masters[at..at + TILE].as_mut_ptr(), random, ratios)
                }
                ParamPrecision::Remainder(low) => {
                    update_params::<Remainder, M>(s, model, low[at..at + TILE].as_mut_ptr(), random, ratios)
                }
            }
        }
    }
}
