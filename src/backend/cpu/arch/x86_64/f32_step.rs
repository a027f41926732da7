//! The step on whole tiles of float32, in AVX2: the bits of the loops in `kernels`.
//!
//! What the compiler does not find: roots and quotients keep the divider busy and little else, while the float64 parts (the
//! first moment, the sums of the state) are conversions, during which the divider could work. In loops one after the other
//! the two take turns. Here one loop has both, and the links of the chain moments – root – quotient – parameter are a block
//! apart from each other, so that no link waits for the one before it.

use super::average_formats::{AverageFormat, NoAverage};
use super::random_blocks::RandomBlocks;
use super::vector::{BLOCK, Block, F32s, F64s, both};
use super::{Avx2Kernel, Done};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::number::Number;
use crate::backend::cpu::kernels::sums_f64::{LANES, Sum};
use crate::backend::cpu::kernels::tile::TILE;
use crate::numeric::stochastic_rounding::{RoundingBits, Use};

/// Blocks of a tile.
const BLOCKS: usize = TILE / BLOCK;
/// Blocks whose squares are added at once, while the lanes of the sum are in registers. After each block another sum has
/// its turn.
const TURNS: usize = 4;
const _: () = assert!(LANES == BLOCK && TILE.is_multiple_of(TURNS * BLOCK));

/// The step on whole tiles, and the sums of the state that it leaves: Σ θ², Σ m², Σ v².
pub(super) struct F32Steps<'a, A> {
    pub p: &'a mut [f32],
    pub g: &'a [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
    pub s: Scalars<f32>,
    pub sums: [&'a mut Sum; 3],
    pub average: Following<'a, A>,
}

/// The average, θ̄ ← θ̄ + (θ − θ̄)/N.
pub(super) struct Following<'a, A> {
    /// As many as the parameter has; none where A is no format.
    pub elements: &'a mut [A],
    /// 1/N.
    pub share: f32,
    /// For stochastic rounding.
    pub random: RoundingBits,
    /// Index in the chunk of the first element here.
    pub start: usize,
    /// Σ g·(θ − θ̄) of what was there before the step, if it is wanted.
    pub displacement: Option<&'a mut Sum>,
}

impl Following<'_, NoAverage> {
    pub fn none() -> Self {
        let random = RoundingBits::new(0, 0, Use::Average);
        Self { elements: &mut [], share: 0.0, random, start: 0, displacement: None }
    }
}

impl<A: AverageFormat> Avx2Kernel for F32Steps<'_, A> {
    type Output = Done;

    #[inline(always)]
    unsafe fn run(self) -> Done {
        let Self { p, g, m, v, s, sums: [of_p, of_m, of_v], mut average } = self;
        let tiles = g.as_chunks::<TILE>().0;
        let arrays =
            p.as_chunks_mut::<TILE>().0.iter_mut().zip(m.as_chunks_mut::<TILE>().0).zip(v.as_chunks_mut::<TILE>().0);
        for (i, (g, ((p, m), v))) in tiles.iter().zip(arrays).enumerate() {
            let at = i * TILE;
            let a = if A::EXISTS { &mut average.elements[at..at + TILE] } else { &mut [] };
            let tile =
                Tile { p: p.as_mut_ptr(), g: g.as_ptr(), m: m.as_mut_ptr(), v: v.as_mut_ptr(), a: a.as_mut_ptr() };
            // SAFETY: whoever runs this has AVX2; the pointers lead to arrays of a tile, borrowed for this turn.
            unsafe {
                if s.is_scaled() {
                    step::<true, A>(s, tile, [of_p, of_m, of_v], &mut average, at);
                } else {
                    step::<false, A>(s, tile, [of_p, of_m, of_v], &mut average, at);
                }
            }
        }
        if tiles.is_empty() { Done::NOTHING } else { Done { elements: tiles.len() * TILE, summed: true } }
    }
}

/// A tile in memory.
#[derive(Clone, Copy)]
struct Tile<A> {
    p: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    a: *mut A,
}

impl<A: AverageFormat> Tile<A> {
    /// Writes the moments of the block from `at` on. SCALED: gradients have a factor.
    ///
    /// # Safety
    /// The CPU has AVX2, and the tile has such a block.
    #[inline(always)]
    unsafe fn update_moments<const SCALED: bool>(self, s: &Scalars<F32s>, at: usize) {
        for at in [at, at + BLOCK / 2] {
            // SAFETY: the caller promises AVX2 and the block.
            unsafe {
                let (g, m, v) = (self.g.add(at), self.m.add(at), self.v.add(at));
                let (new_m, new_v) = if SCALED {
                    s.moments::<true>(F32s::load(g), F32s::load(m), F32s::load(v))
                } else {
                    // Widening from memory takes half the shuffles.
                    let like = F32s::load(g);
                    (s.first_moment(like, F64s::widened(g), F64s::widened(m)), s.second_moment(like, F32s::load(v)))
                };
                new_m.store(m);
                new_v.store(v);
            }
        }
    }
}

