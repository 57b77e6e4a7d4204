//! The principal components of one side of one module: PCA of the stacked factor columns.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

use crate::augmentation::{Augmentation, normalised};
use crate::basis::{Basis, ColumnCounts};
use crate::decomposition::{
    DecompositionError, SymmetricEigen, dominant_entry, orthonormalised, product, to_f32,
    with_column,
};
use crate::options::Components;

/// Components with less than this share of the largest variance are rounding: the columns come from
/// f32 files, whose relative rounding of 1e-7 is squared in a variance. Larger ones can be
/// distinguished in a Gram or scatter matrix in f64, although these square the condition number.
const VARIANCE_FLOOR: f64 = 1e-14;

/// How many columns are gathered before they go into a scatter matrix together.
const PANEL: usize = 256;

/// The columns x₁ … xₙ of one side, X `[d, n]`, as they come in adapter by adapter.
///
/// Up to n = d they are kept, and decomposed through their Gram matrix XᵀX `[n, n]`. Beyond, only
/// the scatter matrix X·Xᵀ `[d, d]` is kept, so that any number of adapters streams through the
/// same memory.
pub(crate) struct Columns {
    gathered: Mat<f64>,
    filled: usize,
    scatter: Option<Mat<f64>>,
    sum: Mat<f64>,
    count: usize,
}

impl Columns {
    /// Room for columns of width `d`, of which at most `expected` will come.
    pub fn new(d: usize, expected: usize) -> Self {
        let streams = expected > d;
        Self {
            gathered: Mat::zeros(
                d,
                if streams {
                    PANEL.min(expected)
                } else {
                    expected
                },
            ),
            filled: 0,
            scatter: streams.then(|| Mat::zeros(d, d)),
            sum: Mat::zeros(d, 1),
            count: 0,
        }
    }

    /// Takes in the columns of one adapter: `[d, r]`.
    pub fn push(&mut self, columns: MatRef<'_, f64>) {
        for column in 0..columns.ncols() {
            if self.filled == self.gathered.ncols() {
                self.flush();
            }
            let source = columns.col(column);
            self.gathered
                .as_mut()
                .col_mut(self.filled)
                .copy_from(source);
            for (sum, entry) in self.sum.as_mut().col_mut(0).iter_mut().zip(source.iter()) {
                *sum += entry;
            }
            self.filled += 1;
            self.count += 1;
        }
    }

    /// Adds what is gathered to the scatter matrix, of which only the lower triangle is kept.
    fn flush(&mut self) {
        let panel = self.gathered.as_ref().subcols(0, self.filled);
        let scatter = self
            .scatter
            .as_mut()
            .expect("a stack has room for all the columns it was made for");
        add_outer_product(scatter, panel, 1.0);
        self.filled = 0;
    }

    /// The basis of the columns so far.
    ///
    /// Uncentred, the components are the left singular vectors of X. Centred, they are those of X −
    /// μ·1ᵀ, and what they miss of the mean column μ becomes one more column, because the mean
    /// alone explains much of what a new task gains.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite columns don't lead to.
    pub fn into_basis(
        mut self,
        components: Components,
        center: bool,
        augmentation: Option<&Augmentation<'_>>,
    ) -> Result<PrincipalBasis, DecompositionError> {
        let d = self.sum.nrows();
        let mean = center.then(|| {
            let count = self.count.max(1) as f64;
            Mat::from_fn(d, 1, |row, _| self.sum[(row, 0)] / count)
        });
        let mean_energy = mean
            .as_ref()
            .map_or(0.0, |mean| self.count as f64 * mean.squared_norm_l2());
        let count = self.count;

        let spectrum = if self.scatter.is_some() {
            self.flush();
            ColumnSpectrum::of_scatter(self, mean.as_ref())?
        } else {
            ColumnSpectrum::of_stack(self, mean.as_ref())?
        };
        let available = spectrum.available(mean_energy);
        let total: f64 = spectrum.variances.iter().map(|value| value.max(0.0)).sum();
        let principal = components.chosen(&spectrum.variances[..available], total);

        let mut vectors = spectrum.vectors(principal);
        point_dominant_entries_up(&mut vectors);
        let mut variance: Vec<f32> = spectrum.variances[..principal]
            .iter()
            .map(|&value| finite_f32(value))
            .collect();

        let mut has_mean = false;
        if let Some((direction, norm)) = mean.and_then(|mean| normalised(mean, &vectors)) {
            let missed = count as f64 * norm.powi(2);
            if missed > VARIANCE_FLOOR * (total + mean_energy) {
                vectors = with_column(vectors, &direction);
                variance.push(finite_f32(missed));
                has_mean = true;
            }
        }
        let before = vectors.ncols();
        let vectors = match augmentation {
            Some(augmentation) => augmentation.extend(vectors),
            None => vectors,
        };
        let augmented = vectors.ncols() - before;
        variance.resize(vectors.ncols(), 0.0);

        let basis = Basis::new(
            to_f32(vectors.as_ref()),
            variance,
            total,
            ColumnCounts {
                principal,
                has_mean,
                augmented,
            },
        );
        Ok(PrincipalBasis { basis, available })
    }
}

