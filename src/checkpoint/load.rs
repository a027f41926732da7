//! From a file to the optimizer: everything is checked, then everything is changed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use safetensors::Dtype;

use super::container::{self, Container, Entry};
use super::description::{self, Description};
use super::differences::{compare_entries, differing_groups, refuse, shortened};
use super::partial::{LoadOptions, LoadReport, expect_groups, tensor_of};
use super::settings::{self, OnConflict};
use super::small_tensors::{Rows, SmallTensors};
use super::{
    Contents, FACTORS, FEATURES, Initialized, Saved, Source, attention_entries, last_gradient_entry, learning_entries,
    option_entries, remainder_sum_entry, run_entries, state_entries, state_part, step_entry,
};
use crate::backend::{Backend, HorizonSums, MasterSum, Part};
use crate::error::{Error, Remedy, Result};
use crate::meta::Meta;
use crate::model::dtype::Precision;
use crate::model::groups::{Groups, Tensor};
use crate::model::name::Name;
use crate::model::options::{MetaOptimizer, NonFinite, Options, ParamGroup, Semantics};
use crate::model::registration::Registration;
use crate::model::report::Counters;
use crate::model::stats::GradientSums;
use crate::modulation::{Factors, Modulation, PhiMoments};
use crate::reserve::{self, sum, times};
use crate::run::{Run, without_average, without_master};

/// Tensors and groups of a file that are read beyond the optimizer's own number, to name differences.
const BEYOND: usize = 1024;

/// A tensor that the file must have, or may have.
pub(super) struct Expected {
    pub entry: Entry<()>,
    pub required: bool,
}

fn required<S>(entry: Entry<S>) -> Expected {
    Expected { entry: entry.outline(), required: true }
}

fn optional(name: String, shape: &[usize]) -> Expected {
    Expected { entry: Entry { name, dtype: Dtype::F64, shape: shape.to_vec(), source: () }, required: false }
}

/// What is loaded into.
struct Target<'a> {
    registration: &'a mut Registration,
    run: &'a mut Run,
    meta: &'a mut Meta,
}

/// Reads a run, or the attention module alone, from a file. Answers what it did not take as it was.
///
/// # Errors
/// As for [`load_bytes`], and [`Error::Io`].
pub(crate) fn load_file(
    registration: &mut Registration,
    run: &mut Run,
    meta: &mut Meta,
    path: &Path,
    contents: Contents,
    options: LoadOptions,
) -> Result<LoadReport> {
    let opening = |e| Error::file("opening", path, &e);
    // To open a pipe would wait for its other end.
    if !fs::metadata(path).map_err(opening)?.is_file() {
        return Err(Error::Io {
            operation: format!("opening '{}'", path.display()),
            reason: "it is not a regular file".to_owned(),
        });
    }
    let mut file = File::open(path).map_err(opening)?;
    Target { registration, run, meta }.load(&mut file, contents, options).map_err(|e| match e {
        Error::Io { operation, reason } => Error::Io { operation: format!("{operation} '{}'", path.display()), reason },
        other => other,
    })
}

/// The same from bytes.
///
/// # Errors
/// [`Error::Corrupt`]; [`Error::Mismatch`] lists the first differences; the device's. Nothing is changed.
pub(crate) fn load_bytes(
    registration: &mut Registration,
    run: &mut Run,
    meta: &mut Meta,
    bytes: &[u8],
    contents: Contents,
    options: LoadOptions,
) -> Result<LoadReport> {
    Target { registration, run, meta }.load(&mut Cursor::new(bytes), contents, options)
}

