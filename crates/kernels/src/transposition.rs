//! Transposed copies.

use crate::vector::Vector;

/// Writes the columns of `[rows, cols]` as the rows of `[cols, rows]`: in squares that are turned in
/// registers, and value by value at the edges.
///
/// - from: row i starts at `i * stride`
/// - to: row i starts at `i * to_stride`
///
/// # Panics
/// If one of them is too short.
#[inline(always)]
pub(crate) fn transpose<V: Vector>(
    from: &[f32],
    stride: usize,
    [rows, cols]: [usize; 2],
    to: &mut [f32],
    to_stride: usize,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(
        from.len() >= (rows - 1) * stride + cols,
        "rows to transpose"
    );
    assert!(to.len() >= (cols - 1) * to_stride + rows, "transposed rows");
    let whole_rows = rows / V::LANES * V::LANES;
    let whole_cols = cols / V::LANES * V::LANES;
    for row in (0..whole_rows).step_by(V::LANES) {
        for col in (0..whole_cols).step_by(V::LANES) {
            let from = from[row * stride + col..].as_ptr();
            let to = to[col * to_stride + row..].as_mut_ptr();
            // SAFETY: both sides were measured, and the square is within them.
            unsafe { V::transpose(from, stride, to, to_stride) };
        }
    }
    for row in 0..rows {
        let first = if row < whole_rows { whole_cols } else { 0 };
        for col in first..cols {
            to[col * to_stride + row] = from[row * stride + col];
        }
    }
}
