//! What a host registers before its first step: options, param groups, tensors with unique names.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::model::groups::{Tensor, TensorSpec};
use crate::model::name::Name;
use crate::model::options::{Grouping, Options, ParamGroup};
use crate::numeric::stochastic_rounding::tensor_key;
use crate::reserve::{sum, times};

/// Options, param groups and tensors, as they are now.
#[derive(Debug)]
pub(crate) struct Registration {
    pub options: Options,
    pub param_groups: Vec<ParamGroup>,
    /// In registration order.
    pub tensors: Vec<Tensor>,
    by_name: HashMap<Name, usize>,
}

/// Names, dimensions, and the rest of a tensor.
fn outline(spec: &TensorSpec) -> usize {
    let group = spec.modulation_group.as_ref().map_or(0, |name| name.as_str().len());
    sum([spec.name.as_str().len(), group, times(spec.shape.len(), 24), 256])
}

impl Registration {
    /// Without tensors.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first option that is not usable.
    pub fn new(options: Options) -> Result<Self> {
        options.validate()?;
        Ok(Self { options, param_groups: Vec::new(), tensors: Vec::new(), by_name: HashMap::new() })
    }

    /// Adds tensors that share hyper-parameters and returns the group's index.
    ///
    /// # Errors
    /// No tensors; a field, a name or a shape that is not usable. Nothing is added then.
    pub fn add(&mut self, group: ParamGroup, specs: Vec<TensorSpec>) -> Result<usize> {
        let index = self.param_groups.len();
        if specs.is_empty() {
            return Err(Error::range("count", 0, "at least one tensor in a param group"));
        }
        group.validate(specs.iter().map(|spec| spec.dtype))?;
        let mut added: Vec<Tensor> = Vec::with_capacity(specs.len());
        let mut names = HashMap::with_capacity(specs.len());
        for (i, spec) in specs.into_iter().enumerate() {
            let name = spec.name.clone();
            let first = self.by_name.get(&name).map(|&i| self.tensors[i].param_group);
            if let Some(first) = first.or_else(|| names.contains_key(&name).then_some(index)) {
                return Err(Error::DuplicateName { name: name.to_string(), first, second: index });
            }
            let custom = self.options.grouping == Grouping::Custom;
            if custom != spec.modulation_group.is_some() {
                let (got, expected) =
                    if custom { ("NULL", "a name") } else { ("a name", "NULL without MAW_GROUPING_CUSTOM") };
                return Err(Error::range(format!("tensors[{i}].modulation_group"), got, expected));
            }
            names.insert(name, self.tensors.len() + i);
            added.push(Tensor::new(spec, index, &group)?);
        }
        self.by_name.extend(names);
        self.tensors.append(&mut added);
        self.param_groups.push(group);
        Ok(index)
    }

    /// The tensor of that number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tensor(&self, index: usize) -> Result<&Tensor> {
        self.tensors.get(index).ok_or_else(|| Error::no_index("tensor", index, self.tensors.len()))
    }

    /// Bytes in which all that is registered can be described once: the unit of what calls allocate.
    pub fn outline(&self) -> usize {
        let tensors = self.tensors.iter().map(|tensor| outline(&tensor.spec)).fold(0, usize::saturating_add);
        sum([tensors, times(self.param_groups.len(), 256), 4 << 10])
    }

    /// What [`Self::add`] allocates at most, lists that grow with those of before.
    pub fn memory_to_add(&self, specs: &[TensorSpec]) -> usize {
        let added = specs.iter().map(outline).fold(0, usize::saturating_add);
        sum([
            times(2, added),
            times(self.tensors.len() + specs.len(), 1 << 10),
            times(self.param_groups.len(), 256),
            8 << 10,
        ])
    }

    /// Keys of the tensors' stochastic rounding under a seed.
    pub fn rounding_keys(&self, seed: u64) -> Vec<u64> {
        self.tensors.iter().map(|t| tensor_key(seed, t.name())).collect()
    }
}
