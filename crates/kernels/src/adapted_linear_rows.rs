//! Adapted linear layers on the CPU: large products by `gemm`, and products as thin as the update's
//! rank in passes over a few rows at a time.

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use crate::adapted_linear::{LinearGradients, LinearPlan, Wanted};
use crate::buffer::{Unwritten, tensor, values_of};
use crate::product::{MatrixView, Start};
use crate::row_product::{Sizes, Target, View, row_product};
use crate::stored_weight::StoredWeight;
use crate::transposition::transpose;
use crate::vector::{Vector, for_vectors};

/// Rows of a forward pass that one thread finishes at a time.
const FORWARD_ROWS: usize = 32;
/// The maximum number of parts into which the rows of a backward pass are divided. The gradients of
/// the factors are summed part by part, so this must not depend on the machine.
const BACKWARD_PARTS: usize = 16;
/// The minimum number of rows of a part.
const BACKWARD_ROWS: usize = 64;

/// Layers with a common input, whose outputs are side by side.
pub(crate) struct Layers {
    layers: Vec<Layer>,
    /// Σ d_out.
    width: usize,
}

struct Layer {
    /// `[d_out, d_in]`
    weight: StoredWeight<Flex>,
    has_bias: bool,
    update: Option<UpdateRows>,
    d_out: usize,
    /// The first of its columns in the output.
    column: usize,
}

struct UpdateRows {
    /// `[d_out, rank]`
    left: FlexTensor,
    /// `[d_in, rank]`
    right: FlexTensor,
    rank: usize,
    scaling: f32,
}

/// Which pass the factors are for.
#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// An update's factors.
pub(crate) struct Thin<'a> {
    /// `[d_out, rank]`
    left: &'a [f32],
    /// `[d_in, rank]`
    right: &'a [f32],
    /// Of the factor whose rows the pass multiplies by: the left one forward, `[rank, d_out]`, and the
    /// right one backward, `[rank, d_in]`.
    transposed: Vec<f32>,
    rank: usize,
    scaling: f32,
    d_out: usize,
    column: usize,
}

impl Layers {
    /// - factors: left and right of each update
    /// - weights: each layer's
    pub fn new(
        factors: &[FlexTensor],
        weights: Vec<StoredWeight<Flex>>,
        plan: &LinearPlan,
    ) -> Self {
        let mut factors = factors.iter();
        let mut width = 0;
        let mut contiguous = || factors.next().expect("a factor").to_contiguous();
        let layers = plan.layers.iter().zip(weights).map(|(plan, weight)| {
            let column = width;
            let [d_out, _] = weight.dims();
            width += d_out;
            Layer {
                weight,
                has_bias: plan.has_bias,
                update: plan.scaling.map(|scaling| {
                    let (left, right) = (contiguous(), contiguous());
                    let rank = left.layout().shape()[1];
                    UpdateRows {
                        left,
                        right,
                        rank,
                        scaling,
                    }
                }),
                d_out,
                column,
            }
        });
        let layers = layers.collect();
        Self { layers, width }
    }

    /// - input: `[rows, d_in]`, contiguous
    /// - biases: of the layers that have one, `[d_out]`
    /// - residual: `[rows, Σ d_out]`, contiguous
    pub fn forward(
        &self,
        input: &FlexTensor,
        biases: &[FlexTensor],
        residual: Option<&FlexTensor>,
    ) -> FlexTensor {
        let (rows, d_in) = (input.layout().shape()[0], input.layout().shape()[1]);
        let width = self.width;
        let residual = residual.map(values_of);
        assert!(residual.is_none_or(|residual| residual.len() == rows * width));
        let mut biases = biases.iter().map(FlexTensor::to_contiguous);
        let mut output = Unwritten::new(rows * width);
        for layer in &self.layers {
            let bias = layer.has_bias.then(|| biases.next().expect("a bias"));
            let start = Start {
                bias: bias.as_ref().map(values_of),
                residual: residual
                    .filter(|_| rows > 0)
                    .map(|residual| &residual[layer.column..]),
            };
            let target = Target {
                values: output.as_mut_ptr().wrapping_add(layer.column),
                row_stride: width,
                accumulate: false,
            };
            // SAFETY: the output has that many rows; this layer's columns end within them.
            unsafe { layer.weight.product(MatrixView::of(input), target, start) };
        }
        // SAFETY: the layers' columns are all of them.
        let mut output = unsafe { output.into_vec() };
        let thin = self.thin(Direction::Forward);
        if !thin.is_empty() {
            output
                .par_chunks_mut(FORWARD_ROWS * width)
                .zip(values_of(input).par_chunks(FORWARD_ROWS * d_in))
                .for_each(|(output, input)| add_updates(input, d_in, &thin, output, width));
        }
        tensor(output, [rows, width])
    }

