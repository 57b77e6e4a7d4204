//! A frozen weight as the kernels of a backend take it, and how the CPU computes with it.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex};
use burn::tensor::{DType, bf16, f16};
use rayon::prelude::*;

use crate::CHUNK;
use crate::buffer::filled_in_parts;
use crate::few_rows::{FEW_ROWS, few_rows_product, widen_bf16, widen_f16};
use crate::product::{MatrixView, Start, product};
use crate::row_product::Target;

/// A matrix W `[d_out, d_in]` in the form in which it is kept.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) enum StoredWeight<B: Backend> {
    /// In f32, f16 or bf16.
    Float(FloatTensor<B>),
}

impl<B: Backend, C: CheckpointStrategy> StoredWeight<Autodiff<B, C>> {
    /// The weight outside of the graph, where its values are.
    pub fn into_inner(self) -> StoredWeight<B> {
        match self {
            Self::Float(values) => StoredWeight::Float(values.into_primitive()),
        }
    }
}

impl StoredWeight<Flex> {
    /// `[d_out, d_in]`
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(values) => [values.layout().shape()[0], values.layout().shape()[1]],
        }
    }

    /// W in f32, for several products.
    ///
    /// A half-precision model takes half the memory and computes like the widened model: W is
    /// widened for a product and again for the gradient, and dropped in between.
    pub fn widened(&self) -> WidenedWeight {
        match self {
            Self::Float(values) => WidenedWeight(widened(values)),
        }
    }

    /// target = x · Wᵀ + start.
    ///
    /// For a few rows, such as in generation, reading W takes most of the time, so each row of W is
    /// read once, as it is stored.
    ///
    /// - input: `[rows, d_in]`, contiguous
    ///
    /// # Safety
    /// The target must be valid for as many rows of d_out values, nothing else may access them
    /// meanwhile, and it must not be one that is added to.
    ///
    /// # Panics
    /// If the rows of the input are not as long as those of W.
    pub unsafe fn product(&self, input: &FlexTensor, target: Target, start: Start) {
        let (rows, width) = (input.layout().shape()[0], input.layout().shape()[1]);
        let [_, d_in] = self.dims();
        assert_eq!(width, d_in, "width of an input against d_in of a weight");
        if rows == 0 {
            return;
        }
        if rows <= FEW_ROWS
            && let Self::Float(values) = self
            && values.dtype() != DType::F32
            && values.is_contiguous()
        {
            // SAFETY: the caller's.
            unsafe { few_rows_product(input, values, target, start) };
            return;
        }
        // SAFETY: the caller's.
        unsafe { self.widened().product(MatrixView::of(input), target, start) }
    }

    /// Writes row `index` in f32, all of it. W must be contiguous.
    ///
    /// - row: `[d_in]`
    pub fn read_row(&self, index: usize, row: &mut [MaybeUninit<f32>]) {
        let Self::Float(values) = self;
        let start = values.layout().start_offset() + index * row.len();
        let range = start..start + row.len();
        match values.dtype() {
            DType::BF16 => widen_bf16(&values.storage::<bf16>()[range], row),
            DType::F16 => widen_f16(&values.storage::<f16>()[range], row),
            _ => {
                row.write_copy_of_slice(&values.storage::<f32>()[range]);
            }
        }
    }

    /// W in the same form with its rows one after the other, for [`StoredWeight::read_row`].
    pub fn to_contiguous(&self) -> Self {
        match self {
            Self::Float(values) => Self::Float(values.to_contiguous()),
        }
    }
}

/// W `[d_out, d_in]` in f32.
pub(crate) struct WidenedWeight(FlexTensor);

impl WidenedWeight {
    pub fn d_out(&self) -> usize {
        self.0.layout().shape()[0]
    }

    /// target (+)= x · Wᵀ + start.
    ///
    /// - input: `[rows, d_in]`
    ///
    /// # Safety
    /// As for [`product`].
    pub unsafe fn product(&self, input: MatrixView, target: Target, start: Start) {
        // SAFETY: the caller's.
        unsafe { product(input, MatrixView::of(&self.0).transposed(), target, start) }
    }

    /// target (+)= dy · W: the gradient of x from that of x · Wᵀ.
    ///
    /// - gradient: `[rows, d_out]`
    ///
    /// # Safety
    /// As for [`product`].
    pub unsafe fn input_gradient(&self, gradient: MatrixView, target: Target) {
        // SAFETY: the caller's.
        unsafe { product(gradient, MatrixView::of(&self.0), target, Start::default()) }
    }
}

/// The tensor in f32.
fn widened(tensor: &FlexTensor) -> FlexTensor {
    match tensor.dtype() {
        DType::BF16 => {
            let stored = tensor.to_contiguous();
            converted(&stored, stored.storage::<bf16>(), widen_bf16)
        }
        DType::F16 => {
            let stored = tensor.to_contiguous();
            converted(&stored, stored.storage::<f16>(), widen_f16)
        }
        _ => tensor.clone(),
    }
}

/// - stored: as many values as the tensor has
/// - widen: writes as many values as it is given, or panics
fn converted<E: Sync>(
    tensor: &FlexTensor,
    stored: &[E],
    widen: fn(&[E], &mut [MaybeUninit<f32>]),
) -> FlexTensor {
    let shape = tensor.layout().shape().clone();
    assert_eq!(shape.num_elements(), stored.len(), "values to widen");
    let parts = stored.par_chunks(CHUNK);
    // SAFETY: both sides are cut into the same parts, and a part is written whole.
    unsafe { filled_in_parts(shape, CHUNK, parts, |wide, stored| widen(stored, wide)) }
}

/// A weight, or none.
#[derive(ExtensionType)]
pub(crate) enum WeightSlot<B: Backend> {
    Empty,
    Full(#[extension_type] StoredWeight<B>),
}

/// Up to three weights, as one argument of a backend's operation.
#[derive(ExtensionType)]
pub(crate) struct WeightList<B: Backend> {
    #[extension_type]
    first: WeightSlot<B>,
    #[extension_type]
    second: WeightSlot<B>,
    #[extension_type]
    third: WeightSlot<B>,
}

impl<B: Backend> WeightList<B> {
    /// # Panics
    /// If there are more than three.
    pub fn new(weights: Vec<StoredWeight<B>>) -> Self {
        let count = weights.len();
        assert!(count <= 3, "{count} weights in a list of three");
        let mut weights = weights.into_iter();
        let mut next = || weights.next().map_or(WeightSlot::Empty, WeightSlot::Full);
        Self {
            first: next(),
            second: next(),
            third: next(),
        }
    }

    /// In the order in which they were given.
    pub fn into_vec(self) -> Vec<StoredWeight<B>> {
        let slots = [self.first, self.second, self.third];
        let weights = slots.into_iter().filter_map(|slot| match slot {
            WeightSlot::Empty => None,
            WeightSlot::Full(weight) => Some(weight),
        });
        weights.collect()
    }
}

#[cfg(test)]
#[path = "stored_weight_tests.rs"]
mod tests;
