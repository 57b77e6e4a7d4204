//! The singular value decomposition of a merged update, and its plain LoRA factors.

use eigenmix_eigenlorax::decomposition::{DecompositionError, ThinSvd};
use eigenmix_tensors::Matrix;
use faer::{Mat, MatRef};

use crate::isotropize::isotropize;
use crate::stack_basis::StackBasis;

/// Directions up to this fraction of the strongest are the rounding of f32 factors: not part of the
/// rank that an update needs.
const RESOLUTION: f64 = f32::EPSILON as f64;

/// What is left of terms that cancel in f64, with room for a few thousand roundings.
const CANCELLED: f64 = 1e-12;

/// How many rows are transposed at a time: few enough to stay in the cache.
const TILE: usize = 64;

/// `ΔW = (U·P) · diag(S) · (V·Q)ᵀ`.
pub(crate) struct MergedSvd<'a> {
    /// U; without one, P has the rows of ΔW.
    pub(crate) left: Option<&'a StackBasis>,
    /// V; without one, Q has the columns of ΔW.
    pub(crate) right: Option<&'a StackBasis>,
    pub(crate) svd: ThinSvd,
}

impl<'a> MergedSvd<'a> {
    /// `ΔW = U · coordinates · Vᵀ`.
    ///
    /// - coordinates: `[p, q]`
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub(crate) fn new(
        left: &'a StackBasis,
        coordinates: MatRef<'_, f64>,
        right: &'a StackBasis,
    ) -> Result<Self, DecompositionError> {
        Ok(Self {
            left: Some(left),
            right: Some(right),
            svd: ThinSvd::new(coordinates)?,
        })
    }

    /// Makes all directions equally strong, if asked, and then keeps the best `rank` of them, or
    /// those that there are. Returns the share of the energy `‖ΔW‖²` that is kept.
    ///
    /// - inputs: the sum of the norms of what was merged; what cancels down to its rounding is zero
    pub(crate) fn reduce(&mut self, inputs: f64, isotropic: bool, rank: Option<usize>) -> f64 {
        let s = &mut self.svd.s;
        if s.first()
            .is_none_or(|&strongest| strongest <= CANCELLED * inputs)
        {
            s.clear();
        }
        if isotropic {
            isotropize(s);
        }
        let energy = |s: &[f64]| s.iter().map(|value| value * value).sum::<f64>();
        let total = energy(s);
        let strongest = s.first().copied().unwrap_or(0.0);
        let needed = s
            .iter()
            .take_while(|&&value| value > RESOLUTION * strongest)
            .count();
        s.truncate(rank.map_or(needed, |rank| needed.min(rank)));
        if total > 0.0 { energy(s) / total } else { 1.0 }
    }

    pub(crate) fn rank(&self) -> usize {
        self.svd.s.len()
    }

    /// ‖ΔW‖, Frobenius.
    pub(crate) fn norm(&self) -> f64 {
        self.svd.s.iter().map(|s| s * s).sum::<f64>().sqrt()
    }

    /// `B = U·P·√S` `[d_out, rank]` and `A = (V·Q·√S)ᵀ` `[rank, d_in]`.
    pub(crate) fn factors(&self) -> (Matrix, Matrix) {
        let shared: Vec<f64> = self.svd.s.iter().map(|s| s.sqrt()).collect();
        let side = |vectors: &Mat<f64>, basis: Option<&StackBasis>| {
            let weighted = Mat::from_fn(vectors.nrows(), shared.len(), |row, col| {
                vectors[(row, col)] * shared[col]
            });
            match basis {
                Some(basis) => basis.times(&weighted),
                None => weighted,
            }
        };
        rayon::join(
            || columns_to_f32(&side(&self.svd.u, self.left)),
            || columns_to_rows(&side(&self.svd.v, self.right)),
        )
    }
}

/// `columns` `[rows, cols]`, rounded to f32.
pub(crate) fn columns_to_f32(columns: &Mat<f64>) -> Matrix {
    let (rows, cols) = columns.shape();
    let mut values = vec![0.0; rows * cols];
    for (tile, first) in values
        .chunks_mut((TILE * cols).max(1))
        .zip((0..rows).step_by(TILE))
    {
        let height = TILE.min(rows - first);
        for (col, column) in columns.col_iter().enumerate() {
            let column = column.subrows(first, height);
            for (target, &value) in tile[col..].iter_mut().step_by(cols).zip(column.iter()) {
                *target = value as f32;
            }
        }
    }
    Matrix::new(rows, cols, values)
}

/// The transpose of `columns`, rounded to f32: `[rows, cols] → [cols, rows]`.
fn columns_to_rows(columns: &Mat<f64>) -> Matrix {
    let (rows, cols) = columns.shape();
    let entries = columns.col_iter().flat_map(|column| column.iter());
    Matrix::new(cols, rows, entries.map(|&value| value as f32).collect())
}
