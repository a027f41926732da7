//! The step on whole tiles of float32 by hand: the bits of `scalars.rs` and `sums.rs`.
//!
//! What the compiler does not find: roots and quotients keep the divider busy and little else, while what is exact in
//! float64 (the first moment, the sums of the state) is conversions, for which the divider need not stop. Loop after loop
//! the two take turns. Here one loop has both, and the links of the chain moments – root – quotient – parameter are a
//! block each apart, so that no link waits for the last.

use std::ffi::c_void;

use super::vector::{BLOCK, Block, F32s, F64s, both};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::number::{Float, Number};
use crate::backend::cpu::kernels::sums_f64::{LANES, Sum};
use crate::backend::cpu::kernels::tile::TILE;
use crate::model::dtype::DType;
use crate::numeric::simd::{self, Level};

/// Blocks of a tile.
const BLOCKS: usize = TILE / BLOCK;
/// Blocks of which a sum is made at once: its lanes are kept in registers as long. Another block's turn is another sum.
const TURNS: usize = 4;
const _: () = assert!(LANES == BLOCK && TILE.is_multiple_of(TURNS * BLOCK));

/// Whether there is something here for so many parameters and gradients of these dtypes: for a whole tile, on this CPU.
#[inline(always)]
pub fn fits<T: Float>(len: usize, dtypes: [DType; 2]) -> bool {
    T::DTYPE == DType::F32 && len == TILE && dtypes == [DType::F32; 2] && simd::level() >= Level::Avx2
}

/// A tile in memory.
#[derive(Clone, Copy)]
pub struct Tile {
    p: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
}

impl Tile {
    /// Of parameter, gradient and moments.
    ///
    /// # Safety
    /// The pointers are chunks' first elements, and element `at` lies inside.
    #[inline(always)]
    pub unsafe fn new(p: *mut c_void, g: *const c_void, [m, v]: [*mut c_void; 2], at: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                p: p.cast::<f32>().add(at),
                g: g.cast::<f32>().add(at),
                m: m.cast::<f32>().add(at),
                v: v.cast::<f32>().add(at),
            }
        }
    }

    /// Writes the moments of the block from `at` on.
    #[inline(always)]
    unsafe fn moments<const SCALED: bool>(self, s: &Scalars<F32s>, at: usize) {
        for at in [at, at + BLOCK / 2] {
            // SAFETY: the caller's promise.
            unsafe {
                let (g, m, v) = (self.g.add(at), self.m.add(at), self.v.add(at));
                let (new_m, new_v) = if SCALED {
                    s.moments::<true>(F32s::load(g), F32s::load(m), F32s::load(v))
                } else {
                    // From memory, widening takes half the shuffles.
                    let like = F32s::load(g);
                    (F32s::round(s.first(like, F64s::widened(g), F64s::widened(m))), s.second(like, F32s::load(v)))
                };
                new_m.store(m);
                new_v.store(v);
            }
        }
    }
}

/// sum += Σ x² of a turn's elements.
#[inline(always)]
unsafe fn add_squares(x: *const f32, sum: &mut Sum) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = sum.lanes();
        let mut lanes = both!(I => F64s::read(to.add(8 * I)));
        for block in 0..TURNS {
            let x = both!(I => F64s::widened(x.add(block * BLOCK + 8 * I)));
            lanes = both!(I => lanes[I] + x[I] * x[I]);
        }
        both!(I => lanes[I].write(to.add(8 * I)));
    }
}

/// The step on one tile, and the sums of the state it leaves: Σ θ², Σ m², Σ v².
///
/// # Safety
/// The CPU has AVX2; a tile of all that `tile` points to is valid, does not overlap, and nobody else touches it.
#[inline(always)]
pub unsafe fn step(s: Scalars<f32>, tile: Tile, sums: [&mut Sum; 3]) {
    // SAFETY: the caller's promise.
    unsafe {
        if s.is_scaled() {
            step_of::<true>(s, tile, sums);
        } else {
            step_of::<false>(s, tile, sums);
        }
    }
}

