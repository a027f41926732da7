//! Sums over a tensor's elements → the statistics that features are made of.
//!
//! Sums, not norms, because partial sums of chunks and threads add up; all in f64 and in a fixed order.

/// Sums over a gradient as the host gave it, before unscaling and clipping.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientSums {
    /// Σ g².
    pub square: f64,
    /// Σ g·m with the first moment.
    pub with_momentum: f64,
    /// Number of zeros; counted for `enhanced` features only.
    pub zeros: f64,
}

impl GradientSums {
    /// The sums of the gradient times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            // Two factors, one after the other: their product could overflow where the result does not.
            square: self.square * factor * factor,
            with_momentum: self.with_momentum * factor,
            zeros: self.zeros,
        }
    }
}

/// Sums over what stays from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StateSums {
    /// Σ θ².
    pub param: f64,
    /// Σ m².
    pub exp_avg: f64,
    /// Σ v².
    pub exp_avg_sq: f64,
    /// Number of zeros in m; counted for `enhanced` features only.
    pub exp_avg_zeros: f64,
}

/// One tensor's statistics in a step, of the effective gradient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// ‖g‖.
    pub gradient: f64,
    /// ‖m‖.
    pub exp_avg: f64,
    /// ‖θ‖.
    pub param: f64,
    /// cos(g, m).
    pub cosine: f64,
    /// ‖v‖.
    pub exp_avg_sq: f64,
    /// Share of zeros in g.
    pub gradient_zeros: f64,
    /// Share of zeros in m.
    pub exp_avg_zeros: f64,
}

impl Statistics {
    /// Of a tensor with `numel` elements whose gradient's sums are `gradient`, or who has none.
    #[must_use]
    pub fn new(gradient: Option<GradientSums>, state: StateSums, numel: usize) -> Self {
        // A missing gradient counts as g = 0: all of its elements are zeros.
        let sums = gradient.unwrap_or(GradientSums { zeros: numel as f64, ..GradientSums::default() });
        let (g, m) = (sums.square.sqrt(), state.exp_avg.sqrt());
        let share = |zeros: f64| if numel == 0 { 0.0 } else { zeros / numel as f64 };
        Self {
            gradient: g,
            exp_avg: m,
            param: state.param.sqrt(),
            cosine: sums.with_momentum / (at_least_tiny(g) * at_least_tiny(m)),
            exp_avg_sq: state.exp_avg_sq.sqrt(),
            gradient_zeros: share(sums.zeros),
            exp_avg_zeros: share(state.exp_avg_zeros),
        }
    }
}

/// max(x, 1e-8) that keeps a NaN.
fn at_least_tiny(x: f64) -> f64 {
    if x < 1e-8 { 1e-8 } else { x }
}
