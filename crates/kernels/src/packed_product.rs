//! Products of large matrices on all threads. The right side is packed into panels, which every block
//! of rows of the left side then reads front to back.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use crate::product::{MatrixView, Start};
use crate::row_product::{Sizes, Target};
use crate::transposition::transpose;
use crate::unit::has_vectors;
use crate::vector::{Vector, for_vectors};

/// Columns of a panel: what three vectors of sixteen lanes hold, or twice three of eight.
pub(crate) const WIDTH: usize = 48;
/// Rows of a block. With three vectors of columns, as many running sums as the registers hold
/// besides the operands: 24 of 32 with sixteen lanes per vector, 12 of 16 with eight.
const ROWS_OF_SIXTEEN_LANES: usize = 8;
const ROWS_OF_EIGHT_LANES: usize = 4;
/// How many terms of a sum are added before the output is written.
pub(crate) const INNER: usize = 768;
/// How many columns are packed at a time, in panels that all threads then read.
const COLS: usize = 64 * WIDTH;
/// How many rows a thread multiplies with all panels before it takes others.
const FEWEST_ROWS: usize = 64;
const MOST_ROWS: usize = 512;
/// How many values of the panels a block of rows multiplies by while its left side is in the
/// first-level cache: half of a second-level cache, so that the next block finds them there.
const GROUP: usize = 256 * 1024;
/// How many terms ahead the panel, and how many values ahead the left side is fetched.
const PANEL_AHEAD: usize = 8;
const LEFT_AHEAD: usize = 32;
/// In how many of its last terms a block fetches the cache lines that its sums go to, one per term.
const LAST_TERMS: usize = 48;

thread_local! {
    /// The panels of the last product of this thread, whose memory the next one takes over.
    static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Whether [`packed_product`] is faster for a product: packing costs as much as multiplying a few
/// rows.
pub(crate) fn is_worth_packing(sizes: Sizes) -> bool {
    sizes.rows >= FEWEST_ROWS && sizes.cols > 0 && sizes.inner > 0 && has_vectors()
}

/// The right side of a product, `[inner, cols]`, in whatever form it is kept.
pub(crate) trait RightSide: Sync {
    /// The number of rows of what it is multiplied with.
    fn inner(&self) -> usize;

    fn cols(&self) -> usize;

    /// Parts of its rows are read best from multiples of this on.
    fn inner_step(&self) -> usize {
        1
    }

    /// Fills panels on all threads: 48 columns after 48 columns, each as rows of 48 values, with zeros
    /// in place of the missing columns of the last panel.
    ///
    /// - panels: as many as the columns need, of as many rows as `inner` has
    fn pack(&self, inner: Range<usize>, cols: Range<usize>, panels: &mut [f32]);
}

/// The left side of a product, `[rows, inner]`, as it is or gathered block by block.
pub(crate) trait LeftSide: Sync {
    fn rows(&self) -> usize;

    /// How many rows a thread takes at most before it takes others.
    fn most_rows(&self) -> usize {
        MOST_ROWS
    }

    /// Gives `multiply` a block of it.
    fn with_block(
        &self,
        rows: Range<usize>,
        inner: Range<usize>,
        multiply: impl FnOnce(MatrixView),
    );
}

impl LeftSide for MatrixView<'_> {
    fn rows(&self) -> usize {
        self.n_rows()
    }

    fn with_block(
        &self,
        rows: Range<usize>,
        inner: Range<usize>,
        multiply: impl FnOnce(MatrixView),
    ) {
        multiply(self.part(rows.start, rows.len(), inner.start, inner.len()));
    }
}

impl RightSide for MatrixView<'_> {
    fn inner(&self) -> usize {
        self.n_rows()
    }

    fn cols(&self) -> usize {
        self.n_cols()
    }

    fn pack(&self, inner: Range<usize>, cols: Range<usize>, panels: &mut [f32]) {
        let part = self.part(inner.start, inner.len(), cols.start, cols.len());
        pack_all(part, panels);
    }
}

/// How many terms of a sum are added at a time, in parts of about the same length.
pub(crate) fn inner_at_a_time(inner: usize, at_most: usize, step: usize) -> usize {
    inner
        .div_ceil(inner.div_ceil(at_most))
        .next_multiple_of(step)
}

