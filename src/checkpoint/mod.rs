//! The state of a run ⇄ a safetensors file. Everything is checked before anything is changed.
//!
//! `docs/checkpoint_format.md` is the format as a page. Parameters are the host's and are not in the file; moments, step
//! counts, Φ, options, hyper-parameters as they are now, and counters are. A resumed run equals an uninterrupted one bit
//! for bit: sums of the state that a running optimizer carries are recomputed with the same bits.
//!
//! ```text
//! mod           what is in a file, and saving        load      checking, then changing
//! description   the text in the metadata             settings  options and param groups
//! container     safetensors with a checksum          header    its JSON, read with suspicion
//! partial       what a file and the optimizer both have  small     all but moments and masters
//! differences   what does not fit, for people          together  one file that several processes write
//! ```

mod atomic_file;
mod container;
mod description;
mod differences;
mod header;
mod load;
mod partial;
mod settings;
mod small_tensors;
mod together;

pub(crate) use self::load::{load_bytes, load_file};
pub(crate) use self::together::save_together;

use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::container::Entry;
pub use self::container::Source;
use self::description::{Description, TensorRecord};
use self::header::Dimensions;
pub use self::partial::{LoadOptions, LoadReport};
pub use self::settings::{OnConflict, to_json as options_to_json};
use crate::backend::{HorizonSums, MasterSum, Part};
use crate::model::dtype::{DType, Precision};

use crate::error::Result;
use crate::meta::Meta;
use crate::model::groups::{Groups, Tensor};
use crate::model::name::Name;
use crate::model::registration::Registration;
use crate::model::report::{Counters, MAX_STEPS};
use crate::modulation::{Modulation, attention};
use crate::reserve::{self, fallible, sum, times};
use crate::run::Run;

/// Number of the format. A reader refuses others.
pub const FORMAT_VERSION: u32 = 1;

/// What a file holds, or what of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// The whole run.
    Run,
    /// The attention module alone.
    Attention,
}

/// Where a tensor's bytes come from.
enum From {
    Values(Vec<u8>),
    State(Part, usize),
}

fn floats(name: String, shape: &[usize], values: &[f64]) -> Entry<From> {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Entry { name, dtype: Dtype::F64, shape: shape.to_vec(), source: From::Values(bytes) }
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
    }
}

/// Writes the run, or the attention module alone, to a file; durable when it returns.
///
/// # Errors
/// [`crate::Error::Io`]; the device's. The file is the old one then.
pub(crate) fn save_file(
    registration: &Registration,
    run: &Run,
    meta: &Meta,
    path: &Path,
    contents: Contents,
) -> Result<()> {
    reserve::with(memory_to_save(registration, run), || {
        atomic_file::replace(path, |out| Saved { registration, run, meta }.write(out, contents, read_source))
    })
}

/// The same as bytes.
///
/// # Errors
/// No memory; the device's.
pub(crate) fn save_bytes(registration: &Registration, run: &Run, meta: &Meta, contents: Contents) -> Result<Vec<u8>> {
    reserve::with(memory_to_save(registration, run), || {
        let saved = Saved { registration, run, meta };
        let mut size = Counting(0);
        saved.write(&mut size, contents, |_, _, _, _| {})?;
        let mut bytes = Vec::new();
        // One more, so that a NUL can be put behind them without moving them.
        fallible(|| bytes.try_reserve_exact(size.0 + 1))?;
        saved.write(&mut bytes, contents, read_source)?;
        Ok(bytes)
    })
}

fn memory_to_save(registration: &Registration, run: &Run) -> usize {
    sum([times(64, run.memory(registration)), container::MEMORY_OF_DATA])
}

/// Checks that every state of a run of these tensors can be saved: names may be too long and too many for a file's header.
///
/// # Errors
/// [`crate::Error::Unsupported`].
pub(crate) fn check_header(
    registration: &Registration,
    groups: &Groups,
    modulation: Option<&Modulation>,
) -> Result<()> {
    // At most seven entries a tensor and a record, in which a quotation mark of a name takes four bytes.
    let bytes = |tensor: &Tensor| 18 * tensor.name().len() + 4 * Name::MAX + 128 * tensor.spec.shape.len() + 2000;
    if registration.tensors.iter().map(bytes).sum::<usize>() as u64 <= container::MAX_HEADER {
        return Ok(());
    }
    let memory = sum([registration.outline(), modulation.map_or(0, Modulation::memory)]);
    reserve::with(times(32, memory), || make_longest_header(registration, groups, modulation))
}