    /// - gradient: `[rows, Σ d_out]`, contiguous
    /// - input: `[rows, d_in]`, contiguous; needed for the gradient of a factor
    pub fn backward(
        &self,
        gradient: &FlexTensor,
        input: Option<&FlexTensor>,
        wanted: &Wanted,
    ) -> LinearGradients<Flex> {
        let rows = gradient.layout().shape()[0];
        let [_, d_in] = self.layers[0].weight.dims();
        let gradient = values_of(gradient);
        let mut d_input = wanted
            .input
            .then(|| self.base_gradient(gradient, rows, d_in));
        let thin = self.thin(Direction::Backward);
        if thin.is_empty() {
            return LinearGradients {
                input: d_input.map(|values| tensor(values, [rows, d_in])),
                factors: Vec::new(),
            };
        }
        let input = match wanted.factors.contains(&true) {
            true => Some(values_of(input.expect("the input of trained factors"))),
            false => None,
        };
        let sizes: Vec<usize> = thin
            .iter()
            .map(|one| (one.d_out + d_in) * one.rank)
            .collect();
        let part_rows = rows.div_ceil(BACKWARD_PARTS).max(BACKWARD_ROWS);
        let parts = rows.div_ceil(part_rows).max(1);
        let d_input_rows = d_input.as_mut().map(|d_input| Target {
            values: d_input.as_mut_ptr(),
            row_stride: d_in,
            accumulate: true,
        });
        let sums: Vec<Vec<f32>> = (0..parts)
            .into_par_iter()
            .map(|part| {
                let (start, end) = (part * part_rows, rows.min((part + 1) * part_rows));
                let gradient = &gradient[start * self.width..end * self.width];
                let input = input.map(|input| &input[start * d_in..end * d_in]);
                let mut sums = Unwritten::new(match input {
                    Some(_) => sizes.iter().sum(),
                    None => 0,
                });
                let d_input = d_input_rows.map(|rows| {
                    // SAFETY: the tensor has `rows` rows, and every part takes its own ones.
                    unsafe {
                        let first = rows.start_of(start, 0);
                        std::slice::from_raw_parts_mut(first, gradient.len() / self.width * d_in)
                    }
                });
                let places = sums.places();
                thin_gradients(input, d_in, gradient, self.width, &thin, d_input, places);
                // SAFETY: with an input, the sums of all updates were written.
                unsafe { sums.into_vec() }
            })
            .collect();
        let mut wanted = wanted.factors.iter();
        let mut first = 0;
        let mut factors = Vec::new();
        for one in &thin {
            for size in [one.d_out, d_in] {
                let count = size * one.rank;
                let is_wanted = wanted.next() == Some(&true);
                factors.push(is_wanted.then(|| {
                    let mut total = sums[0][first..first + count].to_vec();
                    for part in &sums[1..] {
                        let part = &part[first..first + count];
                        total
                            .iter_mut()
                            .zip(part)
                            .for_each(|(sum, term)| *sum += term);
                    }
                    tensor(total, [size, one.rank])
                }));
                first += count;
            }
        }
        LinearGradients {
            input: d_input.map(|values| tensor(values, [rows, d_in])),
            factors,
        }
    }

    /// Σ dy · W over the layers, each with its own columns of dy.
    ///
    /// - gradient: `[rows, Σ d_out]`
    /// - output: `[rows, d_in]`
    fn base_gradient(&self, gradient: &[f32], rows: usize, d_in: usize) -> Vec<f32> {
        let mut d_input = Unwritten::new(rows * d_in);
        let layers = if rows == 0 { &[][..] } else { &self.layers };
        for (index, layer) in layers.iter().enumerate() {
            let columns = &gradient[layer.column..];
            let gradient = MatrixView::rows(columns, rows, layer.d_out, self.width);
            let target = Target {
                values: d_input.as_mut_ptr(),
                row_stride: d_in,
                accumulate: index > 0,
            };
            // SAFETY: the target is of that many rows.
            unsafe { layer.weight.input_gradient(gradient, target) };
        }
        // SAFETY: the first layer wrote all values, and without rows there are none.
        unsafe { d_input.into_vec() }
    }

    fn thin(&self, direction: Direction) -> Vec<Thin<'_>> {
        let updates = self.layers.iter().filter_map(|layer| {
            let update = layer.update.as_ref()?;
            let (left, right) = (values_of(&update.left), values_of(&update.right));
            Some(Thin {
                left,
                right,
                transposed: match direction {
                    Direction::Forward => transposed(left, update.rank),
                    Direction::Backward => transposed(right, update.rank),
                },
                rank: update.rank,
                scaling: update.scaling,
                d_out: layer.d_out,
                column: layer.column,
            })
        });
        updates.collect()
    }
}

/// `[rows, cols]` → `[cols, rows]`.
fn transposed(values: &[f32], cols: usize) -> Vec<f32> {
    let mut transposed = Unwritten::new(values.len());
    write_transposed(values, cols, transposed.places());
    // SAFETY: all values were written.
    unsafe { transposed.into_vec() }
}

