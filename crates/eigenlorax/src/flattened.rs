//! The flattened kind of subspace: whole factors as directions (EigenLoRAx, arXiv 2502.04700, image
//! classification).
//!
//! A factor of an adapter is one vector, `vec(B_t)` of d_out · r numbers and `vec(A_tᵀ)` of d_in · r, and the
//! principal components of these over the adapters are the basis. A new task has one number for each
//! direction and side:
//!
//! ```text
//! B = Σ_k b_k · P_k        A = Σ_k a_k · Q_k        ΔW = B · A        P_k: [d_out, r]   Q_k: [r, d_in]
//! ```
//!
//! With the directions side by side this is the update of EigenLoRAx, `U · C_B · C_Aᵀ · Vᵀ`, with
//! U = [P₁ … P_K] `[d_out, K·r]` and C_B = b ⊗ I `[K·r, r]`. Vectors can only be compared if every adapter has
//! the same rank and splits ΔW in the same way: that of [`LowRank::balanced`], singular directions in their
//! order with a fixed sign.

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;
use faer::Mat;
use serde::{Deserialize, Serialize};

use crate::basis::Basis;
use crate::coefficients::Coefficients;
use crate::decomposition::{DecompositionError, SymmetricEigen, product, to_f32, to_f64};
use crate::low_rank::LowRank;
use crate::options::Factors;
use crate::subspace::ModuleSubspace;

/// What the columns of a flattened basis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flattened {
    /// r: the rank of all adapters.
    pub rank: usize,
    /// The form of the factors.
    pub factors: Factors,
}

impl Flattened {
    /// The factors of an update as one vector each: `[d_out · r, 1]` and `[d_in · r, 1]`. Of a rank below r
    /// the rest is zero, of a higher one the first columns count.
    ///
    /// # Errors
    /// If the decomposition fails, which finite values don't lead to.
    pub(crate) fn vectors(self, update: LowRank) -> Result<LowRank, DecompositionError> {
        let factors = self.factors.of(update)?;
        let vector = |factor: &Mat<f64>| {
            Mat::from_fn(factor.nrows() * self.rank, 1, |index, _| {
                let (row, column) = (index / self.rank, index % self.rank);
                match column < factor.ncols() {
                    true => factor[(row, column)],
                    false => 0.0,
                }
            })
        };
        Ok(LowRank {
            left: vector(&factors.left),
            right: vector(&factors.right),
        })
    }

    /// The coefficients of an update, `[p, 1]` and `[q, 1]`: those that bring B · A as close to ΔW as
    /// alternating least squares finds from the projection of its factors, split as the sources are. With all
    /// directions that is exact for a source; an adapter that was trained on the subspace is split in another
    /// way.
    ///
    /// # Errors
    /// As [`Flattened::vectors`].
    pub(crate) fn coefficients(
        self,
        subspace: &ModuleSubspace,
        module: &LoraModule,
    ) -> Result<Coefficients, DecompositionError> {
        let update = LowRank::of(module);
        // More columns than directions have, such as those of several adapters side by side, have no order
        // as they are stored.
        let factors = match update.rank() > self.rank {
            true => Factors::Balanced,
            false => self.factors,
        };
        let vectors = Self { factors, ..self }.vectors(update.clone())?;
        let projected =
            |basis: &Basis, vector: &Mat<f64>| product(basis.to_f64().transpose(), vector.as_ref());
        let start = [
            projected(&subspace.left, &vectors.left),
            projected(&subspace.right, &vectors.right),
        ];
        let [left, right] = subspace.side_by_side();
        let sides = [
            Directions::new(&left, &update.left, self.rank),
            Directions::new(&right, &update.right, self.rank),
        ];
        let [left, right] = fitted(&sides, &update, start)?;
        Ok(Coefficients {
            left: to_f32(left.as_ref()),
            right: to_f32(right.as_ref()),
        })
    }

    /// The plain LoRA module that coefficients `[p, 1]` and `[q, 1]` stand for.
    pub(crate) fn to_module(
        self,
        subspace: &ModuleSubspace,
        coefficients: &Coefficients,
    ) -> LoraModule {
        let factor = |basis: &Basis, coefficients: &Matrix| {
            let vector = basis.vectors().product(coefficients);
            let rows = basis.width() / self.rank;
            Matrix::new(rows, self.rank, vector.values().to_vec())
        };
        let b = factor(&subspace.left, &coefficients.left);
        let a = factor(&subspace.right, &coefficients.right).transposed();
        LoraModule::new(b, a, 1.0)
    }
}

/// The most rounds of alternating least squares, and the change of the coefficients at which they end.
const ROUNDS: usize = 100;
const SETTLED: f64 = 1e-9;

