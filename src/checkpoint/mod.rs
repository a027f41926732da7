//! The state of a run ⇄ a safetensors file. Everything is checked before anything is changed.
//!
//! `docs/checkpoint_format.md` is the format as a page. Parameters are the host's and are not in the file; moments, step
//! counts, Φ, options, hyper-parameters as they are now, and counters are. A resumed run equals an uninterrupted one bit
//! for bit: sums of the state that a running optimizer carries are recomputed with the same bits.

mod container;
mod settings;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Cursor, Write};
use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::container::Source;
use self::container::{Container, Entry};
pub use self::settings::{Winner, to_json as options_to_json};
use crate::backend::Moment;
use crate::config::{DType, Options, ParamGroup};
use crate::durable;
use crate::error::{Error, Result};
use crate::groups::Tensor;
use crate::modulation::{Factors, Modulation};
use crate::optimizer::{Optimizer, Prepared};
use crate::stats::GradientSums;

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

/// The text in the metadata: all that is not a float.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format_version: u32,
    library_version: String,
    contents: Contents,
    options: Map<String, Value>,
    groups: Vec<String>,
    tensors: Vec<TensorRecord>,
    counters: Counters,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorRecord {
    name: String,
    shape: Vec<u64>,
    dtype: DType,
    param_group: usize,
    modulation_group: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    steps: u64,
    skipped_steps: [u64; 5],
    meta_updates: u64,
    meta_done_at: Option<u64>,
}

/// Where a tensor's bytes come from.
enum From {
    Values(Vec<u8>),
    Moment(Moment, usize),
}

