//! The loss of the golden cases, a quadratic with a quartic part, and its gradient, in f64:
//!
//! L(x; A, y) = ‖A x − y‖²/(2·rows) + (0.05/4) Σ x⁴, x = all tensors flattened in order.

use super::tensor::Tensor;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Loss {
    /// rows × columns, row-major; the columns are the elements of all tensors.
    pub a: Vec<f64>,
    /// One a row.
    pub y: Vec<f64>,
    /// Tensors that count as 0 in this batch's loss and get no gradient.
    pub unused: Vec<usize>,
    /// Tensors that enter the loss multiplied by a factor.
    pub scale: BTreeMap<usize, f64>,
}

impl Loss {
    fn factor(&self, tensor: usize) -> f64 {
        if self.unused.contains(&tensor) {
            return 0.0;
        }
        self.scale.get(&tensor).copied().unwrap_or(1.0)
    }

    /// The elements as they enter the loss.
    fn flattened(&self, params: &[Tensor]) -> Vec<f64> {
        let entering = |(i, tensor): (usize, &Tensor)| {
            let factor = self.factor(i);
            let values = tensor.values().into_iter();
            values.map(move |x| if factor == 0.0 { 0.0 } else { x * factor })
        };
        params.iter().enumerate().flat_map(entering).collect()
    }

    /// The loss and the gradient of each tensor, in the tensor's dtype; `None` where the tensor is unused.
    pub fn evaluate(&self, params: &[Tensor]) -> (f64, Vec<Option<Tensor>>) {
        let x = self.flattened(params);
        let rows = self.y.len() as f64;
        let mut loss = 0.05 / 4.0 * x.iter().map(|x| x.powi(4)).sum::<f64>();
        let mut gradient: Vec<f64> = x.iter().map(|x| 0.05 * x.powi(3)).collect();
        assert_eq!(self.a.len(), x.len() * self.y.len(), "A has one column an element and one row an entry of y");
        for (row, y) in self.a.chunks_exact(x.len()).zip(&self.y) {
            let residual = row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>() - y;
            loss += residual * residual / (2.0 * rows);
            for (g, a) in gradient.iter_mut().zip(row) {
                *g += a * residual / rows;
            }
        }
        let mut rest = gradient.as_slice();
        let split = |(i, tensor): (usize, &Tensor)| {
            let (own, after) = rest.split_at(tensor.len());
            rest = after;
            let factor = self.factor(i);
            let scaled: Vec<f64> = own.iter().map(|g| g * factor).collect();
            (!self.unused.contains(&i)).then(|| Tensor::new(tensor.dtype(), &scaled))
        };
        let gradients = params.iter().enumerate().map(split).collect();
        (loss, gradients)
    }
}
