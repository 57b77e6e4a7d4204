//! One module at a smaller rank.

use std::iter::Sum;

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;

use crate::LowRank;
use crate::decomposition::{DecompositionError, ThinSvd};

/// ‖ΔW‖² before a truncation, and of what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Energy {
    pub total: f64,
    pub kept: f64,
}

impl Energy {
    /// The share that is kept, at most 1; 1 where there was nothing.
    pub fn share(self) -> f64 {
        match self.total > 0.0 {
            true => (self.kept / self.total).min(1.0),
            false => 1.0,
        }
    }
}

impl Sum for Energy {
    fn sum<I: Iterator<Item = Self>>(energies: I) -> Self {
        energies.fold(Self::default(), |sum, energy| Self {
            total: sum.total + energy.total,
            kept: sum.kept + energy.kept,
        })
    }
}

/// The best approximation of a module's update of a rank, `ΔW_R = U_R·Σ_R·V_Rᵀ` (Eckart–Young), of scaling
/// 1; the module itself where its rank is no larger. Layer, magnitude and bias stay.
///
/// # Errors
/// If the decomposition fails, which finite values don't lead to.
pub fn truncate_module(
    module: &LoraModule,
    rank: usize,
) -> Result<(LoraModule, Energy), DecompositionError> {
    let ThinSvd { u, s, v } = LowRank::of(module).svd()?;
    let energy = Energy {
        total: s.iter().map(|value| value.powi(2)).sum(),
        kept: s.iter().take(rank).map(|value| value.powi(2)).sum(),
    };
    if module.rank() <= rank {
        return Ok((module.clone(), energy));
    }
    // A matrix of few rows or columns has fewer directions than requested.
    let rank = rank.min(s.len());
    // σ is shared evenly, so that neither factor loses precision in f32.
    let b = Matrix::from_fn(module.d_out(), rank, |row, component| {
        (u[(row, component)] * s[component].sqrt()) as f32
    });
    let a = Matrix::from_fn(rank, module.d_in(), |component, column| {
        (s[component].sqrt() * v[(column, component)]) as f32
    });
    let mut smaller = LoraModule::new(b, a, 1.0).of_layer(module.layer.clone());
    smaller.magnitude = module.magnitude.clone();
    // It acts as s·bias, and the new s is 1.
    smaller.bias = module
        .bias
        .as_ref()
        .map(|bias| bias.iter().map(|value| module.scaling * value).collect());
    Ok((smaller, energy))
}
