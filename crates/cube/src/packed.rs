//! Weights in few bits, as the bytes that files have.

use burn::tensor::{Device, Int, IntDType, Shape, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use eigenmix_quant::{EncodedMatrix, Encoding, IQ4_VALUES, Rounding};

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

impl PackedMatrix {
    /// The weight on a GPU; `None` if its values are as wide as half precision or wider.
    ///
    /// - device: without autodiff
    pub fn of(matrix: &EncodedMatrix, device: &Device) -> Option<Self> {
        let shape @ [_, cols] = matrix.shape();
        let layout = |rule, span, groups| PackedLayout {
            shape,
            rule,
            span,
            groups,
        };
        if let Some((encoding, bytes)) = matrix.block_bytes() {
            if matches!(encoding, Encoding::F32 | Encoding::F16 | Encoding::Bf16) {
                return None;
            }
            let layout = layout(Rule::Blocks(encoding), encoding.row_bytes(cols)?, 0);
            return Some(Self::new(layout, bytes, &[&IQ4_VALUES], None, device));
        }
        if let Some(codebook) = matrix.codebook() {
            let (codes, table, scales) = codebook.parts();
            let rule = Rule::Codebook {
                rounded: match codebook.rounding() {
                    Rounding::None => 0,
                    Rounding::F16 => 13,
                    Rounding::Bf16 => 16,
                },
            };
            let layout = layout(rule, codebook.block(), 0);
            return Some(Self::new(layout, codes, &[table, scales], None, device));
        }
        if let Some(matrix) = matrix.row_scaled() {
            let (codes, largest) = matrix.parts();
            let layout = layout(Rule::RowScaled, 0, 0);
            return Some(Self::new(layout, codes, &[largest], None, device));
        }
        let grouped = matrix.grouped()?;
        let (scales, offsets) = grouped.scales_and_offsets();
        let rule = Rule::Grouped {
            is_scattered: grouped.group_of().is_some(),
        };
        let layout = layout(rule, grouped.group(), cols.div_ceil(grouped.group()));
        let values = [scales, offsets];
        let found = Self::new(layout, grouped.codes(), &values, grouped.group_of(), device);
        Some(found)
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