for_vectors! {
    /// Writes as many values as there are.
    fn write_transposed<V>(values: &[f32], cols: usize, places: &mut [MaybeUninit<f32>]) {
        let rows = values.len() / cols;
        assert_eq!(places.len(), rows * cols, "places of a transpose");
        // SAFETY: the places are borrowed and were just counted.
        unsafe {
            transpose::<V>(values, cols, [rows, cols], places.as_mut_ptr().cast(), rows);
        }
    }
}

/// rows · factor · scaling: `[rows, rank]`.
///
/// - rows: `[rows, inner]`, with `stride` values from one to the next
/// - factor: `[inner, rank]`
#[inline(always)]
fn thin_rows<V: Vector>(
    rows: &[f32],
    stride: usize,
    count: usize,
    factor: &[f32],
    rank: usize,
    scaling: f32,
) -> Vec<f32> {
    let mut thin = Unwritten::new(count * rank);
    let left = View {
        values: rows,
        row_stride: stride,
        col_stride: 1,
    };
    let sizes = Sizes {
        rows: count,
        cols: rank,
        inner: factor.len() / rank,
    };
    let target = Target {
        values: thin.as_mut_ptr(),
        row_stride: rank,
        accumulate: false,
    };
    // SAFETY: the target was just made, of `count` rows, and the product writes all of them.
    let mut thin = unsafe {
        row_product::<V>(sizes, left, factor, rank, target);
        thin.into_vec()
    };
    thin.iter_mut().for_each(|value| *value *= scaling);
    thin
}

for_vectors! {
    /// Adds the updates to a few rows of the output.
    fn add_updates<V>(
        input: &[f32],
        d_in: usize,
        updates: &[Thin<'_>],
        output: &mut [f32],
        width: usize,
    ) {
        let rows = output.len() / width;
        for update in updates {
            let (rank, scaling) = (update.rank, update.scaling);
            let thin = thin_rows::<V>(input, d_in, rows, update.right, rank, scaling);
            let left = View { values: &thin, row_stride: rank, col_stride: 1 };
            let sizes = Sizes { rows, cols: update.d_out, inner: rank };
            let target = Target {
                values: output[update.column..].as_mut_ptr(),
                row_stride: width,
                accumulate: true,
            };
            // SAFETY: the output is borrowed and has that many rows, which this layer's columns end in.
            unsafe {
                row_product::<V>(sizes, left, &update.transposed, update.d_out, target);
            }
        }
    }
}

for_vectors! {
    /// The contribution of a few rows to the gradients of the input and of the factors: first those
    /// of the left, then of the right one, update by update. All are written, if there is an input.
    fn thin_gradients<V>(
        input: Option<&[f32]>,
        d_in: usize,
        gradient: &[f32],
        width: usize,
        updates: &[Thin<'_>],
        d_input: Option<&mut [f32]>,
        sums: &mut [MaybeUninit<f32>],
    ) {
        let rows = gradient.len() / width;
        let mut d_input = d_input;
        let mut rest = sums;
        for update in updates {
            let (rank, d_out) = (update.rank, update.d_out);
            let gradient = &gradient[update.column..];
            let d_thin = thin_rows::<V>(gradient, width, rows, update.left, rank, update.scaling);
            if let Some(d_input) = d_input.as_deref_mut() {
                let left = View { values: &d_thin, row_stride: rank, col_stride: 1 };
                let sizes = Sizes { rows, cols: d_in, inner: rank };
                assert!(d_input.len() >= rows * d_in, "gradients of {rows} rows");
                let target =
                    Target { values: d_input.as_mut_ptr(), row_stride: d_in, accumulate: true };
                // SAFETY: the target is borrowed, and was just measured.
                unsafe {
                    row_product::<V>(sizes, left, &update.transposed, d_in, target);
                }
            }
            let Some(input) = input else { continue };
            let (d_left, remaining) = rest.split_at_mut(d_out * rank);
            let (d_right, remaining) = remaining.split_at_mut(d_in * rank);
            rest = remaining;
            let thin = thin_rows::<V>(input, d_in, rows, update.right, rank, update.scaling);
            let sides = [
                (gradient, width, d_out, thin, d_left),
                (input, d_in, d_in, d_thin, d_right),
            ];
            for (values, stride, size, thin, sum) in sides {
                let left = View { values, row_stride: 1, col_stride: stride };
                let sizes = Sizes { rows: size, cols: rank, inner: rows };
                let values = sum.as_mut_ptr().cast();
                let target = Target { values, row_stride: rank, accumulate: false };
                // SAFETY: the sums were split to that size.
                unsafe { row_product::<V>(sizes, left, &thin, rank, target) };
            }
        }
    }
}
