//! Convolutions on the CPU: products of the kernel with windows that are gathered a few rows at a
//! time, so that no copy of the image for every place of the kernel exists.

use std::cell::Cell;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use crate::buffer::{Unwritten, tensor, values_of};
use crate::convolution_shape::{ConvolutionShape, Windows};
use crate::packed_product::{LeftSide, RightSide, WIDTH, is_worth_packing, pack, packed_product};
use crate::product::{MatrixView, Start, product};
use crate::row_product::{Sizes, Target};

/// Windows that are gathered at a time: with the terms of one pass, less than a second-level cache.
const TILE: usize = 128;
/// Windows whose products with a gradient are summed at a time.
const SUMMED: usize = 256;

thread_local! {
    /// The tile of the last product of this thread, whose memory the next one takes over.
    static GATHERED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A kernel as a matrix `[taps · c_in, c_out]`, all channels of a place together.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<'a> {
    pub matrix: MatrixView<'a>,
    pub taps: usize,
}

impl<'a> Kernel<'a> {
    fn c_in(&self) -> usize {
        self.matrix.n_rows() / self.taps
    }

    fn c_out(&self) -> usize {
        self.matrix.n_cols()
    }

    /// `[c_in, c_out]`
    fn tap(&self, tap: usize) -> MatrixView<'a> {
        let (c_in, c_out) = (self.c_in(), self.c_out());
        self.matrix.part(tap * c_in, c_in, 0, c_out)
    }
}

/// `[taps · c_out, c_in]`: every place transposed, for the gradient of the input.
#[derive(Clone, Copy)]
struct Turned<'a>(Kernel<'a>);

impl RightSide for Turned<'_> {
    fn inner(&self) -> usize {
        self.0.taps * self.0.c_out()
    }

    fn cols(&self) -> usize {
        self.0.c_in()
    }

    fn pack(&self, inner: Range<usize>, cols: Range<usize>, panels: &mut [f32]) {
        let Self(kernel) = self;
        let c_out = kernel.c_out();
        panels
            .par_chunks_exact_mut(inner.len() * WIDTH)
            .enumerate()
            .for_each(|(index, panel)| {
                let first = cols.start + index * WIDTH;
                let width = WIDTH.min(cols.end - first);
                if width < WIDTH {
                    panel.fill(0.0);
                }
                let mut at = inner.start;
                while at < inner.end {
                    let (tap, channel) = (at / c_out, at % c_out);
                    let count = (c_out - channel).min(inner.end - at);
                    let part = kernel.tap(tap).transposed();
                    let rows = (at - inner.start) * WIDTH..(at - inner.start + count) * WIDTH;
                    pack(part.part(channel, count, first, width), &mut panel[rows]);
                    at += count;
                }
            });
    }
}

/// Windows of images as rows `[windows, taps · channels]`.
struct Gathered<'a> {
    windows: &'a Windows,
    taps: usize,
    /// `[pixels, channels]`
    values: &'a [f32],
    channels: usize,
}

impl Gathered<'_> {
    /// - tile: `[rows, inner]`
    fn fill(&self, rows: Range<usize>, inner: Range<usize>, tile: &mut [f32]) {
        let channels = self.channels;
        for (row, tile) in rows.zip(tile.chunks_exact_mut(inner.len())) {
            let window = self.windows.window(row);
            let mut at = inner.start;
            while at < inner.end {
                let (tap, channel) = (at / channels, at % channels);
                let count = (channels - channel).min(inner.end - at);
                let place = &mut tile[at - inner.start..][..count];
                match window.pixel(tap) {
                    Some(pixel) => {
                        let first = pixel * channels + channel;
                        place.copy_from_slice(&self.values[first..first + count]);
                    }
                    None => place.fill(0.0),
                }
                at += count;
            }
        }
    }
}

impl LeftSide for Gathered<'_> {
    fn rows(&self) -> usize {
        self.windows.count()
    }

    fn most_rows(&self) -> usize {
        TILE
    }

    fn with_block(
        &self,
        rows: Range<usize>,
        inner: Range<usize>,
        multiply: impl FnOnce(MatrixView),
    ) {
        let count = rows.len() * inner.len();
        let sizes = (rows.len(), inner.len());
        let mut memory = GATHERED.take();
        if memory.len() < count {
            memory.resize(count, 0.0);
        }
        self.fill(rows, inner, &mut memory[..count]);
        multiply(MatrixView::rows(
            &memory[..count],
            sizes.0,
            sizes.1,
            sizes.1,
        ));
        GATHERED.set(memory);
    }
}

/// target = windows · right + start.
///
/// - right: `[taps · channels, cols]`
/// - tap: its rows of one place, `[channels, cols]`
///
/// # Safety
/// The target must be valid for a row of `right`'s columns for each window, and not be added to.
unsafe fn convolve<'a>(
    left: &Gathered,
    right: &impl RightSide,
    tap: impl Fn(usize) -> MatrixView<'a> + Sync,
    target: Target,
    start: Start,
) {
    let (windows, channels) = (left.windows.count(), left.channels);
    let sizes = Sizes {
        rows: windows,
        cols: right.cols(),
        inner: right.inner(),
    };
    start.assert_of(sizes, target.row_stride);
    if is_worth_packing(sizes) {
        // SAFETY: the caller's.
        return unsafe { packed_product(left, right, target, start) };
    }
    (0..windows.div_ceil(TILE))
        .into_par_iter()
        .for_each(|tile| {
            let rows = tile * TILE..windows.min((tile + 1) * TILE);
            for place in 0..left.taps {
                let target = Target {
                    values: target.start_of(rows.start, 0),
                    accumulate: place > 0,
                    ..target
                };
                let start = match place {
                    0 => start.from(rows.start, 0, target.row_stride),
                    _ => Start::default(),
                };
                let inner = place * channels..(place + 1) * channels;
                left.with_block(rows.clone(), inner, |left| {
                    // SAFETY: the caller's, and every tile has its own rows.
                    unsafe { product(left, tap(place), target, start) };
                });
            }
        });
}

