//! The updates of one module in coordinates that all of them share: `ΔW_t = U · N_t · Vᵀ`.

use eigenmix_eigenlorax::decomposition::{DecompositionError, product};
use faer::MatRef;

use crate::factors::{Factors, stacked_left, stacked_right};
use crate::stack_basis::StackBasis;

/// The singular bases of the stacked factors of one module, and each adapter in them.
///
/// `[s_1B_1 … s_TB_T] = U · C_L` and `[A_1ᵀ … A_Tᵀ] = V · C_R`, so with the columns of adapter t,
/// `N_t = C_L,t · C_R,tᵀ`: nothing is lost, because U and V span all factors.
pub(crate) struct Coordinates {
    /// U: `[d_out, p]`, p = min(d_out, Σr).
    pub(crate) left: StackBasis,
    /// V: `[d_in, q]`, q = min(d_in, Σr).
    pub(crate) right: StackBasis,
    /// `[d_out, d_in]`.
    pub(crate) shape: [usize; 2],
    pub(crate) ranks: Vec<usize>,
    /// [p, q] before the updates were projected on fewer directions, if they were: then the factors of
    /// the adapters are no longer theirs.
    pub(crate) uncompressed: Option<[usize; 2]>,
}

impl Coordinates {
    /// The scaling goes into the left stack, as U then belongs to the updates as they act; of
    /// adapters with equal scalings, as the authors merge them, it changes nothing.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub(crate) fn new(tasks: &[Factors<'_>]) -> Result<Self, DecompositionError> {
        let (left, right) = rayon::join(
            || StackBasis::new(stacked_left(tasks)),
            || StackBasis::new(stacked_right(tasks)),
        );
        Ok(Self {
            left: left?,
            right: right?,
            shape: [tasks[0].b.rows(), tasks[0].a.cols()],
            ranks: tasks.iter().map(|task| task.rank()).collect(),
            uncompressed: None,
        })
    }

    /// (C_L,t `[p, r_t]`, C_R,t `[q, r_t]`) of every adapter.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (MatRef<'_, f64>, MatRef<'_, f64>)> {
        let mut first = 0;
        self.ranks.iter().map(move |&rank| {
            let columns = (
                self.left.coordinates.as_ref().subcols(first, rank),
                self.right.coordinates.as_ref().subcols(first, rank),
            );
            first += rank;
            columns
        })
    }

    /// ‖ΔW_t‖ = ‖N_t‖ of every adapter, Frobenius.
    pub(crate) fn norms(&self) -> Vec<f64> {
        self.tasks()
            .map(|(left, right)| product(left, right.transpose()).norm_l2())
            .collect()
    }
}
