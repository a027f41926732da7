//! Means, standard deviations, and Student's intervals of paired differences.

use statrs::distribution::{ContinuousCDF, StudentsT};

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of a sample: divided by n − 1.
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// A mean with its interval of 95 %.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    pub mean: f64,
    /// None with one value.
    pub half: Option<f64>,
}

impl Interval {
    /// None without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let half = |n: usize| {
            let student = StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("at least one degree of freedom");
            student.inverse_cdf(0.975) * deviation(values) / (n as f64).sqrt()
        };
        (!values.is_empty()).then(|| Self { mean: mean(values), half: (values.len() > 1).then(|| half(values.len())) })
    }
}

/// What an interval of improvements (above 0: better) allows to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Better,
    Worse,
    Level,
    /// Equal in every seed.
    Same,
    /// One seed.
    Open,
}

impl Interval {
    pub fn verdict(&self) -> Verdict {
        match self.half {
            None => Verdict::Open,
            Some(half) if half == 0.0 && self.mean == 0.0 => Verdict::Same,
            Some(half) if self.mean - half > 0.0 => Verdict::Better,
            Some(half) if self.mean + half < 0.0 => Verdict::Worse,
            Some(_) => Verdict::Level,
        }
    }
}
