//! Isotropic merging in common and task-specific subspaces: Iso-CTS (arXiv 2502.04959).

use eigenmix_eigenlorax::decomposition::{DecompositionError, ThinSvd, beside, product};
use faer::Mat;

use crate::linear::summed;
use crate::method::MatrixMethod;
use crate::tsv::nearest_orthonormal;

/// Directions up to this fraction of the strongest are the rounding of f32 factors.
const NEGLIGIBLE: f64 = 1e-6;

/// What is left of terms that cancel in f64, with room for a few thousand roundings.
const CANCELLED: f64 = 1e-12;

/// `σ · Û · V̂ᵀ`: the first k singular vectors of `Σ τ_t`, and beside them the first (r − k)/T of
/// each `τ_t − U_k·U_kᵀ·τ_t`, made orthonormal as TSV does, all equally strong: σ is the mean of
/// their singular values.
///
/// r is the rank of `Σ τ_t`. The authors, who merge full fine-tunings, take all min(d_out, d_in)
/// directions, of which a sum of low-rank updates lacks most; so here the result does not depend on the
/// space. As in their code T divides r − k, which moves k; where fewer than T/2 directions are left for
/// the tasks, none are, and this is Iso-C. Of one adapter alone the directions stay, and
/// only their strengths become equal.
pub(crate) struct IsoCts {
    /// k/r: the share of directions that are common.
    pub(crate) common_fraction: f64,
}

impl MatrixMethod for IsoCts {
    fn combine(&self, tasks: &[Mat<f64>], _size: usize) -> Result<Mat<f64>, DecompositionError> {
        let norms: f64 = tasks.iter().map(|task| task.norm_l2()).sum();
        let sum = ThinSvd::new(summed(tasks).as_ref())?;
        let strongest = sum.s.first().copied().unwrap_or(0.0);
        let resolution = (NEGLIGIBLE * strongest).max(CANCELLED * norms);
        let rank = sum.s.iter().take_while(|&&s| s > resolution).count();
        let (common, share) = self.shares(rank, tasks.len());

        let mut directions = Directions::default();
        directions.push(&sum, common);
        for task in tasks {
            let kept = sum.u.as_ref().subcols(0, common);
            let inside = product(kept.transpose(), task.as_ref());
            let own = ThinSvd::new((task - product(kept, inside.as_ref())).as_ref())?;
            // What the common directions explain leaves nothing but rounding.
            let resolution = NEGLIGIBLE * task.norm_l2();
            let there = own.s.iter().take_while(|&&s| s > resolution).count();
            directions.push(&own, share.min(there));
        }
        directions.isotropic(tasks[0].shape())
    }
}

impl IsoCts {
    /// How many directions of `rank` are common, and how many each of `tasks` has to itself.
    fn shares(&self, rank: usize, tasks: usize) -> (usize, usize) {
        let left = rank - ((self.common_fraction * rank as f64) as usize).min(rank);
        let share = (left as f64 / tasks as f64).round_ties_even() as usize;
        let share = share.min(rank / tasks);
        (rank - share * tasks, share)
    }
}

/// Singular triplets of several matrices.
#[derive(Default)]
struct Directions {
    left: Vec<Mat<f64>>,
    right: Vec<Mat<f64>>,
    strengths: Vec<f64>,
}

impl Directions {
    /// Adds the first `count` triplets.
    fn push(&mut self, svd: &ThinSvd, count: usize) {
        let first = |vectors: &Mat<f64>| vectors.as_ref().subcols(0, count).to_owned();
        self.left.push(first(&svd.u));
        self.right.push(first(&svd.v));
        self.strengths.extend_from_slice(&svd.s[..count]);
    }

    /// `σ · Û · V̂ᵀ`, `[rows, cols]`.
    fn isotropic(&self, (rows, cols): (usize, usize)) -> Result<Mat<f64>, DecompositionError> {
        let count = self.strengths.len();
        if count == 0 {
            return Ok(Mat::zeros(rows, cols));
        }
        let mean = self.strengths.iter().sum::<f64>() / count as f64;
        let left = nearest_orthonormal(beside(rows, self.left.iter().map(Mat::as_ref)).as_ref())?;
        let right = nearest_orthonormal(beside(cols, self.right.iter().map(Mat::as_ref)).as_ref())?;
        Ok(faer::Scale(mean) * product(left.as_ref(), right.transpose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISO_CTS: IsoCts = IsoCts {
        common_fraction: 0.8,
    };

    fn diagonal(values: &[f64]) -> Mat<f64> {
        Mat::from_fn(values.len(), values.len() + 1, |row, col| {
            f64::from(row == col) * values[row]
        })
    }

    #[test]
    fn the_tasks_share_what_is_not_common_evenly() {
        // ⌊0.8 · 10⌋ = 8 leave 2 for 2 tasks; 56 of 7 adapters of rank 8 leave 12, rounded to 14.
        assert_eq!(ISO_CTS.shares(10, 2), (8, 1));
        assert_eq!(ISO_CTS.shares(56, 7), (42, 2));
        // Fewer than half a direction for each leave none.
        assert_eq!(ISO_CTS.shares(8, 7), (8, 0));
        let nothing_common = IsoCts {
            common_fraction: 0.01,
        };
        assert_eq!(nothing_common.shares(4, 7), (4, 0));
        assert_eq!(nothing_common.shares(8, 2), (0, 4));
        assert_eq!(ISO_CTS.shares(0, 3), (0, 0));
        let all_common = IsoCts {
            common_fraction: 1.0,
        };
        assert_eq!(all_common.shares(9, 3), (9, 0));
    }

    #[test]
    fn one_adapter_alone_keeps_its_directions_at_their_mean_strength() {
        let merged = ISO_CTS.combine(&[diagonal(&[5.0, 3.0, 0.0, 1.0])], 4);
        let expected = diagonal(&[3.0, 3.0, 0.0, 3.0]);
        assert!((merged.expect("finite values") - expected).norm_max() < 1e-13);
    }

    #[test]
    fn what_is_common_and_what_is_not_are_equally_strong() {
        // Σ τ_t = diag(10, 4, 2): k = 1 and one of each task besides: 4 and 2, mean 16/3.
        let half = IsoCts {
            common_fraction: 0.5,
        };
        let tasks = [diagonal(&[5.0, 4.0, 0.0]), diagonal(&[5.0, 0.0, 2.0])];
        let merged = half.combine(&tasks, 3).expect("finite values");
        let mean = 16.0 / 3.0;
        assert!((merged - diagonal(&[mean, mean, mean])).norm_max() < 1e-12);
    }

    #[test]
    fn adapters_that_cancel_leave_nothing() {
        let task = diagonal(&[3.0, 1.0]);
        let opposite = faer::Scale(-1.0) * &task;
        let merged = ISO_CTS.combine(&[task, opposite], 2);
        assert_eq!(merged.expect("finite values").norm_max(), 0.0);
    }
}
