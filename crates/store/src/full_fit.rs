//! Bases for full coefficients: orthonormal U and V that hold most of all updates.

use eigenmix_eigenlorax::decomposition::{DecompositionError, SymmetricEigen, product};
use eigenmix_eigenlorax::{Components, LowRank};
use faer::{Mat, MatRef};

/// Directions with less than this share of the strongest one's energy are the rounding of f32 factors.
const ENERGY_FLOOR: f64 = 1e-14;

/// The alternation ends when a round gains less than this share of the energy.
const GAIN: f64 = 1e-9;
const ROUNDS: usize = 50;

/// U `[n, p]` and V `[m, q]`, orthonormal, that maximise Σ_t ‖Uᵀ·C_t·V‖², so that
/// `Σ_t = Uᵀ·C_t·V` minimises Σ_t ‖C_t − U·Σ_t·Vᵀ‖². Alternating (Tucker's model of two modes): U are the leading
/// eigenvectors of Σ_t C_t·V·Vᵀ·C_tᵀ given V, and the other way round.
///
/// - updates: C_t of norm 1, `[n, m]`
pub(crate) fn full_bases(
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
    let p = count(&left.values, components);
    let q = count(&right.values, components);
    let first = |vectors: &Mat<f64>, count: usize| vectors.as_ref().subcols(0, count).to_owned();
    let (mut u, mut v) = (first(&left.vectors, p), first(&right.vectors, q));
    let is_whole = |values: &[f64], count| count == self::count(values, Components::All);
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

/// How many directions of these energies, strongest first, to keep.
pub(crate) fn count(energies: &[f64], components: Components) -> usize {
    let strongest = energies.first().copied().unwrap_or(0.0);
    let available = energies
        .iter()
        .take_while(|&&energy| energy > ENERGY_FLOOR * strongest)
        .count();
    let energies = &energies[..available];
    components.chosen(energies, energies.iter().sum())
}
