//! Statistics → G × D tokens: basic, basic_plus, enhanced, norm_*, and the learned gates on top.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, aview1, s};

use crate::error::{Error, Result};
use crate::model::groups::{Groups, Tensor};
use crate::model::options::{FeatureVersion, Options};
use crate::model::stats::Statistics;
use crate::numeric::math;

/// What the columns of the feature matrix are; made once, when registration ends.
#[derive(Debug)]
pub struct Features {
    version: FeatureVersion,
    v_norms: bool,
    time: bool,
    total_steps: u64,
    /// Columns of statistics, at the front (t_norm, padding and embedding follow).
    pub(crate) statistical: usize,
    /// D.
    dim: usize,
    /// E, 0 without group embeddings.
    embed_dim: usize,
    /// Of each tensor: ln(numel + 1), 1 for a bias, depth.
    pub(crate) fixed: Vec<[f64; 3]>,
}

impl Features {
    /// Columns for these options and tensors.
    ///
    /// # Errors
    /// A `feature_dim` below the length of the features.
    pub fn new(options: &Options, tensors: &[Tensor], groups: &Groups) -> Result<Self> {
        let v_norms = usize::from(options.use_v_norms);
        let time = usize::from(options.include_time_step);
        let (statistical, embed_dim) = match options.feature_version {
            FeatureVersion::Basic | FeatureVersion::NormBasic | FeatureVersion::NormLog => (4 + v_norms, 0),
            FeatureVersion::BasicPlus | FeatureVersion::NormBasicPlus => (8 + 2 * v_norms, 0),
            FeatureVersion::Enhanced => (9, options.group_embed_dim),
        };
        let length = statistical + time + embed_dim;
        let wanted = if options.feature_dim == 0 { length } else { options.feature_dim };
        if wanted < length {
            return Err(Error::range(
                "options.feature_dim",
                wanted,
                format!("0, or at least {length}, the length of these features"),
            ));
        }
        let fixed = tensors
            .iter()
            .zip(&groups.depth)
            .map(|(t, depth)| [math::ln(t.whole_numel as f64 + 1.0), f64::from(u8::from(t.is_bias())), *depth])
            .collect();
        Ok(Self {
            version: options.feature_version,
            v_norms: options.use_v_norms,
            time: options.include_time_step,
            total_steps: options.total_steps,
            statistical,
            dim: wanted.next_multiple_of(options.attn_heads),
            embed_dim,
            fixed,
        })
    }

