//! A frozen weight as the kernels of a backend take it, and how the CPU computes with it.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex};
use eigenmix_quant::EncodedMatrix;

use crate::buffer::{cleared, values_of};
use crate::encoded_product::{EncodedRight, encoded_product};
use crate::few_rows::{FEW_ROWS, few_rows_product};
use crate::product::{MatrixView, Start, product};
use crate::row_product::Target;
use crate::vector::for_vectors;

/// A matrix W `[d_out, d_in]` in the form in which it is kept.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) enum StoredWeight<B: Backend> {
    /// In f32.
    Float(FloatTensor<B>),
    /// In fewer bits, on the host. It takes its memory only and computes like the widened weight: what
    /// a product needs is decoded for it, again for the gradient, and dropped in between.
    Encoded(EncodedMatrix),
}

impl<B: Backend, C: CheckpointStrategy> StoredWeight<Autodiff<B, C>> {
    /// The weight outside of the graph, where its values are.
    pub fn into_inner(self) -> StoredWeight<B> {
        match self {
            Self::Float(values) => StoredWeight::Float(values.into_primitive()),
            Self::Encoded(matrix) => StoredWeight::Encoded(matrix),
        }
    }
}

impl StoredWeight<Flex> {
    /// `[d_out, d_in]`
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(values) => [values.layout().shape()[0], values.layout().shape()[1]],
            Self::Encoded(matrix) => matrix.shape(),
        }
    }

    /// target = x · Wᵀ + start.
    ///
    /// - input: `[rows, d_in]`, of which a few rows must be contiguous
    ///
    /// # Safety
    /// The target must be valid for as many rows of d_out values, nothing else may access them
    /// meanwhile, and it must not be one that is added to.
    ///
    /// # Panics
    /// If the rows of the input are not as long as those of W.
    pub unsafe fn product(&self, input: MatrixView, target: Target, start: Start) {
        let [_, d_in] = self.dims();
        assert_eq!(
            input.n_cols(),
            d_in,
            "width of an input against d_in of a weight"
        );
        let rows = input.n_rows();
        if rows == 0 {
            return;
        }
        // SAFETY of all blocks: the caller's.
        match self {
            Self::Float(values) => unsafe {
                product(input, MatrixView::of(values).transposed(), target, start);
            },
            // For a few rows, such as in generation, reading W takes most of the time, so each row of W
            // is read once.
            Self::Encoded(matrix) if rows <= FEW_ROWS && input.strides() == (d_in, 1) => unsafe {
                few_rows_product(&input.values()[..rows * d_in], matrix, target, start);
            },
            Self::Encoded(matrix) => unsafe {
                encoded_product(input, EncodedRight::transposed(matrix), target, start);
            },
        }
    }

    /// target (+)= dy · W: the gradient of x from that of x · Wᵀ.
    ///
    /// - gradient: `[rows, d_out]`
    ///
    /// # Safety
    /// As for [`product`].
    pub unsafe fn input_gradient(&self, gradient: MatrixView, target: Target) {
        let start = Start::default();
        // SAFETY of both blocks: the caller's.
        match self {
            Self::Float(values) => unsafe {
                product(gradient, MatrixView::of(values), target, start);
            },
            Self::Encoded(matrix) => unsafe {
                encoded_product(gradient, EncodedRight::plain(matrix), target, start);
            },
        }
    }

    /// Writes row `index` in f32, all of it. W must be contiguous.
    ///
    /// - row: `[d_in]`
    pub fn read_row(&self, index: usize, row: &mut [MaybeUninit<f32>]) {
        match self {
            Self::Float(values) => {
                let start = index * row.len();
                row.write_copy_of_slice(&values_of(values)[start..start + row.len()]);
            }
            Self::Encoded(matrix) => decode_row(matrix, index, cleared(row)),
        }
    }

    /// W in the same form with its rows one after the other, for [`StoredWeight::read_row`].
    pub fn to_contiguous(&self) -> Self {
        match self {
            Self::Float(values) => Self::Float(values.to_contiguous()),
            Self::Encoded(matrix) => Self::Encoded(matrix.clone()),
        }
    }
}

for_vectors! {
    fn decode_row<V>(matrix: &EncodedMatrix, index: usize, row: &mut [f32]) {
        // SAFETY: this is compiled for the unit of V, which is present.
        unsafe { matrix.decode::<V::Lookup>(index, 0, row) };
    }
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
