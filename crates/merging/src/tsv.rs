//! Task singular vectors: TSV-Merge (arXiv 2412.00081).

use eigenmix_eigenlorax::decomposition::{DecompositionError, ThinSvd, beside, product};
use faer::{Mat, MatRef};

use crate::method::MatrixMethod;

/// Singular values up to this fraction of the strongest are rounding: of a triplet, where its
/// vectors are arbitrary, and of stacked unit vectors, where two of them are the same. f32 factors
/// round at 6e-8.
const NEGLIGIBLE: f64 = 1e-6;

/// `Û · Σ · V̂ᵀ`: the top ⌊k/T⌋ singular triplets of each of the T adapters, of k that there are,
/// side by side in U, Σ and V, with Û and V̂ the nearest matrices to U and V whose columns are
/// orthonormal (`P·Qᵀ` of the SVD `P·S·Qᵀ`).
///
/// At least one triplet per adapter is kept if T > k. A triplet whose singular value is zero is
/// left out: its vectors are arbitrary, and making them orthonormal to the others would change the
/// result at random (the authors' code lets it). For the same reason columns that repeat others get
/// no new direction.
pub(crate) struct Tsv;

impl MatrixMethod for Tsv {
    fn combine(&self, tasks: &[Mat<f64>], size: usize) -> Result<Mat<f64>, DecompositionError> {
        let share = (size / tasks.len()).max(1);
        let mut triplets = Vec::new();
        for task in tasks {
            let svd = ThinSvd::new(task.as_ref())?;
            let strongest = svd.s.first().copied().unwrap_or(0.0);
            let effective = svd.s.iter().take_while(|&&s| s > NEGLIGIBLE * strongest);
            let kept = effective.count().min(share);
            triplets.push((svd, kept));
        }

        let (rows, cols) = tasks[0].shape();
        let strongest_left = triplets
            .iter()
            .map(|(svd, kept)| svd.u.as_ref().subcols(0, *kept));
        let strongest_right = triplets
            .iter()
            .map(|(svd, kept)| svd.v.as_ref().subcols(0, *kept));
        let (left, right) = (beside(rows, strongest_left), beside(cols, strongest_right));
        let strengths = triplets.iter().flat_map(|(svd, kept)| &svd.s[..*kept]);
        let strengths: Vec<f64> = strengths.copied().collect();
        let (left, right) = (
            nearest_orthonormal(left.as_ref())?,
            nearest_orthonormal(right.as_ref())?,
        );
        let weighted = Mat::from_fn(rows, strengths.len(), |row, col| {
            left[(row, col)] * strengths[col]
        });
        Ok(product(weighted.as_ref(), right.transpose()))
    }
}

/// `P·Qᵀ` of `X = P·S·Qᵀ`, over the directions that X has.
pub(crate) fn nearest_orthonormal(
    vectors: MatRef<'_, f64>,
) -> Result<Mat<f64>, DecompositionError> {
    let ThinSvd { u, s, v } = ThinSvd::new(vectors)?;
    let strongest = s.first().copied().unwrap_or(0.0);
    let rank = s
        .iter()
        .take_while(|&&value| value > NEGLIGIBLE * strongest)
        .count();
    Ok(product(
        u.as_ref().subcols(0, rank),
        v.as_ref().subcols(0, rank).transpose(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_adapters_of_low_rank_are_summed() {
        // σ 3 and 2 along different axes: nothing interferes, so nothing changes.
        let axis = |index: usize, strength: f64| {
            Mat::from_fn(5, 4, |row, col| {
                f64::from(row == index && col == index) * strength
            })
        };
        let tasks = [axis(0, 3.0), axis(2, 2.0)];
        let merged = Tsv.combine(&tasks, 4).expect("finite values");
        assert!((merged - (&tasks[0] + &tasks[1])).norm_max() < 1e-14);
    }

    #[test]
    fn adapters_that_say_the_same_are_not_added_up() {
        let task = Mat::from_fn(5, 4, |row, col| (row + 1) as f64 * (col + 2) as f64);
        let merged = Tsv
            .combine(&[task.clone(), task.clone()], 4)
            .expect("finite values");
        assert!((merged - &task).norm_max() < 1e-12);
    }

    #[test]
    fn each_adapter_keeps_its_share_of_the_triplets() {
        let diagonal = Mat::from_fn(6, 6, |row, col| f64::from(row == col) * (6 - row) as f64);
        let tasks = [diagonal.clone(), Mat::zeros(6, 6), Mat::zeros(6, 6)];
        let merged = Tsv.combine(&tasks, 6).expect("finite values");
        let kept = Mat::from_fn(6, 6, |row, col| f64::from(row < 2) * diagonal[(row, col)]);
        assert!((merged - kept).norm_max() < 1e-14);
    }
}
