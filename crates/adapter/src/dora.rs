//! DoRA's adapted weight, `W = m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖`, norms over each output row
//! (arXiv 2402.09353, eq. 5).

use eigenmix_tensors::Matrix;

/// What each output row of `sum` is multiplied by, `m / ‖W₀ + ΔW‖`: `[d_out]`.
///
/// - sum: W₀ + ΔW, `[d_out, d_in]`
/// - magnitude: m, `[d_out]`
///
/// A row of zeros has no direction that a magnitude could stretch: its factor is 0, and it stays
/// zero. PEFT divides by its norm all the same (`magnitude / weight_norm`), so that the row, and
/// with it every output of the layer above, is NaN.
///
/// # Panics
/// If `magnitude` is not one number for each row.
pub fn dora_factors(sum: &Matrix, magnitude: &[f32]) -> Vec<f64> {
    assert_eq!(
        magnitude.len(),
        sum.rows(),
        "a magnitude is one number for each output row"
    );
    let rows = magnitude.iter().enumerate();
    rows.map(|(row, &magnitude)| {
        let squares = sum.row(row).iter().map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        match norm > 0.0 {
            true => f64::from(magnitude) / norm,
            false => 0.0,
        }
    })
    .collect()
}

/// `m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖` `[d_out, d_in]` of `sum` = W₀ + ΔW, as [`dora_factors`] says.
///
/// # Panics
/// If `magnitude` is not one number for each row.
pub fn dora_weight(sum: &Matrix, magnitude: &[f32]) -> Matrix {
    let factors = dora_factors(sum, magnitude);
    Matrix::from_fn(sum.rows(), sum.cols(), |row, col| {
        (f64::from(sum.get(row, col)) * factors[row]) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of norm 5, 2 and 13.
    fn sum() -> Matrix {
        Matrix::new(3, 2, vec![3.0, 4.0, 0.0, -2.0, 5.0, 12.0])
    }

    #[test]
    fn every_row_gets_the_norm_that_the_magnitude_says() {
        assert_eq!(dora_factors(&sum(), &[10.0, 1.0, 6.5]), [2.0, 0.5, 0.5]);
        let weight = dora_weight(&sum(), &[10.0, 1.0, 6.5]);
        assert_eq!(weight.values(), [6.0, 8.0, 0.0, -1.0, 2.5, 6.0]);
    }

    #[test]
    fn the_norms_of_the_weight_itself_change_nothing() {
        let weight = dora_weight(&sum(), &[5.0, 2.0, 13.0]);
        assert_eq!(weight, sum());
    }

    #[test]
    fn a_row_of_zeros_stays_zero_whatever_its_magnitude() {
        let sum = Matrix::new(2, 2, vec![0.0, 0.0, 3.0, 4.0]);
        for magnitude in [0.0, 7.0] {
            assert_eq!(dora_factors(&sum, &[magnitude, 5.0]), [0.0, 1.0]);
            assert_eq!(dora_weight(&sum, &[magnitude, 5.0]), sum);
        }
    }
}
