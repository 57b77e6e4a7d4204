//! KnOTS: `τ_t = Σ · V_tᵀ` of `[ΔW_1 … ΔW_T] = U · Σ · [V_1ᵀ … V_Tᵀ]` (arXiv 2410.19735).

use eigenmix_eigenlorax::decomposition::{DecompositionError, ThinQr, ThinSvd, beside, product};
use faer::Mat;
use serde::{Deserialize, Serialize};

use crate::coordinates::Coordinates;
use crate::space::{Frame, Side};

/// Directions up to this singular value are dropped, as in the authors' code; of updates whose
/// strongest direction is below 1, up to this fraction of it, so that weak adapters survive.
const CUT: f64 = 1e-5;

/// Which rows KnOTS merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnotsRows {
    /// `Σ·V_tᵀ`, as in the KnOTS paper and its authors' code.
    #[default]
    ScaledBySigma,
    /// `V_tᵀ`, multiplied by Σ after merging, as in the Core Space authors' re-implementation. Where
    /// no adapter's directions are those of another, all singular values of every V_t are 1, so
    /// that TSV, which keeps the strongest, chooses at random.
    Unscaled,
}

/// The m × (T·n) singular value decomposition, through the factors.
///
/// `ΔW_t = U_L·C_L,t·C_R,tᵀ·Vᵀ`, and with `C_R,t = Q_t·R_t` the right factor of each block is
/// orthonormal, so `[ΔW_1 … ΔW_T]` has the left singular vectors and singular values of
/// `U_L · [C_L,1·R_1ᵀ … C_L,T·R_Tᵀ]`: a Σr × Σr matrix. Then `Σ·V_tᵀ = Uᵀ·ΔW_t`.
///
/// # Errors
/// If the SVD doesn't converge, which finite values don't lead to.
pub(crate) fn frame(
    coordinates: &Coordinates,
    rows: KnotsRows,
) -> Result<Frame, DecompositionError> {
    let blocks: Vec<Mat<f64>> = coordinates
        .tasks()
        .map(|(left, right)| product(left, ThinQr::new(right.to_owned()).r().transpose()))
        .collect();
    let stacked = beside(coordinates.left.size(), blocks.iter().map(Mat::as_ref));
    let ThinSvd { u, s, .. } = ThinSvd::new(stacked.as_ref())?;
    let cut = CUT * s.first().map_or(1.0, |strongest| strongest.min(1.0));
    let kept = s.iter().take_while(|&&value| value > cut).count();
    let sigma = |index: usize| match rows {
        KnotsRows::ScaledBySigma => 1.0,
        KnotsRows::Unscaled => s[index],
    };
    Ok(Frame {
        left: Side::Reduced {
            analysis: Mat::from_fn(kept, u.nrows(), |row, col| u[(col, row)] / sigma(row)),
            synthesis: Mat::from_fn(u.nrows(), kept, |row, col| u[(row, col)] * sigma(col)),
        },
        right: Side::Ambient,
    })
}
