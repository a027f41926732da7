//! The step on whole tiles of bfloat16 parameters and gradients, by hand: the bits of `fused.rs` and `short_sums.rs`.
//!
//! What the compiler does not find: a parameter waits long for root and division, and two blocks of the whole step fill
//! the window in which a CPU looks for other work. So a first loop makes a tile's moments and, some blocks later, what they
//! move a parameter by; a second, shorter one makes the parameters. And a NaN, whose payload rounding must not carry into,
//! is looked for two vectors at a time and mended apart.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::vector::{BLOCK, Block, F32s, F64s, U32s, both};
use crate::backend::cpu::kernels::adamw::Scalars;
use crate::backend::cpu::kernels::number::{Float, Number};
use crate::backend::cpu::kernels::sums_f32::{SMALL, SOUND, scale, unscale};
use crate::backend::cpu::kernels::sums_f64::{LANES, Sum};
use crate::backend::cpu::kernels::tile::TILE;
use crate::model::dtype::DType;
use crate::numeric::simd::{self, Level};
use crate::numeric::stochastic_rounding::{INCREMENT, RoundingBits, hash};

const _: () = assert!(LANES == BLOCK && TILE.is_multiple_of(BLOCK));

/// A tile's lanes of Σ θ², Σ m² and Σ (2⁴⁸v)². Without OF_M those of m mean nothing.
pub struct StateLanes<const OF_M: bool>([Block<F32s>; 3]);

impl<const OF_M: bool> StateLanes<OF_M> {
    /// Adds them to the sums of θ², m² and v², if all are sound.
    #[inline(always)]
    pub fn add_to(&self, sums: [&mut Sum; 3]) -> bool {
        let [params, m, v] = self.0;
        if !(is_sound(params) && (!OF_M || is_sound(m)) && is_sound(v)) {
            return false;
        }
        let [of_params, of_m, of_v] = sums;
        add_lanes(of_params, params, 1.0);
        if OF_M {
            add_lanes(of_m, m, 1.0);
        }
        add_lanes(of_v, v, unscale(SMALL));
        true
    }
}

/// Whether a sum of squares is [`SOUND`].
#[inline(always)]
fn is_sound(lanes: Block<F32s>) -> bool {
    F32s::are_within(lanes, SOUND[0], SOUND[1])
}

/// sum += the lanes of a block, times a factor: [`Sum::add_lanes`] without a detour through memory.
#[inline(always)]
fn add_lanes(sum: &mut Sum, lanes: Block<F32s>, factor: f64) {
    let (to, lanes) = (sum.lanes(), F32s::in_order(lanes));
    // SAFETY: a sum has a block's number of lanes; whoever made the block has AVX2.
    unsafe {
        both!(I => {
            let sum = F64s::read(to.add(8 * I)) + lanes[I].widen() * lanes[I].wide(factor);
            sum.write(to.add(8 * I));
        });
    }
}

/// Whether there is something here for so many gradients of this dtype: for a whole tile, on this CPU.
#[inline(always)]
pub fn fits<T: Float>(len: usize, gradient: DType) -> bool {
    T::DTYPE == DType::F32 && len == TILE && gradient == DType::BF16 && simd::level() >= Level::Avx2
}

/// How a parameter is read and written.
pub trait Weight {
    /// What stands beside each element.
    type Beside;
    /// Whether it is rounded by chance.
    const CHANCE: bool = false;

    /// The values that an update starts from.
    ///
    /// # Safety
    /// The CPU has AVX2, and a block is readable from both pointers on.
    unsafe fn read(host: *const u16, beside: *const Self::Beside) -> Block<F32s>;

    /// Writes new values, made of moments of type M, and answers those that are held.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write<M: Moment>(
        host: *mut u16,
        beside: *mut Self::Beside,
        values: Block<F32s>,
        noise: Block<U32s>,
    ) -> Block<F32s>;
}

/// Rounded to nearest.
pub struct Nearest;
/// Rounded by chance.
pub struct Stochastic;
/// A float32 master beside it.
pub struct Master;
/// The low half of the master beside it.
pub struct Remainder;

/// NaNs in `rounded`, whatever they became: quiet, with what the upper half holds of them.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn mend(values: &Block<F32s>, rounded: &mut Block<U32s>) {
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = value.where_nan(value.bits() | 0x0040_0000, *rounded);
    }
}

/// Adds the carry below the upper half, which then is what is stored, but for NaNs.
#[inline(always)]
fn carried(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    both!(I => values[I].bits() + carry[I])
}

