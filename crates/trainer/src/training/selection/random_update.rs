//! Updates that know nothing of any task, to compare with.

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::{EigenloraxError, LeadingPart, LowRank, range_of, test_matrix};
use eigenmix_moslora::Update;

use crate::TrainerError;

/// U · diag(S) · Vᵀ with random orthonormal U and V, and S the singular values of a module's update.
///
/// # Errors
/// If the SVD doesn't converge, which finite values don't lead to.
pub(super) fn random_update(
    path: &str,
    module: &LoraModule,
    seed: u64,
) -> Result<Update, TrainerError> {
    let found = LowRank::of(module).directions();
    let values = found.map_err(|source| EigenloraxError::Decomposition {
        module: path.to_owned(),
        source,
    })?;
    let rank = values.s.len();
    let directions =
        |side: &str, rows| range_of(&test_matrix(&format!("{path}/{side}"), rows, rank, seed));
    let part = LeadingPart {
        left: directions("left", module.d_out()),
        values: values.s,
        right: directions("right", module.d_in()),
    };
    Ok(Update::from_lora(&part.to_module(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_update_has_the_singular_values_of_its_model_and_other_directions() {
        let (b, a) = (
            test_matrix("b", 30, 3, 1),
            test_matrix("a", 20, 3, 1).transposed(),
        );
        let module = LoraModule::new(b, a, 0.5);
        let random = random_update("layer", &module, 7).expect("finite").fold();
        let values = |module: &LoraModule| LowRank::of(module).directions().expect("finite").s;
        for (found, expected) in values(&random).iter().zip(values(&module)) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
        let (found, model) = (random.update(), module.update());
        let pairs = found.values().iter().zip(model.values());
        let product: f32 = pairs.map(|(one, other)| one * other).sum();
        let norms = found.norm() * model.norm();
        assert!((f64::from(product) / norms).abs() < 0.2);
    }
}
