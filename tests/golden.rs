//! The library against the golden cases, through the C ABI.
//!
//! Every case of `tests/golden`, or of the folder in the environment variable `METAADAMW_GOLDEN`, in both dtypes
//! and with both ways to take differences. Everything that a case holds is compared. The worst errors are printed.

mod common;

use common::calls::Answer;
use common::golden::{Case, files, parse};
use common::handle::{Failure, Handle, step_options};
use common::loss::Loss;
use common::report::{Check, Report, largest};
use common::rounding::{Numbers, Oracle, Place, Rounding, place_of};
use common::tensor::{Tensor, bits, float_bits};
use common::tolerance::{Mode, Phase};
use metaadamw::ffi::*;

/// One case run by the library. Tensors are in registration order.
struct Run<'a> {
    case: &'a Case,
    mode: Mode,
    report: &'a mut Report,
    handle: Handle,
    /// Config's index of each tensor.
    order: Vec<usize>,
    start: Vec<Tensor>,
    params: Vec<Tensor>,
    phase: Phase,
    /// Everything that was compared from the meta-update on.
    numbers: Numbers,
    /// What it may be off beyond [`Mode::tolerance`].
    oracle: Oracle,
    /// A host that rounds, in place of an exact one.
    rounding: Option<Rounding>,
}

