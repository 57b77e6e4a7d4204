//! Two bases for several updates: orthonormal U and V that hold most of all of them.

use faer::{Mat, MatRef};

use crate::decomposition::{DecompositionError, SymmetricEigen, product};
use crate::low_rank::LowRank;
use crate::options::Components;

/// The alternation ends when a round gains less than this share of the energy. The directions are then
/// off by about its root, which is below f32 rounding.
const GAIN: f64 = 1e-14;
const ROUNDS: usize = 200;

/// U `[n, p]` and V `[m, q]`, orthonormal, that maximise Σ_t ‖Uᵀ·C_t·V‖², so that
/// `Σ_t = Uᵀ·C_t·V` minimises Σ_t ‖C_t − U·Σ_t·Vᵀ‖². Alternating (Tucker's model of two modes): U are the leading
/// eigenvectors of Σ_t C_t·V·Vᵀ·C_tᵀ given V, and the other way round (HOOI), from those of Σ_t C_t·C_tᵀ and
/// Σ_t C_tᵀ·C_t (HOSVD).
///
/// Both are in the order of the energy that they hold, strongest first. Where directions beside the cut are
/// equally strong, rounding chooses.
///
/// - updates: C_t, of norm 1 where none is to drown the others, `[n, m]`
///
/// # Errors
/// If a decomposition doesn't converge, which finite values don't lead to.
pub fn shared_bases(
    updates: &[LowRank],
    components: Components,
) -> Result<[Mat<f64>; 2], DecompositionError> {
    let turned: Vec<LowRank> = updates
        .iter()
        .map(|update| LowRank {
            left: update.right.clone(),
            right: update.left.clone(),
        })
        .collect();
    let left = SymmetricEigen::new(scatter(updates, None).as_ref())?;
    let right = SymmetricEigen::new(scatter(&turned, None).as_ref())?;
    let p = components.of_energies(&left.values);
    let q = components.of_energies(&right.values);
    let first = |vectors: &Mat<f64>, count: usize| vectors.as_ref().subcols(0, count).to_owned();
    let (mut u, mut v) = (first(&left.vectors, p), first(&right.vectors, q));
    let is_whole = |values: &[f64], count| count == Components::All.of_energies(values);
    if is_whole(&left.values, p) && is_whole(&right.values, q) {
        return Ok([u, v]);
    }
    let total: f64 = left.values.iter().sum();
    let mut held = 0.0;
    for _ in 0..ROUNDS {
        u = first(
            &SymmetricEigen::new(scatter(updates, Some(v.as_ref())).as_ref())?.vectors,
            p,
        );
        let eigen = SymmetricEigen::new(scatter(&turned, Some(u.as_ref())).as_ref())?;
        v = first(&eigen.vectors, q);
        let now: f64 = eigen.values[..q].iter().sum();
        if now - held < GAIN * total {
            break;
        }
        held = now;
    }
    Ok([u, v])
}

/// Σ_t C_t·V·Vᵀ·C_tᵀ `[n, n]`; without V, Σ_t C_t·C_tᵀ.
fn scatter(updates: &[LowRank], v: Option<MatRef<'_, f64>>) -> Mat<f64> {
    let n = updates.first().map_or(0, |update| update.left.nrows());
    let mut scatter = Mat::zeros(n, n);
    for LowRank { left, right } in updates {
        // Rᵀ·V·Vᵀ·R `[r, r]`, so that C_t = L·Rᵀ is never formed.
        let inner = match v {
            Some(v) => {
                let seen = product(right.transpose(), v);
                product(seen.as_ref(), seen.transpose())
            }
            None => product(right.transpose(), right.as_ref()),
        };
        let image = product(left.as_ref(), inner.as_ref());
        scatter += product(image.as_ref(), left.transpose());
    }
    scatter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of zeros but for one entry.
    fn entry([row, col]: [usize; 2], value: f64) -> LowRank {
        LowRank {
            left: Mat::from_fn(5, 1, |index, _| f64::from(index == row) * value),
            right: Mat::from_fn(4, 1, |index, _| f64::from(index == col)),
        }
    }

    #[test]
    fn directions_are_chosen_together_and_not_each_side_by_itself() {
        // By themselves the first row (energy 2) and the third column (1 + 0.81 + 0.64) are the
        // strongest, but where they meet there is nothing. The second row and that column keep 1.
        let updates = [
            entry([0, 0], 1.0),
            entry([0, 1], 1.0),
            entry([1, 2], 1.0),
            entry([2, 2], 0.9),
            entry([3, 2], 0.8),
        ];
        let [u, v] = shared_bases(&updates, Components::Count(1)).expect("finite values");
        assert_eq!((u.shape(), v.shape()), ((5, 1), (4, 1)));
        assert!((u[(1, 0)].abs() - 1.0).abs() < 1e-12);
        assert!((v[(2, 0)].abs() - 1.0).abs() < 1e-12);
    }
}
