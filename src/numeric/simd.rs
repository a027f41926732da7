//! One source, several instruction sets, the same bits: kernels are plain Rust over slices, compiled once for each
//! [`Level`] and chosen when the program runs.
//!
//! A [`Kernel`] is inlined into a thin `#[target_feature]` shell and the compiler vectorises it with the instructions that
//! the shell may use; intrinsics are in the CPU backend's `arch` alone. Bits stay equal because vectorising never changes
//! the arithmetic: Rust neither reorders a sum nor contracts `a * b + c` into a fused operation by itself, so an order of
//! summation that is written down holds at every width. [`Lanes`] is how the attention module writes it down; the passes
//! over tensors have their own lanes.
//!
//! Hence the rule for a kernel: no function of the platform's libm that IEEE 754 does not define to the last bit, as it
//! does `sqrt` and `mul_add` ([`crate::numeric::math`] has the others). And `mul_add` only with 16-bit tensors: it is an
//! instruction from Avx2 on and on aarch64, but a slow function call at the baseline of x86-64. NaNs stay NaNs at every
//! level; which of two NaN operands gives the payload is the hardware's choice.
#![expect(unsafe_code, reason = "calls of #[target_feature] functions, and a cast from lanes to their numbers")]

use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::sync::atomic::{AtomicU8, Ordering};

/// A computation that [`run`] may compile for several instruction sets.
///
/// `run` and all that it calls must be `#[inline(always)]`: what isn't inlined is compiled for the baseline only.
pub trait Kernel {
    /// What the computation returns.
    type Output;

    /// Does the work.
    fn run(self) -> Self::Output;
}

/// Instruction sets, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every CPU of the architecture has: SSE2 on x86-64, NEON on aarch64.
    Baseline = 1,
    /// 256-bit vectors, and FMA.
    Avx2 = 2,
    /// 512-bit vectors (F, BW, DQ and VL). The F part implies FMA.
    Avx512 = 3,
}

/// The [`Level`] in use; 0 until the CPU was asked.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Runs `kernel` at [`level`].
#[inline]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        Level::Baseline => run_baseline(kernel),
        // SAFETY: `level` answers Avx2 only where `supports` found its features on this CPU.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: `level` answers Avx512 only where `supports` found its features on this CPU.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 => unreachable!("levels of another architecture"),
    }
}

/// As [`run`], with 256-bit vectors at most: for loops that wait for memory or for the divider, which wider vectors do not
/// speed up.
#[inline]
pub fn run_up_to_avx2<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        Level::Baseline => run_baseline(kernel),
        // SAFETY: `level` answers these only where `supports` found AVX2 and FMA on this CPU; AVX-512 implies both.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => unsafe { run_avx2(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 => unreachable!("levels of another architecture"),
    }
}

/// Compiled once, not at every place that runs the kernel.
#[inline(never)]
fn run_baseline<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

/// The level that [`run`] uses: the CPU's best, unless a test forced another.
#[inline]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => choose(best()),
    }
}

/// Every level that this CPU supports, weakest first.
pub fn available() -> Vec<Level> {
    [Level::Baseline, Level::Avx2, Level::Avx512].into_iter().filter(|&level| supports(level)).collect()
}

/// Makes [`run`] use `level` in the whole process, or the best again for `None`.
///
/// # Panics
/// If the CPU lacks the level.
#[doc(hidden)]
pub fn force(level: Option<Level>) {
    let level = level.unwrap_or_else(best);
    assert!(supports(level), "this CPU lacks {level:?}");
    choose(level);
}

#[cold]
fn choose(level: Level) -> Level {
    LEVEL.store(level as u8, Ordering::Relaxed);
    level
}

