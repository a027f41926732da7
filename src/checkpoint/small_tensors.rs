//! What of a file is read into memory: everything but moments and masters, which are only checked.

use std::collections::HashMap;

use safetensors::Dtype;

use super::container::{Container, Entry};
use super::{
    EXP_AVG_SQ, FACTORS, FEATURES, HORIZON_COUNT, HORIZON_SUMS, PHI_EXP_AVG, PHI_EXP_AVG_SQ, PHI_STEP, Source,
    state_part,
};
use crate::backend::{HorizonSums, Part};
use crate::error::{Error, Result};
use crate::model::dtype::DType;
use crate::model::groups::Groups;
use crate::model::report::MAX_STEPS;
use crate::modulation::attention::{Attention, new_embedding, take_rows};
use crate::modulation::{Factors, Modulation, PhiMoments};

/// All of a file but moments and masters, which stay there: by name, as bytes.
pub struct SmallTensors {
    tensors: HashMap<String, Vec<u8>>,
    /// The first tensor of the file with a moment that no run has.
    pub unusable: Option<String>,
    /// Of the file.
    pub checksum: u32,
}

impl SmallTensors {
    /// Reads those that are `wanted`; the checksum of the file is right then.
    pub fn read(source: &mut dyn Source, container: &Container, wanted: impl Fn(&Entry<()>) -> bool) -> Result<Self> {
        let small = container.entries.iter().filter(|e| state_part(&e.name).is_none() && wanted(e));
        let mut tensors: HashMap<_, _> = small.map(|e| (e.name.clone(), Vec::with_capacity(e.bytes()))).collect();
        let mut unusable = None;
        let checksum = container.stream(source, |entry, _, bytes| match tensors.get_mut(&entry.name) {
            Some(values) => values.extend_from_slice(bytes),
            None if unusable.is_none() && !usable(entry, bytes) => unusable = Some(entry.name.clone()),
            None => {}
        })?;
        Ok(Self { tensors, unusable, checksum })
    }

    fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.tensors.get(name).map(Vec::as_slice).ok_or_else(|| Error::Corrupt { what: format!("'{name}' is missing") })
    }

    /// A U64 scalar.
    pub fn whole(&self, name: &str) -> Result<u64> {
        self.bytes(name).map(|b| u64::from_le_bytes(eight(b)))
    }

    /// A tensor of F64.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.bytes(name)?.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b))).collect())
    }

    /// A tensor that may be missing.
    pub fn optional(&self, name: &str) -> Result<Option<Vec<f64>>> {
        self.tensors.contains_key(name).then(|| self.floats(name)).transpose()
    }

    /// Φ in the optimizer's own layout.
    pub fn phi(&self, modulation: Option<&Modulation>, rows: Option<&Rows>) -> Result<Vec<f64>> {
        let Some(modulation) = modulation else { return Ok(Vec::new()) };
        self.like_phi("attention.", &modulation.attention, rows, |rows, i, row| {
            new_embedding(rows.seed, &rows.ours.groups[i].name, row);
        })
    }

    /// The moments that Φ learns with.
    pub fn phi_moments(&self, attention: &Attention, rows: &Rows) -> Result<PhiMoments> {
        let read = |prefix| self.like_phi(prefix, attention, Some(rows), |_, _, row| row.fill(0.0));
        let moments =
            PhiMoments { exp_avg: read(PHI_EXP_AVG)?, exp_avg_sq: read(PHI_EXP_AVG_SQ)?, step: self.whole(PHI_STEP)? };
        if moments.step > MAX_STEPS || moments.exp_avg_sq.iter().any(|v| *v < 0.0) {
            return Err(Error::Corrupt { what: "its attention module has moments that no run has".to_owned() });
        }
        Ok(moments)
    }

    /// Entries in the layout of Φ; rows of groups that the file does not have are made by `new`.
    fn like_phi(
        &self,
        prefix: &str,
        attention: &Attention,
        rows: Option<&Rows>,
        new: impl Fn(&Rows, usize, &mut [f64]),
    ) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(attention.values().len());
        for entry in attention.entries() {
            let mut values = self.floats(&format!("{prefix}{}", entry.name))?;
            if let (Some(rows), "group_embeddings") = (rows, entry.name.as_str()) {
                values = rows.take(&values, |i, row| new(rows, i, row));
            }
            all.extend(values);
        }
        if all.len() != attention.values().len() || !all.iter().all(|x| x.is_finite()) {
            return Err(Error::Corrupt { what: "its attention module is not finite".to_owned() });
        }
        Ok(all)
    }

    /// What the attention module will learn from.
    pub fn horizon(&self, rows: &Rows) -> Result<HorizonSums> {
        let sums = self.floats(HORIZON_SUMS)?;
        let count = self.whole(HORIZON_COUNT)?;
        if count > MAX_STEPS || sums.len() != rows.count || sums.iter().any(|x| x.is_nan()) {
            return Err(Error::Corrupt { what: format!("'{HORIZON_SUMS}' and '{HORIZON_COUNT}' are not of a run") });
        }
        Ok(HorizonSums { sums: rows.take(&sums, |_, row| row.fill(0.0)), count })
    }

    /// Features and factors of the last step, if there was one of these groups.
    pub fn last(&self, modulation: Option<&Modulation>, rows: Option<&Rows>) -> Result<Option<(Vec<f64>, Factors)>> {
        if modulation.is_none() {
            return Ok(None);
        }
        let (features, factors) = match (self.optional(FEATURES)?, self.optional(FACTORS)?) {
            (Some(features), Some(factors)) => (features, factors),
            (None, None) => return Ok(None),
            _ => return Err(Error::Corrupt { what: format!("it has one of {FEATURES} and {FACTORS} alone") }),
        };
        let rows = rows.expect("groups that differ were refused");
        if !features.iter().chain(&factors).all(|x| x.is_finite()) {
            return Err(Error::Corrupt { what: "its last features or factors are not finite".to_owned() });
        }
        if !rows.are_equal() {
            return Ok(None); // there was no step with these groups
        }
        let take = |values: &[f64]| rows.take(values, |_, _| unreachable!("no group is new"));
        let column = |i: usize| take(&factors[i * rows.count..(i + 1) * rows.count]);
        let factors = Factors { alpha: column(0), beta: column(1), lambda1: column(2), lambda2: column(3) };
        Ok(Some((take(&features), factors)))
    }
}

