//! The step on whole tiles of bfloat16 parameters and gradients, in AVX2: the bits of the loops in `kernels`.
//!
//! What the compiler does not find: a parameter waits long for root and division, and two blocks of the whole step fill the
//! window in which a CPU looks for other work. So a first loop computes a tile's moments and, some blocks later, the ratios
//! of the update; a second, shorter one computes the parameters. And NaNs, whose payload rounding must not carry into, are
//! tested for two vectors at a time and fixed in a separate function.

use std::mem::MaybeUninit;

use super::vector::{BLOCK, Block, F32s, F64s, U32s, both};
use super::{Avx2Kernel, Done};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::load_store::ParamPrecision;
use crate::backend::cpu::kernels::number::Number;
use crate::backend::cpu::kernels::sums_f32::{IN_RANGE, SMALL, scale, unscale};
use crate::backend::cpu::kernels::sums_f64::{LANES, Sum};
use crate::backend::cpu::kernels::tile::TILE;
use crate::numeric::stochastic_rounding::{INCREMENT, RoundingBits, hash};

/// Blocks of a tile.
const BLOCKS: usize = TILE / BLOCK;
const _: () = assert!(LANES == BLOCK && TILE.is_multiple_of(BLOCK));

/// Whether every lane of a sum of squares is [`IN_RANGE`].
#[inline(always)]
fn is_in_range(lanes: Block<F32s>) -> bool {
    F32s::are_within(lanes, IN_RANGE[0], IN_RANGE[1])
}

/// sum += the lanes of a block, times a factor: [`Sum::add_lanes`] in registers.
#[inline(always)]
fn add_lanes(sum: &mut Sum, lanes: Block<F32s>, factor: f64) {
    let (to, lanes) = (sum.lanes().as_mut_ptr(), F32s::in_order(lanes));
    // SAFETY: a `Sum` has 16 lanes, of which half I are 8; that `lanes` exist shows that the CPU has AVX2.
    unsafe {
        both!(I => {
            let sum = F64s::read(to.add(8 * I)) + lanes[I].widen() * lanes[I].wide(factor);
            sum.write(to.add(8 * I));
        });
    }
}

/// sum += x².
#[inline(always)]
fn add_squares(sum: &mut Block<F32s>, values: Block<F32s>) {
    for (sum, x) in sum.iter_mut().zip(values) {
        *sum = x.mul_add(x, *sum);
    }
}

/// How a parameter is read and written.
trait ParamFormat {
    /// What is stored beside each element.
    type Beside;
    /// Whether it is rounded stochastically.
    const STOCHASTIC: bool = false;

    /// The values that an update starts from.
    ///
    /// # Safety
    /// The CPU has AVX2, and a block is readable from both pointers on.
    unsafe fn read(model: *const u16, beside: *const Self::Beside) -> Block<F32s>;

    /// Writes new values, computed from moments of format M, and returns those that are stored.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        beside: *mut Self::Beside,
        values: Block<F32s>,
        random: Block<U32s>,
    ) -> Block<F32s>;
}

/// Rounded to nearest.
struct Nearest;
/// Rounded stochastically.
struct Stochastic;
/// A float32 master beside it.
struct Master;
/// The low half of the master beside it.
struct Remainder;

/// Makes the NaNs in `rounded` quiet ones with the upper half of their payload.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn fix_nans(values: &Block<F32s>, rounded: &mut Block<U32s>) {
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = value.where_nan(value.bits() | 0x0040_0000, *rounded);
    }
}

/// Adds the carry below the upper half, which then is rounded, except in NaNs.
#[inline(always)]
fn add_carry(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    both!(I => values[I].bits() + carry[I])
}

/// The same with NaNs.
#[inline(always)]
fn round(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    let mut rounded = add_carry(values, carry);
    if values[0].any_nan(values[1]) {
        // SAFETY: that `values` exist shows that the CPU has AVX2.
        unsafe { fix_nans(&values, &mut rounded) };
    }
    rounded
}

/// The low-precision copies of masters: half a unit is added.
#[inline(always)]
fn from_masters(masters: Block<F32s>) -> Block<U32s> {
    round(masters, both!(I => masters[I].bits().with(0x8000)))
}

/// The values of the upper halves.
#[inline(always)]
fn stored_values(rounded: Block<U32s>) -> Block<F32s> {
    both!(I => (rounded[I] & 0xFFFF_0000).floats())
}

