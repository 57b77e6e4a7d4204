//! Products with an encoded weight: it is decoded while it is packed into panels, and nothing decoded
//! is kept.

use std::cell::Cell;
use std::ops::Range;

use eigenmix_quant::EncodedMatrix;
use rayon::prelude::*;

use crate::packed_product::{INNER, RightSide, WIDTH, inner_at_a_time, multiply, packed_product};
use crate::product::{MatrixView, Start};
use crate::row_product::{Sizes, Target};
use crate::transposition::transpose;
use crate::vector::{Vector, for_vectors};

/// From this many rows on, threads share the panels and divide the rows; with fewer, every thread
/// packs panels of its own and multiplies all rows by them.
const MANY_ROWS: usize = 256;

/// The largest number of columns that are decoded together.
const MOST_COLS: usize = 16 * WIDTH;

/// How many values the panels of one thread hold: half of a second-level cache.
const OWN_PANELS: usize = 128 * 1024;

/// Rows that are decoded before they are turned into columns of a panel, and how many values of each.
const TURNED_ROWS: usize = 16;
const TURNED_COLS: usize = 256;

thread_local! {
    /// The panels of the last product of this thread, whose memory the next one takes over.
    static OWN: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// W or Wᵀ as the right side of a product.
#[derive(Clone, Copy)]
pub(crate) struct EncodedRight<'a> {
    /// `[d_out, d_in]`
    weight: &'a EncodedMatrix,
    is_transposed: bool,
}

impl<'a> EncodedRight<'a> {
    /// W itself, for the gradient of an input.
    pub fn plain(weight: &'a EncodedMatrix) -> Self {
        Self {
            weight,
            is_transposed: false,
        }
    }

    /// Wᵀ, for a forward pass.
    pub fn transposed(weight: &'a EncodedMatrix) -> Self {
        Self {
            weight,
            is_transposed: true,
        }
    }

    /// How many columns are packed together: whole panels, and whole blocks where columns of W are
    /// columns here.
    fn cols_at_a_time(&self) -> usize {
        match self.is_transposed {
            true => WIDTH,
            false => least_common_multiple(WIDTH, self.weight.granularity()).min(MOST_COLS),
        }
    }
}

impl RightSide for EncodedRight<'_> {
    fn inner(&self) -> usize {
        self.weight.shape()[usize::from(self.is_transposed)]
    }

    fn cols(&self) -> usize {
        self.weight.shape()[usize::from(!self.is_transposed)]
    }

    fn inner_step(&self) -> usize {
        match self.weight.granularity() {
            step if self.is_transposed && step <= INNER => step,
            _ => 1,
        }
    }

    fn pack(&self, inner: Range<usize>, cols: Range<usize>, panels: &mut [f32]) {
        let group = self.cols_at_a_time();
        panels
            .par_chunks_mut(group * inner.len())
            .enumerate()
            .for_each(|(index, panels)| {
                let first = cols.start + index * group;
                let cols = first..cols.end.min(first + group);
                pack_group(*self, inner.clone(), cols, panels);
            });
    }
}

fn least_common_multiple(one: usize, other: usize) -> usize {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    one / divisor * other
}

/// target (+)= left · right + start. The order in which terms are added depends on the sizes only.
///
/// # Safety
/// As for [`product`](crate::product::product).
///
/// # Panics
/// If the inner dimensions differ, or the start is too short.
pub(crate) unsafe fn encoded_product(
    left: MatrixView,
    right: EncodedRight,
    target: Target,
    start: Start,
) {
    let sizes = Sizes {
        rows: left.n_rows(),
        cols: right.cols(),
        inner: right.inner(),
    };
    assert_eq!(left.n_cols(), sizes.inner, "inner dimensions of a product");
    start.assert_of(sizes, target.row_stride);
    let Sizes { rows, cols, inner } = sizes;
    if rows >= MANY_ROWS {
        // SAFETY: the caller's.
        return unsafe { packed_product(&left, &right, target, start) };
    }
    let group = right.cols_at_a_time();
    let at_a_time = inner_at_a_time(inner, INNER.min(OWN_PANELS / group), right.inner_step());
    (0..cols.div_ceil(group)).into_par_iter().for_each(|index| {
        let cols = index * group..cols.min((index + 1) * group);
        // Taken, not borrowed: rayon may run another product on this thread meanwhile.
        let mut memory = OWN.take();
        for first in (0..inner).step_by(at_a_time) {
            let inner = first..inner.min(first + at_a_time);
            let count = cols.len().next_multiple_of(WIDTH) * inner.len();
            if memory.len() < count {
                memory.resize(count, 0.0);
            }
            let panels = &mut memory[..count];
            pack_group(right, inner.clone(), cols.clone(), panels);
            let start = match first {
                0 => start.from(0, cols.start, target.row_stride),
                _ => Start::default(),
            };
            let target = Target {
                values: target.start_of(0, cols.start),
                row_stride: target.row_stride,
                accumulate: target.accumulate || first > 0,
            };
            let left = left.part(0, rows, first, inner.len());
            multiply(left, panels, cols.len(), target, start);
        }
        OWN.set(memory);
    });
}