/// target (+)= left · right + start. The order in which terms are added depends on the sizes only,
/// so the result is the same with any number of threads.
///
/// # Safety
/// As for [`product`](crate::product::product), with a start that was measured and sizes that fit.
pub(crate) unsafe fn packed_product(
    left: &impl LeftSide,
    right: &impl RightSide,
    target: Target,
    start: Start,
) {
    let (rows, cols, inner) = (left.rows(), right.cols(), right.inner());
    let inner_at_a_time = inner_at_a_time(inner, INNER, right.inner_step());
    let rows_at_a_time = rows
        .div_ceil(4 * rayon::current_num_threads())
        .clamp(FEWEST_ROWS, left.most_rows())
        .next_multiple_of(ROWS_OF_SIXTEEN_LANES);
    // Taken, not borrowed: this thread may start another product while it waits for the others.
    let mut memory = PANELS.take();
    for first_col in (0..cols).step_by(COLS) {
        let cols = COLS.min(cols - first_col);
        for first_inner in (0..inner).step_by(inner_at_a_time) {
            let inner = inner_at_a_time.min(inner - first_inner);
            let count = cols.div_ceil(WIDTH) * WIDTH * inner;
            if memory.len() < count {
                memory.resize(count, 0.0);
            }
            let panels = &mut memory[..count];
            right.pack(
                first_inner..first_inner + inner,
                first_col..first_col + cols,
                panels,
            );
            let panels = &*panels;
            (0..rows.div_ceil(rows_at_a_time))
                .into_par_iter()
                .for_each(|block| {
                    let row = block * rows_at_a_time;
                    let rows = rows_at_a_time.min(rows - row);
                    let is_first = first_inner == 0;
                    let target = Target {
                        values: target.start_of(row, first_col),
                        row_stride: target.row_stride,
                        accumulate: target.accumulate || !is_first,
                    };
                    let start = match is_first {
                        true => start.from(row, first_col, target.row_stride),
                        false => Start::default(),
                    };
                    let inner = first_inner..first_inner + inner;
                    left.with_block(row..row + rows, inner, |left| {
                        multiply(left, panels, cols, target, start);
                    });
                });
        }
    }
    PANELS.set(memory);
}

/// The panels of a matrix: 48 columns after 48 columns, each as rows of 48 values, with zeros in
/// place of the missing columns of the last panel.
fn pack_all(right: MatrixView, panels: &mut [f32]) {
    let inner = right.n_rows();
    panels
        .par_chunks_exact_mut(inner * WIDTH)
        .enumerate()
        .for_each(|(index, panel)| {
            let first = index * WIDTH;
            let cols = WIDTH.min(right.n_cols() - first);
            if cols < WIDTH {
                panel.fill(0.0);
            }
            pack(right.part(0, inner, first, cols), panel);
        });
}

for_vectors! {
    /// One panel.
    ///
    /// - right: `[inner, up to 48]`
    /// - panel: `[inner, 48]`
    fn pack<V>(right: MatrixView<'_>, panel: &mut [f32]) {
        let (inner, cols) = (right.n_rows(), right.n_cols());
        let (row_stride, col_stride) = right.strides();
        let values = right.values();
        if col_stride == 1 {
            for (row, panel) in panel.chunks_exact_mut(WIDTH).enumerate() {
                let row = &values[row * row_stride..][..cols];
                match row.first_chunk::<WIDTH>() {
                    // Of a length that the compiler knows, and so without a call.
                    Some(row) => panel.copy_from_slice(row),
                    None => panel[..cols].copy_from_slice(row),
                }
            }
            return;
        }
        if row_stride == 1 {
            assert!(panel.len() >= inner * WIDTH && cols <= WIDTH, "a panel of {inner} rows");
            // SAFETY: the panel is borrowed and was just measured.
            unsafe {
                transpose::<V>(values, col_stride, [cols, inner], panel.as_mut_ptr(), WIDTH);
            }
            return;
        }
        for row in 0..inner {
            for col in 0..cols {
                panel[row * WIDTH + col] = values[row * row_stride + col * col_stride];
            }
        }
    }
}

for_vectors! {
    /// A few rows of the product. The target must be valid for them.
    ///
    /// - left: `[rows, inner]`
    /// - panels: of `[inner, cols]`
    fn multiply<V>(
        left: MatrixView<'_>,
        panels: &[f32],
        cols: usize,
        target: Target,
        start: Start<'_>,
    ) {
        let panel = left.n_cols() * WIDTH;
        let width = (GROUP / panel).max(1) * WIDTH;
        for (index, panels) in panels.chunks(width * left.n_cols()).enumerate() {
            let first = index * width;
            let values = target.start_of(0, first);
            let cols = width.min(cols - first);
            let start = start.from(0, first, target.row_stride);
            let target = Target { values, ..target };
            let group = Group { left, panels, cols, target, start };
            // SAFETY: the caller's target has the rows of the left side and the columns of the group.
            unsafe {
                let rest = match V::LANES {
                    16 => group.rows::<V, ROWS_OF_SIXTEEN_LANES>(0),
                    _ => group.rows::<V, ROWS_OF_EIGHT_LANES>(0),
                };
                group.rows::<V, 1>(rest);
            }
        }
    }
}

/// Rows of the left side, and the panels that they are multiplied with.
struct Group<'a> {
    left: MatrixView<'a>,
    panels: &'a [f32],
    cols: usize,
    target: Target,
    start: Start<'a>,
}

