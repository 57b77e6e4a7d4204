//! Kernels that decode weights in few bits, for themselves or while a few rows are multiplied by them.

use burn::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};
use eigenmix_quant::Encoding;

use crate::block_formats::value_of_block;
use crate::bytes::{byte, signed};
use crate::operation::unwritten;
use crate::reduction::{cubes_for, sum_of_units, units_for};

/// Up to this many rows are multiplied by a weight while it is decoded; for more it is decoded first.
pub(crate) const FEW_ROWS: usize = 8;

/// How values follow from bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// Rows of blocks; a table, which some formats have.
    Blocks(Encoding),
    /// `table[code]` · scale of its block of the flattened matrix, rounded; codes are two a byte, the first in the
    /// high half. A table, and scales; how many of the 23 bits of a value's fraction are rounded away.
    Codebook { rounded: u32 },
    /// code · largest of its row / 127, of bytes with a sign. The largest values.
    RowScaled,
    /// code · scale + offset of its row's group of columns; codes are two a byte, the first in the low half. Scales,
    /// offsets, and of scattered columns the group of each.
    Grouped { is_scattered: bool },
}

/// A matrix in few bits, but for its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedLayout {
    /// `[rows, cols]`
    pub shape: [usize; 2],
    pub rule: Rule,
    /// The bytes of a row of blocks, or how many values share a scale.
    pub span: usize,
    /// Groups of a row.
    pub groups: usize,
}

/// The tensors of a matrix as a kernel takes them; what a rule does not have stands for nothing.
struct Arguments<'a> {
    words: &'a CubeTensor,
    first: &'a CubeTensor,
    second: &'a CubeTensor,
    group_of: &'a CubeTensor,
}

impl PackedLayout {
    /// How many tables, scales and offsets there are.
    fn values(&self) -> usize {
        match self.rule {
            Rule::Blocks(_) | Rule::RowScaled => 1,
            Rule::Codebook { .. } | Rule::Grouped { .. } => 2,
        }
    }

    /// How many tensors there are: the words, those values, and the group of each column.
    pub fn tensors(&self) -> usize {
        let is_scattered = self.rule == Rule::Grouped { is_scattered: true };
        1 + self.values() + usize::from(is_scattered)
    }

    fn arguments<'a>(&self, tensors: &'a [CubeTensor]) -> Arguments<'a> {
        let words = &tensors[0];
        let values = &tensors[1..=self.values()];
        Arguments {
            words,
            first: &values[0],
            second: values.get(1).unwrap_or(&values[0]),
            group_of: tensors.get(1 + self.values()).unwrap_or(words),
        }
    }

    /// The matrix in f32, or the rows that are chosen.
    pub fn decoded(&self, tensors: &[CubeTensor], chosen: Option<&CubeTensor>) -> CubeTensor {
        let [all, cols] = self.shape;
        let arguments = self.arguments(tensors);
        let words = arguments.words;
        let rows = chosen.map_or(all, |chosen| chosen.meta.num_elements());
        let output = unwritten(words, [rows, cols]);
        let count = rows * cols;
        let units = CubeDim::new(&words.client, count);
        let argument = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        // SAFETY: the kernel looks whether there is a value; codes and scales are those of the shape.
        unsafe {
            decode::launch_unchecked(
                &words.client,
                calculate_cube_count_elemwise(&words.client, count, units),
                units,
                argument(words),
                argument(arguments.first),
                argument(arguments.second),
                argument(arguments.group_of),
                argument(chosen.unwrap_or(words)),
                argument(&output),
                count,
                cols,
                self.span,
                self.groups,
                self.rule,
                chosen.is_some(),
            );
        }
        output
    }

    /// x · Wᵀ of a few rows, without W anywhere.
    ///
    /// - input: `[rows, cols]`, in order, with up to [`FEW_ROWS`]
    /// - output: `[rows, weight rows]`
    pub fn product(&self, tensors: &[CubeTensor], input: &CubeTensor) -> CubeTensor {
        let ([outputs, cols], [rows, _]) = (self.shape, input.meta.shape().dims());
        let arguments = self.arguments(tensors);
        let output = unwritten(input, [rows, outputs]);
        let units = units_for(cols);
        let argument = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        // SAFETY: the kernel stays within the rows of the weight and of the input.
        unsafe {
            product_of_few::launch_unchecked(
                &input.client,
                cubes_for(outputs),
                CubeDim::new_1d(units as u32),
                argument(arguments.words),
                argument(arguments.first),
                argument(arguments.second),
                argument(arguments.group_of),
                argument(input),
                argument(&output),
                outputs,
                cols,
                self.span,
                self.groups,
                self.rule,
                rows,
                units,
            );
        }
        output
    }
}

