//! One side of a module's subspace: orthonormal columns and how much variance each carries.

use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::decomposition::to_f64;

/// An orthonormal basis `[d, columns]`: first the principal components, the strongest first; then,
/// of centred components, the direction of the mean; then random columns that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// The orthonormal columns: `[d, columns]`.
    pub vectors: Matrix,
    /// What each column carries of the squared norm of the stacked factors: `[columns]`. A
    /// principal component has its eigenvalue of the scatter matrix X·Xᵀ (a sum, not a mean); the
    /// mean's column has n·‖what of the mean the components before it miss‖²; a random column 0.
    pub variance: Vec<f32>,
    /// The trace of the scatter matrix: what all components together would carry.
    pub total_variance: f64,
    /// How many of the columns, from the first, are principal components.
    pub principal: usize,
    /// Whether the column after the principal ones is the direction of the mean.
    pub has_mean: bool,
    /// How many of the columns, the last ones, are random.
    pub augmented: usize,
}

impl Basis {
    /// d: the width of this side of the module.
    pub fn width(&self) -> usize {
        self.vectors.rows()
    }

    /// How many columns there are of every kind.
    pub fn columns(&self) -> usize {
        self.vectors.cols()
    }

    /// The variance that the principal components carry, out of `total_variance`.
    pub fn kept_variance(&self) -> f64 {
        self.variance[..self.principal]
            .iter()
            .map(|&value| f64::from(value))
            .sum()
    }

    /// The share, 0 to 1, of the total variance that the principal components carry; 1 where
    /// there is no variance to carry.
    pub fn kept(&self) -> f64 {
        kept_share(self.kept_variance(), self.total_variance)
    }

    /// The columns in f64: `[d, columns]`.
    pub(crate) fn to_f64(&self) -> Mat<f64> {
        to_f64(&self.vectors)
    }
}

/// `kept / total`, never above 1, and 1 of nothing.
pub(crate) fn kept_share(kept: f64, total: f64) -> f64 {
    if total > 0.0 {
        (kept / total).min(1.0)
    } else {
        1.0
    }
}
