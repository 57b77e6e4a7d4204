//! Bases for diagonal coefficients: pairs of directions, each of which an adapter only scales.

use eigenmix_eigenlorax::decomposition::{DecompositionError, SymmetricEigen, product};
use eigenmix_eigenlorax::{Components, LowRank};
use faer::{Mat, MatRef};

/// The alternation ends when a round gains less than this share of the energy.
const GAIN: f64 = 1e-7;
const ROUNDS: usize = 200;

/// Eigenvalues of normal equations below this share of the largest count as zero.
const CONDITION: f64 = 1e-12;

/// U `[n, R]` and V `[m, R]` of columns of length 1 and, for each update, s_t `[R]`, by alternating least
/// squares on Σ_t ‖C_t − U·diag(s_t)·Vᵀ‖² (arXiv 2407.00066, the diagonal form). The columns are not
/// orthonormal, which diagonal coefficients would pay for: with as many as the updates have
/// directions together, every update is reconstructed.
///
/// It starts from the strongest singular pairs of all updates together.
///
/// - updates: C_t of norm 1, `[n, m]`, whose columns are orthogonal: singular vectors, scaled
pub(crate) fn diagonal_bases(
    updates: &[LowRank],
    components: Components,
) -> Result<[Mat<f64>; 2], DecompositionError> {
    let mut pairs: Vec<(f64, usize, usize)> = updates
        .iter()
        .enumerate()
        .flat_map(|(index, update)| {
            (0..update.rank()).map(move |column| {
                let [left, right] =
                    [&update.left, &update.right].map(|side| side.col(column).squared_norm_l2());
                (left * right, index, column)
            })
        })
        .collect();
    pairs.sort_by(|first, second| second.0.total_cmp(&first.0));
    let energies: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
    let columns = components.of_energies(&energies);
    let total: f64 = energies.iter().sum();
    let [n, m] = updates
        .first()
        .map_or([0, 0], |update| [update.left.nrows(), update.right.nrows()]);
    let chosen = |side: fn(&LowRank) -> &Mat<f64>, rows: usize| {
        unit_columns(Mat::from_fn(rows, columns, |row, column| {
            let (_, index, of) = pairs[column];
            side(&updates[index])[(row, of)]
        }))
    };
    let mut u = chosen(|update| &update.left, n);
    let mut v = chosen(|update| &update.right, m);
    let (mut scales, mut error) = fitted_scales(updates, &u, &v, total)?;
    for _ in 0..ROUNDS {
        let next_u = unit_columns(side(updates, &scales, &v, Side::Left)?);
        let (rescaled, _) = fitted_scales(updates, &next_u, &v, total)?;
        let next_v = unit_columns(side(updates, &rescaled, &next_u, Side::Right)?);
        let (next_scales, next_error) = fitted_scales(updates, &next_u, &next_v, total)?;
        if next_error >= error - GAIN * total {
            break;
        }
        (u, v, scales, error) = (next_u, next_v, next_scales, next_error);
    }
    Ok([u, v])
}

/// s of `[u·diag(s)·vᵀ]` nearest to `update`, in least squares: `(UᵀU ∘ VᵀV)·s = diag(Uᵀ·C·V)`.
///
/// - inverse: the pseudo-inverse of `UᵀU ∘ VᵀV`, [`hadamard_inverse`]
pub(crate) fn diagonal_of(
    update: &LowRank,
    u: MatRef<'_, f64>,
    v: MatRef<'_, f64>,
    inverse: &Mat<f64>,
) -> Mat<f64> {
    product(inverse.as_ref(), diagonal_products(update, u, v).as_ref())
}

/// diag(Uᵀ·C·V) `[R, 1]`.
fn diagonal_products(update: &LowRank, u: MatRef<'_, f64>, v: MatRef<'_, f64>) -> Mat<f64> {
    let left = product(u.transpose(), update.left.as_ref());
    let right = product(v.transpose(), update.right.as_ref());
    Mat::from_fn(left.nrows(), 1, |row, _| {
        let pairs = left.row(row).iter().zip(right.row(row).iter());
        pairs.map(|(left, right)| left * right).sum()
    })
}