/// The same of gradients with a factor or without.
#[inline(always)]
unsafe fn step_of<const SCALED: bool>(s: Scalars<f32>, tile: Tile, [of_p, of_m, of_v]: [&mut Sum; 3]) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = F32s::splat(0.0);
        let s = s.map(|x| F32s::splat(x));
        let (mut denominators, mut ratios): (Block<F32s>, Block<F32s>) = ([zero; 2], [zero; 2]);
        for block in 0..BLOCKS + TURNS {
            // Where the block begins that is so many behind this one, if there is one.
            let behind = |blocks: usize| block.checked_sub(blocks).filter(|b| *b < BLOCKS).map(|b| b * BLOCK);
            if let Some(at) = behind(3) {
                let p = both!(I => tile.p.add(at + 8 * I));
                both!(I => s.param::<true>(F32s::load(p[I]), ratios[I]).store(p[I]));
            }
            // Two behind: m was written in halves, and could not be read as a whole before these have left the core.
            if let Some(at) = behind(2) {
                ratios = both!(I => F32s::load(tile.m.add(at + 8 * I)) / denominators[I]);
            }
            if let Some(at) = behind(1) {
                denominators = both!(I => s.denominator(F32s::load(tile.v.add(at + 8 * I)).sqrt()));
            }
            if let Some(at) = behind(0) {
                tile.moments::<SCALED>(&s, at);
            }
            if block >= TURNS {
                let at = (block / TURNS - 1) * TURNS * BLOCK;
                match block % TURNS {
                    0 => add_squares(tile.m.add(at), of_m),
                    1 => add_squares(tile.v.add(at), of_v),
                    3 => add_squares(tile.p.add(at), of_p),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::kernels::sums_f64::square;
    use crate::model::coefficients::Coefficients;
    use crate::numeric::simd::Kernel;

    type State = [Vec<f32>; 4];

    /// By hand, compiled as in the step.
    struct ByHand<'a>(Scalars<f32>, &'a mut State, &'a mut [Sum; 3]);

    impl Kernel for ByHand<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(s, [p, g, m, v], [of_p, of_m, of_v]) = self;
            for at in (0..g.len()).step_by(TILE) {
                let moments = [m.as_mut_ptr().cast(), v.as_mut_ptr().cast()];
                // SAFETY: whoever runs this has AVX2; each is a multiple of a tile long.
                unsafe {
                    let tile = Tile::new(p.as_mut_ptr().cast(), g.as_ptr().cast(), moments, at);
                    step(s, tile, [of_p, of_m, of_v]);
                }
            }
        }
    }

    /// Element by element, sum by sum.
    fn defined(s: Scalars<f32>, [p, g, m, v]: &mut State, sums: &mut [Sum; 3]) {
        for i in 0..g.len() {
            (m[i], v[i]) = s.moments::<true>(g[i], m[i], v[i]);
            p[i] = s.param::<true>(p[i], s.ratio(m[i], v[i]));
        }
        for (sum, x) in sums.iter_mut().zip([p, m, v]) {
            square(x, sum);
        }
    }

    /// Three tiles of these numbers beside each other, and of others of all sizes.
    fn state(special: &[f32]) -> State {
        let mut bits = 1_u32;
        let mut any = |i: usize, k: usize| {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = 10_f32.powi((bits >> 8).cast_signed() % 12 - 9);
            let number = size * (1.0 + (bits >> 9) as f32 / 8_388_608.0) * if bits & 0x100 == 0 { 1.0 } else { -1.0 };
            let chosen = special[i / special.len().pow(k as u32 % 2) % special.len()];
            if (i + k).is_multiple_of(3) { number } else { chosen }
        };
        let mut state = std::array::from_fn(|k| (0..3 * TILE).map(|i| any(i, k)).collect());
        let [_, _, _, v]: &mut State = &mut state;
        v.iter_mut().for_each(|v| *v = v.abs());
        state
    }

    /// Which NaN it is is not said.
    fn bits(x: f64) -> u64 {
        if x.is_nan() { u64::MAX } else { x.to_bits() }
    }

    #[test]
    fn by_hand_are_the_bits_of_the_definition() {
        if !simd::available().contains(&Level::Avx2) {
            return println!("skipped: no AVX2");
        }
        let finite = [0.0, -0.0, 1e-45, -1e-45, 1e-40, -3e-39, f32::MIN_POSITIVE, 1e-22, -1.0, 1.0, 0.1, -7e4];
        let huge = [f32::MAX, f32::MIN, 1e19, -2e19, 3e38, 0.0, -0.0, 1.0];
        let any = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 0.0, -0.0, 1e-45, 1.0];
        let c =
            Coefficients { gradient: 0.7, beta1: 0.9, beta2: 0.999, eps: 3e-9, step_size: 1e-3, decay: 1e-5, key: 0 };
        let plain = Coefficients { gradient: 1.0, decay: 0.0, ..c };
        for (special, c) in [(&finite[..], c), (&finite[..], plain), (&huge[..], c), (&any[..], c)] {
            let (s, start) = (Scalars::new(&c, false), state(special));
            let [mut expected, mut got] = [start.clone(), start];
            let (mut expected_sums, mut sums) = ([Sum::ZERO; 3], [Sum::ZERO; 3]);
            for round in 0..3 {
                defined(s, &mut expected, &mut expected_sums);
                simd::run(ByHand(s, &mut got, &mut sums));
                for (k, name) in ["p", "g", "m", "v"].into_iter().enumerate() {
                    for (i, expected) in expected[k].iter().enumerate() {
                        let got = got[k][i];
                        let same = bits(f64::from(got)) == bits(f64::from(*expected));
                        assert!(same, "{name}[{i}] of round {round}: {got:e} instead of {expected:e}");
                    }
                }
            }
            for (k, (sum, expected)) in sums.iter_mut().zip(&mut expected_sums).enumerate() {
                // SAFETY: a sum has so many lanes.
                let lanes = |sum: &mut Sum| unsafe { *sum.lanes().cast::<[f64; LANES]>() };
                for (lane, (got, expected)) in lanes(sum).into_iter().zip(lanes(expected)).enumerate() {
                    assert!(bits(got) == bits(expected), "lane {lane} of sum {k}: {got:e} instead of {expected:e}");
                }
                assert!(special != finite || sum.total().is_finite(), "else it says little");
            }
        }
    }
}