impl Group<'_> {
    /// As many blocks of rows from `row` on as there are, and which row follows them.
    #[inline(always)]
    unsafe fn rows<V: Vector, const ROWS: usize>(&self, mut row: usize) -> usize {
        while row + ROWS <= self.left.n_rows() {
            for first in (0..self.cols).step_by(3 * V::LANES) {
                let cols = (self.cols - first).min(3 * V::LANES);
                // SAFETY: the caller's.
                unsafe {
                    match cols.div_ceil(V::LANES) {
                        3 => self.block::<V, ROWS, 3>(row, first, cols),
                        2 => self.block::<V, ROWS, 2>(row, first, cols),
                        _ => self.block::<V, ROWS, 1>(row, first, cols),
                    }
                }
            }
            row += ROWS;
        }
        row
    }

    /// `ROWS` rows from `row` on and `cols` columns from `first` on, which are in one panel.
    #[inline(always)]
    unsafe fn block<V: Vector, const ROWS: usize, const VECTORS: usize>(
        &self,
        row: usize,
        first: usize,
        cols: usize,
    ) {
        let inner = self.left.n_cols();
        let (row_stride, col_stride) = self.left.strides();
        let panel = &self.panels[first / WIDTH * WIDTH * inner..][..WIDTH * inner];
        let mut right = panel[first % WIDTH..].as_ptr();
        let mut left = self.left.values()[row * row_stride..].as_ptr();
        // SAFETY: block and target are within the matrices, says the caller; a row of a panel has room
        // for the vectors of any of its columns.
        unsafe {
            let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
            let rounds = inner.saturating_sub(LAST_TERMS) / ROWS;
            for _ in 0..rounds {
                let mut ahead = left.wrapping_add(LEFT_AHEAD);
                for _ in 0..ROWS {
                    V::prefetch(ahead, 1);
                    ahead = ahead.wrapping_add(row_stride);
                    add_term(&mut sums, left, row_stride, right);
                    left = left.wrapping_add(col_stride);
                    right = right.wrapping_add(WIDTH);
                }
            }
            for term in 0..inner - rounds * ROWS {
                let (offset, vector) = (term % ROWS, term / ROWS);
                V::prefetch(
                    self.target
                        .start_of(row + offset, first + vector * V::LANES),
                    1,
                );
                add_term(&mut sums, left, row_stride, right);
                left = left.wrapping_add(col_stride);
                right = right.wrapping_add(WIDTH);
            }
            let last_lanes = cols - (VECTORS - 1) * V::LANES;
            for (offset, sums) in sums.iter().enumerate() {
                let to = self.target.start_of(row + offset, first);
                for (vector, &sum) in sums.iter().enumerate() {
                    let to = to.add(vector * V::LANES);
                    let is_part = vector + 1 == VECTORS && last_lanes < V::LANES;
                    match (is_part, self.target.accumulate) {
                        (false, true) => V::load(to).add(sum).store(to),
                        (false, false) => sum.store(to),
                        (true, true) => {
                            let before = V::load_part(to, last_lanes);
                            before.add(sum).store_part(to, last_lanes);
                        }
                        (true, false) => sum.store_part(to, last_lanes),
                    }
                }
            }
        }
        if self.start.is_anything() {
            self.add_start(row..row + ROWS, first..first + cols);
        }
    }

    /// Adds the start to a block that was just written. Not earlier: any other use of the sums
    /// makes the compiler keep them in memory all the time.
    #[inline(never)]
    fn add_start(&self, rows: Range<usize>, cols: Range<usize>) {
        for row in rows {
            let sums = self.target.start_of(row, cols.start);
            // SAFETY: the block is one of the target's.
            let sums = unsafe { std::slice::from_raw_parts_mut(sums, cols.len()) };
            let start = self.start.from(row, cols.start, self.target.row_stride);
            start.add_to(sums);
        }
    }
}

/// Adds one term to every sum of a block.
///
/// # Safety
/// `left` must be valid for a value in each row, `right` for the vectors of a row of the panel.
#[inline(always)]
unsafe fn add_term<V: Vector, const ROWS: usize, const VECTORS: usize>(
    sums: &mut [[V; VECTORS]; ROWS],
    left: *const f32,
    row_stride: usize,
    right: *const f32,
) {
    V::prefetch(right.wrapping_add(PANEL_AHEAD * WIDTH), VECTORS * V::LANES);
    // SAFETY: the caller's.
    unsafe {
        let mut factors = [V::splat(0.0); VECTORS];
        for (vector, factor) in factors.iter_mut().enumerate() {
            *factor = V::load(right.add(vector * V::LANES));
        }
        for (offset, sums) in sums.iter_mut().enumerate() {
            let entry = V::splat(*left.add(offset * row_stride));
            for (sum, &factor) in sums.iter_mut().zip(&factors) {
                *sum = entry.mul_add(factor, *sum);
            }
        }
    }
}