fn floats(name: String, shape: &[usize], values: &[f64]) -> Entry<From> {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Entry { name, dtype: Dtype::F64, shape: shape.to_vec(), source: From::Values(bytes) }
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

impl Optimizer {
    /// Writes the run, or the attention module alone, to a file; durable when it returns.
    ///
    /// # Errors
    /// An open meta-update; [`Error::Io`]. The file is the old one then.
    pub fn save_file(&mut self, path: &Path, contents: Contents) -> Result<()> {
        self.ready_to_save("maw_save_file")?;
        durable::replace(path, |out| self.write(out, contents))
    }

    /// The same as bytes.
    ///
    /// # Errors
    /// An open meta-update.
    pub fn save_bytes(&mut self, contents: Contents) -> Result<Vec<u8>> {
        self.ready_to_save("maw_save_bytes")?;
        let mut bytes = Vec::new();
        self.write(&mut bytes, contents)?;
        Ok(bytes)
    }

    fn ready_to_save(&mut self, call: &'static str) -> Result<()> {
        self.prepare()?;
        self.changeable(call)
    }

    fn write(&self, out: &mut dyn Write, contents: Contents) -> Result<()> {
        let p = self.prepared.as_ref().expect("prepared by the caller");
        let (words, option_floats) = settings::split(&self.options);
        let description = self.describe(p, contents, words);
        let mut entries = attention_entries(p.modulation.as_ref());
        if contents == Contents::Run {
            for (name, values) in &option_floats {
                let shape = if values.len() == 1 { vec![] } else { vec![values.len()] };
                entries.push(floats(format!("options.{name}"), &shape, values));
            }
            entries.extend(self.run_entries(p));
        }
        let text = serde_json::to_string(&description).expect("strings and numbers");
        container::write(out, text, &entries, |source, offset, buffer| match source {
            From::Values(bytes) => buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]),
            From::Moment(moment, tensor) => p.backend.read_moment(*moment, *tensor, offset, buffer),
        })
    }

    fn describe(&self, p: &Prepared, contents: Contents, words: Map<String, Value>) -> Description {
        let group_name = |group: usize| p.groups.groups[group].name.to_string();
        let run = contents == Contents::Run;
        let tensors = self.tensors.iter().enumerate().map(|(i, tensor)| TensorRecord {
            name: tensor.name().to_owned(),
            shape: tensor.spec.shape.clone(),
            dtype: tensor.spec.dtype,
            param_group: tensor.param_group,
            modulation_group: group_name(p.groups.of_tensor[i]),
        });
        Description {
            format_version: FORMAT_VERSION,
            library_version: env!("CARGO_PKG_VERSION").to_owned(),
            contents,
            options: if run { words } else { Map::new() },
            groups: (0..p.groups.groups.len()).map(group_name).collect(),
            tensors: if run { tensors.collect() } else { Vec::new() },
            counters: if run {
                Counters {
                    steps: p.steps,
                    skipped_steps: p.skips.by_reason,
                    meta_updates: p.meta.updates(),
                    meta_done_at: p.meta.done_at(),
                }
            } else {
                Counters::default()
            },
        }
    }

    /// All of a run but Φ and the options; eight-byte elements first, so that every tensor is aligned in the file.
    fn run_entries(&self, p: &Prepared) -> Vec<Entry<From>> {
        let groups = &self.param_groups;
        let mut entries: Vec<_> = settings::GROUP_FIELDS
            .iter()
            .map(|(name, get, _)| {
                let values: Vec<f64> = groups.iter().map(get).collect();
                floats(format!("param_groups.{name}"), &[groups.len()], &values)
            })
            .collect();
        if let Some((modulation, (features, factors))) =
            p.modulation.as_ref().and_then(|m| m.last().map(|last| (m, last)))
        {
            let shape = [p.groups.groups.len(), modulation.feature_dim()];
            entries.push(floats("last.features".to_owned(), &shape, features));
            entries.push(floats("last.factors".to_owned(), &[4, shape[0]], &factors.rows().concat()));
        }
        for (tensor, kept) in self.tensors.iter().zip(&p.kept) {
            if let Some(kept) = kept {
                let values = [kept.square, kept.with_momentum, kept.zeros];
                entries.push(floats(format!("last_gradient.{}", tensor.name()), &[3], &values));
            }
        }
        for (tensor, step) in self.tensors.iter().zip(&p.tensor_steps) {
            entries.push(Entry {
                name: format!("step.{}", tensor.name()),
                dtype: Dtype::U64,
                shape: vec![],
                source: From::Values(step.to_le_bytes().to_vec()),
            });
        }
        for dtype in [DType::F64, DType::F32] {
            for (i, tensor) in self.tensors.iter().enumerate().filter(|(_, t)| t.spec.dtype == dtype) {
                for moment in [Moment::ExpAvg, Moment::ExpAvgSq] {
                    entries.push(Entry {
                        name: format!("{}{}", prefix(moment), tensor.name()),
                        dtype: file_dtype(dtype),
                        shape: tensor.spec.shape.iter().map(|n| *n as usize).collect(),
                        source: From::Moment(moment, i),
                    });
                }
            }
        }
        entries
    }

    /// Reads a run, or the attention module alone, from a file.
    ///
    /// # Errors
    /// As for [`Self::load_bytes`], and [`Error::Io`].
    pub fn load_file(&mut self, path: &Path, contents: Contents, winner: Winner) -> Result<()> {
        let file = File::open(path).map_err(|e| Error::file("opening", path, &e))?;
        self.load(&mut BufReader::with_capacity(1 << 16, file), contents, winner)
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// An open meta-update; [`Error::Corrupt`]; [`Error::Mismatch`] lists the first differences. Nothing is changed.
    pub fn load_bytes(&mut self, bytes: &[u8], contents: Contents, winner: Winner) -> Result<()> {
        self.load(&mut Cursor::new(bytes), contents, winner)
    }

    fn load(&mut self, source: &mut dyn Source, contents: Contents, winner: Winner) -> Result<()> {
        self.prepare()?;
        self.changeable("maw_load")?;
        let container = Container::open(source)?;
        let description = parse(&container.metadata)?;
        match contents {
            Contents::Attention => self.load_attention(source, &container, &description),
            Contents::Run if description.contents == Contents::Run => {
                self.load_run(source, &container, description, winner)
            }
            Contents::Run => Err(Error::Mismatch { what: "the file holds an attention module alone".to_owned() }),
        }
    }

    fn load_attention(
        &mut self,
        source: &mut dyn Source,
        container: &Container,
        description: &Description,
    ) -> Result<()> {
        let p = self.prepared.as_mut().expect("prepared by load");
        let expected = attention_entries(p.modulation.as_ref());
        let found = container.entries.iter().filter(|e| e.name.starts_with("attention."));
        let mut differences = compare_entries(&expected, found, |_| false);
        let rows = match_groups(description, p, &mut differences);
        refuse(differences)?;
        let small = read_small(source, container, |name| name.starts_with("attention."))?;
        let phi = small.phi(p, rows.as_deref())?;
        if let Some(modulation) = &mut p.modulation {
            modulation.attention.values_mut().copy_from_slice(&phi);
        }
        Ok(())
    }

    fn load_run(
        &mut self,
        source: &mut dyn Source,
        container: &Container,
        description: Description,
        winner: Winner,
    ) -> Result<()> {
        let p = self.prepared.as_ref().expect("prepared by load");
        let mut differences = self.compare_tensors(p, &description);
        let rows = match_groups(&description, p, &mut differences);
        refuse(differences)?;
        let mut expected = attention_entries(p.modulation.as_ref());
        let (_, option_floats) = settings::split(&self.options);
        for (name, values) in &option_floats {
            let shape = if values.len() == 1 { vec![] } else { vec![values.len()] };
            expected.push(floats(format!("options.{name}"), &shape, values));
        }
        expected.extend(self.run_entries(p));
        // These are there only after a first step; they are checked when they are read.
        let optional = |name: &str| name.starts_with("last.") || name.starts_with("last_gradient.");
        let (entries, groups) = (&container.entries, self.param_groups.len());
        let in_file = entries.iter().find(|e| e.name == "param_groups.lr").map_or(0, Entry::bytes) / 8;
        if in_file != groups {
            refuse(vec![format!("{in_file} param groups in the file, {groups} here")])?;
        }
        refuse(compare_entries(&expected, entries.iter(), optional))?;

        let small = read_small(source, container, |name| !name.starts_with("exp_avg"))?;
        let loaded = self.decode(p, &small, description, rows.as_deref())?;
        let mut differences = settings::differences(&loaded.options, &self.options, winner);
        differences.extend(settings::group_differences(&loaded.param_groups, &self.param_groups, winner));
        refuse(differences)?;
        self.apply(source, container, loaded, winner)
    }

    fn compare_tensors(&self, p: &Prepared, description: &Description) -> Vec<String> {
        let theirs: HashMap<&str, &TensorRecord> = description.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut differences = Vec::new();
        for (i, tensor) in self.tensors.iter().enumerate() {
            let name = tensor.name();
            let Some(theirs) = theirs.get(name) else {
                differences.push(format!("tensor '{name}' is not in the file"));
                continue;
            };
            let group = p.groups.groups[p.groups.of_tensor[i]].name.as_str();
            let mut differs = |what: &str, file: String, here: String| {
                if file != here {
                    differences.push(format!("tensor '{name}': {what} {file} in the file, {here} here"));
                }
            };
            differs("shape", format!("{:?}", theirs.shape), format!("{:?}", tensor.spec.shape));
            differs("dtype", format!("{:?}", theirs.dtype), format!("{:?}", tensor.spec.dtype));
            differs("param group", theirs.param_group.to_string(), tensor.param_group.to_string());
            differs("modulation group", theirs.modulation_group.clone(), group.to_owned());
        }
        let ours: HashSet<&str> = self.tensors.iter().map(Tensor::name).collect();
        let unknown = description.tensors.iter().filter(|t| !ours.contains(t.name.as_str()));
        differences.extend(unknown.map(|t| format!("tensor '{}' is only in the file", t.name)));
        differences
    }

    /// The file's small tensors as values, checked.
    fn decode(&self, p: &Prepared, small: &Small, description: Description, rows: Option<&[usize]>) -> Result<Loaded> {
        let (_, own_floats) = settings::split(&self.options);
        let option_floats: settings::Floats = own_floats
            .into_iter()
            .map(|(name, _)| small.floats(&format!("options.{name}")).map(|values| (name, values)))
            .collect::<Result<_>>()?;
        let options = settings::join(description.options, &option_floats, &self.options)?;
        let mut param_groups = self.param_groups.clone();
        for (name, _, set) in &settings::GROUP_FIELDS {
            let values = small.floats(&format!("param_groups.{name}"))?;
            param_groups.iter_mut().zip(values).for_each(|(group, value)| set(group, value));
        }
        for (i, group) in param_groups.iter().enumerate() {
            let dtypes = self.tensors.iter().filter(|t| t.param_group == i).map(|t| t.spec.dtype);
            group.validate(dtypes).map_err(|e| Error::Corrupt { what: format!("its param group {i}: {e}") })?;
        }
        let tensor_steps = self
            .tensors
            .iter()
            .map(|t| small.bytes(&format!("step.{}", t.name())).map(|b| u64::from_le_bytes(eight(b))))
            .collect::<Result<Vec<_>>>()?;
        let kept = self
            .tensors
            .iter()
            .map(|t| {
                let name = format!("last_gradient.{}", t.name());
                let sums = |x: Vec<f64>| GradientSums { square: x[0], with_momentum: x[1], zeros: x[2] };
                small.optional(&name, 3).map(|values| values.map(sums))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Loaded {
            options,
            param_groups,
            counters: description.counters,
            tensor_steps,
            kept,
            phi: small.phi(p, rows)?,
            last: small.last(p, rows)?,
        })
    }

    /// From here on nothing is refused any more; only the disk can fail.
    fn apply(&mut self, source: &mut dyn Source, container: &Container, loaded: Loaded, winner: Winner) -> Result<()> {
        let by_name: HashMap<&str, usize> = self.tensors.iter().enumerate().map(|(i, t)| (t.name(), i)).collect();
        let p = self.prepared.as_mut().expect("prepared by load");
        p.carried = false;
        let moments = container.stream(source, |entry, offset, bytes| {
            for moment in [Moment::ExpAvgSq, Moment::ExpAvg] {
                if let Some(name) = entry.name.strip_prefix(prefix(moment)) {
                    p.backend.write_moment(moment, by_name[name], offset, bytes);
                    break;
                }
            }
            Ok(())
        });
        if moments.is_err() {
            // The file was whole a moment ago and is not now. A half-loaded run must not go on unseen.
            drop(by_name);
            self.reset(true, true)?;
            return moments;
        }
        p.steps = loaded.counters.steps;
        p.skips.by_reason = loaded.counters.skipped_steps;
        p.skips.last = None;
        p.meta.restore(loaded.counters.meta_updates, loaded.counters.meta_done_at);
        p.tensor_steps = loaded.tensor_steps;
        p.kept = loaded.kept;
        if let Some(modulation) = &mut p.modulation {
            modulation.attention.values_mut().copy_from_slice(&loaded.phi);
            modulation.restore(loaded.last);
        }
        if winner == Winner::File {
            if let Some(modulation) = &mut p.modulation {
                modulation.steer(&loaded.options);
            }
            self.options = loaded.options;
            self.param_groups = loaded.param_groups;
        }
        Ok(())
    }
}

/// A run from a file, decoded and checked, but for its moments.
struct Loaded {
    options: Options,
    param_groups: Vec<ParamGroup>,
    counters: Counters,
    tensor_steps: Vec<u64>,
    kept: Vec<Option<GradientSums>>,
    phi: Vec<f64>,
    last: Option<(Vec<f64>, Factors)>,
}

fn prefix(moment: Moment) -> &'static str {
    match moment {
        Moment::ExpAvg => "exp_avg.",
        Moment::ExpAvgSq => "exp_avg_sq.",
    }
}

