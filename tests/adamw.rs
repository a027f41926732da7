//! Where alpha = beta = 1, MetaAdamW is AdamW: 2,000 steps against a plain AdamW written here, in f64.
//!
//! Two param groups with hyper-parameters of their own, several tensors, one of them now and then without a
//! gradient, learning rate and weight decay changed between steps. The gradients do not depend on the parameters, so
//! that rounding errors add up but are not amplified.

mod common;

use common::handle::{Handle, Spec, param_group};
use common::report::largest;
use common::saved::State;
use common::tensor::{Tensor, bits};
use common::toy::{Random, Toy, small_options};
use metaadamw::ffi::*;

const STEPS: usize = 2000;

/// Largest error relative to the largest expected magnitude of a tensor; float32: or of its start, if that is larger,
/// since a tensor of one element may come near 0. There θ, m and v are rounded to 24 bits in each of the 2,000 steps;
/// 2,000 roundings of 6e-8 that add up like a random walk are 3e-6.
fn tolerance(dtype: i32) -> f64 {
    if dtype == MAW_FLOAT64 { 1e-12 } else { 1e-5 }
}

/// AdamW with decoupled weight decay, of one tensor.
struct AdamW {
    /// Largest magnitude at the start.
    start: f64,
    theta: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
    t: i32,
}

impl AdamW {
    fn new(start: &Tensor) -> Self {
        let theta = start.values();
        Self { start: largest(&theta), m: vec![0.0; theta.len()], v: vec![0.0; theta.len()], theta, t: 0 }
    }

    fn step(&mut self, gradient: &[f64], group: &maw_param_group) {
        let maw_param_group { lr, beta1, beta2, eps, weight_decay, .. } = *group;
        self.t += 1;
        let corrections = (1.0 - beta1.powi(self.t), 1.0 - beta2.powi(self.t));
        for (i, g) in gradient.iter().enumerate() {
            self.m[i] = beta1 * self.m[i] + (1.0 - beta1) * g;
            self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
            let (m_hat, v_hat) = (self.m[i] / corrections.0, self.v[i] / corrections.1);
            self.theta[i] -= lr * (m_hat / (v_hat.sqrt() + eps) + weight_decay * self.theta[i]);
        }
    }
}

/// The same training by the library and by the plain AdamW, side by side.
struct Pair {
    dtype: i32,
    handle: Handle,
    groups: [maw_param_group; 2],
    params: Vec<Tensor>,
    plain: Vec<AdamW>,
    random: Random,
    steps: usize,
}

/// Sizes of the tensors, all of one param group and then of the other.
const SIZES: [&[usize]; 2] = [&[37, 8, 1], &[64, 5]];

impl Pair {
    fn new(dtype: i32, options: &maw_options) -> Self {
        let groups = [
            maw_param_group { lr: 0.01, weight_decay: 0.1, ..param_group() },
            maw_param_group { lr: 0.004, beta1: 0.8, beta2: 0.99, eps: 1e-6, weight_decay: 0.0, ..param_group() },
        ];
        let mut handle = Handle::new(options).expect("the options are good");
        let (mut random, mut params) = (Random(5), Vec::new());
        for (g, sizes) in SIZES.iter().enumerate() {
            let name = |i: usize| format!("layers.{i}.group{g}.weight");
            let spec = |(i, &size): (usize, &usize)| Spec::new(&name(i), &[size as u64], dtype);
            let specs: Vec<Spec> = sizes.iter().enumerate().map(spec).collect();
            handle.add(&groups[g], &specs).expect("the tensors are good");
            params.extend(sizes.iter().map(|&size| Tensor::new(dtype, &random.values(size, 1.0))));
        }
        let plain = params.iter().map(AdamW::new).collect();
        Self { dtype, handle, groups, params, plain, random, steps: 0 }
    }

    /// New learning rates and decays now and then, by the setters of one group and of all.
    fn schedule(&mut self) {
        let decayed = 0.01 * (0.55 + 0.45 * (self.steps as f64 * std::f64::consts::PI / STEPS as f64).cos());
        self.groups[0].lr = decayed;
        self.handle.set_lr(0, decayed).expect("a learning rate");
        if self.steps == 700 {
            self.groups[1].weight_decay = 0.05;
            self.handle.set_weight_decay(1, 0.05).expect("a decay");
        }
        if self.steps == 1000 {
            self.groups.iter_mut().for_each(|group| group.lr = 0.002);
            self.handle.set_lr(MAW_ALL_GROUPS, 0.002).expect("a learning rate");
        }
        if self.steps == 1500 {
            self.groups.iter_mut().for_each(|group| group.weight_decay = 0.02);
            self.handle.set_weight_decay(MAW_ALL_GROUPS, 0.02).expect("a decay");
        }
    }

    fn gradients(&mut self) -> Vec<Option<Tensor>> {
        let mut one = |(i, tensor): (usize, &Tensor)| {
            let values = self.random.values(tensor.len(), 0.3);
            let missing = i == 1 && self.steps % 5 == 3;
            (!missing).then(|| Tensor::new(self.dtype, &values.iter().map(|g| g + 0.05).collect::<Vec<_>>()))
        };
        self.params.iter().enumerate().map(&mut one).collect()
    }