fn text(failure: Failure) -> String {
    format!("{failure:?}")
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, mode: Mode, report: &'a mut Report) -> Result<Self, String> {
        Self::with(case, &case.options(mode.difference)?, mode, report)
    }

    fn with(case: &'a Case, options: &maw_options, mode: Mode, report: &'a mut Report) -> Result<Self, String> {
        let mut handle = Handle::new(options).map_err(text)?;
        let order = case.order();
        case.register(&mut handle, &order, mode).map_err(text)?;
        handle.prepare().map_err(text)?;
        let load = |i: &usize| case.need(&format!("param.{i}")).map(|values| Tensor::new(mode.dtype, values));
        let mut params: Vec<Tensor> = order.iter().map(load).collect::<Result<_, _>>()?;
        let start = params.clone();
        if mode.has_masters() {
            for (i, (param, index)) in params.iter_mut().zip(&order).enumerate() {
                let values: Vec<f32> = case.need(&format!("param.{index}"))?.iter().map(|x| *x as f32).collect();
                handle.set_masters(i, &values, param).map_err(text)?;
            }
        }
        let (phase, numbers, oracle) = (Phase::Before, Numbers::default(), Oracle::default());
        Ok(Self { case, mode, report, handle, order, start, params, phase, numbers, oracle, rounding: None })
    }

    fn close(&mut self, kind: &'static str, place: String, got: &[f64], expected: &[f64], scale: f64) {
        let mut tolerance = self.mode.tolerance(kind, self.phase, self.case.objective());
        if self.phase != Phase::Before {
            let name = (kind, place.clone());
            tolerance += self.oracle.tolerance(&name, scale);
            self.numbers.insert(name, got.to_vec());
        }
        self.report.close(Check { kind, place, got, expected, scale, tolerance });
    }

    /// All steps, with the meta-update in between.
    fn all(&mut self) -> Result<(), String> {
        self.groups_are_found()?;
        self.load_phi()?;
        for step in 1..=self.case.config.steps {
            self.step(step)?;
            if self.case.meta_after_step() == Some(step) {
                self.meta_update()?;
            }
        }
        let rest = self.case.unused();
        self.report.holds(rest.is_empty(), || format!("these tensors of the file were not compared: {rest:?}"));
        Ok(())
    }

    fn groups_are_found(&mut self) -> Result<(), String> {
        let (case, handle) = (self.case, &self.handle);
        let (groups, dim) = (handle.group_count().map_err(text)?, handle.feature_dim().map_err(text)?);
        self.report.holds(groups == case.group_count(), || format!("{groups} groups, not {}", case.group_count()));
        let expected = case.config.resolved_feature_dim;
        self.report.holds(dim == expected, || format!("feature_dim {dim}, not {expected}"));
        for (i, &index) in self.order.iter().enumerate() {
            let tensor = &case.config.tensors[index];
            let group = handle.tensor_group(i).map_err(text)?;
            let place = || format!("tensor {} is in group {group}, not {}", tensor.name, tensor.modulation_group);
            self.report.holds(group == tensor.modulation_group, place);
            let name = handle.group_name(group).map_err(text)?;
            if case.is_fine_grained() {
                let as_bias = name.ends_with(".bias") == tensor.is_bias;
                self.report.holds(as_bias, || format!("tensor {} is in group {name}", tensor.name));
            }
        }
        Ok(())
    }

    fn load_phi(&mut self) -> Result<(), String> {
        let mut known: Vec<String> =
            self.handle.attention_sizes().map_err(text)?.into_iter().map(|(name, _)| name).collect();
        known.sort();
        let in_file = self.case.names_under("phi.");
        self.report.holds(known == in_file, || format!("Φ consists of {known:?}, the file's of {in_file:?}"));
        for name in in_file {
            self.handle.set_attention(&name, self.case.need(&format!("phi.{name}"))?).map_err(text)?;
        }
        Ok(())
    }

    fn step(&mut self, step: usize) -> Result<(), String> {
        let case = self.case;
        let load = |i: &usize| case.get(&format!("grad.{step}.{i}")).map(|g| Tensor::new(self.mode.grad_dtype(), g));
        let grads: Vec<Option<Tensor>> = self.order.iter().map(load).collect();
        let before = self.handle.features().ok();
        let options = maw_step_options { grad_scale: case.config.grad_scale.unwrap_or(1.0), ..step_options() };
        let report = self.handle.step_with(&mut self.params, &grads, &options).map_err(text)?;
        let skipped = case.number(&format!("expect.{step}.skipped"))?;
        let same = f64::from(report.skipped).total_cmp(&skipped).is_eq();
        self.report.holds(same, || format!("step {step}: skipped = {}, not {skipped}", report.skipped));
        if skipped == 0.0 {
            self.features_and_factors(&format!("expect.{step}"))?;
        } else if let Some(before) = before {
            let after = self.handle.features().map_err(text)?;
            let unchanged = float_bits(&before) == float_bits(&after);
            self.report.holds(unchanged, || format!("step {step}: skipped, but the features changed"));
        }
        if case.learns_from_steps() {
            self.phi_after(step)?;
            self.averages_close(&format!("expect.{step}.average"))?;
        }
        let params = self.exact_params()?;
        self.params_close("parameters", &format!("expect.{step}.param"), &params)
    }

    /// Φ after what it learned at the end of a step. The key third of every `in_proj_bias` is left out: its derivative is 0
    /// in exact arithmetic, so that AdamW turns rounding into steps.
    fn phi_after(&mut self, step: usize) -> Result<(), String> {
        for (name, size) in self.handle.attention_sizes().map_err(text)? {
            let key = format!("expect.{step}.phi.{name}");
            let (mut got, mut expected) =
                (self.handle.attention(&name, size).map_err(text)?, self.case.need(&key)?.to_vec());
            if name.ends_with("in_proj_bias") {
                let keys = size / 3..2 * size / 3;
                got.drain(keys.clone());
                expected.drain(keys);
            }
            if expected != self.case.need(&format!("phi.{name}"))? {
                self.phase = Phase::After;
            }
            let scale = largest(&expected);
            self.close("phi learned", key, &got, &expected, scale);
        }
        Ok(())
    }

    /// The averages; before the first step the parameters themselves.
    fn averages_close(&mut self, prefix: &str) -> Result<(), String> {
        let average = |(i, start): (usize, &Tensor)| match self.handle.average(i, start) {
            Err(Failure { status: MAW_INVALID_STATE, .. }) if self.handle.steps().is_ok_and(|steps| steps == 0) => {
                Ok(start.clone())
            }
            other => other.map_err(text),
        };
        let averages: Vec<Tensor> = self.params.iter().enumerate().map(average).collect::<Result<_, _>>()?;
        self.params_close("averages", prefix, &averages)
    }

    /// The parameters, or their masters.
    fn exact_params(&mut self) -> Result<Vec<Tensor>, String> {
        if !self.mode.has_masters() {
            return Ok(self.params.clone());
        }
        let master = |(i, param)| self.handle.masters(i, param).map(Tensor::F32).map_err(text);
        self.params.iter().enumerate().map(master).collect()
    }

    /// Parameters against `PREFIX.i`; in float32 relative to the start where that is larger.
    fn params_close(&mut self, kind: &'static str, prefix: &str, params: &[Tensor]) -> Result<(), String> {
        for (i, tensor) in params.iter().enumerate() {
            let key = format!("{prefix}.{}", self.order[i]);
            let expected = self.case.need(&key)?;
            let start = if self.mode.is_float64() { 0.0 } else { largest(&self.start[i].values()) };
            self.close(kind, key, &tensor.values(), expected, largest(expected).max(start));
        }
        Ok(())
    }

    fn features_and_factors(&mut self, prefix: &str) -> Result<(), String> {
        let (case, key) = (self.case, format!("{prefix}.features"));
        let (expected, got) = (case.need(&key)?, self.handle.features().map_err(text)?);
        let dim = case.config.resolved_feature_dim;
        for column in 0..dim {
            let of = |matrix: &[f64]| matrix.iter().skip(column).step_by(dim).copied().collect::<Vec<_>>();
            let (got, expected) = (of(&got), of(expected));
            self.close("features", format!("{key} column {column}"), &got, &expected, largest(&expected));
        }
        let factors = self.handle.factors().map_err(text)?;
        let names = ["alpha", "beta", "lambda1", "lambda2"];
        for (name, got) in names.iter().zip([factors.alpha, factors.beta, factors.lambda1, factors.lambda2]) {
            let key = format!("{prefix}.{name}");
            let expected = case.need(&key)?;
            self.close("factors", key, &got, expected, largest(expected));
        }
        Ok(())
    }

    /// The meta-update and everything that the case expects of it.
    fn meta_update(&mut self) -> Result<(), String> {
        let case = self.case;
        self.phase = Phase::Meta;
        let losses = [case.loss("b1")?, case.loss("b2")?, case.loss("val")?];
        let (theta, order) = (bits(&self.params), self.order.clone());
        let (mut seen, mut rounding) = (Vec::new(), self.rounding.take());
        let mut params = self.params.clone();
        let result = self.handle.meta_update(&mut params, |request, params| {
            seen.push((*request, params.to_vec()));
            let exact = |params: &[Tensor]| answer(&losses[request.batch as usize - 1], request, params, &order);
            match &mut rounding {
                None => exact(params),
                Some(rounding) => rounding.answer(request, params, exact),
            }
        });
        let result = result.map_err(text)?;
        self.report.holds(bits(&params) == theta, || "the meta-update did not put θ back".to_owned());
        let asked = Asked::new(&seen);
        for (request, params) in seen {
            match place_of(&request) {
                Place::Theta => {
                    let same = bits(&params) == theta;
                    self.report.holds(same, || format!("request {} is not made at θ", request.id));
                }
                Place::Moved => self.params_close("moved", "expect.meta.moved", &params)?,
                Place::Difference => {}
            }
        }
        self.result_is_right(&result, &asked)?;
        self.features_and_factors("expect.meta")?;
        for name in ["alpha", "beta", "lambda1", "lambda2"] {
            let expected = case.need(&format!("expect.meta.d_{name}"))?;
            self.derivative(name, &format!("d_{name}"), expected)?;
        }
        for (name, size) in self.handle.attention_sizes().map_err(text)? {
            let expected = case.need(&format!("expect.meta.d_phi.{name}"))?;
            self.derivative(&name, &format!("d_phi.{name}"), expected)?;
            let key = format!("expect.meta.phi.{name}");
            let (got, expected) = (self.handle.attention(&name, size).map_err(text)?, case.need(&key)?);
            self.close("phi after", key, &got, expected, largest(expected));
        }
        self.phase = Phase::After;
        Ok(())
    }

    fn derivative(&mut self, name: &str, key: &str, expected: &[f64]) -> Result<(), String> {
        let got = self.handle.meta_gradient(name, expected.len()).map_err(text)?;
        self.close("derivatives", format!("expect.meta.{key}"), &got, expected, largest(expected));
        Ok(())
    }

    /// Outcome, terms, losses. What was not evaluated is NaN.
    fn result_is_right(&mut self, result: &maw_meta_result, asked: &Asked) -> Result<(), String> {
        let case = self.case;
        let steps = self.handle.steps().map_err(text)?;
        let counts = (result.outcome, result.updates, result.evaluations, result.step);
        let expected = (MAW_OUTCOME_UPDATED, 1, asked.evaluations, steps);
        self.report.holds(counts == expected, || {
            format!("(outcome, updates, evaluations, step) = {counts:?}, not {expected:?}")
        });
        let number = |name: &str| case.number(&format!("expect.meta.{name}"));
        let scale = largest(&[number("L_train")?, number("L_val")?, number("L_val_moved")?]);
        let objective = case.objective();
        let needs = |term: &str| objective == "combined" || objective == term;
        let numbers = [
            ("L_train", result.loss_train, asked.train),
            ("L_val", result.loss_validation, asked.validation),
            ("L_b2", result.loss_train_moved, asked.train_moved),
            ("L_val_moved", result.loss_validation_moved, asked.validation_moved),
            ("L_grad", result.term_gradient, needs("gradient")),
            ("L_loss", result.term_loss_decrease, needs("loss_decrease")),
            ("L_gap", result.term_gen_gap, needs("gen_gap")),
            ("L_meta", result.loss_meta, true),
        ];
        for (name, got, evaluated) in numbers {
            let expected = number(name)?;
            if evaluated {
                self.close("losses", format!("expect.meta.{name}"), &[got], &[expected], scale);
            } else {
                self.report.holds(got.is_nan(), || format!("{name} is {got}, though the objective does not need it"));
            }
        }
        let (idle, expected) = (f64::from(result.idle_groups), number("idle_groups")?);
        let same = !asked.train_moved || idle.total_cmp(&expected).is_eq();
        self.report.holds(same, || format!("{idle} idle groups, not {expected}"));
        let moves = objective != "gen_gap";
        let any_moved = asked.train_moved || asked.validation_moved;
        self.report.holds(any_moved == moves, || "evaluations at the moved parameters: too many or none".to_owned());
        if !moves {
            // The case has θ′ nevertheless; the library does not compute it.
            for i in &self.order {
                case.get(&format!("expect.meta.moved.{i}"));
            }
        }
        Ok(())
    }
}

