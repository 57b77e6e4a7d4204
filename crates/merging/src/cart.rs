//! CART: centred arithmetic with rank-reduced task vectors (arXiv 2412.12153).

use eigenmix_eigenlorax::decomposition::{DecompositionError, ThinSvd, product};
use faer::Mat;

use crate::linear::mean;
use crate::method::MatrixMethod;

/// `θ̄ + λ_c · Σ_t best(τ_t − θ̄)`: the mean θ̄ of the T adapters, and of every deviation from it
/// the best approximation of rank ⌈ρ·k⌉, k the number of its singular values.
pub(crate) struct Cart {
    /// ρ.
    pub(crate) rank_fraction: f64,
    /// λ_c.
    pub(crate) coefficient: f64,
}

impl MatrixMethod for Cart {
    fn combine(&self, tasks: &[Mat<f64>], size: usize) -> Result<Mat<f64>, DecompositionError> {
        let rank = (self.rank_fraction * size as f64).ceil() as usize;
        let mean = mean(tasks);
        let mut merged = mean.clone();
        for task in tasks {
            let ThinSvd { u, s, v } = ThinSvd::new((task - &mean).as_ref())?;
            let kept = rank.min(s.len());
            let weighted = Mat::from_fn(u.nrows(), kept, |row, col| {
                self.coefficient * s[col] * u[(row, col)]
            });
            merged += product(weighted.as_ref(), v.as_ref().subcols(0, kept).transpose());
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_deviations_cancel_and_leave_the_mean() {
        let task =
            |seed: usize| Mat::from_fn(4, 3, |row, col| ((row * 5 + col * 3 + seed) % 7) as f64);
        let tasks = [task(0), task(2), task(3)];
        let all = Cart {
            rank_fraction: 1.0,
            coefficient: 0.7,
        };
        let merged = all.combine(&tasks, 3).expect("finite values");
        assert!((merged - mean(&tasks)).norm_max() < 1e-13);
    }

    #[test]
    fn the_rank_of_a_deviation_is_a_rounded_up_share_of_the_representation() {
        // Deviations ±diag(4, 2, 1); ⌈0.4 · 4⌉ = 2 of them are kept, and cancel again.
        let diagonal = |sign: f64| {
            Mat::from_fn(3, 3, |row, col| {
                f64::from(row == col) * sign * [4.0, 2.0, 1.0][row]
            })
        };
        let skewed = [diagonal(1.0), diagonal(-1.0), diagonal(-3.0)];
        // Mean −1, deviations 2, 0 and −2 times the diagonal, so every kept part cancels too.
        let cart = Cart {
            rank_fraction: 0.4,
            coefficient: 2.0,
        };
        let merged = cart.combine(&skewed, 4).expect("finite values");
        assert!((merged - diagonal(-1.0)).norm_max() < 1e-13);
    }
}