fn parse(metadata: &str) -> Result<Description> {
    let corrupt = |e: &dyn std::fmt::Display| Error::Corrupt { what: format!("its description: {e}") };
    let value: Value = serde_json::from_str(metadata).map_err(|e| corrupt(&e))?;
    match value.get("format_version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        Some(version) => {
            return Err(Error::Unsupported {
                what: format!("a checkpoint of format version {version} (this library reads {FORMAT_VERSION})"),
            });
        }
        None => return Err(corrupt(&"it has no format_version")),
    }
    serde_json::from_value(value).map_err(|e| corrupt(&e))
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

/// Names, dtypes and shapes, those that are `optional` apart.
fn compare_entries<'a>(
    expected: &[Entry<From>],
    found: impl Iterator<Item = &'a Entry<()>>,
    optional: impl Fn(&str) -> bool,
) -> Vec<String> {
    let describe = |dtype: Dtype, shape: &[usize]| format!("{dtype:?} {shape:?}");
    let mut missing: HashMap<&str, &Entry<From>> = expected.iter().map(|e| (e.name.as_str(), e)).collect();
    let mut differences = Vec::new();
    for entry in found {
        match missing.remove(entry.name.as_str()) {
            Some(own) => {
                let (file, here) = (describe(entry.dtype, &entry.shape), describe(own.dtype, &own.shape));
                if file != here {
                    differences.push(format!("'{}': {file} in the file, {here} here", entry.name));
                }
            }
            None if optional(&entry.name) => {}
            None => differences.push(format!("'{}' is only in the file", entry.name)),
        }
    }
    let mut absent: Vec<&str> = missing.into_keys().filter(|name| !optional(name)).collect();
    absent.sort_unstable();
    differences.extend(absent.into_iter().map(|name| format!("'{name}' is not in the file")));
    differences
}