/// # Safety
/// The CPU has AVX2, and a block is readable from the pointer on.
#[inline(always)]
unsafe fn read_bf16(from: *const u16) -> Block<F32s> {
    // SAFETY: the caller promises AVX2 and a block.
    let words = unsafe { U32s::read_upper(from) };
    both!(I => words[I].floats())
}

impl ParamFormat for Nearest {
    type Beside = ();
    #[inline(always)]
    unsafe fn read(model: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(model) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(model: *mut u16, _: *mut (), values: Block<F32s>, _: Block<U32s>) -> Block<F32s> {
        let rounded = M::round_param(values, both!(I => (values[I].bits() >> 16 & 1) + 0x7FFF));
        // SAFETY: the caller promises a writable block.
        unsafe { U32s::write_upper(rounded, model) };
        stored_values(rounded)
    }
}

impl ParamFormat for Stochastic {
    type Beside = ();
    const STOCHASTIC: bool = true;
    #[inline(always)]
    unsafe fn read(model: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(model) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        _: *mut (),
        values: Block<F32s>,
        random: Block<U32s>,
    ) -> Block<F32s> {
        let rounded = M::round_param(values, random);
        // SAFETY: the caller promises a writable block.
        unsafe { U32s::write_upper(rounded, model) };
        stored_values(rounded)
    }
}

impl ParamFormat for Master {
    type Beside = f32;
    #[inline(always)]
    unsafe fn read(_: *const u16, masters: *const f32) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { F32s::read(masters) }
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        masters: *mut f32,
        values: Block<F32s>,
        _: Block<U32s>,
    ) -> Block<F32s> {
        // SAFETY: the caller promises writable blocks.
        unsafe {
            F32s::write(values, masters);
            U32s::write_upper(from_masters(values), model);
        }
        values
    }
}

impl ParamFormat for Remainder {
    type Beside = u16;
    #[inline(always)]
    unsafe fn read(model: *const u16, remainders: *const u16) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block from both pointers on.
        let (copy, low) = unsafe { (U32s::read_upper(model), U32s::read_upper(remainders)) };
        both!(I => (copy[I] + low[I].signed_half()).floats())
    }
    #[inline(always)]
    unsafe fn write<M: MomentFormat>(
        model: *mut u16,
        remainders: *mut u16,
        values: Block<F32s>,
        _: Block<U32s>,
    ) -> Block<F32s> {
        let low = both!(I => values[I].where_nan(values[I].bits().with(0), values[I].bits() & 0xFFFF));
        // SAFETY: the caller promises writable blocks.
        unsafe {
            U32s::write_upper(from_masters(values), model);
            U32s::write_lower(low, remainders);
        }
        values
    }
}

/// How a moment is read and written.
pub(super) trait MomentFormat: Sized {
    /// Whether it is rounded stochastically.
    const STOCHASTIC: bool;

    /// # Safety
    /// The CPU has AVX2, and a block is readable from the pointer on.
    unsafe fn read(from: *const Self) -> Block<F32s>;

    /// Writes new values of both moments and returns those that are stored.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write(to: [*mut Self; 2], values: [Block<F32s>; 2], random: Block<U32s>) -> [Block<F32s>; 2];

    /// Parameters that were computed from such moments, rounded to 16 bits with this carry.
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s>;
}

impl MomentFormat for f32 {
    const STOCHASTIC: bool = false;
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { F32s::read(from) }
    }
    #[inline(always)]
    unsafe fn write([m, v]: [*mut f32; 2], values: [Block<F32s>; 2], _: Block<U32s>) -> [Block<F32s>; 2] {
        // SAFETY: the caller promises writable blocks.
        unsafe {
            F32s::write(values[0], m);
            F32s::write(values[1], v);
        }
        values
    }
    #[inline(always)]
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        round(values, carry)
    }
}

/// bfloat16.
impl MomentFormat for u16 {
    const STOCHASTIC: bool = true;
    #[inline(always)]
    unsafe fn read(from: *const u16) -> Block<F32s> {
        // SAFETY: the caller promises AVX2 and a block.
        unsafe { read_bf16(from) }
    }
    #[inline(always)]
    unsafe fn write(to: [*mut u16; 2], values: [Block<F32s>; 2], random: Block<U32s>) -> [Block<F32s>; 2] {
        let stored = both!(I => Self::round_param(values[I], random));
        // SAFETY: the caller promises writable blocks.
        unsafe {
            U32s::write_upper(stored[0], to[0]);
            U32s::write_upper(stored[1], to[1]);
        }
        [stored_values(stored[0]), stored_values(stored[1])]
    }
    #[inline(always)]
    fn round_param(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        // Computed from bfloat16 alone, a NaN's lower half is 0: nothing is carried into the upper one.
        add_carry(values, carry)
    }
}

