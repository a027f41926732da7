//! Sums in float64 in fixed lanes: element i of a chunk goes to lane i mod [`LANES`], in order.
//!
//! There are many lanes because a CPU starts two additions a cycle and waits four for each result. The loops have the shape
//! that the compiler vectorises at full width: short arrays, each from one source. The few elements after the last full
//! array are added in a function of their own; with their branches in the loop the compiler splits the lanes into pairs.

use super::number::Float;

/// Partial sums side by side: two 512-bit vectors of f64.
pub const LANES: usize = 16;

/// A sum of which some terms are added.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Sum([f64; LANES]);

impl Sum {
    /// No terms.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// The lanes added up by halves: lane i and lane i + n/2, until one is left.
    #[inline(always)]
    pub fn total(self) -> f64 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// += these lanes, times a factor.
    #[inline(always)]
    pub fn add_lanes(&mut self, lanes: &[f32; LANES], factor: f64) {
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum += f64::from(*lane) * factor;
        }
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(&mut self) -> &mut [f64; LANES] {
        &mut self.0
    }

    /// += a·b, lane by lane.
    #[inline(always)]
    fn add(&mut self, a: &[f64; LANES], b: &[f64; LANES]) {
        for lane in 0..LANES {
            self.0[lane] += a[lane] * b[lane];
        }
    }
}

#[inline(always)]
fn widen<A: Float>(a: &[A; LANES]) -> [f64; LANES] {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = a[lane].widen();
    }
    wide
}

#[inline(always)]
fn scale<A: Float>(a: &[A; LANES], factor: A) -> [A; LANES] {
    let mut scaled = [A::ZERO; LANES];
    for lane in 0..LANES {
        scaled[lane] = a[lane] * factor;
    }
    scaled
}

#[inline(always)]
fn difference<A: Float>(a: &[A; LANES], b: &[A; LANES]) -> [A; LANES] {
    let mut difference = [A::ZERO; LANES];
    for lane in 0..LANES {
        difference[lane] = a[lane] - b[lane];
    }
    difference
}

/// sum += Σ a·b for fewer than [`LANES`] elements. Compiled once, for every instruction set.
#[cold]
#[inline(never)]
fn rest<A: Float, B: Float>(a: &[A], b: &[B], sum: &mut Sum) {
    for (lane, (a, b)) in a.iter().zip(b).enumerate() {
        sum.0[lane] += a.widen() * b.widen();
    }
}

/// sum += Σ a·b, both widened.
#[inline(always)]
pub fn dot<A: Float, B: Float>(a: &[A], b: &[B], sum: &mut Sum) {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let mut lanes = *sum;
    for (a, b) in a.iter().zip(b) {
        lanes.add(&widen(a), &widen(b));
    }
    *sum = lanes;
    if !a_rest.is_empty() {
        rest(a_rest, b_rest, sum);
    }
}

/// sum += Σ a².
#[inline(always)]
pub fn square<A: Float>(a: &[A], sum: &mut Sum) {
    dot(a, a, sum);
}

/// ab += Σ a·b, ac += Σ a·c, widening a once.
#[inline(always)]
pub fn dots<A: Float, B: Float>(a: &[A], (b, c): (&[B], &[B]), ab: &mut Sum, ac: &mut Sum) {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let (c, c_rest) = c.as_chunks();
    let (mut with_b, mut with_c) = (*ab, *ac);
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        let a = widen(a);
        with_b.add(&a, &widen(b));
        with_c.add(&a, &widen(c));
    }
    (*ab, *ac) = (with_b, with_c);
    if !a_rest.is_empty() {
        rest(a_rest, b_rest, ab);
        rest(a_rest, c_rest, ac);
    }
}

/// sum += Σ (factor·a)·b, the factor being multiplied in A.
#[inline(always)]
pub fn scaled_dot<A: Float>(a: &[A], factor: A, b: &[A], sum: &mut Sum) {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let mut lanes = *sum;
    for (a, b) in a.iter().zip(b) {
        lanes.add(&widen(&scale(a, factor)), &widen(b));
    }
    *sum = lanes;
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sum.0[lane] += (*a * factor).widen() * b.widen();
    }
}

/// sum += Σ a·(b − c), the difference being rounded in A.
#[inline(always)]
pub fn dot_with_difference<A: Float>(a: &[A], b: &[A], c: &[A], sum: &mut Sum) {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let (c, c_rest) = c.as_chunks();
    let mut lanes = *sum;
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        lanes.add(&widen(a), &widen(&difference(b, c)));
    }
    *sum = lanes;
    for (lane, ((a, b), c)) in a_rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        sum.0[lane] += a.widen() * (*b - *c).widen();
    }
}

/// squares += Σ a², products += Σ a·b, widening a once.
#[inline(always)]
pub fn square_and_dot<A: Float, B: Float>(a: &[A], b: &[B], squares: &mut Sum, products: &mut Sum) {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let (mut aa, mut ab) = (*squares, *products);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (widen(a), widen(b));
        aa.add(&a, &a);
        ab.add(&a, &b);
    }
    (*squares, *products) = (aa, ab);
    if !a_rest.is_empty() {
        rest(a_rest, a_rest, squares);
        rest(a_rest, b_rest, products);
    }
}

/// sum += the number of zeros in a.
#[inline(always)]
pub fn zeros<A: Float>(a: &[A], sum: &mut Sum) {
    let one = |x: A| if x == A::ZERO { 1.0 } else { 0.0 };
    let (a, rest) = a.as_chunks::<LANES>();
    let mut lanes = *sum;
    for a in a {
        for (lane, a) in lanes.0.iter_mut().zip(a) {
            *lane += one(*a);
        }
    }
    // Whole numbers: the lane does not matter.
    for a in rest {
        lanes.0[0] += one(*a);
    }
    *sum = lanes;
}
