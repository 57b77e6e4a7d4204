//! Packed rows of sequences as heads, and back: `[rows, heads · d_head]` to `[sequences, heads, longest, d_head]`.

use burn::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

/// The heads of a tensor of packed rows, which are up to three regions of a buffer.
#[derive(Clone, Debug)]
pub(crate) struct HeadRegions {
    pub d_head: usize,
    /// The rows of sequence i are `offsets[i]..offsets[i + 1]`: `[sequences + 1]`, i32.
    pub offsets: CubeTensor,
    /// The places of a sequence in the buffer, those for padding included.
    pub longest: usize,
    /// How many heads each region has, in the order of the columns, and where in the buffer it begins.
    pub regions: Vec<(usize, usize)>,
}

impl HeadRegions {
    /// Every place of the regions is written; padding is zero.
    ///
    /// - rows: `[rows, heads · d_head]`
    pub fn spread(&self, rows: &CubeTensor, buffer: &CubeTensor) {
        let layout = self.layout();
        let (cubes, units) = layout.cubes(buffer);
        let Layout {
            count,
            heads,
            second,
            third,
            starts,
        } = layout;
        // SAFETY: the kernel looks whether there is a value, and the regions are in the buffer.
        unsafe {
            spread_heads::launch_unchecked(
                &buffer.client,
                cubes,
                units,
                rows.clone().into_buffer_arg(),
                self.offsets.clone().into_buffer_arg(),
                buffer.clone().into_buffer_arg(),
                count,
                self.longest,
                heads,
                self.d_head,
                second,
                third,
                starts[0],
                starts[1],
                starts[2],
            );
        }
    }

    /// The rows that exist.
    ///
    /// - rows: `[rows, heads · d_head]`, written whole
    pub fn pack(&self, buffer: &CubeTensor, rows: &CubeTensor) {
        let layout = self.layout();
        let (cubes, units) = layout.cubes(buffer);
        let Layout {
            count,
            heads,
            second,
            third,
            starts,
        } = layout;
        // SAFETY: as above; every row is of one sequence.
        unsafe {
            pack_heads::launch_unchecked(
                &buffer.client,
                cubes,
                units,
                buffer.clone().into_buffer_arg(),
                self.offsets.clone().into_buffer_arg(),
                rows.clone().into_buffer_arg(),
                count,
                self.longest,
                heads,
                self.d_head,
                second,
                third,
                starts[0],
                starts[1],
                starts[2],
            );
        }
    }

    fn layout(&self) -> Layout {
        let heads: usize = self.regions.iter().map(|(heads, _)| heads).sum();
        let sequences = self.offsets.meta.num_elements() - 1;
        let before = |regions: usize| {
            let before = self.regions.iter().take(regions);
            before.map(|(heads, _)| heads).sum()
        };
        Layout {
            count: sequences * self.longest * heads * self.d_head,
            heads,
            second: before(1),
            third: before(2),
            starts: [0, 1, 2].map(|region| self.regions.get(region).map_or(0, |(_, start)| *start)),
        }
    }
}

/// What the kernels are told.
struct Layout {
    /// Values in the regions.
    count: usize,
    heads: usize,
    /// The first head of the second region, and of the third.
    second: usize,
    third: usize,
    starts: [usize; 3],
}

impl Layout {
    fn cubes(&self, like: &CubeTensor) -> (CubeCount, CubeDim) {
        let units = CubeDim::new(&like.client, self.count);
        let cubes = calculate_cube_count_elemwise(&like.client, self.count, units);
        (cubes, units)
    }
}

/// Where a value of a head is in the buffer.
#[cube]
fn place_in_buffer(
    sequence: usize,
    head: usize,
    row: usize,
    column: usize,
    longest: usize,
    heads: usize,
    d_head: usize,
    second: usize,
    third: usize,
    start: usize,
    second_start: usize,
    third_start: usize,
) -> usize {
    let mut of_region = head;
    let mut count = second;
    let mut begin = start;
    if head >= third {
        of_region = head - third;
        count = heads - third;
        begin = third_start;
    } else if head >= second {
        of_region = head - second;
        count = third - second;
        begin = second_start;
    }
    begin + ((sequence * count + of_region) * longest + row) * d_head + column
}

#[cube(launch_unchecked)]
fn spread_heads(
    rows: &[f32],
    offsets: &[i32],
    buffer: &mut [f32],
    count: usize,
    longest: usize,
    heads: usize,
    d_head: usize,
    second: usize,
    third: usize,
    start: usize,
    second_start: usize,
    third_start: usize,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let width = heads * d_head;
    let across = ABSOLUTE_POS % width;
    let place = ABSOLUTE_POS / width;
    let row = place % longest;
    let sequence = place / longest;
    let head = across / d_head;
    let column = across % d_head;
    let first = offsets[sequence] as usize;
    let length = offsets[sequence + 1] as usize - first;
    let mut value = 0.0f32;
    if row < length {
        value = rows[(first + row) * width + across];
    }
    let target = place_in_buffer(
        sequence,
        head,
        row,
        column,
        longest,
        heads,
        d_head,
        second,
        third,
        start,
        second_start,
        third_start,
    );
    buffer[target] = value;
}

#[cube(launch_unchecked)]
fn pack_heads(
    buffer: &[f32],
    offsets: &[i32],
    rows: &mut [f32],
    count: usize,
    longest: usize,
    heads: usize,
    d_head: usize,
    second: usize,
    third: usize,
    start: usize,
    second_start: usize,
    third_start: usize,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let width = heads * d_head;
    let across = ABSOLUTE_POS % width;
    let place = ABSOLUTE_POS / width;
    let row = place % longest;
    let sequence = place / longest;
    let head = across / d_head;
    let column = across % d_head;
    let first = offsets[sequence] as usize;
    let length = offsets[sequence + 1] as usize - first;
    if row < length {
        let source = place_in_buffer(
            sequence,
            head,
            row,
            column,
            longest,
            heads,
            d_head,
            second,
            third,
            start,
            second_start,
            third_start,
        );
        rows[(first + row) * width + across] = buffer[source];
    }
}