/// # Errors
/// [`crate::Error::Unsupported`].
fn make_longest_header(registration: &Registration, groups: &Groups, modulation: Option<&Modulation>) -> Result<()> {
    let tensors = &registration.tensors;
    let (words, option_floats) = settings::split(&registration.options);
    let counters = Counters {
        steps: MAX_STEPS,
        skipped_steps: [MAX_STEPS; 5],
        meta_updates: MAX_STEPS,
        meta_done_at: Some(MAX_STEPS),
    };
    let description = describe(registration, groups, counters, Contents::Run, words);
    let mut entries = attention_entries(modulation);
    entries.extend(option_entries(&option_floats));
    entries.extend(run_entries(registration, &vec![0; tensors.len()]));
    entries.extend(tensors.iter().map(|tensor| floats(last_gradient_entry(tensor), &[3], &[0.0; 3])));
    let all = vec![true; tensors.len()];
    entries.extend(state_entries(registration, Initialized { masters: &all, averages: &all }));
    entries.extend(learning_entries(
        modulation,
        registration.options.learns_from_steps().then(|| HorizonSums::new(groups.groups.len())).as_ref(),
    ));
    let sum = MasterSum { square: 0.0, order: 0 };
    entries.extend(tensors.iter().filter_map(|tensor| remainder_sum(tensor, true, Some(sum))));
    let (groups, features) = (groups.groups.len(), modulation.map_or(0, Modulation::feature_dim));
    entries.push(floats(FEATURES.to_owned(), &[groups, features], &vec![0.0; groups * features]));
    entries.push(floats(FACTORS.to_owned(), &[4, groups], &vec![0.0; 4 * groups]));
    let text = serde_json::to_string(&description).expect("strings and numbers");
    container::header(text, &entries).map(drop)
}

/// The text of a file with these contents.
fn describe(
    registration: &Registration,
    groups: &Groups,
    counters: Counters,
    contents: Contents,
    words: Map<String, Value>,
) -> Description {
    let group_name = |group: usize| groups.groups[group].name.to_string();
    let (run, group_count) = (contents == Contents::Run, groups.groups.len());
    let tensors = registration.tensors.iter().enumerate().map(|(i, tensor)| TensorRecord {
        name: tensor.name().to_owned(),
        shape: Dimensions(tensor.spec.shape.clone()),
        dtype: tensor.spec.dtype,
        precision: tensor.precision,
        moment_dtype: Some(tensor.moment_dtype).filter(|dtype| *dtype != tensor.spec.dtype.compute()),
        param_group: tensor.param_group,
        modulation_group: group_name(groups.of_tensor[i]),
        layer: tensor.spec.layer,
    });
    Description {
        format_version: FORMAT_VERSION,
        library_version: env!("CARGO_PKG_VERSION").to_owned(),
        contents,
        options: if run { words } else { settings::of_attention(words) },
        groups: (0..group_count).map(group_name).collect(),
        tensors: if run { tensors.collect() } else { Vec::new() },
        counters: if run { counters } else { Counters::default() },
        group_count,
        tensor_count: if run { registration.tensors.len() } else { 0 },
    }
}

/// What Φ learns with, and from.
fn learning_entries(modulation: Option<&Modulation>, horizon: Option<&HorizonSums>) -> Vec<Entry<From>> {
    let whole = |name: &str, value: u64| Entry {
        name: name.to_owned(),
        dtype: Dtype::U64,
        shape: vec![],
        source: From::Values(value.to_le_bytes().to_vec()),
    };
    let mut entries = Vec::new();
    if let Some((attention, moments)) = modulation.and_then(|m| Some((&m.attention, m.moments.as_ref()?))) {
        for (prefix, values) in [(PHI_EXP_AVG, &moments.exp_avg), (PHI_EXP_AVG_SQ, &moments.exp_avg_sq)] {
            let of = |e: &attention::Entry| floats(format!("{prefix}{}", e.name), &e.shape(), &values[e.range.clone()]);
            entries.extend(attention.entries().iter().map(of));
        }
        entries.push(whole(PHI_STEP, moments.step));
    }
    if let Some(horizon) = horizon {
        entries.push(floats(HORIZON_SUMS.to_owned(), &[horizon.sums.len()], &horizon.sums));
        entries.push(whole(HORIZON_COUNT, horizon.count));
    }
    entries
}