for_vectors! {
    /// Decodes a part of the right side into panels.
    ///
    /// - panels: as [`RightSide::pack`] fills them
    fn pack_group<V>(
        right: EncodedRight<'_>,
        inner: Range<usize>,
        cols: Range<usize>,
        panels: &mut [f32],
    ) {
        if !cols.len().is_multiple_of(WIDTH) {
            let last = panels.len() - WIDTH * inner.len();
            panels[last..].fill(0.0);
        }
        match right.is_transposed {
            true => turn::<V>(right.weight, inner, cols, panels),
            false => lay::<V>(right.weight, inner, cols, panels),
        }
    }
}

/// Rows of W become columns of panels.
#[inline(always)]
fn turn<V: Vector>(
    weight: &EncodedMatrix,
    inner: Range<usize>,
    cols: Range<usize>,
    panels: &mut [f32],
) {
    let mut decoded = [0.0; TURNED_ROWS * TURNED_COLS];
    for (panel, first_col) in panels
        .chunks_exact_mut(WIDTH * inner.len())
        .zip(cols.clone().step_by(WIDTH))
    {
        let width = WIDTH.min(cols.end - first_col);
        for strip in (0..width).step_by(TURNED_ROWS) {
            let rows = TURNED_ROWS.min(width - strip);
            for first in (0..inner.len()).step_by(TURNED_COLS) {
                let count = TURNED_COLS.min(inner.len() - first);
                for (row, decoded) in decoded.chunks_exact_mut(TURNED_COLS).enumerate().take(rows) {
                    let (row, decoded) = (first_col + strip + row, &mut decoded[..count]);
                    // SAFETY: this is compiled for the unit of V, which is present.
                    unsafe { weight.decode::<V::Lookup>(row, inner.start + first, decoded) };
                }
                let to = &mut panel[first * WIDTH + strip..];
                assert!(
                    to.len() >= (count - 1) * WIDTH + rows,
                    "a panel is too short"
                );
                // SAFETY: the panel is borrowed and was just measured.
                unsafe {
                    transpose::<V>(&decoded, TURNED_COLS, [rows, count], to.as_mut_ptr(), WIDTH);
                }
            }
        }
    }
}

/// Rows of W are rows of panels.
#[inline(always)]
fn lay<V: Vector>(
    weight: &EncodedMatrix,
    inner: Range<usize>,
    cols: Range<usize>,
    panels: &mut [f32],
) {
    let mut decoded = [0.0; MOST_COLS];
    let height = inner.len();
    for (offset, row) in inner.enumerate() {
        for first in cols.clone().step_by(MOST_COLS) {
            let decoded = &mut decoded[..MOST_COLS.min(cols.end - first)];
            // SAFETY: this is compiled for the unit of V, which is present.
            unsafe { weight.decode::<V::Lookup>(row, first, decoded) };
            let first_panel = (first - cols.start) / WIDTH;
            for (index, values) in decoded.chunks(WIDTH).enumerate() {
                let place = ((first_panel + index) * height + offset) * WIDTH;
                match values.first_chunk::<WIDTH>() {
                    // Of a length that the compiler knows, and so without a call.
                    Some(values) => panels[place..place + WIDTH].copy_from_slice(values),
                    None => panels[place..place + values.len()].copy_from_slice(values),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "encoded_product_tests.rs"]
mod tests;