impl Target<'_> {
    fn load(&mut self, source: &mut dyn Source, contents: Contents, options: LoadOptions) -> Result<LoadReport> {
        self.load_from(source, contents, options).map_err(shortened)
    }

    fn load_from(&mut self, source: &mut dyn Source, contents: Contents, options: LoadOptions) -> Result<LoadReport> {
        let own = times(32, self.run.memory(self.registration));
        // In part, all of the file's lists are read, and not only as much as the optimizer has.
        let of_header = if options.partial { 96 } else { 24 };
        let memory = sum([own, times(of_header, container::header_length(source)?), container::MEMORY_OF_DATA]);
        reserve::with(memory, || self.load_within(source, contents, options))
    }

    fn load_within(&mut self, source: &mut dyn Source, contents: Contents, options: LoadOptions) -> Result<LoadReport> {
        let own = self.as_saved();
        let mut expected = own.expected();
        // What is beyond is counted, and not told by name.
        let beyond = if options.partial { usize::MAX } else { BEYOND };
        let container = Container::open(source, expected.len().saturating_add(beyond))?;
        let most = own.registration.tensors.len().max(own.run.groups.groups.len()).saturating_add(beyond);
        let description = description::parse(&container.metadata, most)?;
        let mut report = LoadReport::default();
        if options.partial {
            report = LoadReport::of(own, &description, contents)?;
            report.expect_less(&mut expected, &description, &container);
        }
        // The checksum first: a flipped bit must not be reported as a difference.
        let sizes: HashMap<&str, usize> = expected.iter().map(|e| (e.entry.name.as_str(), e.entry.bytes())).collect();
        let wanted = |entry: &Entry<()>| sizes.get(entry.name.as_str()) == Some(&entry.bytes());
        let small = SmallTensors::read(source, &container, wanted)?;
        match contents {
            Contents::Attention => {
                self.load_attention(&container, &small, &description, options)?;
                Ok(report)
            }
            Contents::Run if description.contents == Contents::Run => {
                let loaded = own.check_run(&container, &small, description, expected, options, report)?;
                self.meet(&small, contents, options)?;
                self.apply(source, &container, loaded, options.on_conflict)
            }
            Contents::Run => Err(Error::Mismatch {
                what: "the file holds an attention module alone".to_owned(),
                remedy: Remedy::AttentionAlone,
            }),
        }
    }

    /// Processes that share the model load the same file, or none.
    fn meet(&mut self, small: &SmallTensors, contents: Contents, options: LoadOptions) -> Result<()> {
        let call = format_args!("load {:x} {contents:?} {options:?}", small.checksum);
        self.run.meet(self.registration, call, None)
    }

    fn as_saved(&self) -> Saved<'_> {
        Saved { registration: self.registration, run: self.run, meta: self.meta }
    }

    fn load_attention(
        &mut self,
        container: &Container,
        small: &SmallTensors,
        description: &Description,
        options: LoadOptions,
    ) -> Result<()> {
        let modulation = self.run.state.modulation.as_ref();
        let mut expected: Vec<_> = attention_entries(modulation).into_iter().map(required).collect();
        // How many groups there are is compared by their names.
        expect_groups(&mut expected, description.group_count);
        let found = container.entries.iter().filter(|e| e.name.starts_with("attention."));
        let mut differences = settings::attention_differences(&description.options, &self.registration.options);
        differences.extend(compare_entries(&expected, found));
        let embedded = modulation.is_some_and(|m| m.attention.embeddings().is_some());
        let rows = match_groups(description, &self.run.groups, self.registration.options.seed);
        let remedy = if differences.is_empty() { Remedy::Partial } else { Remedy::Register };
        // Without embeddings no row of Φ belongs to a group: a module may move to another model's groups.
        if embedded && !options.partial && !rows.are_equal() {
            differences.push(differing_groups(description, &self.run.groups));
        }
        refuse(&differences, remedy)?;
        let phi = small.phi(modulation, embedded.then_some(&rows))?;
        self.meet(small, Contents::Attention, options)?;
        if let Some(modulation) = &mut self.run.state.modulation {
            modulation.attention.values_mut().copy_from_slice(&phi);
            modulation.forget_moments(); // they were those of another Φ
        }
        self.run.push(self.registration)
    }

    /// From here on nothing is refused any more; only the disk can fail.
    fn apply(
        &mut self,
        source: &mut dyn Source,
        container: &Container,
        loaded: Loaded,
        on_conflict: OnConflict,
    ) -> Result<LoadReport> {
        let Self { registration, run, meta } = self;
        let by_name: HashMap<&str, usize> =
            registration.tensors.iter().enumerate().map(|(i, t)| (t.name(), i)).collect();
        run.state.sums_current = false;
        run.state.master_initialized = without_master(&registration.tensors);
        run.state.average_initialized = without_average(registration);
        if !loaded.report.missing_tensors.is_empty() {
            run.backend.reset_moments();
        }
        let tensor = |entry: &str| state_part(entry).and_then(|(part, name)| Some((part, *by_name.get(name)?)));
        let written = container.stream(source, |entry, offset, bytes| {
            if let Some((part, tensor)) = tensor(&entry.name) {
                write_own(run.backend.as_mut(), &registration.tensors[tensor], (part, tensor), entry, offset, bytes);
            }
        });
        // By its entry, not by its bytes: a tensor without elements has none.
        for (part, tensor) in container.entries.iter().filter_map(|entry| tensor(&entry.name)) {
            run.state.master_initialized[tensor] |= part == Part::Master;
            run.state.average_initialized[tensor] |= part == Part::Average;
        }
        if written.is_err() {
            // The file was whole a moment ago and is not now. A half-loaded run must not go on.
            run.state.master_initialized.fill(false);
            run.state.master_sums.fill(None);
            if let Some(modulation) = &mut run.state.modulation {
                modulation.reset_attention(&registration.options);
            }
            run.reset_moments(registration);
            meta.restore(meta.updates(), None);
            run.push(registration)?;
            return written.map(|_| loaded.report);
        }
        meta.set_counters(run, &loaded.counters);
        let state = &mut run.state;
        state.tensor_steps = loaded.tensor_steps;
        state.last_gradients = loaded.last_gradients;
        state.compares_masters = loaded.master_sums.iter().any(Option::is_some);
        state.master_sums = loaded.master_sums;
        state.master_sums_kept = false;
        if let Some(modulation) = &mut state.modulation {
            modulation.attention.values_mut().copy_from_slice(&loaded.phi);
            modulation.restore(loaded.last);
            match loaded.phi_moments {
                Some(moments) => modulation.moments = Some(moments),
                None => modulation.forget_moments(),
            }
        }
        match (&mut state.horizon, loaded.horizon) {
            (Some(own), Some(loaded)) => *own = loaded,
            (Some(own), None) => own.reset(),
            (None, _) => {}
        }
        if on_conflict != OnConflict::Own {
            if let Some(modulation) = &mut state.modulation {
                modulation.steer(&loaded.options);
            }
            run.backend.apply_options(&loaded.options);
            state.rounding_keys = registration.rounding_keys(loaded.options.seed);
            registration.options = loaded.options;
            registration.param_groups = loaded.param_groups;
        }
        run.push(registration)?;
        Ok(loaded.report)
    }
}

