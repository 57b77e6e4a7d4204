//! One side of a module's subspace: orthonormal columns and how much variance each explains.

use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::decomposition::to_f64;

/// An orthonormal basis `[d, columns]`: first the principal components, the strongest first, and after
/// them the directions by which it has grown since ([`crate::grow`]), which count as principal
/// components; then, of centred components, the direction of the mean; then the requested random
/// columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    vectors: Matrix,
    variance: Vec<f32>,
    total_variance: f64,
    counts: ColumnCounts,
}

/// The kinds of the columns of a basis, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnCounts {
    pub(crate) principal: usize,
    pub(crate) has_mean: bool,
    pub(crate) augmented: usize,
}

impl ColumnCounts {
    /// The number of all columns; counts from a file may overflow.
    pub(crate) fn columns(self) -> usize {
        self.principal
            .saturating_add(usize::from(self.has_mean))
            .saturating_add(self.augmented)
    }
}

impl Basis {
    /// A basis of orthonormal `vectors` `[d, columns]` with the variance of each.
    ///
    /// # Panics
    /// If there are not as many columns and variances as `counts` says.
    pub(crate) fn new(
        vectors: Matrix,
        variance: Vec<f32>,
        total_variance: f64,
        counts: ColumnCounts,
    ) -> Self {
        assert_eq!(
            [vectors.cols(), variance.len()],
            [counts.columns(); 2],
            "a column and its variance for each of {counts:?}"
        );
        Self {
            vectors,
            variance,
            total_variance,
            counts,
        }
    }

    /// The orthonormal columns: `[d, columns]`.
    pub fn vectors(&self) -> &Matrix {
        &self.vectors
    }

    /// The share of each column in the squared norm of the stacked factors: `[columns]`. A
    /// principal component has its eigenvalue of the scatter matrix X·Xᵀ (a sum, not a mean); the
    /// mean's column has n·‖r‖², r being the part of the mean outside the components before it; a
    /// random column has 0. Adapters that came in by [`crate::grow`] add their share to every column.
    pub fn variance(&self) -> &[f32] {
        &self.variance
    }

    /// [`Basis::variance`] of the principal components, in the order of their columns: `[principal]`.
    pub fn principal_variance(&self) -> &[f32] {
        &self.variance[..self.counts.principal]
    }

    /// The trace of the scatter matrix: the variance of all components together.
    pub fn total_variance(&self) -> f64 {
        self.total_variance
    }

    /// How many of the columns, from the first, are principal components.
    pub fn principal(&self) -> usize {
        self.counts.principal
    }

    /// Whether the column after the principal ones is the direction of the mean.
    pub fn has_mean(&self) -> bool {
        self.counts.has_mean
    }

    /// How many of the columns, the last ones, are random.
    pub fn augmented(&self) -> usize {
        self.counts.augmented
    }

    /// d: the width of this side of the module.
    pub fn width(&self) -> usize {
        self.vectors.rows()
    }

    /// How many columns there are, of all kinds together.
    pub fn columns(&self) -> usize {
        self.vectors.cols()
    }

    /// The variance that the principal components explain, out of [`Basis::total_variance`].
    pub fn kept_variance(&self) -> f64 {
        let variance = self.principal_variance().iter();
        variance.map(|&value| f64::from(value)).sum()
    }

    /// The share, 0 to 1, of the total variance that the principal components explain; 1 if there
    /// is no variance.
    pub fn kept(&self) -> f64 {
        kept_share(self.kept_variance(), self.total_variance)
    }

    /// The basis with at most `count` principal components, the strongest, and all of its other
    /// columns: the mean of centred components and random columns are not principal components, so
    /// they are neither counted nor dropped.
    ///
    /// The column of the mean is its part outside all components of the extraction; the part inside
    /// the dropped components is lost.
    pub fn with_components(&self, count: usize) -> Self {
        let mut strongest: Vec<usize> = (0..self.counts.principal).collect();
        // Stable: components of one variance stay in their order.
        strongest.sort_by(|&first, &second| self.variance[second].total_cmp(&self.variance[first]));
        strongest.truncate(count);
        strongest.sort_unstable();
        let principal = strongest.len();
        let kept: Vec<usize> = strongest
            .into_iter()
            .chain(self.counts.principal..self.columns())
            .collect();
        Self::new(
            Matrix::from_fn(self.width(), kept.len(), |row, col| {
                self.vectors.get(row, kept[col])
            }),
            kept.iter().map(|&column| self.variance[column]).collect(),
            self.total_variance,
            ColumnCounts {
                principal,
                ..self.counts
            },
        )
    }

    pub(crate) fn counts(&self) -> ColumnCounts {
        self.counts
    }

    /// The columns in f64: `[d, columns]`.
    pub(crate) fn to_f64(&self) -> Mat<f64> {
        to_f64(&self.vectors)
    }
}

/// `kept / total`, at most 1; 1 if `total` is 0.
pub(crate) fn kept_share(kept: f64, total: f64) -> f64 {
    if total > 0.0 {
        (kept / total).min(1.0)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns 0 … 5 of the identity: three components, the mean, two random columns.
    fn basis() -> Basis {
        Basis::new(
            Matrix::from_fn(7, 6, |row, col| f32::from(row == col)),
            vec![8.0, 4.0, 2.0, 1.0, 0.0, 0.0],
            20.0,
            ColumnCounts {
                principal: 3,
                has_mean: true,
                augmented: 2,
            },
        )
    }

    #[test]
    fn fewer_components_leave_the_mean_and_the_random_columns() {
        let two = basis().with_components(2);
        assert_eq!(
            (two.principal(), two.has_mean(), two.augmented()),
            (2, true, 2)
        );
        assert_eq!(two.variance(), [8.0, 4.0, 1.0, 0.0, 0.0]);
        let axis_of = |column: usize| (0..7).find(|&row| two.vectors().get(row, column) == 1.0);
        let axes: Vec<_> = (0..5).filter_map(axis_of).collect();
        assert_eq!(axes, [0, 1, 3, 4, 5]);
    }

    #[test]
    fn kept_variance_counts_the_components_that_are_left() {
        let two = basis().with_components(2);
        assert_eq!((two.kept_variance(), two.total_variance()), (12.0, 20.0));
        assert_eq!(two.kept(), 0.6);
        assert_eq!(two.principal_variance(), [8.0, 4.0]);
    }

    #[test]
    fn the_strongest_components_are_kept_wherever_a_basis_grew_them() {
        let mut grown = basis();
        grown.variance = vec![8.0, 2.0, 4.0, 1.0, 0.0, 0.0];
        assert_eq!(
            grown.with_components(2).variance(),
            [8.0, 4.0, 1.0, 0.0, 0.0]
        );
    }

    #[test]
    fn more_components_than_there_are_change_nothing() {
        assert_eq!(basis().with_components(3), basis());
        assert_eq!(basis().with_components(9), basis());
    }
}