fn best() -> Level {
    if supports(Level::Avx512) {
        Level::Avx512
    } else if supports(Level::Avx2) {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

/// Also asks whether the operating system saves the wide registers.
#[cfg(target_arch = "x86_64")]
fn supports(level: Level) -> bool {
    match level {
        Level::Baseline => true,
        Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Level::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn supports(level: Level) -> bool {
    level == Level::Baseline
}

/// Numbers in one [`Lanes`]: a 512-bit vector, a cache line.
pub const LANES: usize = 8;

/// Eight numbers side by side, computed with elementwise. Lanes never meet but in [`Lanes::sum`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Lanes(pub [f64; LANES]);

impl Lanes {
    /// Eight zeros.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// `value` in every lane.
    #[inline(always)]
    pub const fn splat(value: f64) -> Self {
        Self([value; LANES])
    }

    /// The sum over the lanes, by halves: ((0+4) + (2+6)) + ((1+5) + (3+7)), at every level.
    #[inline(always)]
    pub fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// The larger, lane by lane; `other` where one of them is NaN.
    #[inline(always)]
    pub fn max(mut self, other: Self) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = if *a > b { *a } else { b };
        }
        self
    }

    /// Square roots.
    #[inline(always)]
    pub fn sqrt(mut self) -> Self {
        for a in &mut self.0 {
            *a = a.sqrt();
        }
        self
    }
}

macro_rules! elementwise {
    ($($trait:ident $method:ident $operator:tt),*) => {$(
        impl $trait for Lanes {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let mut result = self.0;
                for (lane, b) in other.0.into_iter().enumerate() {
                    result[lane] = self.0[lane] $operator b;
                }
                Self(result)
            }
        }

        impl $trait<f64> for Lanes {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                self $operator Self::splat(other)
            }
        }
    )*};
}
elementwise!(Add add +, Sub sub -, Mul mul *, Div div /);

impl AddAssign for Lanes {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The numbers of `lanes`, one behind the other.
///
/// Elementwise loops belong here: over whole [`Lanes`] the compiler may vectorise across them, gathering and scattering.
#[inline(always)]
pub fn flat(lanes: &[Lanes]) -> &[f64] {
    // SAFETY: `Lanes` is `repr(C)`, its one field 8 numbers and its size 64 bytes: no padding, all initialised.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * LANES) }
}

/// As [`flat`], to be written.
#[inline(always)]
pub fn flat_mut(lanes: &mut [Lanes]) -> &mut [f64] {
    // SAFETY: as in `flat`; any numbers make valid `Lanes`, and the result keeps `lanes` exclusively borrowed.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * LANES) }
}

const _: () = assert!(size_of::<Lanes>() == LANES * size_of::<f64>());

#[cfg(test)]
mod tests {
    use super::*;

    /// What a compiler with -ffast-math would contract and reorder: x y + z, summed.
    struct Tempting<'a>(&'a [Lanes]);

    impl Kernel for Tempting<'_> {
        type Output = [u64; 2];

        #[inline(always)]
        fn run(self) -> [u64; 2] {
            let mut sum = Lanes::ZERO;
            let mut chain = 1.0;
            for &x in self.0 {
                sum += x * x;
                chain = chain * x.0[3] + 0.1;
            }
            [sum.sum().to_bits(), chain.to_bits()]
        }
    }

    #[test]
    fn every_level_gives_the_bits_of_the_plain_code() {
        let numbers: Vec<Lanes> =
            (1..100).map(|i| Lanes(std::array::from_fn(|lane| 1.0 / (3.0 + (i * lane) as f64)))).collect();
        let plain = Tempting(&numbers).run();
        for level in available() {
            force(Some(level));
            assert_eq!(run(Tempting(&numbers)), plain, "{level:?}");
        }
        force(None);
        assert_eq!(Some(&level()), available().last());
    }

    #[test]
    fn the_sum_over_lanes_goes_by_halves() {
        let lanes = Lanes([1e16, 1.0, 3.0, -1.0, -1e16, 1.0, 0.5, 2.0]);
        assert_eq!(lanes.sum(), 6.5);
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[test]
    #[should_panic(expected = "this CPU lacks Avx2")]
    fn a_level_that_the_cpu_lacks_is_refused() {
        force(Some(Level::Avx2));
    }
}
