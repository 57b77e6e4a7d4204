//! Tensors that are parts of one buffer.

use std::ops::Range;

use burn::cubecl;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::unwritten;
use crate::product::{product, product_into};

/// How many f32 lie between places where a part of a buffer may begin.
pub(crate) fn alignment(like: &CubeTensor) -> usize {
    let bytes = like.client.properties().memory.alignment as usize;
    bytes.div_ceil(size_of::<f32>()).max(1)
}

/// A buffer of f32 and its parts, each with the place where it begins.
pub(crate) struct Regions {
    pub buffer: CubeTensor,
    pub starts: Vec<usize>,
    pub parts: Vec<CubeTensor>,
}

impl Regions {
    /// Parts of these shapes, whose values nobody wrote yet.
    pub fn unwritten(like: &CubeTensor, shapes: impl IntoIterator<Item = Shape>) -> Self {
        let aligned = alignment(like);
        let (mut starts, mut end) = (Vec::new(), 0);
        let shapes: Vec<Shape> = shapes.into_iter().collect();
        for shape in &shapes {
            starts.push(end);
            end += shape.num_elements().next_multiple_of(aligned);
        }
        let buffer = unwritten(like, [end]);
        let parts = starts.iter().zip(shapes);
        let parts = parts.map(|(&start, shape)| part(&buffer, start, shape));
        Self {
            parts: parts.collect(),
            buffer,
            starts,
        }
    }

    /// Everything becomes zero.
    pub fn clear(&self) {
        let count = self.buffer.meta.num_elements();
        let units = CubeDim::new(&self.buffer.client, count);
        // SAFETY: the kernel looks whether there is a place.
        unsafe {
            clear_places::launch_unchecked(
                &self.buffer.client,
                calculate_cube_count_elemwise(&self.buffer.client, count, units),
                units,
                self.buffer.clone().into_buffer_arg(),
                count,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn clear_places(places: &mut [f32], count: usize) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    places[ABSOLUTE_POS] = 0.0;
}

/// Some rows of some blocks `[blocks, rows, width]`: where they lie, if the device can read from there.
pub(crate) fn some_rows(
    all: &CubeTensor,
    blocks: &Range<usize>,
    rows: &Range<usize>,
) -> CubeTensor {
    let [every_block, every_row, width] = all.meta.shape().dims();
    match *blocks == (0..every_block) && *rows == (0..every_row) {
        true => all.clone(),
        false => slice(all.clone(), &[blocks.clone(), rows.clone(), 0..width]),
    }
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Writing {
    Set,
    Add,
}

/// Some rows of some blocks, to be written.
pub(crate) struct Place<'a> {
    all: &'a CubeTensor,
    shape: [usize; 3],
    /// The first value, and how many lie between blocks.
    start: usize,
    between: usize,
}

impl<'a> Place<'a> {
    pub fn of(all: &'a CubeTensor, blocks: &Range<usize>, rows: &Range<usize>) -> Self {
        let [_, every_row, width] = all.meta.shape().dims();
        Self {
            all,
            shape: [blocks.len(), rows.len(), width],
            start: (blocks.start * every_row + rows.start) * width,
            between: every_row * width,
        }
    }

    /// left · right goes there: at once, if nothing lies between the blocks.
    pub fn product(&self, left: CubeTensor, right: CubeTensor, writing: Writing) {
        let [_, rows, width] = self.shape;
        let is_whole = rows * width == self.between;
        let is_aligned = self.start.is_multiple_of(alignment(self.all));
        match writing == Writing::Set && is_whole && is_aligned {
            true => product_into(left, right, part(self.all, self.start, self.shape.into())),
            false => self.write(product(left, right), writing),
        }
    }

    /// - values: `[blocks, rows, width]`, in order
    fn write(&self, values: CubeTensor, writing: Writing) {
        let [blocks, rows, width] = self.shape;
        let count = blocks * rows * width;
        let units = CubeDim::new(&values.client, count);
        // SAFETY: the kernel looks whether there is a value; the place has as many.
        unsafe {
            write_rows::launch_unchecked(
                &values.client,
                calculate_cube_count_elemwise(&values.client, count, units),
                units,
                values.clone().into_buffer_arg(),
                self.all.clone().into_buffer_arg(),
                count,
                rows * width,
                self.start,
                self.between,
                writing,
            );
        }
    }
}

/// - each: the values of a block
#[cube(launch_unchecked)]
fn write_rows(
    values: &[f32],
    places: &mut [f32],
    count: usize,
    each: usize,
    start: usize,
    between: usize,
    #[comptime] writing: Writing,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let place = start + ABSOLUTE_POS / each * between + ABSOLUTE_POS % each;
    match comptime!(writing) {
        Writing::Set => {
            places[place] = values[ABSOLUTE_POS];
        }
        Writing::Add => {
            places[place] += values[ABSOLUTE_POS];
        }
    }
}

/// What begins at a place of a tensor of f32 that is in order.
///
/// - start: a multiple of the [`alignment`]
pub(crate) fn part(whole: &CubeTensor, start: usize, shape: Shape) -> CubeTensor {
    let bytes = |count: usize| (count * size_of::<f32>()) as u64;
    let behind = whole.meta.num_elements() - start - shape.num_elements();
    let handle = whole.handle.clone();
    let handle = handle.offset_start(bytes(start)).offset_end(bytes(behind));
    let (client, device) = (whole.client.clone(), whole.device.clone());
    CubeTensor::new_contiguous(client, device, shape, handle, DType::F32)
}
