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
use crate::decomposition::{DecompositionError, product, to_f32};
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
    /// the rest is zero, of a higher one the leading directions count.
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

    /// The coefficients of an update: `[p, 1]` and `[q, 1]`.
    ///
    /// # Errors
    /// As [`Flattened::vectors`].
    pub(crate) fn coefficients(
        self,
        subspace: &ModuleSubspace,
        module: &LoraModule,
    ) -> Result<Coefficients, DecompositionError> {
        let vectors = self.vectors(LowRank::of(module))?;
        let coefficients = |basis: &Basis, vector: &Mat<f64>| {
            to_f32(product(basis.to_f64().transpose(), vector.as_ref()).as_ref())
        };
        Ok(Coefficients {
            left: coefficients(&subspace.left, &vectors.left),
            right: coefficients(&subspace.right, &vectors.right),
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