/// The pseudo-inverse of `UᵀU ∘ VᵀV` `[R, R]`.
pub(crate) fn hadamard_inverse(
    u: MatRef<'_, f64>,
    v: MatRef<'_, f64>,
) -> Result<Mat<f64>, DecompositionError> {
    let (left, right) = (product(u.transpose(), u), product(v.transpose(), v));
    let gram = Mat::from_fn(left.nrows(), left.ncols(), |row, column| {
        left[(row, column)] * right[(row, column)]
    });
    pseudo_inverse(gram.as_ref())
}

/// The pseudo-inverse of a symmetric matrix that has no negative eigenvalue.
pub(crate) fn pseudo_inverse(gram: MatRef<'_, f64>) -> Result<Mat<f64>, DecompositionError> {
    let SymmetricEigen { values, vectors } = SymmetricEigen::new(gram)?;
    let largest = values.first().copied().unwrap_or(0.0);
    let scaled = Mat::from_fn(vectors.nrows(), vectors.ncols(), |row, column| {
        match values[column] > CONDITION * largest {
            true => vectors[(row, column)] / values[column],
            false => 0.0,
        }
    });
    Ok(product(scaled.as_ref(), vectors.transpose()))
}

/// The best s_t of every update and the error that they leave: `total` − Σ_t s_tᵀ·diag(Uᵀ·C_t·V).
fn fitted_scales(
    updates: &[LowRank],
    u: &Mat<f64>,
    v: &Mat<f64>,
    total: f64,
) -> Result<(Vec<Mat<f64>>, f64), DecompositionError> {
    let inverse = hadamard_inverse(u.as_ref(), v.as_ref())?;
    let mut error = total;
    let scales = updates.iter().map(|update| {
        let products = diagonal_products(update, u.as_ref(), v.as_ref());
        let scales = product(inverse.as_ref(), products.as_ref());
        error -= product(scales.transpose(), products.as_ref())[(0, 0)];
        scales
    });
    let scales = if u.ncols() == 0 {
        Vec::new()
    } else {
        scales.collect()
    };
    Ok((scales, error))
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// The best U given V and the scales, `(Σ_t C_t·V·S_t)·(VᵀV ∘ Σ_t s_t·s_tᵀ)⁺`, or V given U.
fn side(
    updates: &[LowRank],
    scales: &[Mat<f64>],
    other: &Mat<f64>,
    side: Side,
) -> Result<Mat<f64>, DecompositionError> {
    let columns = other.ncols();
    let gram = product(other.transpose(), other.as_ref());
    let mut weights = Mat::<f64>::zeros(columns, columns);
    let mut image: Option<Mat<f64>> = None;
    for (update, scales) in updates.iter().zip(scales) {
        weights += product(scales.as_ref(), scales.transpose());
        let (outer, inner) = match side {
            Side::Left => (&update.left, &update.right),
            Side::Right => (&update.right, &update.left),
        };
        let coordinates = product(inner.transpose(), other.as_ref());
        let scaled = Mat::from_fn(coordinates.nrows(), columns, |row, column| {
            coordinates[(row, column)] * scales[(column, 0)]
        });
        let added = product(outer.as_ref(), scaled.as_ref());
        image = Some(match image {
            Some(image) => image + added,
            None => added,
        });
    }
    let normal = Mat::from_fn(columns, columns, |row, column| {
        gram[(row, column)] * weights[(row, column)]
    });
    let inverse = pseudo_inverse(normal.as_ref())?;
    Ok(match image {
        Some(image) => product(image.as_ref(), inverse.as_ref()),
        None => other.clone(),
    })
}

/// The columns, each at length 1; zero stays zero.
fn unit_columns(mut matrix: Mat<f64>) -> Mat<f64> {
    for column in 0..matrix.ncols() {
        let length = matrix.col(column).squared_norm_l2().sqrt();
        if length > 0.0 {
            let entries = matrix.as_mut().col_mut(column).iter_mut();
            entries.for_each(|entry| *entry /= length);
        }
    }
    matrix
}
