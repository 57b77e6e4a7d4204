//! Core Space: `τ_t = Uᵀ · ΔW_t · V` (arXiv 2509.17786).

use faer::Mat;

use crate::coordinates::Coordinates;
use crate::space::{Frame, Side};

/// U: the left singular vectors of `[s_1B_1 … s_TB_T]`, V: those of `[A_1ᵀ … A_Tᵀ]`, strongest
/// first. TIES is not invariant to a rotation of the basis, only to the signs of its vectors.
///
/// All p · q entries count, also those of directions that vanish, as in the authors' code.
pub(crate) fn frame(coordinates: &Coordinates) -> Frame {
    // The coordinates of a module are in the singular bases already.
    let side = |size| Side::Reduced {
        analysis: Mat::identity(size, size),
        synthesis: Mat::identity(size, size),
    };
    Frame {
        left: side(coordinates.left.size()),
        right: side(coordinates.right.size()),
    }
}