/// Row of each of our groups in the file's matrices, where the groups stand in another order; groups go by name.
fn match_groups(description: &Description, p: &Prepared, differences: &mut Vec<String>) -> Option<Vec<usize>> {
    let theirs: HashMap<&str, usize> =
        description.groups.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let ours: Vec<&str> = p.groups.groups.iter().map(|g| g.name.as_str()).collect();
    let embedded = p.modulation.as_ref().is_some_and(|m| m.attention.embeddings().is_some());
    let same = ours.len() == description.groups.len();
    let rows: Option<Vec<usize>> = ours.iter().map(|name| theirs.get(name).copied()).collect();
    let rows = rows.filter(|_| same);
    // Without embeddings no row of Φ belongs to a group: a module may move to another model's groups.
    if rows.is_none() && (embedded || description.contents == Contents::Run) {
        differences.push(format!("modulation groups {:?} in the file, {ours:?} here", description.groups));
    }
    rows
}

/// The first differences as an error.
fn refuse(differences: Vec<String>) -> Result<()> {
    const SHOWN: usize = 8;
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(SHOWN);
    let mut what = differences[..differences.len().min(SHOWN)].join("; ");
    if more > 0 {
        what.push_str(&format!("; and {more} more"));
    }
    Err(Error::Mismatch { what })
}

