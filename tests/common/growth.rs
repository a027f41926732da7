//! The part of a sequence of calls in which tensors come and go, and files are loaded by optimizers with other tensors.

use super::handle::{Failure, Handle, Spec, param_group};
use super::sequence::{Choices, Run, Side};
use super::tensor::{Tensor, bits};
use super::toy::Random;
use metaadamw::ffi::*;

/// What the calls have registered so far: enough to register it again.
#[derive(Clone)]
pub struct Model {
    pub options: maw_options,
    /// With the default eps, which fits all tensors.
    pub groups: Vec<maw_param_group>,
    /// Each with its param group.
    pub tensors: Vec<(usize, Spec)>,
}

/// A file, and what it was saved from.
pub struct Snapshot {
    file: Vec<u8>,
    model: Model,
    eps: Vec<f64>,
}

/// Tensors that may come later: name, shape, dtype, precision of their own, layer.
const LATER: [(&str, &[u64], i32, i32, u32); 8] = [
    ("layers.2.attn.weight", &[17], MAW_FLOAT32, 0, 0),
    ("blocks.attn.weight", &[11, 3], MAW_BFLOAT16, MAW_PRECISION_MASTER, 4),
    ("layers.5.norm.bias", &[4], MAW_FLOAT16, MAW_PRECISION_STOCHASTIC, 0),
    ("double", &[2, 3], MAW_FLOAT64, 0, 2),
    ("rest.weight", &[8, 8], MAW_BFLOAT16, MAW_PRECISION_REMAINDER, 1),
    ("nearest", &[], MAW_BFLOAT16, MAW_PRECISION_TENSOR_NEAREST, 0),
    ("nothing", &[3, 0], MAW_FLOAT32, 0, 9),
    ("inherits.mlp", &[40], MAW_FLOAT16, 0, 0),
];

fn start(spec: &Spec) -> Tensor {
    Tensor::new(spec.dtype, &Random(spec.len() as u64).values(spec.len(), 0.5))
}

/// Whether a tensor can be in a param group with this eps.
fn fits(group: &maw_param_group, eps: f64, spec: &Spec) -> bool {
    let double = spec.dtype == MAW_FLOAT64;
    let smallest = if double { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
    let inherits = spec.precision == 0 && group.precision == MAW_PRECISION_REMAINDER;
    eps >= smallest && !(inherits && spec.dtype == MAW_FLOAT16) && !(double && group.moment_dtype != 0)
}

impl Model {
    pub fn later(&self, choice: u8) -> Spec {
        let (name, shape, dtype, precision, layer) = LATER[usize::from(choice) % LATER.len()];
        let spec = Spec::new(name, shape, dtype).with_precision(precision).of_layer(layer);
        let spec = if name.starts_with("inherits") { spec.with_gradient(MAW_FLOAT32) } else { spec };
        if self.options.grouping == MAW_GROUPING_CUSTOM { spec.in_group(&name[..1]) } else { spec }
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|(_, spec)| spec.name == name)
    }

    /// How the tensor of that name keeps precision, and its moments' dtype.
    fn resolved(&self, name: &str) -> Option<(i32, i32)> {
        let (group, spec) = self.tensors.iter().find(|(_, spec)| spec.name == name)?;
        let group = &self.groups[*group];
        let own = [MAW_BFLOAT16, MAW_FLOAT16].contains(&spec.dtype);
        let precision = if spec.precision == 0 { group.precision } else { spec.precision };
        let precision =
            if own && precision != MAW_PRECISION_TENSOR_NEAREST { precision } else { MAW_PRECISION_NEAREST };
        Some((precision, group.moment_dtype))
    }

    /// Names of tensors that are not in the other.
    fn without(&self, other: &Self) -> Vec<String> {
        let names = self.tensors.iter().map(|(_, spec)| spec.name.clone());
        names.filter(|name| !other.has(name)).collect()
    }

    /// An optimizer with these tensors; `late`: prepared before the last is there.
    pub fn handle(&self, threads: u32, late: bool) -> Handle {
        let mut handle = Handle::new(&maw_options { threads, ..self.options }).expect("good options");
        // A param group needs a tensor when it comes: one that goes again if it has none, or only later.
        let (mut groups, mut names) = (0, Vec::new());
        let place = |handle: &mut Handle, names: &mut Vec<String>, group: usize| {
            let name = format!("placeholder.{group}");
            let spec = Spec::new(&name, &[2], MAW_FLOAT32);
            let custom = self.options.grouping == MAW_GROUPING_CUSTOM;
            let spec = if custom { spec.in_group("placeholder") } else { spec };
            handle.add(&self.groups[group], &[spec]).expect("a good placeholder");
            names.push(name);
        };
        for (i, (group, spec)) in self.tensors.iter().enumerate() {
            if late && i > 0 && i + 1 == self.tensors.len() {
                handle.prepare().expect("tensors are there");
            }
            while groups < *group {
                place(&mut handle, &mut names, groups);
                groups += 1;
            }
            let one = std::slice::from_ref(spec);
            if groups == *group {
                groups += 1;
                assert_eq!(handle.add(&self.groups[*group], one).expect("a good tensor"), *group as u32);
            } else {
                handle.add_tensors(*group as u32, one).expect("a good tensor");
            }
            names.push(spec.name.clone());
        }
        for group in groups..self.groups.len() {
            place(&mut handle, &mut names, group);
        }
        for (i, _) in names.iter().enumerate().rev().filter(|(_, name)| name.starts_with("placeholder.")) {
            handle.remove_tensor(i).expect("it is there");
        }
        handle.prepare().expect("tensors are there");
        handle
    }
}

