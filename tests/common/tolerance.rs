//! Tolerances of the golden cases.

use metaadamw::ffi::*;

/// What a run of all cases varies.
#[derive(Clone, Copy)]
pub struct Mode {
    pub dtype: i32,
    /// Of 16-bit tensors: one with masters, which start with the case's float32 values. Their gradients are float32.
    pub precision: i32,
    pub difference: i32,
}

/// Where in a case.
#[derive(Clone, Copy, PartialEq)]
pub enum Phase {
    /// Before the meta-update.
    Before,
    /// In it.
    Meta,
    /// After it.
    After,
}

impl Mode {
    pub fn name(self) -> String {
        let dtype = match (self.dtype, self.precision) {
            (MAW_FLOAT64, _) => "float64",
            (MAW_BFLOAT16, MAW_PRECISION_REMAINDER) => "bfloat16 and remainders",
            (MAW_BFLOAT16, _) => "bfloat16 and masters",
            (MAW_FLOAT16, _) => "float16 and masters",
            _ => "float32",
        };
        let difference = if self.difference == MAW_DIFFERENCE_CENTRAL { "central" } else { "forward" };
        format!("{dtype}, {difference}")
    }

    pub fn is_float64(self) -> bool {
        self.dtype == MAW_FLOAT64
    }

    pub fn has_masters(self) -> bool {
        self.precision != MAW_PRECISION_NEAREST
    }

    /// The largest relative error of rounding to the parameters' dtype.
    pub fn unit_roundoff(self) -> f64 {
        match self.dtype {
            MAW_BFLOAT16 => 1.0 / 256.0,
            MAW_FLOAT16 => 1.0 / 2048.0,
            _ => 0.0,
        }
    }

    pub fn grad_dtype(self) -> i32 {
        if self.is_float64() { MAW_FLOAT64 } else { MAW_FLOAT32 }
    }

    /// The largest allowed error, relative to the largest magnitude.
    ///
    /// With masters it is float32's; in a meta-update what rounding to 16 bits costs comes on top (`rounding.rs`).
    pub fn tolerance(self, kind: &str, phase: Phase, objective: &str) -> f64 {
        let central = self.difference == MAW_DIFFERENCE_CENTRAL;
        let by_difference = |with_central: f64, forward: f64| if central { with_central } else { forward };
        match (self.is_float64(), kind) {
            (true, "derivatives") if objective == "loss_decrease" => by_difference(1e-12, 1e-6),
            (true, "derivatives") => by_difference(1e-9, 1e-6),
            (true, "phi learned") => 1e-11,
            (true, "phi after") => by_difference(1e-12, 1e-8),
            (true, _) => by_difference(1e-12, if phase == Phase::After { 1e-8 } else { 1e-12 }),
            (false, "derivatives") => by_difference(1e-4, 1e-3),
            (false, "phi after" | "phi learned") => 1e-4,
            (false, "parameters" | "averages") if objective == "horizon" && phase == Phase::After => 1e-4,
            (false, "features") => 1e-6,
            (false, _) => 2e-6,
        }
    }
}