/// The same for NaNs too.
#[inline(always)]
fn rounded(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
    let mut rounded = carried(values, carry);
    if values[0].any_nan(values[1]) {
        // SAFETY: whoever made the values has AVX2.
        unsafe { mend(&values, &mut rounded) };
    }
    rounded
}

/// What a master shows: half a unit is added.
#[inline(always)]
fn shown(masters: Block<F32s>) -> Block<U32s> {
    rounded(masters, both!(I => masters[I].bits().with(0x8000)))
}

/// Without the lower half.
#[inline(always)]
fn held(rounded: Block<U32s>) -> Block<F32s> {
    both!(I => (rounded[I] & 0xFFFF_0000).floats())
}

/// # Safety
/// The CPU has AVX2, and a block is readable from the pointer on.
#[inline(always)]
unsafe fn widened(from: *const u16) -> Block<F32s> {
    // SAFETY: the caller's promise.
    let words = unsafe { U32s::read_upper(from) };
    both!(I => words[I].floats())
}

impl Weight for Nearest {
    type Beside = ();
    #[inline(always)]
    unsafe fn read(host: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe { widened(host) }
    }
    #[inline(always)]
    unsafe fn write<M: Moment>(host: *mut u16, _: *mut (), values: Block<F32s>, _: Block<U32s>) -> Block<F32s> {
        let rounded = M::rounded(values, both!(I => (values[I].bits() >> 16 & 1) + 0x7FFF));
        // SAFETY: the caller's promise.
        unsafe { U32s::write_upper(rounded, host) };
        held(rounded)
    }
}

impl Weight for Stochastic {
    type Beside = ();
    const CHANCE: bool = true;
    #[inline(always)]
    unsafe fn read(host: *const u16, _: *const ()) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe { widened(host) }
    }
    #[inline(always)]
    unsafe fn write<M: Moment>(host: *mut u16, _: *mut (), values: Block<F32s>, noise: Block<U32s>) -> Block<F32s> {
        let rounded = M::rounded(values, noise);
        // SAFETY: the caller's promise.
        unsafe { U32s::write_upper(rounded, host) };
        held(rounded)
    }
}

impl Weight for Master {
    type Beside = f32;
    #[inline(always)]
    unsafe fn read(_: *const u16, beside: *const f32) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe { F32s::read(beside) }
    }
    #[inline(always)]
    unsafe fn write<M: Moment>(host: *mut u16, beside: *mut f32, values: Block<F32s>, _: Block<U32s>) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe {
            F32s::write(values, beside);
            U32s::write_upper(shown(values), host);
        }
        values
    }
}

impl Weight for Remainder {
    type Beside = u16;
    #[inline(always)]
    unsafe fn read(host: *const u16, beside: *const u16) -> Block<F32s> {
        // SAFETY: the caller's promise.
        let (shown, low) = unsafe { (U32s::read_upper(host), U32s::read_upper(beside)) };
        both!(I => (shown[I] + low[I].signed_half()).floats())
    }
    #[inline(always)]
    unsafe fn write<M: Moment>(host: *mut u16, beside: *mut u16, values: Block<F32s>, _: Block<U32s>) -> Block<F32s> {
        let low = both!(I => values[I].where_nan(values[I].bits().with(0), values[I].bits() & 0xFFFF));
        // SAFETY: the caller's promise.
        unsafe {
            U32s::write_upper(shown(values), host);
            U32s::write_lower(low, beside);
        }
        values
    }
}

/// How a moment is read and written.
pub trait Moment {
    /// Whether it is rounded by chance.
    const CHANCE: bool;

    /// # Safety
    /// The CPU has AVX2, and a block is readable from the pointer on.
    unsafe fn read(from: *const Self) -> Block<F32s>;

    /// Writes new values of both moments and answers those that are held.
    ///
    /// # Safety
    /// A block is writable from both pointers on.
    unsafe fn write(to: [*mut Self; 2], values: [Block<F32s>; 2], noise: Block<U32s>) -> [Block<F32s>; 2];

    /// 16-bit numbers that were computed with such moments, with this carry.
    fn rounded(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s>;
}

impl Moment for f32 {
    const CHANCE: bool = false;
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe { F32s::read(from) }
    }
    #[inline(always)]
    unsafe fn write([m, v]: [*mut f32; 2], values: [Block<F32s>; 2], _: Block<U32s>) -> [Block<F32s>; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            F32s::write(values[0], m);
            F32s::write(values[1], v);
        }
        values
    }
    #[inline(always)]
    fn rounded(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        rounded(values, carry)
    }
}