/// The host's answer; the loss flattens the tensors in the order of the config.
fn answer(loss: &Loss, request: &maw_meta_request, params: &[Tensor], order: &[usize]) -> Answer {
    let registered: Vec<usize> =
        (0..order.len()).map(|i| order.iter().position(|&o| o == i).expect("a permutation")).collect();
    // Gradients of 16-bit parameters are float32.
    let wide = |p: &Tensor| if let Tensor::F64(_) = p { p.clone() } else { Tensor::new(MAW_FLOAT32, &p.values()) };
    let in_config_order: Vec<Tensor> = registered.iter().map(|&i| wide(&params[i])).collect();
    let (value, grads) = loss.evaluate(&in_config_order);
    if request.kind == MAW_META_LOSS {
        return Answer::loss(value);
    }
    Answer::gradient((value, order.iter().map(|&i| grads[i].clone()).collect()))
}

/// Which losses the host was asked for.
struct Asked {
    evaluations: u32,
    train: bool,
    validation: bool,
    train_moved: bool,
    validation_moved: bool,
}

impl Asked {
    fn new(seen: &[(maw_meta_request, Vec<Tensor>)]) -> Self {
        let any = |batch, place| seen.iter().any(|(request, _)| request.batch == batch && place_of(request) == place);
        Self {
            evaluations: seen.len() as u32,
            train: any(MAW_BATCH_TRAIN_1, Place::Theta),
            validation: any(MAW_BATCH_VALIDATION, Place::Theta),
            train_moved: any(MAW_BATCH_TRAIN_2, Place::Moved),
            validation_moved: any(MAW_BATCH_VALIDATION, Place::Moved),
        }
    }
}