/// Hyper-parameters and step counts.
fn run_entries(registration: &Registration, tensor_steps: &[u64]) -> Vec<Entry<From>> {
    let groups = &registration.param_groups;
    let hyper = settings::GROUP_FIELDS.iter().map(|(name, get, ..)| {
        let values: Vec<f64> = groups.iter().map(get).collect();
        floats(format!("param_groups.{name}"), &[groups.len()], &values)
    });
    let steps = registration.tensors.iter().zip(tensor_steps).map(|(tensor, step)| Entry {
        name: step_entry(tensor),
        dtype: Dtype::U64,
        shape: vec![],
        source: From::Values(step.to_le_bytes().to_vec()),
    });
    hyper.chain(steps).collect()
}

/// Which of the parts that are initialised by a step have a value.
#[derive(Clone, Copy)]
struct Initialized<'a> {
    masters: &'a [bool],
    averages: &'a [bool],
}

/// Moments, and masters and averages that are initialized; wide elements first, so that every tensor of the file is aligned.
fn state_entries(registration: &Registration, initialized: Initialized) -> Vec<Entry<From>> {
    let entries = |(i, tensor): (usize, &Tensor)| {
        let master = tensor.master_dtype().filter(|_| initialized.masters[i]);
        let average = registration.options.average_of(tensor.spec.dtype).filter(|_| initialized.averages[i]);
        let moments = [(Part::ExpAvg, Some(tensor.moment_dtype)), (Part::ExpAvgSq, Some(tensor.moment_dtype))];
        let entry = |(part, dtype): (Part, Option<DType>)| {
            let (prefix, dtype) = (prefix(part, tensor.precision), file_dtype(dtype?));
            Some(Entry {
                name: format!("{prefix}{}", tensor.name()),
                dtype: if prefix == REMAINDER { Dtype::I16 } else { dtype },
                shape: file_shape(tensor),
                source: From::State(part, i),
            })
        };
        moments
            .into_iter()
            .chain([(Part::Master, master), (Part::Average, average)])
            .filter_map(entry)
            .collect::<Vec<_>>()
    };
    let mut entries: Vec<_> = registration.tensors.iter().enumerate().flat_map(entries).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.bitsize()));
    entries
}

/// What a file is made of, or compared with.
#[derive(Clone, Copy)]
struct Saved<'a> {
    registration: &'a Registration,
    run: &'a Run,
    meta: &'a Meta,
}

impl Saved<'_> {
    fn write(
        &self,
        out: &mut dyn Write,
        contents: Contents,
        read: impl Fn(&Run, &From, usize, &mut [u8]),
    ) -> Result<()> {
        let (text, entries) = self.contents(contents);
        container::write(out, text, &entries, |source, offset, buffer| read(self.run, source, offset, buffer))?;
        self.run.backend.health()
    }

    /// The description and all entries, in the order of the file.
    fn contents(&self, contents: Contents) -> (String, Vec<Entry<From>>) {
        let (words, option_floats) = settings::split(&self.registration.options);
        let Self { registration, run, meta } = *self;
        let description = describe(registration, &run.groups, meta.counters(run), contents, words);
        let mut entries = attention_entries(self.run.state.modulation.as_ref());
        if contents == Contents::Run {
            entries.extend(option_entries(&option_floats));
            entries.extend(run_entries(registration, &run.state.tensor_steps));
            entries.extend(self.last_entries());
            entries.extend(self.remainder_sums());
            let state = &run.state;
            entries.extend(learning_entries(state.modulation.as_ref(), state.horizon.as_ref()));
            let initialized = Initialized { masters: &state.master_initialized, averages: &state.average_initialized };
            entries.extend(state_entries(registration, initialized));
        }
        (serde_json::to_string(&description).expect("strings and numbers"), entries)
    }

    /// What the last step left beside the moments, where there was one.
    fn last_entries(&self) -> Vec<Entry<From>> {
        let mut entries = Vec::new();
        if let Some((modulation, (features, factors))) =
            self.run.state.modulation.as_ref().and_then(|m| m.last().map(|last| (m, last)))
        {
            let shape = [self.run.groups.groups.len(), modulation.feature_dim()];
            entries.push(floats(FEATURES.to_owned(), &shape, &features.iter().copied().collect::<Vec<_>>()));
            entries.push(floats(FACTORS.to_owned(), &[4, shape[0]], &factors.rows().concat()));
        }
        for (tensor, last) in self.registration.tensors.iter().zip(&self.run.state.last_gradients) {
            if let Some(last) = last {
                let values = [last.square, last.with_momentum, last.zeros];
                entries.push(floats(last_gradient_entry(tensor), &[3], &values));
            }
        }
        entries
    }

    /// What tells the parameters whose other halves are in the file from others.
    fn remainder_sums(&self) -> Vec<Entry<From>> {
        let of = |(i, tensor): (usize, &Tensor)| {
            remainder_sum(tensor, self.run.state.master_initialized[i], self.run.master_sum(i))
        };
        self.registration.tensors.iter().enumerate().filter_map(of).collect()
    }
}

