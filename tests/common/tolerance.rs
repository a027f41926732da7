//! How exactly the golden cases must be met: the table of spec section 8.

use metaadamw::ffi::{MAW_DIFFERENCE_CENTRAL, MAW_FLOAT64};

/// What a run of all cases varies.
#[derive(Clone, Copy)]
pub struct Mode {
    pub dtype: i32,
    pub difference: i32,
}

impl Mode {
    pub fn name(self) -> String {
        let dtype = if self.is_float64() { "float64" } else { "float32" };
        let difference = if self.difference == MAW_DIFFERENCE_CENTRAL { "central" } else { "forward" };
        format!("{dtype}, {difference}")
    }

    pub fn is_float64(self) -> bool {
        self.dtype == MAW_FLOAT64
    }

    /// The table of spec section 8; `updated`: after the meta-update.
    pub fn tolerance(self, kind: &str, updated: bool, objective: &str) -> f64 {
        let central = self.difference == MAW_DIFFERENCE_CENTRAL;
        let by_difference = |with_central: f64, forward: f64| if central { with_central } else { forward };
        match (self.is_float64(), kind) {
            (true, "derivatives") if objective == "loss_decrease" => by_difference(1e-12, 1e-6),
            (true, "derivatives") => by_difference(1e-9, 1e-6),
            (true, "phi after") => by_difference(1e-12, 1e-8),
            (true, _) => by_difference(1e-12, if updated { 1e-8 } else { 1e-12 }),
            (false, "derivatives") => by_difference(1e-4, 1e-3),
            (false, "phi after") => 1e-4,
            (false, "features") => 1e-6,
            (false, _) => 2e-6,
        }
    }
}
