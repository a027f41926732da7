//! Any bytes as a sequence of calls on an optimizer. A twin, with another number of threads, gets the calls that succeed and
//! none of those that must fail: a call that fails changes nothing. Whatever is saved loads again with the same bytes.

use super::calls::Answer;
use super::growth::{Model, Snapshot};
use super::handle::{Failure, Handle, Spec, options, param_group, step_options};
use super::saved::State;
use super::tensor::{Tensor, bits};
use super::toy::Random;
use metaadamw::ffi::*;

/// Choices, one after the other; 0 when there are no more.
pub struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    pub fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.next()) % values.len()]
    }

    pub fn flag(&mut self) -> bool {
        self.next() % 2 == 1
    }
}

const DTYPES: [i32; 5] = [MAW_FLOAT32, MAW_FLOAT64, MAW_BFLOAT16, MAW_FLOAT16, MAW_FLOAT32];
const LENGTHS: [u64; 5] = [15, 3, 530, 7, 0];
const NAMES: [&str; 5] = ["embed.weight", "layers.0.attn.bias", "layers.0.mlp.weight", "layers.1.mlp.weight", "head"];

/// One of the two optimizers, and its host's parameters.
pub struct Side {
    pub handle: Handle,
    pub params: Vec<Tensor>,
    /// Number of its last request.
    pub asked: u64,
    /// Requests of before the other side was replaced: their numbers are the handle's own.
    pub before: u64,
}

pub struct Run {
    pub sides: [Side; 2],
    pub model: Model,
    /// Its numbers without those of before.
    pub open: Option<maw_meta_request>,
    pub earlier: Option<Snapshot>,
    skips: bool,
}

impl Side {
    /// What both sides are asked alike.
    fn request(&mut self, request: &maw_meta_request) -> (u64, i32, i32, u64, u64) {
        self.asked = self.asked.max(request.id);
        let [id, replay] = [request.id, request.replay].map(|id| id.saturating_sub(self.before));
        (id, request.kind, request.batch, replay, request.seed)
    }
}

fn chosen_options(c: &mut Choices) -> maw_options {
    let modulation = c.next() % 4 != 3;
    let nonfinite = c.of(&[MAW_NONFINITE_SKIP, MAW_NONFINITE_ERROR, MAW_NONFINITE_PROPAGATE]);
    let (objective, learning) = (c.of(&[0, 1, 2, 3, MAW_OBJECTIVE_HORIZON]), c.next());
    let from_steps = objective == MAW_OBJECTIVE_HORIZON;
    let by_adamw = from_steps || learning.is_multiple_of(2);
    maw_options {
        seed: c.next().into(),
        semantics: c.of(&[MAW_PAPER, MAW_REFERENCE]),
        feature_version: c.of(&[0, 1, 2, 3, 4, 5]),
        grouping: c.of(&[
            MAW_GROUPING_FINE_GRAINED,
            MAW_GROUPING_BY_PARAM_GROUP,
            MAW_GROUPING_FINE_GRAINED,
            MAW_GROUPING_CUSTOM,
        ]),
        init: c.of(&[MAW_INIT_XAVIER, MAW_INIT_IDENTITY]),
        objective,
        horizon: if from_steps || learning / 2 % 2 == 1 { 4 } else { 0 },
        meta_optimizer: if by_adamw { MAW_META_ADAMW } else { MAW_META_SGD },
        average_dtype: if learning / 4 % 2 == 1 { MAW_BFLOAT16 } else { 0 },
        alpha_log_range: [0.0, 4.0][usize::from(learning / 8 % 2)],
        beta_log_range: [0.0, 1.5][usize::from(learning / 16 % 2)],
        weighting: c.of(&[0, 1, 2]),
        difference: c.of(&[0, 1, 2]),
        nonfinite: if modulation && nonfinite == MAW_NONFINITE_PROPAGATE { MAW_NONFINITE_SKIP } else { nonfinite },
        modulation: modulation.into(),
        use_feature_gating: c.flag().into(),
        verify_params: c.next().is_multiple_of(4).into(),
        max_grad_norm: c.of(&[0.0, 0.5]),
        meta_interval: c.of(&[1, 2, 3]),
        meta_lr: c.of(&[1e-2, 1e3]),
        attn_heads: 1,
        attn_layers: 1,
        attn_hidden_dim: 3,
        group_embed_dim: 2,
        ..options()
    }
}

