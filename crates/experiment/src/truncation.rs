//! An adapter of lower rank: the best approximation of every ΔW, and the share that it keeps.

use std::collections::BTreeMap;

use eigenmix_adapter::{Adapter, LoraModule};
use eigenmix_eigenlorax::{EigenloraxError, Energy, truncate_module};
use rayon::prelude::*;
use serde::Serialize;

/// How much of an adapter its truncation kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truncation {
    pub rank: usize,
    /// ‖ΔW_R‖² / ‖ΔW‖² over all modules; 1 if there are none.
    pub energy_kept: f64,
    /// The same of every module.
    pub modules: BTreeMap<String, f64>,
}

/// `adapter` with every module of a rank above `rank` replaced by the truncated singular value
/// decomposition of its update, `ΔW_R = U_R·Σ_R·V_Rᵀ`, the best approximation of that rank
/// (Eckart–Young). Magnitudes, biases and heads stay.
///
/// # Errors
/// If a decomposition fails, which finite values don't lead to.
pub fn truncate(adapter: &Adapter, rank: usize) -> Result<(Adapter, Truncation), EigenloraxError> {
    let truncated: Vec<(&String, LoraModule, Energy)> = adapter
        .modules
        .par_iter()
        .map(|(path, module)| {
            let (module, energy) =
                truncate_module(module, rank).map_err(|source| EigenloraxError::Decomposition {
                    module: path.clone(),
                    source,
                })?;
            Ok((path, module, energy))
        })
        .collect::<Result<_, EigenloraxError>>()?;

    let sum: Energy = truncated.iter().map(|(_, _, energy)| *energy).sum();
    let truncation = Truncation {
        rank,
        energy_kept: sum.share(),
        modules: truncated
            .iter()
            .map(|(path, _, energy)| ((*path).clone(), energy.share()))
            .collect(),
    };
    let mut smaller = adapter.clone();
    smaller.modules = truncated
        .into_iter()
        .map(|(path, module, _)| (path.clone(), module))
        .collect();
    Ok((smaller, truncation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::{PeftConfig, TargetModules};
    use eigenmix_tensors::Matrix;

    /// ΔW = 2·diag(3, 2, 1) in the corner of a [5, 4] matrix.
    fn adapter() -> Adapter {
        let b = Matrix::from_fn(5, 3, |row, component| {
            if row == component {
                3.0 - row as f32
            } else {
                0.0
            }
        });
        let a = Matrix::from_fn(3, 4, |component, column| f32::from(component == column));
        let targets = TargetModules::Names(vec!["layer".to_owned()]);
        let config = PeftConfig::lora("base", 3, targets, &[], None, &BTreeMap::new())
            .expect("a configuration");
        let modules = BTreeMap::from([("layer".to_owned(), LoraModule::new(b, a, 2.0))]);
        Adapter::new(config, modules)
    }

    #[test]
    fn truncation_keeps_the_strongest_directions_and_reports_their_energy() {
        let (smaller, truncation) = truncate(&adapter(), 2).expect("a truncation");
        // (3² + 2²) / (3² + 2² + 1²), the scaling cancels.
        assert!((truncation.energy_kept - 13.0 / 14.0).abs() < 1e-12);
        let update = smaller.modules["layer"].update();
        for row in 0..5 {
            for column in 0..4 {
                let expected = match (row, column) {
                    (0, 0) => 6.0,
                    (1, 1) => 4.0,
                    _ => 0.0,
                };
                assert!((update.get(row, column) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_rank_that_is_enough_changes_nothing() {
        let (same, truncation) = truncate(&adapter(), 3).expect("a truncation");
        assert_eq!(same, adapter());
        assert_eq!(truncation.energy_kept, 1.0);
    }
}
