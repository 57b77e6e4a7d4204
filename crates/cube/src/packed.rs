//! Weights in few bits, as the bytes that files have.

use burn::tensor::{Device, Int, IntDType, Shape, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;

use crate::block_formats::BlockFormat;
use crate::decoding::{PackedLayout, Rule};
use crate::operation::{Operation, Queued, in_order, queued, queued_numbers, run, tensor};

/// A matrix `[rows, cols]` in few bits, as it lies in the memory of a device.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    layout: PackedLayout,
    /// Its codes or blocks: `[words]`, of 32 bits each, the first byte lowest.
    words: Tensor<1, Int>,
    /// A table, scales, offsets: what the rule of the layout has.
    values: Vec<Tensor<1>>,
    /// The group of each column, where they are not one after the other.
    group_of: Option<Tensor<1, Int>>,
}

/// Rows of blocks, one after the other: GGUF.
#[derive(Clone, Copy, Debug)]
pub struct BlockParts<'a> {
    pub format: BlockFormat,
    pub bytes: &'a [u8],
    /// What codes of four bits stand for, in the formats that have a table.
    pub table: &'a [f32; 16],
}

/// Four bits that choose from a table, with a scale for each block of the flattened matrix: bitsandbytes.
#[derive(Clone, Copy, Debug)]
pub struct CodebookParts<'a> {
    /// Two a byte, the first in the high half.
    pub codes: &'a [u8],
    pub table: &'a [f32; 16],
    /// Of each block.
    pub scales: &'a [f32],
    /// How many values share a scale.
    pub block: usize,
    /// How many of the 23 bits of a value's fraction are rounded away: 13 for half precision, 16 for bfloat16.
    pub rounded: u32,
}

/// Four bits in groups of columns, each with a scale and an offset: GPTQ, AWQ, MLX.
#[derive(Clone, Copy, Debug)]
pub struct GroupedParts<'a> {
    /// Row-major, two a byte, the first in the low half.
    pub codes: &'a [u8],
    /// Columns of a group.
    pub group: usize,
    /// `[rows, groups]`
    pub scales: &'a [f32],
    pub offsets: &'a [f32],
    /// The group of each column, where they are not one after the other.
    pub group_of: Option<&'a [u32]>,
}

impl PackedMatrix {
    /// - device: without autodiff
    pub fn blocks(shape: [usize; 2], parts: BlockParts<'_>, device: &Device) -> Self {
        let BlockParts {
            format,
            bytes,
            table,
        } = parts;
        let ([_, cols], [values, size]) = (shape, format.sizes());
        let layout = PackedLayout {
            shape,
            rule: Rule::Blocks(format),
            span: cols / values * size,
            groups: 0,
        };
        Self::new(layout, bytes, &[table], None, device)
    }

    /// - device: without autodiff
    pub fn codebook(shape: [usize; 2], parts: CodebookParts<'_>, device: &Device) -> Self {
        let layout = PackedLayout {
            shape,
            rule: Rule::Codebook {
                rounded: parts.rounded,
            },
            span: parts.block,
            groups: 0,
        };
        let values: [&[f32]; 2] = [parts.table, parts.scales];
        Self::new(layout, parts.codes, &values, None, device)
    }

    /// Bytes with a sign, row-major, as shares of the largest value of their row.
    ///
    /// - device: without autodiff
    pub fn row_scaled(shape: [usize; 2], codes: &[u8], largest: &[f32], device: &Device) -> Self {
        let layout = PackedLayout {
            shape,
            rule: Rule::RowScaled,
            span: 0,
            groups: 0,
        };
        Self::new(layout, codes, &[largest], None, device)
    }

    /// - device: without autodiff
    pub fn grouped(shape: [usize; 2], parts: GroupedParts<'_>, device: &Device) -> Self {
        let [_, cols] = shape;
        let layout = PackedLayout {
            shape,
            rule: Rule::Grouped {
                is_scattered: parts.group_of.is_some(),
            },
            span: parts.group,
            groups: cols.div_ceil(parts.group),
        };
        let values = [parts.scales, parts.offsets];
        Self::new(layout, parts.codes, &values, parts.group_of, device)
    }

    fn new(
        layout: PackedLayout,
        bytes: &[u8],
        values: &[&[f32]],
        group_of: Option<&[u32]>,
        device: &Device,
    ) -> Self {
        let values = values.iter().map(|values| {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
        });
        let groups = group_of.map(|groups| groups.iter().map(|&group| group as i32).collect());
        Self {
            layout,
            words: numbers(words(bytes), device),
            values: values.collect(),
            group_of: groups.map(|groups| numbers(groups, device)),
        }
    }

    /// `[rows, cols]`
    pub fn dims(&self) -> [usize; 2] {
        self.layout.shape
    }

    /// The matrix in f32.
    pub fn decoded(&self) -> Tensor<2> {
        self.decode(None)
    }

    /// Some of its rows in f32.
    ///
    /// - rows: `[count]`
    /// - output: `[count, cols]`
    pub fn decoded_rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        self.decode(Some(rows.cast(IntDType::I32)))
    }

    fn decode(&self, rows: Option<Tensor<1, Int>>) -> Tensor<2> {
        let operation = Decode {
            layout: self.layout,
            is_chosen: rows.is_some(),
        };
        let mut inputs = self.queued();
        inputs.extend(rows.map(queued_numbers));
        tensor(run(operation, inputs).remove(0))
    }

    pub(crate) fn layout(&self) -> PackedLayout {
        self.layout
    }

    /// Its tensors, as many as the layout says.
    pub(crate) fn queued(&self) -> Vec<Queued> {
        let values = self.values.iter().map(|values| queued(values.clone()));
        std::iter::once(queued_numbers(self.words.clone()))
            .chain(values)
            .chain(self.group_of.clone().map(queued_numbers))
            .collect()
    }
}

/// Bytes as words, the first byte lowest.
fn words(bytes: &[u8]) -> Vec<i32> {
    let words = bytes.chunks(size_of::<i32>()).map(|bytes| {
        let mut word = [0; size_of::<i32>()];
        word[..bytes.len()].copy_from_slice(bytes);
        i32::from_le_bytes(word)
    });
    words.collect()
}

fn numbers(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    let numbers = Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device);
    numbers.cast(IntDType::I32)
}

#[derive(Debug)]
struct Decode {
    layout: PackedLayout,
    /// Whether the last input says which rows.
    is_chosen: bool,
}

impl Operation for Decode {
    const NAME: &'static str = "decode";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let [all, cols] = self.layout.shape;
        let rows = match (self.is_chosen, inputs.last()) {
            (true, Some(chosen)) => chosen.num_elements(),
            _ => all,
        };
        vec![Shape::new([rows, cols])]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let mut inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let chosen = self.is_chosen.then(|| inputs.pop()).flatten();
        vec![self.layout.decoded(&inputs, chosen.as_ref())]
    }
}