/// sum += Σ x² of TURNS blocks.
///
/// # Safety
/// The CPU has AVX2, and these blocks are readable.
#[inline(always)]
unsafe fn add_squares(x: *const f32, sum: &mut Sum) {
    // SAFETY: the caller promises AVX2 and the blocks; a `Sum` has 16 lanes, of which half I are 8.
    unsafe {
        let to = sum.lanes().as_mut_ptr();
        let mut lanes = both!(I => F64s::read(to.add(8 * I)));
        for block in 0..TURNS {
            let x = both!(I => F64s::widened(x.add(block * BLOCK + 8 * I)));
            lanes = both!(I => lanes[I] + x[I] * x[I]);
        }
        both!(I => lanes[I].write(to.add(8 * I)));
    }
}

/// sum += Σ g·(θ − θ̄) of TURNS blocks, the difference being rounded to float32.
///
/// # Safety
/// The CPU has AVX2, and these blocks of the tile are readable.
#[inline(always)]
unsafe fn add_displacement<A: AverageFormat>(tile: Tile<A>, at: usize, sum: &mut Sum) {
    // SAFETY: the caller promises AVX2 and the blocks; a `Sum` has 16 lanes, of which half I are 8.
    unsafe {
        let to = sum.lanes().as_mut_ptr();
        let mut lanes = both!(I => F64s::read(to.add(8 * I)));
        for at in (at..at + TURNS * BLOCK).step_by(BLOCK) {
            let average = A::load(tile.a.add(at));
            lanes = both!(I => {
                let difference = F32s::load(tile.p.add(at + 8 * I)) - average[I];
                lanes[I] + F64s::widened(tile.g.add(at + 8 * I)) * difference.widen()
            });
        }
        both!(I => lanes[I].write(to.add(8 * I)));
    }
}