/// The directions of one side, and what the fit needs of them and of the update again and again.
struct Directions {
    /// [P₁ … P_K]: `[d, K·r]`.
    columns: Mat<f64>,
    /// The products of the columns with each other.
    gram: Mat<f64>,
    /// Those of the update's factor on this side with them: `[rank of the update, K·r]`.
    seen: Mat<f64>,
    /// r
    rank: usize,
}

impl Directions {
    fn new(side: &Matrix, near: &Mat<f64>, rank: usize) -> Self {
        let columns = to_f64(side);
        Self {
            gram: product(columns.transpose(), columns.as_ref()),
            seen: product(near.transpose(), columns.as_ref()),
            columns,
            rank,
        }
    }

    /// Σ_k c_k · P_k: `[d, r]`.
    fn sum(&self, coefficients: &Mat<f64>) -> Mat<f64> {
        Mat::from_fn(self.columns.nrows(), self.rank, |row, own| {
            (0..coefficients.nrows())
                .map(|place| {
                    coefficients[(place, 0)] * self.columns[(row, place * self.rank + own)]
                })
                .sum()
        })
    }

    /// The c that minimise ‖(Σ_k c_k · P_k) · Fᵀ − ΔW‖.
    ///
    /// - other: F `[d', r]`
    /// - far: the update's factor on the other side
    fn solution(&self, other: &Mat<f64>, far: &Mat<f64>) -> Result<Mat<f64>, DecompositionError> {
        let (rank, count) = (self.rank, self.columns.ncols() / self.rank);
        let inner = product(other.transpose(), other.as_ref());
        // Fᵀ · far · nearᵀ · [P₁ … P_K]: [r, K·r].
        let across = product(other.transpose(), far.as_ref());
        let seen = product(across.as_ref(), self.seen.as_ref());
        let normal = Mat::from_fn(count, count, |row, column| {
            let mut sum = 0.0;
            for first in 0..rank {
                for second in 0..rank {
                    sum += self.gram[(row * rank + first, column * rank + second)]
                        * inner[(first, second)];
                }
            }
            sum
        });
        let target = Mat::from_fn(count, 1, |place, _| {
            (0..rank).map(|own| seen[(own, place * rank + own)]).sum()
        });
        // Directions that cancel each other have no solution of their own.
        let SymmetricEigen { values, vectors } = SymmetricEigen::new(normal.as_ref())?;
        let strongest = values.first().copied().unwrap_or(0.0);
        let mut inside = product(vectors.transpose(), target.as_ref());
        for (place, &value) in values.iter().enumerate() {
            let is_resolved = value > 1e-12 * strongest;
            inside[(place, 0)] = if is_resolved {
                inside[(place, 0)] / value
            } else {
                0.0
            };
        }
        Ok(product(vectors.as_ref(), inside.as_ref()))
    }
}

/// The coefficients of both sides, of one norm.
fn fitted(
    [left, right]: &[Directions; 2],
    update: &LowRank,
    [mut ours, mut theirs]: [Mat<f64>; 2],
) -> Result<[Mat<f64>; 2], DecompositionError> {
    for _ in 0..ROUNDS {
        if ours.norm_l2() == 0.0 || theirs.norm_l2() == 0.0 {
            break;
        }
        let before = product(ours.as_ref(), theirs.transpose());
        ours = left.solution(&right.sum(&theirs), &update.right)?;
        theirs = right.solution(&left.sum(&ours), &update.left)?;
        let change = &before - product(ours.as_ref(), theirs.transpose());
        if change.norm_l2() <= SETTLED * before.norm_l2() {
            break;
        }
    }
    let (own, other) = (ours.norm_l2(), theirs.norm_l2());
    if own > 0.0 && other > 0.0 {
        ours *= faer::Scale((other / own).sqrt());
        theirs *= faer::Scale((own / other).sqrt());
    }
    Ok([ours, theirs])
}

impl ModuleSubspace {
    /// U and V as the adapted layer multiplies by them: of columns the bases themselves, `[d_out, p]` and
    /// `[d_in, q]`; of flattened factors the directions side by side, `[d_out, p·r]` and `[d_in, q·r]`.
    pub fn side_by_side(&self) -> [Matrix; 2] {
        [&self.left, &self.right].map(|basis| {
            let Some(Flattened { rank, .. }) = self.flattened else {
                return basis.vectors().clone();
            };
            let rows = basis.width() / rank;
            Matrix::from_fn(rows, basis.columns() * rank, |row, column| {
                let (direction, own) = (column / rank, column % rank);
                basis.vectors().get(row * rank + own, direction)
            })
        })
    }
}
