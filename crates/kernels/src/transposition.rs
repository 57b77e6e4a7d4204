//! Transposed copies.

use crate::vector::Vector;

/// Writes the columns of `[rows, cols]` as the rows of `[cols, rows]`: in squares that are turned in
/// registers, and value by value at the edges.
///
/// - from: row i starts at `i * stride`
/// - to: row i starts at `i * to_stride`
///
/// # Safety
/// `to` must be valid for `cols` rows of `rows` values, all of which are written, nothing else may
/// access them meanwhile, and the unit of `V` must be present.
///
/// # Panics
/// If `from` is too short.
#[inline(always)]
pub(crate) unsafe fn transpose<V: Vector>(
    from: &[f32],
    stride: usize,
    [rows, cols]: [usize; 2],
    to: *mut f32,
    to_stride: usize,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(
        from.len() >= (rows - 1) * stride + cols,
        "rows to transpose"
    );
    let whole_rows = rows / V::LANES * V::LANES;
    let whole_cols = cols / V::LANES * V::LANES;
    for row in (0..whole_rows).step_by(V::LANES) {
        for col in (0..whole_cols).step_by(V::LANES) {
            let from = from[row * stride + col..].as_ptr();
            // SAFETY: the square is within both sides: one was measured, the other is the caller's.
            unsafe { V::transpose(from, stride, to.add(col * to_stride + row), to_stride) };
        }
    }
    for row in 0..rows {
        let first = if row < whole_rows { whole_cols } else { 0 };
        for col in first..cols {
            let value = from[row * stride + col];
            // SAFETY: as above.
            unsafe { to.add(col * to_stride + row).write(value) };
        }
    }
}
