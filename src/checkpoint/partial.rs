//! Loading what a file and the optimizer both have: which names those are, and what the file is expected to hold then.

use std::collections::HashSet;

use super::container::{Container, Entry};
use super::description::Description;
use super::load::{Expected, groups_in};
use super::settings::OnConflict;
use super::{Contents, FACTORS, FEATURES, HORIZON_SUMS, LAST_GRADIENT, REMAINDER_SUM, STEP, Saved, state_part};
use crate::error::{Error, Result};
use crate::model::groups::Tensor;
use crate::model::name::Name;

/// How a file is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whose steering options hold afterwards.
    pub on_conflict: OnConflict,
    /// The file may have more or fewer tensors and groups. What both have is loaded; a tensor that the file does not have
    /// starts at step 0, and a group of which it has no embedding gets one as if it came after preparation. Where the
    /// numbers of param groups differ, the optimizer's hyper-parameters stay.
    pub partial: bool,
}

impl std::convert::From<OnConflict> for LoadOptions {
    fn from(on_conflict: OnConflict) -> Self {
        Self { on_conflict, partial: false }
    }
}

/// What a load did not take as it was.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Differences in steering options and hyper-parameters in which the file's values hold from now on.
    pub settings: Vec<String>,
    /// Registered, not in the file.
    pub missing_tensors: Vec<Name>,
    /// In the file, not registered.
    pub unexpected_tensors: Vec<Name>,
    /// Modulation groups that the file does not have.
    pub missing_groups: Vec<Name>,
    /// Modulation groups of the file that the optimizer does not have.
    pub unexpected_groups: Vec<Name>,
}

/// Those of `wanted` that are not in `known`.
fn without<'a>(wanted: impl Iterator<Item = &'a str>, known: impl Iterator<Item = &'a str>) -> Result<Vec<Name>> {
    let known: HashSet<&str> = known.collect();
    let corrupt = |e: Error| Error::Corrupt { what: format!("its description: {e}") };
    wanted
        .filter(|name| !known.contains(name))
        .map(|name| Name::new("a name", name.as_bytes()).map_err(corrupt))
        .collect()
}

impl LoadReport {
    /// The names that only one of both has.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the file has a name that is none.
    pub(super) fn of(own: Saved, description: &Description, contents: Contents) -> Result<Self> {
        let tensors = || own.registration.tensors.iter().map(Tensor::name);
        let of_file = || description.tensors.iter().map(|tensor| tensor.name.as_str());
        let groups = || own.run.groups.groups.iter().map(|group| group.name.as_str());
        let groups_of_file = || description.groups.iter().map(String::as_str);
        let run = contents == Contents::Run;
        Ok(Self {
            settings: Vec::new(),
            missing_tensors: if run { without(tensors(), of_file())? } else { Vec::new() },
            unexpected_tensors: if run { without(of_file(), tensors())? } else { Vec::new() },
            missing_groups: without(groups(), groups_of_file())?,
            unexpected_groups: without(groups_of_file(), groups())?,
        })
    }

    /// Leaves of what the file is expected to hold what a file with these names can hold.
    pub(super) fn expect_less(&self, expected: &mut Vec<Expected>, description: &Description, container: &Container) {
        let missing: HashSet<&str> = self.missing_tensors.iter().map(Name::as_str).collect();
        expected.retain(|e| tensor_of(&e.entry.name).is_none_or(|name| !missing.contains(name)));
        expect_groups(expected, description.group_count);
        let param_groups = groups_in(container);
        for Expected { entry, .. } in expected.iter_mut().filter(|e| e.entry.name.starts_with("param_groups.")) {
            entry.shape[0] = param_groups;
        }
    }
}

/// Expects matrices of so many modulation groups.
pub(super) fn expect_groups(expected: &mut [Expected], groups: usize) {
    for Expected { entry: Entry { name, shape, .. }, .. } in expected {
        match name.as_str() {
            "attention.group_embeddings"
            | "attention_exp_avg.group_embeddings"
            | "attention_exp_avg_sq.group_embeddings"
            | HORIZON_SUMS
            | FEATURES => shape[0] = groups,
            FACTORS => shape[1] = groups,
            _ => {}
        }
    }
}

/// The name of the tensor that an entry belongs to.
pub(super) fn tensor_of(entry: &str) -> Option<&str> {
    let small = [STEP, LAST_GRADIENT, REMAINDER_SUM].into_iter().find_map(|prefix| entry.strip_prefix(prefix));
    small.or_else(|| state_part(entry).map(|(_, name)| name))
}