/// The wanted tensors, whole, after the checksum of the file was found right.
fn read_small(source: &mut dyn Source, container: &Container, wanted: impl Fn(&str) -> bool) -> Result<Small> {
    let mut small = HashMap::<String, Vec<u8>>::new();
    for entry in container.entries.iter().filter(|e| wanted(&e.name)) {
        small.insert(entry.name.clone(), Vec::new());
    }
    container.stream(source, |entry, _, bytes| {
        if let Some(values) = small.get_mut(&entry.name) {
            values.extend_from_slice(bytes);
        }
        Ok(())
    })?;
    Ok(Small(small))
}

/// Tensors by name, as bytes.
struct Small(HashMap<String, Vec<u8>>);

impl Small {
    fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.0.get(name).map(Vec::as_slice).ok_or_else(|| Error::Corrupt { what: format!("'{name}' is missing") })
    }

    fn floats(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.bytes(name)?.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b))).collect())
    }

    /// A tensor that may be missing, of `count` floats.
    fn optional(&self, name: &str, count: usize) -> Result<Option<Vec<f64>>> {
        if !self.0.contains_key(name) {
            return Ok(None);
        }
        let values = self.floats(name)?;
        if values.len() == count && self.bytes(name)?.len() == 8 * count {
            Ok(Some(values))
        } else {
            Err(Error::Corrupt { what: format!("'{name}' has not {count} float64 values") })
        }
    }

    /// Φ in the optimizer's own layout.
    fn phi(&self, p: &Prepared, rows: Option<&[usize]>) -> Result<Vec<f64>> {
        let Some(modulation) = &p.modulation else { return Ok(Vec::new()) };
        let mut phi = Vec::with_capacity(modulation.attention.values().len());
        for entry in modulation.attention.entries() {
            let mut values = self.floats(&format!("attention.{}", entry.name))?;
            if let (Some(rows), "group_embeddings") = (rows, entry.name.as_str()) {
                values = permute(&values, rows);
            }
            phi.extend(values);
        }
        if phi.len() != modulation.attention.values().len() || !phi.iter().all(|x| x.is_finite()) {
            return Err(Error::Corrupt { what: "its attention module is not finite".to_owned() });
        }
        Ok(phi)
    }

    /// Features and factors of the last step, if there was one.
    fn last(&self, p: &Prepared, rows: Option<&[usize]>) -> Result<Option<(Vec<f64>, Factors)>> {
        let Some(modulation) = &p.modulation else { return Ok(None) };
        let groups = p.groups.groups.len();
        let features = self.optional("last.features", groups * modulation.feature_dim())?;
        let factors = self.optional("last.factors", 4 * groups)?;
        let (Some(features), Some(factors), Some(rows)) = (features, factors, rows) else { return Ok(None) };
        let column = |i: usize| permute(&factors[i * groups..(i + 1) * groups], rows);
        let factors = Factors { alpha: column(0), beta: column(1), lambda1: column(2), lambda2: column(3) };
        Ok(Some((permute(&features, rows), factors)))
    }
}

/// Rows in our order: row i of the result is row `rows[i]` of `values`.
fn permute(values: &[f64], rows: &[usize]) -> Vec<f64> {
    let width = values.len() / rows.len();
    rows.iter().flat_map(|row| values[row * width..(row + 1) * width].iter().copied()).collect()
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("eight bytes: the shape was checked")
}
