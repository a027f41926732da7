//! Tensors and the modulation groups they form: per param group, fine-grained, custom (docs/groups.md).

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::model::dtype::{DType, Precision};
use crate::model::name::Name;
use crate::model::options::{FeatureVersion, Grouping, LayerKind, Options, ParamGroup, Semantics};
use crate::numeric::stochastic_rounding::SPAN;

/// A tensor as the host describes it.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Unique name.
    pub name: Name,
    /// Length of each dimension; empty for a scalar.
    pub shape: Vec<u64>,
    /// Element type of the parameter.
    pub dtype: DType,
    /// Element type of its gradients.
    pub grad_dtype: DType,
    /// What the host says of its module.
    pub layer_kind: LayerKind,
    /// Number of its layer, from 0, if the host says it: it counts as if it stood in the name.
    pub layer: Option<u64>,
    /// Modulation group under [`Grouping::Custom`].
    pub modulation_group: Option<Name>,
    /// How it keeps precision, if not as its param group says.
    pub precision: Option<Precision>,
    /// The part that this process has, of a tensor that several processes share; `shape` is that of the whole.
    pub shard: Option<Shard>,
}

/// A part of a tensor, which is flattened in row-major order. It begins and ends at multiples of [`Shard::ALIGNMENT`], or at
/// the tensor's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// First element.
    pub offset: u64,
    /// Number of elements; 0: this process has none of it.
    pub numel: u64,
}

impl Shard {
    /// Sums are taken over blocks of so many elements; parts that split none have the whole tensor's bits.
    pub const ALIGNMENT: u64 = SPAN as u64;

    /// # Errors
    /// [`Error::OutOfRange`]: beyond the tensor, or within a block.
    fn check(self, name: &Name, whole: u64) -> Result<()> {
        let Self { offset, numel } = self;
        let end = offset.checked_add(numel).filter(|end| *end <= whole);
        let end = end.ok_or_else(|| {
            let expected = format!("elements of the tensor, which has {whole}");
            Error::range(
                format!("shard_offset of tensor '{name}'"),
                format!("{offset}, with {numel} from there"),
                expected,
            )
        })?;
        let at_border = |place: u64| place == whole || place.is_multiple_of(Self::ALIGNMENT);
        for (field, place, what) in [("shard_offset", offset, ""), ("shard_numel", end, "an end at ")] {
            if numel > 0 && !at_border(place) {
                let expected = format!("{what}a multiple of {}, or the tensor's end", Self::ALIGNMENT);
                let got = if what.is_empty() { offset.to_string() } else { format!("{numel}, to element {end}") };
                return Err(Error::range(format!("{field} of tensor '{name}'"), got, expected));
            }
        }
        Ok(())
    }
}

impl TensorSpec {
    /// A tensor of which nothing else is said; the fields can be changed.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(name: &str, shape: &[u64], dtype: DType) -> Result<Self> {
        Ok(Self {
            name: Name::new("name", name.as_bytes())?,
            shape: shape.to_vec(),
            dtype,
            grad_dtype: dtype,
            layer_kind: LayerKind::Unknown,
            layer: None,
            modulation_group: None,
            precision: None,
            shard: None,
        })
    }
}

/// A registered tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// As the host described it.
    pub spec: TensorSpec,
    /// Number of elements here, which is all unless it is sharded.
    pub numel: usize,
    /// The first of them.
    pub offset: usize,
    /// Number of elements of the whole tensor.
    pub whole_numel: usize,
    /// Index of its param group.
    pub param_group: usize,
    /// How it keeps precision.
    pub precision: Precision,
    /// Element type of both moments.
    pub moment_dtype: DType,
}