impl Run {
    fn new(c: &mut Choices) -> Self {
        let options = chosen_options(c);
        let precision =
            c.of(&[MAW_PRECISION_NEAREST, MAW_PRECISION_MASTER, MAW_PRECISION_REMAINDER, MAW_PRECISION_STOCHASTIC]);
        let choice = c.next();
        let moment_dtype = [0, MAW_BFLOAT16][usize::from(choice % 2)];
        let half = maw_param_group { precision, moment_dtype, lr: 0.01, ..param_group() };
        let other = if precision == MAW_PRECISION_REMAINDER { MAW_PRECISION_MASTER } else { precision };
        let groups = vec![param_group(), half, maw_param_group { precision: other, ..half }, param_group()];
        let own = [0, MAW_PRECISION_TENSOR_NEAREST, MAW_PRECISION_STOCHASTIC, MAW_PRECISION_MASTER];
        let tensor = |i: usize| {
            let mut spec =
                Spec::new(NAMES[i], &[LENGTHS[i]], DTYPES[i]).of_layer(u32::from(choice / 32) * (i as u32 % 3));
            if i == 2 {
                spec.precision = own[usize::from(choice / 2 % 4)];
            }
            let custom = options.grouping == MAW_GROUPING_CUSTOM;
            ([0, 0, 1, 2, 3][i], if custom { spec.in_group(["red", "blue"][i % 2]) } else { spec })
        };
        let model = Model { options, groups, tensors: (0..5).map(tensor).collect() };
        let side = |threads| {
            let mut random = Random(7);
            let values = |(_, s): &(usize, Spec)| Tensor::new(s.dtype, &random.values(s.len(), 0.5));
            let params = model.tensors.iter().map(values).collect();
            Side { handle: model.handle(threads, choice / 8 % 4 == 3), params, asked: 0, before: 0 }
        };
        let sides = [side(1), side(3)];
        Self { sides, model, open: None, earlier: None, skips: options.nonfinite == MAW_NONFINITE_SKIP }
    }

    fn gradients(&self, c: &mut Choices) -> Vec<Option<Tensor>> {
        let mut random = Random(c.next().into());
        let size = c.of(&[0.1, 1.0, 0.0, 1e-30, 1e-42, 1e4, 1e30]);
        let odd = c.next();
        let one = |(i, (_, s)): (usize, &(usize, Spec))| {
            let dtype = if s.grad_dtype == 0 { s.dtype } else { s.grad_dtype };
            let mut gradient = Tensor::new(dtype, &random.values(s.len(), size));
            if usize::from(odd) % 16 == i && s.len() > 0 {
                gradient.set(0, [f64::NAN, f64::INFINITY, 1e38][usize::from(odd / 16) % 3]);
            }
            (odd / 5 % 7 != i as u8).then_some(gradient)
        };
        self.model.tensors.iter().enumerate().map(one).collect()
    }