impl Saved<'_> {
    /// Every tensor that a file of this run can have.
    fn expected(&self) -> Vec<Expected> {
        let (_, option_floats) = settings::split(&self.registration.options);
        let mut expected: Vec<_> =
            attention_entries(self.run.state.modulation.as_ref()).into_iter().map(required).collect();
        let is_later = |name: &str| settings::LATER_FLOATS.contains(&name);
        let floats: settings::Floats = option_floats.into_iter().filter(|(name, _)| !is_later(name)).collect();
        expected.extend(option_entries(&floats).map(required));
        expected.extend(settings::LATER_FLOATS.map(|name| optional(format!("options.{name}"), &[])));
        let tensors = &self.registration.tensors;
        expected.extend(run_entries(self.registration, &vec![0; tensors.len()]).into_iter().map(required));
        if let Some(modulation) = &self.run.state.modulation {
            let groups = self.run.groups.groups.len();
            expected.push(optional(FEATURES.to_owned(), &[groups, modulation.feature_dim()]));
            expected.push(optional(FACTORS.to_owned(), &[4, groups]));
            if self.registration.options.semantics == Semantics::Reference {
                expected
                    .extend(self.registration.tensors.iter().map(|tensor| optional(last_gradient_entry(tensor), &[3])));
            }
        }
        let remainders = self.registration.tensors.iter().filter(|tensor| tensor.precision == Precision::Remainder);
        expected.extend(remainders.map(|tensor| optional(remainder_sum_entry(tensor), &[2])));
        let learning = learning_entries(self.run.state.modulation.as_ref(), self.run.state.horizon.as_ref());
        expected.extend(learning.into_iter().map(|entry| Expected { entry: entry.outline(), required: false }));
        // Masters and averages that had not begun are not there.
        let all = vec![true; tensors.len()];
        expected.extend(
            state_entries(self.registration, Initialized { masters: &all, averages: &all }).into_iter().map(|entry| {
                let required = !matches!(entry.source, super::From::State(Part::Master | Part::Average, _));
                Expected { entry: entry.outline(), required }
            }),
        );
        expected
    }

    /// All that can be refused, decoded.
    fn check_run(
        &self,
        container: &Container,
        small: &SmallTensors,
        description: Description,
        expected: Vec<Expected>,
        options: LoadOptions,
        report: LoadReport,
    ) -> Result<Loaded> {
        let LoadOptions { on_conflict, partial } = options;
        // First what a person would check first; then the file in detail.
        let rows = match_groups(&description, &self.run.groups, self.registration.options.seed);
        let groups_of_file = groups_in(container);
        let mut differences = Vec::new();
        if !partial {
            differences = self.differing_sets(&description, groups_of_file, &rows);
        }
        let mut others = self.differing_tensors(&description);
        others.extend(settings::structural_differences(&description.options, &self.registration.options, on_conflict));
        let remedy = if others.is_empty() { Remedy::Partial } else { Remedy::Register };
        differences.extend(others);
        refuse(&differences, remedy)?;
        let unknown: HashSet<&str> = report.unexpected_tensors.iter().map(Name::as_str).collect();
        let known = |entry: &&Entry<()>| !partial || tensor_of(&entry.name).is_none_or(|name| !unknown.contains(name));
        refuse(&compare_entries(&expected, container.entries.iter().filter(known)), Remedy::Register)?;
        let mut loaded = self.decode(small, description, rows, groups_of_file, (on_conflict, report))?;
        let Registration { options, param_groups, .. } = self.registration;
        let [mut refused, mut taken] = settings::differences(&loaded.options, options, on_conflict);
        let [refused_of_groups, taken_of_groups] =
            settings::group_differences(&loaded.param_groups, param_groups, on_conflict);
        refused.extend(refused_of_groups);
        taken.extend(taken_of_groups);
        refuse(&refused, Remedy::Choose)?;
        if on_conflict != OnConflict::Own {
            loaded.report.settings = taken;
            self.run.backend.can_apply_options(&loaded.options)?;
        }
        // A run without checks may have any value.
        let any =
            if on_conflict == OnConflict::Own { self.registration.options.nonfinite } else { loaded.options.nonfinite };
        match &small.unusable {
            Some(name) if any != NonFinite::Propagate => Err(Error::Corrupt {
                what: format!("'{name}' has a value that is not finite, or a second moment below 0"),
            }),
            _ => Ok(loaded),
        }
    }

    /// The file's small tensors as values, checked. `groups_of_file`: its number of param groups; where it is another than
    /// ours, ours stay as they are.
    fn decode(
        &self,
        small: &SmallTensors,
        description: Description,
        mut rows: Rows,
        groups_of_file: usize,
        (on_conflict, report): (OnConflict, LoadReport),
    ) -> Result<Loaded> {
        let (_, own_floats) = settings::split(&self.registration.options);
        let mut option_floats = settings::Floats::new();
        for (name, _) in own_floats.into_iter().filter(|(name, _)| !settings::LATER_FLOATS.contains(&name.as_str())) {
            let values = small.floats(&format!("options.{name}"))?;
            option_floats.push((name, values));
        }
        for name in settings::LATER_FLOATS {
            option_floats.extend(small.optional(&format!("options.{name}"))?.map(|values| (name.to_owned(), values)));
        }
        let options = settings::join(description.options, &option_floats, &self.registration.options)?;
        if on_conflict != OnConflict::Own {
            rows.seed = options.seed;
        }
        let mut param_groups = self.registration.param_groups.clone();
        let as_many = groups_of_file == param_groups.len();
        for (name, _, set) in settings::GROUP_FIELDS.iter().filter(|_| as_many) {
            let values = small.floats(&format!("param_groups.{name}"))?;
            param_groups.iter_mut().zip(values).for_each(|(group, value)| set(group, value));
        }
        for (i, group) in param_groups.iter().enumerate().filter(|_| as_many) {
            let theirs = description.tensors.iter().filter(|t| t.param_group == i).map(|t| t.dtype);
            group.validate(theirs).map_err(|e| Error::Corrupt { what: format!("its param group {i}: {e}") })?;
            // Tensors that the file does not have, or has in another group, may need a larger eps.
            let ours = self.registration.tensors.iter().filter(|t| t.param_group == i).map(|t| t.spec.dtype);
            if on_conflict != OnConflict::Own {
                let differs =
                    |e: Error| Error::Mismatch { what: format!("param group {i}: {e}"), remedy: Remedy::Choose };
                group.validate(ours).map_err(differs)?;
            }
        }
        let damaged = |e: Error| Error::Corrupt { what: format!("its counters: {e}") };
        description.counters.check(str::to_owned).map_err(damaged)?;
        let most = description.counters.steps;
        let missing: HashSet<&str> = report.missing_tensors.iter().map(Name::as_str).collect();
        let step = |t: &Tensor| match if missing.contains(t.name()) { 0 } else { small.whole(&step_entry(t))? } {
            step if step <= most => Ok(step),
            step => Err(Error::Corrupt { what: format!("tensor '{}' is at step {step} of {most}", t.name()) }),
        };
        let tensor_steps = self.registration.tensors.iter().map(step).collect::<Result<Vec<_>>>()?;
        let sums = |t: &Tensor, x: Vec<f64>| {
            let zeros = 0.0..=t.whole_numel as f64;
            let usable = x.iter().all(|x| x.is_finite()) && x[0] >= 0.0 && zeros.contains(&x[2]) && x[2].fract() == 0.0;
            let sums = GradientSums { square: x[0], with_momentum: x[1], zeros: x[2] };
            usable.then_some(sums).ok_or_else(|| Error::Corrupt {
                what: format!("'{}' has sums that no gradient has", last_gradient_entry(t)),
            })
        };
        let last_gradient =
            |t: &Tensor| small.optional(&last_gradient_entry(t))?.map(|values| sums(t, values)).transpose();
        let last_gradients = self.registration.tensors.iter().map(last_gradient).collect::<Result<Vec<_>>>()?;
        let master_sum = |t: &Tensor| match small.optional(&remainder_sum_entry(t))?.as_deref() {
            Some([square, order]) if (0.0..=u32::MAX.into()).contains(order) && order.fract() == 0.0 => {
                Ok(Some(MasterSum { square: *square, order: *order as u32 }))
            }
            None => Ok(None),
            _ => Err(Error::Corrupt { what: format!("'{}' is no sum", remainder_sum_entry(t)) }),
        };
        let master_sums = self.registration.tensors.iter().map(master_sum).collect::<Result<Vec<_>>>()?;
        let modulation = self.run.state.modulation.as_ref();
        let learns_by_moments = |m: &&Modulation| m.moments.is_some() && options.meta_optimizer == MetaOptimizer::AdamW;
        let phi_moments =
            modulation.filter(learns_by_moments).map(|m| small.phi_moments(&m.attention, &rows)).transpose()?;
        let learns_from_steps = self.run.state.horizon.is_some() && options.learns_from_steps();
        let horizon = learns_from_steps.then(|| small.horizon(&rows)).transpose()?;
        Ok(Loaded {
            phi_moments,
            horizon,
            options,
            param_groups,
            counters: description.counters,
            tensor_steps,
            last_gradients,
            master_sums,
            phi: small.phi(modulation, Some(&rows))?,
            last: small.last(modulation, Some(&rows))?,
            report,
        })
    }
}

