//! A frozen DoRA adapter as a base weight and a low-rank update.

use eigenmix_adapter::dora_factors;
use eigenmix_moslora::{Factor, Update};
use eigenmix_tensors::Matrix;

/// DoRA as a rescaling of rows: W = m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖ is a base weight and an update whose
/// rows are both multiplied by m / ‖W₀ + ΔW‖ ([`dora_factors`]). Exact for a frozen adapter.
///
/// - weight: W₀ `[d_out, d_in]`, row-major
/// - magnitude: m, `[d_out]`
pub(crate) fn rescale_rows(
    mut weight: Vec<f32>,
    update: &mut Update,
    magnitude: &[f32],
) -> Vec<f32> {
    let d_in = update.d_in();
    let dense = update.fold().update();
    let sum = weight.iter().zip(dense.values());
    let sum = sum.map(|(weight, update)| weight + update).collect();
    let sum = Matrix::new(update.d_out(), d_in, sum);
    let factors: Vec<f32> = dora_factors(&sum, magnitude)
        .into_iter()
        .map(|factor| factor as f32)
        .collect();
    for (row, factor) in weight.chunks_mut(d_in).zip(&factors) {
        row.iter_mut().for_each(|value| *value *= factor);
    }
    let left = &update.left.matrix;
    update.left = Factor::frozen(Matrix::from_fn(left.rows(), left.cols(), |row, col| {
        left.get(row, col) * factors[row]
    }));
    weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::{LoraModule, dora_weight};

    /// W₀ `[3, 2]` whose second row the update cancels.
    #[test]
    fn base_and_update_add_up_to_the_weight_of_dora_and_a_zero_row_stays_zero() {
        let b = Matrix::new(3, 1, vec![1.0, 2.0, 3.0]);
        let a = Matrix::new(1, 2, vec![4.0, -2.0]);
        let mut update = Update::from_lora(&LoraModule::new(b, a, 0.5));
        let weight = vec![1.0, 5.0, -4.0, 2.0, 0.0, 3.0];
        // W₀ + ΔW
        let sum = Matrix::new(3, 2, vec![3.0, 4.0, 0.0, 0.0, 6.0, 0.0]);
        let magnitude = [10.0, 1.0, 2.0];
        let rescaled = rescale_rows(weight, &mut update, &magnitude);
        let expected = dora_weight(&sum, &magnitude);
        let update = update.fold().update();
        let found = rescaled.iter().zip(update.values());
        for ((weight, update), expected) in found.zip(expected.values()) {
            // This also catches a NaN.
            assert!((weight + update - expected).abs() < 1e-6);
        }
    }
}
