//! The two bases of a module in a store, and an update on them.

use eigenmix_eigenlorax::decomposition::{
    DecompositionError, ThinQr, beside, product, to_f32, to_f64,
};
use eigenmix_eigenlorax::{Components, LowRank, shared_bases};
use eigenmix_tensors::{FileError, Matrix};
use faer::Mat;

use crate::diagonal_fit::{diagonal_bases, diagonal_of, hadamard_inverse, pseudo_inverse};
use crate::pack::{CoefficientKind, PackOptions};
use crate::stored_tensor::StoredTensor;

/// U and V of a module as they are kept: a direction a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredBases {
    /// Uᵀ: `[p, d_out]`.
    pub left: StoredTensor,
    /// Vᵀ: `[q, d_in]`.
    pub right: StoredTensor,
}

impl StoredBases {
    /// The bases of `updates`, which may have any norm.
    pub fn fit(
        path: &str,
        updates: &[LowRank],
        shape: [usize; 2],
        options: &PackOptions,
    ) -> Result<Self, FitError> {
        let units: Vec<LowRank> = updates
            .iter()
            .map(|update| {
                // Balanced: orthogonal columns, and directions that are rounding dropped.
                let mut unit = update.balanced()?;
                let norm = unit.norm();
                if norm > 0.0 {
                    unit.left *= faer::Scale(1.0 / norm);
                }
                Ok(unit)
            })
            .collect::<Result<_, DecompositionError>>()?;
        let [u, v] = fitted(&units, shape, options.coefficients, options.components)?;
        let stored = |side: &str, vectors: &Mat<f64>| {
            let directions = to_f32(vectors.transpose());
            let name = format!("{path}/{side}");
            StoredTensor::new(
                &name,
                &directions.shape(),
                directions.values(),
                options.basis_precision,
            )
        };
        Ok(Self {
            left: stored("left", &u)?,
            right: stored("right", &v)?,
        })
    }

    /// `[p, q]`.
    pub fn columns(&self) -> [usize; 2] {
        [self.left.shape()[0], self.right.shape()[0]]
    }

    /// Both sides as they are read: `[d_out, p]` and `[d_in, q]`.
    pub fn read(&self) -> Bases {
        let side = |stored: &StoredTensor| {
            let [rows, width] = [stored.shape()[0], stored.shape()[1]];
            let directions = to_f64(&Matrix::new(rows, width, stored.values()));
            directions.transpose().to_owned()
        };
        Bases {
            left: side(&self.left),
            right: side(&self.right),
        }
    }
}

/// Why bases could not be found or kept.
#[derive(Debug)]
pub(crate) enum FitError {
    Decomposition(DecompositionError),
    File(FileError),
}

impl From<DecompositionError> for FitError {
    fn from(error: DecompositionError) -> Self {
        Self::Decomposition(error)
    }
}

impl From<FileError> for FitError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// U `[d_out, p]` and V `[d_in, q]`, found in the span of all updates, which is small.
fn fitted(
    units: &[LowRank],
    [d_out, d_in]: [usize; 2],
    kind: CoefficientKind,
    components: Components,
) -> Result<[Mat<f64>; 2], DecompositionError> {
    let columns: usize = units.iter().map(LowRank::rank).sum();
    if columns == 0 {
        return Ok([Mat::zeros(d_out, 0), Mat::zeros(d_in, 0)]);
    }
    let stacked = |side: fn(&LowRank) -> &Mat<f64>, width: usize| {
        ThinQr::new(beside(width, units.iter().map(|unit| side(unit).as_ref())))
    };
    let left = stacked(|unit| &unit.left, d_out);
    let right = stacked(|unit| &unit.right, d_in);
    let (left_r, right_r) = (left.r(), right.r());
    let mut start = 0;
    let coordinates: Vec<LowRank> = units
        .iter()
        .map(|unit| {
            let block = |r: &Mat<f64>| r.as_ref().subcols(start, unit.rank()).to_owned();
            let update = LowRank {
                left: block(&left_r),
                right: block(&right_r),
            };
            start += unit.rank();
            update
        })
        .collect();
    let [u, v] = match kind {
        CoefficientKind::Full => shared_bases(&coordinates, components)?,
        CoefficientKind::Diagonal => diagonal_bases(&coordinates, components)?,
    };
    Ok([left.q_times(u.as_ref()), right.q_times(v.as_ref())])
}