/// Bytes of a source from an offset on.
fn read_source(run: &Run, source: &From, offset: usize, buffer: &mut [u8]) {
    match source {
        From::Values(bytes) => buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]),
        From::State(part, tensor) => run.backend.read(*part, *tensor, offset, buffer),
    }
}

/// Takes bytes and counts them.
struct Counting(usize);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const FEATURES: &str = "last.features";
const PHI_EXP_AVG: &str = "attention_exp_avg.";
const PHI_EXP_AVG_SQ: &str = "attention_exp_avg_sq.";
const PHI_STEP: &str = "attention_step";
const HORIZON_SUMS: &str = "horizon.sums";
const HORIZON_COUNT: &str = "horizon.count";
const FACTORS: &str = "last.factors";

fn step_entry(tensor: &Tensor) -> String {
    format!("{STEP}{}", tensor.name())
}

fn last_gradient_entry(tensor: &Tensor) -> String {
    format!("{LAST_GRADIENT}{}", tensor.name())
}

fn remainder_sum_entry(tensor: &Tensor) -> String {
    format!("{REMAINDER_SUM}{}", tensor.name())
}

/// The entry of a tensor with remainders, if there are any and their sum is known.
fn remainder_sum(tensor: &Tensor, initialized: bool, sum: Option<MasterSum>) -> Option<Entry<From>> {
    let MasterSum { square, order } = sum.filter(|_| initialized && tensor.precision == Precision::Remainder)?;
    Some(floats(remainder_sum_entry(tensor), &[2], &[square, f64::from(order)]))
}

/// Its shape; `[0]` if it has no elements, as its lengths may then be larger than a reader can multiply.
fn file_shape(tensor: &Tensor) -> Vec<usize> {
    if tensor.whole_numel == 0 { vec![0] } else { tensor.spec.shape.iter().map(|n| *n as usize).collect() }
}

fn option_entries(options: &settings::Floats) -> impl Iterator<Item = Entry<From>> {
    options.iter().map(|(name, values)| {
        let shape = if values.len() == 1 { vec![] } else { vec![values.len()] };
        floats(format!("options.{name}"), &shape, values)
    })
}

const STEP: &str = "step.";
const LAST_GRADIENT: &str = "last_gradient.";
const REMAINDER_SUM: &str = "remainder_sum.";
const EXP_AVG: &str = "exp_avg.";
const EXP_AVG_SQ: &str = "exp_avg_sq.";
const MASTER: &str = "master.";
const REMAINDER: &str = "remainder.";
const AVERAGE: &str = "average.";

/// What the names of entries with this part of a tensor begin with. None is the beginning of another.
fn prefix(part: Part, precision: Precision) -> &'static str {
    match part {
        Part::ExpAvg => EXP_AVG,
        Part::ExpAvgSq => EXP_AVG_SQ,
        Part::Master if precision == Precision::Remainder => REMAINDER,
        Part::Master => MASTER,
        Part::Average => AVERAGE,
    }
}

/// The part of a tensor that an entry holds, and the tensor's name: what is as large as the model.
fn state_part(entry: &str) -> Option<(Part, &str)> {
    let parts = [
        (EXP_AVG, Part::ExpAvg),
        (EXP_AVG_SQ, Part::ExpAvgSq),
        (MASTER, Part::Master),
        (REMAINDER, Part::Master),
        (AVERAGE, Part::Average),
    ];
    parts.into_iter().find_map(|(prefix, part)| entry.strip_prefix(prefix).map(|name| (part, name)))
}

fn attention_entries(modulation: Option<&Modulation>) -> Vec<Entry<From>> {
    let Some(modulation) = modulation else { return Vec::new() };
    let attention = &modulation.attention;
    attention
        .entries()
        .iter()
        .map(|e| floats(format!("attention.{}", e.name), &e.shape(), &attention.values()[e.range.clone()]))
        .collect()
}
