//! QR, SVD and symmetric eigendecomposition in f64, each on the calling thread alone.
//!
//! One module of an adapter is one task for rayon, so a decomposition that spread over threads
//! would only compete with its neighbours; and alone, it gives the same bits on any machine load.

use eigenmix_tensors::Matrix;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{evd, householder, matmul, qr::no_pivoting::factor, svd};
use faer::{Accum, Conj, Mat, MatRef, Par};

/// Why a decomposition could not be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompositionError {
    #[error(
        "the singular value decomposition of a [{rows}, {cols}] matrix did not converge; are its values finite?"
    )]
    SingularValues { rows: usize, cols: usize },
    #[error(
        "the eigendecomposition of a [{size}, {size}] matrix did not converge; are its values finite?"
    )]
    Eigenvalues { size: usize },
}

/// `matrix` in f64, of the same shape `[rows, cols]`.
pub fn to_f64(matrix: &Matrix) -> Mat<f64> {
    let [rows, cols] = matrix.shape();
    let values = matrix.values();
    Mat::from_fn(rows, cols, |row, col| f64::from(values[row * cols + col]))
}

/// The transpose of `matrix` in f64: `[rows, cols] → [cols, rows]`.
pub fn transposed_to_f64(matrix: &Matrix) -> Mat<f64> {
    let [rows, cols] = matrix.shape();
    let values = matrix.values();
    Mat::from_fn(cols, rows, |col, row| f64::from(values[row * cols + col]))
}

/// `matrix` rounded to f32, of the same shape `[rows, cols]`.
pub fn to_f32(matrix: MatRef<'_, f64>) -> Matrix {
    Matrix::from_fn(matrix.nrows(), matrix.ncols(), |row, col| {
        matrix[(row, col)] as f32
    })
}

/// `left · right`: `[rows, k] · [k, cols] → [rows, cols]`. Transposed views cost nothing.
///
/// # Panics
/// If the inner sizes differ.
pub fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut result = Mat::zeros(left.nrows(), right.ncols());
    matmul::matmul(result.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    result
}

/// Up to this many columns, a QR decomposition is fastest column by column (measured at 768 rows).
const NARROW: usize = 8;

/// Matrices of `rows` rows side by side.
pub fn beside<'a>(
    rows: usize,
    blocks: impl IntoIterator<Item = MatRef<'a, f64>, IntoIter: Clone>,
) -> Mat<f64> {
    let blocks = blocks.into_iter();
    let mut all = Mat::zeros(rows, blocks.clone().map(|block| block.ncols()).sum());
    let mut first = 0;
    for block in blocks {
        let mut target = all.as_mut().subcols_mut(first, block.ncols());
        target.copy_from(block);
        first += block.ncols();
    }
    all
}

/// The thin QR decomposition `X = Q · R` of a `[rows, cols]` matrix, Q kept as its Householder
/// reflections. With k = min(rows, cols), Q is `[rows, k]` with orthonormal columns, and R is
/// `[k, cols]`, upper trapezoidal.
pub struct ThinQr {
    reflections: Mat<f64>,
    block_factors: Mat<f64>,
}

impl ThinQr {
    /// Decomposes `matrix` in its own memory.
    pub fn new(mut matrix: Mat<f64>) -> Self {
        let (rows, cols) = matrix.shape();
        // Blocks pay off through matrix products; in the few columns of one adapter they only cost.
        let block_size = if cols <= NARROW {
            1
        } else {
            factor::recommended_block_size::<f64>(rows, cols)
        };
        let mut block_factors = Mat::zeros(block_size, rows.min(cols));
        let scratch = factor::qr_in_place_scratch::<f64>(
            rows,
            cols,
            block_size,
            Par::Seq,
            Default::default(),
        );
        factor::qr_in_place(
            matrix.as_mut(),
            block_factors.as_mut(),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        );
        Self {
            reflections: matrix,
            block_factors,
        }
    }

    /// k = min(rows, cols).
    fn size(&self) -> usize {
        self.reflections.nrows().min(self.reflections.ncols())
    }

    /// R: `[k, cols]`.
    pub fn r(&self) -> Mat<f64> {
        Mat::from_fn(self.size(), self.reflections.ncols(), |row, col| {
            if row <= col {
                self.reflections[(row, col)]
            } else {
                0.0
            }
        })
    }

    /// Q: `[rows, k]`.
    pub fn q(&self) -> Mat<f64> {
        self.q_times(Mat::identity(self.size(), self.size()).as_ref())
    }

