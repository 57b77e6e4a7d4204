//! Compress, then merge (arXiv 2606.03723): all adapters in one subspace of rank R a side, so that
//! their merge has rank R by construction.

use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_eigenlorax::{Components, LowRank, shared_bases};

use crate::coordinates::Coordinates;

impl Coordinates {
    /// The updates projected on R directions a side that all adapters share:
    /// `ΔW_t → P·Pᵀ · ΔW_t · Q·Qᵀ`.
    ///
    /// P `[p, R]` and Q `[q, R]` are those of [`shared_bases`]: they keep most of
    /// `X_t = ΔW_t / ‖ΔW_t‖`, in the sense of `Σ_t ‖Pᵀ·X_t·Q‖²`. With norms of 1 a loud adapter
    /// does not drown the others (β = 0 in the paper); what is projected, and merged then, are the
    /// updates themselves. The new coordinates are in the order of the directions, strongest first.
    ///
    /// Where no side has more than R directions, nothing changes.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub(crate) fn compressed(self, rank: usize) -> Result<Self, DecompositionError> {
        let sizes = [self.left.size(), self.right.size()];
        if sizes.iter().all(|&size| size <= rank) {
            return Ok(self);
        }
        let norms = self.norms();
        let units: Vec<LowRank> = self
            .tasks()
            .zip(norms)
            .filter(|(_, norm)| *norm > 0.0)
            .map(|((left, right), norm)| LowRank {
                left: faer::Scale(1.0 / norm) * left,
                right: right.to_owned(),
            })
            .collect();
        if units.is_empty() {
            return Ok(self);
        }
        let [p, q] = shared_bases(&units, Components::Count(rank))?;
        let Self { left, right, .. } = self;
        Ok(Self {
            left: left.projected(&p),
            right: right.projected(&q),
            uncompressed: Some(sizes),
            ..self
        })
    }
}
