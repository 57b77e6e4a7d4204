//! One side of a module's subspace while it takes in the columns of further adapters.

use eigenmix_tensors::Matrix;
use faer::{Mat, MatRef};

use crate::augmentation::{Augmentation, normalised};
use crate::basis::{Basis, ColumnCounts};
use crate::decomposition::{
    DecompositionError, ThinSvd, orthonormalised, product, to_f32, with_column,
};
use crate::growth_report::SideGrowth;
use crate::principal::{finite_f32, point_dominant_entries_up};

/// A direction outside the basis with less than this share of an adapter's energy is rounding: the
/// columns of a stored basis are f32, so that even an adapter inside its span leaves about 1e-7 of its
/// length outside, squared.
const RESIDUAL_FLOOR: f64 = 1e-12;

/// A basis, its directions in f64, and the directions that came in.
pub(crate) struct GrowingBasis {
    /// The columns that were there, to be written back bit for bit: `[d, known]`.
    known: Matrix,
    counts: ColumnCounts,
    /// Orthonormal: the span of `known`, then the directions that came in: `[d, known + added]`.
    directions: Mat<f64>,
    /// Of each of `directions`.
    variance: Vec<f64>,
    total_variance: f64,
}

impl GrowingBasis {
    pub fn of(basis: &Basis) -> Self {
        Self {
            known: basis.vectors().clone(),
            counts: basis.counts(),
            // A basis that was stored in few bits is only nearly orthonormal.
            directions: orthonormalised(basis.to_f64()),
            variance: basis.variance().iter().copied().map(f64::from).collect(),
            total_variance: basis.total_variance(),
        }
    }

    /// A basis of no columns, of the width `d`.
    pub fn empty(d: usize) -> Self {
        Self {
            known: Matrix::zeros(d, 0),
            counts: ColumnCounts {
                principal: 0,
                has_mean: false,
                augmented: 0,
            },
            directions: Mat::zeros(d, 0),
            variance: Vec::new(),
            total_variance: 0.0,
        }
    }

    /// Takes in the columns X `[d, r]` of one adapter. If more than the share `residual` of ‖X‖² lies
    /// outside the basis, it grows by the leading left singular vectors of (I − UUᵀ)·X, as few as
    /// leave at most that share outside.
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite columns don't lead to.
    pub fn take_in(
        &mut self,
        columns: MatRef<'_, f64>,
        residual: f64,
    ) -> Result<SideGrowth, DecompositionError> {
        let energy = columns.squared_norm_l2();
        let outside = self.outside(columns);
        let before = outside.squared_norm_l2();
        let mut remaining = before;
        let allowed = energy * residual.max(RESIDUAL_FLOOR);
        let mut added = 0;
        if remaining > allowed {
            let mut svd = ThinSvd::new(outside.as_ref())?;
            point_dominant_entries_up(&mut svd.u);
            for (column, value) in svd.s.iter().enumerate() {
                let share = value.powi(2);
                if remaining <= allowed || share <= energy * RESIDUAL_FLOOR {
                    break;
                }
                let vector = Mat::from_fn(svd.u.nrows(), 1, |row, _| svd.u[(row, column)]);
                let Some((direction, _)) = normalised(vector, &self.directions) else {
                    break;
                };
                let directions = std::mem::replace(&mut self.directions, Mat::new());
                self.directions = with_column(directions, &direction);
                self.variance.push(0.0);
                remaining = (remaining - share).max(0.0);
                added += 1;
            }
        }
        let inside = product(self.directions.transpose(), columns);
        for (row, variance) in self.variance.iter_mut().enumerate() {
            *variance += inside.row(row).squared_norm_l2();
        }
        self.total_variance += energy;
        Ok(SideGrowth {
            columns: self.directions.ncols() - added,
            added,
            energy,
            outside: before,
            remaining,
        })
    }

    /// (I − UUᵀ)·X, twice: the second pass removes the rounding of the first.
    fn outside(&self, columns: MatRef<'_, f64>) -> Mat<f64> {
        let mut outside = columns.to_owned();
        for _ in 0..2 {
            let inside = product(self.directions.transpose(), outside.as_ref());
            outside -= product(self.directions.as_ref(), inside.as_ref());
        }
        outside
    }

    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.directions.ncols()
    }

    /// The basis: its columns as they were, what came in after the principal ones, and before the mean
    /// and the random columns.
    ///
    /// - augmentation: random columns to add, of a module that is new
    pub fn into_basis(self, augmentation: Option<&Augmentation<'_>>) -> Basis {
        let known = self.known.cols();
        let principal = self.counts.principal;
        let grown = self.directions.ncols();
        let order: Vec<usize> = (0..principal)
            .chain(known..grown)
            .chain(principal..known)
            .collect();
        let fresh = to_f32(self.directions.as_ref().subcols(known, grown - known));
        let mut vectors = Matrix::from_fn(self.known.rows(), grown, |row, col| match order[col] {
            old if old < known => self.known.get(row, old),
            new => fresh.get(row, new - known),
        });
        let mut variance: Vec<f32> = order
            .iter()
            .map(|&column| finite_f32(self.variance[column]))
            .collect();
        let mut counts = ColumnCounts {
            principal: principal + grown - known,
            ..self.counts
        };
        if let Some(augmentation) = augmentation {
            // Only a new module has them to come, and its directions are in their final order.
            let extended = augmentation.extend(self.directions);
            let random = to_f32(extended.as_ref().subcols(grown, extended.ncols() - grown));
            counts.augmented += random.cols();
            vectors = Matrix::from_fn(vectors.rows(), grown + random.cols(), |row, col| match col
                .checked_sub(grown)
            {
                None => vectors.get(row, col),
                Some(random_column) => random.get(row, random_column),
            });
            variance.resize(vectors.cols(), 0.0);
        }
        Basis::new(vectors, variance, self.total_variance, counts)
    }
}