/// Bfloat16.
impl Moment for u16 {
    const CHANCE: bool = true;
    #[inline(always)]
    unsafe fn read(from: *const u16) -> Block<F32s> {
        // SAFETY: the caller's promise.
        unsafe { widened(from) }
    }
    #[inline(always)]
    unsafe fn write(to: [*mut u16; 2], values: [Block<F32s>; 2], noise: Block<U32s>) -> [Block<F32s>; 2] {
        let stored = both!(I => Self::rounded(values[I], noise));
        // SAFETY: the caller's promise.
        unsafe {
            U32s::write_upper(stored[0], to[0]);
            U32s::write_upper(stored[1], to[1]);
        }
        [held(stored[0]), held(stored[1])]
    }
    #[inline(always)]
    fn rounded(values: Block<F32s>, carry: Block<U32s>) -> Block<U32s> {
        // Made of bfloat16 alone, a NaN's lower half is 0: nothing is carried into the upper one.
        carried(values, carry)
    }
}

/// A tile in memory.
pub struct Tile<P: Weight, M> {
    /// The host's parameter.
    pub host: *mut u16,
    /// What is beside it.
    pub beside: *mut P::Beside,
    /// Gradient.
    pub g: *const u16,
    /// First and second moment.
    pub moments: [*mut M; 2],
}

impl<P: Weight, M> Tile<P, M> {
    /// # Safety
    /// The pointers are chunks' first elements, and element `at` lies inside.
    pub unsafe fn new(
        (host, beside): (*mut c_void, *mut c_void),
        g: *const c_void,
        moments: [*mut c_void; 2],
        at: usize,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                host: host.cast::<u16>().add(at),
                // Beside a parameter without masters is nothing.
                beside: beside.cast::<P::Beside>().wrapping_add(at),
                g: g.cast::<u16>().add(at),
                moments: both!(I => moments[I].cast::<M>().add(at)),
            }
        }
    }
}

/// Random bits, a block's after the other.
struct Chance {
    term: U32s,
    stride: U32s,
}

impl Chance {
    /// Those of a chunk from its element `start` on.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn new(noise: RoundingBits, start: usize) -> Self {
        // SAFETY: the caller's promise.
        let pairs = unsafe { U32s::count_from((start / 2) as u32) };
        Self { term: noise.term(pairs), stride: pairs.with(INCREMENT.wrapping_mul(BLOCK as u32 / 2)) }
    }

    /// Those of the next block.
    #[inline(always)]
    fn next(&mut self) -> Block<U32s> {
        let word = hash(self.term);
        self.term = self.term + self.stride;
        [word & 0xFFFF, word >> 16]
    }
}

/// A tile's step under way. SCALED: gradients have a factor. Most have none, and a product by 1 costs.
/// OF_M: Σ m² is wanted.
struct Run<'a, P: Weight, M, const OF_M: bool, const SCALED: bool> {
    s: Scalars<F32s>,
    tile: &'a Tile<P, M>,
    /// Of parameter and moments.
    chance: [Chance; 2],
    scale: F32s,
    of_params: Block<F32s>,
    of_m: Block<F32s>,
    of_v: Block<F32s>,
}

/// sum += x².
#[inline(always)]
fn add_squares(sum: &mut Block<F32s>, values: Block<F32s>) {
    for (sum, x) in sum.iter_mut().zip(values) {
        *sum = x.mul_add(x, *sum);
    }
}

impl<P: Weight, M: Moment, const OF_M: bool, const SCALED: bool> Run<'_, P, M, OF_M, SCALED> {
    /// The next block's bits; zeros if none are wanted.
    #[inline(always)]
    fn chance(&mut self, wanted: bool, which: usize) -> Block<U32s> {
        let chance = &mut self.chance[which];
        if wanted { chance.next() } else { [chance.stride.with(0); 2] }
    }

    /// A block's moments, block by block. Answers the first and the second's root as they are before they are rounded.
    #[inline(always)]
    unsafe fn moments(&mut self, block: usize) -> [Block<F32s>; 2] {
        let at = block * BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let places = both!(I => self.tile.moments[I].add(at));
            let (g, m, v) = (widened(self.tile.g.add(at)), M::read(places[0]), M::read(places[1]));
            let [(m0, v0), (m1, v1)] = both!(I => self.s.short_moments::<SCALED>(g[I], m[I], v[I]));
            let made = [[m0, m1], [v0, v1]];
            let noise = self.chance(M::CHANCE, 1);
            let [m, v] = M::write(places, made, noise);
            if OF_M {
                add_squares(&mut self.of_m, m);
            }
            add_squares(&mut self.of_v, both!(I => v[I] * self.scale));
            [made[0], both!(I => made[1][I].sqrt())]
        }
    }

    /// Puts the ratio in the place of the first moment of what [`Self::moments`] made.
    ///
    /// # Safety
    /// It made it.
    #[inline(always)]
    unsafe fn divide(&self, made: &mut MaybeUninit<[Block<F32s>; 2]>) {
        // SAFETY: the caller's promise.
        let [m, root] = unsafe { made.assume_init() };
        made.write([both!(I => m[I] / self.s.denominator(root[I])), root]);
    }

    /// A block's parameters, block by block, moved by this ratio.
    #[inline(always)]
    unsafe fn params(&mut self, block: usize, ratio: Block<F32s>) {
        let at = block * BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let (host, beside) = (self.tile.host.add(at), self.tile.beside.wrapping_add(at));
            let p = P::read(host, beside);
            let new = both!(I => self.s.param::<false>(p[I], ratio[I]));
            let held = P::write::<M>(host, beside, new, self.chance(P::CHANCE, 0));
            add_squares(&mut self.of_params, held);
        }
    }
}