/// The random bits of one block after the other.
struct RandomBlocks {
    term: U32s,
    increment: U32s,
}

impl RandomBlocks {
    /// Those of a chunk from its element `start` on.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn new(random: RoundingBits, start: usize) -> Self {
        // SAFETY: the caller promises AVX2.
        let pairs = unsafe { U32s::count_from((start / 2) as u32) };
        Self { term: random.term(pairs), increment: pairs.with(INCREMENT.wrapping_mul(BLOCK as u32 / 2)) }
    }

    /// Those of the next block; zeros if they are not WANTED.
    #[inline(always)]
    fn next<const WANTED: bool>(&mut self) -> Block<U32s> {
        if !WANTED {
            return [self.increment.with(0); 2];
        }
        let word = hash(self.term);
        self.term = self.term + self.increment;
        [word & 0xFFFF, word >> 16]
    }
}

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
            let (of_p, [of_m, of_v]) = unsafe {
                let moments = self.update_moments(done.elements, &mut ratios);
                (self.update_params(done.elements, &ratios), moments)
            };
            done.elements += TILE;
            let Some([sum_p, sum_m, sum_v]) = &mut self.sums else { continue };
            done.summed = is_in_range(of_p) && (!self.first_moment || is_in_range(of_m)) && is_in_range(of_v);
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

/// Σ g², Σ g·m and Σ m² of whole tiles, up to the first that float32 cannot sum. Returns their number of elements.
pub(super) struct GradientSums<'a, M> {
    pub g: &'a [u16],
    pub m: &'a [M],
    pub sums: [&'a mut Sum; 2],
    pub first_moment: Option<&'a mut Sum>,
}

impl<M: MomentFormat> Avx2Kernel for GradientSums<'_, M> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run(self) -> usize {
        let Self { g, m, sums, first_moment } = self;
        // SAFETY: whoever runs this has AVX2.
        unsafe {
            match first_moment {
                Some(sum) => add_gradient_sums::<M, true>(g, m, sums, sum),
                None => add_gradient_sums::<M, false>(g, m, sums, &mut { Sum::ZERO }),
            }
        }
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn add_gradient_sums<M: MomentFormat, const FIRST_MOMENT: bool>(
    g: &[u16],
    m: &[M],
    [squares, products]: [&mut Sum; 2],
    squares_of_m: &mut Sum,
) -> usize {
    let mut elements = 0;
    for (g, m) in g.as_chunks::<TILE>().0.iter().zip(m.as_chunks::<TILE>().0) {
        // SAFETY: the caller promises AVX2, and these are tiles.
        let [gg, gm, mm] = unsafe { gradient_lanes::<M, FIRST_MOMENT>(g, m) };
        if !(is_in_range(gg) && F32s::are_within(gm, f32::MIN, f32::MAX) && (!FIRST_MOMENT || is_in_range(mm))) {
            break;
        }
        add_lanes(squares, gg, 1.0);
        add_lanes(products, gm, 1.0);
        if FIRST_MOMENT {
            add_lanes(squares_of_m, mm, 1.0);
        }
        elements += TILE;
    }
    elements
}

/// A tile's lanes of Σ g², Σ g·m and Σ m².
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn gradient_lanes<M: MomentFormat, const FIRST_MOMENT: bool>(
    g: &[u16; TILE],
    m: &[M; TILE],
) -> [Block<F32s>; 3] {
    // SAFETY: the caller promises AVX2; each block lies in the arrays.
    unsafe {
        let [mut squares, mut products, mut squares_of_m] = [[F32s::splat(0.0); 2]; 3];
        for at in (0..TILE).step_by(BLOCK) {
            let (g, m) = (read_bf16(g.as_ptr().add(at)), M::read(m.as_ptr().add(at)));
            squares = both!(I => g[I].mul_add(g[I], squares[I]));
            products = both!(I => g[I].mul_add(m[I], products[I]));
            if FIRST_MOMENT {
                add_squares(&mut squares_of_m, m);
            }
        }
        [squares, products, squares_of_m]
    }
}