    fn step(&mut self) {
        self.schedule();
        let grads = self.gradients();
        let report = self.handle.step(&mut self.params, &grads).expect("a step");
        assert_eq!(report.skipped, 0, "step {} was skipped", self.steps);
        for (i, (plain, gradient)) in self.plain.iter_mut().zip(&grads).enumerate() {
            if let Some(gradient) = gradient {
                plain.step(&gradient.values(), &self.groups[usize::from(i >= SIZES[0].len())]);
            }
        }
        self.steps += 1;
    }

    /// The largest relative error, over all tensors.
    fn error(&self) -> f64 {
        let of_tensor = |(tensor, plain): (&Tensor, &AdamW)| {
            let apart: Vec<f64> = tensor.values().iter().zip(&plain.theta).map(|(a, b)| a - b).collect();
            assert!(apart.iter().all(|x| x.is_finite()));
            let start = if self.dtype == MAW_FLOAT64 { 0.0 } else { plain.start };
            largest(&apart) / largest(&plain.theta).max(start)
        };
        self.params.iter().zip(&self.plain).map(of_tensor).fold(0.0, f64::max)
    }
}

/// 2,000 steps; afterwards, and on the way, both agree.
fn is_adamw(dtype: i32, options: &maw_options) -> Pair {
    let mut pair = Pair::new(dtype, options);
    let mut worst: f64 = 0.0;
    for _ in 0..STEPS {
        pair.step();
        worst = worst.max(pair.error());
    }
    println!("dtype {dtype}: worst error {worst:.1e}, tolerance {:.0e}", tolerance(dtype));
    assert!(worst <= tolerance(dtype), "error {worst:e}, tolerance {:e}", tolerance(dtype));
    pair
}

fn without_modulation() -> maw_options {
    maw_options { modulation: 0, ..small_options() }
}

fn with_ranges_of_zero() -> maw_options {
    maw_options { alpha_range: 0.0, beta_range: 0.0, ..small_options() }
}

#[test]
fn without_modulation_float64_tensors_are_trained_as_by_adamw() {
    is_adamw(MAW_FLOAT64, &without_modulation());
}

#[test]
fn without_modulation_float32_tensors_are_trained_as_by_adamw() {
    is_adamw(MAW_FLOAT32, &without_modulation());
}

#[test]
fn with_ranges_of_zero_float64_tensors_are_trained_as_by_adamw() {
    is_adamw(MAW_FLOAT64, &with_ranges_of_zero());
}

#[test]
fn with_ranges_of_zero_float32_tensors_are_trained_as_by_adamw() {
    is_adamw(MAW_FLOAT32, &with_ranges_of_zero());
}

#[test]
fn ranges_of_zero_give_the_same_bits_as_no_modulation() {
    for dtype in [MAW_FLOAT32, MAW_FLOAT64] {
        let mut plain = Pair::new(dtype, &without_modulation());
        let mut modulated = Pair::new(dtype, &with_ranges_of_zero());
        for _ in 0..200 {
            plain.step();
            modulated.step();
        }
        assert_eq!(bits(&plain.params), bits(&modulated.params), "dtype {dtype}");
    }
}

/// The plain AdamW and the library take turns; `maw_tensor_state_set` and `maw_tensor_state_get` move the state.
#[test]
fn a_run_moves_from_the_plain_adamw_to_the_library_and_back() {
    for dtype in [MAW_FLOAT32, MAW_FLOAT64] {
        let mut pair = Pair::new(dtype, &without_modulation());
        let specs: Vec<Spec> = pair.params.iter().map(|p| Spec::new("", &[p.len() as u64], dtype)).collect();
        // The state of a host without the library.
        let mut own: Vec<AdamW> = pair.params.iter().map(AdamW::new).collect();
        let mut worst: f64 = 0.0;
        for step in 0..STEPS {
            let at_library = (600..1400).contains(&step);
            if step == 600 {
                for (i, own) in own.iter().enumerate() {
                    pair.params[i] = Tensor::new(dtype, &own.theta);
                    let (exp_avg, exp_avg_sq) = (Tensor::new(dtype, &own.m), Tensor::new(dtype, &own.v));
                    let state = State { exp_avg, exp_avg_sq, step: own.t as u64 };
                    pair.handle.set_tensor_state(i, &state).expect("a state");
                }
                assert_eq!(pair.handle.steps().expect("prepared"), 600);
            }
            if step == 1400 {
                for (i, own) in own.iter_mut().enumerate() {
                    let state = pair.handle.tensor_state(i, &specs[i]).expect("a tensor");
                    own.theta = pair.params[i].values();
                    (own.m, own.v, own.t) = (state.exp_avg.values(), state.exp_avg_sq.values(), state.step as i32);
                }
            }
            pair.schedule();
            let grads = pair.gradients();
            if at_library {
                assert_eq!(pair.handle.step(&mut pair.params, &grads).expect("a step").skipped, 0);
            }
            for (i, gradient) in grads.iter().enumerate() {
                let Some(gradient) = gradient else { continue };
                let group = pair.groups[usize::from(i >= SIZES[0].len())];
                pair.plain[i].step(&gradient.values(), &group);
                if !at_library {
                    own[i].step(&gradient.values(), &group);
                }
            }
            if !at_library {
                pair.params = own.iter().map(|own| Tensor::new(dtype, &own.theta)).collect();
            }
            pair.steps += 1;
            worst = worst.max(pair.error());
        }
        println!("dtype {dtype}: worst error {worst:.1e}, tolerance {:.0e}", tolerance(dtype));
        assert!(worst <= tolerance(dtype), "error {worst:e}, tolerance {:e}", tolerance(dtype));
        let missed = (0..STEPS).filter(|step| step % 5 == 3).count();
        assert_eq!(own[1].t as usize, STEPS - missed, "the step count moved along");
    }
}

