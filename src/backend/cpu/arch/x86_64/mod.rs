//! AVX2 specialisations of whole tiles: float32, and bfloat16 parameters with bfloat16 gradients.

mod average_formats;
mod bf16_formats;
mod bf16_step;
mod bf16_sums;
mod f32_step;
mod random_blocks;
mod vector;

use self::bf16_step::Bf16Steps;
use self::bf16_sums::GradientSums;
use self::f32_step::{F32Steps, Following};
use super::Done;
use crate::backend::cpu::kernels::average::Average;
use crate::backend::cpu::kernels::elements::{Elements, ElementsMut};
use crate::backend::cpu::kernels::load_store::{Moments, Param};
use crate::backend::cpu::kernels::step::Step;
use crate::backend::cpu::kernels::sums_f64::Sum;
use crate::numeric::simd::{self, Level};

/// A computation with AVX2 and FMA intrinsics. `run` and all that it calls must be `#[inline(always)]`.
trait Avx2Kernel {
    type Output;

    /// # Safety
    /// The CPU has AVX2 and FMA.
    unsafe fn run(self) -> Self::Output;
}

/// Runs a kernel if the level in use allows it.
fn run<K: Avx2Kernel>(kernel: K) -> Option<K::Output> {
    match simd::level() {
        Level::Baseline => None,
        // SAFETY: `simd::level` answers Avx2 only on a CPU with AVX2 and FMA.
        Level::Avx2 => Some(unsafe { run_avx2(kernel) }),
        // SAFETY: `simd::level` answers Avx512 only on a CPU with these features of AVX-512.
        Level::Avx512 => Some(unsafe { run_avx512(kernel) }),
    }
}

#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Avx2Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is only called where there are AVX2 and FMA, which its features promise.
    unsafe { kernel.run() }
}

/// The same 256-bit vectors, but twice as many registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512<K: Avx2Kernel>(kernel: K) -> K::Output {
    // SAFETY: as in `run_avx2`; AVX-512 F implies AVX2 and FMA.
    unsafe { kernel.run() }
}

/// Adds Σ g², Σ g·m and, if it is wanted, Σ m² of the whole tiles that float32 can sum, up to the first that it cannot, and
/// returns the number of their elements.
pub fn bf16_gradient_sums(g: &[u16], m: Elements<'_>, sums: [&mut Sum; 2], first_moment: Option<&mut Sum>) -> usize {
    match m {
        Elements::F32(m) => run(GradientSums { g, m, sums, first_moment }),
        Elements::BF16(m) => run(GradientSums { g, m, sums, first_moment }),
        _ => None,
    }
    .unwrap_or(0)
}

/// Whether [`step`] of these, with sums, moves the average too and adds its displacement.
pub fn moves_average(param: &Param<'_>, g: Elements<'_>, moments: &Moments<'_>, first_moment: bool) -> bool {
    let in_place = matches!(
        (&param.model, g, &moments.m, &moments.v),
        (ElementsMut::F32(_), Elements::F32(_), ElementsMut::F32(_), ElementsMut::F32(_))
    );
    in_place && first_moment && simd::level() != Level::Baseline
}

/// The step on whole tiles, and the sums of the state that it leaves, Σ m² only with `first_moment`: up to the first tile
/// whose sums float32 cannot hold.
pub fn step(
    step: Step<'_, f32>,
    first_moment: bool,
    sums: Option<[&mut Sum; 3]>,
    displacement: Option<&mut Sum>,
) -> Done {
    let Step { param: Param { model, precision }, g, moments: Moments { m, v, .. }, s, random, start, average } = step;
    match (model, g, m, v) {
        // Without sums the compiler's loop is as fast.
        (ElementsMut::F32(p), Elements::F32(g), ElementsMut::F32(m), ElementsMut::F32(v)) if first_moment => {
            let Some(sums) = sums else { return Done::NOTHING };
            let Some(Average { elements, share, random }) = average else {
                return run(F32Steps { p, g, m, v, s, sums, average: Following::none() }).unwrap_or(Done::NOTHING);
            };
            match elements {
                ElementsMut::F32(elements) => {
                    let average = Following { elements, share, random, start, displacement };
                    run(F32Steps { p, g, m, v, s, sums, average })
                }
                ElementsMut::BF16(elements) => {
                    let average = Following { elements, share, random, start, displacement };
                    run(F32Steps { p, g, m, v, s, sums, average })
                }
                _ => unreachable!("the average of a float32 parameter is float32 or bfloat16"),
            }
        }
        (ElementsMut::BF16(p), Elements::BF16(g), ElementsMut::F32(m), ElementsMut::F32(v)) if !s.exact => {
            run(Bf16Steps { p, precision, g, moments: [m, v], s, random, start, first_moment, sums })
        }
        (ElementsMut::BF16(p), Elements::BF16(g), ElementsMut::BF16(m), ElementsMut::BF16(v)) if !s.exact => {
            run(Bf16Steps { p, precision, g, moments: [m, v], s, random, start, first_moment, sums })
        }
        _ => None,
    }
    .unwrap_or(Done::NOTHING)
}