/// Adds a tile's Σ g², Σ g·m and, with OF_M, Σ m², if they are sound.
///
/// # Safety
/// The CPU has AVX2, and a tile is readable from both pointers on.
#[inline(always)]
pub unsafe fn add_gradient<M: Moment, const OF_M: bool>(
    g: *const u16,
    m: *const M,
    [of_squares, of_products, of_m]: [&mut Sum; 3],
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let [mut squares, mut products, mut squares_of_m] = [[F32s::splat(0.0); 2]; 3];
        for at in (0..TILE).step_by(BLOCK) {
            let (g, m) = (widened(g.add(at)), M::read(m.add(at)));
            squares = both!(I => g[I].mul_add(g[I], squares[I]));
            products = both!(I => g[I].mul_add(m[I], products[I]));
            if OF_M {
                add_squares(&mut squares_of_m, m);
            }
        }
        let sound =
            is_sound(squares) && F32s::are_within(products, f32::MIN, f32::MAX) && (!OF_M || is_sound(squares_of_m));
        if sound {
            add_lanes(of_squares, squares, 1.0);
            add_lanes(of_products, products, 1.0);
            if OF_M {
                add_lanes(of_m, squares_of_m, 1.0);
            }
        }
        sound
    }
}

/// The step on the tile from element `start` of its chunk on, and its lanes of the sums of what is held then. `noise`: for
/// parameter and moments, where they are rounded by chance.
///
/// # Safety
/// The CPU has AVX2; a tile of all that `tile` points to is valid, does not overlap, and nobody else touches it.
#[inline(always)]
pub unsafe fn step<P: Weight, M: Moment, const OF_M: bool>(
    s: Scalars<f32>,
    tile: &Tile<P, M>,
    noise: [RoundingBits; 2],
    start: usize,
) -> StateLanes<OF_M> {
    // SAFETY: the caller's promise.
    unsafe {
        if s.is_scaled() {
            step_of::<P, M, OF_M, true>(s, tile, noise, start)
        } else {
            step_of::<P, M, OF_M, false>(s, tile, noise, start)
        }
    }
}

/// The same of gradients with a factor or without.
#[inline(always)]
unsafe fn step_of<P: Weight, M: Moment, const OF_M: bool, const SCALED: bool>(
    s: Scalars<f32>,
    tile: &Tile<P, M>,
    noise: [RoundingBits; 2],
    start: usize,
) -> StateLanes<OF_M> {
    const BLOCKS: usize = TILE / BLOCK;
    /// Blocks whose roots are under way before the first is divided by.
    const LAG: usize = 4;
    // SAFETY: the caller's promise.
    unsafe {
        let zero = F32s::splat(0.0);
        let mut run = Run::<P, M, OF_M, SCALED> {
            s: s.map(|x| F32s::splat(x)),
            tile,
            chance: both!(I => Chance::new(noise[I], start)),
            scale: F32s::splat(scale(SMALL)),
            of_params: [zero; 2],
            of_m: [zero; 2],
            of_v: [zero; 2],
        };
        let mut made = [const { MaybeUninit::uninit() }; BLOCKS];
        for (block, made) in made[..LAG].iter_mut().enumerate() {
            made.write(run.moments(block));
        }
        for block in LAG..BLOCKS {
            run.divide(&mut made[block - LAG]);
            made[block].write(run.moments(block));
        }
        for made in &mut made[BLOCKS - LAG..] {
            run.divide(made);
        }
        for (block, made) in made.iter().enumerate() {
            run.params(block, made.assume_init()[0]);
        }
        StateLanes([run.of_params, run.of_m, run.of_v])
    }
}