#[test]
fn without_modulation_the_factors_are_one_and_no_meta_update_is_due_or_possible() {
    let options = maw_options { meta_interval: 1, ..without_modulation() };
    let mut pair = Pair::new(MAW_FLOAT64, &options);
    pair.step();
    let factors = pair.handle.factors().expect("a step was made");
    for values in [factors.alpha, factors.beta] {
        assert!(values.iter().all(|&x| x == 1.0), "{values:?}");
    }
    assert_eq!(pair.handle.meta_due(), 0);
    let failure = pair.handle.begin(&mut pair.params).expect_err("no meta-update without modulation");
    assert_eq!(failure.status, MAW_INVALID_STATE, "{failure:?}");
}

#[test]
fn an_identity_start_is_adamw_until_the_first_meta_update() {
    for dtype in [MAW_FLOAT32, MAW_FLOAT64] {
        let options = maw_options { init: MAW_INIT_IDENTITY, ..small_options() };
        let mut pair = Pair::new(dtype, &options);
        for _ in 0..300 {
            pair.step();
            let factors = pair.handle.factors().expect("a step was made");
            let ones = factors.alpha.iter().chain(&factors.beta).all(|&x| x == 1.0);
            assert!(ones, "step {}: {factors:?}", pair.steps);
        }
        assert!(pair.error() <= tolerance(dtype), "error {:e}", pair.error());
    }
}

#[test]
fn the_first_meta_update_changes_the_factors_of_an_identity_start() {
    let toy = Toy::small();
    let mut handle = toy.handle(&maw_options { init: MAW_INIT_IDENTITY, ..small_options() });
    let mut params = toy.start.clone();
    toy.train(&mut handle, &mut params, 0, 4);
    let before = handle.factors().expect("a step was made");
    assert!(before.alpha.iter().chain(&before.beta).all(|&x| x == 1.0), "{before:?}");

    let result = toy.meta_update(&mut handle, &mut params).expect("a meta-update");
    assert_eq!(result.outcome, MAW_OUTCOME_UPDATED);
    let during = handle.factors().expect("a meta-update was made");
    assert!(during.alpha.iter().chain(&during.beta).all(|&x| x == 1.0), "these are the factors of its θ': {during:?}");

    toy.train(&mut handle, &mut params, 4, 1);
    let after = handle.factors().expect("a step was made");
    assert!(after.alpha.iter().all(|&x| x != 1.0), "{after:?}");
    assert!(after.beta.iter().all(|&x| x != 1.0), "{after:?}");
}

#[test]
fn an_unchecked_step_gives_the_same_bits_and_propagates_nan() {
    let unchecked = maw_options { nonfinite: MAW_NONFINITE_PROPAGATE, ..without_modulation() };
    let clipped = maw_options { max_grad_norm: 0.5, ..without_modulation() };
    let unchecked_clipped = maw_options { max_grad_norm: 0.5, ..unchecked };
    for (checked, unchecked) in [(without_modulation(), unchecked), (clipped, unchecked_clipped)] {
        let (mut one, mut other) = (Pair::new(MAW_FLOAT32, &checked), Pair::new(MAW_FLOAT32, &unchecked));
        for _ in 0..100 {
            one.step();
            other.step();
        }
        assert_eq!(bits(&one.params), bits(&other.params));

        let mut grads: Vec<_> = one.params.iter().map(|p| Some(p.scaled(0.1))).collect();
        grads[0].as_mut().expect("has one").set(0, f64::NAN);
        let before = bits(&one.params);
        assert_eq!(one.handle.step(&mut one.params, &grads).expect("skipping is no failure").skipped, 1);
        assert_eq!(bits(&one.params), before);
        assert_eq!(other.handle.step(&mut other.params, &grads).expect("no check").skipped, 0);
        assert!(other.params[0].values()[0].is_nan());
    }
    let options = maw_options { modulation: 1, ..unchecked };
    let failure = Handle::new(&options).err().expect("with modulation a NaN would reach every parameter");
    assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{failure:?}");
}