impl Tensor {
    /// Checks that the tensor's size in bytes fits an address space, and that its dtype fits what its group asks for.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for the shape, `precision` or `moment_dtype`.
    pub fn new(spec: TensorSpec, param_group: usize, group: &ParamGroup) -> Result<Self> {
        let whole = if spec.shape.contains(&0) {
            Some(0)
        } else {
            spec.shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length))
        };
        // Moments may be wider than the tensor.
        let size = [spec.dtype, spec.grad_dtype, spec.dtype.compute()].map(DType::size).into_iter().max().unwrap_or(8);
        let fits = |n: &u64| n.checked_mul(size as u64).is_some_and(|bytes| isize::try_from(bytes).is_ok());
        let whole = whole.filter(fits).ok_or_else(|| {
            Error::range(
                format!("shape of tensor '{}'", spec.name),
                format!("{:?}", spec.shape),
                "a product whose bytes fit the address space",
            )
        })?;
        let shard = spec.shard.unwrap_or(Shard { offset: 0, numel: whole });
        shard.check(&spec.name, whole)?;
        let (precision, moment_dtype) = precision(&spec, group)?;
        Ok(Self {
            spec,
            numel: shard.numel as usize,
            offset: shard.offset as usize,
            whole_numel: whole as usize,
            param_group,
            precision,
            moment_dtype,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Size of its parameter.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.numel * self.spec.dtype.size()
    }

    /// Size of a gradient.
    #[must_use]
    pub fn gradient_bytes(&self) -> usize {
        self.numel * self.spec.grad_dtype.size()
    }

    /// Element type of its master or remainder, if it has one.
    #[must_use]
    pub fn master_dtype(&self) -> Option<DType> {
        match self.precision {
            Precision::Nearest | Precision::Stochastic => None,
            Precision::Master => Some(DType::F32),
            Precision::Remainder => Some(self.spec.dtype),
        }
    }

    /// A bias has one dimension, or a name that says so.
    #[must_use]
    pub fn is_bias(&self) -> bool {
        self.spec.shape.len() == 1 || self.name().ends_with("bias")
    }

    /// Number of its layer, from 0: what the host said, else what the name says.
    #[must_use]
    pub fn layer(&self) -> Option<u64> {
        self.spec.layer.or_else(|| layer_of_name(self.name()))
    }

    /// The kind of its layer: what the host said, else what the name says; in `reference` the name comes first.
    #[must_use]
    pub fn kind(&self, semantics: Semantics) -> &'static str {
        let (name, host) = (kind_of_name(self.name()), self.spec.layer_kind.word());
        let kind = match semantics {
            Semantics::Paper => host.or(name),
            Semantics::Reference => name.or(host),
        };
        kind.unwrap_or("other")
    }
}

/// The layer's number in a name: the first whole number between dots (`.3.`), else one that ends the name (`.3`).
#[must_use]
pub fn layer_of_name(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |part: &&str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // Larger numbers than fit are all "very deep".
        digits.then(|| part.parse().unwrap_or(u64::MAX))
    };
    let (last, inner) = parts.split_last()?;
    inner.iter().skip(1).find_map(number).or_else(|| if inner.is_empty() { None } else { number(last) })
}

/// Words in names, and the kind of layer that they say; the first that matches counts.
const WORDS: [(&[&str], &str); 4] = [
    (&["embed"], "embedding"),
    (&["attn", "attention"], "attention"),
    (&["ffn", "mlp", "feed_forward"], "ffn"),
    (&["norm"], "layernorm"),
];

fn kind_of_name(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    WORDS.iter().find(|(words, _)| has(words)).map(|(_, kind)| *kind)
}

/// Whether these tensors are a model of several layers whose depth counts, and none of them has a layer's number. With
/// fewer than three weights no grouping by depth would differ.
#[must_use]
pub fn depth_is_missing(tensors: &[Tensor], options: &Options) -> bool {
    let counts = options.grouping == Grouping::FineGrained || options.feature_version == FeatureVersion::Enhanced;
    let weights = tensors.iter().filter(|tensor| !tensor.is_bias()).count();
    options.modulation && counts && weights > 2 && tensors.iter().all(|tensor| tensor.layer().is_none())
}

