//! What differs between a file and the optimizer, as sentences, and the error that lists the first of them.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::container::Entry;
use super::description::{Description, TensorRecord};
use super::load::Expected;
use super::small_tensors::Rows;
use super::{Saved, file_dtype};
use crate::error::{Error, Remedy, Result};
use crate::model::groups::{Groups, Tensor, layer_of_name};
use crate::model::options::{FeatureVersion, Semantics};
use crate::model::registration::Registration;

impl Saved<'_> {
    /// Differences in which tensors and groups there are: a load in part does not mind them. `param_groups`: their number in
    /// the file.
    pub(super) fn differing_sets(&self, description: &Description, param_groups: usize, rows: &Rows) -> Vec<String> {
        let Registration { tensors, param_groups: own, .. } = self.registration;
        let theirs: HashMap<&str, &TensorRecord> = description.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut differences = Vec::new();
        let mut counted = |what: &str, file: usize, here: usize| {
            if file != here {
                differences.push(format!("{file} {what} in the file, {here} here"));
            }
        };
        counted("tensors", description.tensor_count, tensors.len());
        counted("param groups", param_groups, own.len());
        for (i, tensor) in tensors.iter().enumerate() {
            let name = tensor.name();
            let Some(theirs) = theirs.get(name) else {
                // A list that was cut off may have it further on.
                if description.tensors.len() == description.tensor_count {
                    differences.push(format!("tensor '{name}' is not in the file"));
                }
                continue;
            };
            let group = self.run.groups.groups[self.run.groups.of_tensor[i]].name.as_str();
            let (file, here) = (theirs.param_group, tensor.param_group);
            if file != here {
                differences.push(format!("tensor '{name}': param group {file} in the file, {here} here"));
            }
            if theirs.modulation_group != group {
                let file = &theirs.modulation_group;
                differences.push(format!("tensor '{name}': modulation group {file} in the file, {group} here"));
            }
        }
        let ours: HashSet<&str> = tensors.iter().map(Tensor::name).collect();
        let unknown = description.tensors.iter().filter(|t| !ours.contains(t.name.as_str()));
        differences.extend(unknown.map(|t| format!("tensor '{}' is only in the file", t.name)));
        if !rows.are_equal() {
            differences.push(differing_groups(description, &self.run.groups));
        }
        if let Some(kinds) = self.kinds_of_names(description) {
            differences.insert(0, kinds);
        }
        differences
    }

    /// Differences of tensors that are in both.
    pub(super) fn differing_tensors(&self, description: &Description) -> Vec<String> {
        let theirs: HashMap<&str, &TensorRecord> = description.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut differences = Vec::new();
        for tensor in &self.registration.tensors {
            let Some(theirs) = theirs.get(tensor.name()) else { continue };
            let mut differs = |what: &str, file: String, here: String| {
                if file != here {
                    let name = tensor.name();
                    differences.push(format!("tensor '{name}': {what} {file} in the file, {here} here"));
                }
            };
            differs("shape", format!("{:?}", theirs.shape.0), format!("{:?}", tensor.spec.shape));
            differs("dtype", file_dtype(theirs.dtype).to_string(), file_dtype(tensor.spec.dtype).to_string());
            let moments = theirs.moment_dtype.unwrap_or(theirs.dtype.compute());
            differs("moments", file_dtype(moments).to_string(), file_dtype(tensor.moment_dtype).to_string());
            differs("precision", json!(theirs.precision).to_string(), json!(tensor.precision).to_string());
            if self.registration.options.feature_version == FeatureVersion::Enhanced {
                // A feature that nothing else in the file tells.
                let said = |layer: Option<u64>| layer.map_or("unknown".to_owned(), |layer| layer.to_string());
                differs("layer", said(theirs.layer.or_else(|| layer_of_name(tensor.name()))), said(tensor.layer()));
            }
        }
        differences
    }

    /// If the file's groups are those that the names give, before what the host says of some tensors' kinds: versions before
    /// `layer_kind` came first saved such files. What to do then.
    fn kinds_of_names(&self, description: &Description) -> Option<String> {
        let Registration { options, tensors, .. } = self.registration;
        let by_names = Groups::form(tensors, options.grouping, Semantics::Reference);
        let name = |groups: &Groups, i: usize| groups.groups[groups.of_tensor[i]].name.to_string();
        let theirs: HashMap<&str, &str> =
            description.tensors.iter().map(|t| (t.name.as_str(), t.modulation_group.as_str())).collect();
        let here = |i: &usize| name(&self.run.groups, *i);
        let in_file = |i: &usize| theirs.get(tensors[*i].name()).copied().unwrap_or_default();
        let other: Vec<usize> = (0..tensors.len()).filter(|i| here(i) != in_file(i)).collect();
        if other.is_empty() || other.iter().any(|i| name(&by_names, *i) != in_file(i)) {
            return None;
        }
        let named: Vec<String> = other.iter().take(SHOWN).map(|i| format!("'{}'", tensors[*i].name())).collect();
        let more = if other.len() > SHOWN { format!(" and {} more", other.len() - SHOWN) } else { String::new() };
        Some(format!(
            "in the file the names decide the kinds of layers, as in earlier versions, where layer_kind came second; it loads if \
             no layer_kind is given for {}{more}",
            named.join(", ")
        ))
    }
}