    /// `Q · right` without forming Q: `[k, c] → [rows, c]`.
    ///
    /// # Panics
    /// If `right` doesn't have k rows.
    pub fn q_times(&self, right: MatRef<'_, f64>) -> Mat<f64> {
        let size = self.size();
        assert_eq!(right.nrows(), size, "Q has {size} columns");
        let rows = self.reflections.nrows();
        let mut result = Mat::zeros(rows, right.ncols());
        result.as_mut().subrows_mut(0, size).copy_from(right);
        let scratch = householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<
            f64,
        >(rows, self.block_factors.nrows(), right.ncols());
        householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
            self.reflections.as_ref().subcols(0, size),
            self.block_factors.as_ref(),
            Conj::No,
            result.as_mut(),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
        );
        result
    }
}

/// A thin singular value decomposition `X = U · diag(S) · Vᵀ` of a `[rows, cols]` matrix, with
/// k = min(rows, cols).
pub struct ThinSvd {
    /// U: `[rows, k]`, orthonormal columns.
    pub u: Mat<f64>,
    /// S: k singular values, largest first.
    pub s: Vec<f64>,
    /// V: `[cols, k]`, orthonormal columns.
    pub v: Mat<f64>,
}

impl ThinSvd {
    /// # Errors
    /// If the iteration doesn't converge, which finite values don't lead to.
    pub fn new(matrix: MatRef<'_, f64>) -> Result<Self, DecompositionError> {
        let (rows, cols) = matrix.shape();
        let size = rows.min(cols);
        let mut u = Mat::zeros(rows, size);
        let mut v = Mat::zeros(cols, size);
        let mut s = vec![0.0; size];
        let vectors = svd::ComputeSvdVectors::Thin;
        let scratch =
            svd::svd_scratch::<f64>(rows, cols, vectors, vectors, Par::Seq, Default::default());
        svd::svd(
            matrix,
            faer::diag::DiagMut::from_slice_mut(&mut s),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        )
        .map_err(|_| DecompositionError::SingularValues { rows, cols })?;
        Ok(Self { u, s, v })
    }
}

/// The eigendecomposition `C = W · diag(λ) · Wᵀ` of a symmetric `[size, size]` matrix.
pub struct SymmetricEigen {
    /// λ: largest first.
    pub values: Vec<f64>,
    /// W: `[size, size]`, orthonormal columns in the order of the values.
    pub vectors: Mat<f64>,
}