/// How the tensor keeps precision and the dtype of its moments: as it says itself, if its dtype allows it; else as its group
/// says, if its dtype has a use for it, so that bfloat16 matrices and float32 norms can share a group.
fn precision(spec: &TensorSpec, group: &ParamGroup) -> Result<(Precision, DType)> {
    let useful = |precision| match precision {
        Precision::Nearest => true,
        Precision::Master | Precision::Stochastic => spec.dtype.is_half(),
        Precision::Remainder => spec.dtype == DType::BF16,
    };
    let precision = match spec.precision {
        Some(own) if useful(own) => own,
        Some(own) => {
            let expected = if spec.dtype.is_half() { "one for float16" } else { "nearest" };
            let expected = format!("{expected}, as the tensor is {}", spec.dtype.name());
            return Err(Error::range(format!("precision of tensor '{}'", spec.name), own.name(), expected));
        }
        None if useful(group.precision) => group.precision,
        // Float16 has no remainders, but needs something as good.
        None if spec.dtype.is_half() => {
            let expected = format!("another, as tensor '{}' is {}", spec.name, spec.dtype.name());
            return Err(Error::range("group.precision", group.precision.name(), expected));
        }
        None => Precision::Nearest,
    };
    let own = spec.dtype.compute();
    let refuse = |chosen: DType, expected: String| Err(Error::range("group.moment_dtype", chosen.name(), expected));
    match group.moment_dtype {
        None => Ok((precision, own)),
        Some(chosen @ (DType::F32 | DType::BF16)) if own == DType::F32 => Ok((precision, chosen)),
        Some(chosen @ (DType::F32 | DType::BF16)) => {
            refuse(chosen, format!("the default for float64 tensors, and tensor '{}' is float64", spec.name))
        }
        Some(other) => refuse(other, "the default, float32 or bfloat16".to_owned()),
    }
}

/// Tensors that share one token of the attention module.
#[derive(Clone, Debug)]
pub struct ModulationGroup {
    /// For people.
    pub name: Name,
    /// Indices of its tensors, ascending.
    pub tensors: Vec<usize>,
}

/// Both directions of the partition, and each tensor's depth, which is a feature.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The groups, by first appearance in registration order.
    pub groups: Vec<ModulationGroup>,
    /// Group of each tensor.
    pub of_tensor: Vec<usize>,
    /// layer/top of each tensor, 0 without a layer's number.
    pub depth: Vec<f64>,
}

impl Groups {
    /// Forms the groups of all registered tensors.
    #[must_use]
    pub fn form(tensors: &[Tensor], grouping: Grouping, semantics: Semantics) -> Self {
        let layers: Vec<Option<u64>> = tensors.iter().map(Tensor::layer).collect();
        let top = layers.iter().flatten().copied().max().unwrap_or(0);
        let mut groups: Vec<ModulationGroup> = Vec::new();
        let mut index = HashMap::new();
        let mut of_tensor = Vec::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            let name = match grouping {
                Grouping::ByParamGroup => format!("param_group.{}", tensor.param_group),
                Grouping::Custom => tensor.spec.modulation_group.as_ref().map(ToString::to_string).unwrap_or_default(),
                Grouping::FineGrained => {
                    let role = if tensor.is_bias() { "bias" } else { "weight" };
                    format!("{}.{}.{role}", tensor.kind(semantics), bucket(layers[i], top))
                }
            };
            let name = Name::new("modulation group", name.as_bytes()).expect("made of valid names");
            let group = *index.entry(name.clone()).or_insert(groups.len());
            if group == groups.len() {
                groups.push(ModulationGroup { name, tensors: Vec::new() });
            }
            groups[group].tensors.push(i);
            of_tensor.push(group);
        }
        let depth = layers
            .iter()
            .map(|layer| match layer {
                Some(layer) if top > 0 => *layer as f64 / top as f64,
                _ => 0.0,
            })
            .collect();
        Self { groups, of_tensor, depth }
    }

    /// Where each of these groups, by its name, stands among others.
    #[must_use]
    pub fn positions_in(&self, others: &Self) -> Vec<Option<usize>> {
        let position = |group: &ModulationGroup| others.groups.iter().position(|other| other.name == group.name);
        self.groups.iter().map(position).collect()
    }
}

/// Thirds of the model; whole numbers, so that nothing hangs on rounding.
fn bucket(layer: Option<u64>, top: u64) -> &'static str {
    match layer.map(u128::from) {
        Some(layer) if top > 1 && 3 * layer < u128::from(top) => "shallow",
        Some(layer) if top > 1 && 3 * layer > 2 * u128::from(top) => "deep",
        _ => "middle",
    }
}
