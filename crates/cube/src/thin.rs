//! The products of an update of low rank: rows with a thin factor, and columns with what came of it, for up to
//! three layers in one launch. Where there are few tiles, what is summed over is split among more cubes, whose sums
//! are added in a second launch, always in the same order.

use burn::cubecl;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::slice;
use burn_cubecl::ops::numeric::mul_scalar;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::unwritten;
use crate::product::{product, transposed};
use crate::regions::Regions;

/// Up to this rank a factor is thin; wider ones are multiplied as any matrix is.
const THIN: usize = 32;
/// Rows that a cube computes, or columns of the transposed products.
const LINES: usize = 32;
/// Columns of a factor that it computes.
const COLUMNS: usize = 16;
/// What is shared at a time of what is summed over.
const STEP: usize = 32;
/// Units of a cube: each computes two columns of a row.
const UNITS: usize = 256;
const ACROSS: usize = COLUMNS / 2;
/// The width of a row of shared values, odd, so that neighbours are in different banks.
const SHARED: usize = STEP + 1;
/// Layers of a launch.
const LAYERS: usize = 3;
/// How many cubes keep every GPU busy.
const CUBES: usize = 512;
/// What a cube sums over, at least, before it is split.
const INNER: usize = 256;

/// A layer's part of the products.
#[derive(Clone, Debug)]
pub(crate) struct ThinPart {
    /// Its columns of A: from the first on, as many as the layer has.
    pub first: usize,
    pub columns: usize,
    /// `[columns, rank]` of [`products`]; `[rows, rank]` of [`transposed_products`].
    pub factor: CubeTensor,
}

/// s · A[:, columns] · F of every layer: `[rows, rank]` each.
///
/// - all: A `[rows, width]`, in order
/// - parts: up to three
/// - scalings: s of each
pub(crate) fn products(all: &CubeTensor, parts: &[ThinPart], scalings: &[f32]) -> Vec<CubeTensor> {
    let [rows, width] = all.meta.shape().dims();
    if parts.iter().any(|part| rank(part) > THIN) {
        let wide = parts.iter().zip(scalings).map(|(part, &scaling)| {
            let found = product(columns_of(all, part), part.factor.clone());
            match scaling == 1.0 {
                true => found,
                false => mul_scalar(found, InputScalar::new(scaling, scalar_kind())),
            }
        });
        return wide.collect();
    }
    let shapes = parts.iter().map(|part| Shape::new([rows, rank(part)]));
    let found = Regions::unwritten(all, shapes);
    launch(all, parts, scalings, &found, [rows, width], false);
    found.parts
}

/// A[:, columns]ᵀ · F of every layer: `[columns, rank]` each.
///
/// - all: A `[rows, width]`, in order
/// - parts: up to three
pub(crate) fn transposed_products(all: &CubeTensor, parts: &[ThinPart]) -> Vec<CubeTensor> {
    let [rows, width] = all.meta.shape().dims();
    if parts.iter().any(|part| rank(part) > THIN) {
        let wide = parts
            .iter()
            .map(|part| product(transposed(columns_of(all, part)), part.factor.clone()));
        return wide.collect();
    }
    let shapes = parts
        .iter()
        .map(|part| Shape::new([part.columns, rank(part)]));
    let found = Regions::unwritten(all, shapes);
    launch(all, parts, &[1.0; LAYERS], &found, [rows, width], true);
    found.parts
}

fn rank(part: &ThinPart) -> usize {
    let [_, rank] = part.factor.meta.shape().dims();
    rank
}

fn columns_of(all: &CubeTensor, part: &ThinPart) -> CubeTensor {
    let [rows, width] = all.meta.shape().dims();
    match part.columns == width {
        true => all.clone(),
        false => slice(
            all.clone(),
            &[0..rows, part.first..part.first + part.columns],
        ),
    }
}

fn scalar_kind() -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(DType::F32)
}

