//! The AdamW rule on one element, and the numbers that it takes: for scalars and for vectors of them.
//!
//! A new moment below the smallest normal number becomes 0, before it is rounded to 16 bits. Subnormal moments would stay:
//! from some size on β·m is rounded back to m. And they would make each step slow.

use super::number::{Float, Number};
use crate::model::coefficients::Coefficients;

/// [`Coefficients`] in the type that the tensor is computed in.
#[derive(Clone, Copy, Debug)]
pub struct Scalars<T> {
    /// Factor of the gradient.
    pub gradient: T,
    /// Whether gradients and moments have float32's precision or more, or a β is below ½. Else moments move towards g and
    /// g², as PyTorch's lerp does, and products are fused: half the operations. With a small β that would lose what is
    /// left of the average.
    pub exact: bool,
    one_minus_beta1: T,
    exact_beta1: f64,
    exact_one_minus_beta1: f64,
    beta2: T,
    one_minus_beta2: T,
    eps: T,
    step_size: T,
    /// If not exact, over the step size: added to r it is rounded with the whole change of θ, while alone it may be less
    /// than θ's last place.
    decay: T,
}

impl<T: Number> Scalars<T> {
    /// The new first and second moment, not exact. Not SCALED: the gradient has no factor.
    #[inline(always)]
    pub fn lerp_moments<const SCALED: bool>(&self, g: T, m: T, v: T) -> (T, T) {
        let g = if SCALED { g * self.gradient } else { g };
        let (m, v) = (
            m.minus_product(self.one_minus_beta1, m - g),
            v.minus_product(self.one_minus_beta2, v.minus_product(g, g)),
        );
        (m.normal_or_zero(), v.positive_normal_or_zero())
    }

    /// The new first and second moment. An [`exact`](Self::exact) m is rounded once: its cosine with g is a feature, which
    /// depends on small differences of m.
    #[inline(always)]
    pub fn moments<const EXACT: bool>(&self, g: T, m: T, v: T) -> (T, T) {
        if !EXACT {
            return self.lerp_moments::<true>(g, m, v);
        }
        let g = g * self.gradient;
        (self.first_moment(g, g.widen(), m.widen()), self.second_moment(g, v))
    }

    /// The new first moment of an effective gradient. `like` has as many numbers.
    #[inline(always)]
    pub fn first_moment(&self, like: T, g: T::Wide, m: T::Wide) -> T {
        T::round(like.wide(self.exact_beta1) * m + like.wide(self.exact_one_minus_beta1) * g).normal_or_zero()
    }

    /// The new second moment of an effective gradient.
    #[inline(always)]
    pub fn second_moment(&self, g: T, v: T) -> T {
        (self.beta2 * v + self.one_minus_beta2 * (g * g)).positive_normal_or_zero()
    }

    /// The divisor of m, given √v.
    #[inline(always)]
    pub fn denominator(&self, root: T) -> T {
        root + self.eps
    }

    /// r = m/(√v + ε); the bias corrections are in ε and in the step size (see [`crate::model::coefficients`]).
    #[inline(always)]
    pub fn ratio(&self, m: T, v: T) -> T {
        m / self.denominator(v.sqrt())
    }

    /// The new parameter: eq. 4.
    #[inline(always)]
    pub fn param<const EXACT: bool>(&self, p: T, ratio: T) -> T {
        if EXACT {
            p - (self.step_size * ratio + self.decay * p)
        } else {
            p.minus_product(self.step_size, self.decay.mul_add(p, ratio))
        }
    }

    /// Each as another number.
    #[inline(always)]
    pub fn map<U>(self, number: impl Fn(T) -> U) -> Scalars<U> {
        Scalars {
            gradient: number(self.gradient),
            exact: self.exact,
            one_minus_beta1: number(self.one_minus_beta1),
            exact_beta1: self.exact_beta1,
            exact_one_minus_beta1: self.exact_one_minus_beta1,
            beta2: number(self.beta2),
            one_minus_beta2: number(self.one_minus_beta2),
            eps: number(self.eps),
            step_size: number(self.step_size),
            decay: number(self.decay),
        }
    }
}

impl<T: Float> Scalars<T> {
    /// Each rounded at most once. `low_precision`: whether gradients or moments have 16 bits.
    #[must_use]
    pub fn new(c: &Coefficients, low_precision: bool) -> Self {
        let exact = !low_precision || c.beta1.min(c.beta2) < 0.5;
        Self {
            gradient: T::round(c.gradient),
            exact,
            one_minus_beta1: T::round(1.0 - c.beta1),
            exact_beta1: c.beta1,
            exact_one_minus_beta1: 1.0 - c.beta1,
            beta2: T::round(c.beta2),
            one_minus_beta2: T::round(1.0 - c.beta2),
            eps: T::round(c.eps),
            step_size: T::round(c.step_size),
            decay: T::round(if exact || c.step_size == 0.0 { c.decay } else { c.decay / c.step_size }),
        }
    }

    /// Whether the gradient has a factor other than 1.
    #[inline(always)]
    pub fn is_scaled(&self) -> bool {
        self.gradient.to_f32() != 1.0
    }
}
