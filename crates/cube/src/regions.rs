//! Tensors that are parts of one buffer.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use crate::operation::unwritten;

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
