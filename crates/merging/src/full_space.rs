//! The full space: `τ_t = ΔW_t`.

use crate::space::{Frame, Side};

/// Every entry of ΔW is an entry of the representation.
pub(crate) fn frame() -> Frame {
    Frame {
        left: Side::Ambient,
        right: Side::Ambient,
    }
}