/// Names, dtypes and shapes.
pub(super) fn compare_entries<'a>(expected: &[Expected], found: impl Iterator<Item = &'a Entry<()>>) -> Vec<String> {
    let describe = |entry: &Entry<()>| format!("{} {:?}", entry.dtype, entry.shape);
    let mut missing: HashMap<&str, &Expected> = expected.iter().map(|e| (e.entry.name.as_str(), e)).collect();
    let mut differences = Vec::new();
    for entry in found {
        match missing.remove(entry.name.as_str()) {
            Some(own) => {
                let (file, here) = (describe(entry), describe(&own.entry));
                if file != here {
                    differences.push(format!("'{}': {file} in the file, {here} here", entry.name));
                }
            }
            None => differences.push(format!("'{}' is only in the file", entry.name)),
        }
    }
    let absent = expected.iter().filter(|e| e.required && missing.contains_key(e.entry.name.as_str()));
    differences.extend(absent.map(|e| format!("'{}' is not in the file", e.entry.name)));
    differences
}

/// What differs between the file's groups and ours.
pub(super) fn differing_groups(description: &Description, groups: &Groups) -> String {
    let theirs: HashSet<&str> = description.groups.iter().map(String::as_str).collect();
    let ours: Vec<&str> = groups.groups.iter().map(|g| g.name.as_str()).collect();
    let here: HashSet<&str> = ours.iter().copied().collect();
    let named = |names: &mut dyn Iterator<Item = &str>| {
        let names: Vec<String> = names.take(SHOWN).map(|name| format!("'{name}'")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    format!(
        "{} modulation groups in the file, {} here (only in the file: {}; only here: {})",
        description.group_count,
        ours.len(),
        named(&mut description.groups.iter().map(String::as_str).filter(|name| !here.contains(name))),
        named(&mut ours.iter().copied().filter(|name| !theirs.contains(name))),
    )
}

/// Differences that an error lists.
const SHOWN: usize = 8;

/// The first differences as an error.
pub(super) fn refuse(differences: &[String], remedy: Remedy) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(SHOWN);
    let mut what = differences[..differences.len().min(SHOWN)].join("; ");
    if more > 0 {
        what.push_str(&format!("; and {more} more"));
    }
    Err(Error::Mismatch { what, remedy })
}

/// An error for people, whatever was in the file.
pub(super) fn shortened(error: Error) -> Error {
    const MOST: usize = 2000;
    let short = |what: String| {
        // A file's text must not end a line of a log, or steer a terminal.
        let mut what: String = if what.chars().any(char::is_control) {
            what.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        } else {
            what
        };
        if what.len() > MOST {
            let end = (0..=MOST).rfind(|at| what.is_char_boundary(*at)).unwrap_or_default();
            what.truncate(end);
            what.push('…');
        }
        what
    };
    match error {
        Error::Corrupt { what } => Error::Corrupt { what: short(what) },
        Error::Mismatch { what, remedy } => Error::Mismatch { what: short(what), remedy },
        other => other,
    }
}