/// What rounding to this mode's parameters costs, by runs in float64.
fn oracle(case: &Case, mode: Mode) -> Oracle {
    Oracle::new(mode.unit_roundoff(), |difference_scale, rounding| {
        let exact = Mode { dtype: MAW_FLOAT64, precision: MAW_PRECISION_NEAREST, difference: MAW_DIFFERENCE_CENTRAL };
        let options = case.options(exact.difference).expect("the case was read");
        numbers(case, &maw_options { difference_scale, device: MAW_CPU, ..options }, exact, rounding)
    })
}

/// The numbers of a run from its meta-update on, whatever the case expects.
fn numbers(case: &Case, options: &maw_options, mode: Mode, rounding: Option<Rounding>) -> Numbers {
    let mut ignored = Report::default();
    let mut run = Run::with(case, options, mode, &mut ignored).expect("good options");
    run.rounding = rounding;
    run.all().expect("a run");
    run.numbers
}

fn every_case_holds(mode: Mode) {
    let mut report = Report::default();
    let mut count = 0;
    for path in files() {
        report.subject = format!("{}, {}", path.file_stem().unwrap_or_default().to_string_lossy(), mode.name());
        let run = Case::read(&path).and_then(|case| {
            let mut run = Run::new(&case, mode, &mut report)?;
            if mode.has_masters() && case.meta_after_step().is_some() {
                run.oracle = oracle(&case, mode);
            }
            run.all()
        });
        report.holds(run.is_ok(), || format!("{run:?}"));
        count += 1;
    }
    assert!(count > 0, "no case was run");
    report.print(&format!("{count} golden cases with {} differences", mode.name()));
    report.finish();
}

#[test]
fn every_case_holds_with_float64_tensors_and_central_differences() {
    every_case_holds(Mode { dtype: MAW_FLOAT64, precision: MAW_PRECISION_NEAREST, difference: MAW_DIFFERENCE_CENTRAL });
}