    /// The same call on both sides, with the same outcome.
    pub fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        call: impl Fn(&mut Side) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let [first, second] = &mut self.sides;
        let (one, other) = (call(first), call(second));
        assert_eq!(one, other, "the twins differ");
        one
    }

    /// A call that must fail, on one side alone.
    pub fn fails<T: std::fmt::Debug>(&mut self, call: impl FnOnce(&mut Side) -> Result<T, Failure>) {
        let before = bits(&self.sides[0].params);
        let failure = call(&mut self.sides[0]).expect_err("a call that must fail");
        assert!(failure.status < 0 && !failure.message.is_empty(), "{failure:?}");
        assert_eq!(bits(&self.sides[0].params), before, "{failure:?} changed a parameter");
    }

    /// Both sides are alike, in what can be seen and in what is saved.
    fn compare(&mut self) {
        assert_eq!(bits(&self.sides[0].params), bits(&self.sides[1].params), "parameters differ");
        self.both(|s| s.handle.steps()).expect("a count");
        if self.open.is_none() {
            self.both(|s| s.handle.save_bytes(0)).expect("saved");
        }
    }

    fn step(&mut self, c: &mut Choices) {
        let grads = self.gradients(c);
        let flags = if c.next().is_multiple_of(8) { MAW_STEP_PARAMS_CHANGED } else { 0 };
        let options = maw_step_options { grad_scale: c.of(&[1.0, 8.0]), flags, ..step_options() };
        let made = self.both(|s| {
            let report = s.handle.step_with(&mut s.params, &grads, &options)?;
            let norms = [report.grad_norm.to_bits(), report.clip_factor.to_bits()];
            Ok((report.step, report.skipped_steps, report.skip_reason, report.nonfinite_tensor, norms))
        });
        match made {
            Ok((_, _, reason, ..)) => assert!(reason == MAW_SKIP_NONE || self.skips),
            Err(failure) => assert!(
                [MAW_NOT_FINITE, MAW_PARAMS_CHANGED].contains(&failure.status) || self.open.is_some(),
                "{failure:?}"
            ),
        }
    }

    fn meta(&mut self, c: &mut Choices) {
        let opened = |(id, kind, batch, replay, seed)| {
            let request = maw_meta_request { id, kind, batch, replay, seed, ..super::handle::meta_request() };
            (kind != MAW_META_DONE).then_some(request)
        };
        let Some(request) = self.open else {
            let begun = self.both(|s| s.handle.begin(&mut s.params).map(|r| s.request(&r)));
            self.open = begun.ok().and_then(opened);
            return;
        };
        let loss = c.of(&[1.0, 0.5, 2.0, -1.0, f64::NAN]);
        let grads = (request.kind == MAW_META_GRADIENT).then(|| self.gradients(c));
        let answer = Answer { loss, grads, grad_scale: 1.0 };
        let next = self.both(|s| {
            let id = request.id + s.before;
            s.handle.tell(id, &answer, &mut s.params).map(|r| s.request(&r))
        });
        self.open = opened(next.expect("a good answer"));
    }

    fn reload(&mut self, c: &mut Choices) {
        let flags = c.of(&[0, MAW_LOAD_STRICT, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS]);
        let saved = self.both(|s| s.handle.save_bytes(0));
        let Ok(file) = saved else { return };
        self.both(|s| s.handle.load_bytes(&file, flags)).expect("what was saved loads");
        assert!(self.both(|s| s.handle.save_bytes(0)).expect("saved") == file, "other bytes after loading");
        let mut damaged = file.clone();
        damaged[usize::from(c.next()) * 7 % file.len()] ^= 1;
        self.fails(|s| s.handle.load_bytes(&damaged, flags));
        self.fails(|s| s.handle.load_bytes(&file[..file.len() - 1], flags));
    }

    fn setters(&mut self, c: &mut Choices) {
        let count = self.model.tensors.len();
        let (tensor, value) = (usize::from(c.next()) % count, f64::from(c.next()) / 100.0);
        let specs: Vec<Spec> = self.model.tensors.iter().map(|(_, spec)| spec.clone()).collect();
        let half = 2 % count;
        let done = match c.next() % 9 {
            0 => self.both(|s| s.handle.set_lr(MAW_ALL_GROUPS, value)),
            1 => self.both(|s| s.handle.set_weight_decay(1, value)),
            2 => self.both(|s| s.handle.set_priorities([value, 1.0, 2.0])),
            3 => self.both(|s| s.handle.reset(MAW_RESET_MOMENTS)),
            4 => self.both(|s| s.handle.reset(MAW_RESET_ATTENTION)),
            5 => self.both(|s| {
                let state = s.handle.tensor_state(tensor, &specs[tensor])?;
                let doubled = State { exp_avg: state.exp_avg.scaled(0.5), step: state.step + 1, ..state };
                s.handle.set_tensor_state(tensor, &doubled)
            }),
            6 => self.both(|s| s.handle.set_attention("output_proj.bias", &[f64::NAN; 4])),
            7 => self.both(|s| {
                let counters = s.handle.counters()?;
                let more = maw_counters { step: counters.step + 1, skipped_factor: 3, ..counters };
                s.handle.set_counters(&more)
            }),
            _ => self.both(|s| {
                let values = vec![value as f32; specs[half].len()];
                s.handle.set_masters(half, &values, &mut s.params[half])
            }),
        };
        if let Err(failure) = done {
            let expected = [MAW_INVALID_STATE, MAW_NOT_FOUND, MAW_INVALID_ARGUMENT];
            assert!(expected.contains(&failure.status), "{failure:?}");
        }
    }

    fn failing(&mut self, c: &mut Choices) {
        let value = c.of(&[f64::NAN, -1.0, f64::INFINITY]);
        match c.next() % 8 {
            0 => self.fails(|s| s.handle.set_lr(0, value)),
            1 => self.fails(|s| s.handle.set_lr(77, 0.1)),
            2 => self.fails(|s| s.handle.set_priorities([1.0, value, 1.0])),
            3 => self.fails(|s| s.handle.set_attention("output_proj.bias", &[f64::NAN; 4])),
            4 => self.fails(|s| s.handle.set_priorities([value; 3])),
            5 => self.fails(|s| s.handle.tell(u64::MAX, &Answer::loss(0.0), &mut s.params)),
            6 => self.fails(|s| s.handle.load_bytes(b"no file", 0)),
            _ => self.fails(|s| s.handle.set_counters(&maw_counters { step: 1 << 53, ..super::handle::counters() })),
        }
    }

    fn getters(&mut self) {
        let groups = 0..self.model.groups.len() as u32;
        let seen = self.both(|s| {
            let own = |group| [s.handle.lr(group), s.handle.weight_decay(group)].map(|x| x.expect("a group"));
            let hyper = |group| (own(group), s.handle.hyper_parameters(group).expect("a group"));
            Ok((
                (s.handle.tensor_count(), s.handle.param_group_count(), s.handle.load_report()),
                groups.clone().map(hyper).collect::<Vec<_>>(),
                s.handle.meta_due(),
                s.handle.factors().map(|f| format!("{f:?}")).ok(),
                s.handle.features().map(|f| f.iter().map(|x| x.to_bits()).collect::<Vec<_>>()).ok(),
                s.handle.result().map(|r| (r.updates, r.outcome, r.evaluations)).ok(),
                s.handle.dump().is_ok(),
            ))
        });
        assert!(seen.expect("getters always answer").6, "the dump failed");
    }

    /// The averages in the host's parameters, for calls that are refused meanwhile, and these back.
    fn swap(&mut self, c: &mut Choices) {
        let before = bits(&self.sides[0].params);
        if self.both(|s| s.handle.swap_averages(&mut s.params)).is_err() {
            assert!(self.open.is_some() || self.model.options.horizon == 0, "a swap was refused");
            return;
        }
        assert_eq!(bits(&self.sides[0].params), bits(&self.sides[1].params), "averages differ");
        let grads = self.gradients(c);
        self.fails(|s| s.handle.step(&mut s.params, &grads));
        self.fails(|s| s.handle.save_bytes(0));
        self.getters();
        self.both(|s| s.handle.swap_averages(&mut s.params)).expect("back");
        assert_eq!(bits(&self.sides[0].params), before, "a swap changed a parameter");
    }

    fn observe(&mut self, c: &mut Choices) {
        let (tensor, grads) = (usize::from(c.next()) % self.model.tensors.len(), self.gradients(c));
        let Some(gradient) = &grads[tensor] else { return };
        let observed = self.both(|s| s.handle.observe(tensor, gradient));
        assert!(observed.is_ok() || self.open.is_some() || self.model.tensors[tensor].1.len() == 0, "{observed:?}");
        // Any call but steps and getters forgets it: the next step may have another gradient.
        if self.open.is_none() {
            self.both(|s| s.handle.save_bytes(0)).expect("saved");
        }
    }
}

