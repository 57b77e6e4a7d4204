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
        self.launch(rows, buffer, Direction::Spread);
    }

    /// The rows that exist.
    ///
    /// - rows: `[rows, heads · d_head]`, written whole
    pub fn pack(&self, buffer: &CubeTensor, rows: &CubeTensor) {
        self.launch(rows, buffer, Direction::Pack);
    }

    fn launch(&self, rows: &CubeTensor, buffer: &CubeTensor, direction: Direction) {
        let sequences = self.offsets.meta.num_elements() - 1;
        let heads_before = |region: usize| -> usize {
            let before = self.regions.iter().take(region);
            before.map(|(heads, _)| heads).sum()
        };
        let start = |region: usize| self.regions.get(region).map_or(0, |(_, start)| *start);
        let heads = heads_before(self.regions.len());
        let count = sequences * self.longest * heads * self.d_head;
        let units = CubeDim::new(&buffer.client, count);
        // SAFETY: the kernel looks whether there is a value; the regions are in the buffer, and every row is of one
        // sequence.
        unsafe {
            move_heads::launch_unchecked(
                &buffer.client,
                calculate_cube_count_elemwise(&buffer.client, count, units),
                units,
                rows.clone().into_buffer_arg(),
                self.offsets.clone().into_buffer_arg(),
                buffer.clone().into_buffer_arg(),
                count,
                self.longest,
                heads,
                self.d_head,
                heads_before(1),
                heads_before(2),
                start(0),
                start(1),
                start(2),
                direction,
            );
        }
    }
}

/// Which way values are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    /// From rows to heads.
    Spread,
    /// From heads to rows.
    Pack,
}

/// - second, third: the first head of the second region, and of the third
#[cube(launch_unchecked)]
fn move_heads(
    rows: &mut [f32],
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
    #[comptime] direction: Direction,
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
    let mut of_region = head;
    let mut heads_of_region = second;
    let mut begin = start;
    if head >= third {
        of_region = head - third;
        heads_of_region = heads - third;
        begin = third_start;
    } else if head >= second {
        of_region = head - second;
        heads_of_region = third - second;
        begin = second_start;
    }
    let block = sequence * heads_of_region + of_region;
    let in_buffer = begin + (block * longest + row) * d_head + column;
    let first = offsets[sequence] as usize;
    let length = offsets[sequence + 1] as usize - first;
    let in_rows = (first + row) * width + across;
    match comptime!(direction) {
        Direction::Spread => {
            let mut value = 0.0f32;
            if row < length {
                value = rows[in_rows];
            }
            buffer[in_buffer] = value;
        }
        Direction::Pack => {
            if row < length {
                rows[in_rows] = buffer[in_buffer];
            }
        }
    }
}
