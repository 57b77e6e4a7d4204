//! Memory of tensors on the CPU.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};

/// A tensor of f32 that is still to be written: a kernel's output, of which it writes every number
/// before anyone reads one.
///
/// Flex clears the memory of a new tensor and then copies it to where it is aligned, on one thread:
/// three passes over numbers that nobody reads.
pub(crate) fn unwritten(shape: Shape) -> FlexTensor {
    let numbers = unwritten_numbers(shape.num_elements());
    FlexTensor::from_data(TensorData::new(numbers, shape))
}

/// Numbers that are still to be written.
pub(crate) fn unwritten_numbers(count: usize) -> Vec<f32> {
    let numbers = Box::<[f32]>::new_uninit_slice(count);
    // SAFETY: every pattern of bits is an f32, the memory is only handed to kernels of this crate, and
    // these write every number before they read it.
    unsafe { numbers.assume_init() }.into_vec()
}

/// A tensor to be written, of the shape of `tensor`.
pub(crate) fn unwritten_like(tensor: &FlexTensor) -> FlexTensor {
    unwritten(tensor.layout().shape().clone())
}

/// A contiguous tensor's numbers, which may lie inside a larger storage.
pub(crate) fn numbers(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    let count = tensor.layout().shape().num_elements();
    &tensor.storage::<f32>()[start..start + count]
}
