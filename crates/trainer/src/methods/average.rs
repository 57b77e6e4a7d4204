//! The average of the recycled adapters in the coordinates of a module's basis, and how far it is to be
//! trusted.

use eigenmix_tensors::Matrix;

/// The mean M̄ of mixers M_t `[p, q]`; `None` of none.
pub(super) fn mean(mixers: &[Matrix]) -> Option<Matrix> {
    let first = mixers.first()?;
    let count = mixers.len() as f32;
    Some(Matrix::from_fn(first.rows(), first.cols(), |row, col| {
        mixers.iter().map(|mixer| mixer.get(row, col)).sum::<f32>() / count
    }))
}

/// The mean, shrunk towards zero by how far the mixers disagree (the positive part of James and Stein 1961,
/// with the spread estimated from the mixers):
///
/// ```text
/// max(0, 1 − Σ_t ‖M_t − M̄‖² / (T (T − 1) ‖M̄‖²)) · M̄
/// ```
///
/// The mean of T unrelated mixers is not zero; its squared norm is the T-th part of theirs. What is
/// subtracted is that part: the factor is 1 where all are the same, and about 0 where they have nothing in
/// common. A single mixer says nothing of its spread and stays as it is.
pub(super) fn shrunken_mean(mixers: &[Matrix]) -> Option<Matrix> {
    let mean = mean(mixers)?;
    let count = mixers.len() as f64;
    let norm = mean.norm().powi(2);
    if mixers.len() == 1 || norm == 0.0 {
        return Some(mean);
    }
    // Σ ‖M_t − M̄‖² = Σ ‖M_t‖² − T ‖M̄‖²
    let squares: f64 = mixers.iter().map(|mixer| mixer.norm().powi(2)).sum();
    let spread = (squares - count * norm) / (count * (count - 1.0));
    let factor = (1.0 - spread / norm).clamp(0.0, 1.0);
    Some(mean.scaled(factor as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mixer of one row.
    fn row(values: &[f32]) -> Matrix {
        Matrix::from_fn(1, values.len(), |_, col| values[col])
    }

    #[test]
    fn mixers_that_agree_keep_their_mean() {
        let mixers = [row(&[3.0, -1.0]), row(&[3.0, -1.0]), row(&[3.0, -1.0])];
        let kept = shrunken_mean(&mixers).unwrap();
        assert!((kept.get(0, 0) - 3.0).abs() < 1e-6 && (kept.get(0, 1) + 1.0).abs() < 1e-6);
        assert_eq!(shrunken_mean(&mixers[..1]), Some(mixers[0].clone()));
        assert_eq!(shrunken_mean(&[]), None);
    }

    #[test]
    fn mixers_that_are_orthogonal_leave_nothing() {
        let mixers = [row(&[2.0, 0.0]), row(&[0.0, 2.0])];
        assert_eq!(mean(&mixers), Some(row(&[1.0, 1.0])));
        assert!(shrunken_mean(&mixers).unwrap().norm() < 1e-6);
        let opposed = [row(&[2.0]), row(&[-2.0])];
        assert_eq!(shrunken_mean(&opposed), Some(row(&[0.0])));
    }

    #[test]
    fn what_they_share_is_kept_in_proportion() {
        // A common part of norm 2 and, in each of three, another of norm 1: ‖M̄‖² = 4 + 1/3, of which 1/3
        // comes from what they do not share.
        let mixers = [
            row(&[2.0, 1.0, 0.0, 0.0]),
            row(&[2.0, 0.0, 1.0, 0.0]),
            row(&[2.0, 0.0, 0.0, 1.0]),
        ];
        let factor = shrunken_mean(&mixers).unwrap().get(0, 0) / 2.0;
        assert!((factor - 4.0 / (4.0 + 1.0 / 3.0)).abs() < 1e-6, "{factor}");
    }
}
