//! An adapter on a subspace: its coefficients, and back to plain LoRA factors.

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::basis::Basis;
use crate::decomposition::{DecompositionError, product, to_f32, to_f64};
use crate::low_rank::LowRank;
use crate::subspace::ModuleSubspace;

/// The EigenLoRAx coefficients of one module: `ΔW ≈ U · L_B · L_Aᵀ · Vᵀ`; of a flattened subspace a number for
/// each direction of a side, `[p, 1]` and `[q, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients {
    /// L_B: `[p, rank]`.
    pub left: Matrix,
    /// L_A: `[q, rank]`.
    pub right: Matrix,
}

impl Coefficients {
    /// `L_B = Uᵀ·B`, `L_A = Vᵀ·Aᵀ` of the balanced factors of `module`: the least squares fit,
    /// because the columns of U `[d_out, p]` and V `[d_in, q]` are orthonormal. The rank is that of
    /// the factors; where ΔW has a lower one, the last columns of both are zero.
    ///
    /// # Errors
    /// If the decomposition that balances the factors fails, which finite values don't lead to.
    ///
    /// # Panics
    /// If the shape of `module` isn't that of `subspace`; [`crate::Subspace::module_for`] checks.
    pub fn of(subspace: &ModuleSubspace, module: &LoraModule) -> Result<Self, DecompositionError> {
        if let Some(flattened) = subspace.flattened {
            return flattened.coefficients(subspace, module);
        }
        let update = LowRank::of(module).balanced()?;
        let coefficients = |basis: &Basis, factor: &Mat<f64>| {
            let mut columns = product(basis.to_f64().transpose(), factor.as_ref());
            columns.resize_with(basis.columns(), module.rank(), |_, _| 0.0);
            to_f32(columns.as_ref())
        };
        Ok(Self {
            left: coefficients(&subspace.left, &update.left),
            right: coefficients(&subspace.right, &update.right),
        })
    }

    /// The plain LoRA module they stand for: `B = U·L_B` `[d_out, rank]`, `A = L_Aᵀ·Vᵀ`
    /// `[rank, d_in]`, scaling 1.
    ///
    /// # Panics
    /// If there are not as many rows of coefficients as columns in the basis.
    pub fn to_module(&self, subspace: &ModuleSubspace) -> LoraModule {
        if let Some(flattened) = subspace.flattened {
            return flattened.to_module(subspace, self);
        }
        let b = subspace.left.vectors().product(&self.left);
        let a = product(
            to_f64(&self.right).transpose(),
            subspace.right.to_f64().transpose(),
        );
        LoraModule::new(b, to_f32(a.as_ref()), 1.0)
    }
}

impl ModuleSubspace {
    /// The mixer that brings the update of `module` closest, `M = Uᵀ · ΔW · V` `[p, q]`, computed
    /// through the factors as `(Uᵀ·B') · (A·V)`.
    ///
    /// # Panics
    /// If the shape of `module` isn't that of this subspace; [`crate::Subspace::module_for`] checks. If the
    /// subspace is flattened.
    pub fn mixer_of(&self, module: &LoraModule) -> Matrix {
        self.assert_columns();
        let update = LowRank::of(module);
        let left = product(self.left.to_f64().transpose(), update.left.as_ref());
        let right = product(self.right.to_f64().transpose(), update.right.as_ref());
        to_f32(product(left.as_ref(), right.transpose()).as_ref())
    }

    /// The plain LoRA module with `ΔW = U · M · Vᵀ`, M `[p, q]` multiplied into the smaller side,
    /// so that its rank is min(p, q); scaling 1.
    ///
    /// # Panics
    /// If `mixer` isn't `[p, q]`, or the subspace is flattened.
    pub fn fold_mixer(&self, mixer: &Matrix) -> LoraModule {
        self.assert_columns();
        let [p, q] = mixer.shape();
        assert_eq!(
            [p, q],
            [self.left.columns(), self.right.columns()],
            "the mixer is [p, q]"
        );
        let right_transposed = self.right.vectors().transposed();
        if p <= q {
            LoraModule::new(
                self.left.vectors().clone(),
                mixer.product(&right_transposed),
                1.0,
            )
        } else {
            LoraModule::new(self.left.vectors().product(mixer), right_transposed, 1.0)
        }
    }
}