/// Makes the calls that the bytes say.
pub fn run(input: &[u8]) {
    let mut c = Choices(input);
    let mut run = Run::new(&mut c);
    for _ in 0..80 {
        if c.0.is_empty() {
            break;
        }
        match c.next() % 27 {
            0..=5 => run.step(&mut c),
            6..=8 => run.meta(&mut c),
            9 => {
                if run.open.take().is_some() {
                    run.both(|s| s.handle.abort(&mut s.params)).expect("one is open");
                } else {
                    run.fails(|s| s.handle.abort(&mut s.params));
                }
            }
            10 => run.reload(&mut c),
            11 | 12 => run.setters(&mut c),
            13 => run.failing(&mut c),
            14 => run.getters(),
            15 => run.observe(&mut c),
            16 | 17 => run.add_tensors(&mut c),
            18 => run.add_group(&mut c),
            19 => run.remove_tensor(&mut c),
            20 => run.refused_tensors(&mut c),
            21 => run.set_hyper_parameters(&mut c),
            22 | 23 => run.load_earlier(&mut c),
            24 => run.move_in_part(&mut c),
            25 => run.swap(&mut c),
            _ => run.resume(&mut c),
        }
        run.compare();
    }
    if run.open.take().is_some() {
        run.both(|s| s.handle.abort(&mut s.params)).expect("one is open");
        run.compare();
    }
}
