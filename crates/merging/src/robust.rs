//! RobustMerge: small entries pruned, what is kept of a direction scaled up for it, and the scales
//! shared out over the tasks (arXiv 2502.17159).

use eigenmix_tensors::Matrix;
use rayon::prelude::*;

use crate::election::layer_threshold;
use crate::entries::Entries;

/// `Σ_t diag(s̃_t) · τ̂_t`: of each τ_t the share `prune` of smallest entries becomes zero, row i of
/// the rest is multiplied by
///
/// ```text
/// s_t,i = Σ_j |τ_t,ij| / Σ_j |τ̂_t,ij|        s̃_t,i = s_t,i / Σ_u s_u,i
/// ```
///
/// so that every direction keeps its size, the weak ones of many small entries above all, and the
/// coefficients of the tasks add up to 1. A row that is zero as a whole loses nothing (s = 1); of one
/// that is pruned as a whole nothing is left to scale (s = 0), and the others share its place.
///
/// RobustMerge does this to factors: A and B are pruned each, s is of the rows of A, `A = Σ_t Â_t`, and
/// `B = Σ_t B̂_t · diag(s̃_t)`. That product has terms of one adapter's B with another's A, and
/// depends on how each ΔW_t is split into factors. Here entries and rows are those of the space: in
/// KnOTS and Core Space the rows are the shared directions of the left side, in the full space the
/// outputs. Two things of the authors' code are left out: it raises every s_t,i to at least the 80 %
/// quantile of those of its adapter, and multiplies both factors by λ = 2, which is `scale` here. It
/// prunes 80 % of the entries. With nothing pruned this is the average.
pub(crate) fn merge(entries: &Entries<'_>, prune: f64) -> Matrix {
    let thresholds: Vec<f32> = entries
        .tasks
        .par_iter()
        .map(|task| layer_threshold(entries, task, 1.0 - prune))
        .collect();
    let cols = entries.shape[1];
    entries.merged(|block, target| {
        let mut scales = vec![0.0; thresholds.len()];
        for (row, target) in target.chunks_exact_mut(cols.max(1)).enumerate() {
            let rows = || {
                let range = row * cols..(row + 1) * cols;
                let tasks = block.tasks.iter().zip(&thresholds);
                tasks.map(move |(task, &threshold)| (&task[range.clone()], threshold))
            };
            for (scale, (values, threshold)) in scales.iter_mut().zip(rows()) {
                *scale = complement(values, threshold);
            }
            let total: f64 = scales.iter().sum();
            for (&scale, (values, threshold)) in scales.iter().zip(rows()) {
                if scale == 0.0 {
                    continue;
                }
                let share = (scale / total) as f32;
                for (merged, &value) in target.iter_mut().zip(values) {
                    if value.abs() >= threshold {
                        *merged += share * value;
                    }
                }
            }
        }
    })
}

/// s: how many times larger the row was before entries below the threshold were pruned.
fn complement(values: &[f32], threshold: f32) -> f64 {
    let magnitudes = || values.iter().map(|value| value.abs());
    let all: f64 = magnitudes().map(f64::from).sum();
    let kept = magnitudes().filter(|&magnitude| magnitude >= threshold);
    let kept: f64 = kept.map(f64::from).sum();
    match (all == 0.0, kept == 0.0) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => all / kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_scaled_by_what_it_lost() {
        assert_eq!(complement(&[4.0, -2.0, 1.0, -1.0], 2.0), 8.0 / 6.0);
        assert_eq!(complement(&[4.0, -2.0], 0.0), 1.0);
        assert_eq!(complement(&[0.0, 0.0], 2.0), 1.0);
        assert_eq!(complement(&[1.0, -1.0], 2.0), 0.0);
    }
}