    /// D, the width of a token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What each column is.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let used = 4 + usize::from(self.v_norms);
        let basic = &["gradient_norm", "exp_avg_norm", "param_norm", "cosine", "exp_avg_sq_norm"][..used];
        let prefixed = |prefix: &str| basic.iter().map(|name| format!("{prefix}_{name}")).collect::<Vec<_>>();
        let mut columns = match self.version {
            FeatureVersion::Basic | FeatureVersion::NormBasic => prefixed("mean"),
            FeatureVersion::NormLog => basic
                .iter()
                .map(|name| if *name == "cosine" { "mean_cosine".into() } else { format!("mean_ln_{name}") })
                .collect(),
            FeatureVersion::BasicPlus | FeatureVersion::NormBasicPlus => [prefixed("mean"), prefixed("std")].concat(),
            FeatureVersion::Enhanced => [
                "mean_gradient_norm",
                "var_gradient_norm",
                "mean_exp_avg_norm",
                "var_exp_avg_norm",
                "mean_gradient_zeros",
                "mean_exp_avg_zeros",
                "mean_ln_numel",
                "share_of_biases",
                "mean_depth",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        columns.extend(self.time.then(|| "time".to_owned()));
        columns.resize(self.dim - self.embed_dim, "padding".to_owned());
        columns.extend((0..self.embed_dim).map(|i| format!("embedding_{i}")));
        columns
    }

    /// E, 0 without group embeddings.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// Steps of the whole run, 0 if unknown.
    pub fn set_total_steps(&mut self, total_steps: u64) {
        self.total_steps = total_steps;
    }

    /// Whether zeros must be counted.
    #[must_use]
    pub fn counts_zeros(&self) -> bool {
        self.version == FeatureVersion::Enhanced
    }

    /// The columns before standardisation and gating, into `out` (G × D). `embeddings`: G × E.
    pub fn fill(
        &self,
        groups: &Groups,
        statistics: &[Statistics],
        step: u64,
        embeddings: Option<ArrayView2<f64>>,
        out: &mut Array2<f64>,
    ) {
        let time = self.time_feature(step);
        out.fill(0.0);
        for (group, row) in groups.groups.iter().zip(out.rows_mut()) {
            match self.version {
                FeatureVersion::Enhanced => self.enhanced(&group.tensors, statistics, row),
                _ => self.basic(&group.tensors, statistics, row),
            }
        }
        if self.time {
            out.column_mut(self.statistical).fill(time);
        }
        if let Some(embeddings) = embeddings {
            out.slice_mut(s![.., self.dim - self.embed_dim..]).assign(&embeddings);
        }
    }

    /// Means of norms and cosine; with `plus`, their standard deviations after them.
    fn basic(&self, tensors: &[usize], statistics: &[Statistics], mut row: ArrayViewMut1<f64>) {
        let plus = matches!(self.version, FeatureVersion::BasicPlus | FeatureVersion::NormBasicPlus);
        let of: [fn(&Statistics) -> f64; 5] = match self.version {
            FeatureVersion::NormLog => [
                |s| ln_norm(s.gradient),
                |s| ln_norm(s.exp_avg),
                |s| ln_norm(s.param),
                |s| s.cosine,
                |s| ln_norm(s.exp_avg_sq),
            ],
            _ => [|s| s.gradient, |s| s.exp_avg, |s| s.param, |s| s.cosine, |s| s.exp_avg_sq],
        };
        let used = 4 + usize::from(self.v_norms);
        for (column, value) in of[..used].iter().enumerate() {
            let (mean, variance) = mean_and_variance(tensors, |i| value(&statistics[i]));
            row[column] = mean;
            if plus {
                row[used + column] = variance.sqrt();
            }
        }
    }

    fn enhanced(&self, tensors: &[usize], statistics: &[Statistics], mut row: ArrayViewMut1<f64>) {
        let mean = |of: &dyn Fn(usize) -> f64| mean_and_variance(tensors, of).0;
        let (gradient, gradient_variance) = mean_and_variance(tensors, |i| statistics[i].gradient);
        let (exp_avg, exp_avg_variance) = mean_and_variance(tensors, |i| statistics[i].exp_avg);
        row.slice_mut(s![..9]).assign(&aview1(&[
            gradient,
            gradient_variance,
            exp_avg,
            exp_avg_variance,
            mean(&|i| statistics[i].gradient_zeros),
            mean(&|i| statistics[i].exp_avg_zeros),
            mean(&|i| self.fixed[i][0]),
            mean(&|i| self.fixed[i][1]),
            mean(&|i| self.fixed[i][2]),
        ]));
    }

    fn time_feature(&self, step: u64) -> f64 {
        if self.total_steps > 0 {
            step as f64 / self.total_steps as f64
        } else {
            2.0 * math::sigmoid(step as f64 / 1000.0) - 1.0
        }
    }

    /// What the encoder reads: `raw` (G × D) standardised where the version says so.
    pub fn standardise(&self, raw: &Array2<f64>, out: &mut Array2<f64>) {
        out.assign(raw);
        if matches!(self.version, FeatureVersion::Basic | FeatureVersion::BasicPlus | FeatureVersion::Enhanced) {
            return;
        }
        let groups = raw.nrows();
        for mut column in out.columns_mut().into_iter().take(self.statistical) {
            // Sums in the order of the groups: ndarray's own have another.
            let mean = column.iter().sum::<f64>() / groups as f64;
            let squares: f64 = column.iter().map(|x| (x - mean) * (x - mean)).sum();
            let std = if groups > 1 { (squares / (groups - 1) as f64).sqrt() } else { 0.0 };
            column.mapv_inplace(|x| if groups > 1 { (x - mean) / (std + 1e-8) } else { 0.0 });
        }
    }
}

/// Multiplies each column of `tokens` (G × D) by sigmoid(gate).
pub fn gate(tokens: &mut Array2<f64>, gates: &[f64]) {
    for (mut column, gate) in tokens.columns_mut().into_iter().zip(gates) {
        let sigmoid = math::sigmoid(*gate);
        column.mapv_inplace(|x| x * sigmoid);
    }
}

/// ln(max(10²⁰·x, 1)): 0 for a norm of 0, so that standardising it stays exact.
fn ln_norm(norm: f64) -> f64 {
    let scaled = 1e20 * norm;
    match scaled {
        _ if scaled < 1.0 => 0.0,
        _ if scaled.is_finite() => math::ln(scaled),
        _ => scaled, // no feature
    }
}

fn mean_and_variance(tensors: &[usize], value: impl Fn(usize) -> f64) -> (f64, f64) {
    let n = tensors.len() as f64;
    let mean = tensors.iter().map(|&i| value(i)).sum::<f64>() / n;
    let squares: f64 = tensors.iter().map(|&i| (value(i) - mean) * (value(i) - mean)).sum();
    (mean, squares / n)
}