/// The step on one tile, which begins at `start`. SCALED: gradients have a factor.
///
/// # Safety
/// The CPU has AVX2; the tile is valid, does not overlap and is touched by nobody else.
#[inline(always)]
unsafe fn step<const SCALED: bool, A: AverageFormat>(
    s: Scalars<f32>,
    tile: Tile<A>,
    [of_p, of_m, of_v]: [&mut Sum; 3],
    average: &mut Following<'_, A>,
    start: usize,
) {
    // SAFETY: the caller promises AVX2 and the tile; `behind` gives blocks of it alone.
    unsafe {
        let mut random = RandomBlocks::new(average.random, average.start + start);
        let share = F32s::splat(average.share);
        let zero = F32s::splat(0.0);
        let s = s.map(|x| F32s::splat(x));
        let (mut denominators, mut ratios): (Block<F32s>, Block<F32s>) = ([zero; 2], [zero; 2]);
        for block in 0..BLOCKS + TURNS {
            // First element of the block so many blocks before this one, if there is such a block.
            let behind = |blocks: usize| block.checked_sub(blocks).filter(|b| *b < BLOCKS).map(|b| b * BLOCK);
            if let Some(at) = behind(3) {
                let p = both!(I => tile.p.add(at + 8 * I));
                both!(I => s.param::<true>(F32s::load(p[I]), ratios[I]).store(p[I]));
                A::follow(tile.a.add(at), p[0], share, &mut random);
            }
            // Two behind: m was stored in halves, and a load of a whole vector waits until these have left the store buffer.
            if let Some(at) = behind(2) {
                ratios = both!(I => F32s::load(tile.m.add(at + 8 * I)) / denominators[I]);
            }
            if let Some(at) = behind(1) {
                denominators = both!(I => s.denominator(F32s::load(tile.v.add(at + 8 * I)).sqrt()));
            }
            if let Some(at) = behind(0) {
                tile.update_moments::<SCALED>(&s, at);
            }
            // Before the parameters of these blocks are written.
            if A::EXISTS
                && block % TURNS == 2
                && block < BLOCKS
                && let Some(sum) = average.displacement.as_deref_mut()
            {
                add_displacement(tile, block / TURNS * TURNS * BLOCK, sum);
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
    use super::super::run_avx2;
    use super::*;
    use crate::backend::cpu::kernels::convert::{round_nearest, round_stochastic, widen};
    use crate::backend::cpu::kernels::sums_f64::{dot_with_difference, square};
    use crate::model::coefficients::Coefficients;
    use crate::numeric::half::BF16;
    use crate::numeric::simd::{self, Level};

    type State = [Vec<f32>; 4];

    /// Element by element, sum by sum.
    fn define(s: Scalars<f32>, [p, g, m, v]: &mut State, sums: &mut [Sum; 3]) {
        for i in 0..g.len() {
            (m[i], v[i]) = s.moments::<true>(g[i], m[i], v[i]);
            p[i] = s.param::<true>(p[i], s.ratio(m[i], v[i]));
        }
        for (sum, x) in sums.iter_mut().zip([p, m, v]) {
            square(x, sum);
        }
    }

    /// Three tiles of these numbers in all combinations, and of others of all sizes.
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

    /// All NaNs are equal.
    fn bits(x: f64) -> u64 {
        if x.is_nan() { u64::MAX } else { x.to_bits() }
    }

    #[test]
    fn the_specialised_step_has_the_bits_of_the_definition() {
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
                define(s, &mut expected, &mut expected_sums);
                let ([p, g, m, v], sums) = (&mut got, sums.each_mut());
                // SAFETY: `available` found AVX2.
                let done = unsafe { run_avx2(F32Steps { p, g, m, v, s, sums, average: Following::none() }) };
                assert_eq!(done, Done { elements: 3 * TILE, summed: true });
                for (k, name) in ["p", "g", "m", "v"].into_iter().enumerate() {
                    for (i, expected) in expected[k].iter().enumerate() {
                        let got = got[k][i];
                        let same = bits(f64::from(got)) == bits(f64::from(*expected));
                        assert!(same, "{name}[{i}] of round {round}: {got:e} instead of {expected:e}");
                    }
                }
            }
            for (k, (sum, expected)) in sums.iter_mut().zip(&mut expected_sums).enumerate() {
                for (lane, (got, expected)) in sum.lanes().iter().zip(expected.lanes()).enumerate() {
                    assert!(bits(*got) == bits(*expected), "lane {lane} of sum {k}: {got:e} instead of {expected:e}");
                }
                assert!(special != finite || sum.total().is_finite(), "the test would say little");
            }
        }
    }

    #[test]
    fn the_average_and_its_displacement_have_the_bits_of_the_definition() {
        if !simd::available().contains(&Level::Avx2) {
            return println!("skipped: no AVX2");
        }
        let c =
            Coefficients { gradient: 0.7, beta1: 0.9, beta2: 0.999, eps: 3e-9, step_size: 1e-3, decay: 1e-5, key: 0 };
        let (s, share, random) = (Scalars::new(&c, false), 0.01, RoundingBits::new(7, 3, Use::Average));
        for special in
            [&[0.0, -0.0, 1e-45, 1e-40, 1e-22, -1.0, 0.1, -7e4][..], &[f32::INFINITY, f32::NAN, f32::MAX, 0.0]]
        {
            let start = state(special);
            let averages: Vec<f32> = start[0].iter().map(|p| 0.9 * p + 0.001).collect();
            let mut halves = vec![0; averages.len()];
            round_nearest::<BF16>(&mut averages.clone(), &mut halves);
            // What was there at the beginning, as wide as in the computation, and how it is rounded back.
            let follow = |p: &[f32], a: &mut [f32]| p.iter().zip(a).for_each(|(p, a)| *a += (p - *a) * share);
            let mut expected = start.clone();
            let (mut wide, mut expected_halves, mut expected_averages) =
                (vec![0.0; halves.len()], halves.clone(), averages.clone());
            widen::<BF16, f32>(&halves, &mut wide);
            let mut expected_sums = [Sum::ZERO; 2];
            dot_with_difference(&expected[1], &expected[0], &averages, &mut expected_sums[0]);
            dot_with_difference(&expected[1], &expected[0], &wide, &mut expected_sums[1]);
            define(s, &mut expected, &mut [Sum::ZERO; 3]);
            follow(&expected[0], &mut expected_averages);
            follow(&expected[0], &mut wide);
            for (i, tile) in wide.chunks_mut(TILE).enumerate() {
                let to = &mut expected_halves[i * TILE..][..TILE];
                round_stochastic::<BF16>(tile, to, random, 2 * TILE + i * TILE);
            }
            let (mut averages, mut sums) = (averages, [Sum::ZERO; 2]);
            let [of_floats, of_halves] = &mut sums;
            let done = [
                run_with(s, start.clone(), &expected, &mut averages, (share, random), of_floats),
                run_with(s, start, &expected, &mut halves, (share, random), of_halves),
            ];
            assert_eq!(done, [Done { elements: 3 * TILE, summed: true }; 2]);
            for (i, (got, expected)) in averages.iter().zip(&expected_averages).enumerate() {
                assert!(bits(f64::from(*got)) == bits(f64::from(*expected)), "{i}: {got:e} instead of {expected:e}");
            }
            assert_eq!(halves, expected_halves);
            for (sum, expected) in sums.iter_mut().zip(&mut expected_sums) {
                let mut pairs = sum.lanes().iter().zip(expected.lanes());
                assert!(pairs.all(|(got, expected)| bits(*got) == bits(*expected)), "{sum:?}");
            }
        }
    }

    /// A step with an average, in the middle of a chunk.
    fn run_with<A: AverageFormat>(
        s: Scalars<f32>,
        mut state: State,
        expected: &State,
        elements: &mut [A],
        (share, random): (f32, RoundingBits),
        displacement: &mut Sum,
    ) -> Done {
        let average = Following { elements, share, random, start: 2 * TILE, displacement: Some(displacement) };
        let ([p, g, m, v], mut sums) = (&mut state, [Sum::ZERO; 3]);
        // SAFETY: the callers found AVX2.
        let done = unsafe { run_avx2(F32Steps { p, g, m, v, s, sums: sums.each_mut(), average }) };
        for (got, expected) in p.iter().zip(&expected[0]) {
            assert_eq!(bits(f64::from(*got)), bits(f64::from(*expected)));
        }
        done
    }
}
