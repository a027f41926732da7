//! What a host registers before its first step: options, param groups, tensors with unique names.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::model::groups::{Tensor, TensorSpec};
use crate::model::name::Name;
use crate::model::options::{Grouping, Options, ParamGroup};
use crate::numeric::stochastic_rounding::tensor_key;
use crate::reserve::{sum, times};

/// Options, param groups and tensors, as they are now.
#[derive(Clone, Debug)]
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

    /// Adds a param group of these tensors and returns its index.
    ///
    /// # Errors
    /// No tensors; a field, a name or a shape that is not usable. Nothing is added then.
    pub fn add(&mut self, group: ParamGroup, specs: Vec<TensorSpec>) -> Result<usize> {
        let index = self.param_groups.len();
        self.append(index, &group, specs)?;
        self.param_groups.push(group);
        Ok(index)
    }

    /// Adds tensors to a param group.
    ///
    /// # Errors
    /// No such group; as for [`Self::add`].
    pub fn add_tensors(&mut self, group: usize, specs: Vec<TensorSpec>) -> Result<()> {
        let known = self.param_groups.get(group).cloned();
        let known = known.ok_or_else(|| Error::no_index("param group", group, self.param_groups.len()))?;
        self.append(group, &known, specs)
    }

    fn append(&mut self, index: usize, group: &ParamGroup, specs: Vec<TensorSpec>) -> Result<()> {
        if specs.is_empty() {
            return Err(Error::range("count", 0, "at least one tensor"));
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
            added.push(Tensor::new(spec, index, group)?);
        }
        self.by_name.extend(names);
        self.tensors.append(&mut added);
        Ok(())
    }

    /// Removes a tensor; those behind it move up by one place. Its param group stays.
    ///
    /// # Errors
    /// No such tensor.
    pub fn remove(&mut self, index: usize) -> Result<()> {
        self.tensor(index)?;
        let removed = self.tensors.remove(index);
        self.by_name.remove(&removed.spec.name);
        self.by_name.values_mut().filter(|at| **at > index).for_each(|at| *at -= 1);
        Ok(())
    }

    /// The number of the tensor of that name.
    pub fn index(&self, name: &Name) -> Option<usize> {
        self.by_name.get(name).copied()
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