/// x ∗ W + start.
///
/// - input: `[pixels, c_in]`, contiguous
/// - bias: `[c_out]`, contiguous
/// - residual: `[output pixels, c_out]`, contiguous
pub(crate) fn forward(
    input: &FlexTensor,
    kernel: Kernel,
    bias: Option<&FlexTensor>,
    residual: Option<&FlexTensor>,
    shape: &ConvolutionShape,
) -> FlexTensor {
    let windows = shape.forward();
    let left = Gathered::new(&windows, shape, input);
    let start = Start {
        bias: bias.map(values_of),
        residual: residual.map(values_of),
    };
    let (rows, c_out) = (windows.count(), kernel.c_out());
    let mut output = Unwritten::new(rows * c_out);
    let target = Target {
        values: output.as_mut_ptr(),
        row_stride: c_out,
        accumulate: false,
    };
    let right = kernel.matrix;
    // SAFETY: the output has a row for each window.
    unsafe { convolve(&left, &right, |tap| kernel.tap(tap), target, start) };
    // SAFETY: the product wrote every row.
    unsafe { output.into_tensor([rows, c_out]) }
}

/// The gradient of x: the gradient's windows times the kernel with every place transposed, summed over
/// the pixels that one was enlarged to.
///
/// - gradient: `[output pixels, c_out]`, contiguous
/// - output: `[pixels, c_in]`
pub(crate) fn input_gradient(
    gradient: &FlexTensor,
    kernel: Kernel,
    shape: &ConvolutionShape,
) -> FlexTensor {
    let windows = shape.backward();
    let left = Gathered::new(&windows, shape, gradient);
    let (rows, c_in) = (windows.count(), kernel.c_in());
    let mut output = Unwritten::new(rows * c_in);
    let target = Target {
        values: output.as_mut_ptr(),
        row_stride: c_in,
        accumulate: false,
    };
    let tap = |tap| kernel.tap(tap).transposed();
    // SAFETY: the output has a row for each window.
    unsafe { convolve(&left, &Turned(kernel), tap, target, Start::default()) };
    // SAFETY: the product wrote every row.
    let found = unsafe { output.into_vec() };
    match shape.is_enlarged() {
        true => tensor(reduced(&found, c_in, shape), [shape.input_rows(), c_in]),
        false => tensor(found, [rows, c_in]),
    }
}

/// The sums over the pixels of the enlarged image that are one of the input's.
fn reduced(enlarged: &[f32], channels: usize, shape: &ConvolutionShape) -> Vec<f32> {
    let ([height, width], [from_height, from_width]) = (shape.enlarged, shape.input);
    let mut sums = vec![0.0; shape.input_rows() * channels];
    sums.par_chunks_mut(from_height * from_width * channels)
        .zip(enlarged.par_chunks(height * width * channels))
        .for_each(|(sums, enlarged)| {
            for (pixel, values) in enlarged.chunks_exact(channels).enumerate() {
                let (row, col) = (pixel / width, pixel % width);
                let source = row * from_height / height * from_width + col * from_width / width;
                let sums = &mut sums[source * channels..][..channels];
                sums.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        });
    sums
}

/// The gradient of the kernel: for each place, its pixels transposed times the gradient.
///
/// - input: `[pixels, c_in]`, contiguous
/// - gradient: `[output pixels, c_out]`, contiguous
/// - output: `[taps · c_in, c_out]`
pub(crate) fn kernel_gradient(
    input: &FlexTensor,
    gradient: &FlexTensor,
    shape: &ConvolutionShape,
) -> FlexTensor {
    let windows = shape.forward();
    let left = Gathered::new(&windows, shape, input);
    let (c_in, c_out) = (left.channels, gradient.layout().shape()[1]);
    let (rows, gradient) = (windows.count(), MatrixView::of(gradient));
    let mut sums = vec![0.0; shape.taps() * c_in * c_out];
    sums.par_chunks_mut(c_in * c_out)
        .enumerate()
        .for_each(|(tap, sums)| {
            for first in (0..rows).step_by(SUMMED) {
                let count = SUMMED.min(rows - first);
                let target = Target {
                    values: sums.as_mut_ptr(),
                    row_stride: c_out,
                    accumulate: true,
                };
                let inner = tap * c_in..(tap + 1) * c_in;
                left.with_block(first..first + count, inner, |left| {
                    let right = gradient.part(first, count, 0, c_out);
                    // SAFETY: the sums of this place are borrowed and have a row for each channel.
                    unsafe { product(left.transposed(), right, target, Start::default()) };
                });
            }
        });
    tensor(sums, [shape.taps() * c_in, c_out])
}

impl<'a> Gathered<'a> {
    /// - image: `[pixels, channels]`, contiguous
    fn new(windows: &'a Windows, shape: &ConvolutionShape, image: &'a FlexTensor) -> Self {
        Self {
            windows,
            taps: shape.taps(),
            values: values_of(image),
            channels: image.layout().shape()[1],
        }
    }
}