/// The value of a row and column.
#[cube]
fn value_at(
    words: &[u32],
    first: &[f32],
    second: &[f32],
    group_of: &[i32],
    row: usize,
    col: usize,
    cols: usize,
    span: usize,
    groups: usize,
    #[comptime] rule: Rule,
) -> f32 {
    let flat = row * cols + col;
    match comptime!(rule) {
        Rule::Blocks(format) => {
            let length = comptime!(format.block_len());
            let bytes = comptime!(format.block_bytes());
            let start = row * span + col / length * bytes;
            value_of_block(words, first, start, col % length, format)
        }
        Rule::Codebook { rounded } => {
            let shift = (1 - flat % 2) as u32 * 4u32;
            let code = (byte(words, flat / 2) >> shift) & 15u32;
            round(first[code as usize] * second[flat / span], rounded)
        }
        Rule::RowScaled => signed(words, flat) * first[row] / 127.0f32,
        Rule::Grouped { is_scattered } => {
            let shift = (flat % 2) as u32 * 4u32;
            let code = (byte(words, flat / 2) >> shift) & 15u32;
            let mut group = col / span;
            if comptime!(is_scattered) {
                group = group_of[col] as usize;
            }
            let place = row * groups + group;
            code as f32 * first[place] + second[place]
        }
    }
}

/// The nearest number with so many bits of its fraction zero, the even one of two; of numbers that are subnormal
/// with fewer bits, too.
#[cube]
fn round(value: f32, #[comptime] rounded: u32) -> f32 {
    let mut found = value;
    if comptime!(rounded > 0) {
        let below = comptime!((1u32 << (rounded - 1)) - 1);
        let kept = comptime!(!((1u32 << rounded) - 1));
        let bits = u32::reinterpret(value);
        let is_odd = (bits >> rounded) & 1u32;
        found = f32::reinterpret((bits + below + is_odd) & kept);
    }
    found
}

/// - first, second: a table and scales, the largest values of rows, or scales and offsets
#[cube(launch_unchecked)]
fn decode(
    words: &[u32],
    first: &[f32],
    second: &[f32],
    group_of: &[i32],
    chosen: &[i32],
    output: &mut [f32],
    count: usize,
    cols: usize,
    span: usize,
    groups: usize,
    #[comptime] rule: Rule,
    #[comptime] is_chosen: bool,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let col = ABSOLUTE_POS % cols;
    let mut row = ABSOLUTE_POS / cols;
    if comptime!(is_chosen) {
        row = chosen[row] as usize;
    }
    output[ABSOLUTE_POS] = value_at(
        words, first, second, group_of, row, col, cols, span, groups, rule,
    );
}

/// A cube for each row of the weight.
#[cube(launch_unchecked)]
fn product_of_few(
    words: &[u32],
    first: &[f32],
    second: &[f32],
    group_of: &[i32],
    input: &[f32],
    output: &mut [f32],
    outputs: usize,
    cols: usize,
    span: usize,
    groups: usize,
    #[comptime] rule: Rule,
    #[comptime] rows: usize,
    #[comptime] units: usize,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let row = clamp_max(CUBE_POS, outputs - 1);
    let mut sums = Array::<f32>::new(rows);
    #[unroll]
    for place in 0..rows {
        sums[place] = 0.0;
    }
    let mut col = UNIT_POS as usize;
    while col < cols {
        let value = value_at(
            words, first, second, group_of, row, col, cols, span, groups, rule,
        );
        #[unroll]
        for place in 0..rows {
            sums[place] += value * input[place * cols + col];
        }
        col += units;
    }
    #[unroll]
    for place in 0..rows {
        let sum = sum_of_units(sums[place], &mut shared);
        if UNIT_POS == 0 && CUBE_POS < outputs {
            output[place * outputs + row] = sum;
        }
    }
}