/// Where our modulation groups stand in the file's matrices, which may be in another order: groups go by name.
pub struct Rows<'a> {
    /// Ours.
    pub ours: &'a Groups,
    /// The row of each; `None`: the file does not have it.
    pub rows: Vec<Option<usize>>,
    /// Groups in the file.
    pub count: usize,
    /// What embeddings of groups are drawn from that the file does not have.
    pub seed: u64,
}

impl Rows<'_> {
    /// Whether both have the same groups.
    pub fn are_equal(&self) -> bool {
        self.count == self.rows.len() && self.rows.iter().all(Option::is_some)
    }

    /// A matrix of the file's in our order; rows that it does not have are made by `new`.
    fn take(&self, values: &[f64], new: impl Fn(usize, &mut [f64])) -> Vec<f64> {
        let columns = (values.len() / self.count.max(1)).max(1);
        let mut out = vec![0.0; columns * self.rows.len()];
        take_rows(values, columns, &self.rows, &mut out, new);
        out
    }
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("eight bytes: the shape was checked")
}

/// Whether these are moments that a run can have: finite, and the second not below 0. A master or an average may be
/// anything: a parameter that is not finite is found by the next step, as in a run that was not interrupted.
///
/// Elements are checked as integers, which becomes vector code: with one added to the exponent, what is not finite has
/// the top bit, as has what is negative. -0 is the one exception.
fn usable(entry: &Entry<()>, bytes: &[u8]) -> bool {
    if state_part(&entry.name).is_none_or(|(part, _)| matches!(part, Part::Master | Part::Average)) {
        return true;
    }
    let second = entry.name.starts_with(EXP_AVG_SQ);
    let exact = |dtype: DType| dtype.values(bytes).all(|x| x.is_finite() && (x >= 0.0 || !second));
    match entry.dtype {
        Dtype::F32 => {
            let suspicious = bytes.as_chunks().0.iter().fold(0, |seen, element| {
                let bits = u32::from_le_bytes(*element);
                seen | (bits & (u32::MAX >> 1)).wrapping_add(1 << 23) | if second { bits } else { 0 }
            });
            suspicious >> 31 == 0 || exact(DType::F32)
        }
        Dtype::F64 => {
            let suspicious = bytes.as_chunks().0.iter().fold(0, |seen, element| {
                let bits = u64::from_le_bytes(*element);
                seen | (bits & (u64::MAX >> 1)).wrapping_add(1 << 52) | if second { bits } else { 0 }
            });
            suspicious >> 63 == 0 || exact(DType::F64)
        }
        Dtype::BF16 => {
            let suspicious = bytes.as_chunks().0.iter().fold(0, |seen, element| {
                let bits = u16::from_le_bytes(*element);
                seen | (bits & (u16::MAX >> 1)).wrapping_add(1 << 7) | if second { bits } else { 0 }
            });
            suspicious >> 15 == 0 || exact(DType::BF16)
        }
        _ => true, // another type than expected, which is reported as a difference
    }
}