impl Snapshot {
    /// Whether an optimizer with these tensors can load it, if only setters were called since; `None`: if its
    /// hyper-parameters are the same.
    fn loads_into(&self, target: &Model, flags: u32) -> Option<bool> {
        let same = |(_, spec): &&(usize, Spec)| {
            let file = self.model.resolved(&spec.name);
            file.is_none() || file == target.resolved(&spec.name)
        };
        if !target.tensors.iter().all(|tensor| same(&tensor)) {
            return Some(false);
        }
        if flags & MAW_LOAD_STRICT != 0 {
            return None;
        }
        let usable = |(group, spec): &(usize, Spec)| fits(&target.groups[*group], self.eps[*group], spec);
        let takes = self.eps.len() == target.groups.len() && flags & MAW_LOAD_OWN_WINS == 0;
        Some(!takes || target.tensors.iter().all(usable))
    }
}

/// The tensors that a load in part reported are those that only one of both has.
fn check_report(handle: &Handle, target: &Model, file: &Model) {
    let [missing, unexpected, ..] = handle.load_report();
    assert_eq!(missing, target.without(file), "missing tensors");
    assert_eq!(unexpected, file.without(target), "unexpected tensors");
}

impl Run {
    fn eps(&self) -> Vec<f64> {
        let groups = 0..self.model.groups.len() as u32;
        groups.map(|group| self.sides[0].handle.hyper_parameters(group).expect("a group")[2]).collect()
    }

    /// A call on both sides if it can succeed, else on one alone.
    fn attempt<T: PartialEq + std::fmt::Debug>(
        &mut self,
        succeeds: bool,
        call: impl Fn(&mut Side) -> Result<T, Failure>,
    ) -> Option<T> {
        if succeeds && self.open.is_none() {
            return Some(self.both(call).expect("a call that can be made"));
        }
        self.fails(call);
        None
    }

    pub fn add_tensors(&mut self, c: &mut Choices) {
        let (group, choice) = (usize::from(c.next()) % self.model.groups.len(), c.next());
        let mut specs = vec![self.model.later(choice)];
        if choice >= 128 {
            specs.push(self.model.later(choice / 8));
        }
        let eps = self.eps()[group];
        let repeated = specs.len() == 2 && specs[0].name == specs[1].name;
        let good = |spec: &Spec| fits(&self.model.groups[group], eps, spec) && !self.model.has(&spec.name);
        let succeeds = !repeated && specs.iter().all(good);
        if self.attempt(succeeds, |s| s.handle.add_tensors(group as u32, &specs)).is_some() {
            self.added(group, specs);
        }
    }

    pub fn add_group(&mut self, c: &mut Choices) {
        let group = maw_param_group {
            lr: 0.02,
            eps: c.of(&[1e-8, 1e-300, 1e-30]),
            precision: c.of(&[
                MAW_PRECISION_NEAREST,
                MAW_PRECISION_MASTER,
                MAW_PRECISION_STOCHASTIC,
                MAW_PRECISION_REMAINDER,
            ]),
            moment_dtype: c.of(&[0, 0, MAW_BFLOAT16]),
            ..param_group()
        };
        let spec = self.model.later(c.next());
        let succeeds = fits(&group, group.eps, &spec) && !self.model.has(&spec.name) && self.model.groups.len() < 8;
        if self.model.groups.len() == 8 {
            return;
        }
        let added = self.attempt(succeeds, |s| s.handle.add(&group, std::slice::from_ref(&spec)));
        if let Some(index) = added {
            assert_eq!(index as usize, self.model.groups.len());
            self.model.groups.push(maw_param_group { eps: param_group().eps, ..group });
            self.added(index as usize, vec![spec]);
        }
    }

    fn added(&mut self, group: usize, specs: Vec<Spec>) {
        for spec in specs {
            self.sides.iter_mut().for_each(|s| s.params.push(start(&spec)));
            self.model.tensors.push((group, spec));
        }
    }