/// U `[d_out, p]` and V `[d_in, q]` after rounding, so that they are only nearly orthonormal.
pub(crate) struct Bases {
    pub left: Mat<f64>,
    pub right: Mat<f64>,
}

/// What least squares on [`Bases`] needs, once for all adapters.
pub(crate) enum Fit {
    /// The pseudo-inverses of UᵀU and VᵀV.
    Full { left: Mat<f64>, right: Mat<f64> },
    /// That of UᵀU ∘ VᵀV.
    Diagonal(Mat<f64>),
}

impl Bases {
    pub fn fit(&self, kind: CoefficientKind) -> Result<Fit, DecompositionError> {
        let gram = |side: &Mat<f64>| product(side.transpose(), side.as_ref());
        Ok(match kind {
            CoefficientKind::Full => Fit::Full {
                left: pseudo_inverse(gram(&self.left).as_ref())?,
                right: pseudo_inverse(gram(&self.right).as_ref())?,
            },
            CoefficientKind::Diagonal => {
                Fit::Diagonal(hadamard_inverse(self.left.as_ref(), self.right.as_ref())?)
            }
        })
    }

    /// The coefficients of `update` as the rows that are kept: full ones `[p, q]`, or where that is
    /// smaller `[rank, p + q]`, the two factors of Σ_t side by side; diagonal ones `[1, R]`.
    pub fn coefficients(&self, update: &LowRank, fit: &Fit) -> Result<Matrix, DecompositionError> {
        let (left, right) = match fit {
            Fit::Diagonal(inverse) => {
                let scales = diagonal_of(update, self.left.as_ref(), self.right.as_ref(), inverse);
                return Ok(to_f32(scales.transpose()));
            }
            Fit::Full { left, right } => (left, right),
        };
        let side = |inverse: &Mat<f64>, basis: &Mat<f64>, factor: &Mat<f64>| {
            let products = product(basis.transpose(), factor.as_ref());
            product(inverse.as_ref(), products.as_ref())
        };
        let inner = LowRank {
            left: side(left, &self.left, &update.left),
            right: side(right, &self.right, &update.right),
        };
        let [p, q] = [inner.left.nrows(), inner.right.nrows()];
        let factors = inner.balanced()?;
        let rank = factors.rank();
        if rank * (p + q) < p * q {
            return Ok(Matrix::from_fn(rank, p + q, |row, column| {
                let entry = match column.checked_sub(p) {
                    None => factors.left[(column, row)],
                    Some(column) => factors.right[(column, row)],
                };
                entry as f32
            }));
        }
        Ok(to_f32(
            product(inner.left.as_ref(), inner.right.transpose()).as_ref(),
        ))
    }

    /// The update that kept coefficients stand for, of at most `rank` directions.
    pub fn update(
        &self,
        coefficients: &Matrix,
        kind: CoefficientKind,
        rank: usize,
    ) -> Result<LowRank, DecompositionError> {
        let [p, q] = [self.left.ncols(), self.right.ncols()];
        let kept = to_f64(coefficients);
        let update = match kind {
            CoefficientKind::Diagonal => LowRank {
                left: Mat::from_fn(self.left.nrows(), p, |row, column| {
                    self.left[(row, column)] * kept[(0, column)]
                }),
                right: self.right.clone(),
            },
            CoefficientKind::Full if kept.ncols() == p + q => {
                let part = |start, count| kept.as_ref().subcols(start, count);
                LowRank {
                    left: product(self.left.as_ref(), part(0, p).transpose()),
                    right: product(self.right.as_ref(), part(p, q).transpose()),
                }
            }
            CoefficientKind::Full => LowRank {
                left: product(self.left.as_ref(), kept.as_ref()),
                right: self.right.clone(),
            },
        };
        if update.rank() <= rank {
            return Ok(update);
        }
        let mut best = update.balanced()?;
        let kept = rank.min(best.rank());
        let [rows, cols] = [best.left.nrows(), best.right.nrows()];
        best.left.truncate(rows, kept);
        best.right.truncate(cols, kept);
        Ok(best)
    }
}