/// Writes what this process has of a part of a tensor, given some bytes of the whole.
fn write_own(
    backend: &mut dyn Backend,
    tensor: &Tensor,
    (part, index): (Part, usize),
    entry: &Entry<()>,
    offset: usize,
    bytes: &[u8],
) {
    let size = entry.dtype.bitsize() / 8;
    let own = tensor.offset * size..(tensor.offset + tensor.numel) * size;
    let from = own.start.max(offset);
    let to = own.end.min(offset + bytes.len());
    if from < to {
        backend.write(part, index, from - own.start, &bytes[from - offset..to - offset]);
    }
}

/// A run from a file, decoded and checked, but for its moments and masters.
struct Loaded {
    options: Options,
    param_groups: Vec<ParamGroup>,
    counters: Counters,
    tensor_steps: Vec<u64>,
    last_gradients: Vec<Option<GradientSums>>,
    master_sums: Vec<Option<MasterSum>>,
    phi: Vec<f64>,
    phi_moments: Option<PhiMoments>,
    horizon: Option<HorizonSums>,
    last: Option<(Vec<f64>, Factors)>,
    report: LoadReport,
}

/// Where our groups stand in the file's matrices.
fn match_groups<'a>(description: &Description, ours: &'a Groups, seed: u64) -> Rows<'a> {
    let theirs: HashMap<&str, usize> =
        description.groups.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let rows = ours.groups.iter().map(|group| theirs.get(group.name.as_str()).copied()).collect();
    Rows { ours, rows, count: description.group_count, seed }
}