    pub fn remove_tensor(&mut self, c: &mut Choices) {
        let count = self.model.tensors.len();
        let tensor = usize::from(c.next()) % (count + 1);
        if self.attempt(tensor < count && count > 1, |s| s.handle.remove_tensor(tensor)).is_some() {
            self.sides.iter_mut().for_each(|s| drop(s.params.remove(tensor)));
            self.model.tensors.remove(tensor);
        }
    }

    /// What no optimizer takes.
    pub fn refused_tensors(&mut self, c: &mut Choices) {
        let half = Spec::new("refused", &[2], MAW_FLOAT16);
        let half = if self.model.options.grouping == MAW_GROUPING_CUSTOM { half.in_group("x") } else { half };
        let known = self.model.tensors[0].1.clone();
        let specs = match c.next() % 6 {
            0 => vec![],
            1 => vec![half.clone(), half],
            2 => vec![half.with_precision(MAW_PRECISION_REMAINDER)],
            3 => vec![half.with_precision(MAW_PRECISION_MASTER).of_layer(1_000_001)],
            4 => vec![half.with_precision(MAW_PRECISION_MASTER), known],
            _ => return self.fails(|s| s.handle.add_tensors(77, &[half])),
        };
        self.fails(|s| s.handle.add_tensors(0, &specs));
        self.fails(|s| s.handle.add(&param_group(), &specs));
    }

    pub fn set_hyper_parameters(&mut self, c: &mut Choices) {
        let (group, kind) = (c.next() % 8, c.next() % 8);
        let groups = self.model.groups.len();
        let all = group == 7;
        let (index, known) = if all { (MAW_ALL_GROUPS, true) } else { (group.into(), usize::from(group) < groups) };
        match kind {
            0..=2 => {
                let betas = [c.of(&[0.9, 0.0, 0.5, 1.0, f64::NAN]), c.of(&[0.999, 0.0, 0.9, 0.99, -0.5])];
                let good = betas.iter().all(|beta| (0.0..1.0).contains(beta));
                self.attempt(good && known, |s| s.handle.set_betas(index, betas));
            }
            3..=5 => {
                let eps = c.of(&[1e-8, 1e-3, 1e-30, 1e-300, 1e-40, 0.0, f64::INFINITY]);
                let concerned = |(of, _): &&(usize, Spec)| all || *of == usize::from(group);
                let any = param_group();
                let usable = |(_, spec): &(usize, Spec)| fits(&any, eps, spec);
                let good = eps.is_finite() && eps > 0.0 && self.model.tensors.iter().filter(concerned).all(usable);
                self.attempt(good && known, |s| s.handle.set_eps(index, eps));
            }
            _ => {
                let norm = c.of(&[0.0, 0.5, 1e3, 1e-30, -1.0, f64::NAN, f64::INFINITY]);
                self.attempt((0.0..f64::INFINITY).contains(&norm), |s| s.handle.set_max_grad_norm(norm));
            }
        }
    }

    /// Keeps the run's file, or loads in part the one that was kept.
    pub fn load_earlier(&mut self, c: &mut Choices) {
        let flags = MAW_LOAD_PARTIAL | c.of(&[0, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS, MAW_LOAD_STRICT]);
        let attention = c.next() % 8 == 7;
        let Some(earlier) = self.earlier.take() else {
            if let Ok(file) = self.both(|s| s.handle.save_bytes(0)) {
                self.earlier = Some(Snapshot { file, model: self.model.clone(), eps: self.eps() });
            }
            return;
        };
        let file = &earlier.file;
        if attention {
            // With modulation off there is nothing to load, with other groups it depends on the features.
            let _ = self.both(|s| s.handle.load_bytes(file, flags | MAW_ATTENTION_ONLY));
        } else {
            match earlier.loads_into(&self.model, flags) {
                Some(loads) => {
                    if self.attempt(loads, |s| s.handle.load_bytes(file, flags)).is_some() {
                        self.sides.iter().for_each(|s| check_report(&s.handle, &self.model, &earlier.model));
                    }
                }
                None => drop(self.both(|s| s.handle.load_bytes(file, flags))),
            }
        }
        if flags & MAW_LOAD_FILE_WINS == 0 {
            self.earlier = Some(earlier);
        }
    }

    /// An optimizer of this run's model with tensors more or fewer.
    fn other_model(&self, c: &mut Choices) -> Model {
        let (kept, more, group) = (c.next(), c.next(), usize::from(c.next()));
        let mut model = self.model.clone();
        let mut index = 0;
        model.tensors.retain(|_| {
            index += 1;
            kept >> (index % 8) & 1 == 0
        });
        if group >= 128 && model.groups.len() < 8 {
            model.groups.push(param_group());
        }
        for choice in (0..8).filter(|choice| more >> choice & 1 == 1) {
            let spec = model.later(choice);
            let at = group % model.groups.len();
            if !model.has(&spec.name) && fits(&model.groups[at], model.groups[at].eps, &spec) {
                model.tensors.push((at, spec));
            }
        }
        model
    }

