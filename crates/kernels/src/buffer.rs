//! Memory of tensors on the CPU.
//!
//! Flex clears the memory of a new tensor and then copies it to an aligned address, on one thread:
//! three passes over values that are never read. Kernels write their outputs into uninitialised
//! memory instead. Until a value is written, no reference to an `f32` may point at its place.

use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

/// Uninitialised memory for f32 values, written through pointers.
pub(crate) struct Unwritten(Box<[MaybeUninit<f32>]>);

impl Unwritten {
    pub fn new(count: usize) -> Self {
        Self(Box::new_uninit_slice(count))
    }

    /// A pointer to the first value.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }

    /// The places of the values.
    pub fn places(&mut self) -> &mut [MaybeUninit<f32>] {
        &mut self.0
    }

    /// A pointer to the first of `count` values.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn pointer_to(&mut self, count: usize) -> *mut f32 {
        self.0[..count].as_mut_ptr().cast()
    }

    /// The first `count` values.
    ///
    /// # Safety
    /// They must be written.
    ///
    /// # Panics
    /// If there are fewer.
    pub unsafe fn first(&mut self, count: usize) -> &mut [f32] {
        // SAFETY: the caller's.
        unsafe { assume_written(&mut self.0[..count]) }
    }

    /// # Safety
    /// All values must be written.
    pub unsafe fn into_vec(self) -> Vec<f32> {
        // SAFETY: the caller's.
        unsafe { self.0.assume_init() }.into_vec()
    }

    /// # Safety
    /// All values must be written.
    ///
    /// # Panics
    /// If the shape has more or fewer values.
    pub unsafe fn into_tensor(self, shape: impl Into<Shape>) -> FlexTensor {
        // SAFETY: the caller's.
        tensor(unsafe { self.into_vec() }, shape)
    }
}

/// A tensor that `write` fills, `part_length` values at a time on all threads, each part from its
/// item of `sources`.
///
/// # Safety
/// `write` must write every value of a part.
///
/// # Panics
/// If there are more or fewer sources than parts.
pub(crate) unsafe fn filled_in_parts<S: IndexedParallelIterator>(
    shape: impl Into<Shape>,
    part_length: usize,
    sources: S,
    write: impl Fn(&mut [MaybeUninit<f32>], S::Item) + Sync,
) -> FlexTensor {
    let shape = shape.into();
    let mut memory = Unwritten::new(shape.num_elements());
    memory
        .0
        .par_chunks_mut(part_length)
        .zip_eq(sources)
        .for_each(|(part, source)| write(part, source));
    // SAFETY: the parts cover the memory, and all of their values were written, says the caller.
    unsafe { memory.into_tensor(shape) }
}

/// Zeros in place of what was not written.
pub(crate) fn cleared(part: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    part.fill(MaybeUninit::new(0.0));
    // SAFETY: zeros were just written.
    unsafe { assume_written(part) }
}

/// # Safety
/// All values must be written.
pub(crate) unsafe fn assume_written(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    // SAFETY: the caller's; both slices are of the same length and layout.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [f32]) }
}

/// # Panics
/// If the shape has more or fewer values.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A contiguous tensor's values, which may be part of a larger storage.
pub(crate) fn values_of(tensor: &FlexTensor) -> &[f32] {
    part_of_storage(tensor, tensor.storage::<f32>())
}

/// The part of its storage that a contiguous tensor is.
pub(crate) fn part_of_storage<'a, E>(tensor: &FlexTensor, storage: &'a [E]) -> &'a [E] {
    let start = tensor.layout().start_offset();
    let count = tensor.layout().shape().num_elements();
    &storage[start..start + count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_its_own_source() {
        // The last part is shorter.
        let sources = [1.0f32, 2.0, 3.0];
        let write = |part: &mut [_], &source: &f32| {
            cleared(part).iter_mut().for_each(|value| *value += source);
        };
        // SAFETY: every part is cleared.
        let tensor = unsafe { filled_in_parts([2, 5], 4, sources.par_iter(), write) };
        let expected = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0];
        assert_eq!(values_of(&tensor), expected);
    }

    #[test]
    #[should_panic(expected = "length")]
    fn a_part_without_a_source_is_refused() {
        let write = |part: &mut [_], _: &f32| {
            cleared(part);
        };
        // SAFETY: every part is cleared.
        unsafe { filled_in_parts([10], 4, [1.0f32, 2.0].par_iter(), write) };
    }

    #[test]
    fn what_was_written_through_the_pointer_is_found() {
        let mut memory = Unwritten::new(3);
        let pointer = memory.as_mut_ptr();
        for index in 0..3 {
            // SAFETY: three values have room.
            unsafe { pointer.add(index).write(index as f32) };
        }
        // SAFETY: all three were just written.
        unsafe {
            assert_eq!(memory.first(2), [0.0, 1.0]);
            assert_eq!(memory.into_vec(), [0.0, 1.0, 2.0]);
        }
    }
}
