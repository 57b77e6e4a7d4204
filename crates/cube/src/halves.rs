//! Rows in the types of the weights that they are multiplied by.

use burn::cubecl;
use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::operation::unwritten;
use crate::reduction::{cubes_for, largest_of_units, units_for};

/// Rows in a type, and what each has to be multiplied by afterwards, if anything: `[rows]`.
#[derive(Clone, Debug)]
pub(crate) struct TypedRows {
    pub values: CubeTensor,
    pub scales: Option<CubeTensor>,
}

/// Rows in f32, and in other types once they are asked for.
pub(crate) struct Converted {
    values: CubeTensor,
    others: Vec<TypedRows>,
}

impl Converted {
    /// - values: `[rows, width]` in f32, in order
    pub fn new(values: CubeTensor) -> Self {
        let others = Vec::new();
        Self { values, others }
    }

    /// Rows that become f16 are scaled by powers of two first, so that their largest values are near one: the
    /// gradients of a mean over many tokens are smaller than anything that f16 has.
    pub fn to(&mut self, kind: DType) -> TypedRows {
        let plain = |values: CubeTensor| TypedRows {
            values,
            scales: None,
        };
        if kind == DType::F32 {
            return plain(self.values.clone());
        }
        let found = self.others.iter().find(|other| other.values.dtype == kind);
        found.cloned().unwrap_or_else(|| {
            let converted = match kind {
                DType::F16 => scaled(&self.values),
                _ => plain(cast(self.values.clone(), kind)),
            };
            self.others.push(converted.clone());
            converted
        })
    }
}

fn scaled(rows: &CubeTensor) -> TypedRows {
    let [count, width] = rows.meta.shape().dims();
    let (client, device) = (rows.client.clone(), rows.device.clone());
    let shape = rows.meta.shape().clone();
    let values = empty_device_contiguous_dtype(client, device, shape, DType::F16);
    let scales = unwritten(rows, [count]);
    let units = units_for(width);
    // SAFETY: the kernel stays within the rows.
    unsafe {
        scale_rows::launch_unchecked(
            &rows.client,
            cubes_for(count),
            CubeDim::new_1d(units as u32),
            rows.clone().into_buffer_arg(),
            values.clone().into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            count,
            width,
            units,
            burn::backend::cubecl::dtype_to_storage_type(DType::F16),
        );
    }
    TypedRows {
        values,
        scales: Some(scales),
    }
}

/// The exponent of an f32.
const EXPONENT: u32 = 0x7f80_0000;

#[cube(launch_unchecked)]
fn scale_rows<H: Float>(
    input: &[f32],
    output: &mut [H],
    scales: &mut [f32],
    count: usize,
    width: usize,
    #[comptime] units: usize,
    #[define(H)] _kind: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let row = clamp_max(CUBE_POS, count - 1);
    let start = row * width;
    let mut largest = 0.0f32;
    let mut place = UNIT_POS as usize;
    while place < width {
        let size = input[start + place].abs();
        if size > largest {
            largest = size;
        }
        place += units;
    }
    let largest = largest_of_units(largest, &mut shared);
    // The power of two below it; rows of zeros, and what is not finite, stay as they are.
    let exponent = u32::reinterpret(largest) & EXPONENT;
    let mut scale = 1.0f32;
    if exponent > 0u32 && exponent < EXPONENT {
        scale = f32::reinterpret(exponent);
    }
    if UNIT_POS == 0 {
        scales[row] = scale;
    }
    let mut place = UNIT_POS as usize;
    while place < width {
        output[start + place] = H::cast_from(input[start + place] / scale);
        place += units;
    }
}