    /// Other optimizers load this run's file in part, and may take its place.
    pub fn move_in_part(&mut self, c: &mut Choices) {
        let flags = MAW_LOAD_PARTIAL | c.of(&[0, MAW_LOAD_FILE_WINS, MAW_LOAD_OWN_WINS, MAW_LOAD_STRICT]);
        let (late, adopted) = (c.flag(), c.flag());
        let model = self.other_model(c);
        let Ok(file) = self.both(|s| s.handle.save_bytes(0)) else { return };
        if model.tensors.is_empty() {
            return;
        }
        let snapshot = Snapshot { file, model: self.model.clone(), eps: self.eps() };
        let file = &snapshot.file;
        let mut handles = [1, 3].map(|threads| model.handle(threads, late));
        let [first, second] = &mut handles;
        if !(model.without(&self.model).is_empty() && self.model.without(&model).is_empty()) {
            let whole = first.load_bytes(file, flags & !MAW_LOAD_PARTIAL).expect_err("other tensors");
            assert_eq!(whole.status, MAW_MISMATCH, "{whole:?}");
        }
        let mut damaged = file.clone();
        damaged[file.len() / 2] ^= 1;
        first.load_bytes(&damaged, flags).expect_err("a damaged file");
        let loaded = first.load_bytes(file, flags);
        if let Some(expected) = snapshot.loads_into(&model, flags) {
            assert_eq!(loaded.is_ok(), expected, "{loaded:?}");
        }
        if let Err(failure) = &loaded {
            assert_eq!(failure.status, MAW_MISMATCH, "{failure:?}");
        }
        if loaded.is_ok() {
            assert_eq!(loaded, second.load_bytes(file, flags), "the twins differ");
            check_report(second, &model, &self.model);
            self.compare_states(first, &model);
        }
        assert!(first.save_bytes(0) == second.save_bytes(0), "other bytes after loading in part");
        if loaded.is_ok() && adopted {
            let name = |name: &str| self.model.tensors.iter().position(|(_, spec)| spec.name == name);
            let kept: Vec<Option<usize>> = model.tensors.iter().map(|(_, spec)| name(&spec.name)).collect();
            for (side, handle) in self.sides.iter_mut().zip(handles) {
                let param =
                    |(i, spec): (&Option<usize>, &Spec)| i.map_or_else(|| start(spec), |i| side.params[i].clone());
                let params = kept.iter().zip(model.tensors.iter().map(|(_, spec)| spec)).map(param).collect();
                *side = Side { handle, params, asked: 0, before: 0 };
            }
            self.model = model;
        }
    }

    /// What both have is as in this run, and what came anew has not begun.
    fn compare_states(&mut self, loaded: &mut Handle, model: &Model) {
        for (i, (_, spec)) in model.tensors.iter().enumerate() {
            let state = loaded.tensor_state(i, spec).expect("no meta-update is open");
            match self.model.tensors.iter().position(|(_, other)| other.name == spec.name) {
                Some(at) => {
                    let own = self.sides[0].handle.tensor_state(at, spec).expect("no meta-update is open");
                    assert_eq!(state.bits(), own.bits(), "{}", spec.name);
                }
                None => {
                    assert_eq!(state.step, 0, "{}", spec.name);
                    let moments = [state.exp_avg, state.exp_avg_sq];
                    assert!(bits(&moments).iter().flatten().all(|bits| *bits == 0), "{}", spec.name);
                }
            }
        }
        let counts = |handle: &Handle| {
            let counts = handle.counters().expect("counts");
            (counts.step, counts.meta_updates, counts.meta_done_at, counts.skipped_gradient)
        };
        assert_eq!(counts(loaded), counts(&self.sides[0].handle), "the optimizer's counts");
    }

    /// A new optimizer with the same tensors takes the place of the second, and goes on like the first.
    pub fn resume(&mut self, c: &mut Choices) {
        let (flags, late) = (c.of(&[0, MAW_LOAD_FILE_WINS]), c.flag());
        let Ok(file) = self.both(|s| s.handle.save_bytes(0)) else { return };
        let mut handle = self.model.handle(3, late);
        handle.load_bytes(&file, flags).expect("the same tensors");
        assert!(handle.save_bytes(0).expect("saved") == file, "other bytes after resuming");
        let [first, second] = &mut self.sides;
        // What a load forgets.
        first.handle.load_bytes(&file, flags).expect("its own file");
        first.before = first.asked;
        *second = Side { handle, params: second.params.clone(), asked: 0, before: 0 };
    }
}
