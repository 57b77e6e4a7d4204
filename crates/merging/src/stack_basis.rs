//! The singular basis of columns that stand side by side, `X = U · C`, found without forming U.

use eigenmix_eigenlorax::decomposition::{
    DecompositionError, SymmetricEigen, ThinQr, ThinSvd, product,
};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par};

/// The smallest eigenvalue of `XᵀX`, relative to the largest, down to which the Gram matrix may
/// stand for X. It squares the condition number, so U is orthonormal to ε₆₄ / 1e-8, about 2e-8,
/// which is below f32 rounding (6e-8).
const GRAM_LIMIT: f64 = 1e-8;

/// The left singular vectors of X `[d, c]`, strongest first, and X in their coordinates.
///
/// With k = min(d, c): U is `[d, k]` with orthonormal columns.
pub(crate) struct StackBasis {
    vectors: Vectors,
    /// C = Σ·Wᵀ of `X = U·Σ·Wᵀ`: `[k, c]`.
    pub(crate) coordinates: Mat<f64>,
}

/// U, as a product that is cheap to apply.
enum Vectors {
    /// `U = X · (W·Σ⁻¹)`: `[d, c]` and `[c, k]`.
    Columns { stack: Mat<f64>, weights: Mat<f64> },
    /// `U = Q · P`, of `X = Q·R` and `R = P·Σ·Wᵀ`.
    Reflections { qr: ThinQr, rotation: Mat<f64> },
}

impl StackBasis {
    /// The basis of the columns of `stack` `[d, c]`.
    ///
    /// From the eigendecomposition of `XᵀX` where that is as exact as f32 factors need, and from
    /// the six times slower Householder QR of X otherwise: nearly dependent columns, or more
    /// columns than rows.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub(crate) fn new(stack: Mat<f64>) -> Result<Self, DecompositionError> {
        if stack.ncols() <= stack.nrows() {
            let gram = lower_gram(&stack);
            let eigen = SymmetricEigen::new(gram.as_ref())?;
            let (strongest, weakest) = (eigen.values.first(), eigen.values.last());
            if let (Some(&strongest), Some(&weakest)) = (strongest, weakest)
                && weakest > GRAM_LIMIT * strongest
            {
                return Ok(Self::of_eigen(stack, &eigen));
            }
        }
        let qr = ThinQr::new(stack);
        let ThinSvd { u, s, v } = ThinSvd::new(qr.r().as_ref())?;
        Ok(Self {
            coordinates: Mat::from_fn(s.len(), v.nrows(), |row, col| s[row] * v[(col, row)]),
            vectors: Vectors::Reflections { qr, rotation: u },
        })
    }

    fn of_eigen(stack: Mat<f64>, eigen: &SymmetricEigen) -> Self {
        let s: Vec<f64> = eigen.values.iter().map(|value| value.sqrt()).collect();
        let w = &eigen.vectors;
        let size = s.len();
        Self {
            coordinates: Mat::from_fn(size, size, |row, col| s[row] * w[(col, row)]),
            vectors: Vectors::Columns {
                weights: Mat::from_fn(size, size, |row, col| w[(row, col)] / s[col]),
                stack,
            },
        }
    }

    /// The basis `U · P` of fewer directions, and X projected on it: `Pᵀ·C`.
    ///
    /// - directions: P, orthonormal columns in the coordinates of U, `[k, j]`
    pub(crate) fn projected(self, directions: &Mat<f64>) -> Self {
        let turned = |vectors: &Mat<f64>| product(vectors.as_ref(), directions.as_ref());
        let vectors = match self.vectors {
            Vectors::Columns { stack, weights } => Vectors::Columns {
                weights: turned(&weights),
                stack,
            },
            Vectors::Reflections { qr, rotation } => Vectors::Reflections {
                rotation: turned(&rotation),
                qr,
            },
        };
        Self {
            vectors,
            coordinates: product(directions.transpose(), self.coordinates.as_ref()),
        }
    }

    /// k: how many vectors there are.
    pub(crate) fn size(&self) -> usize {
        self.coordinates.nrows()
    }

    /// `U · small`: `[k, x] → [d, x]`.
    pub(crate) fn times(&self, small: &Mat<f64>) -> Mat<f64> {
        match &self.vectors {
            Vectors::Columns { stack, weights } => {
                let combined = product(weights.as_ref(), small.as_ref());
                product(stack.as_ref(), combined.as_ref())
            }
            Vectors::Reflections { qr, rotation } => {
                qr.q_times(product(rotation.as_ref(), small.as_ref()).as_ref())
            }
        }
    }
}

/// The lower triangle of `XᵀX`, which is all that an eigendecomposition reads.
fn lower_gram(stack: &Mat<f64>) -> Mat<f64> {
    let size = stack.ncols();
    let mut gram = Mat::zeros(size, size);
    triangular::matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        stack.transpose(),
        BlockStructure::Rectangular,
        stack.as_ref(),
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn gaussian(rows: usize, cols: usize) -> Mat<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        Mat::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut random))
    }

    fn assert_basis(stack: &Mat<f64>, is_gram: bool) {
        let basis = StackBasis::new(stack.clone()).expect("finite values");
        assert_eq!(matches!(basis.vectors, Vectors::Columns { .. }), is_gram);
        let size = stack.nrows().min(stack.ncols());
        let identity = Mat::<f64>::identity(size, size);
        let u = basis.times(&identity);
        assert_eq!(u.shape(), (stack.nrows(), size));
        // Twice the bound that GRAM_LIMIT promises.
        assert!((product(u.transpose(), u.as_ref()) - &identity).norm_max() < 4e-8);
        let rebuilt = basis.times(&basis.coordinates);
        assert!((rebuilt - stack).norm_max() <= 1e-13 * stack.norm_l2());
        let scatter = product(basis.coordinates.as_ref(), basis.coordinates.transpose());
        for row in 0..size {
            for col in 0..row {
                assert!(scatter[(row, col)].abs() <= 1e-12 * scatter[(0, 0)]);
            }
            assert!(row == 0 || scatter[(row, row)] <= scatter[(row - 1, row - 1)] + 1e-12);
        }
    }

    #[test]
    fn independent_columns_are_spanned_in_the_order_of_their_strength() {
        assert_basis(&gaussian(40, 9), true);
    }

    #[test]
    fn repeated_and_vanishing_columns_and_wide_stacks_go_through_reflections() {
        let three = gaussian(40, 3);
        assert_basis(
            &Mat::from_fn(40, 9, |row, col| three[(row, col % 3)]),
            false,
        );
        assert_basis(&gaussian(7, 12), false);
        assert_basis(&Mat::zeros(12, 5), false);
        let uneven = gaussian(40, 4);
        let strengths = [1.0, 1e-3, 1e-6, 1e3];
        assert_basis(
            &Mat::from_fn(40, 4, |row, col| uneven[(row, col)] * strengths[col]),
            false,
        );
    }
}