impl SymmetricEigen {
    /// Reads the lower triangle of `matrix` only.
    ///
    /// # Errors
    /// If the iteration doesn't converge, which finite values don't lead to.
    ///
    /// # Panics
    /// If `matrix` isn't square.
    pub fn new(matrix: MatRef<'_, f64>) -> Result<Self, DecompositionError> {
        let size = matrix.nrows();
        let mut ascending_vectors = Mat::zeros(size, size);
        let mut values = vec![0.0; size];
        let scratch = evd::self_adjoint_evd_scratch::<f64>(
            size,
            evd::ComputeEigenvectors::Yes,
            Par::Seq,
            Default::default(),
        );
        evd::self_adjoint_evd(
            matrix,
            faer::diag::DiagMut::from_slice_mut(&mut values),
            Some(ascending_vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        )
        .map_err(|_| DecompositionError::Eigenvalues { size })?;
        values.reverse();
        let vectors = ascending_vectors.as_ref().reverse_cols().to_owned();
        Ok(Self { values, vectors })
    }
}

/// The orthonormal basis nearest in the order of the columns to `vectors` `[rows, cols]`, which are
/// nearly orthonormal already: each column is cleared of the ones before it.
pub(crate) fn orthonormalised(vectors: Mat<f64>) -> Mat<f64> {
    if deviation_from_orthonormal(vectors.as_ref()) < NEGLIGIBLE_DEVIATION {
        return vectors;
    }
    let qr = ThinQr::new(vectors);
    let r = qr.r();
    let signs = Mat::from_fn(r.nrows(), r.nrows(), |row, col| {
        if row == col {
            1.0f64.copysign(r[(row, row)])
        } else {
            0.0
        }
    });
    qr.q_times(signs.as_ref())
}

/// Rounding a basis to f32 moves the products of its columns by more than this.
const NEGLIGIBLE_DEVIATION: f64 = 1e-9;

/// How far the columns of `vectors` are from orthonormal: the largest entry of `|VᵀV − I|`.
pub(crate) fn deviation_from_orthonormal(vectors: MatRef<'_, f64>) -> f64 {
    let gram = product(vectors.transpose(), vectors);
    (gram - Mat::<f64>::identity(vectors.ncols(), vectors.ncols())).norm_max()
}

/// The entry of `column` of `matrix` that is largest in magnitude, the first if several are equal;
/// 0 if there are no rows. Its sign distinguishes ±v, so that a basis is deterministic.
pub(crate) fn dominant_entry(matrix: MatRef<'_, f64>, column: usize) -> f64 {
    matrix
        .col(column)
        .iter()
        .fold(0.0, |dominant: f64, &entry| {
            if entry.abs() > dominant.abs() {
                entry
            } else {
                dominant
            }
        })
}

/// `[matrix, column]`.
pub(crate) fn with_column(mut matrix: Mat<f64>, column: &Mat<f64>) -> Mat<f64> {
    let (rows, cols) = matrix.shape();
    matrix.resize_with(rows, cols + 1, |row, _| column[(row, 0)]);
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn random(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Mat::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut random))
    }

    fn largest_difference(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
        assert_eq!(left.shape(), right.shape());
        (left - right).norm_max()
    }

    fn assert_orthonormal(matrix: &Mat<f64>) {
        assert!(deviation_from_orthonormal(matrix.as_ref()) < 1e-13);
    }

    /// Tall, wide, with a zero column, with repeated columns, and all zero.
    fn awkward_matrices() -> Vec<Mat<f64>> {
        let mut with_gaps = random(90, 40, 1);
        for col in [0, 5, 39] {
            with_gaps.as_mut().col_mut(col).fill(0.0);
        }
        let three = random(70, 3, 5);
        let repeated = Mat::from_fn(70, 48, |row, col| three[(row, col % 3)]);
        vec![
            random(37, 11, 2),
            random(9, 23, 3),
            with_gaps,
            repeated,
            Mat::zeros(12, 5),
            random(6, 1, 4),
        ]
    }

    #[test]
    fn q_times_r_is_the_matrix_whatever_its_rank() {
        for matrix in awkward_matrices() {
            let qr = ThinQr::new(matrix.clone());
            assert_orthonormal(&qr.q());
            let rebuilt = qr.q_times(qr.r().as_ref());
            assert!(largest_difference(&rebuilt, &matrix) < 1e-13);
        }
    }

    #[test]
    fn the_singular_factors_multiply_to_the_matrix_whatever_its_rank() {
        for matrix in awkward_matrices() {
            let svd = ThinSvd::new(matrix.as_ref()).expect("finite values");
            assert_orthonormal(&svd.u);
            assert_orthonormal(&svd.v);
            assert!(svd.s.is_sorted_by(|larger, smaller| larger >= smaller));
            let scaled = Mat::from_fn(svd.u.nrows(), svd.s.len(), |row, col| {
                svd.u[(row, col)] * svd.s[col]
            });
            let rebuilt = product(scaled.as_ref(), svd.v.transpose());
            assert!(largest_difference(&rebuilt, &matrix) < 1e-12);
        }
    }

    #[test]
    fn eigenvalues_come_largest_first_with_their_vectors() {
        for matrix in awkward_matrices() {
            let gram = product(matrix.transpose(), matrix.as_ref());
            let eigen = SymmetricEigen::new(gram.as_ref()).expect("finite values");
            assert_orthonormal(&eigen.vectors);
            assert!(
                eigen
                    .values
                    .is_sorted_by(|larger, smaller| larger >= smaller)
            );
            let scaled = Mat::from_fn(gram.nrows(), gram.ncols(), |row, col| {
                eigen.vectors[(row, col)] * eigen.values[col]
            });
            let rebuilt = product(scaled.as_ref(), eigen.vectors.transpose());
            assert!(largest_difference(&rebuilt, &gram) < 1e-11);
        }
    }

    #[test]
    fn nearly_orthonormal_columns_become_orthonormal_and_stay_where_they_are() {
        let exact = ThinQr::new(random(40, 6, 6)).q();
        let skewed = &exact + 1e-4 * random(40, 6, 7);
        let repaired = orthonormalised(skewed);
        assert_orthonormal(&repaired);
        assert!(largest_difference(&repaired, &exact) < 2e-3);
    }

    #[test]
    fn a_conversion_to_f64_and_back_keeps_every_entry() {
        let matrix = Matrix::from_fn(3, 5, |row, col| (row * 5 + col) as f32 * 0.1);
        assert_eq!(to_f32(to_f64(&matrix).as_ref()), matrix);
        assert_eq!(to_f32(transposed_to_f64(&matrix).transpose()), matrix);
    }
}