/// The number of param groups in the file.
pub(super) fn groups_in(container: &Container) -> usize {
    container.entries.iter().find(|e| e.name == "param_groups.lr").map_or(0, |e| e.bytes() / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dtype::DType;
    use crate::model::groups::TensorSpec;
    use crate::run::Stream;
    use std::io::{Read, Result as IoResult, Seek, SeekFrom};

    /// A file that somebody damages between the check and the reading.
    struct Changing {
        bytes: Cursor<Vec<u8>>,
        readings: usize,
    }

    impl Read for Changing {
        fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
            self.bytes.read(out)
        }
    }

    impl Seek for Changing {
        fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
            self.readings += usize::from(matches!(to, SeekFrom::Start(n) if n > 0));
            if self.readings == 2 {
                let at = self.bytes.get_ref().len() - 9; // in the last moment
                self.bytes.get_mut()[at] ^= 1;
                self.readings += 1;
            }
            self.bytes.seek(to)
        }
    }

    #[test]
    fn a_file_that_changes_under_our_hands_resets_the_optimizer_and_is_reported() {
        let trained = || {
            let mut registration = Registration::new(Options::default()).expect("valid options");
            let spec = TensorSpec::new("w", &[2], DType::F32).expect("a name");
            registration.add(ParamGroup::default(), vec![spec]).expect("valid tensors");
            let mut run = Run::new(&registration, (None, &Stream::default())).expect("memory");
            for part in [Part::ExpAvg, Part::ExpAvgSq] {
                run.backend.write(part, 0, 0, bytemuck::cast_slice(&[1.0_f32, 1.0]));
            }
            (run.state.steps, run.state.tensor_steps[0]) = (3, 3);
            (registration, run, Meta::default())
        };
        let saved = |(registration, run, meta): &(Registration, Run, Meta)| {
            super::super::save_bytes(registration, run, meta, Contents::Run).expect("saved")
        };
        let bytes = saved(&trained());
        let load = |readings| {
            let mut own = trained();
            let mut source = Changing { bytes: Cursor::new(bytes.clone()), readings };
            let mut target = Target { registration: &mut own.0, run: &mut own.1, meta: &mut own.2 };
            (target.load(&mut source, Contents::Run, OnConflict::Strict.into()), own)
        };
        load(10).0.expect("it does not change");
        let (outcome, half_loaded) = load(0);
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
        let mut fresh = trained();
        fresh.1.reset_moments(&fresh.0);
        assert_eq!(saved(&half_loaded), saved(&fresh));
    }
}
