//! The sum of rows of several tables: the embedding of a token.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::buffer::{Unwritten, assume_written, filled_in_parts};
use crate::row_numbers::row_numbers;
use crate::stored_weight::{StoredWeight, WeightList};
use crate::{Weight, has_kernels};

/// How many rows a thread sums at a time.
const ROWS: usize = 32;

/// Row i is the sum of row `indices[i]` of every table, in f32.
///
/// The kernel computes no gradients; if a table is trained, composed operations run.
///
/// # Shapes
/// - tables: each `[count, d_model]`, with `[rows]` indices
/// - output: `[rows, d_model]`
///
/// # Panics
/// If there are no tables or more than three, an index is out of bounds, or sizes differ.
pub fn sum_of_rows(tables: &[(&Weight, &[i32])]) -> Tensor<2> {
    let (first, _) = &tables[0];
    let is_trained = tables.iter().any(|(table, _)| table.is_tracked());
    if !has_kernels(&first.device()) || is_trained {
        return composed(tables);
    }
    let weights = tables.iter().map(|(table, _)| table.stored()).collect();
    let rows = EmbeddingRows(tables.iter().map(|(_, indices)| indices.to_vec()).collect());
    let place = Tensor::<1>::zeros([1], &first.device()).into_dispatch();
    let weights = WeightList::new(weights);
    Tensor::from_dispatch(Dispatch::fused_sum_of_rows(place, weights, rows))
}

fn composed(tables: &[(&Weight, &[i32])]) -> Tensor<2> {
    let rows = tables
        .iter()
        .map(|(table, indices)| table.composed_rows(row_numbers(indices, &table.device())));
    rows.reduce(|sum, rows| sum + rows).expect("a table")
}

/// The indices into each table.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddingRows(Arc<[Vec<i32>]>);

#[backend_extension(Autodiff, Flex)]
pub(crate) trait SumOfRows: Backend {
    /// - place: any tensor of the backend, which encoded tables are not
    fn fused_sum_of_rows(
        place: FloatTensor<Self>,
        #[extension_type] tables: WeightList<Self>,
        rows: EmbeddingRows,
    ) -> FloatTensor<Self>;
}

/// Frozen tables are not differentiated.
impl<B: SumOfRows, C: CheckpointStrategy> SumOfRows for Autodiff<B, C> {
    fn fused_sum_of_rows(
        place: FloatTensor<Self>,
        tables: WeightList<Self>,
        rows: EmbeddingRows,
    ) -> FloatTensor<Self> {
        let tables = tables.into_vec().into_iter().map(StoredWeight::into_inner);
        let tables = WeightList::new(tables.collect());
        Self::from_inner(B::fused_sum_of_rows(place.into_primitive(), tables, rows))
    }
}

impl SumOfRows for Flex {
    fn fused_sum_of_rows(
        _place: FlexTensor,
        tables: WeightList<Self>,
        rows: EmbeddingRows,
    ) -> FlexTensor {
        let tables = tables.into_vec();
        let tables: Vec<_> = tables.iter().map(StoredWeight::to_contiguous).collect();
        let [_, d_model] = tables[0].dims();
        let EmbeddingRows(indices) = rows;
        let rows_wanted = indices[0].len();
        for (table, indices) in tables.iter().zip(indices.iter()) {
            let [count, width] = table.dims();
            assert_eq!(width, d_model, "rows of tables that are added up");
            assert_eq!(
                indices.len(),
                rows_wanted,
                "indices into tables that are added up"
            );
            let is_within = |&index: &i32| usize::try_from(index).is_ok_and(|index| index < count);
            assert!(
                indices.iter().all(is_within),
                "an index beyond {count} rows"
            );
        }
        let chunks = (0..rows_wanted.div_ceil(ROWS)).into_par_iter();
        let shape = [rows_wanted, d_model];
        let write = |output: &mut [_], chunk: usize| {
            let mut row = Unwritten::new(d_model);
            for (offset, sum) in output.chunks_exact_mut(d_model).enumerate() {
                let place = chunk * ROWS + offset;
                tables[0].read_row(indices[0][place] as usize, sum);
                // SAFETY: a whole row was just read.
                let sum = unsafe { assume_written(sum) };
                for (table, indices) in tables.iter().zip(indices.iter()).skip(1) {
                    table.read_row(indices[place] as usize, row.places());
                    // SAFETY: as above.
                    let row = unsafe { row.first(d_model) };
                    sum.iter_mut()
                        .zip(row)
                        .for_each(|(sum, term)| *sum += *term);
                }
            }
        };
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts(shape, ROWS * d_model, chunks, write) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrozenWeight;
    use crate::waves::of_size_one as values;
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn rows_are_looked_up_and_added() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let (words, positions) = (values(50, 7, 0.3, &device), values(90, 7, 1.3, &device));
            // More rows than a chunk, and a table in half precision.
            let words = words.cast(FloatDType::BF16);
            let ids: Vec<i32> = (0..80).map(|row| row * 13 % 50).collect();
            let position_ids: Vec<i32> = (0..80).collect();
            let [words, positions] =
                [words, positions].map(|table| Weight::Frozen(FrozenWeight::from(table)));
            let tables = [(&words, &ids[..]), (&positions, &position_ids[..])];
            for tables in [&tables[..], &tables[..1]] {
                let difference = sum_of_rows(tables) - composed(tables);
                assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
            }
        }
    }

    #[test]
    #[should_panic(expected = "an index beyond 5 rows")]
    fn an_index_out_of_bounds_is_refused() {
        let table = FrozenWeight::from(values(5, 3, 0.0, &Device::flex()));
        sum_of_rows(&[(&Weight::Frozen(table), &[0, 5])]);
    }
}
