//! Spaces: the representation of an update that a method sees, and the way back.

use eigenmix_eigenlorax::decomposition::{DecompositionError, product, to_f32};
use eigenmix_tensors::Matrix;
use faer::{Mat, MatRef};

use crate::coordinates::Coordinates;
use crate::knots_space::KnotsRows;
use crate::names::by_name;
use crate::stack_basis::StackBasis;
use crate::{core_space, full_space, knots_space};

/// The representation in which adapters are merged. Sums and averages are the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// `τ_t = ΔW_t` `[m, n]`. Entrywise methods form one dense module at a time, and their result
    /// has full rank unless a rank is requested.
    Full,
    /// `τ_t = Σ·V_tᵀ` `[k, n]` of `[ΔW_1 … ΔW_T] = U·Σ·[V_1ᵀ … V_Tᵀ]` (arXiv 2410.19735).
    Knots,
    /// `τ_t = Uᵀ·ΔW_t·V` `[p, q]`, U and V the singular bases of the stacked factors
    /// (arXiv 2509.17786).
    Core,
}

by_name!(
    Space,
    "space",
    "The coordinates in which updates are compared."
);

impl Space {
    pub const ALL: [Self; 3] = [Self::Full, Self::Knots, Self::Core];

    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Knots => "knots",
            Self::Core => "core",
        }
    }

    /// The space as it is for one module.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub(crate) fn frame(
        self,
        coordinates: &Coordinates,
        rows: KnotsRows,
    ) -> Result<Frame, DecompositionError> {
        match self {
            Self::Full => Ok(full_space::frame()),
            Self::Knots => knots_space::frame(coordinates, rows),
            Self::Core => Ok(core_space::frame(coordinates)),
        }
    }
}

/// How a representation τ relates to an update on each side of a module:
/// `τ = G_L · Uᵀ·ΔW·V · G_Rᵀ` and `ΔW = U · H_L·τ·H_Rᵀ · Vᵀ`.
pub(crate) struct Frame {
    pub(crate) left: Side,
    pub(crate) right: Side,
}

/// One side of a representation.
pub(crate) enum Side {
    /// The rows (or columns) are those of ΔW itself. If no single entry matters, they stay in the
    /// coordinates of U (or V), which are equivalent.
    Ambient,
    /// The rows (or columns) are k directions in the span of U (or V).
    Reduced {
        /// G, from coordinates to the representation: `[k, p]`.
        analysis: Mat<f64>,
        /// H, the way back: `[p, k]`.
        synthesis: Mat<f64>,
    },
}

impl Side {
    /// How many rows (or columns) the representation has; `ambient` is how many ΔW has.
    fn len(&self, ambient: usize) -> usize {
        match self {
            Self::Ambient => ambient,
            Self::Reduced { analysis, .. } => analysis.nrows(),
        }
    }

    /// `G · columns`: `[p, r] → [k, r]`.
    fn analysed(&self, columns: MatRef<'_, f64>) -> Mat<f64> {
        match self {
            Self::Ambient => columns.to_owned(),
            Self::Reduced { analysis, .. } => product(analysis.as_ref(), columns),
        }
    }

    /// `H · rows`: `[k, c] → [p, c]`.
    pub(crate) fn synthesised(&self, rows: Mat<f64>) -> Mat<f64> {
        match self {
            Self::Ambient => rows,
            Self::Reduced { synthesis, .. } => product(synthesis.as_ref(), rows.as_ref()),
        }
    }

    /// Each adapter's columns in the representation, where they are not those of ΔW.
    ///
    /// - basis: U (or V), where the updates are projected and the adapters' own factors are not those
    ///   of ΔW
    fn reduced<'a>(
        &self,
        columns: impl Iterator<Item = MatRef<'a, f64>>,
        basis: Option<&StackBasis>,
    ) -> Option<Vec<Matrix>> {
        match (self, basis) {
            (Self::Reduced { .. }, _) => Some(
                columns
                    .map(|columns| to_f32(self.analysed(columns).as_ref()))
                    .collect(),
            ),
            (Self::Ambient, Some(basis)) => Some(
                columns
                    .map(|columns| to_f32(basis.times(&columns.to_owned()).as_ref()))
                    .collect(),
            ),
            (Self::Ambient, None) => None,
        }
    }
}

impl Frame {
    /// `[rows, cols]` of a representation.
    pub(crate) fn shape(&self, coordinates: &Coordinates) -> [usize; 2] {
        let [d_out, d_in] = coordinates.shape;
        [self.left.len(d_out), self.right.len(d_in)]
    }

    /// How many singular values a representation has, the zeros counted.
    ///
    /// Of projected updates as many as before: methods keep a share of them, and of fewer directions
    /// nothing is to be left out a second time.
    pub(crate) fn size(&self, coordinates: &Coordinates) -> usize {
        let [rows, cols] = self.shape(coordinates);
        let [p, q] = coordinates.uncompressed.unwrap_or([rows, cols]);
        let before = |side: &Side, now, before| match side {
            Side::Ambient => now,
            Side::Reduced { .. } => before,
        };
        before(&self.left, rows, p).min(before(&self.right, cols, q))
    }

    /// `w_t · τ_t` of every adapter, ambient sides in the coordinates of U or V: what methods see
    /// that depend on singular values and linear combinations only.
    pub(crate) fn matrices(&self, coordinates: &Coordinates, weights: &[f64]) -> Vec<Mat<f64>> {
        coordinates
            .tasks()
            .zip(weights)
            .map(|((left, right), &weight)| {
                let (left, right) = (self.left.analysed(left), self.right.analysed(right));
                faer::Scale(weight) * product(left.as_ref(), right.transpose())
            })
            .collect()
    }

    /// The reduced sides of every adapter as thin factors, for methods that see single entries.
    pub(crate) fn reduced_factors(&self, coordinates: &Coordinates) -> ReducedFactors {
        let basis = |basis| coordinates.uncompressed.and(Some(basis));
        let right = self.right.reduced(
            coordinates.tasks().map(|(_, right)| right),
            basis(&coordinates.right),
        );
        ReducedFactors {
            shape: self.shape(coordinates),
            left: self.left.reduced(
                coordinates.tasks().map(|(left, _)| left),
                basis(&coordinates.left),
            ),
            right: right.map(|tasks| tasks.iter().map(Matrix::transposed).collect()),
        }
    }
}

/// `τ_t = L_t · R_t`, of which the sides that are reduced are small enough to keep; the ambient
/// ones are the adapter's own s·B and A, unless the updates are projected.
pub(crate) struct ReducedFactors {
    /// `[rows, cols]` of τ_t.
    pub(crate) shape: [usize; 2],
    /// L_t, the scaling in it: `[rows, r_t]`.
    pub(crate) left: Option<Vec<Matrix>>,
    /// R_t: `[r_t, cols]`.
    pub(crate) right: Option<Vec<Matrix>>,
}
