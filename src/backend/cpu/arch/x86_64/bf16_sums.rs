//! Sums of bfloat16 tiles, in AVX2: the bits of `kernels/sums_f32.rs`.

use super::Avx2Kernel;
use super::bf16_formats::{MomentFormat, read_bf16};
use super::vector::{BLOCK, Block, F32s, F64s, U32s, both};
use crate::backend::cpu::kernels::number::Number;
use crate::backend::cpu::kernels::sums_f32::BOUNDS;
use crate::backend::cpu::kernels::sums_f64::{LANES, Sum};
use crate::backend::cpu::kernels::tile::TILE;

const _: () = assert!(LANES == BLOCK && TILE.is_multiple_of(BLOCK));

/// Whether a tile's lanes of a sum of squares hold: see [`BOUNDS`].
#[inline(always)]
pub(super) fn hold(lanes: Block<F32s>) -> bool {
    F32s::any_at_least(lanes, BOUNDS[0]) && F32s::all_within(lanes, 0.0, BOUNDS[1])
}

/// Whether a tile's lanes hold, or all its elements are zero.
///
/// # Safety
/// The CPU has AVX2, and a tile is readable from the pointer on.
#[inline(always)]
pub(super) unsafe fn hold_or_zero<M: MomentFormat>(lanes: Block<F32s>, tile: *const M) -> bool {
    // SAFETY: that is what the caller promises.
    hold(lanes) || unsafe { is_zero(tile) }
}

/// Whether all elements of a tile are zero.
///
/// # Safety
/// As for [`hold_or_zero`].
#[inline(always)]
pub(super) unsafe fn is_zero<M: MomentFormat>(tile: *const M) -> bool {
    // SAFETY: the caller promises AVX2 and a tile, in which the blocks lie.
    unsafe {
        let mut bits = [U32s::count_from(0).with(0); 2];
        for at in (0..TILE).step_by(BLOCK) {
            let values = M::read(tile.add(at));
            bits = both!(I => bits[I] | values[I].bits());
        }
        (bits[0] | bits[1]).are_zeros()
    }
}

/// sum += the lanes of a block, times a factor: [`Sum::add_lanes`] in registers.
#[inline(always)]
pub(super) fn add_lanes(sum: &mut Sum, lanes: Block<F32s>, factor: f64) {
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
pub(super) fn add_squares(sum: &mut Block<F32s>, values: Block<F32s>) {
    for (sum, x) in sum.iter_mut().zip(values) {
        *sum = x.mul_add(x, *sum);
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
        // SAFETY: the caller promises AVX2, and these are tiles.
        let [of_g, of_m] = unsafe { [hold_or_zero(gg, g.as_ptr()), !FIRST_MOMENT || hold_or_zero(mm, m.as_ptr())] };
        if !(of_g && of_m && F32s::all_within(gm, f32::MIN, f32::MAX)) {
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