fn launch(
    all: &CubeTensor,
    parts: &[ThinPart],
    scalings: &[f32],
    found: &Regions,
    [rows, width]: [usize; 2],
    is_transposed: bool,
) {
    assert!(matches!(parts.len(), 1..=LAYERS), "up to three layers");
    let factor = |layer: usize| parts.get(layer).unwrap_or(&parts[0]).factor.clone();
    let of_each = |value: &dyn Fn(usize) -> usize| -> SequenceArg<usize> {
        (0..parts.len()).map(value).collect()
    };
    let lines = match is_transposed {
        true => parts.iter().map(|part| part.columns).max().unwrap_or(1),
        false => rows,
    };
    let ranks = parts.iter().map(rank).max().unwrap_or(1);
    let inner = match is_transposed {
        true => rows,
        false => parts.iter().map(|part| part.columns).max().unwrap_or(1),
    };
    let tiles = [lines.div_ceil(LINES), ranks.div_ceil(COLUMNS), parts.len()];
    let splits = (CUBES / tiles.iter().product::<usize>().max(1)).min(inner / INNER);
    let splits = splits.max(1);
    let [x, y, z] = [tiles[0], tiles[1], tiles[2] * splits].map(|cubes| cubes as u32);
    let all_parts = found.buffer.meta.num_elements();
    let output = match splits {
        1 => found.buffer.clone(),
        _ => unwritten(all, [splits * all_parts]),
    };
    // SAFETY: the kernel stays within the rows and columns that it is told, which are those of its arguments.
    unsafe {
        thin_products::launch_unchecked(
            &all.client,
            CubeCount::Static(x, y, z),
            CubeDim::new_1d(UNITS as u32),
            all.clone().into_buffer_arg(),
            factor(0).into_buffer_arg(),
            factor(1).into_buffer_arg(),
            factor(2).into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            width,
            splits,
            all_parts,
            of_each(&|layer| parts[layer].first),
            of_each(&|layer| parts[layer].columns),
            of_each(&|layer| rank(&parts[layer])),
            of_each(&|layer| found.starts[layer]),
            scalings[..parts.len()].iter().copied().collect(),
            parts.len(),
            is_transposed,
        );
    }
    if splits > 1 {
        let units = CubeDim::new(&all.client, all_parts);
        // SAFETY: the kernel looks whether there is a value.
        unsafe {
            sum_splits::launch_unchecked(
                &all.client,
                calculate_cube_count_elemwise(&all.client, all_parts, units),
                units,
                output.into_buffer_arg(),
                found.buffer.clone().into_buffer_arg(),
                all_parts,
                splits,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn sum_splits(parts: &[f32], output: &mut [f32], count: usize, splits: usize) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mut sum = 0.0f32;
    for split in 0..splits {
        sum += parts[split * count + ABSOLUTE_POS];
    }
    output[ABSOLUTE_POS] = sum;
}

#[cube(launch_unchecked)]
fn thin_products(
    all: &[f32],
    first_factor: &[f32],
    second_factor: &[f32],
    third_factor: &[f32],
    output: &mut [f32],
    rows: usize,
    width: usize,
    splits: usize,
    all_parts: usize,
    firsts: Sequence<usize>,
    columns: Sequence<usize>,
    ranks: Sequence<usize>,
    starts: Sequence<usize>,
    scalings: Sequence<f32>,
    #[comptime] layers: usize,
    #[comptime] is_transposed: bool,
) {
    let mut of_all = Shared::<[f32]>::new_slice(LINES * SHARED);
    let mut of_factor = Shared::<[f32]>::new_slice(STEP * COLUMNS);
    let layer = CUBE_POS_Z as usize % layers;
    let split = CUBE_POS_Z as usize / layers;
    let before = split * all_parts;
    if layer == 0 {
        thin_tile(
            all,
            first_factor,
            output,
            &mut of_all,
            &mut of_factor,
            rows,
            width,
            firsts[0],
            columns[0],
            ranks[0],
            before + starts[0],
            scalings[0],
            split,
            splits,
            is_transposed,
        );
    }
    if comptime!(layers > 1) {
        if layer == 1 {
            thin_tile(
                all,
                second_factor,
                output,
                &mut of_all,
                &mut of_factor,
                rows,
                width,
                firsts[1],
                columns[1],
                ranks[1],
                before + starts[1],
                scalings[1],
                split,
                splits,
                is_transposed,
            );
        }
    }
    if comptime!(layers > 2) {
        if layer == 2 {
            thin_tile(
                all,
                third_factor,
                output,
                &mut of_all,
                &mut of_factor,
                rows,
                width,
                firsts[2],
                columns[2],
                ranks[2],
                before + starts[2],
                scalings[2],
                split,
                splits,
                is_transposed,
            );
        }
    }
}

/// A tile of one layer's product: lines are rows of A, and what is summed over are its columns; transposed it is
/// the other way round.
#[cube]
fn thin_tile(
    all: &[f32],
    factor: &[f32],
    output: &mut [f32],
    of_all: &mut Shared<[f32]>,
    of_factor: &mut Shared<[f32]>,
    rows: usize,
    width: usize,
    first: usize,
    columns: usize,
    rank: usize,
    start: usize,
    scaling: f32,
    split: usize,
    splits: usize,
    #[comptime] is_transposed: bool,
) {
    let unit = UNIT_POS as usize;
    let line_0 = CUBE_POS_X as usize * LINES;
    let column_0 = CUBE_POS_Y as usize * COLUMNS;
    let mut lines = rows;
    let mut inner = columns;
    if comptime!(is_transposed) {
        lines = columns;
        inner = rows;
    }
    let line = unit / ACROSS;
    let across = unit % ACROSS;
    let mut sum = 0.0f32;
    let mut other_sum = 0.0f32;
    // Whole steps, so that only the last split has fewer.
    let each = inner.div_ceil(splits * STEP) * STEP;
    let mut begin = split * each;
    let mut end = begin + each;
    if end > inner {
        end = inner;
    }
    while begin < end {
        #[unroll]
        for part in 0..LINES * STEP / UNITS {
            let place = part * UNITS + unit;
            // Neighbouring units read neighbouring values.
            if comptime!(is_transposed) {
                let at = place % LINES;
                let step = place / LINES;
                let mut value = 0.0f32;
                if line_0 + at < lines && begin + step < inner {
                    value = all[(begin + step) * width + first + line_0 + at];
                }
                of_all[at * SHARED + step] = value;
            } else {
                let at = place / STEP;
                let step = place % STEP;
                let mut value = 0.0f32;
                if line_0 + at < lines && begin + step < inner {
                    value = all[(line_0 + at) * width + first + begin + step];
                }
                of_all[at * SHARED + step] = value;
            }
        }
        #[unroll]
        for part in 0..STEP * COLUMNS / UNITS {
            let place = part * UNITS + unit;
            let step = place / COLUMNS;
            let column = column_0 + place % COLUMNS;
            let mut value = 0.0f32;
            if begin + step < inner && column < rank {
                value = factor[(begin + step) * rank + column];
            }
            of_factor[place] = value;
        }
        sync_cube();
        #[unroll]
        for step in 0..STEP {
            let value = of_all[line * SHARED + step];
            sum += value * of_factor[step * COLUMNS + across];
            other_sum += value * of_factor[step * COLUMNS + ACROSS + across];
        }
        sync_cube();
        begin += STEP;
    }
    let place = start + (line_0 + line) * rank;
    if line_0 + line < lines {
        if column_0 + across < rank {
            output[place + column_0 + across] = sum * scaling;
        }
        if column_0 + ACROSS + across < rank {
            output[place + column_0 + ACROSS + across] = other_sum * scaling;
        }
    }
}
