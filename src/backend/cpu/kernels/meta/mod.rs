//! The meta-update's loops over a chunk: θ′, perturbed points, and products with the derivatives of θ′.
//!
//! θ′ is what would be stored: rounded to nearest in the parameter's dtype, also where a step would round stochastically;
//! where there are masters, it is the low-precision copy of the new master.
//!
//! The direction w is computed in float64. The perturbation r·w is rounded to the type that is computed in, since it is
//! added to θ′ there: for float32 an error of 6·10⁻⁸ of an element in a difference that is good to 10⁻³.

mod direction;
mod probe;
mod trial;

pub use self::direction::{DirectionNormKernel, DirectionOf, StorePerturbationKernel};
pub use self::probe::{ChunkCotangent, PerturbationSource, Point, ProbeKernel};
pub use self::trial::{Origin, Trial, TrialKernel};
