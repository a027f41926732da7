//! The program of docs/start_rust.md.

use metaadamw::meta::{Answer, Batch};
use metaadamw::model::dtype::DType;
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};

/// Your engine: a loss against 2 x + 1, and its gradient.
fn evaluate(line: &[[f32; 1]; 2], batch: u64, gradient: &mut [[f32; 1]; 2]) -> f64 {
    let mut loss = 0.0;
    *gradient = [[0.0]; 2];
    for i in 0..8 {
        let x = ((37 * batch + 11 * i) % 16) as f32 / 8.0 - 1.0;
        let off = line[0][0] * x + line[1][0] - (2.0 * x + 1.0);
        loss += f64::from(off * off / 8.0);
        gradient[0][0] += off * x / 4.0;
        gradient[1][0] += off / 4.0;
    }
    loss
}

pub fn train() -> metaadamw::Result<String> {
    let tensor = |name: &str, shape: &[u64]| TensorSpec::new(name, shape, DType::F32);
    let mut optimizer = Optimizer::new(Options { meta_interval: 20, ..Options::default() })?;
    let group = ParamGroup { lr: 0.05, ..ParamGroup::default() };
    optimizer.add_param_group(group, vec![tensor("mlp.weight", &[1, 1])?, tensor("mlp.bias", &[1])?])?;

    let (mut line, mut gradient) = ([[0.0], [0.0]], [[0.0], [0.0]]);
    for step in 1..=200 {
        evaluate(&line, step, &mut gradient);
        let grads = Grads::new(gradient.iter().map(|g| Some(Slice::F32(g))));
        let params = Params::new(line.iter_mut().map(|p| SliceMut::F32(p)));
        optimizer.step(&params, &grads, &StepOptions::default())?;
        if !optimizer.meta_due() {
            continue;
        }
        let mut request = optimizer.meta_begin(&Params::new(line.iter_mut().map(|p| SliceMut::F32(p))))?;
        while let Some(asked) = request {
            let batch = match asked.batch {
                Batch::Train1 => step + 1,
                Batch::Train2 => step + 2,
                Batch::Validation => 0,
            };
            let loss = evaluate(&line, batch, &mut gradient);
            let answer = Answer { request_id: asked.id, loss, grad_scale: 1.0 };
            let grads = Grads::new(gradient.iter().map(|g| Some(Slice::F32(g))));
            let params = Params::new(line.iter_mut().map(|p| SliceMut::F32(p)));
            request = optimizer.meta_tell(&answer, &params, Some(&grads))?;
        }
    }
    Ok(format!("y = {:.2} x + {:.2}", line[0][0], line[1][0]))
}