/// A basis, and how many principal components were available.
pub(crate) struct PrincipalBasis {
    pub basis: Basis,
    pub available: usize,
}

/// The variances of a set of columns, largest first, and the way to their directions.
struct ColumnSpectrum {
    variances: Vec<f64>,
    directions: Directions,
}

enum Directions {
    /// XᵀX = W·Λ·Wᵀ: the directions are X·W/√Λ, computed for the columns that are kept.
    OfStack {
        stack: Mat<f64>,
        gram_vectors: Mat<f64>,
    },
    /// The eigenvectors of the scatter matrix.
    OfScatter(Mat<f64>),
}

impl ColumnSpectrum {
    fn of_stack(columns: Columns, mean: Option<&Mat<f64>>) -> Result<Self, DecompositionError> {
        let mut stack = columns.gathered;
        // An adapter whose rank is below its factors' leaves the end of the stack empty.
        stack.truncate(stack.nrows(), columns.filled);
        if let Some(mean) = mean {
            for column in 0..stack.ncols() {
                let entries = stack.as_mut().col_mut(column).iter_mut();
                entries
                    .zip(mean.col(0).iter())
                    .for_each(|(entry, mean)| *entry -= mean);
            }
        }
        let mut gram = Mat::zeros(stack.ncols(), stack.ncols());
        add_outer_product(&mut gram, stack.transpose(), 1.0);
        let eigen = SymmetricEigen::new(gram.as_ref())?;
        let directions = Directions::OfStack {
            stack,
            gram_vectors: eigen.vectors,
        };
        Ok(Self {
            variances: eigen.values,
            directions,
        })
    }

    fn of_scatter(columns: Columns, mean: Option<&Mat<f64>>) -> Result<Self, DecompositionError> {
        let mut scatter = columns.scatter.expect("asked of columns that stream");
        if let Some(mean) = mean {
            add_outer_product(&mut scatter, mean.as_ref(), -(columns.count as f64));
        }
        let eigen = SymmetricEigen::new(scatter.as_ref())?;
        Ok(Self {
            variances: eigen.values,
            directions: Directions::OfScatter(eigen.vectors),
        })
    }

    /// How many of the variances are more than rounding, where the mean, which was subtracted, had
    /// `mean_energy`.
    fn available(&self, mean_energy: f64) -> usize {
        // Eigenvalues in f64 are exact to about size·ε of the largest.
        let resolution = VARIANCE_FLOOR.max(self.variances.len() as f64 * f64::EPSILON);
        let strongest = self
            .variances
            .first()
            .copied()
            .unwrap_or(0.0)
            .max(mean_energy);
        self.variances
            .iter()
            .take_while(|&&value| value > resolution * strongest)
            .count()
    }

    /// The first `count` directions: `[d, count]`.
    fn vectors(&self, count: usize) -> Mat<f64> {
        match &self.directions {
            Directions::OfScatter(vectors) => vectors.as_ref().subcols(0, count).to_owned(),
            Directions::OfStack {
                stack,
                gram_vectors,
            } => {
                let mut vectors = product(stack.as_ref(), gram_vectors.as_ref().subcols(0, count));
                for column in 0..count {
                    // Columns are of size one or larger here: no need for a norm that guards against underflow.
                    let norm = vectors.col(column).squared_norm_l2().sqrt();
                    vectors
                        .as_mut()
                        .col_mut(column)
                        .iter_mut()
                        .for_each(|entry| *entry /= norm);
                }
                // The weaker a direction, the more of the stronger ones has rounded into it.
                orthonormalised(vectors)
            }
        }
    }
}

/// `scatter += weight · panel · panelᵀ`, in the lower triangle.
fn add_outer_product(scatter: &mut Mat<f64>, panel: MatRef<'_, f64>, weight: f64) {
    triangular::matmul(
        scatter.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Add,
        panel,
        BlockStructure::Rectangular,
        panel.transpose(),
        BlockStructure::Rectangular,
        weight,
        Par::Seq,
    );
}

/// Chooses between v and −v, which are the same component, so that the basis is deterministic.
pub(crate) fn point_dominant_entries_up(vectors: &mut Mat<f64>) {
    for column in 0..vectors.ncols() {
        if dominant_entry(vectors.as_ref(), column) < 0.0 {
            vectors
                .as_mut()
                .col_mut(column)
                .iter_mut()
                .for_each(|entry| *entry = -*entry);
        }
    }
}

/// `value` rounded to f32, at most its largest number: a variance is a square.
pub(crate) fn finite_f32(value: f64) -> f32 {
    value.min(f64::from(f32::MAX)) as f32
}