#[test]
fn every_case_holds_with_float64_tensors_and_forward_differences() {
    every_case_holds(Mode { dtype: MAW_FLOAT64, precision: MAW_PRECISION_NEAREST, difference: MAW_DIFFERENCE_FORWARD });
}

#[test]
fn every_case_holds_with_float32_tensors_and_central_differences() {
    every_case_holds(Mode { dtype: MAW_FLOAT32, precision: MAW_PRECISION_NEAREST, difference: MAW_DIFFERENCE_CENTRAL });
}

#[test]
fn every_case_holds_with_float32_tensors_and_forward_differences() {
    every_case_holds(Mode { dtype: MAW_FLOAT32, precision: MAW_PRECISION_NEAREST, difference: MAW_DIFFERENCE_FORWARD });
}

#[test]
fn every_case_holds_with_bfloat16_parameters_and_float32_masters() {
    let precision = MAW_PRECISION_MASTER;
    every_case_holds(Mode { dtype: MAW_BFLOAT16, precision, difference: MAW_DIFFERENCE_CENTRAL });
}

#[test]
fn every_case_holds_with_bfloat16_parameters_and_remainders() {
    let precision = MAW_PRECISION_REMAINDER;
    every_case_holds(Mode { dtype: MAW_BFLOAT16, precision, difference: MAW_DIFFERENCE_CENTRAL });
}

#[test]
fn every_case_holds_with_float16_parameters_and_float32_masters() {
    let precision = MAW_PRECISION_MASTER;
    every_case_holds(Mode { dtype: MAW_FLOAT16, precision, difference: MAW_DIFFERENCE_CENTRAL });
}

/// The tolerances of 16-bit parameters are not those of the cases that are there: the same configurations with other
/// shapes and numbers meet them. What they should be comes from float64 tensors, which meet the golden cases.
#[test]
fn other_shapes_and_numbers_meet_the_tolerances_of_16_bit_parameters() {
    let mut report = Report::default();
    let modes = [MAW_BFLOAT16, MAW_FLOAT16].map(|dtype| Mode {
        dtype,
        precision: MAW_PRECISION_MASTER,
        difference: MAW_DIFFERENCE_CENTRAL,
    });
    for (seed, path) in files().iter().enumerate() {
        for mode in modes {
            let case = Case::read(path).expect("a case").varied(seed as u64 + 1);
            if case.meta_after_step().is_none() {
                continue;
            }
            report.subject = format!("{}, {}", case.name, mode.name());
            let oracle = oracle(&case, mode);
            let got = numbers(&case, &case.options(mode.difference).expect("options"), mode, None);
            assert!(!got.is_empty() && got.keys().eq(oracle.exact.keys()), "{}", report.subject);
            let losses = oracle
                .exact
                .iter()
                .filter(|((_, place), _)| ["L_train", "L_val", "L_val_moved"].iter().any(|loss| place.ends_with(loss)));
            let loss_scale = losses.map(|(_, values)| largest(values)).fold(0.0, f64::max);
            for (name, expected) in &oracle.exact {
                let scale = if name.0 == "losses" { loss_scale } else { largest(expected) };
                let tolerance = mode.tolerance(name.0, Phase::Meta, case.objective()) + oracle.tolerance(name, scale);
                let (kind, place) = name.clone();
                report.close(Check { kind, place, got: &got[name], expected, scale, tolerance });
            }
        }
    }
    report.print("other cases with 16-bit parameters and float32 masters");
    report.finish();
}

#[test]
fn a_case_with_an_unknown_key_anywhere_in_its_config_is_refused() {
    let with = |top: &str, group: &str, tensor: &str, unused: &str, scale: &str| {
        parse(&format!(
            r#"{{"steps": 1, "resolved_feature_dim": 6{top},
            "param_groups": [{{"lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1{group}}}],
            "tensors": [{{"name": "a", "shape": [1], "param_group": 0, "modulation_group": 0, "is_bias": true,
                          "depth": 0.0{tensor}}}],
            "meta_unused": {{"b1": [], "b2": [0], "val": []{unused}}}, "meta_scale": {{"b2": {{"0": 0.5}}{scale}}}}}"#
        ))
    };
    with("", "", "", "", "").expect("every key is known");
    let unknown = r#", "new": 1"#;
    for place in 0..5 {
        let at = |i: usize| if i == place { unknown } else { "" };
        let refused = with(at(0), at(1), at(2), at(3), at(4)).expect_err("an unknown key");
        assert!(refused.contains("unknown field `new`"), "{refused}");
    }
}
